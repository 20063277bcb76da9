"""From a Record to the body of a chat completion request."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from . import images, jsontext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .records import Record

#: What a token is at least, in bytes of JSON: English is about four characters a token, Chinese
#: about three bytes a character and less than a token each. Only used to spread calls over limits.
_BYTES_PER_TOKEN = 4
#: Tokens an image is taken for: what OpenAI's and Anthropic's models book for one of about a
#: megapixel. Its bytes say nothing of them.
_IMAGE_TOKENS = 1000

#: Refused by name and replaced: the old and the new word for one limit (OpenAI's reasoning models
#: know the new one only, many compatible servers the old one only).
_RENAMED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
#: Refused by name and left out: they colour an answer, but an answer without them is still one.
_DROPPED = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})


#: What is said to a model whose answer is not the JSON that was asked for, behind that answer.
ASK_AGAIN = (
    "That answer cannot be used: {reason}. Answer again, with the corrected JSON and nothing else: "
    "no code fence, no explanation."
)

#: Weight of the newest answer in the running mean of what answers add to their prompts.
_NEWEST = 1 / 16


class Request(NamedTuple):
    """A request ready to be sent.

    Attributes:
        body: the JSON.
        tokens: what it is expected to use, answer included.
        model: the model it asks for.
        size: what is known of its tokens beforehand: the prompt, and `max_tokens` if given.
        excess: bytes of the JSON beyond what its tokens are worth: an image's.
        shape: the `response_format` that it asks for; None: none.
        sample: which of several answers to this request is wanted, from 0.
    """

    body: bytes
    tokens: int
    model: str
    size: int = 1
    excess: int = 0
    shape: Any = None
    sample: int = 0

    @property
    def weight(self) -> int:
        """Bytes by which its tokens can be estimated."""
        return len(self.body) - self.excess


def messages_of(record: Record) -> list[dict[str, Any]]:
    """Return the conversation: the row's own, or instruction as system and input as user.

    With no input, the instruction is the user's message: a chat without one is refused by some.
    Keys that hold null, as tables fill them in, are left out of a row's own.
    """
    messages = _messages_of(record)
    return images.with_images(messages, record.images) if record.images else messages


def _messages_of(record: Record) -> list[dict[str, Any]]:
    if record.messages is not None:
        return [_filled(message) for message in record.messages]
    if not record.input:
        return [{"role": "user", "content": record.instruction}]
    if not record.instruction:
        return [{"role": "user", "content": record.input}]
    return [
        {"role": "system", "content": record.instruction},
        {"role": "user", "content": record.input},
    ]


def _filled(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without what a table with a column for each key put into it.

    APIs refuse a null `name`, and `tool_calls` that are null or none.
    """
    content = message.get("content")
    if isinstance(content, list):
        message = {**message, "content": [_some(part) for part in content]}
    if None not in message.values() and message.get("tool_calls") != []:
        return message
    return {
        name: value
        for name, value in message.items()
        if name == "content" or (value is not None and (name, value) != ("tool_calls", []))
    }


def _some(part: Any) -> Any:
    if not isinstance(part, dict) or None not in part.values():
        return part
    return {name: value for name, value in part.items() if value is not None}


def shape_of(record: Record, default: object) -> object:
    """Return the `response_format` of a Record's request, `default` where it names none."""
    return (record.params or {}).get("response_format", default)


def asking_again(record: Record, answer: str, reason: str) -> Record:
    """Return a Record that tells the model what is wrong with its answer.

    Args:
        record: what was asked; a Record that was returned here before has all its answers.
        answer: the one that will not do.
        reason: why, in a line.
    """
    said = [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": ASK_AGAIN.format(reason=reason)},
    ]
    return replace(record, messages=[*messages_of(record), *said])


def texts_of(record: Record) -> tuple[str, str]:
    """Return instruction and input for a function that takes two texts.

    Of a row with `messages`, that is its first system message and its last user message.
    """
    if record.messages is None:
        return record.instruction, record.input

    def of_role(role: str) -> list[str]:
        found = [m.get("content") for m in record.messages or () if m["role"] == role]
        return list(map(text_of, found)) or [""]

    return of_role("system")[0], of_role("user")[-1]


def text_of(content: object) -> str:
    """Return the text of a message's content, which may be one, or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def readable(message: Mapping[str, Any]) -> str:
    """Return a message to be read: its texts, a word for each image, and the tools it calls."""
    said = _readable(message.get("content"))
    calls = message.get("tool_calls")
    return "\n".join(filter(None, (said, jsontext.dump(calls).decode() if calls else "")))


def _readable(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return "" if content is None else jsontext.dump(content).decode()
    shown = []
    for part in content:
        sources = images.of_messages([{"content": [part]}])
        if sources:
            shown.append(f"[image: {images.shortened(sources[0])}]")
        else:
            shown.append(text_of([part]) or jsontext.dump(part).decode())
    return "\n".join(shown)


class Composer:
    """Builds request bodies, and learns which parameters a model refuses.

    Args:
        model: used where a row names none.
        params: request parameters of the run; a row's own go before them.
    """

    def __init__(self, model: str, params: Mapping[str, Any]) -> None:
        self._model = model
        self._params = dict(params)
        self._lock = threading.Lock()
        #: What calls use, as a multiple of their `size`.
        self._factor = 1.0
        self._answers = 0
        #: model -> parameter -> its replacement, None to leave it out. Replaced whole, so that
        #: readers need no lock.
        self._corrections: dict[str, dict[str, str | None]] = {}

    @property
    def shape(self) -> object:
        """The `response_format` of the run; None: there is none."""
        return self._params.get("response_format")

    def compose(self, record: Record) -> Request:
        """Return the request for a Record.

        Raises:
            ImageError: an image of it cannot be read.
        """
        body = {"model": self._model, **self._params}
        if record.params:
            body.update(record.params)
        model = body["model"]
        if self._corrections:
            for param, replacement in self._corrections.get(model, {}).items():
                if param in body:
                    value = body.pop(param)
                    if replacement is not None:
                        body.setdefault(replacement, value)
        body["messages"] = messages = messages_of(record)
        sources = images.of_messages(messages)
        if sources:
            body["messages"] = images.replaced(messages, images.data_url)
        data = jsontext.dump(body)
        excess = 0
        if sources:
            sent = sum(map(len, images.of_messages(body["messages"])))
            excess = sent - len(sources) * _IMAGE_TOKENS * _BYTES_PER_TOKEN
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 0
        size = (len(data) - excess) // _BYTES_PER_TOKEN + (limit if isinstance(limit, int) else 0)
        size = max(1, size)
        tokens = math.ceil(size * self._factor)
        shape = body.get("response_format")
        return Request(data, tokens, model, size, excess, shape, record.sample)

    def learn(self, request: Request, usage: Mapping[str, Any]) -> None:
        """Take note of what a call used, so that the next ones are expected to use as much."""
        used = usage.get("total_tokens")
        if isinstance(used, int) and used > 0:
            # Two threads may overwrite each other's step; the mean does not mind. Never below what
            # is known beforehand: providers book max_tokens when they admit a request.
            self._answers += 1
            step = max(1.0, used / request.size) - self._factor
            self._factor += step * max(_NEWEST, 1 / self._answers)

    def correct(self, request: Request, param: str) -> tuple[bool, str | None]:
        """Take note that the model refused `param` in this request.

        Returns:
            Whether the row may be sent again, and what to tell the user (None when another row
            has brought the news already).
        """
        body = orjson.loads(request.body)
        if param not in body or (param not in _RENAMED and param not in _DROPPED):
            return False, None
        replacement = _RENAMED.get(param)
        with self._lock:
            known = self._corrections.get(request.model, {})
            if param in known:
                return True, None
            if replacement is not None and replacement in known:
                return False, None  # it refuses both words: nothing left to try
            self._corrections = {
                **self._corrections,
                request.model: {**known, param: replacement},
            }
        if replacement is None:
            return True, f"{request.model} does not take {param}: left out for the whole run"
        return True, f"{request.model} does not take {param}: sent as {replacement} instead"
