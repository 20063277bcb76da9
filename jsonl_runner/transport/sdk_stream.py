"""One thread's line to the server: network streams that know when the call must be over.

httpx2's own timeouts are per read: a server that sends a byte now and then would be waited for
without end. Here every step gets what is left of the call's time, so no watchdog is needed; only an
`abort` comes from outside, and shuts the sockets.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import httpcore2

from .base import MAX_REPLY_BYTES, MIN_BODY_PROGRESS
from .sdk_errors import aborted, broken, late, no_tls, not_connected, stalled, too_large

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .base import TransportSettings
    from .sdk_errors import CallEndedError, CallTimedOutError

#: Minutes of silence outlive no NAT without it. The library sets TCP_NODELAY by itself.
_SOCKET_OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
#: Seconds that a step gets at the least: a timeout of nought would mean "do not block".
_LEAST_S = 0.001
#: Bytes below which what is written waits for the rest: one system call, and one packet.
_ONE_SEND = 64 * 1024
#: What is asked of a proxy begins with this, or (SOCKS) with a byte below the letters.
_TO_PROXY = b"CONNECT "


class Line:
    """The connection of one thread, and the limits of its call under way.

    Args:
        settings: the time limits.
        by_proxy: whether connections lead to a proxy.
        is_over: returns whether no call may go on or begin any more.
    """

    def __init__(
        self, settings: TransportSettings, is_over: Callable[[], bool], *, by_proxy: bool
    ) -> None:
        self.settings = settings
        self.by_proxy = by_proxy
        self._is_over = is_over
        self._lock = threading.RLock()  # `abort` may come from a signal handler in a holder
        self._sockets: set[socket.socket] = set()
        self._dial: _Dial | None = None
        self._deadline = self._connect_by = 0.0
        self._body_by: float | None = None
        self._size = self._checked_size = 0
        #: Is given the body of a 200 in parts, where a call has asked for it.
        self.on_chunk: Callable[[bytes], None] | None = None
        #: Whether a call is under way.
        self.running = False
        #: Whether any of its request was sent, its answer begun, the connection closed.
        self.sent = self.begun = self.closed = False

    def begin(self, asked_s: float | None) -> None:
        """Note the start of a call.

        Args:
            asked_s: seconds that the call itself asks for. Only more than the settings' count for
                the whole; less ends single reads.
        """
        now = time.monotonic()
        self._deadline = now + max(self.settings.timeout_s, asked_s or 0.0)
        self._connect_by = min(now + self.settings.connect_timeout_s, self._deadline)
        self._body_by = None
        self._size = self._checked_size = 0
        self.sent = self.begun = self.closed = False
        self.check()
        self.running = True

    def check(self) -> None:
        """Raise CallEndedError after an abort."""
        if self._is_over():
            raise aborted(sent=self.sent)

    def left(self, asked_s: float | None, *, connecting: bool) -> float:
        """Return the seconds that the next step may take."""
        until = self._connect_by if connecting else self._deadline
        if self._body_by is not None and self._body_by < until:
            until = self._body_by
        left_s = max(until - time.monotonic(), _LEAST_S)
        return left_s if asked_s is None else min(asked_s, left_s)

    def received(self, chunk: bytes) -> None:
        """Count a part of the body; raise CallEndedError when it is too much."""
        self._size += len(chunk)
        if self._size > MAX_REPLY_BYTES:
            raise too_large()
        if self._body_by is None:
            if chunk.isspace():  # a server's sign of life, not yet an answer
                return
        elif self._size - self._checked_size < (1 if self.on_chunk else MIN_BODY_PROGRESS):
            return
        self._body_by = time.monotonic() + self.settings.body_timeout_s
        self._checked_size = self._size

    def late(self) -> CallEndedError | CallTimedOutError:
        """Return the error of a step that took too long."""
        if self._is_over():
            return aborted(sent=self.sent)
        if self._body_by is not None and self._body_by <= time.monotonic() + _LEAST_S:
            return stalled(self.settings)
        return late(self.settings, sent=self.sent)

    def explain(self, error: Exception) -> CallEndedError | CallTimedOutError:
        """Return the library's error as ours."""
        if isinstance(error, httpcore2.TimeoutException):
            return self.late()
        if self._is_over():
            return aborted(sent=self.sent)
        return broken(error, self.settings, sent=self.sent, closed=self.closed, begun=self.begun)

    def dial(self, host: str, port: int, timeout_s: float) -> httpcore2.NetworkStream:
        """Connect.

        Raises:
            CallEndedError, CallTimedOutError: it did not come about.
        """
        dial = _Dial(host, port, timeout_s)
        self._dial = dial
        try:
            self.check()  # an abort before the line above has not seen the dial
            dial.start()
            return dial.result(timeout_s)
        except httpcore2.ConnectTimeout:
            raise self.late() from None
        except (httpcore2.ConnectError, RuntimeError, UnicodeError) as error:
            # RuntimeError: no thread can be had any more; that is no connection either.
            self.check()
            raise not_connected(error, host, self.settings, by_proxy=self.by_proxy) from None
        finally:
            self._dial = None

    def swap(self, old: socket.socket | None, new: socket.socket | None) -> None:
        """Note that a socket was opened, replaced or is to be closed."""
        with self._lock:
            if old is not None:
                self._sockets.discard(old)
            if new is not None:
                self._sockets.add(new)

    def end(self) -> None:
        """End what is under way, from another thread."""
        dial = self._dial
        if dial is not None:
            dial.give_up()
        with self._lock:
            for found in self._sockets:
                # The other side may have ended it first. Not the SSLSocket's own `shutdown`: that
                # takes the TLS layer away from the thread that is reading through it.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(found, socket.SHUT_RDWR)


class Backend(httpcore2.NetworkBackend):
    """Connects, for one line."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002  # of the interface; never asked for
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        """Connect within the call's time; see `NetworkBackend.connect_tcp`."""
        limit = self._line.left(timeout, connecting=True)
        return _watched(self._line, self._line.dial(host, port, limit))


def _watched(line: Line, inner: httpcore2.NetworkStream) -> _Stream:
    stream = _Stream(line, inner)
    try:
        line.check()  # an abort until here has not seen the socket
    except BaseException:
        stream.close()
        raise
    return stream


class _Stream(httpcore2.NetworkStream):
    """A connection whose every step is bounded by its line's call."""

    def __init__(self, line: Line, inner: httpcore2.NetworkStream) -> None:
        self._line = line
        self._inner = inner
        self._unsent = b""
        self._socket: socket.socket = inner.get_extra_info("socket")
        line.swap(None, self._socket)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        line = self._line
        if self._unsent:
            # A server may answer and close before it has read all: then its answer counts.
            with contextlib.suppress(httpcore2.WriteError):
                self._send(b"", timeout)
        try:
            data = self._inner.read(max_bytes, line.left(timeout, connecting=not line.sent))
        except httpcore2.ReadTimeout:
            raise line.late() from None
        if not data:
            line.closed = True
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send, or keep a small part until the library reads: head and body go out as one."""
        if len(self._unsent) + len(buffer) < _ONE_SEND:
            self._unsent += buffer
        else:
            self._send(buffer, timeout)

    def _send(self, buffer: bytes, timeout: float | None) -> None:
        line, unsent = self._line, self._unsent
        self._unsent = b""
        first = unsent or buffer
        if first[:1] > b" " and not first.startswith(_TO_PROXY):
            line.sent = True
        try:
            for part in (unsent, buffer):
                self._inner.write(part, line.left(timeout, connecting=not line.sent))
        except httpcore2.WriteTimeout:
            raise line.late() from None

    def close(self) -> None:
        self._line.swap(self._socket, None)
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        line = self._line
        # The handshake takes the descriptor out of our socket; a duplicate stands in for `end`.
        spare = None if isinstance(self._socket, ssl.SSLSocket) else self._socket.dup()
        try:
            if spare is not None:
                line.swap(self._socket, spare)
            line.check()
            limit = line.left(timeout, connecting=True)
            return _watched(line, self._inner.start_tls(ssl_context, server_hostname, limit))
        except httpcore2.ConnectTimeout:
            raise line.late() from None
        except (httpcore2.ConnectError, OSError) as error:
            line.check()
            raise no_tls(error, line.settings) from None
        finally:
            if spare is not None:
                line.swap(spare, None)
                spare.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Dial(threading.Thread):
    """Connects in a thread of its own, so that nobody waits for a resolver longer than he wants.

    Neither `getaddrinfo` nor `connect` can be ended from outside. What comes too late is closed.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        super().__init__(name="dial", daemon=True)
        self._where = host, port, timeout_s
        self._lock = threading.Lock()
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()  # `put` never waits for a lock
        self._stream: httpcore2.NetworkStream | None = None
        self._error: Exception | None = None
        self._given_up = False

    def run(self) -> None:
        """Connect; the thread's work."""
        host, port, timeout_s = self._where
        try:
            stream = httpcore2.SyncBackend().connect_tcp(
                host, port, timeout_s, socket_options=_SOCKET_OPTIONS
            )
        except Exception as error:  # noqa: BLE001  # told to whom it concerns
            self._error = error
        else:
            with self._lock:
                if not self._given_up:
                    self._stream = stream
            if self._stream is None:
                stream.close()
        self._done.put(None)

    def result(self, timeout_s: float) -> httpcore2.NetworkStream:
        """Return the connection, or raise why there is none."""
        with contextlib.suppress(queue.Empty):
            self._done.get(timeout=timeout_s)
        with self._lock:
            self._given_up = self._stream is None
        if self._stream is not None:
            return self._stream
        raise self._error or httpcore2.ConnectTimeout(f"{timeout_s:g} s are over")

    def give_up(self) -> None:
        """Let `result` return at once."""
        self._done.put(None)
