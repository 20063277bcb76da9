"""Ending a run that comes to nothing, and saying what is wrong while it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import RunStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .clock import Clock, Stop
    from .config import Config
    from .keys import KeysView
    from .summary import RunSummary

#: So many rows at the start, all failed for one reason, mean that all will: stop before the rest
#: is paid for.
_ALIKE_ROWS = 20
#: Seconds by which `stall_timeout` outlasts the longest call at least: a run of calls that are all
#: allowed to take an hour has not stalled within the hour.
_STALL_MARGIN_S = 60.0


class Guards:
    """Watches a run from the thread that leads it.

    Args:
        config: the settings.
        clock: where the time comes from.
        stop: is requested, with the reason, when the run comes to nothing.
        say: tells the user a line.
        note: tells it and keeps it for the summary.
        first_run: whether nothing is known of these rows yet. A bad beginning stops the first run
            only, so that it cannot stand in the way of the rest for ever.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        stop: Stop,
        say: Callable[[str], None],
        *,
        note: Callable[[str], None],
        first_run: bool = True,
    ) -> None:
        self._clock = clock
        self._stop = stop
        self._say = say
        self._note = note
        self._first_run = first_run
        self._limit_s = max(config.stall_timeout, config.timeout + _STALL_MARGIN_S)
        self._moved_at = clock.now()
        self._done = 0
        self._told: set[str] = set()

    def counted(self, summary: RunSummary) -> None:
        """Look at the Outcomes after some have been counted."""
        if summary.done > self._done:
            self._done = summary.done
            self._moved_at = self._clock.now()
        alike = summary.done == 0 and summary.failed >= _ALIKE_ROWS and len(summary.failures) == 1
        if alike and self._first_run and summary.left != 0:
            ((code, failure),) = summary.failures.items()
            self._stop.request(
                RunStoppedError(
                    f"the first {failure.count} {summary.unit} all failed alike "
                    f"({code}: {failure.message}); stopped before the rest; if they are a bad "
                    "beginning, run it again to go on"
                )
            )

    def tick(self, keys: KeysView, *, idle: bool) -> None:
        """Look at the keys from time to time; `idle`: no row is in flight."""
        for loss in keys.losses:
            if loss not in self._told:
                self._told.add(loss)
                self._note(loss)
        if keys.trouble and keys.trouble not in self._told:
            self._told.add(keys.trouble)
            self._say(f"trouble: {keys.trouble}")
        now = self._clock.now()
        if idle or keys.calls == 0:
            self._moved_at = now
        if now - self._moved_at > self._limit_s:
            why = keys.trouble or keys.waiting_for or "calls went out and none came back with one"
            self._stop.request(
                RunStoppedError(
                    f"no output for {self._limit_s:g} s (stall_timeout), so stopped: {why}"
                )
            )
