"""Which row it is that kills its worker: a death says only which rows were there.

Suspicion is counted by row. Whose worker died twice is done alone; who dies alone, after two deaths
before, has done it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from ..records import Outcome, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..records import Record

#: Deaths of workers with a row among theirs after which the row is done alone on a worker; and the
#: one, when it was alone, after which it is a failure.
_SUSPECT, _CULPRIT = 2, 3


class Blame:
    """What is known of rows that workers died with.

    Attributes:
        suspects: rows to be done alone on a worker, one at a time.
    """

    def __init__(self) -> None:
        self.suspects: deque[Record] = deque()
        self._deaths: dict[str, int] = {}

    def died(
        self, rows: Iterable[Record], *, was_alone: bool
    ) -> tuple[list[Record], list[Outcome]]:
        """Take note of a worker's death.

        Args:
            rows: those it had.
            was_alone: whether it did suspects, one at a time.

        Returns:
            The rows that anybody may do again, and failures; the others are suspects now.
        """
        again, failed = [], []
        for record in rows:
            deaths = self._deaths[record.index] = self._deaths.get(record.index, 0) + 1
            if deaths >= _CULPRIT and was_alone:
                failed.append(_died(record, deaths))
            elif deaths >= _SUSPECT:
                self.suspects.append(record)
            else:
                again.append(record)
        return again, failed

    def clear(self, index: str) -> None:
        """Forget what a row was suspected of: it is done."""
        self._deaths.pop(index, None)


def _died(record: Record, deaths: int) -> Outcome:
    """Return the Outcome of a row that no worker survives."""
    now = time.time()
    return Outcome(
        record.index,
        None,
        "worker_died",
        f"{deaths} workers died with this row, the last with it alone",
        attempts=deaths,
        fingerprint=fingerprint(record),
        started=now,
        ended=now,
    )
