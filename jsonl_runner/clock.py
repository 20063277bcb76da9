"""Time and the wish to stop, as arguments.

Everything that waits takes a `Clock`, so that tests need no sleeping, and a `Stop`, so that no
wait outlives Ctrl-C.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock(Protocol):
    """Where the time comes from; all times and durations are seconds."""

    def now(self) -> float:
        """Return a time that never runs backwards; only differences mean something."""

    def wall(self) -> float:
        """Return the seconds since 1970-01-01 UTC."""

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait on a condition whose lock is held, for `seconds` at most (None: until notified)."""

    def pause(self, event: threading.Event, seconds: float) -> bool:
        """Wait for `seconds` or until the event is set; return whether it is set."""


class SystemClock:
    """The machine's own clock."""

    # The system's own functions, without a frame of ours around them: read several times a row.
    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait on the condition."""
        condition.wait(seconds)

    def pause(self, event: threading.Event, seconds: float) -> bool:
        """Wait on the event."""
        return event.wait(seconds)


class Stop:
    """The wish to end a run, shared by everything that waits.

    `request` is the first Ctrl-C: no more rows are taken, waits end at once, calls in flight
    finish. `abort` is the second: calls in flight end too, and their rows stay unwritten.
    Callbacks given to `on_request` and `on_abort` run once, in the thread that asks.
    """

    def __init__(self) -> None:
        # A signal handler may ask to stop while its own thread is asking: so the lock is
        # reentrant, and the event, whose own is not, is set by the first to ask alone.
        self._lock = threading.RLock()
        self._event = threading.Event()
        #: Whether rows should no longer be taken, and whether calls in flight should end too.
        self.requested = False
        self.aborted = False
        self._on_request: list[Callable[[], None]] = []
        self._on_abort: list[Callable[[], None]] = []
        self.reason: BaseException | None = None

    def on_request(self, callback: Callable[[], None]) -> None:
        """Call back when a stop is requested (at once when it already is)."""
        with self._lock:
            if not self.requested:
                self._on_request.append(callback)
                return
        callback()

    def on_abort(self, callback: Callable[[], None]) -> None:
        """Call back when the run is aborted (at once when it already is)."""
        with self._lock:
            if not self.aborted:
                self._on_abort.append(callback)
                return
        callback()

    def request(self, reason: BaseException | None = None) -> None:
        """Ask for the end of the run; the first reason given is kept."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
            if self.requested:
                return
            self.requested = True
            callbacks = list(self._on_request)
        self._event.set()
        for callback in callbacks:
            callback()

    def abort(self) -> None:
        """Ask for the end now."""
        self.request()
        with self._lock:
            if self.aborted:
                return
            self.aborted = True
            callbacks = list(self._on_abort)
        for callback in callbacks:
            callback()

    def pause(self, seconds: float, clock: Clock) -> bool:
        """Wait for `seconds` unless a stop is requested; return whether it is."""
        return clock.pause(self._event, seconds)
