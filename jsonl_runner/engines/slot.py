"""One worker of a distributed engine, as whoever leads knows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .base import TICK_S

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..records import Record
    from .station import Report

#: For so many threads, a worker has one row in store, to go on with while it reports.
_STORED = 2


@dataclass(eq=False)
class Slot:
    """One worker, or the next one in its place.

    Attributes:
        number: among the workers.
        threads: calls that it makes at the same time.
        worker: the process; None: there is none now.
        call: what it was asked, and has not answered yet.
        held: rows that are its own, by index.
        failures: times in a row that it could not begin.
    """

    number: int
    threads: int
    worker: Any = None
    call: Future[Report] | None = None
    held: dict[str, Record] = field(default_factory=dict)
    #: Of these, rows that no thread has begun.
    stored: int = 0
    is_open: bool = False
    is_closed: bool = False
    #: Whether its rows went to others, since it could do nothing for a while.
    is_resting: bool = False
    #: Whether it does rows under suspicion, one at a time.
    is_alone: bool = False
    failures: int = 0
    #: Rows that were done here since this time.
    done: int = 0
    since: float = 0.0

    @property
    def pace(self) -> float:
        """Rows a second."""
        return self.done / max(TICK_S, time.monotonic() - self.since)


def store_of(threads: int) -> int:
    """Return how many rows a worker has to go on with, beside one for each thread."""
    return 1 + threads // _STORED
