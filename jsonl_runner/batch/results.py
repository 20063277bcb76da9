r"""What a line of a provider's result file means, told as a live answer would be.

Two shapes, told apart by themselves. OpenAI's (https://github.com/openai/openai-openapi,
`BatchRequestOutput`; the same in the output and in the error file), which all that call themselves
compatible have too:

    {"custom_id", "response": {"status_code", "request_id", "body"} | null, "error": null | {…}}

and Anthropic's (https://docs.claude.com/en/api/retrieving-message-batch-results):

    {"custom_id", "result": {"type": "succeeded", "message"} | {"type": "errored", "error"} | …}

A line that cannot be read has a verdict like any other: one of them must not cost the rest. What
passes and what lasts is for `retry` to say, so that it is the same as live.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from .. import jsontext
from ..attempts import Kind, Reply, Verdict
from ..retry import classify, read_completion

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes. No answer of a model is as long; a file that is one endless line must not fill the memory.
MAX_LINE_BYTES = 64 * 1024 * 1024
#: Bytes read at once when the rest of too long a line is passed over.
_BLOCK = 256 * 1024


class Fate(enum.Enum):
    """What is to be done about a request after its result."""

    #: It has its output.
    DONE = "done"
    #: The same request may succeed when it is sent again.
    PASSING = "passing"
    #: It may succeed once something else is changed: money, key, model, address or a parameter.
    BLOCKED = "blocked"
    #: This request cannot succeed.
    LASTING = "lasting"


_FATES = {
    Kind.OK: Fate.DONE,
    Kind.RATE_LIMITED: Fate.PASSING,
    Kind.TRANSIENT: Fate.PASSING,
    Kind.UNREACHABLE: Fate.PASSING,
    Kind.FORBIDDEN: Fate.PASSING,
    Kind.KEY_FINISHED: Fate.BLOCKED,
    Kind.NO_MODEL: Fate.BLOCKED,
    Kind.WRONG_ENDPOINT: Fate.BLOCKED,
    Kind.REFUSED_PARAM: Fate.BLOCKED,
    Kind.ROW_FAULT: Fate.LASTING,
}


@dataclass(slots=True)
class ResultLine:
    """What became of one request.

    Attributes:
        custom_id: the request's; None where the line does not say. Of a line that cannot be read it
            is what stands at its place in the raw bytes.
        verdict: as a live call would have it. `answer.usage` is in OpenAI's words whoever answered.
        status: the HTTP status; None where there was none.
        request_id: the provider's, for its support.
    """

    custom_id: str | None
    verdict: Verdict
    status: int | None = None
    request_id: str | None = None

    @property
    def fate(self) -> Fate:
        """What is to be done about the request."""
        return _FATES[self.verdict.kind]


#: `custom_id` in a line that is no JSON. Within a text its quotes would be escaped.
_RAW_ID = re.compile(rb'(?<!\\)"custom_id" ?: ?"([A-Za-z0-9_.:/ -]+)"')
#: What looks like a key: OpenAI masks those it quotes, gateways may not.
_KEY = re.compile(r"\b((?:sk|gsk|key|api)[-_])[A-Za-z0-9_-]{12,}")
#: Codes beside `"response": null` of requests that never ran
#: (https://platform.openai.com/docs/guides/batch: what is not done in time comes as batch_expired).
_NEVER_RAN = {
    "batch_expired": "the batch's time was over before this request ran",
    "batch_cancelled": "the batch was cancelled before this request ran",
    "batch_canceled": "the batch was cancelled before this request ran",
}
#: Codes and types beside `"response": null` that are about the request; no status says so there.
_OF_THE_REQUEST = re.compile(
    r"invalid|unsupported|unknown_parameter|context_length|content_filter|content_policy|too_long"
)
#: Anthropic's results say the type where a live error says the status too
#: (https://docs.claude.com/en/api/errors).
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
#: Anthropic calls this an invalid request; in no other field does it differ from a bad row
#: (https://github.com/bespokelabsai/curator/issues/296).
_NO_CREDIT = re.compile(r"credit balance is too low", re.IGNORECASE)
#: Why an answer of `/v1/responses` is incomplete, as a finish reason.
_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}
_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


def result_lines(
    stream: IO[bytes], *, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, ResultLine]]:
    r"""Yield each line of a result file that is not blank, with its number from 1.

    A line ends at `\n` and nowhere else: answers may hold U+2028 and the like as they are. Memory
    does not grow with the file.

    Raises:
        OSError: the file cannot be read.
    """
    number = 0
    while line := stream.readline(max_line_bytes):
        number += 1
        if len(line) == max_line_bytes and not line.endswith(b"\n"):
            while (rest := stream.readline(_BLOCK)) and not rest.endswith(b"\n"):
                pass
            text = f"the line is longer than {max_line_bytes / 2**20:g} MiB"
            yield number, ResultLine(_raw_id(line[:_BLOCK]), _malformed(text))
        elif line.strip():
            yield number, read_result_line(line)


def read_result_line(line: bytes) -> ResultLine:
    """Return what a line of a result file means, whatever its bytes are; nothing is raised."""
    line = line.strip(b" \t\r\n").removeprefix(b"\xef\xbb\xbf")
    odd = ""
    try:
        try:
            data = jsontext.load(line)
        except ValueError:
            # A paid answer with a byte that is no UTF-8 is still one, as with half an emoji.
            mended = line.decode("utf-8", "replace").encode()
            if mended == line:
                raise
            data = jsontext.load(mended)
            odd = "the line is not UTF-8: what cannot be read became U+FFFD"
        found = _read(data)
    except ValueError:
        return ResultLine(_raw_id(line), _malformed("the line is not JSON, or not all of it"))
    except RecursionError:
        return ResultLine(_raw_id(line), _malformed("the line is nested too deeply"))
    found.verdict.message = _KEY.sub(r"\1…", found.verdict.message)
    if odd:
        found.verdict.message = "; ".join(filter(None, (found.verdict.message, odd)))
    return found


def _raw_id(line: bytes) -> str | None:
    found = _RAW_ID.search(line)
    return found[1].decode() if found else None


def _malformed(message: str) -> Verdict:
    return Verdict(Kind.TRANSIENT, "malformed", message)


def _read(data: Any) -> ResultLine:
    if not isinstance(data, dict):
        return ResultLine(None, _malformed("the line is no JSON object"))
    custom_id = data.get("custom_id")
    if isinstance(custom_id, int) and not isinstance(custom_id, bool):
        custom_id = str(custom_id)
    found = ResultLine(custom_id if isinstance(custom_id, str) else None, Verdict(Kind.OK))
    result = data.get("result")
    if isinstance(result, dict) and "response" not in data:
        _read_anthropic(result, found)
    elif isinstance(data.get("response"), dict):
        _read_response(data["response"], data.get("error"), found)
    elif data.get("error"):
        found.verdict = _without_response(data["error"])
    else:
        found.verdict = _malformed("the line has neither a response nor an error")
    return found


def _read_response(response: dict[str, Any], error: object, found: ResultLine) -> None:
    status, request_id = response.get("status_code"), response.get("request_id")
    if isinstance(status, str) and status.isdecimal() and len(status) == 3:
        status = int(status)
    if isinstance(status, int) and not isinstance(status, bool):
        found.status = status
    found.request_id = request_id if isinstance(request_id, str) and request_id else None
    body = response.get("body")
    raw = b""
    if isinstance(body, str):  # JSON within JSON
        raw = body.encode("utf-8", "replace")
        try:
            body = jsontext.load(raw)
        except ValueError:
            body = None
    if found.status is None and isinstance(body, dict) and body.get("choices"):
        found.status = 200  # some leave out what goes without saying
    if found.status == 200 and isinstance(body, dict) and body:
        found.verdict = read_completion(_as_chat(body))
    elif found.status is not None and 100 <= found.status < 600:
        raw = raw or (b"" if body is None else jsontext.dump(body))
        found.verdict = classify(Reply(found.status, b"", raw), 0.0)
    elif error:
        found.verdict = _without_response(error)
    else:
        what = "without an HTTP status" if found.status is None else f"HTTP status {found.status}"
        found.verdict = Verdict(Kind.TRANSIENT, "no_status", f"{what}: the request did not run")


def _without_response(error: object) -> Verdict:
    """Return what an error means that no server answered."""
    fields = error if isinstance(error, dict) else {"message": error}
    code, kind_of = str(fields.get("code") or ""), str(fields.get("type") or "")
    if code in _NEVER_RAN:
        return Verdict(Kind.TRANSIENT, code, _NEVER_RAN[code])
    status = 500
    if re.fullmatch("[45][0-9][0-9]", code):
        status = int(code)
    elif _OF_THE_REQUEST.search(code) or _OF_THE_REQUEST.search(kind_of):
        status = 400
    verdict = classify(Reply(status, b"", jsontext.dump({"error": fields})), 0.0)
    verdict.message = verdict.message.removeprefix(f"HTTP {status}: ")
    return verdict


def _read_anthropic(result: dict[str, Any], found: ResultLine) -> None:
    kind, message = result.get("type"), result.get("message")
    if kind == "succeeded" and isinstance(message, dict):
        found.status = 200
        found.verdict = read_completion(completion_of(message))
    elif kind == "errored":
        found.verdict = _anthropic_error(result.get("error"), found)
    elif kind == "expired" or kind == "canceled":  # noqa: PLR1714  # it may be no text
        code = f"batch_{kind}"
        found.verdict = Verdict(Kind.TRANSIENT, code, _NEVER_RAN[code])
    else:
        found.verdict = _malformed(f"the result is of no known type: {str(kind)[:40]!r}")


def _anthropic_error(error: object, found: ResultLine) -> Verdict:
    outer = error if isinstance(error, dict) else {"message": error}
    inner = outer.get("error")
    fields = inner if isinstance(inner, dict) else outer
    request_id = outer.get("request_id")
    found.request_id = request_id if isinstance(request_id, str) and request_id else None
    kind_of = str(fields.get("type") or "")
    found.status = _STATUS_OF_TYPE.get(kind_of, 500)
    fields = {**fields, "code": fields.get("error_code") or fields.get("code")}
    verdict = classify(Reply(found.status, b"", jsontext.dump({"error": fields})), 0.0)
    if found.status == 400 and _NO_CREDIT.search(verdict.message):
        verdict.kind = Kind.KEY_FINISHED
    return verdict


def completion_of(message: dict[str, Any]) -> dict[str, Any]:
    """Return Anthropic's Message as a chat completion, for `retry.read_completion`.

    Args:
        message: the parsed JSON, whatever it holds.
    """
    blocks = message.get("content")
    parts = [part for part in blocks if isinstance(part, dict)] if isinstance(blocks, list) else []
    text = "".join(
        part["text"]
        for part in parts
        if part.get("type") == "text" and isinstance(part.get("text"), str)
    )
    reason = message.get("stop_reason")
    spoken: dict[str, Any] = {"role": "assistant", "content": text}
    calls = [part for part in parts if part.get("type") == "tool_use"]
    if calls:
        spoken["tool_calls"] = [
            {
                "id": call.get("id"),
                "type": "function",
                "function": {
                    "name": call.get("name"),
                    "arguments": jsontext.dump(call.get("input")).decode(),
                },
            }
            for call in calls
        ]
    if reason == "refusal":  # what stands before it is no answer
        spoken = {"role": "assistant", "content": None, "refusal": text or "the model refused"}
    finish = _FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else None
    return {
        "model": message.get("model"),
        "choices": [{"index": 0, "message": spoken, "finish_reason": finish}],
        "usage": usage_of(message.get("usage")),
    }


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """Return what another endpoint of OpenAI answered as a chat completion; others as they are.

    `/v1/responses` has its text in `output`, `/v1/completions` in `choices[0].text`.
    """
    choices, output = body.get("choices"), body.get("output")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        text = choices[0].get("text")
        if isinstance(text, str) and "message" not in choices[0]:
            return {**body, "choices": [{**choices[0], "message": {"content": text}}]}
    if choices is not None or not isinstance(output, list) or body.get("error"):
        return body
    items = [item for item in output if isinstance(item, dict)]
    parts = [
        part
        for item in items
        if item.get("type") == "message" and isinstance(item.get("content"), list)
        for part in item["content"]
        if isinstance(part, dict)
    ]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    calls = [item for item in items if item.get("type") == "function_call"]
    refusals = [part["refusal"] for part in parts if isinstance(part.get("refusal"), str)]
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    spoken = {"content": "".join(texts), "tool_calls": calls, "refusal": " ".join(refusals)}
    return {
        "model": body.get("model"),
        "choices": [{"message": spoken, "finish_reason": _INCOMPLETE.get(str(reason), "stop")}],
        "usage": _usage_of_response(body.get("usage")),
    }


def _usage_of_response(usage: object) -> object:
    """Return the usage of `/v1/responses` in the words of a chat completion's."""
    if not isinstance(usage, dict) or "input_tokens" not in usage:
        return usage
    details = usage.get("input_tokens_details")
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
        **({"prompt_tokens_details": details} if isinstance(details, dict) else {}),
    }


def usage_of(usage: object) -> dict[str, Any] | None:
    """Return Anthropic's usage in OpenAI's words, in tokens.

    OpenAI's `prompt_tokens` hold the cached ones, Anthropic's `input_tokens` do not. Those written
    into the cache, which cost more, stay beside them under Anthropic's name.
    """
    if not isinstance(usage, dict):
        return None

    def tokens(name: str) -> int:
        value = usage.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    cached, written = tokens("cache_read_input_tokens"), tokens("cache_creation_input_tokens")
    prompt, answer = tokens("input_tokens") + cached + written, tokens("output_tokens")
    found: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }
    if cached or written:
        found["prompt_tokens_details"] = {"cached_tokens": cached}
    if written:
        found["cache_creation_input_tokens"] = written
    return found
