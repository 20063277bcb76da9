"""What providers' SDKs bring, in our words; the same for all that run on httpx2."""

from __future__ import annotations

from typing import Any

import httpx2

from .. import jsontext
from ..attempts import Kind, Reply, Verdict
from ..errors import TransportError
from ..retry import classify_failure
from ..transport.sdk_errors import CallEndedError, CallTimedOutError
from .base import ProviderError


def reply_of(answer: httpx2.Response) -> Reply:
    """Return an answer that was an error; what of its body does not come is left out."""
    lines = b"".join(b"%b: %b\r\n" % line for line in answer.headers.raw)
    try:
        body = answer.read()
    except (httpx2.HTTPError, httpx2.StreamError):
        body = b""
    return Reply(answer.status_code, lines, body)


def broken(error: BaseException) -> ProviderError:
    """Return what kept a call from having an answer."""
    if isinstance(error, (CallEndedError, CallTimedOutError)):
        error = error.failure
    if not isinstance(error, TransportError):
        said = " ".join(f"{type(error).__name__}: {error}".split())
        error = TransportError("sdk_error", said, connected=True)
    return ProviderError(0, classify_failure(error), connected=error.connected)


def odd(message: str) -> ProviderError:
    """Return a 200 that is none of the API's."""
    return ProviderError(200, Verdict(Kind.TRANSIENT, "malformed", message))


def object_in(answer: Any, *, lists: bool = False) -> dict[str, Any]:
    """Return the object in an answer; with `lists`, a bare list becomes the one page of it.

    Raises:
        ProviderError: there is none.
    """
    try:
        data = jsontext.load(answer.content)
    except ValueError:
        raise odd("HTTP 200 with a body that is not JSON: check api_base") from None
    if lists and isinstance(data, list):
        return {"data": data, "has_more": False}
    if not isinstance(data, dict):
        raise odd("HTTP 200 with JSON that is no object")
    return data
