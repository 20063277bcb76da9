"""Batches over a ledger: planned, sent, looked after, collected.

Holds the ledger, and so its lock, as long as it is open. Every step is taken from what the manifest
says, so that whoever comes after a crash goes on with the same steps.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..calllog import CallLog
from ..errors import LedgerError, RunStoppedError
from ..ledger import Ledger
from ..prompts import Composer
from ..recipes import asked_of, unseen
from ..secret import without_login
from ..summary import RunSummary, first_of
from .collect import Collector, fetch
from .desk import Desk, Watched
from .manifest import Manifest, manifest_path
from .parts import (
    CREATING,
    ENDED,
    FETCHED,
    PLANNED,
    REFUSED,
    SUBMITTED,
    UPLOADED,
    UPLOADING,
)
from .plan import withdraw
from .polling import Polling
from .reconcile import send
from .reviewing import Reviews
from .rows import Rows, plan_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

    from ..config import Config
    from ..dataset import Data
    from .base import BatchProvider
    from .collect import CostOf
    from .desk import Time
    from .parts import Part
    from .plan import Planned, Wishes

UNSENT = (PLANNED, UPLOADING, UPLOADED, CREATING)
#: Seconds that a wait takes at the most, so that a clock set anew does not prolong it by hours.
_LONGEST_PAUSE_S = 60.0


class Batches:
    """See above; a context manager.

    Args:
        config: the settings.
        output: the ledger.
        provider: makes the calls.
        time: see there.
        watched: who is told.
        max_enqueued: tokens of prompts that may wait at the provider, of one model.
        cost_of: says what an answer cost.

    Attributes:
        summary: what was done.
        released: rows of collected parts that nothing came of, so that they may be sent again.

    Raises:
        ConfigError: there is no such function as `post` names.
        LedgerError: the ledger or the manifest is locked, damaged, or cannot be written.
    """

    def __init__(
        self,
        config: Config,
        output: Path,
        provider: BatchProvider,
        time: Time,
        *,
        watched: Watched | None = None,
        max_enqueued: int | None = None,
        cost_of: CostOf | None = None,
    ) -> None:
        self._config = config
        self._output = output
        self._clock, self._stop = time.clock, time.stop
        self._watched = watched or Watched()
        self._max_enqueued = max_enqueued
        self._cost_of = cost_of
        self._reviews = Reviews(config)
        self.summary = RunSummary()
        self.released = 0
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            # A row that the manifest calls done is in the ledger, whatever happens to the machine.
            self._ledger = stack.enter_context(Ledger(output, "always"))
            self.manifest = Manifest(output)
            stack.callback(self._close_manifest)
            self._stack = stack.pop_all()
        self.desk = Desk(
            self.manifest,
            provider,
            config.api_keys,
            manifest_path(output).parent,
            without_login(config.api_base).rstrip("/"),
            time,
            self._note,
        )
        self._collector: Collector | None = None
        self._polling = Polling(self.desk, self._watched)
        self._began = self._clock.now()
        for note in (*config.notes, *self._ledger.notes, *first_of(self._ledger.found.damage)):
            self._note(note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(*([LedgerError] if error[1] else [])):  # the first one is told
            self.close()

    def close(self) -> None:
        """Let go of the ledger."""
        self._stack.close()

    def _close_manifest(self) -> None:
        """Close it; one that nothing came into is removed, as a ledger is."""
        is_empty = not self.manifest.has_parts
        self.manifest.close()
        if is_empty:
            self.manifest.path.unlink(missing_ok=True)

    def _note(self, text: str) -> None:
        text = without_login(text)
        if self.summary.note(text):
            self._watched.note(text)

    # -- planning --------------------------------------------------------------------------------

    def plan(
        self, data: Data, wishes: Wishes, check: Callable[[Planned], None] | None = None
    ) -> Planned:
        """Make parts of the rows that have no output, and are in no part; see `plan_rows`."""
        taken = [self.manifest.waiting_rows()]
        if self._collector is not None:
            taken.append(self._collector.nulls)
        config, found = self._config, self._ledger.found
        composer = Composer(config.model, config.params)
        earlier = self._collecting().recalled if len(found.nulls) and not wishes.dry else None
        rows = Rows(data, self._output, found.done, tuple(taken), earlier, asked_of(config))
        survey, planned = plan_rows(self.desk, rows, composer, wishes, check)
        summary = self.summary
        if summary.rows is None:
            summary.rows, summary.skipped = survey.rows, survey.skipped
            summary.bad_rows = survey.bad.lines() + planned.bad.lines()
            summary.changed = survey.changed
        if survey.changed.count:
            self._note(
                f"{survey.changed} changed since they were answered: "
                "jsonl-runner run --redo-changed calls them again"
            )
        for note in planned.notes:
            self._note(note)
        return planned

    # -- the steps -------------------------------------------------------------------------------

    def submit(self) -> None:
        """Send every part that there is room for.

        Raises:
            RunStoppedError: for longer than `stall_timeout` nothing could be sent, or a signal.
        """
        waited_from = self._clock.now()
        before: list[tuple[int, bool]] = []
        while True:
            parts = self.manifest.parts(*UNSENT)
            standing = [(part.number, part.state in {PLANNED, UPLOADING}) for part in parts]
            if standing != before:
                waited_from, before = self._clock.now(), standing
            ready = [part for part in parts if self._has_room(part)]
            for part in ready:
                self._send(part)
            ready = [
                p
                for p in self.manifest.parts(*UNSENT)
                if self._has_room(p) and not p.waits_for_room
            ]
            if not ready:
                return
            self._check_stop()
            settling = any(part.state == CREATING for part in ready)
            stalled = self._config.stall_timeout + (self.desk.pace.settle_s if settling else 0)
            if self._clock.now() - waited_from > stalled:
                raise RunStoppedError(
                    f"no batch could be sent for {stalled:g} s ({ready[0].reason}); the same "
                    "command goes on"
                )
            self._pause(min(part.due for part in ready) - self._clock.wall())

    def settle(self) -> None:
        """Look for batches whose creation was not answered; create none."""
        for part in self.manifest.parts(CREATING):
            self._check_stop()
            after = send(self.desk, part)
            if after != part:
                self._watched.changed(after)

    def fetch(self) -> None:
        """Look at all batches once, and collect those that are over.

        Raises:
            RunStoppedError: the provider could not be asked, or a signal.
        """
        if self.manifest.parts(SUBMITTED):
            self._polling.look()
            if self._polling.failure:
                raise RunStoppedError(
                    f"the batches could not be looked at: {self._polling.failure}"
                )
        while parts := self.manifest.parts(ENDED, FETCHED):
            for part in parts:
                self._take(part)
            left = self.manifest.parts(ENDED, FETCHED)
            if left:
                self._check_stop()
                self._pause(min(part.due for part in left) - self._clock.wall())

    def wait(self) -> None:
        """Send, look after and collect until no part is under way.

        Raises:
            RunStoppedError: no key can send, or a signal; the batches go on meanwhile.
        """
        while parts := self.manifest.parts(live=True):
            for part in parts:
                if self._stop.requested:
                    break
                if part.state in {ENDED, FETCHED}:
                    self._take(part)
                elif part.state != SUBMITTED and self._has_room(part):
                    self._send(part)
            if self._clock.now() >= self._polling.due and self.manifest.parts(SUBMITTED):
                self._polling.look()
            self._check_stop()
            self._pause(self._next_step_s())

    def _next_step_s(self) -> float:
        """Return the seconds until something is to be done."""
        wall = self._clock.wall()
        waits = [
            part.due - wall
            for part in self.manifest.parts(live=True)
            if part.state != SUBMITTED and self._has_room(part)
        ]
        if self.manifest.parts(SUBMITTED):
            waits.append(self._polling.due - self._clock.now())
        return min(waits, default=0.0)

    def _send(self, part: Part) -> None:
        """Take steps with a part until it waits for something."""
        while part.state in UNSENT and part.due <= self._clock.wall():
            if self._stop.requested or not self._has_room(part):
                return
            after = send(self.desk, part)
            if after != part:
                self._watched.changed(after)
            part = after
        if part.state == SUBMITTED:
            self._polling.soon()
        elif part.state == REFUSED:
            self._watched.over(part)

    def _has_room(self, part: Part) -> bool:
        """Whether a part's tokens may wait at the provider beside those of others."""
        if self._max_enqueued is None or part.state == CREATING:
            return True
        others = [
            other
            for other in self.manifest.parts(CREATING, SUBMITTED)
            if other.model == part.model and other.number != part.number
        ]
        waiting = sum(other.tokens for other in others)
        return not others or waiting + part.tokens <= self._max_enqueued

    def _take(self, part: Part) -> None:
        """Fetch and collect what came of a part."""
        if part.state == ENDED and part.due <= self._clock.wall():
            part = fetch(self.desk, part)
            self._watched.changed(part)
        if part.state != FETCHED:
            return
        part, found = self._collecting().collect(part)
        self.released += found.released.total()
        self._watched.changed(part)

    def _collecting(self) -> Collector:
        if self._collector is None:
            # Nothing is said of an input: the rows may be of another one than the last run's.
            calllog = CallLog(self._output, unseen(self._output))
            self._stack.callback(calllog.close)
            self._collector = Collector(
                self.desk, self._ledger, calllog, self.summary, self._reviews, self._cost_of
            )
        return self._collector

    def end(self) -> RunSummary:
        """Return what was done until now."""
        self.summary.elapsed_s = self._clock.now() - self._began
        return self.summary

    def _check_stop(self) -> None:
        if self._stop.requested:
            raise self._stop.reason or RunStoppedError("the run was ended")

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self._stop.pause(min(seconds, _LONGEST_PAUSE_S), self._clock)
        self._check_stop()

    # -- from the outside ------------------------------------------------------------------------

    def run(
        self, data: Data, wishes: Wishes, check: Callable[[Planned], None] | None = None
    ) -> None:
        """Do every row: plan, send, wait, collect, and again with what failed in a passing way.

        Raises:
            RunStoppedError: rows are left and nothing moves any more, or a signal.
            JsonlRunnerError: as `plan`.
        """
        planned = self.plan(data, wishes, check)
        idle = 0
        while True:
            before = self.summary.done + self.summary.failed
            sent = {part.number for part in self.manifest.parts(live=True)}
            self.wait()
            planned = self.plan(data, wishes, check)
            if not planned.rows:
                return
            moved = self.summary.done + self.summary.failed > before
            idle = 0 if moved else idle + 1
            # What was refused will be refused again; a batch that expired or was lost had bad luck.
            refused = all(p.state == REFUSED for p in self.manifest.parts() if p.number in sent)
            if idle > 1 or (idle and refused):
                withdraw(self.desk, planned.parts)
                raise RunStoppedError(
                    f"{planned.rows:,} rows are left and the last batches brought none of them: "
                    f"{self._why(sent)}; jsonl-runner run may do them, or the same command again"
                )
            self._note(f"{planned.rows:,} rows are sent again, in {len(planned.parts)} parts")

    def _why(self, numbers: set[int]) -> str:
        """Return why parts came to nothing."""
        parts = [part for part in self.manifest.parts() if part.number in numbers]
        reasons = [part.reason or part.status for part in parts]
        return next(filter(None, reasons), "see the notes")
