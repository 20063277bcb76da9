"""The lines of `transport.sdk_lines` for files: longer than any answer of a model may be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import httpcore2
import httpx2

from ..transport.sdk_lines import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..transport.base import TransportSettings


class LongLines(Lines):
    """Sends requests whose bodies, or answers, are files.

    An answer is bounded by the disk (see `collect`), not by `MAX_REPLY_BYTES`; that it goes on is
    seen to by the timeout of each read.

    Args:
        settings: as of any call.
        timeout_s: of a whole file.

    Raises:
        ConfigError: the proxy or the file of certificates cannot be used.
    """

    def __init__(self, settings: TransportSettings, timeout_s: float) -> None:
        super().__init__(replace(settings, timeout_s=timeout_s))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its answer, the body still to be read; see `Lines`."""
        answer = super().handle_request(request)
        if answer.status_code != 200:
            return answer
        return httpx2.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_Long(answer.stream),
            extensions=answer.extensions,
        )


class _Long(httpx2.SyncByteStream):
    """A body of any length."""

    def __init__(self, body: object) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        body = self._body
        # No counting: a private door, until `TransportSettings` has a limit of its own.
        line, answer = body._line, body._answer  # type: ignore[attr-defined]  # noqa: SLF001
        try:
            yield from answer.iter_stream()
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as e:
            raise line.explain(e) from None

    def close(self) -> None:
        self._body.close()  # type: ignore[attr-defined]
