"""What spreads Records over workers: the shape that every engine has.

An engine never sees the ledger, the input file or a prompt's meaning: it takes Records from an
iterator and gives Outcomes. tests/test_engines.py holds every engine to what stands here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ..records import Outcome, Record

#: Seconds between two looks at the clock while no Outcome comes.
TICK_S = 0.1


class Engine(Protocol):
    """Has Records done, many at the same time.

    - Each Record that is taken comes back once, as an Outcome; only an end of the run (a stop, an
      abort, a failure) leaves some without, and whose call never began or was broken off.
    - Records are taken as there is room for them: never more than `window` are taken and not
      settled. That is also the most that a killed process has to do again.
    - They come back in any order: a slow one holds up no other.
    - A group that is yielded is settled when the next one is asked for. Until then its rows count.
    - The death of a worker is no exception: its rows are done again, and one that kills its worker
      time after time ends as a failure of its own.
    - After `stop.request()` nothing new begins, and what is in flight still comes back; after
      `stop.abort()` nobody is waited for.

    The engine gets its `Stop` when it is made. The indices of Records differ.
    """

    @property
    def idle(self) -> bool:
        """Whether no row is in flight."""

    @property
    def window(self) -> int:
        """How many rows may be taken and not settled at the same time."""

    def outcomes(self, records: Iterator[Record]) -> Generator[list[Outcome]]:
        """Yield Outcomes in groups as they come; an empty group is a tick of the clock.

        Raises:
            BaseException: whatever reading a Record or the worker itself raised; what was in
                flight is yielded first.
        """
