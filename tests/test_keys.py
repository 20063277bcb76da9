"""The rotator: which key may go, how long the others rest, and the health of the endpoint."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import KEYS, FakeClock

from jsonl_runner import backoff
from jsonl_runner.attempts import Answer, Kind, RateLimit, RateLimits, Verdict
from jsonl_runner.clock import Stop, SystemClock
from jsonl_runner.errors import NoUsableKeyError
from jsonl_runner.keys import Rotator
from jsonl_runner.secret import Secret

if TYPE_CHECKING:
    from jsonl_runner.clock import Clock
    from jsonl_runner.key import Lease
    from jsonl_runner.snapshot import KeyView

OK = Verdict(Kind.OK)
DEAD = Verdict(Kind.KEY_FINISHED, "invalid_api_key", "HTTP 401: no such key")
DOWN = Verdict(Kind.TRANSIENT, "server_error", "HTTP 500")
UNREACHABLE = Verdict(Kind.UNREACHABLE, "refused", "no connection")


def busy(retry_after_s: float | None = None) -> Verdict:
    return Verdict(Kind.RATE_LIMITED, "slow_down", "HTTP 429", retry_after_s=retry_after_s)


class Impatient(FakeClock):
    """A clock on which nobody waits: `acquire` asked to wait gives up and returns None."""

    stop = Stop()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        self.waits.append(float("inf") if seconds is None else seconds)
        self.stop.request()


def rotator_of(clock: Clock, keys: int = 2, concurrency: int = 4, **more: float | None) -> Rotator:
    secrets = [Secret(f"sk-key-{n:04}", n) for n in range(1, keys + 1)]
    return Rotator(secrets, concurrency=concurrency, clock=clock, rng=random.Random(7), **more)


def take(rotator: Rotator, tokens: int = 1) -> Lease:
    lease = rotator.acquire(tokens, Stop())
    assert lease is not None
    return lease


def views(rotator: Rotator) -> list[KeyView]:
    return rotator.keys()


def ask(rotator: Rotator, clock: Impatient, tokens: int = 1) -> Lease | None:
    """Return a lease if there is one without waiting."""
    clock.stop = Stop()
    return rotator.acquire(tokens, clock.stop)


VERDICTS = st.one_of(
    st.just(OK),
    st.just(OK),
    st.just(Verdict(Kind.ROW_FAULT)),
    st.just(DOWN),
    st.just(UNREACHABLE),
    st.just(busy()),
    st.floats(0.01, 60).map(busy),
    st.just(DEAD),
)
#: A step takes a lease, brings the n-th one back with a verdict, or lets time pass.
STEPS = st.lists(
    st.one_of(
        st.none(),
        st.none(),
        st.tuples(st.integers(0, 9), VERDICTS),
        st.floats(0.01, 20),
    ),
    max_size=120,
)


class Books:
    """What a strict auditor writes down about every lease and release."""

    def __init__(self, rotator: Rotator, clock: FakeClock) -> None:
        self.rotator, self.clock = rotator, clock
        self.out: list[Lease] = []
        self.cooling_until: dict[str, float] = {}
        self.retired: set[str] = set()

    def in_flight(self, label: str) -> int:
        return sum(lease.label == label for lease in self.out)

    def could_serve(self) -> bool:
        return any(
            view.state == "ready" and self.in_flight(view.label) < view.limit
            for view in views(self.rotator)
        )

    def leased(self, lease: Lease, limits: dict[str, int]) -> None:
        now = self.clock.now()
        assert lease.label not in self.retired, "a retired key was handed out"
        assert now >= self.cooling_until.get(lease.label, 0.0) - 1e-6, (
            "a key was used in its cooldown"
        )
        assert self.in_flight(lease.label) < limits[lease.label] <= 4, "more than its allowance"
        self.out.append(lease)

    def release(self, which: int, verdict: Verdict) -> None:
        if not self.out:
            return
        lease = self.out.pop(which % len(self.out))
        self.rotator.release(lease, verdict)
        if verdict.kind is Kind.KEY_FINISHED:
            self.retired.add(lease.label)
        if verdict.retry_after_s is not None:
            until = self.clock.now() + verdict.retry_after_s
            self.cooling_until[lease.label] = max(self.cooling_until.get(lease.label, 0.0), until)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, keys=st.integers(1, 4))
def test_no_sequence_breaks_the_rules_of_the_keys(
    steps: list[float | tuple[int, Verdict] | None], keys: int
) -> None:
    """For every history no key is used in its cooldown, retired or above its allowance.

    And a ready key with room, behind a healthy endpoint, is never withheld.
    """
    clock = Impatient()
    rotator = rotator_of(clock, keys)
    books = Books(rotator, clock)
    for step in steps:
        if isinstance(step, float):
            clock.advance(step)
        elif isinstance(step, tuple):
            books.release(*step)
        elif len(books.retired) == keys:
            if not rotator.view().waiting_for:  # else it is said when the endpoint has rested
                with pytest.raises(NoUsableKeyError):
                    ask(rotator, clock)
        else:
            limits = {view.label: view.limit for view in views(rotator)}
            # A reason on the screen is the endpoint's rest, or that all keys are cooling.
            free = books.could_serve() and not rotator.view().waiting_for
            lease = ask(rotator, clock)
            assert lease is not None or not free, "a ready key was withheld"
            if lease is not None:
                books.leased(lease, limits)


@settings(max_examples=100, deadline=None)
@given(waits=st.lists(st.floats(0.05, 300), min_size=1, max_size=6))
def test_a_cooldown_is_waited_out_to_its_end(waits: list[float]) -> None:
    """For every series of Retry-After, each next call goes when the wait is over, not before."""
    clock = FakeClock()
    rotator = rotator_of(clock, keys=1)
    for wait_s in waits:
        rotator.release(take(rotator), busy(wait_s))
        before = clock.now()
        lease = take(rotator)
        assert clock.now() - before == pytest.approx(wait_s, abs=1e-6)
        rotator.release(lease, OK)


def test_the_longer_of_two_cooldowns_holds() -> None:
    """Two calls refused together, told to wait 60 s and 1 s: the key rests 60 s."""
    clock = FakeClock()
    rotator = rotator_of(clock, keys=1)
    rotator.release(take(rotator), OK)
    first, second, before = take(rotator), take(rotator), clock.now()
    rotator.release(first, busy(60))
    rotator.release(second, busy(1))
    take(rotator)
    assert clock.now() - before == pytest.approx(60)


def test_a_row_goes_on_with_another_key_at_once() -> None:
    """While one key cools, the others serve without any wait."""
    clock = FakeClock()
    rotator = rotator_of(clock, keys=3)
    first = take(rotator)
    rotator.release(first, busy(600))
    for _ in range(20):
        lease = take(rotator)
        assert lease.label != first.label
        rotator.release(lease, OK)
    assert clock.waits == []


def test_refusals_without_a_word_rest_longer_and_longer() -> None:
    """A key refused again and again without Retry-After rests up to a minute, with jitter."""
    clock = FakeClock()
    rotator = rotator_of(clock, keys=1)
    rests = []
    for _ in range(40):
        rotator.release(take(rotator), busy())
        before = clock.now()
        lease = take(rotator)
        rests.append(clock.now() - before)
        rotator.give_back(lease)
    assert all(rest <= backoff.KEY.base_s * 2**n for n, rest in enumerate(rests[:8]))
    assert max(rests) <= 60
    assert max(rests[20:]) > 30
    assert len(set(rests[20:])) > 15


def test_an_answer_ends_the_growing_of_the_rests() -> None:
    """After a success the next rest of a key is a short one again."""
    clock = FakeClock()
    rotator = rotator_of(clock, keys=1)
    for _ in range(12):
        rotator.release(take(rotator), busy())
    rotator.release(take(rotator), OK)
    rotator.release(take(rotator), busy())
    before = clock.now()
    take(rotator)
    assert clock.now() - before <= backoff.KEY.base_s


def test_a_dead_key_is_tried_once() -> None:
    """A key starts with one call in flight; a 401 retires it and nobody asks for it again."""
    clock = Impatient()
    rotator = rotator_of(clock, keys=1, concurrency=16)
    lease = ask(rotator, clock)
    assert lease is not None
    assert ask(rotator, clock) is None
    rotator.release(lease, DEAD)
    with pytest.raises(NoUsableKeyError):
        take(rotator)


def test_all_keys_dead_names_labels_and_reasons_but_no_key() -> None:
    """The error says which keys are finished and why; no key stands in it."""
    rotator = Rotator(
        [Secret(key, n) for n, key in enumerate(KEYS, 1)],
        concurrency=1,
        clock=FakeClock(),
        rng=random.Random(1),
    )
    for _ in KEYS:
        rotator.release(take(rotator), DEAD)
    with pytest.raises(NoUsableKeyError) as caught:
        take(rotator)
    text = str(caught.value)
    assert "all 2 keys are finished" in text
    for number, key in enumerate(KEYS, 1):
        assert f"#{number}(…{key[-4:]})" in text
        assert key not in text
    assert "invalid_api_key" in text
    assert rotator.view().retired == 2


def test_many_dead_keys_are_counted_not_listed() -> None:
    """With 50 dead keys the error stays one readable line."""
    rotator = rotator_of(FakeClock(), keys=50)
    for _ in range(50):
        rotator.release(take(rotator), DEAD)
    with pytest.raises(
        NoUsableKeyError, match=r"all 50 keys are finished: .*; and 45 more; put them right"
    ):
        take(rotator)


def test_five_failures_in_a_row_rest_the_endpoint_for_everybody() -> None:
    """Four failures change nothing; the fifth holds every key back, and the reason is shown."""
    clock = Impatient()
    rotator = rotator_of(clock, keys=3)
    for _ in range(4):
        rotator.release(take(rotator), DOWN)
    lease = ask(rotator, clock)
    assert lease is not None
    rotator.release(lease, DOWN)
    assert ask(rotator, clock) is None
    assert rotator.view().waiting_for.startswith("waiting for the server (server_error), next try")
    assert rotator.view().trouble == "HTTP 500"
    assert rotator.view().ready == 3


@pytest.mark.parametrize(("verdict", "free"), [(OK, 3), (DOWN, 0), (None, 1)])
def test_after_a_rest_one_call_goes_first(verdict: Verdict | None, free: int) -> None:
    """A probe's answer opens the way, its failure prolongs the rest; one not made lets another."""
    clock = Impatient()
    rotator = rotator_of(clock, keys=3)
    rotator.release(take(rotator), UNREACHABLE)
    assert ask(rotator, clock) is None
    clock.advance(61)
    probe = ask(rotator, clock)
    assert probe is not None
    assert ask(rotator, clock) is None
    assert rotator.view().waiting_for == "trying the server again (refused)"
    if verdict is None:
        rotator.give_back(probe)
    else:
        rotator.release(probe, verdict)
    leases = [ask(rotator, clock) for _ in range(3)]
    assert sum(lease is not None for lease in leases) == free


def test_the_key_with_the_most_room_goes_first() -> None:
    """Calls are spread over the keys, not piled on one."""
    rotator = rotator_of(FakeClock(), keys=8)
    for lease in [take(rotator) for _ in range(8)]:
        rotator.release(lease, OK)
    assert {view.calls for view in views(rotator)} == {1}
    taken = Counter(take(rotator).label for _ in range(16))
    assert set(taken.values()) == {2}


def test_tokens_that_were_not_used_are_given_back() -> None:
    """A limit of 6,000 tokens a minute counts what was used, where the answer says so."""
    clock = Impatient()
    rotator = rotator_of(clock, keys=1, tokens_per_minute=6000)
    used = Verdict(Kind.OK, answer=Answer("x", None, None, {"total_tokens": 10}))
    for verdict in (used, OK):
        lease = ask(rotator, clock, tokens=90)
        assert lease is not None
        rotator.release(lease, verdict)
    assert ask(rotator, clock, tokens=90) is None


def test_headers_of_one_key_hold_that_key_only() -> None:
    """A key whose headers say that nothing remains waits; the other goes on."""
    clock = Impatient()
    rotator = rotator_of(clock, keys=2)
    first = take(rotator)
    empty = RateLimits(RateLimit(100, 0, 30.0), None)
    rotator.release(first, Verdict(Kind.OK, limits=empty))
    assert take(rotator).label != first.label
    assert ask(rotator, clock) is None


def test_a_wait_for_every_key_says_so() -> None:
    """All keys cooling: the screen tells how many and when the next is ready."""
    rotator = rotator_of(FakeClock(), keys=2)
    for wait_s in (41, 90):
        rotator.release(take(rotator), busy(wait_s))
    assert rotator.view().waiting_for == "all 2 keys are cooling, next ready in 41 s"
    assert rotator.view().cooling == 2


def test_a_wait_for_a_configured_limit_says_so() -> None:
    """One request a minute: the wait for the second one has a reason on the screen (DESIGN 4)."""
    clock = Impatient()
    rotator = rotator_of(clock, keys=1, requests_per_minute=1)
    rotator.release(take(rotator), OK)
    assert ask(rotator, clock) is None
    assert clock.waits[-1] > 30
    assert rotator.view().waiting_for


@pytest.mark.parametrize("cause", ["cooling", "in flight", "endpoint"])
def test_a_stop_ends_the_wait_for_a_key_at_once(cause: str) -> None:
    """On a real clock: a stop in the middle of any wait returns None, and for every waiter."""
    rotator, stop = rotator_of(SystemClock(), keys=1), Stop()
    stop.on_request(rotator.wake)
    lease = take(rotator)
    if cause == "cooling":
        rotator.release(lease, busy(60))
    elif cause == "endpoint":
        rotator.release(lease, Verdict(Kind.UNREACHABLE, retry_after_s=60))
    found: list[Lease | None] = []
    waiters = [
        threading.Thread(target=lambda: found.append(rotator.acquire(1, stop))) for _ in range(4)
    ]
    for waiter in waiters:
        waiter.start()
    time.sleep(0.05)
    assert found == []
    asked = time.monotonic()
    stop.request()
    for waiter in waiters:
        waiter.join(5)
    assert time.monotonic() - asked < 1
    assert found == [None] * 4


@pytest.mark.parametrize("sharers", [1, 2, 3])
def test_rotators_that_share_a_key_keep_its_limits_together(sharers: int) -> None:
    """For every number of processes: over a minute they make the calls that one would make."""
    clock = Impatient()
    made = 0
    rotators = [rotator_of(clock, keys=1, requests_per_minute=120) for _ in range(sharers)]
    for rotator in rotators:
        rotator.share(1 / sharers, 4)
    for _ in range(600):  # a minute, in tenths of a second
        for rotator in rotators:
            lease = ask(rotator, clock)
            if lease is not None:
                made += 1
                rotator.release(lease, OK)
        clock.advance(0.1 - 1e-9)
    assert 100 <= made <= 120 + 2 * sharers  # looking ten times a second leaves some unused


def test_a_shared_key_takes_its_part_of_what_the_provider_tells() -> None:
    """Of 100 requests that are left, each of four sharers spends no more than 25."""
    clock = Impatient()
    rotator = rotator_of(clock, keys=1, concurrency=100)
    rotator.share(1 / 4, 100)
    limits = RateLimits(RateLimit(limit=200, remaining=100, reset_s=3600), None)
    rotator.release(take(rotator), Verdict(Kind.OK, limits=limits))
    made = 0
    while (lease := ask(rotator, clock)) is not None:
        made += 1
        rotator.release(lease, OK)
    assert 20 <= made <= 26


def test_calls_at_once_of_a_shared_key_follow_its_sharers() -> None:
    """Fewer when another comes, more when one is gone."""
    clock = Impatient()
    rotator = rotator_of(clock, keys=1, concurrency=8)
    for maximum in (8, 2, 6):
        rotator.share(maximum / 8, maximum)
        for _ in range(200):
            rotator.release(take(rotator), OK)
        leases = []
        while (lease := ask(rotator, clock)) is not None:
            leases.append(lease)
        assert len(leases) <= maximum
        for lease in leases:
            rotator.release(lease, OK)


def test_what_others_were_told_of_a_key_holds_here_too() -> None:
    """It rests as long, and is used no more once it is retired elsewhere."""
    clock = FakeClock()
    rotator = rotator_of(clock, keys=2)
    first, second = (view.label for view in views(rotator))
    rotator.learn(first, cooldown_s=30, why="slow_down")
    rotator.learn(second, retired="invalid_api_key: no", why="invalid_api_key: no")
    rotator.learn("#9(…none)", retired="gone", why="gone")
    began = clock.now()
    lease = take(rotator)
    assert (lease.label, clock.now() - began >= 30) == (first, True)
    rotator.learn(first, retired="insufficient_quota: no", why="insufficient_quota: no")
    with pytest.raises(NoUsableKeyError, match="all 2 keys are finished"):
        rotator.acquire(1, Stop())
