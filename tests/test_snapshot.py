"""A run at one moment: counted, written as JSON and read again; what keys say of themselves."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from support import KEYS, FakeClock, Stage, row

from jsonl_runner.attempts import Kind, RateLimit, RateLimits, Verdict
from jsonl_runner.clock import Stop
from jsonl_runner.keys import KeysView, Rotator
from jsonl_runner.records import Outcome
from jsonl_runner.secret import Secret
from jsonl_runner.snapshot import FailureView, KeyView, Snapshot, from_dict, money
from jsonl_runner.summary import RunSummary
from jsonl_runner.tally import BOUNDS, Tally

VIEW = KeysView(1, 0, 0, in_flight=3, calls=9, waiting_for="", trouble="")


def outcome(number: int, output: str | None = "x", **more: object) -> Outcome:
    given = {"attempts": 1, "latency_s": 0.5, "key": "#1", **more}
    return Outcome(str(number), output, **given)  # type: ignore[arg-type]


def counted(tally: Tally, summary: RunSummary, outcomes: list[Outcome]) -> None:
    summary.add(outcomes)
    tally.add(outcomes)


def taken(tally: Tally, summary: RunSummary, now: float, *keys: KeyView) -> Snapshot:
    return tally.snapshot(summary, VIEW, keys, now=now, wall=1e9 + now)


def test_rate_and_time_left_are_those_of_the_last_seconds() -> None:
    """Ten seconds at 5 rows, then ten at 20: the rate is 20, and what is left takes so long."""
    tally, summary = Tally(), RunSummary(rows=1050, skipped=200)
    tally.begin(100.0)
    for second in range(20):
        counted(tally, summary, [outcome(n) for n in range(5 if second < 10 else 20)])
        now = taken(tally, summary, 101.0 + second)
    assert now.rate == 20
    assert now.rates == (5.0,) * 10 + (20.0,) * 10
    assert (now.elapsed_s, now.left, now.left_s) == (20, 600, 30)
    assert now.in_flight == now.allowed == 0
    summary.left_out = 200
    limited = taken(tally, summary, 120.5)
    assert (limited.left, limited.left_s) == (400, 20)


def test_before_the_first_second_is_over_there_is_a_rate_already() -> None:
    """Of what there is; and without any row, or any time, none is made up."""
    tally, summary = Tally(), RunSummary(rows=10)
    tally.begin(0.0)
    assert taken(tally, summary, 0.0).rate == 0
    assert taken(tally, summary, 0.5).left_s is None
    counted(tally, summary, [outcome(1)])
    assert taken(tally, summary, 0.5).rate == 2


def test_rows_of_seconds_nobody_looked_at_are_spread_over_them() -> None:
    """A pause of the leading thread makes no spike of speed, and loses no row."""
    tally, summary = Tally(), RunSummary()
    tally.begin(0.0)
    counted(tally, summary, [outcome(n) for n in range(11)])
    assert taken(tally, summary, 4.5).rates == (3.0, 3.0, 3.0, 2.0)
    counted(tally, summary, [outcome(n) for n in range(300)])
    assert taken(tally, summary, 304.0).rates == (1.0,) * 60


def test_latencies_are_those_of_the_last_minute() -> None:
    """Quantiles within the width of a bin; what took no call has none; the minute passes."""
    tally, summary = Tally(), RunSummary()
    tally.begin(0.0)
    times = [*[0.1] * 90, *[2.0] * 8, *[30.0] * 2]
    counted(tally, summary, [outcome(n, latency_s=t) for n, t in enumerate(times)])
    counted(tally, summary, [outcome(n, latency_s=0.0, attempts=0, cached=True) for n in range(99)])
    now = taken(tally, summary, 1.0)
    assert (now.p50, now.p95, now.p99) == pytest.approx((0.1, 2.0, 30.0), rel=0.13)
    assert now.latencies == pytest.approx((0.1,), rel=0.13)
    assert sum(now.latency_counts) == 100
    assert now.latency_sum == pytest.approx(85)
    later = taken(tally, summary, 61.5)
    assert (later.p50, later.p95, later.p99) == (None, None, None)
    assert later.latencies == (0.0,) * 60
    assert sum(later.latency_counts) == 100  # those of the whole run


def test_a_latency_beyond_all_bounds_is_counted() -> None:
    """The last bin has no upper end."""
    tally, summary = Tally(), RunSummary()
    tally.begin(0.0)
    counted(tally, summary, [outcome(1, latency_s=5000.0)])
    now = taken(tally, summary, 1.0)
    assert now.p50 == BOUNDS[-1]
    assert now.latency_counts[-1] == 1


def test_what_each_key_used() -> None:
    """Tokens and cost of the rows it answered; a key without a cost has none."""
    tally, summary = Tally(), RunSummary(rows=8)
    tally.begin(0.0)
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    rows = [outcome(n, usage=usage, cost=0.25) for n in range(2)]
    counted(tally, summary, [*rows, outcome(3, usage={"total_tokens": "3"}, key="#2")])
    now = taken(tally, summary, 1.0, KeyView("#1"), KeyView("#2"))
    assert [(key.tokens, key.cost) for key in now.keys] == [(6, 0.5), (0, None)]
    assert now.cost == 0.5
    assert now.expected_cost == pytest.approx(0.5 / 3 * 8)


def test_the_last_failures_and_their_reasons() -> None:
    """Ten of them, the newest last, with their messages; all are counted by reason."""
    tally, summary = Tally(), RunSummary()
    tally.begin(0.0)
    bad = [outcome(n, None, code="timeout", message=f"slow {n}", ended=5.0) for n in range(600)]
    counted(tally, summary, bad)
    now = taken(tally, summary, 1.0)
    assert now.reasons == {"timeout": 600}
    assert len(now.last_failures) == 10
    assert now.last_failures[-1] == FailureView("599", "timeout", "slow 599", 1, 5.0)


def whole() -> Snapshot:
    key = KeyView("#1(…0001)", "cooling", "busy", 5, 4, 60.0, None, 2, "raised", 1.5, None, 3.0)
    failure = FailureView("7", "timeout", "slow", 2, 1e9)
    return Snapshot(
        1e9, 2.5, "d", "o", rows=10, cost=0.5, rates=(1.0, 2.0), latency_counts=(1, 2),
        reasons={"timeout": 1}, last_failures=(failure,), notes=("n",), keys=(key,),
    )  # fmt: skip


def test_it_is_read_as_it_was_written() -> None:
    """Through JSON; what another version wrote more is passed over, what it lacks is empty."""
    snapshot = whole()
    data = json.loads(json.dumps(snapshot.to_dict()))
    assert from_dict(data) == snapshot
    assert from_dict({**data, "new": 1}) == snapshot
    assert from_dict({"time": 5}) == Snapshot(5.0)
    assert (snapshot.left, snapshot.in_flight, snapshot.allowed) == (10, 2, 4)
    retired = replace(snapshot.keys[0], state="retired")
    assert replace(snapshot, keys=(retired,)).allowed == 0


@pytest.mark.parametrize(
    "change",
    [
        {"done": "5"},
        {"done": True},
        {"time": None},
        {"rate": float("nan")},
        {"keys": {}},
        {"keys": ["#1"]},
        {"keys": [{}]},
        {"notes": [1]},
        {"reasons": {"x": "y"}},
        {"reasons": []},
        {"data": 5},
    ],
)
def test_what_is_no_snapshot_is_refused(change: dict[str, object]) -> None:
    """Whatever stands in the file, the table never meets a value of another type."""
    with pytest.raises(ValueError, match=r"type|object|list|argument"):
        from_dict({**whole().to_dict(), **change})
    with pytest.raises(ValueError, match="object"):
        from_dict([])


def test_money() -> None:
    """Small amounts to a hundredth of a cent."""
    assert [money(amount) for amount in (0.00012, 3.5, 1234.567)] == [
        "0.0001",
        "3.5000",
        "1,234.57",
    ]


def rotator(clock: FakeClock, keys: tuple[str, ...] = KEYS, **limits: float) -> Rotator:
    secrets = [Secret(key, n + 1) for n, key in enumerate(keys)]
    return Rotator(secrets, concurrency=16, clock=clock, rng=random.Random(1), **limits)


def views(books: Rotator) -> list[KeyView]:
    return books.keys()


def test_a_key_says_how_it_stands(clock: FakeClock) -> None:
    """Calls, refusals, errors, cooldown and why; a retired key no longer cools."""
    books = rotator(clock, KEYS[:1])
    first = books.acquire(1, Stop())
    assert first is not None
    (held,) = [key for key in views(books) if key.in_flight]
    assert (held.limit, held.calls, held.why, held.state) == (1, 1, "", "ready")
    books.release(first, Verdict(Kind.OK))
    (held,) = [key for key in views(books) if key.calls]
    assert (held.in_flight, held.limit, held.why) == (0, 2, "opened: it answers")
    label = held.label

    def again(verdict: Verdict) -> KeyView:
        lease = books.acquire(1, Stop())
        assert lease is not None
        assert lease.label == label
        books.release(lease, verdict)
        return next(key for key in views(books) if key.label == label)

    down = Verdict(Kind.TRANSIENT, "server_error", "HTTP 500")
    assert again(down).errors == 1
    under_way = books.acquire(1, Stop())
    assert under_way is not None
    assert under_way.label == label
    held = again(Verdict(Kind.RATE_LIMITED, "busy", "HTTP 429", retry_after_s=30.0))
    assert (held.state, held.reason, held.cooldown_s) == ("cooling", "busy: HTTP 429", 30.0)
    assert (held.errors, held.refused, held.why) == (1, 1, "halved: told to wait")
    books.release(under_way, down)  # says nothing of why it rests
    held = next(key for key in views(books) if key.label == label)
    assert held.reason == "busy: HTTP 429"
    clock.advance(30)
    held = next(key for key in views(books) if key.label == label)
    assert (held.state, held.reason, held.cooldown_s) == ("ready", "", 0.0)


def test_what_is_left_of_a_limit(clock: FakeClock) -> None:
    """As configured, else as learnt; it flows in while nothing is asked, and asking takes none."""
    books = rotator(clock, requests_per_minute=60.0)
    lease = books.acquire(10, Stop())
    assert lease is not None
    left = {key.label: (key.requests_left, key.tokens_left) for key in views(books)}
    assert left[lease.label] == (0.0, None)
    clock.advance(0.5)
    assert [k.requests_left for k in views(books) if k.in_flight] == [0.5]
    limits = RateLimits(RateLimit(100.0, 40.0, 60.0), RateLimit(1000.0, 250.0, None))
    books.release(lease, Verdict(Kind.OK, limits=limits))
    key = next(key for key in views(books) if key.calls)
    assert key.requests_left == pytest.approx(40, abs=1)
    assert key.tokens_left == pytest.approx(250, abs=10)
    assert key.tokens_per_minute == pytest.approx(1000)


def test_no_key_is_in_a_snapshot(stage: Stage) -> None:
    """Through a whole run that fails in many ways: labels and nothing more."""
    from jsonl_runner import statefile, watching  # noqa: PLC0415

    seen: list[bytes] = []
    offered = statefile.StateFile.offer

    def offer(self: statefile.StateFile, snapshot: Snapshot) -> None:
        seen.append(json.dumps(snapshot.to_dict()).encode())
        offered(self, snapshot)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statefile.StateFile, "offer", offer)
        patch.setattr(watching, "LOOK_EVERY_S", 0.0)
        stage.run([row(n, "[[fault:content_policy]]" if n % 3 else None) for n in range(12)])
    assert seen
    assert b"#1(" in seen[-1]
    assert not any(key.encode() in text for key in KEYS for text in seen)
