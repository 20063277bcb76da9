"""The lines of a batch: what its validation finds, and what each line gets for an answer.

Input files are read line by line; of a whole file only the places of its lines are remembered.
"""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import orjson

from .answers import count_tokens, last_user_text, message_texts
from .breakage import HUGE_BYTES
from .fault_answers import FaultyCall, faulty_response, good_body, refuse, unsupported_parameter
from .faults import BAD_ANSWERS, REFUSALS, UnknownFaultError
from .journal_batches import BilledLine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .faults import Dice, Markers
    from .http import Response
    from .settings import SimulatorSettings

# Findings told of one file; whoever has so many will not read more.
MAX_FINDINGS = 100
COMPLETE = frozenset(REFUSALS + BAD_ANSWERS)
# Breakages as a line can meet them: there is no connection that could break.
_AS_LINE = {
    "hang": "batch_expired",
    "stall": "batch_expired",
    "drip": "batch_expired",
    "close": "batch_missing",
    "reset": "batch_missing",
    "truncated": "batch_cut",
}
UNDONE = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was cancelled.",
}


@dataclass(slots=True)
class Scan:
    """What a first look at an input file finds. `places` are the bytes at which lines begin."""

    places: array[int] = field(default_factory=lambda: array("Q"))
    custom_ids: list[str] = field(default_factory=list)
    model: str = ""
    tokens: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)

    def find(self, code: str, message: str, line: int | None, param: str | None = None) -> None:
        """Note an error of the whole file or of a line, counted from 1."""
        self.findings.append({"code": code, "message": message, "param": param, "line": line})


def scan(path: Path, endpoint: str, settings: SimulatorSettings) -> Scan:
    """Validate an input file as the provider does after it has accepted the batch."""
    found = Scan()
    seen: set[str] = set()
    place = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if len(found.findings) >= MAX_FINDINGS:
                return found
            found.places.append(place)
            place += len(raw)
            _scan_line(found, raw, number, seen, endpoint)
    total = len(found.places)
    if total == 0:
        found.find("empty_file", "The input file is empty.", None)
    elif total > settings.max_batch_requests:
        message = f"The input file has {total} requests, at most {settings.max_batch_requests} may."
        found.find("too_many_tasks", message, None)
    if found.model and settings.models is not None and found.model not in settings.models:
        message = f"The provided model '{found.model}' is not supported by the Batch API."
        found.find("model_not_found", message, 1, "body.model")
    return found


def _scan_line(found: Scan, raw: bytes, number: int, seen: set[str], endpoint: str) -> None:
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError:
        found.find("invalid_json_line", "This line is not parseable as valid JSON.", number)
        return
    if not isinstance(line, dict):
        found.find("invalid_request", "This line is not a JSON object.", number)
        return
    custom_id, body = line.get("custom_id"), line.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        found.find("invalid_request", "Missing 'custom_id'.", number, "custom_id")
        return
    if custom_id in seen:
        message = f"The custom_id '{custom_id}' stands in the file twice."
        found.find("duplicate_custom_id", message, number, "custom_id")
    seen.add(custom_id)
    found.custom_ids.append(custom_id)
    if line.get("method") != "POST":
        found.find("invalid_request", "The method must be POST.", number, "method")
    if line.get("url") != endpoint:
        message = f"The URL '{line.get('url')}' does not match the batch's endpoint '{endpoint}'."
        found.find("url_mismatch", message, number, "url")
    wrong = _body_finding(body)
    if wrong is not None or not isinstance(body, dict):
        found.find("invalid_request", f"Missing or invalid '{wrong}'.", number, wrong)
        return
    found.tokens += count_tokens(sum(map(len, message_texts(body))))
    found.model = found.model or body["model"]
    if body["model"] != found.model:
        message = f"The model '{body['model']}' does not match '{found.model}' of the first line."
        found.find("model_mismatch", message, number, "body.model")


def _body_finding(body: object) -> str | None:
    if not isinstance(body, dict):
        return "body"
    for name, kind in (("model", str), ("messages", list)):
        if not isinstance(body.get(name), kind):
            return f"body.{name}"
    return None


@dataclass(frozen=True, slots=True)
class Worker:
    """What answers the lines of one batch."""

    batch_id: str
    key: str
    settings: SimulatorSettings
    markers: Markers
    dice: Dice
    billed: Callable[[BilledLine], None]

    def fault(self, body: dict[str, Any]) -> str | None:
        """The fault a line meets. Raises UnknownFaultError."""
        kind = self.markers.next_fault(message_texts(body), in_batch=True)
        if kind is None:
            kind = self.dice.fault(self.settings.line_faults)
        return _AS_LINE.get(kind, kind) if kind is not None else None

    def refusal(self, body: dict[str, Any]) -> Response | None:
        """What the model refuses about a body only when it is to answer it."""
        if body.get("stream"):
            message = "'stream' is not supported in the Batch API."
            return refuse(400, message, code="unsupported_value", param="stream")
        for name in self.settings.unsupported_params:
            if name in body:
                return unsupported_parameter(name, body[name])
        return None

    def bill(self, line: dict[str, Any], usage: dict[str, Any]) -> None:
        """Write a line down as answered."""
        body = line["body"] if "body" in line else line["params"]
        self.billed(
            BilledLine(
                self.batch_id,
                line["custom_id"],
                body["model"],
                last_user_text(body) if self.settings.record_bodies else "",
                usage["prompt_tokens"],
                usage["completion_tokens"],
            )
        )


@dataclass(frozen=True, slots=True)
class Answered:
    """What a line came to: the file it goes to (None: neither), its bytes, what it used.

    `count` is as what it is counted, if not as one of its file.
    """

    target: Literal["output", "error"] | None
    data: bytes = b""
    usage: dict[str, Any] | None = None
    count: str | None = None


def answer_line(raw: bytes, number: int, worker: Worker) -> Answered:
    """Answer a valid line of OpenAI's input file."""
    line = orjson.loads(raw)
    body = line["body"]
    call = FaultyCall(number, worker.key, body)
    response = worker.refusal(body)
    kind: str | None = None
    if response is None:
        try:
            kind = worker.fault(body)
        except UnknownFaultError as error:
            response = refuse(400, str(error))
    if kind in UNDONE:
        return Answered("error", undone_line(line["custom_id"], number, kind))
    if response is None and kind is not None and kind in COMPLETE:
        response = faulty_response(kind, call)
    if response is None or response.status < 400:
        data = _result(line["custom_id"], number, 200, _body_of(response, call, kind))
        usage = orjson.loads(good_body(call))["usage"]
        worker.bill(line, usage)
        if kind == "batch_missing":
            return Answered(None, usage=usage, count="output")
        return Answered("output", spoilt(data, kind), usage)
    data = _result(line["custom_id"], number, response.status, _body_of(response, call, kind))
    return Answered("error", data)


def undone_line(custom_id: str, number: int, code: str) -> bytes:
    """The line of a request that was never answered."""
    line = {
        "id": f"batch_req_sim{number}",
        "custom_id": custom_id,
        "response": None,
        "error": {"code": code, "message": UNDONE[code]},
    }
    return orjson.dumps(line) + b"\n"


def _body_of(response: Response | None, call: FaultyCall, kind: str | None) -> Any:
    """What stands as `response.body`: JSON, or a JSON string of what is none, or nothing."""
    text = good_body(call) if response is None else response.body
    if kind == "batch_string":
        return text.decode()
    if kind == "batch_status_0" or not text:
        return {}
    try:
        return json.loads(text)  # not orjson, which refuses half an emoji
    except ValueError:
        return text.decode("utf-8", "replace")


def _result(custom_id: str, number: int, status: int, body: Any) -> bytes:
    line = {
        "id": f"batch_req_sim{number}",
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": f"req_sim{number}", "body": body},
        "error": None,
    }
    try:
        return orjson.dumps(line) + b"\n"
    except orjson.JSONEncodeError:  # half an emoji
        return json.dumps(line).encode("ascii") + b"\n"


def spoilt(data: bytes, kind: str | None) -> bytes:
    """A line as a fault that concerns its bytes leaves it."""
    if kind == "batch_cut":
        return data[: len(data) // 2] + b"\n"
    if kind == "batch_not_utf8":
        return data.replace(b"[simulated]", b"[\xff\xfe]", 1)
    if kind == "batch_status_0":
        return data.replace(b'"status_code":200', b'"status_code":0', 1)
    if kind == "whitespace":
        return b"\n  " + data
    if kind == "huge":
        start, mark, rest = data.partition(b'","refusal"')
        return start + b"x" * HUGE_BYTES + mark + rest
    return data
