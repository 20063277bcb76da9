"""How many calls go at once: the allowance of a key, and the rests of the endpoint."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner import backoff
from jsonl_runner.attempts import Kind, Verdict
from jsonl_runner.breaker import Breaker
from jsonl_runner.clock import Stop, SystemClock
from jsonl_runner.concurrency import Concurrency
from jsonl_runner.keys import Rotator
from jsonl_runner.secret import Secret


@dataclass
class Key:
    """A key whose allowance is always in use, at a server that takes `capacity` calls at once."""

    capacity: int
    maximum: int = 64
    number: int = 0
    refusals: int = 0
    levels: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.allowance = Concurrency(self.maximum)

    def round(self) -> None:
        level = self.allowance.limit
        self.levels.append(level)
        first = self.number + 1
        self.number += level
        for number in range(first, first + level):
            # Whenever one returns, the next goes out as the `level`-th in flight.
            if number - first < self.capacity:
                self.allowance.succeeded(level)
            else:
                self.refusals += 1
                self.allowance.refused(number, level, self.number, saturated=True)

    def rounds(self, count: int) -> None:
        for _ in range(count):
            self.round()


def test_a_key_starts_with_one_call_and_doubles() -> None:
    """Slow start: each round in full use doubles the next, up to the maximum."""
    key = Key(capacity=1000, maximum=31)
    key.rounds(8)
    assert key.levels == [1, 2, 4, 8, 16, 31, 31, 31]


def test_the_first_answer_opens_a_sixteenth() -> None:
    """A key that is alive need not begin with one call where hundreds are allowed."""
    key = Key(capacity=1000, maximum=60)
    key.rounds(7)
    assert key.levels == [1, 4, 8, 16, 32, 60, 60]


def test_thousands_are_reached_in_a_few_rounds() -> None:
    """Whoever allows 4,096 calls has them after three rounds; the first one is still alone."""
    key = Key(capacity=10_000, maximum=4096)
    key.rounds(5)
    assert key.levels == [1, 257, 1028, 4096, 4096]


def test_an_allowance_that_is_not_used_does_not_grow() -> None:
    """One call after the other proves nothing about many at once."""
    allowance = Concurrency(64)
    for _ in range(100):
        allowance.succeeded(1)
    assert allowance.limit <= 5


def test_one_cut_an_episode() -> None:
    """Ten refusals of calls sent together halve once; one sent after the cut halves again."""
    allowance = Concurrency(64)
    while allowance.limit < 32:
        allowance.succeeded(allowance.limit)
    for number in range(91, 101):
        allowance.refused(number, 32, 100, saturated=False)
    assert allowance.limit == 16
    allowance.refused(101, 16, 110, saturated=False)
    assert allowance.limit == 8


def test_never_less_than_one_call() -> None:
    """However often it is refused, a key keeps one call: the way back."""
    allowance = Concurrency(8)
    for number in range(50):
        allowance.refused(number, 1, number, saturated=True)
    assert allowance.limit == 1


@pytest.mark.parametrize("capacity", [1, 3, 10, 40])
def test_it_settles_at_what_the_server_takes(capacity: int) -> None:
    """The ceiling is remembered: soon near it, rarely above, under 1 % of calls refused."""
    key = Key(capacity)
    key.rounds(60)
    key.refusals, before = 0, key.number
    key.rounds(1000)
    settled = key.levels[60:]
    assert sum(settled) / len(settled) >= 0.9 * capacity
    assert key.refusals <= max(12, 0.01 * (key.number - before))


def test_probes_become_rare() -> None:
    """Each probe that fails doubles the time to the next: a dozen in two thousand rounds."""
    key = Key(capacity=10)
    key.rounds(2000)
    probes = [n for n, level in enumerate(key.levels) if level > 10]
    assert 2 <= len(probes) <= 13
    gaps = [after - before for before, after in pairwise(probes)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 250


def test_a_limit_that_was_lifted_is_found() -> None:
    """Capacity that comes back is in use within the hour, at a second a call."""
    key = Key(capacity=5)
    key.rounds(300)
    key.capacity = 50
    key.rounds(3600)
    assert key.allowance.limit >= 45


def test_a_refusal_that_names_a_wait_sets_no_ceiling() -> None:
    """A refusal that says "in 2 s" is about the rate: the way back up is not barred."""
    allowance = Concurrency(32)
    while allowance.limit < 32:
        allowance.succeeded(allowance.limit)
    allowance.refused(100, 32, 100, saturated=False)
    for _ in range(16):
        allowance.succeeded(allowance.limit)
    assert allowance.limit == 32


@given(
    maximum=st.integers(1, 50),
    events=st.lists(
        st.tuples(st.booleans(), st.integers(1, 60), st.integers(0, 9), st.booleans()), max_size=200
    ),
)
def test_the_allowance_stays_within_its_bounds(
    maximum: int, events: list[tuple[bool, int, int, bool]]
) -> None:
    """For every history, at least one call and never more than the maximum."""
    allowance = Concurrency(maximum)
    for newest, (good, position, ago, saturated) in enumerate(events, 1):
        before = allowance.limit
        if good:
            allowance.succeeded(position)
            assert before <= allowance.limit <= before + (1 if before > 1 else 1 + maximum // 16)
        else:
            allowance.refused(newest - ago, position, newest, saturated=saturated)
            assert max(1, before // 2) <= allowance.limit <= before
        assert 1 <= allowance.limit <= maximum


DOWN = Verdict(Kind.TRANSIENT, "server_error", "HTTP 500")
UNREACHABLE = Verdict(Kind.UNREACHABLE, "refused", "no connection")


def fail(breaker: Breaker, verdict: Verdict, times: int = 1, now: float = 0.0) -> None:
    for _ in range(times):
        breaker.failed(verdict, random.Random(1), now)


def test_five_failures_in_a_row_make_a_rest_and_four_do_not() -> None:
    """An answer in between begins the count anew."""
    breaker = Breaker()
    fail(breaker, DOWN, 4)
    breaker.answered()
    fail(breaker, DOWN, 4)
    assert breaker.wait_s(0.0) == 0
    assert breaker.waiting_for(0.0) == ""
    assert breaker.trouble == ""
    fail(breaker, DOWN)
    wait_s = breaker.wait_s(0.0)
    assert wait_s
    assert breaker.waiting_for(0.0).startswith("waiting for the server (server_error), next try")
    assert breaker.trouble == "HTTP 500"


def test_no_connection_makes_a_rest_at_once() -> None:
    """A refused connection is news about the server, not about a row."""
    breaker = Breaker()
    fail(breaker, UNREACHABLE)
    wait_s = breaker.wait_s(0.0)
    assert wait_s
    assert 0 < wait_s <= backoff.ENDPOINT.base_s


def test_a_hundred_failures_of_one_moment_are_one_episode() -> None:
    """Calls sent before the rest do not prolong it."""
    breaker = Breaker()
    fail(breaker, UNREACHABLE, 100)
    wait_s = breaker.wait_s(0.0)
    assert wait_s is not None
    assert wait_s <= backoff.ENDPOINT.base_s


def test_rests_grow_while_probes_fail_and_end_with_an_answer() -> None:
    """A server that stays down is asked once a rest, at last once in up to a minute."""
    breaker, now, rests = Breaker(), 0.0, []
    fail(breaker, UNREACHABLE, now=now)
    for _ in range(40):
        wait_s = breaker.wait_s(now)
        assert wait_s
        rests.append(wait_s)
        now += wait_s
        assert breaker.wait_s(now) == 0
        breaker.admitted()
        assert breaker.wait_s(now) is None
        assert breaker.waiting_for(now).startswith("trying the server again")
        breaker.failed(DOWN, random.Random(len(rests)), now)
    assert 20 < max(rests) <= 60
    breaker.answered()
    assert breaker.wait_s(now) == 0
    breaker.admitted()
    assert breaker.wait_s(now) == 0


def test_the_wait_a_server_asks_for_is_the_least_it_gets() -> None:
    """Retry-After of a 503 goes before the jitter."""
    breaker = Breaker()
    fail(breaker, Verdict(Kind.TRANSIENT, "503", "HTTP 503", retry_after_s=50), 5)
    assert breaker.wait_s(0.0) == 50


def test_a_probe_that_was_not_made_leaves_the_way_to_another() -> None:
    """A probe given back unused does not lock everybody out."""
    breaker = Breaker()
    fail(breaker, UNREACHABLE)
    breaker.admitted()
    assert breaker.wait_s(99.0) is None
    breaker.given_back()
    assert breaker.wait_s(99.0) == 0


def test_threads_never_exceed_what_a_key_may_have_in_flight() -> None:
    """Sixteen threads, three keys, at most four calls each: never a fifth, and none gets stuck."""
    secrets = [Secret(f"sk-key-{n:04}", n) for n in range(1, 4)]
    rotator = Rotator(secrets, concurrency=4, clock=SystemClock(), rng=random.Random(7))
    lock = threading.Lock()
    out: Counter[str] = Counter()
    worst: Counter[str] = Counter()

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            lease = rotator.acquire(1, Stop())
            assert lease is not None
            with lock:
                out[lease.label] += 1
                worst[lease.label] = max(worst[lease.label], out[lease.label])
            time.sleep(0.0005 * rng.random())
            with lock:
                out[lease.label] -= 1
            refused = Verdict(Kind.RATE_LIMITED, "slow_down", retry_after_s=0.001)
            rotator.release(lease, refused if rng.random() < 0.05 else Verdict(Kind.OK))

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert max(worst.values()) <= 4
    assert rotator.view().calls == 16 * 60
    assert rotator.view().in_flight == 0
