"""Keys kept at hand: single calls from any thread, all on the books of one rotator.

A run knows its rows beforehand and ends with them. A session does not: a function that works on a
file, a coroutine, a notebook ask one question at a time, and each must find what the others have
learnt of the keys (limits, cooldowns, dead ones).
"""

from __future__ import annotations

import itertools
import queue
import threading
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

from .assembly import assemble
from .clock import Stop, SystemClock
from .errors import RunStoppedError
from .guards import Guards
from .streaming import Listener, Relay, listening
from .summary import RunSummary

if TYPE_CHECKING:
    from collections.abc import Callable

    from .assembly import StandIn
    from .clock import Clock
    from .config import Config
    from .keys import KeysView
    from .records import Outcome, Record

#: Seconds after which a thread without calls ends, and its connection with it.
_IDLE_S = 20.0
#: Seconds between two looks at the keys while calls are under way.
_LOOK_S = 0.5

#: The session that single calls in this context belong to, such as those of a folder's files.
current: ContextVar[Session | None] = ContextVar("session", default=None)
#: Calls of this context that came to nothing, and whose maker goes on with None.
missed: ContextVar[list[Outcome] | None] = ContextVar("missed", default=None)


class Call:
    """A question that has been asked.

    Attributes:
        answered: its Outcome, or the RunStoppedError that came instead.
    """

    def __init__(
        self,
        record: Record,
        function: StandIn | None,
        max_retries: int | None,
        listener: Listener | None = None,
    ) -> None:
        self.record = record
        self.function = function
        self.max_retries = max_retries
        self.listener = listener
        self.answered: Future[Outcome] = Future()
        self.answered.set_running_or_notify_cancel()  # it is given up through `end` alone
        self.stop = Stop()
        self._lock = threading.RLock()

    def end(self, reason: BaseException | None = None) -> None:
        """Give it up: its waits and retries end, and the connection it hangs on."""
        with self._lock:  # afterwards its thread may be busy with another call
            if not self.answered.done():
                self.stop.request(reason)
                self.stop.abort()

    def settle(self, outcome: Outcome | None, error: BaseException | None = None) -> None:
        """Note what came of it; no Outcome and no error: it was given up."""
        with self._lock:
            if outcome is not None:
                self.answered.set_result(outcome)
            else:
                why = error or self.stop.reason or RunStoppedError("the call was given up")
                self.answered.set_exception(why)


class Session:
    """Makes single calls, each with the ready key that has the most room.

    At most as many at the same time as a run with these settings would make; the others wait their
    turn. Threads are started as calls come, and end when none come any more.

    Args:
        config: the settings.
        function: stands in for the provider where a call brings no function of its own.
        stop: ends all calls; None: a wish of its own.
        clock: where the time comes from.
        note: is told what the user should know.

    Raises:
        ConfigError: there is no key.
    """

    def __init__(
        self,
        config: Config,
        *,
        function: StandIn | None = None,
        stop: Stop | None = None,
        clock: Clock | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config
        self._function = function
        self._stop = stop or Stop()
        clock = clock or SystemClock()
        self._note = note or (lambda _: None)
        #: What the calls cost and came to.
        self.summary = RunSummary()
        self._crew = assemble(
            config, clock=clock, stop=self._stop, note=self._tell, function=function, streams=True
        )
        self._guards = Guards(
            config, clock, self._stop, self._tell, note=self._tell, first_run=False
        )
        self._numbers = itertools.count()
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        # Reentrant: a signal handler may wish for the end while its thread holds it.
        self._lock = threading.RLock()
        self._open: set[Call] = set()
        self._threads = 0
        self._is_watched = False
        self._stop.on_request(lambda: self._end_all(abort=False))
        self._stop.on_abort(lambda: self._end_all(abort=True))
        for note_ in (*config.notes, *self._crew.notes):
            self._tell(note_)

    @property
    def threads(self) -> int:
        """How many calls may be under way at the same time."""
        return self._crew.threads

    @property
    def is_over(self) -> bool:
        """Whether it makes no calls any more."""
        return self._stop.requested

    def view(self) -> KeysView:
        """Return the state of the keys."""
        return self._crew.rotator.view()

    def submit(
        self,
        record: Record,
        *,
        function: StandIn | None = None,
        max_retries: int | None = None,
        listener: Listener | None = None,
    ) -> Call:
        """Ask a question, without waiting for its answer.

        Args:
            record: what is asked; its index is of no importance.
            function: stands in for the provider; None: the session's.
            max_retries: tries after the first; None: as configured.
            listener: hears the answer while it comes, in another thread.
        """
        # The rotator tells rows apart by their indices.
        record = replace(record, index=f"call-{next(self._numbers)}")
        call = Call(record, function or self._function, max_retries, listener)
        call.stop.on_request(self._crew.rotator.wake)
        with self._lock:
            if self._stop.requested:
                call.settle(None, self._stop.reason)
                return call
            self._open.add(call)
            self._calls.put(call)
            if self._threads < min(len(self._open), self.threads):
                self._threads += 1
                threading.Thread(target=self._serve, name="session", daemon=True).start()
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, name="session-watch", daemon=True).start()
        return call

    def ask(
        self,
        record: Record,
        *,
        function: StandIn | None = None,
        max_retries: int | None = None,
        on_text: Callable[[str], None] | None = None,
        on_restart: Callable[[], None] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Outcome:
        """Ask a question and wait for its Outcome; see `submit`.

        Args:
            record: what is asked.
            function: stands in for the provider; None: the session's.
            max_retries: tries after the first; None: as configured.
            on_text: is given the answer's text in pieces as they come, in this thread; all at once
                where the answer comes from the cache, a function, or a server that does not stream.
            on_restart: is called when the answer begins anew, after some of it was given.
            on_wait: is called every 0.2 s while no text comes; only beside `on_text`.

        Raises:
            RunStoppedError: no key or endpoint can serve, or the session was ended.
            KeyboardInterrupt: Ctrl-C; the call is given up.
        """
        relay = Relay() if on_text is not None else None
        listener = Listener(relay.text, relay.restart) if relay is not None else None
        call = self.submit(record, function=function, max_retries=max_retries, listener=listener)
        try:
            if relay is not None and on_text is not None:
                relay.tell(call.answered, on_text, on_restart, on_wait)
            return call.answered.result()
        finally:
            call.end()

    def close(self) -> None:
        """Give up what is under way and let go of the connections."""
        self._stop.abort()
        self._crew.close()

    def _serve(self) -> None:
        """Make one call after the other, until none has come for a while."""
        while True:
            try:
                call = self._calls.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._calls.empty():
                        self._threads -= 1
                        return
            else:
                self._make(call)

    def _make(self, call: Call) -> None:
        thread = threading.get_ident()
        call.stop.on_abort(lambda: self._hang_up(thread))
        outcome, error = None, None
        listening.set(call.listener if call.function is None else None)
        try:
            if not call.stop.requested:
                work = self._crew.hire(
                    call.stop, function=call.function, max_retries=call.max_retries
                )
                outcome = work(call.record)
            if call.listener is not None and outcome is not None and outcome.output is not None:
                call.listener.whole(outcome.output)
        except BaseException as raised:  # noqa: BLE001  # raised again where the answer is wanted
            error = raised
        with self._lock:
            self._open.discard(call)
            if outcome is not None:
                self.summary.add([outcome])
                self._guards.counted(self.summary)
        call.settle(outcome, error)
        if outcome is None and call.stop.reason is not None:  # no other call would fare better
            self._stop.request(call.stop.reason)

    def _hang_up(self, thread: int) -> None:
        self._crew.transport.hang_up(thread)
        self._crew.clients.hang_up(thread)

    def _end_all(self, *, abort: bool) -> None:
        with self._lock:
            calls = list(self._open)
        for call in calls:
            if abort:
                call.end(self._stop.reason)
            else:
                call.stop.request(self._stop.reason)

    def _watch(self) -> None:
        """Look at the keys as long as calls are under way: dead ones are named, stalls end."""
        waiting = threading.Event()
        while True:
            with self._lock:
                idle = not self._open
                self._is_watched = not idle
            self._guards.tick(self.view(), idle=idle)
            if idle:
                return
            waiting.wait(_LOOK_S)

    def _tell(self, text: str) -> None:
        if self.summary.note(text):
            self._note(text)
