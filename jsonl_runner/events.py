"""Answers that come in pieces: server-sent events put together to the completion they stand for.

The events: https://html.spec.whatwg.org/multipage/server-sent-events.html; what they hold:
https://developers.openai.com/api/reference/resources/chat/subresources/completions/streaming-events
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from .errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BOM = b"\xef\xbb\xbf"
_DONE = b"[DONE]"
#: Fields of a chunk that say what the whole answer is.
_ABOUT = ("id", "created", "model", "system_fingerprint", "service_tier")
#: What a piece adds to a text that has begun; of all other fields the last one counts.
_TEXTS = ("content", "refusal", "reasoning_content")


class EventParser:
    """Cuts the body of an event stream into the data of its events.

    It may be fed in pieces cut anywhere, in the middle of a character too. Comments (a server's
    sign of life) and other fields than `data` are left out.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._is_first = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take what has come; yield the data of each event that is whole."""
        first, *others = chunk.split(b"\n")
        self._line.append(first)
        for part in others:
            line = b"".join(self._line)
            self._line = [part]
            yield from self._take(line)

    def finish(self) -> Iterator[bytes]:
        """Yield the data of an event that lacks only its empty line, at the end of the body."""
        line = b"".join(self._line)
        self._line = []
        yield from self._take(line)
        yield from self._take(b"")

    def _take(self, line: bytes) -> Iterator[bytes]:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        line = line.removesuffix(b"\r")
        if not line:
            data, self._data = self._data, []
            if data:
                yield b"\n".join(data)
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))


class StreamedCompletion:
    """Puts a chat completion together from the events that bring it.

    Args:
        on_text: is given each piece of the first choice's text, as it comes.
    """

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._parser = EventParser()
        self._about: dict[str, Any] = {}
        self._message: dict[str, Any] = {"role": "assistant"}
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish_reason: str | None = None
        self._error: Any = None
        self._is_done = self._has_choice = False
        #: Half an emoji, whose other half comes with the next piece.
        self._half = ""
        #: Whether any event has come; if not, the body is something else.
        self.has_begun = False

    def feed(self, chunk: bytes) -> None:
        """Take a part of the body.

        Raises:
            TransportError: an event is no JSON object.
        """
        for data in self._parser.feed(chunk):
            self._take(data)

    @property
    def is_whole(self) -> bool:
        """Whether the end of the answer, or the server's word on its failure, has come."""
        return self._is_done or self._finish_reason is not None or self._error is not None

    def result(self) -> dict[str, Any]:
        """Return the completion (or the error that came in its place) at the end of the body.

        Raises:
            TransportError: the stream ended before the answer did.
        """
        for data in self._parser.finish():
            self._take(data)
        if self._error is not None:
            return {"error": self._error}
        if not self.is_whole:
            raise TransportError(
                "cut_off", "the stream ended before the answer was whole", connected=True
            )
        if self._half:
            self._on_text("\ufffd")
            self._half = ""
        return {**self._about, "object": "chat.completion", "choices": self._choices()}

    def _choices(self) -> list[dict[str, Any]]:
        if not self._has_choice:
            return []
        message = dict(self._message)
        message.update({name: _mended("".join(parts)) for name, parts in self._texts.items()})
        if self._calls:
            message["tool_calls"] = [self._calls[number] for number in sorted(self._calls)]
        message.setdefault("content", None)
        return [{"index": 0, "message": message, "finish_reason": self._finish_reason}]

    def _take(self, data: bytes) -> None:
        self.has_begun = True
        if self._is_done or self._error is not None:
            return
        if data.strip() == _DONE:
            self._is_done = True
            return
        event = _load(data)
        if event.get("error"):
            self._error = event["error"]
            return
        for name in _ABOUT:
            if event.get(name) is not None:
                self._about.setdefault(name, event[name])
        if isinstance(event.get("usage"), dict):  # some tell it with every event: the last counts
            self._about["usage"] = event["usage"]
        for choice in event.get("choices") or ():
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                self._add(choice)

    def _add(self, choice: dict[str, Any]) -> None:
        self._has_choice = True
        delta = choice.get("delta")
        for name, value in (delta if isinstance(delta, dict) else {}).items():
            if name in _TEXTS:
                if isinstance(value, str) and value:
                    self._texts.setdefault(name, []).append(value)
                    if name == "content":
                        self._tell(value)
            elif name == "tool_calls":
                for call in value if isinstance(value, list) else ():
                    self._add_call(call)
            elif value is not None:
                self._message[name] = value
        finish = choice.get("finish_reason")
        if isinstance(finish, str):
            self._finish_reason = finish

    def _add_call(self, piece: Any) -> None:
        if not isinstance(piece, dict):
            return
        number = piece.get("index")
        known = self._calls.setdefault(number if isinstance(number, int) else 0, {})
        for name, value in piece.items():
            if name == "function" and isinstance(value, dict):
                function = known.setdefault("function", {"name": "", "arguments": ""})
                for part, text in value.items():
                    if isinstance(text, str):
                        function[part] = function.get(part, "") + text
            elif name != "index" and value is not None:
                known[name] = value

    def _tell(self, text: str) -> None:
        text = self._half + text
        self._half = ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        if text:
            self._on_text(_mended(text))


def _load(data: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            event = json.loads(data)  # half an emoji is left as it is: the rest may follow
        except (ValueError, RecursionError):
            event = None
    if not isinstance(event, dict):
        raise TransportError(
            "malformed", "an event of the stream is no JSON object", connected=True
        )
    return event


def _mended(text: str) -> str:
    """Return a text whose halves of emojis are joined, or U+FFFD where one is missing."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
