"""The wish to stop: every wait ends at once, what is paid for is kept, callbacks run once."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support import KEYS, FakeClock

from jsonl_runner.attempts import Answer, Kind, Verdict
from jsonl_runner.callers import FunctionCaller
from jsonl_runner.clock import Stop, SystemClock
from jsonl_runner.keys import Rotator
from jsonl_runner.prompts import Request
from jsonl_runner.records import Outcome, Record
from jsonl_runner.review import Review
from jsonl_runner.secret import Redactor, Secret
from jsonl_runner.worker import Caller, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from jsonl_runner.clock import Clock


def test_the_first_reason_to_stop_is_kept() -> None:
    """What is told to the user is what came first; a stop without a reason may get one later."""
    stop, first = Stop(), ValueError("first")
    stop.request()
    assert stop.requested
    assert stop.reason is None
    stop.request(first)
    stop.request(ValueError("second"))
    assert stop.reason is first
    assert not stop.aborted


def test_callbacks_run_once_whenever_they_come() -> None:
    """Asked before or after the stop, a callback runs once; an abort is a stop as well."""
    stop, told = Stop(), list[str]()
    stop.on_request(lambda: told.append("stop"))
    stop.on_abort(lambda: told.append("abort"))
    stop.request()
    stop.request()
    assert told == ["stop"]
    stop.on_request(lambda: told.append("late stop"))
    stop.abort()
    stop.abort()
    stop.on_abort(lambda: told.append("late abort"))
    assert told == ["stop", "late stop", "abort", "late abort"]
    assert stop.aborted


def test_an_abort_alone_is_a_stop_too() -> None:
    """Whoever aborts need not ask to stop first."""
    stop, told = Stop(), list[str]()
    stop.on_request(lambda: told.append("stop"))
    stop.abort()
    assert stop.requested
    assert told == ["stop"]


def test_a_callback_may_ask_to_stop_again() -> None:
    """A signal in the middle of a stop does not lock up the thread that is stopping."""
    stop, told = Stop(), list[str]()

    def again() -> None:
        told.append("once")
        stop.request()
        stop.abort()

    stop.on_request(again)
    thread = threading.Thread(target=stop.request, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert told == ["once"]
    assert stop.aborted


def test_a_pause_lasts_its_time_or_until_the_stop() -> None:
    """On the real clock: a short pause ends by itself, a long one at the stop."""
    stop, clock = Stop(), SystemClock()
    before = clock.now()
    assert stop.pause(0.02, clock) is False
    assert 0.015 < clock.now() - before < 2
    threading.Timer(0.05, stop.request).start()
    before = clock.now()
    assert stop.pause(60, clock) is True
    assert clock.now() - before < 2
    assert stop.pause(60, clock) is True


def test_the_system_clock_tells_the_time() -> None:
    """`wall` is the seconds since 1970, `now` never runs backwards."""
    clock = SystemClock()
    assert abs(clock.wall() - time.time()) < 5
    first = clock.now()
    assert clock.now() >= first


class Scripted:
    """A provider of a test's own: its verdicts in order, then answers; `during` runs in a call."""

    def __init__(self, *verdicts: Verdict, during: Callable[[], None] = lambda: None) -> None:
        self._verdicts = list(verdicts)
        self._during = during

    def prepare(self, _record: Record) -> Request:
        return Request(b"{}", 1, "m")

    def attempt(self, _record: Record, _request: Request, _key: str) -> Verdict:
        self._during()
        ok = Verdict(Kind.OK, answer=Answer("text", "stop", "m", {"cost": 0.5}))
        return self._verdicts.pop(0) if self._verdicts else ok

    def correct(self, _request: Request, _verdict: Verdict) -> tuple[bool, str | None]:
        return False, None

    def again(self, record: Record, _answer: str, _reason: str) -> Record:
        return record


def worker_of(caller: Caller, clock: Clock, stop: Stop) -> Worker:
    secrets, rng = [Secret(KEYS[0], 1)], random.Random(3)
    rotator = Rotator(secrets, concurrency=4, clock=clock, rng=rng)
    stop.on_request(rotator.wake)
    return Worker(
        caller,
        rotator,
        Review(None, Redactor(secrets)),
        max_retries=3,
        clock=clock,
        stop=stop,
        redact=Redactor(secrets),
        note=lambda _: None,
        rng=rng,
    )


ROW = Record("7", "Repeat.", "row")
LATER = Verdict(Kind.TRANSIENT, "server_error", "HTTP 503", retry_after_s=60)


def test_a_retry_waits_as_long_as_the_server_asks(clock: FakeClock) -> None:
    """Retry-After of a 503 is the least that the row waits."""
    outcome = worker_of(Scripted(LATER, LATER), clock, Stop())(ROW)
    assert outcome is not None
    assert (outcome.output, outcome.attempts, outcome.cost) == ("text", 3, 0.5)
    assert [wait_s >= 60 for wait_s in clock.waits] == [True, True]


@pytest.mark.parametrize("kind", [Kind.TRANSIENT, Kind.RATE_LIMITED, Kind.UNREACHABLE])
def test_a_stop_during_a_wait_ends_it_at_once(kind: Kind) -> None:
    """On a real clock: Ctrl-C in a wait of a minute gives the row back unwritten."""
    stop, found = Stop(), list[Outcome | None]()
    caller = Scripted(*[Verdict(kind, "busy", "words", retry_after_s=60)] * 9)
    work = worker_of(caller, SystemClock(), stop)
    thread = threading.Thread(target=lambda: found.append(work(ROW)))
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    asked = time.monotonic()
    stop.request()
    thread.join(5)
    assert time.monotonic() - asked < 1
    assert found == [None]


def test_a_stop_lets_a_call_in_flight_finish(clock: FakeClock) -> None:
    """The first Ctrl-C during a call: its answer is paid for and becomes the output."""
    stop = Stop()
    outcome = worker_of(Scripted(during=stop.request), clock, stop)(ROW)
    assert outcome is not None
    assert outcome.output == "text"


def test_an_answer_that_arrives_with_an_abort_is_kept(clock: FakeClock) -> None:
    """The second Ctrl-C as well: what has been paid for is not thrown away."""
    stop = Stop()
    outcome = worker_of(Scripted(during=stop.abort), clock, stop)(ROW)
    assert outcome is not None
    assert outcome.output == "text"


def test_a_users_function_may_fail_and_must_return_a_text(clock: FakeClock) -> None:
    """What it raises is tried again; what is no text is null with its reason."""
    answers: list[object] = [OSError("one"), "good", 7]

    def function(_record: Record, key: str) -> str:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise OSError(f"{answer} {key}")
        return answer  # type: ignore[return-value]  # what a careless function does

    work = worker_of(FunctionCaller(function, clock), clock, Stop())
    first, second = work(ROW), work(ROW)
    assert first is not None
    assert (first.output, first.attempts) == ("good", 2)
    assert second is not None
    assert (second.output, second.code) == (None, "no_text")


def test_no_key_in_the_reason_of_a_failure(clock: FakeClock) -> None:
    """An error text that echoes the key reaches the call log with the label instead."""
    caller = Scripted(Verdict(Kind.ROW_FAULT, "bad", f"no {KEYS[0]} here"))
    outcome = worker_of(caller, clock, Stop())(ROW)
    assert outcome is not None
    assert outcome.message == "no #1(…0001) here"
