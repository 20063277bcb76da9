"""The lines of Anthropic's batches: what is refused at once, and what each line comes to."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import orjson

from .answers import completion
from .batch_lines import COMPLETE, Answered, Worker, spoilt
from .calls import refused
from .fault_answers import FaultyCall, faulty_response, good_body, refuse
from .faults import UnknownFaultError
from .http import Response
from .messages import problem, translated

if TYPE_CHECKING:
    from array import array
    from pathlib import Path

MAX_REQUESTS = 100_000
_CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UNDONE = {"batch_expired": "expired", "batch_cancelled": "canceled"}


def store_requests(body: dict[str, Any], path: Path, places: array[int]) -> list[str]:
    """Write the requests of a new batch down, a line each; their custom_ids.

    Their parameters are not looked at yet, as Anthropic does not. Raises RefusedError.
    """
    requests = body.get("requests")
    if not isinstance(requests, list) or not requests:
        raise refused(400, "requests: List should have at least 1 item after validation, not 0")
    if len(requests) > MAX_REQUESTS:
        raise refused(413, f"requests: at most {MAX_REQUESTS} in a batch")
    seen: dict[str, None] = {}
    for number, request in enumerate(requests):
        where = f"requests.{number}"
        custom_id = request.get("custom_id") if isinstance(request, dict) else None
        if not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
            message = f"{where}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
            raise refused(400, message)
        if custom_id in seen:
            raise refused(400, f"{where}.custom_id: '{custom_id}' is not unique in the batch")
        if not isinstance(request.get("params"), dict):
            raise refused(400, f"{where}.params: Field required")
        seen[custom_id] = None
    place = 0
    with path.open("wb") as file:
        for request in requests:
            places.append(place)
            place += file.write(orjson.dumps(request) + b"\n")
    return list(seen)


def answer_message_line(raw: bytes, number: int, worker: Worker, version: str) -> Answered:
    """What a request of a batch comes to."""
    line = orjson.loads(raw)
    params = line["params"]
    response = problem(params, version, worker.settings)
    kind = None
    if response is None:
        try:
            kind = worker.fault(params)
        except UnknownFaultError as error:
            response = refuse(400, str(error))
    if kind in _UNDONE:
        return undone_message_line(line["custom_id"], _UNDONE[kind])
    call = FaultyCall(number, worker.key, params)
    if response is None:
        wanted = kind in COMPLETE
        response = faulty_response(kind or "", call) if wanted else Response(200, good_body(call))
    if response.status == 502:  # the only error that is a page; here it can but be an error
        response = refuse(502, "Bad Gateway")
    response = translated(response, number, params, tier="batch")
    message = _message(response)
    if isinstance(message, dict) and message.get("type") == "error":
        data = _result(line["custom_id"], {"type": "errored", "error": message})
        return Answered("output", data, count="errored")
    if kind == "batch_string":
        message = json.dumps(message)
    elif kind == "batch_status_0":
        message = {}
    usage = completion(params, number)["usage"]
    worker.bill(line, usage)
    data = spoilt(_result(line["custom_id"], {"type": "succeeded", "message": message}), kind)
    if kind == "batch_missing":
        return Answered(None, usage=usage, count="succeeded")
    return Answered("output", data, usage, count="succeeded")


def undone_message_line(custom_id: str, fate: str) -> Answered:
    """The line of a request that was never answered."""
    return Answered("output", _result(custom_id, {"type": fate}), count=fate)


def _message(response: Response) -> Any:
    if not response.body:
        return {}
    try:
        return json.loads(response.body)  # not orjson, which refuses half an emoji
    except ValueError:
        return response.body.decode("utf-8", "replace")


def _result(custom_id: str, result: dict[str, Any]) -> bytes:
    line = {"custom_id": custom_id, "result": result}
    try:
        return orjson.dumps(line) + b"\n"
    except orjson.JSONEncodeError:  # half an emoji
        return json.dumps(line).encode("ascii") + b"\n"
