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
from jsonl_runner.keys import Lease, Rotator
from jsonl_runner.retry import classify
from jsonl_runner.secret import Secret
from jsonl_runner.simulator.limits import go_duration

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

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
        ("full", 60, 1),
        ("next", 60, 60),
        ("next", 600, 10),
        ("window", 60, 60),
        ("window", 600, 600),
        ("minute", 600, 10),
        ("minute", 600, 60),
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
    assert server.refused <= 0.05 * server.served, (server.refused, server.served)
