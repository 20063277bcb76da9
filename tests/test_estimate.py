"""What a dataset will cost: held against the bill of a run, and what nobody can know is said."""

from __future__ import annotations

import json
import os
import random
import subprocess
from array import array
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiktoken
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from support import Stage, row, write_rows

from jsonl_runner import config as settings
from jsonl_runner import estimate as room
from jsonl_runner.bill import Amount, Payable, bill
from jsonl_runner.choice import Choice
from jsonl_runner.errors import InputError
from jsonl_runner.estimate import Estimate, estimate
from jsonl_runner.offers import cheaper_models
from jsonl_runner.pricing import Prices
from jsonl_runner.settings.price import from_option
from jsonl_runner.tokens import num_tokens_from_string

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k_test.jsonl"
OPENAI = "https://api.openai.com/v1"
PRICES = from_option("input=1,output=4")


def config_with(**given_: Any) -> settings.Config:
    return settings.load(None, given_, {})


def estimate_of(folder: Path, rows: Sequence[Mapping[str, Any]], **more: Any) -> Estimate:
    data = write_rows(folder / "data.jsonl", rows)
    given_ = {name: more.pop(name) for name in list(more) if name in settings.SETTINGS}
    return estimate(config_with(**given_), data, **more)


def gsm8k() -> list[dict[str, Any]]:
    """Return the test split as rows, or questions like them where it is not there."""
    if not GSM8K.exists():
        rng = random.Random(1)
        words = "the shop sells apples for two dollars and Ann buys more".split()  # noqa: SIM905
        questions = [" ".join(rng.choices(words, k=rng.randint(20, 90))) for _ in range(1319)]
    else:
        lines = GSM8K.read_text(encoding="utf-8").splitlines()
        questions = [json.loads(line)["question"] for line in lines]
    how = "Solve the problem. Think step by step, and end with the number alone."
    return [
        {"index": number, "instruction": how, "input": question}
        for number, question in enumerate(questions)
    ]


def test_the_bill_of_gsm8k(stage: Stage) -> None:
    """A hundred rows first: then what the others will cost is known within 10 %.

    The server counts by itself, with tiktoken and the framing of OpenAI's cookbook.
    """
    num_tokens_from_string("")  # now tiktoken has the vocabulary, and asks no network for it
    counter = tiktoken.get_encoding("o200k_base")
    stage.simulator.settings = replace(
        stage.simulator.settings, tokenizer=lambda text: len(counter.encode_ordinary(text))
    )
    rows = gsm8k()
    first = stage.run(rows, prices=PRICES, job={"choice": Choice(sample=100)}, threads=16)
    assert first.left == len(rows) - 100
    config = stage.config(prices=PRICES)
    found = estimate(config, stage.data, stage.output)
    assert (found.to_do, found.answers, found.output_from) == (len(rows) - 100, 100, "call log")
    rest = stage.run(prices=PRICES, threads=16)
    assert rest.left == 0
    assert found.input_tokens.expected == rest.tokens.prompt, "counted, not guessed"
    out = found.output_tokens
    assert out.expected == pytest.approx(rest.tokens.completion, rel=0.1)
    # Beyond the interval comes one case in 20, and beyond its double one in 10,000.
    assert abs(rest.tokens.completion - (out.expected or 0)) <= (out.high or 0) - out.low
    live = found.costs[0].live
    assert live is not None
    assert live.expected == pytest.approx(rest.cost, rel=0.1)


def test_costs_by_hand(tmp_path: Path) -> None:
    """Ten rows of gpt-4.1 with answers of 100 tokens: live, in batches, and two cheaper models."""
    rows = [row(number, "What is the capital of Japan?") for number in range(10)]
    found = estimate_of(tmp_path, rows, model="gpt-4.1", output_tokens=100)
    each = 3 + 2 * 4 + 2 + 7
    assert found.input_tokens == Amount(10 * each, 10 * each, 10 * each)
    assert found.output_tokens == Amount(1000, 1000, 1000)
    price = Prices().price_of("gpt-4.1", OPENAI)
    assert price is not None
    own, *cheaper = found.costs
    for amount, rates in ((own.live, price.live), (own.batch, price.batch)):
        assert amount is not None
        dollars = (10 * each * rates.input + 1000 * rates.output) / 1e6
        assert amount.expected == amount.low == amount.high == pytest.approx(dollars)
    assert found.price_source.startswith("genai-prices ")
    assert len(cheaper) == 2
    amounts = [cost.live.expected or 0 for cost in found.costs if cost.live is not None]
    assert amounts == sorted(set(amounts), reverse=True)
    assert len(amounts) == 3
    for cost in cheaper:
        assert cost.model in cheaper_models("gpt-4.1", OPENAI, each)
    assert found.minutes is None


def test_the_cheaper_models_are_the_nearest_that_chat() -> None:
    """No audio, no images, no previews, none whose window is too small; none of nobody."""
    names = cheaper_models("gpt-4.1", OPENAI, 1000)
    assert "gpt-4.1" not in names
    assert {"gpt-4.1-mini", "gpt-4.1-nano"} <= set(names)
    assert not [name for name in names if "audio" in name or "image" in name or "embed" in name]
    assert "gpt-4o-mini" in names
    assert "gpt-4o-mini" not in cheaper_models("gpt-4.1", OPENAI, 500_000)
    assert cheaper_models("x", "https://nobody.invalid/v1", 1) == []


def test_long_prompts_at_their_higher_rates() -> None:
    """Rates that hang on the prompt's length: each prompt has its own."""
    config = config_with(model="gpt-5.4")
    # Prompts of this length take a minute to write.
    counts = {"gpt-5.4": array("q", [1000, 500_000])}
    tokens_in, tokens_out = Amount(*[501_000.0] * 3), Amount(*[2000.0] * 3)
    result = bill(config, Payable(2, counts, tokens_in, tokens_out))
    expected = 0.0
    for tokens in (1000, 500_000):
        used = {"prompt_tokens": tokens, "completion_tokens": 0}
        cost = Prices().cost_of(used, "gpt-5.4", batch=False, provider=OPENAI)
        expected += cost.amount_usd if cost else 0.0
    price = Prices().price_of("gpt-5.4", OPENAI)
    live = result.costs[0].live
    assert price is not None
    assert live is not None
    assert expected > 501_000 * price.live.input / 1e6
    assert live.expected == pytest.approx(expected + 2000 * price.live.output / 1e6)


@trials(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(0, 60), min_size=201, max_size=400), seed=st.integers(0, 10))
def test_a_sample_and_its_error(tmp_path_factory: Any, lengths: list[int], seed: int) -> None:
    """Of many rows some are counted, one of each stretch; their mean is near that of all.

    Within three times the 95 % interval, that is: chance may go further, by one in a billion.
    """
    folder = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        rows = [row(number, "a " * length) for number, length in enumerate(lengths)]
        whole = estimate_of(folder, rows)
        patch.setattr(room, "COUNT_ALL", 200)
        patch.setattr(room, "SAMPLE", 100)
        some = estimate_of(folder, rows, seed=seed)
        again = estimate_of(folder, rows, seed=seed)
    assert some == again
    assert (whole.counted, some.counted) == (len(rows), 100)
    total, found = whole.input_tokens.expected, some.input_tokens
    assert total is not None
    assert found.expected is not None
    assert found.high is not None
    assert found.low <= found.expected <= found.high
    assert abs(found.expected - total) <= max(3 * (found.high - found.expected), 0.25 * total)


def test_how_long_answers_are(tmp_path: Path) -> None:
    """Told, bounded by max_tokens, or unknown: then costs are bounds, and prompts alone."""
    rows = [row(1), row(2, params={"max_tokens": 50})]
    found = estimate_of(tmp_path, rows, prices=PRICES)
    assert (found.output_from, found.output_tokens) == ("", Amount(None, 0, None))
    live = found.costs[0].live
    assert live is not None
    assert (live.expected, live.high) == (None, None)
    assert live.low == pytest.approx((found.input_tokens.expected or 0) / 1e6)
    found = estimate_of(tmp_path, rows, prices=PRICES, params={"max_tokens": 100})
    assert (found.output_from, found.output_tokens) == ("max_tokens", Amount(None, 0, 150))
    live = found.costs[0].live
    assert live is not None
    assert live.high == pytest.approx(live.low + 4 * 150 / 1e6)


def test_rows_with_models_of_their_own(tmp_path: Path) -> None:
    """Each costs what its model does; without a price it is named, and no sum is made up."""
    prices = {"dear": {"input": 1000, "output": 1000}, "gpt-4.1-mini": {"input": 1, "output": 4}}
    rows = [row(1), row(2, params={"model": "dear"})]
    found = estimate_of(tmp_path, rows, prices=prices, output_tokens=0)
    live = found.costs[0].live
    assert live is not None
    half = (found.input_tokens.expected or 0) / 2
    assert live.expected == pytest.approx((half + 1000 * half) / 1e6)
    rows.append(row(3, params={"model": "nobody-knows"}))
    found = estimate_of(tmp_path, rows, prices=prices, output_tokens=0)
    assert (found.unpriced, found.costs[0].live) == (["nobody-knows"], None)


@pytest.mark.parametrize(
    ("limits", "minutes"),
    [
        ({}, None),
        ({"requests_per_minute": 5}, 10 / 5 / 2),
        ({"tokens_per_minute": 100}, 10 * (16 + 100) / 100 / 2),
        ({"requests_per_minute": 5, "tokens_per_minute": 1e9}, 10 / 5 / 2),
    ],
)
def test_the_time_at_the_limits(
    tmp_path: Path, limits: dict[str, float], minutes: float | None
) -> None:
    """The tighter limit, on all keys; without any, nobody knows yet."""
    rows = [row(number, "one two") for number in range(10)]
    keys = ["sk-test-aaaaaaaaaaaaaaaa0001", "sk-test-bbbbbbbbbbbbbbbb0002"]
    found = estimate_of(tmp_path, rows, api_keys=keys, output_tokens=100, **limits)
    tokens = (found.input_tokens.expected or 0) / 10
    if "tokens_per_minute" in limits and "requests_per_minute" not in limits:
        minutes = 10 * (tokens + 100) / 100 / 2
    assert found.minutes == (None if minutes is None else pytest.approx(minutes))


def test_bad_rows_are_counted_or_refused(tmp_path: Path) -> None:
    """As `run` does: they stop it unless told to be left out."""
    data = write_rows(tmp_path / "data.jsonl", [row(1), {"instruction": "no index"}])
    with pytest.raises(InputError, match="1 row cannot be used"):
        estimate(config_with(), data)
    found = estimate(config_with(), data, bad_rows="skip")
    assert (found.rows, found.bad_rows) == (1, 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_refused(stage: Stage) -> None:
    """It is read twice: that takes a file. A dry run would take from a pipe what a run wants."""
    os.mkfifo(stage.data)
    for words in (("estimate", stage.data), ("run", stage.data, stage.output, "--dry-run")):
        reader = subprocess.Popen(
            stage.command(*words), cwd=stage.folder, stderr=subprocess.PIPE, text=True
        )
        stage.data.write_text(json.dumps(row(1)) + "\n", encoding="utf-8")
        _, said = reader.communicate(timeout=60)
        assert (reader.returncode, "pipe" in said) == (2, True)


def test_on_the_command_line(stage: Stage) -> None:
    """Readable, on stdout, without a key, a call or a file; --json has the same figures."""
    write_rows(stage.data, [row(number) for number in range(20)])
    words = ("estimate", stage.data, "--output-tokens", "50", "--model", "gpt-4.1")
    before = sorted(stage.folder.iterdir())
    result = stage.cli(*words)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{stage.data}: 20 rows to do; all that follows is an estimate"
    assert lines[2] == "tokens out: 1,000 (50.0 a row; --output-tokens)"
    assert lines[4].startswith("gpt-4.1 ")
    assert "limits are learnt" in lines[-1]
    told = json.loads(stage.cli(*words, "--json").stdout)
    assert told["to_do"] == 20
    assert told["costs"][0]["model"] == "gpt-4.1"
    assert f"${told['costs'][0]['live']['expected']:.4f}" in lines[4]
    assert sorted(stage.folder.iterdir()) == before


def test_what_the_command_line_does_not_know(stage: Stage) -> None:
    """An address without prices, answers nobody can count, all rows done: said in words."""
    write_rows(stage.data, [row(number) for number in range(20)])
    config = stage.config_file(requests_per_minute=10, tokens_per_minute=100)
    words = ("estimate", stage.data, "--config", config)
    said = stage.cli(*words).stdout
    assert "cost: no price is known for gpt-4.1-mini at this address; give --price" in said
    assert "tokens out: not known; tell with --output-tokens, or run --sample 50 first" in said
    assert "at the least, with 2 keys of 10 requests a minute and 100 tokens a minute" in said
    said = stage.cli(*words, "--price", "input=1,output=4", "--max-tokens", "10").stdout
    assert "tokens out: not known, 200 at the most (max_tokens)" in said
    assert " to $0.00" in said
    stage.run(job={"choice": Choice(limit=5)})
    output = ("estimate", stage.data, stage.output, "--config", config)
    said = stage.cli(*output, "--price", "input=1,output=4").stdout
    assert "15 rows to do, 5 have an output" in said
    assert "mean of 5 answers so far, ±" in said
    stage.run()
    result = stage.cli(*output)
    assert result.stdout.splitlines() == [
        f"{stage.data}: 0 rows to do, 20 have an output; all that follows is an estimate"
    ]
