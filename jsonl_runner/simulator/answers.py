"""The answers: pure functions of a request, so that a test can compute what each row must get."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import orjson

from .samples import shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Characters of the last user text repeated in the answer: enough to recognise it, cheap to send.
ECHO_CHARS = 200
# Hexadecimal digits of the digest: 48 bits, no collision among millions of test rows.
DIGEST_CHARS = 12
# OpenAI's rule of thumb for English text.
CHARS_PER_TOKEN = 4

UNSET: Any = object()


def message_texts(body: Mapping[str, Any]) -> list[str]:
    """The text of every message, in order; text parts of one message are joined."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return []
    return [_text_of(message) for message in messages if isinstance(message, dict)]


def last_user_text(body: Mapping[str, Any]) -> str:
    """The text of the last message with role `user`, or an empty string."""
    messages = body.get("messages")
    if isinstance(messages, list):
        for message in reversed(messages):
            if isinstance(message, dict) and message.get("role") == "user":
                return _text_of(message)
    return ""


def answer_text(body: Mapping[str, Any]) -> str:
    """The answer to a chat request: a digest of its model and messages, then its last user text.

    The same messages and model always give the same text. Where `response_format` asks for JSON,
    it is JSON that holds this text; nothing else of the body matters.
    """
    source = orjson.dumps([body.get("model"), body.get("messages")], option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(source).hexdigest()[:DIGEST_CHARS]
    text = f"[simulated] {digest} {last_user_text(body)[:ECHO_CHARS]}".rstrip()
    wanted = shaped(body.get("response_format"), text)
    return text if wanted is None else orjson.dumps(wanted).decode()


def texts_before_answer(body: Mapping[str, Any], mark: str) -> list[str]:
    """The texts up to the first answer to the last message that holds a mark; else all texts.

    Whoever is asked again, with his answer and what was wrong with it, is asked the same.
    """
    messages = body.get("messages")
    texts = message_texts(body)
    if not isinstance(messages, list):
        return texts
    answers = [m.get("role") == "assistant" for m in messages if isinstance(m, dict)]
    marked = [n for n, text in enumerate(texts) if mark in text and not answers[n]]
    end = answers.index(True, marked[-1]) if marked and True in answers[marked[-1] :] else None
    return texts[:end]


def count_tokens(chars: int) -> int:
    """The tokens `chars` characters are billed as: a quarter, at least one."""
    return max(1, chars // CHARS_PER_TOKEN)


def usage_of(
    body: Mapping[str, Any], content: str, tokenizer: Callable[[str], int] | None = None
) -> dict[str, Any]:
    """The `usage` object of an answer with this content; see `SimulatorSettings.tokenizer`."""
    if tokenizer is None:
        prompt = count_tokens(sum(map(len, message_texts(body))))
        completion = count_tokens(len(content))
    else:
        prompt, completion = _prompt_tokens(body, tokenizer), tokenizer(content)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def completion(
    body: Mapping[str, Any],
    number: int,
    *,
    content: str | None = UNSET,
    finish_reason: str = "stop",
    refusal: str | None = None,
    tool_calls: list[dict[str, Any]] | None = None,
    tokenizer: Callable[[str], int] | None = None,
) -> dict[str, Any]:
    """A chat.completion object for call `number`; `content` is `answer_text(body)` if not given."""
    if content is UNSET:
        content = answer_text(body)
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal}
    if tool_calls is not None:
        message["tool_calls"] = tool_calls
    return {
        "id": f"chatcmpl-sim-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": usage_of(body, content or "", tokenizer),
    }


def error_body(
    message: str, *, type_: str, code: str | None = None, param: str | None = None
) -> bytes:
    """An error in OpenAI's shape, as JSON."""
    return orjson.dumps(
        {"error": {"message": message, "type": type_, "param": param, "code": code}}
    )


def _prompt_tokens(body: Mapping[str, Any], tokenizer: Callable[[str], int]) -> int:
    """As OpenAI's cookbook counts: three a message beside role and text, three for the answer."""
    messages = [message for message in body.get("messages", ()) if isinstance(message, dict)]
    texts = [text for m in messages for text in (str(m.get("role")), _text_of(m))]
    return 3 + 3 * len(messages) + sum(map(tokenizer, texts))


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return ""
