"""When batches are looked at: soon after one was sent, ever more rarely while nothing moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import ProviderError
from .parts import SUBMITTED, UPLOADED
from .watch import poll

if TYPE_CHECKING:
    from .desk import Desk, Watched

#: Each wait between polls is as much longer than the one before, give or take a tenth.
_GROWTH, _JITTER = 1.5, 0.1


class Polling:
    """Looks after the batches that run.

    Args:
        desk: manifest and provider.
        watched: is told of what has changed.

    Attributes:
        due: the clock's time of the next look.
        failure: why the last look brought nothing; empty if it did.
    """

    def __init__(self, desk: Desk, watched: Watched) -> None:
        self._desk, self._watched = desk, watched
        self._wait_s = desk.pace.poll_s
        self.due = float("-inf")
        self.failure = ""

    def look(self) -> None:
        """Look at all batches that run.

        Raises:
            RunStoppedError: the key is refused.
            ConfigError: a part's key is not there.
            LedgerError: the manifest cannot be written.
        """
        desk = self._desk
        before = {part.number: part for part in desk.manifest.parts(SUBMITTED)}
        self.failure = ""
        asked = 0.0
        try:
            changed = poll(desk, list(before.values()))
        except ProviderError as error:
            desk.check_key(error)
            changed, asked = False, error.verdict.retry_after_s or 0.0
            self.failure = desk.clean(error)
            desk.note(f"the batches could not be looked at ({error}); they go on meanwhile")
        for number, part in before.items():
            after = desk.manifest.part(number)
            if after != part:
                self._watched.changed(after)
            if after.state not in {SUBMITTED, UPLOADED}:
                self._watched.over(after)
                self._make_room()
        pace = desk.pace
        self._wait_s = pace.poll_s if changed else min(self._wait_s * _GROWTH, pace.longest_poll_s)
        jitter = desk.rng.uniform(1 - _JITTER, 1 + _JITTER)
        self.due = desk.clock.now() + max(self._wait_s * jitter, asked)

    def soon(self) -> None:
        """A new batch is looked at early: most of what is wrong shows at once."""
        self._wait_s = self._desk.pace.poll_s
        early = self._desk.clock.now() + self._wait_s
        self.due = early if self.due == float("-inf") else min(self.due, early)

    def _make_room(self) -> None:
        """A batch is over: what was refused for its sake may be sent now."""
        for part in self._desk.manifest.parts(UPLOADED):
            if part.waits_for_room:
                self._desk.manifest.put(part, due=0.0)
