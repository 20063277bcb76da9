"""What a run may spend: never passed by more than was in flight, and said when it is reached."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from support import KEYS, FakeClock, Stage, read_calls, read_ledger, row, write_rows

from jsonl_runner import config as settings
from jsonl_runner.assembly import assemble
from jsonl_runner.attempts import Answer, Kind, Verdict
from jsonl_runner.budget import Budget
from jsonl_runner.clock import Stop
from jsonl_runner.costs import Costs, is_own_server
from jsonl_runner.errors import BudgetReachedError, ConfigError
from jsonl_runner.pricing import Prices
from jsonl_runner.prompts import Request
from jsonl_runner.records import Record
from jsonl_runner.settings.price import from_option, prices, prices_of
from jsonl_runner.spending import Spending
from jsonl_runner.summary import RunSummary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jsonl_runner.simulator import Simulator

#: Dollars a million tokens, so that a token in costs 1 and one out 4 millionths.
PRICE = "input=1,output=4"
PRICES = from_option(PRICE)
OPENAI = "https://api.openai.com/v1"


def usage(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    total = prompt + completion
    used = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    return {**used, **more}


def answered(prompt: int, completion: int) -> Verdict:
    return Verdict(Kind.OK, answer=Answer("x", "stop", "m", usage(prompt, completion)))


def spend_by_the_log(stage: Stage) -> float:
    """Return the sum over the call log, in its order."""
    total = 0.0
    log = stage.output.with_name("output.calls.jsonl").read_text(encoding="utf-8")
    for line in log.splitlines():
        total += json.loads(line).get("cost") or 0.0
    return total


def random_usage(seed: int, most: int) -> Callable[[str], int]:
    """Return a tokenizer that counts at random, from 1 to `most`."""
    rng, lock = random.Random(seed), threading.Lock()

    def count(_text: str) -> int:
        with lock:
            return rng.randint(1, most)

    return count


# -- the books -------------------------------------------------------------------------------------

AMOUNTS = st.integers(0, 50)


@given(
    limit=st.integers(0, 200),
    steps=st.lists(st.tuples(st.booleans(), AMOUNTS, AMOUNTS), max_size=60),
)
def test_the_limit_is_passed_by_what_was_in_flight_alone(
    limit: int, steps: list[tuple[bool, int, int]]
) -> None:
    """Whatever is reserved and settled, in whatever order: spent <= limit + what went beyond."""
    budget, beyond = Budget(limit), 0.0
    held: list[float] = []
    for begins, amount, took in steps:
        if begins or not held:
            got = budget.reserve(amount)
            if got is None:
                assert amount > budget.left
            else:
                held.append(got)
        else:
            amount_held = held.pop()
            budget.settle(amount_held, took)
            beyond += max(0.0, took - amount_held)
        assert budget.in_flight == len(held)
        assert budget.spent + sum(held) <= limit + beyond
    for amount_held in held:
        budget.settle(amount_held, 0.0)
    assert budget.in_flight == 0
    assert budget.left == limit - budget.spent


def test_an_unknown_amount_gets_all_that_is_left_and_waits_for_the_others() -> None:
    """So that no other call begins before it is known what it took."""
    budget = Budget(10.0, spent=2.0)
    assert budget.reserve(None) == 8.0
    assert budget.reserve(0.1) is None
    budget.settle(8.0, 1.0)
    assert budget.reserve(7.0) == 7.0
    assert budget.reserve(None) is None
    assert Budget(1.0, spent=1.0).reserve(None) is None
    assert Budget(None).reserve(None) == 0.0


# -- prices ----------------------------------------------------------------------------------------

COUNTS = st.integers(0, 3_000_000)


@trials(deadline=None)  # the first looks into a list of prices that takes a moment to load
@given(
    model=st.sampled_from(["gpt-4.1-mini", "gpt-4o", "gpt-5.4", "gpt-5.4-pro", "nobody-knows"]),
    prompt=COUNTS,
    completion=COUNTS,
    cached=st.one_of(st.none(), COUNTS),
    audio=st.booleans(),
)
def test_the_short_way_to_a_cost_ends_in_the_same_digits(
    model: str, prompt: int, completion: int, cached: int | None, *, audio: bool
) -> None:
    """For every usage, what `Costs` says is what `Prices` says to the last bit."""
    details: dict[str, Any] = {} if cached is None else {"cached_tokens": cached}
    details |= {"audio_tokens": 3} if audio else {}
    used = usage(prompt, completion, prompt_tokens_details=details)
    cost = Prices().cost_of(used, model, provider=OPENAI)
    found = Costs(Prices(), OPENAI, FakeClock()).cost_of(used, model)
    if cost is None:
        assert found == (None, "")
    else:
        assert found == (cost.amount_usd, "estimate" if cost.estimated else "prices")


def test_whose_price_it_is() -> None:
    """The provider's word, the user's price by either name, then the list's; else none."""
    used = usage(1_000_000, 0)
    own = prices_of({"mine": {"input": 5, "output": 5}, "late-*": {"input": 7, "output": 7}})
    costs = Costs(own, OPENAI, FakeClock())
    assert costs.cost_of({**used, "cost": 0.25}, "mine") == (0.25, "")
    assert costs.cost_of(used, "mine", "gpt-4.1") == (5.0, "prices")
    assert costs.cost_of(used, "gpt-4.1", "late-2") == (7.0, "prices")
    assert costs.cost_of(used, "alias", "gpt-4.1") == (2.0, "prices")
    assert costs.cost_of(used, "alias", "who") == (None, "")
    assert costs.cost_of(None, "mine") == (None, "")
    # An address that is nobody's has no prices but the user's.
    here = Costs(own, "http://127.0.0.1:8000/v1", FakeClock())
    assert here.cost_of(used, "gpt-4.1") == (None, "")
    assert here.cost_of(used, "mine") == (5.0, "prices")


@pytest.mark.parametrize(
    ("address", "is_own"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1/v1", True),
        ("http://[::1]:80/v1", True),
        ("http://gpu-3:8000/v1", True),
        ("http://vllm.internal/v1", True),
        (OPENAI, False),
        ("https://openrouter.ai/api/v1", False),
    ],
)
def test_servers_of_ones_own(address: str, *, is_own: bool) -> None:
    """They are known by their address, without half a second of imports."""
    assert is_own_server(address) is is_own


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "must be like {model:"),
        ({"m": 3}, "m has 3"),
        ({"m": {"input": 1}}, "of m: output is missing"),
        ({"m": {"input": "x", "output": 1}}, "of m: input must be a number"),
        ({"m": {"input": 1, "output": -1}}, "output must be dollars a million tokens"),
        ({"m": {"input": 1, "output": 1, "batch": 4}}, "the batch of m is 4"),
    ],
)
def test_prices_that_cannot_be_read(value: object, words: str) -> None:
    """The model and what is wrong stand in the message."""
    with pytest.raises(ConfigError) as caught:
        settings.load(None, {"prices": value}, {})
    assert "prices " in str(caught.value)
    assert words in str(caught.value)


def test_prices_in_a_file_and_on_the_command_line(tmp_path: Path) -> None:
    """A file's by model, `batch` in a group of its own; --price is for every model."""
    path = tmp_path / "s.json"
    given_ = {"m": {"input": 2, "output": 6, "batch": {"input": 1, "output": 3}}}
    path.write_text(json.dumps({"prices": given_, "max_cost": 5, "max_tokens_total": 9}))
    config = settings.load(path, {}, {})
    assert (config.max_cost, config.max_tokens_total) == (5, 9)
    price = prices_of(config.prices).price_of("m")
    assert price is not None
    assert (price.live.output, price.batch.output, price.batch_estimated) == (6, 3, False)
    config = settings.load(path, {"prices": from_option(PRICE)}, {})
    price = prices_of(config.prices).price_of("m")
    assert price is not None
    assert (price.live.output, price.source) == (4, "your prices")
    assert prices(from_option(PRICE)) == from_option(PRICE)


# -- one call at a time ----------------------------------------------------------------------------


def spending_of(clock: FakeClock, **given_: Any) -> Spending:
    config = settings.load(None, {"api_base": "http://127.0.0.1/v1", "prices": PRICES, **given_})
    return Spending(config, clock)


def request(size: int = 400, limit: int = 0) -> Request:
    body = b"x" * size
    return Request(body, 1, "m", size // 4 + limit)


def test_until_an_answer_is_known_one_call_is_made_at_a_time(clock: FakeClock) -> None:
    """Then as many as fit with what answers take; max_tokens tells it beforehand."""
    spending = spending_of(clock, max_cost=0.01)
    first = spending.reserve(request(), Stop())
    assert first is not None
    assert first.cost == 0.01
    spending.settle(first, request(), answered(100, 100))
    assert spending.cost.spent == pytest.approx(500e-6)
    second = spending.reserve(request(), Stop())
    assert second is not None
    # The prompt as long as the first one's; the answer its mean and twice the doubt of that.
    assert second.cost == pytest.approx(100e-6 + 4 * 300e-6)
    with pytest.raises(BudgetReachedError, match="--max-cost"):  # its prompt alone
        spending_of(clock, max_cost=90e-6).reserve(request(), Stop())
    with pytest.raises(BudgetReachedError, match="--max-tokens-total"):
        spending_of(clock, max_tokens_total=90).reserve(request(), Stop())
    told = spending_of(clock, max_cost=0.01).reserve(request(limit=50), Stop())
    assert told is not None
    assert told.cost == pytest.approx(100e-6 + 4 * 50e-6)


@pytest.mark.parametrize(
    ("verdict", "is_billed"),
    [
        (Verdict(Kind.OK, answer=Answer("x", "stop", "m", None)), True),
        (Verdict(Kind.ROW_FAULT, "refusal", "no", Answer(None, None, "m", None)), True),
        (Verdict(Kind.TRANSIENT, "timeout", "no answer in 300 s"), True),
        (Verdict(Kind.TRANSIENT, "no_choices", "HTTP 200 without choices"), True),
        (Verdict(Kind.TRANSIENT, "server_error", "HTTP 500: broken"), False),
        (Verdict(Kind.RATE_LIMITED, "slow", "HTTP 429"), False),
        (Verdict(Kind.UNREACHABLE, "refused", "no connection"), False),
        (Verdict(Kind.ROW_FAULT, "context_length", "HTTP 400: too long"), False),
        (None, False),
    ],
)
def test_what_may_be_billed_counts_as_it_was_expected(
    clock: FakeClock, verdict: Verdict | None, *, is_billed: bool
) -> None:
    """An answer that never came may be on the bill; a refusal is not."""
    spending = spending_of(clock, max_cost=0.01)
    hold = spending.reserve(request(limit=50), Stop())
    assert hold is not None
    spending.settle(hold, request(limit=50), verdict)
    assert spending.cost.spent == pytest.approx(300e-6 if is_billed else 0.0)
    assert spending.unanswered == is_billed


def test_a_row_waits_for_calls_in_flight_and_a_stop_ends_the_wait(clock: FakeClock) -> None:
    """What they do not take lets it go on; without any in flight, the limit is reached."""
    spending = spending_of(clock, max_cost=400e-6)
    first = spending.reserve(request(limit=50), Stop())
    assert first is not None
    stop, found = Stop(), []
    stop.on_request(spending.wake)
    waiting = threading.Thread(
        target=lambda: found.append(spending.reserve(request(limit=50), stop))
    )
    waiting.start()
    spending.settle(first, request(limit=50), answered(10, 10))
    waiting.join(10)
    assert found[0] is not None
    waiting = threading.Thread(
        target=lambda: found.append(spending.reserve(request(9999, 50), stop))
    )
    waiting.start()
    stop.request()
    waiting.join(10)
    assert found[1] is None
    spending.settle(found[0], request(limit=50), answered(10, 10))
    with pytest.raises(BudgetReachedError, match=r"--max-cost \$0.0004 is reached: \$0.0001 spent"):
        spending.reserve(request(9999, 50), Stop())


# -- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("params", [{}, {"max_tokens": 400}])
def test_half_of_what_a_dataset_costs_with_64_threads(
    stage: Stage, seed: int, params: dict[str, int]
) -> None:
    """With answers of random length the spend ends at the limit, within what was in flight."""
    rows = [row(number) for number in range(600)]
    count = random_usage(seed, 400)
    stage.simulator.settings = replace(
        stage.simulator.settings, tokenizer=count, latency_s=0.005, latency_spread_s=0.02
    )
    # Five random counts (two roles, two texts, the answer) of 200 on average; the last costs 4.
    whole = 600 * (4 * 200.5 + 9 + 4 * 200.5) / 1e6
    dearest = (4 * 400 + 9 + 4 * 400) / 1e6
    given_: dict[str, Any] = {"prices": PRICES, "threads": 64, "params": params}
    with pytest.raises(BudgetReachedError) as caught:
        stage.run(rows, max_cost=whole / 2, **given_)
    summary = caught.value.summary
    assert isinstance(summary, RunSummary)
    assert (summary.exit_code, summary.failed) == (5, 0)
    spent = summary.cost or 0.0
    assert spent == spend_by_the_log(stage)
    assert spent <= whole / 2 + 64 * dearest
    # Far better than that: what is expected of an answer is on the safe side of the mean.
    assert whole / 2 - 4 * dearest <= spent <= whole / 2 + dearest
    written = read_ledger(stage.output)
    assert None not in written.values()
    assert len(written) == summary.done
    assert summary.left == 600 - summary.done > 0
    # The same command stops at once: the limit is the dataset's. (One more call may just fit.)
    calls = len(stage.simulator.journal.calls)
    with pytest.raises(BudgetReachedError, match="of it by earlier runs"):
        stage.run(max_cost=whole / 2, **given_)
    assert len(stage.simulator.journal.calls) <= calls + 2
    assert spend_by_the_log(stage) <= whole / 2 + dearest
    # And with a higher one it goes on, and pays for nothing twice.
    summary = stage.run(max_cost=2 * whole, **given_)
    assert (summary.exit_code, summary.left) == (0, 0)
    assert len(read_ledger(stage.output)) == 600
    assert summary.budget is not None
    assert summary.budget["cost_spent"] == pytest.approx(spend_by_the_log(stage))


def test_a_limit_on_tokens_needs_no_price(stage: Stage) -> None:
    """It counts prompts and answers; exit code 5, and what is left is unwritten."""
    rows = [row(number) for number in range(100)]
    with pytest.raises(BudgetReachedError, match="--max-tokens-total 500 tokens is reached") as got:
        stage.run(rows, max_tokens_total=500)
    summary = got.value.summary
    assert summary.exit_code == 5
    assert 400 <= summary.tokens.total <= 560
    assert summary.cost is None


def test_a_budget_that_is_large_enough_changes_nothing(stage: Stage) -> None:
    """All rows are done; what they cost is computed, and said to be."""
    summary = stage.run([row(n) for n in range(40)], max_cost=1, prices=PRICES, threads=16)
    assert (summary.exit_code, summary.done, summary.cost_from) == (0, 40, "prices")
    assert summary.cost == spend_by_the_log(stage)
    assert any("dollars by price" in line for line in summary.lines())
    for entry in read_calls(stage.output).values():
        expected = entry["usage"]["prompt_tokens"] + 4 * entry["usage"]["completion_tokens"]
        assert entry["cost"] == pytest.approx(expected / 1e6)
        assert entry["cost_from"] == "prices"


def test_without_a_price_a_limit_on_cost_is_refused_before_anything_is_paid(stage: Stage) -> None:
    """The model is named, and so is the way out; of the run and of single rows."""
    rows = [row(1), row(2, params={"model": "dear"}), row(3, params={"model": "odd"})]
    with pytest.raises(ConfigError, match=r"no price is known for gpt-4.1-mini .*--price"):
        stage.run(rows, max_cost=1)
    mine = {"gpt-4.1-mini": {"input": 1, "output": 4}}
    with pytest.raises(ConfigError, match="no price is known for dear, odd at"):
        stage.run(rows, max_cost=1, prices=mine)
    assert not stage.simulator.journal.calls
    # Without a limit nobody needs a price.
    assert stage.run(rows).cost is None


def test_each_row_costs_what_its_model_does(stage: Stage) -> None:
    """Rows name models of their own, at prices of their own."""
    stage.simulator.settings = replace(stage.simulator.settings, tokenizer=lambda _: 100)
    own = {"gpt-4.1-mini": {"input": 1, "output": 4}, "dear": {"input": 10, "output": 40}}
    rows = [row(1), row(2, params={"model": "dear"})]
    stage.run(rows, max_cost=1, prices=own)
    calls = read_calls(stage.output)
    assert calls["1"]["cost"] == pytest.approx((409 + 4 * 100) / 1e6)
    assert calls["2"]["cost"] == pytest.approx((4090 + 40 * 100) / 1e6)


def test_rows_of_a_pipe_whose_model_has_no_price_are_left_and_said(stage: Stage) -> None:
    """The others are done; exit code 3."""
    write_rows(stage.data, [row(1), row(2, params={"model": "odd"}), row(3)])
    config = stage.config_file(prices={"gpt-4.1-mini": {"input": 1, "output": 4}})
    words = ("run", "-", stage.output, "--config", config, "--max-cost", "1")
    result = stage.cli(*words, input=stage.data.read_text(encoding="utf-8"))
    assert result.returncode == 3
    assert "1 row (index 2) left: no price is known" in result.stderr
    assert sorted(read_ledger(stage.output)) == ["1", "3"]


def test_answers_from_the_cache_cost_nothing(stage: Stage, tmp_path: Path) -> None:
    """A row that was asked before takes nothing of the budget, not even while it is looked up."""
    stage.simulator.settings = replace(stage.simulator.settings, tokenizer=lambda _: 100)
    given_: dict[str, Any] = {"cache": True, "cache_directory": tmp_path / "kept", "threads": 1}
    rows = [row(number, "the same") for number in range(20)]
    summary = stage.run(rows, max_cost=0.0009, prices=PRICES, **given_)
    assert (summary.exit_code, summary.cached) == (0, 19)
    assert summary.cost == pytest.approx(809e-6)


def test_retries_that_may_be_billed_count(stage: Stage) -> None:
    """A call whose answer breaks off is on somebody's bill: the next rows have less."""
    stage.simulator.settings = replace(stage.simulator.settings, tokenizer=lambda _: 100)
    rows = [row(1, "[[fault:truncated*1]]")]
    summary = stage.run(rows, max_cost=1, prices=PRICES, params={"max_tokens": 100}, retry_delay=0)
    assert summary.done == 1
    assert summary.budget is not None
    assert summary.budget["calls_unanswered"] == 1
    assert summary.cost == pytest.approx(809e-6)
    assert (summary.budget["cost_spent"] or 0) > 809e-6 + 400e-6
    assert any("1 call that may be billed" in line for line in summary.lines())


def test_on_the_command_line(stage: Stage) -> None:
    """Exit code 5, the reason and what was spent in the last line; --json has the figures."""
    write_rows(stage.data, [row(number) for number in range(50)])
    result = stage.run_cli("--max-cost", "0.001", "--price", PRICE, "--json")
    assert result.returncode == 5
    told = json.loads(result.stdout)
    assert told["exit_code"] == 5
    assert 0 < told["budget"]["cost_spent"] <= 0.0012
    assert told["left"] == 50 - told["done"]
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: --max-cost $0.0010 is reached: ")
    assert "go on with a higher --max-cost" in last
    assert "next:" not in result.stderr
    result = stage.run_cli("--max-cost", "0.1", "--price", PRICE)
    assert result.returncode == 0
    assert "budget: $0.0" in result.stderr
    assert "of it by earlier runs" in result.stderr
    assert stage.run_cli("--max-cost", "1").returncode == 0  # nothing is left to pay for


def test_single_calls_keep_to_the_limits_too(simulator: Simulator) -> None:
    """A crew that nobody gave a budget has that of the settings."""
    given_ = {"api_base": simulator.base_url, "api_keys": list(KEYS), "prices": PRICES}
    config = settings.load(None, {**given_, "max_cost": 1e-9}, {})
    stop = Stop()
    crew = assemble(config, clock=FakeClock(), stop=stop, note=lambda _: None)
    try:
        assert crew.work(Record("1", "one", "")) is None
        assert isinstance(stop.reason, BudgetReachedError)
    finally:
        crew.close()
