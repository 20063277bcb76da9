"""The other transport: the openai SDK, where there is no pycurl, and for functions that want it.

It costs five to ten times the processor time of libcurl, and a second to import, so nothing imports
this module before it is used. What reaches the network is not left to the SDK's
defaults: no retries, no redirects, no cookies (a jar would carry one key's to the next), nothing
from its environment variables but the account's own headers.
"""

from __future__ import annotations

import os
import threading
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
import openai

from ..attempts import Reply
from ..errors import TransportError
from .sdk_errors import CallEndedError, CallTimedOutError
from .sdk_lines import Lines
from .surroundings import account_headers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .base import TransportSettings

#: What the SDK tells of the machine with each request; libcurl tells none of it, and
#: it costs a tenth of a call.
_STAINLESS = tuple(
    f"X-Stainless-{name}"
    for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
)
#: Without a key: the SDK insists on being told.
_NO_KEY: dict[str, str | openai.Omit] = {"Authorization": openai.Omit()}


class Clients:
    """`openai.OpenAI` clients, one per key, over the connections of the threads that use them.

    Args:
        settings: where to, and the time limits.
        user_agent: the header of that name.

    Raises:
        ConfigError: the proxy, the certificates or the account's variables cannot be used.
    """

    def __init__(self, settings: TransportSettings, user_agent: str) -> None:
        self._settings = settings
        self._lines = Lines(settings)
        self._headers = _headers(settings.base_url, user_agent)
        self._timeout = httpx2.Timeout(settings.timeout_s, connect=settings.connect_timeout_s)
        self._http = httpx2.Client(
            transport=self._lines,
            timeout=self._timeout,
            follow_redirects=False,  # a redirect must not carry the key elsewhere
            trust_env=False,  # proxies and certificates are chosen in `surroundings`
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # As libcurl: no compression, whose product no bound would hold.
            headers={"Accept-Encoding": "identity"},
        )
        self._clients: dict[str, openai.OpenAI] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> openai.OpenAI:
        """Return the client of a key, for any thread.

        Raises:
            TransportError: the address is none.
        """
        client = self._clients.get(key)
        if client is None:
            with self._lock:
                client = self._clients.get(key) or self._make(key)
                self._clients[key] = client
        return client

    def passing_on(self, on_chunk: Callable[[bytes], None]) -> AbstractContextManager[None]:
        """Return a block in which the bodies of this thread's 200s are handed on as they come."""
        return self._lines.passing_on(on_chunk)

    def abort(self) -> None:
        """End every call under way, and every later one, at once."""
        self._lines.abort()

    def hang_up(self, thread: int) -> None:
        """End the call that a thread is making."""
        self._lines.hang_up(thread)

    def close(self) -> None:
        """Close the connections."""
        self._lines.close()

    def _make(self, key: str) -> openai.OpenAI:
        base_url, headers = self._settings.base_url, self._headers
        if key:
            # A login in the address would take the place of the key; libcurl prefers the key.
            parts = urlsplit(base_url)
            base_url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            headers = {
                name: f"Bearer {key}" if name.lower() == "authorization" else value
                for name, value in headers.items()
            }
        try:
            # Each argument is given, the empty ones too: what is None comes from the environment.
            return openai.OpenAI(
                api_key=key,
                admin_api_key="",
                organization="",
                project="",
                webhook_secret="",
                base_url=base_url,
                timeout=self._timeout,
                max_retries=0,
                default_headers=headers,  # type: ignore[arg-type]  # Omit() is documented
                http_client=self._http,
            )
        except (httpx2.InvalidURL, ValueError) as error:
            raise TransportError("url", f"{error}: check api_base", connected=False) from None


def _headers(base_url: str, user_agent: str) -> dict[str, str | openai.Omit]:
    """Return the headers of every request, where they differ from the SDK's.

    OPENAI_ORG_ID and OPENAI_PROJECT_ID go to OpenAI alone; the SDK sends them to every address. The
    headers in OPENAI_CUSTOM_HEADERS are left out altogether: libcurl does not send them either, and
    one of them could be another host's key. OPENAI_LOG is left alone; it logs no key.
    """
    headers: dict[str, str | openai.Omit] = {
        **dict.fromkeys(_STAINLESS, openai.Omit()),
        "User-Agent": user_agent,
        "OpenAI-Organization": openai.Omit(),
        "OpenAI-Project": openai.Omit(),
        **account_headers(base_url),
    }
    ours = {"accept": "application/json", "content-type": "application/json"}
    ours |= {name.lower(): value for name, value in headers.items()}  # type: ignore[misc]
    for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n"):
        name, colon, _ = line.partition(":")
        if colon:
            headers[name.strip()] = ours.get(name.strip().lower(), openai.Omit())
    return headers


class OpenAITransport:
    """Makes attempts with the openai SDK; see `Transport`.

    Args:
        settings: where to, and the time limits.
        user_agent: the header of that name.

    Raises:
        ConfigError: the proxy, the certificates or the account's variables cannot be used.
    """

    def __init__(self, settings: TransportSettings, user_agent: str = "jsonl-runner") -> None:
        self.clients = Clients(settings, user_agent)

    def post(
        self,
        path: str,
        body: bytes,
        key: str,
        *,
        with_head: bool = True,  # noqa: ARG002  # the library parses it in any case
        on_chunk: Callable[[bytes], None] | None = None,
    ) -> Reply:
        """Send JSON; see `Transport.post`."""
        client, options = self._client(key)

        def call() -> httpx2.Response:
            return client.post(path, content=body, cast_to=httpx2.Response, options=options)

        if on_chunk is None:
            return _reply(call)
        with self.clients.passing_on(on_chunk):
            return _reply(call)

    def get(self, path: str, key: str) -> Reply:
        """Fetch; see `Transport.get`."""
        client, options = self._client(key)
        return _reply(lambda: client.get(path, cast_to=httpx2.Response, options=options))

    def abort(self) -> None:
        """End every call under way, and every later one, at once."""
        self.clients.abort()

    def hang_up(self, thread: int) -> None:
        """End the call that a thread is making."""
        self.clients.hang_up(thread)

    def close(self) -> None:
        """Close the connections."""
        self.clients.close()

    def _client(self, key: str) -> tuple[openai.OpenAI, openai.RequestOptions]:
        return self.clients.of(key), {} if key else {"headers": _NO_KEY}


def _reply(call: Callable[[], httpx2.Response]) -> Reply:
    try:
        answer = call()
    except openai.APIStatusError as error:
        answer = error.response
    except openai.APIConnectionError as error:
        cause = error.__cause__
        if isinstance(cause, (CallEndedError, CallTimedOutError)):
            raise cause.failure from None
        said = " ".join(f"{type(cause).__name__}: {cause}".split())
        raise TransportError("sdk_error", said, connected=True) from None
    lines = b"".join(b"%b: %b\r\n" % line for line in answer.headers.raw)
    return Reply(answer.status_code, lines, answer.content)
