"""How often the headers of an answer are asked for."""

from __future__ import annotations

from typing import Any

import pytest
from support import KEYS, FakeClock

from jsonl_runner.attempts import Kind, Reply
from jsonl_runner.callers import ChatCaller
from jsonl_runner.prompts import Composer
from jsonl_runner.records import Record

ANSWER = b'{"choices": [{"message": {"content": "text"}, "finish_reason": "stop"}]}'
ROW = Record("1", "Repeat.", "text")


class Recorder:
    """A transport that answers at once, and remembers for which calls the head was wanted."""

    def __init__(self, remaining: int | None) -> None:
        lines = ["HTTP/1.1 200 OK"]
        if remaining is not None:
            lines.append("x-ratelimit-limit-requests: 1000000")
            lines.append(f"x-ratelimit-remaining-requests: {remaining}")
        self.head = "\r\n".join([*lines, "", ""]).encode()
        self.status = 200
        self.wanted: list[bool] = []

    def post(self, path: str, body: bytes, key: str, *, with_head: bool = True, **_: Any) -> Reply:
        self.wanted.append(with_head)
        return Reply(self.status, self.head if with_head else b"", ANSWER)

    def get(self, path: str, key: str) -> Reply:
        raise NotImplementedError

    def abort(self) -> None: ...

    def hang_up(self, thread: int) -> None: ...

    def close(self) -> None: ...


def caller_of(transport: Recorder) -> ChatCaller:
    return ChatCaller(transport, Composer("m", {}), FakeClock())


def attempt(caller: ChatCaller, times: int = 1) -> None:
    for _ in range(times):
        caller.attempt(ROW, caller.prepare(ROW), KEYS[0])


@pytest.mark.parametrize(
    ("remaining", "every"), [(None, 10), (999, 1), (1000, 10), (5000, 50), (900_000, 100)]
)
def test_the_farther_the_limit_the_fewer_calls_ask(remaining: int | None, every: int) -> None:
    """What is sent untold is less than one in a hundred of what is left."""
    transport = Recorder(remaining)
    attempt(caller_of(transport), 1 + 3 * every)
    asked = [number for number, wanted in enumerate(transport.wanted) if wanted]
    assert asked == [*range(0, 1 + 3 * every, every)]


def test_calls_beside_the_one_that_asks_do_not_ask_too() -> None:
    """The answer that brings the headers is under way for long; nine calls beside it do without."""

    class Slow(Recorder):
        depth = 0

        def post(
            self, path: str, body: bytes, key: str, *, with_head: bool = True, **_: Any
        ) -> Reply:
            reply = super().post(path, body, key, with_head=with_head)
            if with_head and len(self.wanted) > 1 and not self.depth:
                self.depth = 1
                attempt(caller, 9)
            return reply

    transport = Slow(None)
    caller = caller_of(transport)
    attempt(caller, 11)
    assert transport.wanted == [True, *[False] * 9, True, *[False] * 9]


def test_after_a_failure_every_call_asks() -> None:
    """Then the limits matter again, until a success says that they are far."""
    transport = Recorder(900_000)
    caller = caller_of(transport)
    attempt(caller, 2)
    transport.status = 500
    assert caller.attempt(ROW, caller.prepare(ROW), KEYS[0]).kind is Kind.TRANSIENT
    attempt(caller, 2)
    transport.status = 200
    attempt(caller, 2)
    assert transport.wanted == [True, False, False, True, True, True, False]
