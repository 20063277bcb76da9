"""What Anthropic's batches are sent, and what they say, without their SDK."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .. import jsontext
from ..attempts import Kind, Reply, Verdict
from ..retry import classify
from .base import CANCELLED, COMPLETED, EXPIRED, RUNNING, RemoteBatch, moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .base import Order

_SAMPLING = frozenset({"temperature", "top_p", "top_k"})
#: The last version of the API that knows them; they are in a request if the user has asked for it.
SAMPLING_VERSION = {"anthropic-version": "2023-06-01"}
#: Anthropic calls this an invalid request; in no other field does it differ from a bad parameter.
_NO_CREDIT = re.compile(r"credit balance is too low", re.IGNORECASE)
_HEAD, _TAIL = b'{"requests":[', b"]}"
#: Bytes that are sent together.
_CHUNK = 256 * 1024


def _requests(order: Order) -> Iterator[bytes]:
    """Yield the requests of an order as JSON, without the ends of their lines."""
    # As `requests.RequestMaker` begins a line.
    left_out = tuple(f'{{"custom_id":"{name}"'.encode() for name in order.left_out)
    with order.path.open("rb") as stream:
        for line in stream:
            if not line.startswith(left_out):
                yield line.rstrip(b"\n")


def has_sampling(params: Mapping[str, Any]) -> bool:
    """Return whether a request has sampling parameters."""
    return not _SAMPLING.isdisjoint(params)


def measure(order: Order) -> tuple[int, bool]:
    """Return how long a body is, and whether any of its requests has sampling parameters."""
    names = [f'"{name}":'.encode() for name in _SAMPLING]
    size, count, sampling = len(_HEAD) + len(_TAIL), 0, False
    for request in _requests(order):
        size += len(request)
        count += 1
        if not sampling and any(name in request for name in names):
            sampling = has_sampling(jsontext.load(request)["params"])
    return size + max(0, count - 1), sampling


def body_of(order: Order) -> Iterator[bytes]:
    """Yield the body of a creating call; a block and a request are held of it."""
    block, comma = bytearray(_HEAD), b""
    for request in _requests(order):
        block += comma
        block += request
        comma = b","
        if len(block) >= _CHUNK:
            yield bytes(block)
            block.clear()
    yield bytes(block) + _TAIL


def verdict_of(reply: Reply, wall: float) -> Verdict:
    """Return what an error means; Anthropic has its codes in `details`."""
    try:
        data = jsontext.load(reply.body)
    except ValueError:
        return classify(reply, wall)
    error = data.get("error") if isinstance(data, dict) else None
    if not isinstance(error, dict):
        return classify(reply, wall)
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    body = jsontext.dump({"error": {**error, "code": code or error.get("error_code")}})
    verdict = classify(Reply(reply.status, reply.raw_headers, body), wall)
    if reply.status == 400 and _NO_CREDIT.search(verdict.message):
        verdict.kind = Kind.KEY_FINISHED
    return verdict


def read_message_batch(data: Mapping[str, Any]) -> RemoteBatch:
    """Return a batch. How many are done it only says in the end."""
    status = data.get("processing_status")
    status = status.lower() if isinstance(status, str) else "unknown"
    given = data.get("request_counts")
    counts = {
        name: count
        for name, count in (given.items() if isinstance(given, dict) else ())
        if type(count) is int  # not isinstance: True is an int to Python
    }
    state, completed, failed = RUNNING, None, None
    results: tuple[str, ...] = ()
    ident = data.get("id")
    ident = ident if isinstance(ident, str) else ""
    if status == "ended":
        completed, expired = counts.get("succeeded", 0), counts.get("expired", 0)
        cancelled = counts.get("canceled", 0)
        failed = counts.get("errored", 0) + cancelled + expired
        state = EXPIRED if expired else CANCELLED if cancelled else COMPLETED
        results = () if data.get("archived_at") and not data.get("results_url") else (ident,)
    return RemoteBatch(
        ident,
        state,
        status,
        results=results,
        total=sum(counts.values()) if counts else None,
        completed=completed,
        failed=failed,
        created=moment(data.get("created_at")),
    )
