"""Limits and keys: what the simulator's journal tells of a run's manners, in real time."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, Stage, expected, read_ledger, row, write_rows

from jsonl_runner.errors import NoUsableKeyError
from jsonl_runner.simulator import Simulator, SimulatorSettings

if TYPE_CHECKING:
    from pathlib import Path

    from support import FakeClock

    from jsonl_runner.simulator import Call, Journal

THREE_KEYS = [*KEYS, "sk-test-cccccccccccccccc0003"]
#: Seconds a 429 may take to reach the client, while others are on their way to the server.
ON_THE_WAY_S = 0.05


def rows_of(count: int) -> list[dict[str, Any]]:
    return [row(number) for number in range(count)]


def assert_all_done(stage: Stage, rows: list[dict[str, Any]]) -> None:
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}


def busiest(calls: list[Call], span_s: float) -> int:
    """Return the most calls that arrived within any span of so many seconds."""
    times = sorted(call.started_s for call in calls)
    first = most = 0
    for last, moment in enumerate(times):
        while moment - times[first] > span_s:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize(
    "fault", ["401", "deactivated", "403", "insufficient_quota", "credit_balance_exhausted"]
)
def test_a_finished_key_costs_two_calls_at_the_most(stage: Stage, fault: str) -> None:
    """With one key invalid or out of money all rows are done, and hardly a call is wasted on it."""
    rows = rows_of(400)
    settings = stage.simulator.settings
    stage.simulator.settings = replace(settings, key_faults={KEYS[0]: fault}, latency_s=0.002)
    assert stage.run(rows, max_retries=0).exit_code == 0
    assert stage.simulator.journal.count(key=KEYS[0]) <= 2
    assert_all_done(stage, rows)


def test_a_key_that_runs_out_in_the_middle_fails_no_row(stage: Stage) -> None:
    """Rows that meet a key's end go on with another key, at the cost of no retry."""
    rows = rows_of(200)
    rows[50]["input"] += " [[fault:insufficient_quota*1]]"
    assert stage.run(rows, max_retries=0, threads=8).exit_code == 0
    spent = stage.simulator.journal.count(fault="insufficient_quota")
    assert spent == 1
    assert_all_done(stage, rows)


def test_with_every_key_finished_the_run_stops_and_leaves_the_rows_unwritten(stage: Stage) -> None:
    """All keys bad: exit 3 within a few calls, each key named with its reason, no nulls."""
    faults = {KEYS[0]: "401", KEYS[1]: "insufficient_quota"}
    stage.simulator.settings = replace(stage.simulator.settings, key_faults=faults)
    write_rows(stage.data, rows_of(400))
    result = stage.run_cli()
    assert result.returncode == NoUsableKeyError.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith("error: all 2 keys are finished: #1(…0001) ")
    assert "invalid_api_key" in result.stderr
    assert "#2(…0002) insufficient_quota" in result.stderr
    assert len(stage.simulator.journal.calls) <= 4
    assert not stage.output.exists()


def test_a_limit_on_calls_in_flight_is_found(stage: Stage) -> None:
    """A server that takes 20 calls at once and says so by 429 alone sees few beyond that."""
    rows = rows_of(1000)
    settings = stage.simulator.settings
    stage.simulator.settings = replace(settings, max_in_flight=20, latency_s=0.05)
    summary = stage.run(rows, threads=100)
    assert summary.exit_code == 0
    assert_all_done(stage, rows)
    assert stage.simulator.journal.count(status=429) <= 30
    assert summary.elapsed_s < 3 * 1000 / (20 / 0.05), "it went to a third of what was allowed"


def test_announced_limits_are_kept(tmp_path: Path) -> None:
    """20 requests a second a key, told in the headers: hardly a refusal, and near that speed."""
    with ThreadPoolExecutor() as pool:  # both at once: they spend their time waiting
        runs = [pool.submit(run_limited, tmp_path, *sizes) for sizes in ((1, 120), (3, 300))]
        for done in runs:
            done.result()


def run_limited(folder: Path, keys: int, count: int) -> None:
    rows = rows_of(count)
    own = folder / f"{keys} keys"
    own.mkdir()
    with Simulator(SimulatorSettings(requests_per_second=20)) as simulator:
        stage = Stage(simulator, own)
        summary = stage.run(rows, api_keys=THREE_KEYS[:keys], threads=keys * 16)
    assert summary.exit_code == 0
    assert_all_done(stage, rows)
    assert simulator.journal.count(status=429) < 0.05 * count
    at_best_s = (count - 20 * keys) / (20 * keys)
    assert summary.elapsed_s < 2 * at_best_s


def assert_cooldowns_kept(journal: Journal) -> int:
    """Check that no key was used in its own cooldown; return how many cooldowns there were."""
    cooldowns = 0
    calls = journal.calls
    for refusal in calls:
        if refusal.status != 429 or refusal.retry_after_s is None:
            continue
        assert refusal.finished_s is not None
        cooldowns += 1
        begin = refusal.finished_s + min(ON_THE_WAY_S, refusal.retry_after_s)
        end = refusal.finished_s + refusal.retry_after_s
        early = [
            call.number
            for call in calls
            if call.key == refusal.key and begin < call.started_s < end
        ]
        assert not early, f"calls {early} came in the cooldown of call {refusal.number}'s key"
    return cooldowns


def test_no_request_carries_a_key_in_its_cooldown(stage: Stage) -> None:
    """After a 429 with Retry-After its key rests for just as long; others work on meanwhile."""
    rows = rows_of(300)
    # With this seed calls 5, 62, 64 and 126 are refused: all early enough for others to follow.
    stage.simulator.settings = SimulatorSettings(fault_rates={"429": 0.02}, seed=6, latency_s=0.02)
    assert stage.run(rows, api_keys=THREE_KEYS, threads=24, max_retries=0).exit_code == 0
    assert_all_done(stage, rows)
    assert assert_cooldowns_kept(stage.simulator.journal) >= 2


def test_a_limit_that_comes_in_the_middle_is_obeyed(stage: Stage) -> None:
    """A server that turns strict meets many calls at once; none comes back before its time."""
    rows = rows_of(170)
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=0.02)
    strict = replace(stage.simulator.settings, requests_per_second=50, requests_burst=5)
    with ThreadPoolExecutor(1) as pool:
        turned = pool.submit(turn_strict, stage, 100, strict)
        assert stage.run(rows, threads=32, max_retries=0).exit_code == 0
        turned.result()
    assert_all_done(stage, rows)
    assert assert_cooldowns_kept(stage.simulator.journal) >= 1


def turn_strict(stage: Stage, calls: int, strict: SimulatorSettings) -> None:
    """Change the simulator once so many calls have arrived."""
    deadline = time.monotonic() + 10
    while stage.simulator.journal.count() < calls:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    stage.simulator.settings = strict


def test_a_rate_limit_never_fails_a_row(stage: Stage, clock: FakeClock) -> None:
    """Every kind of "too many requests" costs no retry, even where none is allowed."""
    rows = rows_of(200)
    rates = {"429": 0.1, "429_bare": 0.1, "slow_down": 0.1, "529": 0.1}
    stage.simulator.settings = replace(stage.simulator.settings, fault_rates=rates)
    assert stage.run(rows, clock=clock, max_retries=0).exit_code == 0
    assert_all_done(stage, rows)
    faults = Counter(call.fault for call in stage.simulator.journal.calls)
    assert min(faults[kind] for kind in rates) >= 5


def test_a_rate_limited_row_goes_on_with_another_key_at_once(
    stage: Stage, clock: FakeClock
) -> None:
    """With one key cooling, its row does not wait for it."""
    rows = [row(0, "[[fault:429*1]]")]
    assert stage.run(rows, clock=clock).exit_code == 0
    first, second = stage.simulator.journal.calls
    assert {first.key, second.key} == set(KEYS)
    assert clock.waits == []


def test_configured_limits_are_kept(stage: Stage) -> None:
    """requests_per_minute holds for each key, with never more than a second's worth at once."""
    rows = rows_of(110)
    summary = stage.run(rows, requests_per_minute=1200, threads=32)
    assert summary.exit_code == 0
    assert_all_done(stage, rows)
    for key in KEYS:
        calls = [call for call in stage.simulator.journal.calls if call.key == key]
        assert 45 <= len(calls) <= 65, "the keys share the work"
        assert busiest(calls, 0.5) <= 20 + 10 + 2
    assert 1.6 < summary.elapsed_s < 4


LONG_ROWS = [row(number, f"{number} " + "word " * 40) for number in range(50)]


def test_configured_token_limits_are_kept(stage: Stage) -> None:
    """tokens_per_minute paces calls by their size: 2,000 a second for 50 rows of some 110."""
    settings = stage.simulator.settings
    stage.simulator.settings = replace(settings, tokens_per_second=2000)
    more: dict[str, Any] = {"tokens_per_minute": 120_000, "params": {"max_tokens": 80}}
    summary = stage.run(LONG_ROWS, api_keys=[KEYS[0]], threads=16, **more)
    assert summary.exit_code == 0
    assert_all_done(stage, LONG_ROWS)
    assert summary.tokens.total > 5000
    assert stage.simulator.journal.count(status=429) <= 10
    assert 1.6 < summary.elapsed_s < 4


def test_token_limits_are_kept_where_answers_are_as_long_as_prompts(stage: Stage) -> None:
    """Token limits told in the headers: hardly a refusal, also without max_tokens."""
    settings = stage.simulator.settings
    stage.simulator.settings = replace(settings, tokens_per_second=2000)
    assert stage.run(LONG_ROWS, api_keys=[KEYS[0]], threads=16).exit_code == 0
    assert_all_done(stage, LONG_ROWS)
    assert stage.simulator.journal.count(status=429) <= 10
