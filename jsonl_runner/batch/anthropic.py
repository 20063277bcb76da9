"""Anthropic's Message Batches through the anthropic SDK (extra `anthropic`).

Its API has neither files nor metadata: a batch is created by one call with all requests in it, and
says of itself only how many they are; see `fileless` for what follows from that. Answers are read
from their JSON and not through the SDK's models, so that what a proxy leaves out breaks nothing.
Importing this takes a second.
"""

from __future__ import annotations

import contextlib
import os
import sys
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import anthropic
import httpx2

from .. import jsontext
from ..attempts import Kind
from ..errors import TransportError
from ..retry import classify_failure
from ..transport.sdk_lines import Lines
from .anthropicwire import (
    SAMPLING_VERSION,
    body_of,
    has_sampling,
    measure,
    read_message_batch,
    verdict_of,
)
from .base import AUDIT, ProviderError
from .downloads import LongLines
from .results import read_result_line
from .sdkanswers import broken, object_in, odd, reply_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..clock import Clock, Stop
    from ..transport.base import TransportSettings
    from .base import Order, RemoteBatch
    from .profiles import Profile

#: Seconds that 256 MB may take, up or down, as long as they move.
_LONG_S = 4 * 3600.0
#: Seconds that one message may take: a long answer that is not streamed comes at its end.
_MESSAGE_S = 600.0
_A_PAGE = 100
_CHUNK = 256 * 1024
#: Lines of a result file in which a custom_id is looked for.
_LOOKED_AT = 20
_MESSAGES, _BATCHES = "/v1/messages", "/v1/messages/batches"
#: What the SDK tells of the machine with each request; nobody needs to know.
_STAINLESS = tuple(
    f"X-Stainless-{name}"
    for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
)


class AnthropicBatches:
    """See `BatchProvider` and `fileless.TakesNoFiles`.

    Args:
        settings: where to, and the time limits of calls that are no files.
        profile: what the provider takes.
        clock: tells what a header that names a moment means.
        stop: its abort ends calls.

    Raises:
        ConfigError: the proxy or the certificates cannot be used.
    """

    uses_files = False

    def __init__(
        self, settings: TransportSettings, profile: Profile, clock: Clock, stop: Stop
    ) -> None:
        self.profile = profile
        self._clock = clock
        self._base_url = _address(settings.base_url)
        self._timeout = httpx2.Timeout(settings.timeout_s, connect=settings.connect_timeout_s)
        self._patient = httpx2.Timeout(
            max(settings.timeout_s, _MESSAGE_S), connect=settings.connect_timeout_s
        )
        self._lines: tuple[Lines, Lines] = (Lines(settings), LongLines(settings, _LONG_S))
        self._http, self._long = map(_http, self._lines)
        self._clients: dict[str, anthropic.Anthropic] = {}
        for lines in self._lines:
            stop.on_abort(lines.abort)

    def close(self) -> None:
        """Close the connections."""
        for lines in self._lines:
            lines.close()

    def upload(self, path: object, name: str, key: str) -> str:
        """There are no files."""
        raise NotImplementedError

    def find_upload(self, name: str, size: int, key: str) -> str | None:
        """There are no files."""
        raise NotImplementedError

    def create(self, order: Order, key: str) -> RemoteBatch:
        """Create a batch; see `BatchProvider.create`.

        One call with all requests, which are read from the part's file as they are sent: no more
        than a block and a request are held.
        """
        size, sampling = measure(order)
        headers = {"Content-Type": "application/json", "Content-Length": str(size)}
        if sampling:
            headers |= SAMPLING_VERSION
        with self._call("create"):
            answer = self._patient_client(key).post(
                _BATCHES,
                content=body_of(order),
                cast_to=httpx2.Response,
                options={"headers": headers, "max_retries": 0},
            )
        return read_message_batch(object_in(answer))

    def message(self, request: bytes, key: str) -> bytes:
        """Make one request of a part by itself; see `TakesNoFiles.message`."""
        params = jsontext.load(request)["params"]
        headers = {"Content-Type": "application/json"}
        if has_sampling(params):
            headers |= SAMPLING_VERSION
        try:
            with self._call("message"):
                answer = self._client(key).post(
                    _MESSAGES,
                    content=jsontext.dump(params),
                    cast_to=httpx2.Response,
                    options={"headers": headers, "timeout": self._patient},
                )
        except ProviderError as error:
            if error.status == 404 and error.verdict.code == "not_found_error":
                error.verdict.kind = Kind.NO_MODEL  # the address exists
            raise
        return jsontext.dump(object_in(answer))

    def is_of(self, batch: RemoteBatch, order: Order) -> bool:
        """Return whether a batch has as many requests as an order, or does not say how many."""
        return batch.total is None or batch.total == order.requests

    def batches(self, since: float, key: str) -> Iterator[RemoteBatch]:
        """List batches; see `BatchProvider.batches`."""
        seen: set[str] = set()
        after: str | anthropic.Omit = anthropic.omit
        while True:
            with self._call("list"):
                answer = self._client(key).messages.batches.with_raw_response.list(
                    limit=_A_PAGE, after_id=after
                )
            data = object_in(answer.http_response)
            items = [item for item in data.get("data") or () if isinstance(item, dict)]
            page = [batch for batch in map(read_message_batch, items) if batch.id not in seen]
            seen.update(batch.id for batch in page)
            yield from page
            last = data.get("last_id")
            # The newest come first, and their clock may be another: a page that repeats, or has
            # only old ones, is the end.
            is_young = any(batch.created is None or batch.created >= since for batch in page)
            if not is_young or data.get("has_more") is False or not isinstance(last, str):
                return
            after = last

    def retrieve(self, batch: str, key: str) -> RemoteBatch:
        """Return a batch."""
        with self._call("retrieve"):
            answer = self._client(key).messages.batches.with_raw_response.retrieve(batch)
        return read_message_batch(object_in(answer.http_response))

    def cancel(self, batch: str, key: str) -> None:
        """Ask for a batch's end; one that is over is no error."""
        try:
            with self._call("cancel"):
                self._client(key).messages.batches.with_raw_response.cancel(batch)
        except ProviderError as error:
            if error.status != 400 or not self.retrieve(batch, key).is_over:
                raise

    def size_of(self, result: str, key: str) -> int | None:  # noqa: ARG002
        """It is not known before."""
        return None

    def download(self, result: str, stream: IO[bytes], key: str) -> None:
        """Write a batch's results as they come."""
        with self._call("download"), self._results(result, key) as answer:
            for chunk in answer.iter_bytes(_CHUNK):
                stream.write(chunk)

    def first_id(self, batch: str, key: str) -> str | None:
        """Return the custom_id of a result; see `TakesNoFiles.first_id`."""
        with self._call("look"), self._results(batch, key) as answer:
            rest, lines = b"", 0
            for chunk in answer.iter_bytes(_CHUNK):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    found = read_result_line(line).custom_id
                    lines += 1
                    if found is not None or lines == _LOOKED_AT:
                        return found
        return read_result_line(rest).custom_id if rest else None

    def delete_file(self, file: str, key: str) -> None:
        """There are no files; results go with their batch."""

    def delete_batch(self, batch: str, key: str) -> None:
        """Delete a batch that is over, with its results; one that is not there is no error."""
        try:
            with self._call("delete"):
                self._client(key).messages.batches.with_raw_response.delete(batch)
        except ProviderError as error:
            if not error.is_missing:
                raise

    @contextlib.contextmanager
    def _results(self, batch: str, key: str) -> Iterator[httpx2.Response]:
        """Yield the answer with a batch's results, unread.

        They are asked for below our own address. The SDK's `results` would take the key to
        whatever address the batch names as `results_url`, which behind a proxy is another one.
        """
        if not batch.replace("_", "").replace("-", "").isalnum():
            raise odd("the batch's id is none")
        answer = self._patient_client(key).get(
            f"{_BATCHES}/{batch}/results",
            cast_to=httpx2.Response,
            options={"headers": {"X-Stainless-Raw-Response": "stream"}},
        )
        try:
            yield answer
        finally:
            answer.close()

    def _client(self, key: str) -> anthropic.Anthropic:
        client = self._clients.get(key)
        if client is None:
            try:
                # What is None would come from the environment.
                client = self._clients[key] = anthropic.Anthropic(
                    api_key=key,
                    webhook_key="",
                    base_url=self._base_url,
                    timeout=self._timeout,
                    max_retries=0,
                    default_headers=_headers(key),  # type: ignore[arg-type]  # Omit is documented
                    open_telemetry=False,
                    http_client=self._http,
                )
            except (httpx2.InvalidURL, ValueError) as error:
                failure = TransportError("url", f"{error}: check api_base", connected=False)
                raise ProviderError(0, classify_failure(failure), connected=False) from None
        return client

    def _patient_client(self, key: str) -> anthropic.Anthropic:
        """Return a client for what takes long."""
        return self._client(key).with_options(http_client=self._long, timeout=self._patient)

    @contextlib.contextmanager
    def _call(self, what: str) -> Iterator[None]:
        """Within this block a call is made, and the SDK's errors are ours.

        Auditors hear of it: tests end the process there.
        """
        sys.audit(AUDIT, f"before {what}")
        try:
            yield
        except anthropic.APIStatusError as error:
            reply = reply_of(error.response)
            raise ProviderError(reply.status, verdict_of(reply, self._clock.wall())) from None
        except anthropic.APIConnectionError as error:
            raise broken(error.__cause__ or error) from None
        except (httpx2.HTTPError, httpx2.StreamError, anthropic.AnthropicError) as error:
            raise broken(error) from None
        sys.audit(AUDIT, f"after {what}")


def _address(base_url: str) -> str:
    """Return where the SDK begins its paths: api_base without `/v1` and without a login."""
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/").removesuffix("/v1")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path).geturl()


def _http(lines: Lines) -> httpx2.Client:
    return httpx2.Client(
        transport=lines,
        follow_redirects=False,  # a redirect must not carry the key elsewhere
        trust_env=False,  # proxies and certificates are chosen in `surroundings`
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"Accept-Encoding": "identity"},
    )


def _headers(key: str) -> dict[str, str | anthropic.Omit]:
    """Return the headers of every request, where they differ from the SDK's.

    Those in ANTHROPIC_CUSTOM_HEADERS are left out, but for the API's version: one of them could be
    another key.
    """
    headers: dict[str, str | anthropic.Omit] = {
        **dict.fromkeys(_STAINLESS, anthropic.Omit()),
        "User-Agent": "jsonl-runner",
    }
    ours: dict[str, str] = {
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": "jsonl-runner",
        "authorization": f"Bearer {key}",
    }
    for line in os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n"):
        name, colon, _ = line.partition(":")
        if colon and name.strip().lower() != "anthropic-version":
            headers[name.strip()] = ours.get(name.strip().lower(), anthropic.Omit())
    return headers
