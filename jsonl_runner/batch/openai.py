"""Batches of OpenAI and of all that call themselves compatible, through the openai SDK.

Answers are read from their JSON and not through the SDK's models: those expect what OpenAI sends,
and others leave things out. Importing this takes a second.
"""

from __future__ import annotations

import contextlib
import sys
from typing import IO, TYPE_CHECKING, Any, cast

import httpx2
import openai

from ..errors import TransportError
from ..retry import classify
from ..transport.sdk import Clients
from .base import AUDIT, ProviderError, read_batch
from .downloads import LongLines
from .sdkanswers import broken, object_in, odd, reply_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ..clock import Clock, Stop
    from ..transport.base import TransportSettings
    from .base import Order, RemoteBatch
    from .profiles import Profile

#: Name of our token in a batch's metadata.
TOKEN = "jsonl-runner"  # noqa: S105
#: Seconds that a file of 200 MB may take, up or down, as long as it moves.
_LONG_S = 4 * 3600.0
_BATCHES_A_PAGE, _FILES_A_PAGE = 100, 1000
_CHUNK = 256 * 1024


class OpenAIBatches:
    """See `BatchProvider`.

    Args:
        settings: where to, and the time limits of calls that are no files.
        profile: what the provider takes.
        clock: tells what a header that names a moment means.
        stop: its abort ends calls.

    Raises:
        ConfigError: the proxy, the certificates or the account's variables cannot be used.
    """

    uses_files = True

    def __init__(
        self, settings: TransportSettings, profile: Profile, clock: Clock, stop: Stop
    ) -> None:
        self.profile = profile
        self._clock = clock
        self._clients = Clients(settings, "jsonl-runner")
        self._lines = LongLines(settings, _LONG_S)
        self._files = httpx2.Client(
            transport=self._lines,
            follow_redirects=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity"},
        )
        self._long = httpx2.Timeout(settings.timeout_s, connect=settings.connect_timeout_s)
        stop.on_abort(self._clients.abort)
        stop.on_abort(self._lines.abort)

    def close(self) -> None:
        """Close the connections."""
        self._clients.close()
        self._lines.close()

    def upload(self, path: Path, name: str, key: str) -> str:
        """Upload a part; see `BatchProvider.upload`. The file is never whole in memory."""
        with path.open("rb") as stream, self._call("upload"):
            answer = self._filing(key).files.with_raw_response.create(
                file=(name, stream, "application/jsonl"), purpose=cast("Any", self.profile.purpose)
            )
        data = object_in(answer.http_response)
        if not isinstance(data.get("id"), str):
            raise odd("the answer to an upload names no file")
        return str(data["id"])

    def find_upload(self, name: str, size: int, key: str) -> str | None:
        """Look for an upload; see `BatchProvider.find_upload`."""

        def page(after: str | openai.Omit) -> Any:
            return self._client(key).files.with_raw_response.list(
                purpose=self.profile.purpose, limit=_FILES_A_PAGE, after=after
            )

        for file in self._all(page):
            if file.get("filename") == name and file.get("bytes") in {size, str(size), None}:
                return str(file["id"])
        return None

    def create(self, order: Order, key: str) -> RemoteBatch:
        """Create a batch; see `BatchProvider.create`."""
        more: dict[str, Any] = {}
        if self.profile.has_metadata:
            more["metadata"] = {TOKEN: order.token}
        client = self._client(key).with_options(max_retries=0)
        with self._call("create"):
            answer = client.batches.with_raw_response.create(
                completion_window=cast("Any", order.window or openai.omit),
                endpoint=cast("Any", order.endpoint),
                input_file_id=order.file,
                **more,
            )
        return _batch(object_in(answer.http_response))

    def is_of(self, batch: RemoteBatch, order: Order) -> bool:
        """Return whether a batch is made from an order's file; see `BatchProvider.is_of`."""
        if batch.input_file:
            return batch.input_file == order.file
        return batch.metadata.get(TOKEN) == order.token

    def batches(self, since: float, key: str) -> Iterator[RemoteBatch]:
        """List batches; see `BatchProvider.batches`."""

        def page(after: str | openai.Omit) -> Any:
            return self._client(key).batches.with_raw_response.list(
                limit=_BATCHES_A_PAGE, after=after
            )

        old = 0
        for data in self._all(page):
            batch = _batch(data)
            yield batch
            # Their clock may be another: only a whole page of older ones ends the list.
            is_old = batch.created is not None and batch.created < since
            old = old + 1 if is_old else 0
            if old >= _BATCHES_A_PAGE:
                return

    def retrieve(self, batch: str, key: str) -> RemoteBatch:
        """Return a batch."""
        with self._call("retrieve"):
            answer = self._client(key).batches.with_raw_response.retrieve(batch)
        return _batch(object_in(answer.http_response))

    def cancel(self, batch: str, key: str) -> None:
        """Ask for a batch's end."""
        with self._call("cancel"):
            self._client(key).batches.with_raw_response.cancel(batch)

    def size_of(self, result: str, key: str) -> int | None:
        """Return the bytes of a result file."""
        with self._call("size"):
            answer = self._client(key).files.with_raw_response.retrieve(result)
        size = object_in(answer.http_response).get("bytes")
        return size if isinstance(size, int) else None

    def download(self, result: str, stream: IO[bytes], key: str) -> None:
        """Write a result file's bytes as they come."""
        with (
            self._call("download"),
            self._filing(key).files.with_streaming_response.content(result) as answer,
        ):
            for chunk in answer.iter_bytes(_CHUNK):
                stream.write(chunk)

    def delete_file(self, file: str, key: str) -> None:
        """Delete a file; one that is not there is no error."""
        try:
            with self._call("delete"):
                self._client(key).files.with_raw_response.delete(file)
        except ProviderError as error:
            if not error.is_missing:
                raise

    def delete_batch(self, batch: str, key: str) -> None:
        """There is no such call: a batch's object stays."""

    def _client(self, key: str) -> openai.OpenAI:
        with self._told():
            return self._clients.of(key)

    def _filing(self, key: str) -> openai.OpenAI:
        """Return a client for what takes long."""
        return self._client(key).with_options(http_client=self._files, timeout=self._long)

    def _all(self, page: Callable[[str | openai.Omit], Any]) -> Iterator[dict[str, Any]]:
        """Yield what a list has, page by page, each once; a list that repeats itself ends."""
        seen: set[str] = set()
        after: str | openai.Omit = openai.omit
        while True:
            with self._call("list"):
                answer = page(after).http_response
            data = object_in(answer, lists=True)
            found = data.get("data")
            items = [item for item in found or () if isinstance(item, dict)]
            new = [item for item in items if item.get("id") not in seen]
            for item in new:
                seen.add(item.get("id") or "")
                yield item
            last = data.get("last_id") or (items[-1].get("id") if items else None)
            if not new or data.get("has_more") is False or not isinstance(last, str):
                return
            after = last

    @contextlib.contextmanager
    def _call(self, what: str) -> Iterator[None]:
        """Within this block a call is made. Auditors hear of it: tests end the process there."""
        sys.audit(AUDIT, f"before {what}")
        with self._told():
            yield
        sys.audit(AUDIT, f"after {what}")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Within this block the SDK's errors are ours."""
        try:
            yield
        except openai.APIStatusError as error:
            reply = reply_of(error.response)
            raise ProviderError(reply.status, classify(reply, self._clock.wall())) from None
        except openai.APIConnectionError as error:
            raise broken(error.__cause__ or error) from None
        except (httpx2.HTTPError, httpx2.StreamError, TransportError) as error:
            raise broken(error) from None


def _batch(data: Mapping[str, Any]) -> RemoteBatch:
    job = data.get("job")  # Together's
    return read_batch(job if isinstance(job, dict) else data)
