"""Token buckets: configured limits kept to the letter, announced ones kept by dead reckoning."""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import KEYS, FakeClock

from jsonl_runner.attempts import Kind, RateLimit, Reply, Verdict
from jsonl_runner.buckets import Bucket, LearnedBucket
from jsonl_runner.clock import Stop
from jsonl_runner.keys import Rotator
from jsonl_runner.retry import classify
from jsonl_runner.secret import Secret
from jsonl_runner.simulator.limits import go_duration

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from jsonl_runner.key import Lease

MINUTES = 10
ANSWER = json.dumps({"choices": [{"message": {"content": "x"}}]}).encode()


class EventClock(FakeClock):
    """A clock on which a wait lasts until its end or the next event, whichever comes first."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, due: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (due, next(self._numbers), action))

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        due = self._events[0][0] if self._events else math.inf
        if seconds is not None and self.now() + seconds < due:
            # A billionth more: the books must not turn on the rounding of floats.
            self.advance(seconds + 1e-9)
            return
        assert self._events, "the rotator waits for something that will never come"
        self.advance(max(0.0, due - self.now()))
        heapq.heappop(self._events)[2]()


@dataclass
class Server:
    """A provider that lets `rate` requests a second pass, `burst` at once, and says so somehow."""

    dialect: str
    rate: float
    burst: float
    retry_after: bool = True
    level: float = field(init=False)
    stamp: float = field(default=1000.0, init=False)
    window_ends: float = field(default=1000.0, init=False)
    served: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.level = self.burst

    def _refill(self, now: float) -> None:
        if self.dialect == "window":
            while now >= self.window_ends:
                self.window_ends += self.burst / self.rate
                self.level = self.burst
            return
        self.level = min(self.burst, self.level + (now - self.stamp) * self.rate)
        self.stamp = now

    def _headers(self, wait_s: float, now: float) -> dict[str, str]:
        limit, full_s = self.burst, (self.burst - self.level) / self.rate
        next_s = max(0.0, (1 - self.level) / self.rate)
        resets = {
            "full": full_s,  # OpenAI: until the limit is whole
            "next": next_s,  # until one more request fits
            "window": self.window_ends - now,  # Groq, Azure: until the window ends
            "minute": full_s,  # the limit is a minute's, the bucket is smaller
        }
        if self.dialect in {"next", "minute"}:
            limit = self.rate * 60
        headers = {
            "x-ratelimit-limit-requests": str(round(limit)),
            "x-ratelimit-remaining-requests": str(max(0, math.floor(self.level))),
            "x-ratelimit-reset-requests": go_duration(resets[self.dialect]),
        }
        if wait_s > 0 and self.retry_after:
            headers["retry-after-ms"] = str(math.ceil(wait_s * 1000))
        return headers

    def decide(self, now: float) -> Reply:
        self._refill(now)
        wait_s = 0.0
        if self.level >= 1 - 1e-9:
            self.level -= 1
            self.served += 1
        else:
            self.refused += 1
            wait_s = (1 - self.level) / self.rate
            if self.dialect == "window":
                wait_s = self.window_ends - now
        lines = (f"{name}: {value}" for name, value in self._headers(wait_s, now).items())
        head = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()
        return Reply(429 if wait_s else 200, head, b"{}" if wait_s else ANSWER)


def drive(server: Server, *, latency_s: float = 1.0, concurrency: int = 64) -> None:
    """Call the server through a rotator with one key, for MINUTES of virtual time."""
    clock, rng, stop = EventClock(), random.Random(1), Stop()
    rotator = Rotator(
        [Secret(KEYS[0], 1)], concurrency=concurrency, clock=clock, rng=random.Random(2)
    )
    end = clock.now() + MINUTES * 60

    def send(lease: Lease) -> None:
        replies: list[Reply] = []
        there = clock.now() + latency_s * rng.uniform(0.1, 0.5)
        back = there + latency_s * rng.uniform(0.1, 0.9)
        clock.at(there, lambda: replies.append(server.decide(clock.now())))
        clock.at(back, lambda: rotator.release(lease, classify(replies[0], clock.wall())))

    while clock.now() < end:
        lease = rotator.acquire(100, stop)
        assert lease is not None
        send(lease)


@pytest.mark.parametrize("retry_after", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize(
    ("dialect", "per_minute", "burst"),
    [
        ("full", 60, 60),
        ("full", 600, 600),
        ("full", 600, 10),
        ("next", 60, 60),
        ("next", 600, 10),
        ("window", 60, 60),
        ("window", 600, 600),
        ("minute", 600, 10),
        ("minute", 60, 10),
    ],
)
def test_announced_limits_are_used_and_kept(
    dialect: str, per_minute: int, burst: int, *, retry_after: bool
) -> None:
    """Whatever `reset` means to a provider: 80 % of its rate is used, few calls are refused."""
    server = Server(dialect, per_minute / 60, burst, retry_after)
    drive(server)
    allowed = per_minute * MINUTES + burst
    assert server.served >= 0.8 * allowed, (server.served, allowed)
    assert server.refused <= 0.08 * server.served, (server.refused, server.served)


@pytest.mark.parametrize("dialect", ["full", "next"])
def test_a_bucket_of_one_request_is_used_though_not_well(dialect: str) -> None:
    """With no room for jitter at all, the work still goes on at 45 % of the rate or more.

    Known and accepted: a call sent exactly in time arrives too early every other time. To wait
    longer after refusals was measured; it cost larger buckets more than it brought this one.
    """
    server = Server(dialect, 1.0, 1, retry_after=True)
    drive(server)
    assert server.served >= 0.45 * 60 * MINUTES


@pytest.mark.parametrize("per_minute", [6, 60, 500, 6000])
@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_a_configured_limit_is_kept_and_used(kind: str, per_minute: int) -> None:
    """No minute holds more than the configured limit and its burst, and none much less."""
    clock, stop, cost = FakeClock(), Stop(), 1 if kind == "requests" else 3
    rotator = Rotator(
        [Secret(KEYS[0], 1)],
        concurrency=8,
        clock=clock,
        rng=random.Random(1),
        requests_per_minute=per_minute if kind == "requests" else None,
        tokens_per_minute=per_minute if kind == "tokens" else None,
    )
    start, recent, total = clock.now(), deque[float](), 0
    while clock.now() < start + 300:
        lease = rotator.acquire(3, stop)
        assert lease is not None
        rotator.release(lease, Verdict(Kind.OK))
        total += cost
        recent.append(clock.now())
        while recent[0] <= clock.now() - 60:
            recent.popleft()
        # A second's worth may lie ready, and a cost above it goes into debt once.
        assert len(recent) * cost <= per_minute + max(per_minute / 60, cost) + cost
    assert total >= 0.95 * 5 * per_minute


def test_a_row_above_the_whole_limit_is_sent_all_the_same() -> None:
    """A cost that no bucket holds waits for a full one, and those after it pay its debt."""
    bucket = Bucket(60, now=0.0)
    assert bucket.wait_s(600, now=0.0) == 0
    bucket.take(600)
    assert bucket.wait_s(1, now=0.0) == pytest.approx(600)
    assert bucket.wait_s(1, now=599.0) == pytest.approx(1)
    assert bucket.wait_s(1, now=600.5) == 0


def test_what_was_not_used_comes_back() -> None:
    """Tokens that were estimated and not used are there for the next call, up to the capacity."""
    bucket = Bucket(6000, now=0.0)
    bucket.take(100)
    assert bucket.wait_s(100, now=0.0) > 0
    bucket.give_back(100)
    assert bucket.wait_s(100, now=0.0) == 0
    bucket.give_back(1000)
    bucket.take(100)
    assert bucket.wait_s(100, now=0.0) == pytest.approx(1.0)


@given(
    per_minute=st.floats(1, 1e6),
    steps=st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 1e4)), max_size=60),
)
def test_no_sequence_overspends_a_bucket(
    per_minute: float, steps: list[tuple[float, float]]
) -> None:
    """For every sequence of waits and costs, no more is spent than flowed in, but for one debt."""
    bucket, now, spent, debt = Bucket(per_minute, 0.0), 0.0, 0.0, 0.0
    for pause, cost in steps:
        now += pause
        if bucket.wait_s(cost, now) == 0:
            bucket.take(cost)
            spent += cost
            debt = max(0.0, cost - bucket.capacity)
        assert spent <= (bucket.capacity + bucket.rate * now + debt) * (1 + 1e-6) + 1e-6


@given(per_minute=st.floats(1, 1e6), costs=st.lists(st.floats(0.1, 1e4), min_size=1, max_size=40))
def test_waiting_as_told_is_enough(per_minute: float, costs: list[float]) -> None:
    """For every cost, the seconds told to wait (and a rounding) suffice, and half do not."""
    bucket, now = Bucket(per_minute, 0.0), 0.0
    for cost in costs:
        wait_s = bucket.wait_s(cost, now)
        if wait_s > 1e-3:
            assert bucket.wait_s(cost, now + wait_s / 2) > 0
        now += wait_s * (1 + 1e-9) + 1e-6
        assert bucket.wait_s(cost, now) == 0
        bucket.take(cost)


def learned(limit: float, remaining: float, reset_s: float | None) -> LearnedBucket:
    return LearnedBucket(RateLimit(limit, remaining, reset_s), now=0.0)


def test_an_exhausted_limit_waits_for_its_reset() -> None:
    """Nothing left and a reset in 7 s: the next call waits no longer than that."""
    bucket = learned(100, 0, 7.0)
    bucket.observe(RateLimit(100, 0, 7.0), mark=0.0, started_s=0.0, now=0.0)
    wait_s = bucket.wait_s(1, now=0.0)
    assert 0 < wait_s <= 7.0
    assert bucket.wait_s(1, now=7.0) == 0


def test_at_a_reset_one_call_goes_and_not_a_crowd() -> None:
    """The reset lets one call through to see what there is; the second waits for its answer."""
    bucket = learned(60, 0, 3.0)
    bucket.observe(RateLimit(60, 0, 3.0), mark=0.0, started_s=0.0, now=0.0)
    bucket.rate = 0.001
    assert bucket.wait_s(1, now=3.0) == 0
    bucket.take(1)
    assert bucket.wait_s(1, now=3.0) > 0


def test_an_answer_overtaken_by_a_newer_one_says_nothing() -> None:
    """Old news that arrives late does not bring back what has been spent since."""
    bucket = learned(60, 50, None)
    marks = [bucket.take(1) for _ in range(10)]
    bucket.observe(RateLimit(60, 2, None), mark=marks[9], started_s=0.0, now=0.1)
    level = bucket.level
    bucket.observe(RateLimit(60, 50, None), mark=marks[0], started_s=0.0, now=0.1)
    assert bucket.level == level


def test_bad_news_is_believed_at_once_and_good_news_bit_by_bit() -> None:
    """Half the limit gone without us counts now; a raised level is approached over answers."""
    bucket = learned(60, 50, None)
    bucket.observe(RateLimit(60, 5, None), mark=bucket.take(1), started_s=0.0, now=0.0)
    assert bucket.level == pytest.approx(5)
    bucket.observe(RateLimit(60, 45, None), mark=bucket.take(1), started_s=0.5, now=0.5)
    assert 5 < bucket.level < 15
    level = bucket.level
    bucket.observe(RateLimit(60, 45, None), mark=bucket.take(1), started_s=0.5, now=0.501)
    assert bucket.level < level, (
        "answers of a burst, whose requests overtake each other, say little"
    )


@given(
    news=st.lists(
        st.tuples(
            st.floats(0, 1e6),
            st.one_of(st.none(), st.floats(0, 1e5)),
            st.floats(0, 100),
            st.floats(1, 5000),
        ),
        max_size=40,
    )
)
def test_no_headers_make_a_wait_without_end(
    news: list[tuple[float, float | None, float, float]],
) -> None:
    """For every sequence of header values, a wait is a finite number of seconds, never negative."""
    bucket, now = learned(100, 100, None), 0.0
    for remaining, reset_s, pause, cost in news:
        mark = bucket.take(cost)
        started_s, now = now, now + pause
        bucket.observe(RateLimit(100, remaining, reset_s), mark=mark, started_s=started_s, now=now)
        assert 0 <= bucket.wait_s(cost, now) < math.inf
