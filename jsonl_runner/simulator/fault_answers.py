"""What each fault kind that is a complete HTTP answer sends, in the providers' own words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from .answers import CHARS_PER_TOKEN, answer_text, completion, error_body
from .http import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Nothing listens on the discard port of a loopback: a client that follows is refused, not served.
REDIRECT_TARGET = "http://127.0.0.1:9/"

_HTML_TYPE = "text/html; charset=utf-8"
_HTML_502 = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body>\r\n</html>"
)
_HTML_LOGIN = b"<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>"


@dataclass(frozen=True, slots=True)
class FaultyCall:
    """What a fault needs to know of its call. `body` is empty if the request's was no JSON."""

    number: int
    key: str
    body: Mapping[str, Any]
    tokenizer: Callable[[str], int] | None = None


def refuse(
    status: int,
    message: str,
    *,
    code: str | None = None,
    type_: str = "invalid_request_error",
    param: str | None = None,
) -> Response:
    """An error answer in OpenAI's shape."""
    return Response(status, error_body(message, type_=type_, code=code, param=param))


def invalid_key(key: str) -> Response:
    """401 for a key that is not accepted; it shows no more of the key than OpenAI does."""
    if not key:
        message = "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'."
    else:
        shown = f"{key[:3]}****{key[-4:]}" if len(key) > 11 else "****"
        message = f"Incorrect API key provided: {shown}."
    return refuse(401, message, code="invalid_api_key")


def unknown_model(model: object) -> Response:
    """404 for a model nobody has."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return refuse(404, message, code="model_not_found")


def unsupported_parameter(name: str, value: object = None) -> Response:
    """400 for a body field this model refuses, as OpenAI's reasoning models do."""
    if name == "temperature":
        message = (
            f"Unsupported value: 'temperature' does not support {value} with this model. "
            "Only the default (1) value is supported."
        )
        return refuse(400, message, code="unsupported_value", param=name)
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    if name == "max_tokens":
        message += " Use 'max_completion_tokens' instead."
    return refuse(400, message, code="unsupported_parameter", param=name)


def bare_rate_limit() -> Response:
    """429 that does not say for how long."""
    return refuse(
        429, "Rate limit reached on requests.", type_="requests", code="rate_limit_exceeded"
    )


def _rate_limit() -> Response:
    response = bare_rate_limit()
    response.headers = (("retry-after", "1"),)
    response.retry_after_s = 1.0
    return response


def _quota(code: str) -> Response:
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more "
        "information on this error, read the docs: "
        "https://platform.openai.com/docs/guides/error-codes/api-errors."
    )
    if code == "credit_balance_exhausted":
        message = "Your credit balance is exhausted. Add credits to continue using the API."
    return refuse(429, message, type_="insufficient_quota", code=code)


def _context_length() -> Response:
    message = (
        "This model's maximum context length is 128000 tokens. However, your messages resulted in "
        "128001 tokens. Please reduce the length of the messages."
    )
    return refuse(400, message, code="context_length_exceeded", param="messages")


def _key_echo(call: FaultyCall) -> Response:
    return refuse(401, f"Incorrect API key provided: {call.key}.", code="invalid_api_key")


def _redirect() -> Response:
    return Response(307, b"", (("location", REDIRECT_TARGET),))


def _completion(call: FaultyCall, **changes: Any) -> Response:
    changes["tokenizer"] = call.tokenizer
    return Response(200, orjson.dumps(completion(call.body, call.number, **changes)))


def _choices(call: FaultyCall, choices: list[object] | None) -> Response:
    return Response(200, orjson.dumps(completion(call.body, call.number) | {"choices": choices}))


def _malformed(call: FaultyCall) -> Response:
    body = good_body(call)
    return Response(200, body[: len(body) // 2])


def _error_in_200() -> Response:
    body = error_body("Provider returned error", type_="server_error", code="upstream_error")
    return Response(200, body)


def _length(call: FaultyCall) -> Response:
    text = answer_text(call.body)
    cut = len(text) // 2
    asked = call.body.get("max_completion_tokens", call.body.get("max_tokens"))
    if isinstance(asked, int):
        cut = min(cut, max(1, asked) * CHARS_PER_TOKEN)
    return _completion(call, content=text[:cut], finish_reason="length")


def _tool_calls(call: FaultyCall) -> Response:
    wanted = {
        "id": f"call_sim_{call.number}",
        "type": "function",
        "function": {"name": "look_up", "arguments": "{}"},
    }
    return _completion(call, content=None, finish_reason="tool_calls", tool_calls=[wanted])


def _surrogate(call: FaultyCall) -> Response:
    # The standard library writes a lone surrogate as an escape; orjson refuses to.
    answer = completion(call.body, call.number, content=answer_text(call.body) + "\ud83d")
    return Response(200, json.dumps(answer).encode("ascii"))


def _spoilt_json(call: FaultyCall, kind: str) -> Response:
    text = answer_text(call.body)
    if kind == "fenced_json":
        return _completion(call, content=f"```json\n{text}\n```")
    return _completion(call, content=text[:-1] if kind == "broken_json" else '["something else"]')


_SERVER_ERROR = "The server had an error while processing your request. Sorry about that!"
_REFUSAL = "I'm sorry, I can't help with that."
_DEACTIVATED = "The OpenAI account associated with this API key has been deactivated."

# Answers that are the same for every call. Made anew each time, since a sender adds headers.
_FIXED: dict[str, Callable[[], Response]] = {
    "429_bare": bare_rate_limit,
    "slow_down": lambda: refuse(
        429, "Your request rate rises too fast.", type_="rate_limit_error", code="slow_down"
    ),
    "deactivated": lambda: refuse(401, _DEACTIVATED, code="account_deactivated"),
    "insufficient_quota": lambda: _quota("insufficient_quota"),
    "credit_balance_exhausted": lambda: _quota("credit_balance_exhausted"),
    "403": lambda: refuse(
        403,
        "Country, region, or territory not supported",
        type_="request_forbidden",
        code="unsupported_country_region_territory",
    ),
    "400": lambda: refuse(400, "We could not parse the content of your request."),
    "content_policy": lambda: refuse(
        400, "Your request was rejected by our safety system.", code="content_policy_violation"
    ),
    "unsupported_parameter": lambda: unsupported_parameter("logprobs"),
    "408": lambda: refuse(408, "Request timed out.", type_="timeout"),
    "409": lambda: refuse(409, "The resource was changed by another request."),
    "413": lambda: refuse(413, "The request is too large.", code="request_too_large"),
    "422": lambda: refuse(422, "The request could not be processed."),
    "500": lambda: refuse(500, _SERVER_ERROR, type_="server_error"),
    "502_html": lambda: Response(502, _HTML_502, content_type=_HTML_TYPE),
    "503": lambda: refuse(
        503,
        "The server is overloaded. Please try again later.",
        type_="service_unavailable_error",
        code="server_is_overloaded",
    ),
    "529": lambda: refuse(529, "Overloaded", type_="overloaded_error"),
    "empty": lambda: Response(200, b""),
    "html": lambda: Response(200, _HTML_LOGIN, content_type=_HTML_TYPE),
    "429": _rate_limit,
    "context_length": _context_length,
    "redirect": _redirect,
    "error_in_200": _error_in_200,
}

# Answers made from the call.
_MADE: dict[str, Callable[[FaultyCall], Response]] = {
    "401": lambda call: invalid_key(call.key),
    "404_model": lambda call: unknown_model(call.body.get("model")),
    "key_echo": _key_echo,
    "malformed": _malformed,
    "no_choices": lambda call: _choices(call, []),
    "null_choices": lambda call: _choices(call, None),
    "empty_answer": lambda call: _completion(call, content=""),
    "null_answer": lambda call: _completion(call, content=None),
    "content_filter": lambda call: _completion(call, content=None, finish_reason="content_filter"),
    "length": _length,
    "refusal": lambda call: _completion(call, content=None, refusal=_REFUSAL),
    "tool_calls": _tool_calls,
    "surrogate": _surrogate,
    "fenced_json": lambda call: _spoilt_json(call, "fenced_json"),
    "broken_json": lambda call: _spoilt_json(call, "broken_json"),
    "other_json": lambda call: _spoilt_json(call, "other_json"),
}


def good_body(call: FaultyCall) -> bytes:
    """The body of the answer this call would have had without a fault."""
    return orjson.dumps(completion(call.body, call.number, tokenizer=call.tokenizer))


def faulty_response(kind: str, call: FaultyCall) -> Response:
    """The complete answer of `kind`, which is one of REFUSALS or BAD_ANSWERS."""
    fixed = _FIXED.get(kind)
    return fixed() if fixed is not None else _MADE[kind](call)
