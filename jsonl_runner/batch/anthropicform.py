"""A chat completion's request in Anthropic's form (https://docs.claude.com/en/api/messages).

Anthropic looks at the parameters of a batch only when it runs: a wrong one comes back as a hundred
thousand errors hours later. So what its API does not know is left out here and said, or refused.
"""

from __future__ import annotations

from typing import Any

from .. import images

#: Anthropic takes no request without `max_tokens`.
DEFAULT_MAX_TOKENS = 4096
_SAMPLING = ("temperature", "top_p", "top_k")
#: OpenAI's parameters that have no counterpart: an answer without them is still one.
_UNKNOWN = (
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "response_format",
    "seed",
    "store",
    "stream",
    "stream_options",
    "top_logprobs",
)
_SYSTEM_ROLES = {"system", "developer"}
#: Parts of a message that OpenAI writes in a way of its own.
_OPENAI_PARTS = {"image_url", "input_audio", "file", "refusal"}


def params_of(body: dict[str, Any], *, sampling: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the `params` of a request, and what there is to tell the user.

    Args:
        body: a chat completion's request; is used up.
        sampling: whether temperature, top_p and top_k are sent.

    Raises:
        ValueError: it cannot be said to Anthropic; the message says why.
    """
    notes = []
    left_out = [name for name in _UNKNOWN if body.pop(name, None) is not None]
    if left_out:
        notes.append(f"Anthropic knows no {', '.join(left_out)}: left out")
    if not sampling:
        dropped = [name for name in _SAMPLING if body.pop(name, None) is not None]
        if dropped:
            notes.append(
                f"Anthropic's API takes no {', '.join(dropped)} any more: left out (--sampling "
                "sends it)"
            )
    system, messages = _conversation(body.pop("messages"))
    limit, newer = body.pop("max_tokens", None), body.pop("max_completion_tokens", None)
    limit = limit if newer is None else newer
    if limit is None:
        limit = DEFAULT_MAX_TOKENS
        notes.append(f"max_tokens is {limit:,} where none is given: Anthropic wants one")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ValueError(f"max_tokens must be a whole number above 0, not {limit!r}")
    params: dict[str, Any] = {"model": body.pop("model"), "max_tokens": limit}
    if system:
        params["system"] = system
    params["messages"] = messages
    stop = body.pop("stop", None)
    if stop:
        params["stop_sequences"] = stop if isinstance(stop, list) else [stop]
    user = body.pop("user", None)
    if isinstance(user, str):
        params["metadata"] = {"user_id": user}
    if _are_functions(body.get("tools")):
        raise ValueError('"tools" are in OpenAI\'s form; write them as Anthropic has them')
    return {**body, **params}, notes


def _are_functions(tools: object) -> bool:
    return isinstance(tools, list) and any(
        isinstance(tool, dict) and "function" in tool for tool in tools
    )


def _conversation(messages: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the system's text and the other messages."""
    system, others = [], []
    for number, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role in _SYSTEM_ROLES:
            system.append(_text_of(content, number))
        elif role in {"user", "assistant"}:
            content = _with_images(content)
            _check_content(content, number)
            others.append({"role": role, "content": content})
        else:
            raise ValueError(f'"messages"[{number}] is of role {role!r}, which Anthropic has not')
    if not others:
        raise ValueError("it has no message of a user, which Anthropic wants")
    return "\n\n".join(filter(None, system)), others


def _with_images(content: object) -> object:
    """Return a message's content with its images as Anthropic writes them."""
    if not isinstance(content, list):
        return content
    return [
        {"type": "image", "source": _source_of(sources[0])}
        if (sources := images.of_messages([{"content": [part]}]))
        else part
        for part in content
    ]


def _source_of(url: str) -> dict[str, str]:
    head, comma, data = url.partition(";base64,")
    if comma and head.startswith("data:"):
        return {"type": "base64", "media_type": head.removeprefix("data:"), "data": data}
    return {"type": "url", "url": url}


def _text_of(content: object, number: int) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f'"messages"[{number}] has content that is no text')
    return "".join(text for text in texts if text)


def _check_content(content: object, number: int) -> None:
    if isinstance(content, str):
        if not content.strip():
            raise ValueError(f'"messages"[{number}] is empty, which Anthropic refuses')
        return
    kinds = {
        part.get("type") if isinstance(part, dict) else None
        for part in (content if isinstance(content, list) else [None])
    }
    if not kinds or None in kinds:
        raise ValueError(f'"messages"[{number}] has no content that can be sent')
    if kinds & _OPENAI_PARTS:
        named = ", ".join(sorted(str(kind) for kind in kinds & _OPENAI_PARTS))
        raise ValueError(f"\"messages\"[{number}] has {named} in OpenAI's form, not Anthropic's")
