"""Anthropic's words: a Message in place of a chat.completion, its errors, what it refuses.

Faults and answers are made in OpenAI's shape, and translated as they go out.
https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from .fault_answers import refuse, unknown_model, unsupported_parameter
from .http import JSON_TYPE, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .settings import SimulatorSettings

# From this version on the API knows no sampling parameters.
NO_SAMPLING = "2026-10-21"
_SAMPLING = ("temperature", "top_p", "top_k")
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_LOW_CREDIT = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
    "upgrade or purchase credits."
)
# OpenAI's code -> status, message (None: as it is) and `details.error_code` (None: no details).
_SPECIAL: dict[str, tuple[int, str | None, str | None]] = {
    "insufficient_quota": (
        429,
        "You have reached your specified API usage limits.",
        "enforced_spend_limit_reached",
    ),
    "credit_balance_exhausted": (400, _LOW_CREDIT, None),
    "slow_down": (429, "Your usage rises too fast.", "ramp_limit_exceeded"),
    "account_deactivated": (403, "This organization is on hold.", "organization_on_hold"),
    "invalid_api_key": (401, "invalid x-api-key", None),
    "context_length_exceeded": (400, "prompt is too long: 200001 tokens > 200000 maximum", None),
    "content_policy_violation": (400, "Output blocked by content filtering policy", None),
}
_DURATION = re.compile(r"([\d.]+)(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def problem(
    body: Mapping[str, Any] | None, version: str, settings: SimulatorSettings
) -> Response | None:
    """The refusal that the parameters of a message earn by themselves, in OpenAI's shape."""
    if not version:
        return refuse(400, "anthropic-version: header is required")
    if body is None:
        return refuse(400, "The request body is not valid JSON.")
    for name, kind in (("model", str), ("max_tokens", int), ("messages", list)):
        if not isinstance(body.get(name), kind):
            wrong = f"Input should be a valid {kind.__name__}" if name in body else "Field required"
            return refuse(400, f"{name}: {wrong}")
    return _value_problem(body, version, settings)


def _value_problem(
    body: Mapping[str, Any], version: str, settings: SimulatorSettings
) -> Response | None:
    if body["max_tokens"] < 1:
        return refuse(400, "max_tokens: Input should be greater than or equal to 1")
    if body.get("stream"):
        return refuse(400, "stream: events of messages are not simulated")
    for name in _SAMPLING:
        if name in body and version >= NO_SAMPLING:
            return refuse(400, f"{name}: Extra inputs are not permitted")
    if settings.models is not None and body["model"] not in settings.models:
        return unknown_model(body["model"])
    for name in settings.unsupported_params:
        if name in body:
            return unsupported_parameter(name, body[name])
    return None


def translated(
    response: Response, number: int, body: Mapping[str, Any] | None, *, tier: str = "standard"
) -> Response:
    """An answer in Anthropic's shape; what is neither answer nor error stays as it is."""
    if response.content_type != JSON_TYPE:
        return response
    try:
        found = json.loads(response.body)  # not orjson, which refuses half an emoji
    except ValueError:
        return response
    if isinstance(found, dict) and found.get("object") == "chat.completion":
        data: dict[str, Any] = message_of(found, body or {}, number, tier)
    elif isinstance(found, dict) and isinstance(found.get("error"), dict) and "type" not in found:
        data, response.status = _error_of(found["error"], response.status, number)
    else:
        return response
    try:
        response.body = orjson.dumps(data)
    except orjson.JSONEncodeError:  # half an emoji
        response.body = json.dumps(data).encode("ascii")
    return response


def message_of(
    completion: Mapping[str, Any], body: Mapping[str, Any], number: int, tier: str
) -> dict[str, Any]:
    """A Message that says what a chat.completion says."""
    choices = completion["choices"]
    content: list[dict[str, Any]] | None = None if choices is None else []
    stop_reason = "end_turn"
    if choices:
        said = choices[0]["message"]
        stop_reason = _STOP_REASONS[choices[0]["finish_reason"]]
        stop_reason = "refusal" if said.get("refusal") else stop_reason
        content = _blocks(said, body)
    usage = completion["usage"]
    return {
        "id": f"msg_sim_{number}",
        "type": "message",
        "role": "assistant",
        "model": completion["model"],
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": usage["completion_tokens"],
            "service_tier": tier,
        },
    }


def headers_of(headers: tuple[tuple[str, str], ...], now: datetime) -> tuple[tuple[str, str], ...]:
    """OpenAI's headers of limits as Anthropic's, which name the time of a reset."""
    return tuple(_header_of(name, value, now) for name, value in headers)


def iso(wall_s: float) -> str:
    """A time as Anthropic writes it."""
    return _stamp(datetime.fromtimestamp(wall_s, UTC))


def _header_of(name: str, value: str, now: datetime) -> tuple[str, str]:
    if not name.startswith("x-ratelimit-"):
        return name, value
    what, kind = name.removeprefix("x-ratelimit-").split("-")
    if what == "reset":
        seconds = sum(float(text) * _SECONDS[unit] for text, unit in _DURATION.findall(value))
        value = _stamp(now + timedelta(seconds=seconds))
    return f"anthropic-ratelimit-{kind}-{what}", value


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _blocks(said: Mapping[str, Any], body: Mapping[str, Any]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") != "disabled":
        blocks.append({"type": "thinking", "thinking": "(simulated)", "signature": "c2lt"})
    if said["content"] is not None:
        blocks.append({"type": "text", "text": said["content"], "citations": None})
    for call in said.get("tool_calls") or ():
        wanted = json.loads(call["function"]["arguments"])
        name = call["function"]["name"]
        blocks.append({"type": "tool_use", "id": call["id"], "name": name, "input": wanted})
    return blocks


def _error_of(error: Mapping[str, Any], status: int, number: int) -> tuple[dict[str, Any], int]:
    code = error.get("code") or ""
    status, message, error_code = _SPECIAL.get(code, (status, None, None))
    said: dict[str, Any] = {
        "type": _TYPES.get(status, "api_error"),
        "message": message or error["message"],
    }
    if error_code is not None:
        said["details"] = {"error_code": error_code}
    return {"type": "error", "error": said, "request_id": f"req_sim_{number}"}, status
