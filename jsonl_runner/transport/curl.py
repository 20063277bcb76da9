"""The default transport: libcurl, one easy handle per thread.

Each thread keeps its handle and with it its connection: nothing is shared, nothing is locked, and a
call costs some 0.04 ms of processor time (docs/performance.md). No Python code runs while a call
waits; a single watchdog thread ends answers that begin and then stall.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pycurl

from ..attempts import Reply
from ..errors import TransportError
from .base import MIN_BODY_PROGRESS
from .connection import Watch, Watchdog
from .curl_errors import translate
from .surroundings import account_headers, is_loopback, trusted_certificates

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import TransportSettings


class CurlTransport:
    """Makes attempts with libcurl; see `Transport`.

    Args:
        settings: where to, and the time limits.
        user_agent: the header of that name.

    Raises:
        ConfigError: the account's variables cannot be used.
    """

    def __init__(self, settings: TransportSettings, user_agent: str = "jsonl-runner") -> None:
        self._settings = settings
        self._user_agent = user_agent
        self._account = account_headers(settings.base_url)
        self._ca_file = trusted_certificates()
        self._local = threading.local()
        self._headers: dict[str, list[str]] = {}
        self._watchdog = Watchdog(settings.body_timeout_s, time.monotonic)

    def post(
        self,
        path: str,
        body: bytes,
        key: str,
        *,
        with_head: bool = True,
        on_chunk: Callable[[bytes], None] | None = None,
    ) -> Reply:
        """Send JSON; see `Transport.post`."""
        handle = self._handle()
        handle.take_head(wanted=with_head)
        handle.curl.setopt(pycurl.POSTFIELDS, body)  # makes it a POST, too
        if on_chunk is None:
            return self._perform(handle, path, key)
        return self._perform_passing_on(handle, path, key, on_chunk)

    def get(self, path: str, key: str) -> Reply:
        """Fetch; see `Transport.get`."""
        handle = self._handle()
        handle.take_head(wanted=True)
        handle.curl.setopt(pycurl.HTTPGET, 1)
        return self._perform(handle, path, key)

    def abort(self) -> None:
        """End every call under way, and every later one, at once."""
        self._watchdog.abort()

    def hang_up(self, thread: int) -> None:
        """End the call that a thread is making."""
        self._watchdog.hang_up(thread)

    def close(self) -> None:
        """Stop the watchdog; each thread's connection closes with the thread."""
        self._watchdog.close()

    def _handle(self) -> _Handle:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            handle = self._local.handle = _Handle(self._new_curl(), self._watchdog.watch())
        return handle

    def _new_curl(self) -> Any:
        settings, curl = self._settings, pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)  # signals would break threads
        curl.setopt(pycurl.TCP_NODELAY, 1)
        curl.setopt(pycurl.TCP_KEEPALIVE, 1)  # minutes of silence outlive no NAT without it
        version = pycurl.CURL_HTTP_VERSION_1_1
        if settings.http2:
            version = pycurl.CURL_HTTP_VERSION_2TLS
        curl.setopt(pycurl.HTTP_VERSION, version)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(settings.timeout_s * 1000)))
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(settings.connect_timeout_s * 1000)))
        curl.setopt(pycurl.FOLLOWLOCATION, 0)  # a redirect must not carry the key elsewhere
        curl.setopt(pycurl.MAXCONNECTS, 1)
        curl.setopt(pycurl.CAINFO, self._ca_file)
        if sys.platform in {"win32", "darwin"}:  # a company's own authority lies in these stores
            curl.setopt(pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA)
        if settings.proxy is not None:
            curl.setopt(pycurl.PROXY, settings.proxy)
        elif is_loopback(settings.base_url):
            curl.setopt(pycurl.NOPROXY, "*")
        return curl

    def _perform(self, handle: _Handle, path: str, key: str) -> Reply:
        curl, watch = handle.curl, handle.watch
        # Most calls of a thread differ in their bodies alone.
        if handle.path != path:
            curl.setopt(pycurl.URL, self._settings.base_url + path)
            handle.path = path
        if handle.key != key:
            curl.setopt(pycurl.HTTPHEADER, self._request_headers(key))
            handle.key = key
        is_fresh = watch.has_died()
        while True:
            handle.headers.clear()
            if is_fresh:
                curl.setopt(pycurl.FRESH_CONNECT, 1)
            watch.begin(is_fresh=is_fresh)
            try:
                curl.perform()
            except pycurl.error as error:
                if watch.refused and not is_fresh and not curl.getinfo(pycurl.REQUEST_SIZE):
                    is_fresh = True  # the kept connection was no good, and nothing was sent on it
                    continue
                raise self._explain(error, handle) from None
            finally:
                body = watch.end()
                if is_fresh:
                    curl.setopt(pycurl.FRESH_CONNECT, 0)
            return Reply(curl.getinfo(pycurl.RESPONSE_CODE), handle.head(), body)

    def _perform_passing_on(
        self, handle: _Handle, path: str, key: str, on_chunk: Callable[[bytes], None]
    ) -> Reply:
        """Make the call, and hand the body of a 200 on as it comes."""
        curl, watch = handle.curl, handle.watch
        raised: list[BaseException] = []

        def received(chunk: bytes) -> int | None:
            taken = watch.received(chunk)
            if taken is None and handle.is_ok():
                try:
                    on_chunk(chunk)
                except BaseException as error:  # noqa: BLE001  # through libcurl it cannot pass
                    raised.append(error)
                    return -1
            return taken

        handle.take_head(wanted=True)  # it tells a 200 from an error
        curl.setopt(pycurl.WRITEFUNCTION, received)
        watch.least_progress = 1
        try:
            return self._perform(handle, path, key)
        except TransportError:
            if raised:
                raise raised[0] from None
            raise
        finally:
            curl.setopt(pycurl.WRITEFUNCTION, watch.received)
            watch.least_progress = MIN_BODY_PROGRESS

    def _explain(self, error: pycurl.error, handle: _Handle) -> TransportError:
        """Return libcurl's error as ours."""
        curl, fault = handle.curl, handle.watch.fault
        if fault is not None:
            return TransportError(fault.code, fault.message, connected=True)
        number, text = int(error.args[0]), str(error.args[-1])
        if handle.watch.refused:
            number = pycurl.E_GOT_NOTHING
        elif curl.getinfo(pycurl.HTTP_CONNECTCODE) not in {0, 200}:
            number = pycurl.E_COULDNT_RESOLVE_PROXY  # the proxy would not let us through
        # Nothing was sent: then the server cannot have seen, done or billed anything.
        connected = curl.getinfo(pycurl.REQUEST_SIZE) > 0
        return translate(number, text, self._settings, connected=connected)

    def _request_headers(self, key: str) -> list[str]:
        headers = self._headers.get(key)
        if headers is None:
            headers = [
                "Content-Type: application/json",
                "Accept: application/json",
                f"User-Agent: {self._user_agent}",
                "Expect:",  # no extra round trip before a long body
                *(f"{name}: {value}" for name, value in self._account.items()),
            ]
            if key:
                headers.append(f"Authorization: Bearer {key}")
            self._headers[key] = headers
        return headers


class _Handle:
    """One thread's easy handle, wired to its watch."""

    __slots__ = ("_has_head", "curl", "headers", "key", "path", "watch")

    def __init__(self, curl: Any, watch: Watch) -> None:
        self.curl = curl
        self.watch = watch
        #: Lines of the answer's head.
        self.headers: list[bytes] = []
        #: What the handle is set to.
        self.path = ""
        self.key: str | None = None
        self._has_head = False
        curl.setopt(pycurl.WRITEFUNCTION, watch.received)
        curl.setopt(pycurl.SOCKOPTFUNCTION, watch.opened)
        curl.setopt(pycurl.CLOSESOCKETFUNCTION, watch.closing)

    def take_head(self, *, wanted: bool) -> None:
        """Say whether the next answer's headers are wanted.

        libcurl hands them over line by line, and for each line the thread must get hold of the
        interpreter again: with thousands of threads a third of all switches between them.
        """
        if wanted is not self._has_head:
            self.curl.setopt(pycurl.HEADERFUNCTION, self.headers.append if wanted else None)
            self._has_head = wanted

    def is_ok(self) -> bool:
        """Return whether the answer that is coming is a 200; its head must be taken."""
        for line in reversed(self.headers):  # before it may stand a proxy's, or a 100's
            if line.startswith(b"HTTP/"):
                return line.split(None, 2)[1:2] == [b"200"]
        return False

    def head(self) -> bytes:
        """Return the answer's headers, or the one that libcurl keeps by itself."""
        if self._has_head:
            return b"".join(self.headers)
        seconds = self.curl.getinfo(pycurl.RETRY_AFTER)
        return b"retry-after: %d\r\n" % seconds if seconds else b""
