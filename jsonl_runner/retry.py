"""What an attempt means for its row and its key. Pure: asks nobody, waits for nothing.

The classes follow the provider's status, `error.code` and `error.type`
(https://developers.openai.com/api/docs/guides/error-codes), never the text of a message.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

from . import jsontext
from .attempts import Answer, AttemptError, Kind, Reply, Verdict
from .errors import TransportError
from .limits import exhausted_reset, rate_limits, retry_after

#: What a slip in a function raises; a rerun of the same code raises it again.
_SLIPS = (TypeError, NameError, AttributeError, ImportError)
#: Of a traceback that are looked at: a function that calls itself has a thousand.
_MOST_FRAMES = 50
_HERE = Path(__file__).resolve().parent

#: Bytes of an answer that is no JSON which are looked at for a message.
_MAX_RAW = 8192

#: The key is out of money or switched off; waiting does not help.
_FINISHED_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_not_active",
        "billing_hard_limit_reached",
        "account_deactivated",
        "access_terminated",
        "invalid_api_key",
        "enforced_spend_limit_reached",
        "organization_on_hold",
        "unsupported_country_region_territory",
    }
)
_FINISHED_TYPES = frozenset({"insufficient_quota", "billing_error", "authentication_error"})
_ERROR_STATUS = re.compile("[45][0-9][0-9]")
_LIMIT_REACHED = re.compile(r"_(spend|usage)_limit_")
_RATE_CODES = frozenset({"rate_limit_exceeded", "slow_down"})
_RATE_TYPES = frozenset({"rate_limit_error", "overloaded_error"})
_NO_MODEL_CODES = frozenset({"model_not_found", "model_not_available", "invalid_model"})
_REFUSED_CODES = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})

#: Reasons for an answer's end that are worth a word.
_ODD_ENDS = ("content_filter", "length")

#: Transport failures that come before any connection and would come again for every row.
_ENDPOINT_CODES = frozenset({"url", "tls"})


def classify(reply: Reply, wall: float) -> Verdict:
    """Return what an HTTP answer to a chat completion means.

    Args:
        reply: the answer.
        wall: the present, in seconds since 1970, for headers that name a moment.
    """
    limits = rate_limits(reply, wall) if reply.raw_headers else None
    if reply.status == 200:
        verdict = _read_answer(reply.body)
    elif 300 <= reply.status < 400:
        target = (reply.header("location") or "another address").partition("?")[0]
        message = f"the server redirects to {target}: set api_base to the address it stands for"
        verdict = Verdict(Kind.WRONG_ENDPOINT, "redirect", message)
    else:
        verdict = _classify_error(reply.status, _error_object(reply.body))
    verdict.limits = limits
    if verdict.kind is Kind.RATE_LIMITED or verdict.kind is Kind.TRANSIENT:
        verdict.retry_after_s = retry_after(reply, wall)
        if verdict.kind is Kind.RATE_LIMITED and verdict.retry_after_s is None:
            verdict.retry_after_s = exhausted_reset(limits)
    return verdict


def _error_object(body: bytes) -> dict[str, Any]:
    """Return the error in an answer as code, type, message, param; empty where there is none."""
    try:
        data = jsontext.load(body)
    except ValueError:
        text = body[:_MAX_RAW].decode("utf-8", "replace")
        return {"message": "an HTML page, not the API's JSON" if _is_html(body) else text}
    error = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(error, dict):
        return error
    return {"message": str(error)}


def _is_html(body: bytes) -> bool:
    return body[:200].lstrip()[:1] == b"<"


def _classify_error(status: int, error: dict[str, Any]) -> Verdict:
    code, kind_of = str(error.get("code") or ""), str(error.get("type") or "")
    message = _one_line(error.get("message") or error.get("detail") or "")
    shown = code if code and not code.isdigit() else kind_of or f"http_{status}"
    kind = _kind_of_error(status, code, kind_of)
    param = error.get("param")
    if kind is Kind.REFUSED_PARAM and not isinstance(param, str):
        kind = Kind.ROW_FAULT
    return Verdict(
        kind,
        shown,
        f"HTTP {status}" + (f": {message}" if message else ""),
        param=param if isinstance(param, str) else None,
    )


def _kind_of_error(status: int, code: str, kind_of: str) -> Kind:
    if code in _FINISHED_CODES or kind_of in _FINISHED_TYPES or _LIMIT_REACHED.search(code):
        return Kind.KEY_FINISHED
    if code in _NO_MODEL_CODES:
        return Kind.NO_MODEL
    if status in {429, 529} or code in _RATE_CODES or kind_of in _RATE_TYPES:
        return Kind.RATE_LIMITED
    if status in {401, 402}:
        return Kind.KEY_FINISHED
    if status == 403:
        return Kind.FORBIDDEN
    if status in {404, 405}:
        return Kind.WRONG_ENDPOINT
    if status == 407:
        return Kind.WRONG_ENDPOINT
    if status in {408, 409, 425} or status >= 500 or status < 300:
        return Kind.TRANSIENT
    if code in _REFUSED_CODES:
        return Kind.REFUSED_PARAM
    return Kind.ROW_FAULT


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _read_answer(body: bytes) -> Verdict:
    """Return what a 200 means: success is a choice with something in it, nothing less."""
    try:
        data = jsontext.load(body)
    except ValueError:
        if _is_html(body):
            message = "a web page came instead of the API's JSON: check api_base"
            return Verdict(Kind.TRANSIENT, "not_json", message)
        what = "an empty body" if not body.strip() else "a body that is not JSON"
        return Verdict(Kind.TRANSIENT, "malformed", f"HTTP 200 with {what}")
    if not isinstance(data, dict):
        return Verdict(Kind.TRANSIENT, "malformed", "HTTP 200 with JSON that is no object")
    return read_completion(data)


def read_completion(data: dict[str, Any]) -> Verdict:
    """Return what a chat completion means, from its parsed JSON."""
    if data.get("error"):
        return _error_in_200(data["error"])
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    said = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(said, dict):
        return Verdict(Kind.TRANSIENT, "no_choices", "HTTP 200 without choices")
    usage, model = data.get("usage"), data.get("model")
    finish = choice.get("finish_reason")
    answer = Answer(
        _text_of(said),
        finish if isinstance(finish, str) else None,
        model if isinstance(model, str) else None,
        usage if isinstance(usage, dict) else None,
    )
    if answer.text is None or finish in _ODD_ENDS:
        return _judge_odd(answer, said)
    return Verdict(Kind.OK, answer=answer)


def _error_in_200(error: object) -> Verdict:
    """Gateways put an upstream's error into a 200, some with its status as the code."""
    fields = error if isinstance(error, dict) else {"message": error}
    code = str(fields.get("code") or "")
    is_status = _ERROR_STATUS.fullmatch(code) is not None
    verdict = _classify_error(int(code) if is_status else 500, fields)
    if not is_status:
        verdict.message = verdict.message.replace("HTTP 500", "an error inside HTTP 200", 1)
    if verdict.kind is Kind.WRONG_ENDPOINT:  # the path was right, or there were no 200
        verdict.kind = Kind.TRANSIENT
    return verdict


def _text_of(message: dict[str, Any]) -> str | None:
    """Return the message's text: content, its text parts, or the tool calls as JSON.

    Where a model says something and calls tools, that is the JSON of both.
    """
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    has_text = isinstance(content, str) and bool(content.strip())
    calls = message.get("tool_calls")
    if calls:
        both = {"content": content, "tool_calls": calls}
        return jsontext.dump(both if has_text else calls).decode()
    return content if has_text else None


def _judge_odd(answer: Answer, message: dict[str, Any]) -> Verdict:
    if answer.finish_reason == "content_filter":
        text = "the provider's content filter stopped the answer"
        return Verdict(Kind.ROW_FAULT, "content_filter", text, answer)
    if answer.text is None:
        refusal = message.get("refusal")
        if refusal:
            return Verdict(Kind.ROW_FAULT, "refusal", _one_line(refusal), answer)
        text = f"the answer is empty (finish_reason {answer.finish_reason})"
        if answer.finish_reason == "length":
            text += ": max_tokens was used up before any text came; raise it"
        return Verdict(Kind.ROW_FAULT, "empty_answer", text, answer)
    return Verdict(Kind.OK, "ok", "cut off at max_tokens", answer)


def _place_in_users_code(error: BaseException) -> str:
    """Return ` (file:line)` of an exception, within the file whose function we called."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__, limit=_MOST_FRAMES)
        if Path(frame.filename).resolve().parent != _HERE
    ]
    if not frames:
        return ""
    last = [frame for frame in frames if frame.filename == frames[0].filename][-1]
    return f" ({last.filename}:{last.lineno})"


def classify_failure(error: TransportError) -> Verdict:
    """Return what an attempt without an HTTP answer means."""
    if error.code in _ENDPOINT_CODES:
        kind = Kind.WRONG_ENDPOINT
    else:
        kind = Kind.TRANSIENT if error.connected else Kind.UNREACHABLE
    return Verdict(kind, error.code, _one_line(error))


def classify_exception(error: BaseException, wall: float) -> Verdict:
    """Return what an exception of a user's function means.

    The openai SDK's errors carry `status_code`, `code`, `type` and `response`, and so do those of
    many others; they are read by name, so that no SDK need be imported. A slip of whoever wrote
    the function fails the row at once, and so does what would end the program: neither passes with
    time. Anything else is transient: the function may be tried again.
    """
    if isinstance(error, AttemptError):
        return error.verdict
    failure = getattr(error.__cause__, "failure", None)
    if isinstance(failure, TransportError):  # of the SDK's client that `generate` was given
        return classify_failure(failure)
    message = f"{type(error).__name__}: {_one_line(error)}"
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        if isinstance(error, _SLIPS) or not isinstance(error, Exception):
            place = _place_in_users_code(error)
            return Verdict(Kind.ROW_FAULT, type(error).__name__, f"{message}{place}")
        return Verdict(Kind.TRANSIENT, type(error).__name__, message, of_server=False)
    fields = {name: getattr(error, name, None) for name in ("code", "type", "param")}
    verdict = _classify_error(status, {**fields, "message": str(error)})
    headers = getattr(getattr(error, "response", None), "headers", None)
    if headers is not None and verdict.kind is Kind.RATE_LIMITED:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        reply = Reply(status, "\r\n".join(lines).encode("latin-1", "replace"), b"")
        verdict.retry_after_s = retry_after(reply, wall)
    return verdict
