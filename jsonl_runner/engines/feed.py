"""Reading Records ahead in a thread, for an engine that must not wait for its input.

Only as many are read as were asked for: a run that is stopped has not swallowed the pipe.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..records import Record


class Feed:
    """Records as they are asked for.

    Args:
        records: where they come from; read by one thread.
        wake: called when all that was asked for can be taken, or the end is known.

    Attributes:
        is_finished: whether no more will come than are there to take.
        failure: what reading raised.
    """

    def __init__(self, records: Iterator[Record], wake: Callable[[], None]) -> None:
        self._records = records
        self._wake = wake
        self._orders: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._read: deque[Record] = deque()
        #: Rows that were asked for and have not been taken.
        self._asked = 0
        self.is_finished = False
        self.failure: BaseException | None = None
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    def __len__(self) -> int:
        return len(self._read)

    def ask(self, count: int) -> None:
        """Have as many rows read that there are `count` to take; returns at once."""
        more = count - self._asked
        if more > 0 and not self.is_finished:
            self._asked += more
            self._orders.put(more)

    def take(self, count: int) -> list[Record]:
        """Return up to so many rows that have been read."""
        rows = [self._read.popleft() for _ in range(min(count, len(self._read)))]
        self._asked -= len(rows)
        return rows

    def close(self) -> None:
        """Read no more."""
        self._orders.put(0)

    def _run(self) -> None:
        try:
            while (count := self._orders.get()) > 0:
                for _ in range(count):
                    record = next(self._records, None)
                    if record is None:
                        return
                    self._read.append(record)
                self._wake()
        except BaseException as error:  # noqa: BLE001  # raised again where the run is led
            self.failure = error
        finally:
            self.is_finished = True
            self._wake()
