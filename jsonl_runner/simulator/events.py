"""Answers in pieces: server-sent events as OpenAI's API sends them to `"stream": true`.

https://developers.openai.com/api/reference/resources/chat/subresources/completions/streaming-events
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import orjson

from .http import JSON_TYPE, chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .http import Connection, Response

EVENTS_TYPE = "text/event-stream; charset=utf-8"
# Characters of text in one event: about a token.
PIECE_CHARS = 4
DONE = b"data: [DONE]\n\n"


def wants_events(body: Mapping[str, Any]) -> bool:
    """Whether a request asks for its answer in pieces."""
    return body.get("stream") is True


def events_of(completion: Mapping[str, Any], *, with_usage: bool) -> Iterator[bytes]:
    """The events of a chat.completion: who speaks, the pieces, why it ends, what it cost."""
    frame = {
        **{name: completion[name] for name in ("id", "created", "model")},
        "object": "chat.completion.chunk",
    }
    usage = {"usage": None} if with_usage else {}

    def event(choices: list[dict[str, Any]], fields: dict[str, Any] = usage) -> bytes:
        return b"data: " + _json({**frame, "choices": choices, **fields}) + b"\n\n"

    choices = completion["choices"]
    for choice in choices or ():
        deltas = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += _deltas(choice["message"])
        for delta in deltas:
            yield event([{"index": 0, "delta": delta, "finish_reason": None}])
        yield event([{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}])
    if with_usage:
        yield event([], {"usage": completion["usage"]})
    yield DONE


def streamed(response: Response, body: Mapping[str, Any]) -> list[bytes] | None:
    """A complete answer as events; None if it is no answer that a provider would stream."""
    if response.status != 200 or response.content_type != JSON_TYPE:
        return None
    try:
        answer = json.loads(response.body)  # not orjson, which refuses half an emoji
    except ValueError:
        return None
    if answer.get("object") == "chat.completion":
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        return list(events_of(answer, with_usage=with_usage))
    return None


def broken_off(events: list[bytes], response: Response) -> list[bytes]:
    """Half of an answer's events, and then an error's body as one more."""
    return [*events[: len(events) // 2], b"data: " + response.body + b"\n\n"]


async def play(
    connection: Connection,
    headers: tuple[tuple[str, str], ...],
    events: list[bytes],
    latency_s: float,
    finished: Callable[[], None],
) -> None:
    """Send events spread evenly over `latency_s`; `finished` is called before the last goes out."""
    connection.begin(headers, length=None, content_type=EVENTS_TYPE)
    if latency_s > 0:
        pause_s = latency_s / len(events)
        for one in events[:-1]:
            await asyncio.sleep(pause_s)
            connection.write(chunk(one))
        await asyncio.sleep(pause_s)
        events = events[-1:]
    finished()
    connection.write(b"".join(map(chunk, events)) + chunk(b""))
    connection.end()


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("content", "refusal"):
        for piece in _pieces(message.get(name) or ""):
            yield {name: piece}
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        yield {
            "tool_calls": [
                {"index": number, **call, "function": {"name": function["name"], "arguments": ""}}
            ]
        }
        for piece in _pieces(function["arguments"]):
            yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE_CHARS):
        yield text[start : start + PIECE_CHARS]


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # half an emoji
        return json.dumps(value).encode("ascii")
