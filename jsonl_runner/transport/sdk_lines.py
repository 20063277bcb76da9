"""Every thread's line behind one `httpx2` transport, which the SDK's clients share.

One pool for all threads costs time in proportion to its connections (1.1 ms of processor time a
call at 16 threads, 10 ms at 4,096). Here each thread has a pool of one connection; they share the
settings and the TLS context, which costs 28 ms and a megabyte to make.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
import threading
import weakref
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import httpcore2
import httpx2
import truststore

from ..errors import ConfigError
from .sdk_errors import CallEndedError, CallTimedOutError
from .sdk_stream import Backend, Line
from .surroundings import proxy_for, trusted_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .base import TransportSettings

#: Seconds after which an idle connection is not used again, as in libcurl: a firewall on the way
#: may have forgotten it without a word.
_MAX_IDLE_S = 118.0
#: libcurl's: where a proxy names no port.
_PROXY_PORT, _TLS_PROXY_PORT = 1080, 443
_OURS = (CallEndedError, CallTimedOutError)


class Lines(httpx2.BaseTransport):
    """Sends requests from any thread, each thread over its own connection.

    Args:
        settings: where to, and the time limits.

    Raises:
        ConfigError: the proxy or the file of certificates cannot be used.
    """

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._local = threading.local()
        self._lock = threading.RLock()  # `abort` may come from a signal handler in a holder
        self._all: weakref.WeakSet[_Thread] = weakref.WeakSet()
        self._is_over = False
        proxy = proxy_for(settings)
        secure = settings.base_url.startswith("https:") or (proxy or "").startswith("https:")
        self._tls = _tls() if secure else None
        self._proxy = None if proxy is None else _proxy(proxy, self._tls)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its answer, the body still to be read.

        Raises:
            CallEndedError, CallTimedOutError: there is none.
        """
        thread = self._thread()
        line = thread.line
        line.begin(request.extensions.get("timeout", {}).get("read"))
        url = request.url
        try:
            sent = httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
            answer = thread.pool.handle_request(sent)
        except _OURS:
            line.running = False
            raise
        except Exception as error:  # noqa: BLE001  # named by its type, and tried again
            line.running = False
            raise line.explain(error) from None
        line.begun = True
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(line, answer),
            extensions=answer.extensions,
        )

    @contextlib.contextmanager
    def passing_on(self, on_chunk: Callable[[bytes], None]) -> Iterator[None]:
        """In this block the bodies of this thread's 200s are handed on as they come.

        What `on_chunk` raises ends the call and comes out of the block as itself.
        """
        raised: list[BaseException] = []

        def noting(chunk: bytes) -> None:
            try:
                on_chunk(chunk)
            except BaseException as error:
                raised.append(error)
                raise

        line = self._thread().line
        line.on_chunk = noting
        try:
            yield
        except BaseException:
            if raised:
                raise raised[0] from None
            raise
        finally:
            line.on_chunk = None

    def abort(self) -> None:
        """End every call under way, and every later one."""
        self._is_over = True
        for thread in self._snapshot():
            thread.line.end()

    def hang_up(self, thread: int) -> None:
        """End the call that a thread is making."""
        for found in self._snapshot():
            if found.ident == thread and found.line.running:
                found.line.end()

    def close(self) -> None:
        """Close every connection; calls under way, in threads left behind, end."""
        self._is_over = True
        for thread in self._snapshot():
            if thread.line.running:
                thread.line.end()  # the thread itself closes it
            else:
                thread.pool.close()

    def _snapshot(self) -> list[_Thread]:
        with self._lock:
            return list(self._all)

    def _thread(self) -> _Thread:
        found: _Thread | None = getattr(self._local, "thread", None)
        if found is not None:
            return found
        line = Line(self._settings, lambda: self._is_over, by_proxy=self._proxy is not None)
        pool = httpcore2.ConnectionPool(
            ssl_context=self._tls,
            proxy=self._proxy,
            max_connections=None,  # a stream that a user's function leaves open blocks nobody
            max_keepalive_connections=1,
            keepalive_expiry=_MAX_IDLE_S,
            network_backend=Backend(line),
        )
        thread = self._local.thread = _Thread(line, pool)
        with self._lock:
            self._all.add(thread)
        return thread


class _Thread:
    """What one thread has; its connection closes with it."""

    __slots__ = ("__weakref__", "ident", "line", "pool")

    def __init__(self, line: Line, pool: httpcore2.ConnectionPool) -> None:
        self.ident = threading.get_ident()
        self.line = line
        self.pool = pool

    def __del__(self) -> None:
        self.pool.close()


class _Body(httpx2.SyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, line: Line, answer: httpcore2.Response) -> None:
        self._line = line
        self._answer = answer
        # Pauses are in the nature of a stream of events, which a user's function may ask for.
        self._on_chunk = line.on_chunk if answer.status == 200 else None
        self._is_watched = self._on_chunk is not None or not any(
            name.lower() == b"content-type" and value.startswith(b"text/event-stream")
            for name, value in answer.headers
        )

    def __iter__(self) -> Iterator[bytes]:
        line = self._line
        try:
            for chunk in self._answer.iter_stream():
                if self._is_watched:
                    line.received(chunk)
                if self._on_chunk is not None:
                    self._on_chunk(chunk)
                yield chunk
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise line.explain(error) from None

    def close(self) -> None:
        self._answer.close()
        self._line.running = False


def _tls() -> ssl.SSLContext:
    path = trusted_certificates()
    try:
        if sys.platform in {"win32", "darwin"}:  # a company's own authority lies in these stores
            context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(path)
            return context
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise ConfigError(f"{path}: no certificates can be read from it ({error})") from None


def _proxy(address: str, tls: ssl.SSLContext | None) -> httpcore2.Proxy:
    """Return a proxy as httpcore2 has it; its errors never show the address, which has a login."""
    parts = urlsplit(address)
    try:
        port = parts.port or (_TLS_PROXY_PORT if parts.scheme == "https" else _PROXY_PORT)
    except ValueError:
        raise ConfigError("proxy: its port is no number below 65,536") from None
    if parts.scheme not in {"http", "https", "socks5", "socks5h"} or not parts.hostname:
        raise ConfigError(
            "proxy: the openai transport knows http://, https://, socks5:// and socks5h://"
        )
    if parts.scheme.startswith("socks"):
        try:
            import socksio  # noqa: F401, PLC0415  # rarely needed
        except ImportError:
            raise ConfigError(
                "proxy: a SOCKS proxy with the openai transport needs a package: "
                "pip install socksio, or use the curl transport"
            ) from None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    login = None
    if parts.username is not None:
        login = unquote(parts.username).encode(), unquote(parts.password or "").encode()
    return httpcore2.Proxy(
        # socks5 and socks5h are one here: the proxy resolves names. libcurl tells them apart.
        f"{parts.scheme}://{host}:{port}",
        auth=login,
        ssl_context=tls if parts.scheme == "https" else None,
    )
