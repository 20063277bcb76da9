"""Watching calls from outside: answers that stall, and the wish to end everything now.

A call blocked in libcurl cannot be spoken to, and a callback asked every second would cost each of
four thousand threads the interpreter's lock. So each call leaves its socket's number here, and one
thread looks once a second; shutting the socket down ends the call at once, on every platform.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple

from .base import MAX_REPLY_BYTES, MIN_BODY_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds of lying idle after which a connection is looked at before it is used again.
_IDLE_S = 0.1
#: Seconds between two looks; an answer's end for stalling is late by this at the most.
_LOOK_S = 1.0


class Fault(NamedTuple):
    """Why a call was ended from our side."""

    code: str
    message: str


_ABORTED = Fault("aborted", "the call was ended")
_TOO_LARGE = Fault("too_large", f"the answer is longer than {MAX_REPLY_BYTES // 2**20} MiB")


class Watch:
    """What is known of one thread's call: its socket, and how much of the answer has come."""

    __slots__ = (
        "__weakref__",
        "_checked_at",
        "_checked_size",
        "_chunks",
        "_dog",
        "_ended_at",
        "_is_kept",
        "_lock",
        "_size",
        "_sockets",
        "fault",
        "least_progress",
        "refused",
        "running",
        "thread",
    )

    def __init__(self, dog: Watchdog) -> None:
        self._dog = dog
        self._lock = threading.Lock()
        self._sockets: set[int] = set()
        self._chunks: list[bytes] = []
        self._size = 0
        self._checked_at: float | None = None
        self._checked_size = 0
        self._ended_at = 0.0
        self._is_kept = False
        self.thread = threading.get_ident()
        self.running = False
        self.fault: Fault | None = None
        #: Bytes that must come within each `body_timeout`.
        self.least_progress = MIN_BODY_PROGRESS
        #: Whether the call under way was denied a second connection.
        self.refused = False

    def has_died(self) -> bool:
        """Return whether the kept connection was ended by the other side while it lay idle.

        libcurl looks only once a second; servers that keep connections for five seconds would
        cost a retry each time. Between two calls of a busy thread nothing is looked at: to ask the
        system costs as much as half a call.
        """
        idle_s = self._dog.now() - self._ended_at
        return idle_s > _IDLE_S and bool(self._sockets) and _readable(self._sockets)

    def begin(self, *, is_fresh: bool) -> None:
        """Note the start of a call, and whether it must make a connection of its own."""
        self._is_kept = bool(self._sockets) and not is_fresh
        self.refused = False
        self._chunks = []
        self._size = self._checked_size = 0
        self._checked_at = None
        self.fault = None
        self.running = True
        if self._dog.aborted:
            self.end_call(_ABORTED)

    def end(self) -> bytes:
        """Note the end of the call; return the body that came."""
        self.running = False
        self._ended_at = self._dog.now()
        chunks, self._chunks = self._chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def opened(self, number: int, _purpose: int) -> int:
        """Note a new socket, or refuse it (libcurl's SOCKOPTFUNCTION).

        A call that began on a kept connection gets no other one: libcurl would send its request a
        second time, on its own, when the connection ends before the answer. The server may have
        seen the first, and billed it; whether to try again is not for the transport to decide.
        """
        with self._lock:
            self._sockets.add(number)
        self.refused = self._is_kept
        # Refusing the socket is also how an abort reaches a call that has none yet.
        return 1 if self._dog.aborted or self.refused else 0

    def closing(self, number: int) -> int:
        """Close a socket (libcurl's CLOSESOCKETFUNCTION leaves that to us)."""
        with self._lock:
            self._sockets.discard(number)
            socket.close(number)
        return 0

    def received(self, chunk: bytes) -> int | None:
        """Take a part of the body (libcurl's WRITEFUNCTION); None means all of it was taken."""
        if self._checked_at is None and not chunk.isspace():
            self._checked_at = self._dog.now()
        self._size += len(chunk)
        if self._size > MAX_REPLY_BYTES:
            self.fault = _TOO_LARGE
            return -1
        self._chunks.append(chunk)
        return None

    def look(self, now: float, body_timeout_s: float) -> None:
        """End the call if its answer has begun and does not go on."""
        checked_at = self._checked_at
        if not self.running or checked_at is None or now - checked_at < body_timeout_s:
            return
        if self._size - self._checked_size < self.least_progress:
            text = f"the answer began and then stalled for {body_timeout_s:g} s"
            self.end_call(Fault("stalled", text))
        else:
            self._checked_at, self._checked_size = now, self._size

    def end_call(self, fault: Fault) -> None:
        """Shut the sockets down; libcurl sees the connection end and returns."""
        with self._lock:
            self.fault = self.fault or fault
            for number in self._sockets:
                # The other side may have ended it first, and then there is nothing to shut down;
                # or no file can be opened any more, and then the timeout must end it.
                with (
                    contextlib.suppress(OSError),
                    socket.socket(fileno=socket.dup(number)) as duplicate,
                ):
                    duplicate.shutdown(socket.SHUT_RDWR)


def _readable(sockets: set[int]) -> bool:
    """Return whether anything, such as the end, has come in on an idle connection."""
    if not hasattr(select, "poll"):  # Windows, whose select has no limit of 1,024
        return bool(select.select(sockets, (), (), 0)[0])
    poll = select.poll()
    for number in sockets:
        poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


class Watchdog:
    """Looks after all the calls of one transport.

    Args:
        body_timeout_s: seconds in which an answer that has begun must go on.
        now: where the time comes from.
    """

    def __init__(self, body_timeout_s: float, now: Callable[[], float]) -> None:
        self._body_timeout_s = body_timeout_s
        self.now = now
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        # Reentrant: `abort` may come from a signal handler that interrupted a holder.
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.aborted = False

    def watch(self) -> Watch:
        """Return a watch for one thread's calls."""
        watch = Watch(self)
        with self._lock:
            self._watches.add(watch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()
        return watch

    def abort(self) -> None:
        """End every call under way, and every later one."""
        self.aborted = True
        for watch in self._snapshot():
            if watch.running:
                watch.end_call(_ABORTED)

    def hang_up(self, thread: int) -> None:
        """End the call that a thread is making."""
        for watch in self._snapshot():
            if watch.running and watch.thread == thread:
                watch.end_call(_ABORTED)

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()

    def _snapshot(self) -> list[Watch]:
        with self._lock:
            return list(self._watches)

    def _run(self) -> None:
        while not self._closed.wait(min(_LOOK_S, self._body_timeout_s / 4)):
            now = self.now()
            for watch in self._snapshot():
                watch.look(now, self._body_timeout_s)
