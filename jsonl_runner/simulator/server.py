"""The simulator's life: a listening socket, a daemon thread, an event loop, and a clean end."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

from .endpoints import Endpoints
from .http import Connection
from .journal import Journal
from .settings import SimulatorSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .batches import Batches
    from .message_batches import MessageBatches
    from .mishaps import Loss

# Connections the kernel may hold before they are accepted: thousands of threads connect at once.
BACKLOG = 8192
# Seconds until accepting is tried again when the process has no file descriptor left; meanwhile the
# connections wait in the backlog.
ACCEPT_RETRY_S = 0.05
_PASSING_ACCEPT_ERRORS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}
)
# Seconds the loop may take to end; it only has to abort sockets, so this is never reached.
STOP_TIMEOUT_S = 10.0


class Simulator:
    """An OpenAI-shaped server on a loopback port, run by a daemon thread; a context manager.

    Args:
        settings: what it does; assign `simulator.settings` to change it for new requests.
        host, port: where to listen; port 0 takes a free one, which stays the same if the simulator
            is stopped and started again.
        now: the clock of buckets and journal, in seconds. Latencies always take real time.
        keep_journal: False keeps no calls, for runs too long to remember.

    Raises OSError from `start` if the port cannot be had.
    """

    def __init__(
        self,
        settings: SimulatorSettings = SimulatorSettings(),  # noqa: B008 - frozen
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        now: Callable[[], float] = time.monotonic,
        keep_journal: bool = True,
    ) -> None:
        self.journal = Journal(now=now, keep=keep_journal)
        self._endpoints = Endpoints(settings, self.journal, now)
        self._host = host
        self._port = port
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def settings(self) -> SimulatorSettings:
        """The present settings; assign new ones (`dataclasses.replace`) at any time."""
        return self._endpoints.settings

    @settings.setter
    def settings(self, settings: SimulatorSettings) -> None:
        self._endpoints.settings = settings

    @property
    def batches(self) -> Batches:
        """OpenAI's batches: `advance`, `stick` and `vanish` move and break them."""
        return self._endpoints.management.batches

    @property
    def message_batches(self) -> MessageBatches:
        """Anthropic's batches: `advance`, `stick` and `vanish` move and break them."""
        return self._endpoints.management.message_batches

    def lose_next(self, route: str, what: Loss = "answer", times: int = 1) -> None:
        """Let the next calls of a route (`POST /v1/batches`) be lost.

        With `request` nothing is done before the connection is cut; with `answer` and `answer_500`
        all is done before it is cut, or the answer is a 500. Raises ValueError for unknown words.
        """
        self._endpoints.management.mishaps.lose_next(route, what, times)

    def fail_next(self, route: str, kind: str, times: int = 1) -> None:
        """Let the next calls of a route meet a fault, such as `429`. Raises ValueError."""
        self._endpoints.management.mishaps.fail_next(route, kind, times)

    @property
    def base_url(self) -> str:
        """Such as `http://127.0.0.1:40123/v1`. Raises RuntimeError before a port is known."""
        if self._port == 0:
            raise RuntimeError("the simulator has no port yet: start it first")
        return f"http://{self._host}:{self._port}/v1"

    def start(self) -> Self:
        """Listen and serve; returns when connections are accepted. Raises OSError."""
        if self._thread is not None:
            raise RuntimeError("the simulator is already running")
        listener = socket.create_server((self._host, self._port), backlog=BACKLOG)
        self._port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(listener, ready), name="simulator", daemon=True
        )
        self._thread.start()
        ready.wait()
        if self._stopping is None:
            raise RuntimeError("the simulator's event loop did not start")
        return self

    def stop(self) -> None:
        """Drop every connection, answered or not, and end the thread. Twice does no harm."""
        thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is None or loop is None or stopping is None:
            return
        self._thread = self._loop = self._stopping = None
        loop.call_soon_threadsafe(stopping.set)
        thread.join(STOP_TIMEOUT_S)
        if thread.is_alive():
            raise RuntimeError(f"the simulator did not stop within {STOP_TIMEOUT_S} s")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(listener, ready))
        finally:
            # Whatever went wrong, nobody waits for a loop that has ended.
            listener.close()
            ready.set()

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        """Serve until `_stopping` is set. Ends with no connection open and nothing in flight."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        open_connections: set[Connection] = set()
        listener.setblocking(False)
        # Opened now, since there may be no file descriptor left for it at the end.
        with socket.socket() as waker:
            waker.setblocking(False)
            accepting = loop.create_task(self._accept(listener, open_connections, stopping))
            # Should accepting ever fail, the loop ends and its thread reports the error.
            accepting.add_done_callback(lambda _: stopping.set())
            self._loop, self._stopping = loop, stopping
            ready.set()
            await stopping.wait()
            # A last connection wakes the task. Cancelling it could lose a socket just accepted.
            waker.connect_ex(listener.getsockname())
            await accepting
        while open_connections:
            for connection in tuple(open_connections):
                connection.abort()
            # One turn of the loop delivers `connection_lost`, which ends the pending answers.
            await asyncio.sleep(0)

    async def _accept(
        self,
        listener: socket.socket,
        open_connections: set[Connection],
        stopping: asyncio.Event,
    ) -> None:
        """Take connections until one arrives after `stopping` was set.

        This is not `loop.create_server`, whose `close` leaks sockets that it has accepted in the
        same turn of the loop (seen with Python 3.11).
        """
        loop = asyncio.get_running_loop()
        while not stopping.is_set():
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in _PASSING_ACCEPT_ERRORS:
                    raise
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            try:
                await loop.connect_accepted_socket(
                    lambda: Connection(self._endpoints.handle, open_connections), client
                )
            except OSError:
                # The client has already left; macOS then refuses to set options on its socket.
                client.close()
