"""What tokens cost: figures that can be checked by hand, and nothing that is guessed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import genai_prices
import pytest
from genai_prices import data_snapshot
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner.errors import ConfigError
from jsonl_runner.pricefile import load_prices, parse_price
from jsonl_runner.pricing import Cost, Prices, Rates

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 21, tzinfo=UTC)
BEFORE = datetime(2026, 10, 1, tzinfo=UTC)
price_of, cost_of = Prices().price_of, Prices().cost_of


def near(amount: float, *, estimated: bool = False) -> Cost:
    return Cost(pytest.approx(amount), estimated)  # type: ignore[arg-type]


def usage(prompt: int, answer: int, cached: int = 0) -> dict[str, Any]:
    details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached else {}
    return {"prompt_tokens": prompt, "completion_tokens": answer, **details}


@pytest.mark.parametrize(
    ("model", "rates"),
    [
        ("gpt-4.1", Rates(2.00, 0.50, 8.00)),
        ("gpt-4.1-2025-04-14", Rates(2.00, 0.50, 8.00)),
        ("gpt-4.1-mini", Rates(0.40, 0.10, 1.60)),
        ("gpt-4.1-nano", Rates(0.10, 0.025, 0.40)),
    ],
)
def test_the_table_of_2025_04_15(model: str, rates: Rates) -> None:
    """The first three models this was made for, by name, by provider and by address."""
    for provider in (None, "openai", "https://api.openai.com/v1"):
        found = price_of(model, provider, when=NOW)
        assert found is not None
        assert found.live == pytest.approx(rates)
        assert found.batch == pytest.approx((rates.input / 2, rates.cached, rates.output / 2))
        assert found.batch_estimated is False
        assert found.source.startswith("genai-prices ")


def test_costs_by_hand() -> None:
    """Cached input is part of the input; in a batch of gpt-4.1 it is not halved."""
    used = usage(1_000_000, 1_000_000, cached=400_000)
    live = cost_of(used, "gpt-4.1-mini", batch=False, when=NOW)
    assert live == near(0.6 * 0.40 + 0.4 * 0.10 + 1.60)
    batch = cost_of(used, "gpt-4.1-mini", batch=True, when=NOW)
    assert batch == near(0.6 * 0.20 + 0.4 * 0.10 + 0.80)


def test_the_library_says_the_same() -> None:
    """Our arithmetic is the library's, tiers included."""
    for model in ("gpt-5.5", "gpt-4.1", "claude-sonnet-5", "gemini-2.5-pro"):
        for prompt in (1000, 150_000, 250_000, 900_000):
            theirs = genai_prices.calc_price(
                genai_prices.Usage(input_tokens=prompt, cache_read_tokens=500, output_tokens=77),
                model,
                genai_request_timestamp=NOW,
            )
            ours = cost_of(usage(prompt, 77, 500), model, batch=False, when=NOW)
            assert ours == near(float(theirs.total_price))


def test_a_batch_without_a_price_of_its_own_is_an_estimate() -> None:
    """Half of the live price, and said: at an older date, and where the library has none."""
    used = usage(1_000_000, 1_000_000)
    for model, provider, when in (
        ("gpt-4.1", None, BEFORE),
        ("llama-3.3-70b-versatile", "groq", NOW),
    ):
        live = cost_of(used, model, batch=False, provider=provider, when=when)
        batch = cost_of(used, model, batch=True, provider=provider, when=when)
        assert live is not None
        assert batch == near(live.amount_usd / 2, estimated=True)
        found = price_of(model, provider, when=when)
        assert found is not None
        assert found.batch_estimated


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("no-such-model-77b", None),
        ("gpt-4.1", "https://gateway.example/v1"),
        ("gpt-4.1", "no-such-provider"),
        ("no-such-model-77b", "openai"),
        ("simulated-gpt-4.1", None),
        ("", None),
    ],
)
def test_a_model_without_a_price_has_none(model: str, provider: str | None) -> None:
    """Never a guess by a similar name or another provider's price."""
    assert price_of(model, provider) is None
    assert cost_of(usage(1, 1), model, batch=True, provider=provider) is None


@pytest.mark.parametrize("odd", [None, {}, [], "x", {"prompt_tokens": 1}, {"prompt_tokens": "1"}])
def test_a_usage_that_says_nothing_has_no_cost(odd: Any) -> None:
    """Not zero dollars."""
    assert cost_of(odd, "gpt-4.1", batch=False) is None


def test_anthropic_counts_cached_tokens_beside_its_input() -> None:
    """Its own words and ours for the same tokens cost the same."""
    theirs = {
        "input_tokens": 1000,
        "cache_read_input_tokens": 2000,
        "cache_creation_input_tokens": 3000,
        "output_tokens": 10,
    }
    ours = {**usage(6000, 10, 2000), "cache_creation_input_tokens": 3000}
    cost = cost_of(theirs, "claude-sonnet-5", batch=False, when=NOW)
    assert cost == cost_of(ours, "claude-sonnet-5", batch=False, when=NOW)
    by_hand = (1000 * 2 + 2000 * 0.2 + 3000 * 2.5 + 10 * 10) / 1e6
    assert cost == near(by_hand)


def test_responses_count_cached_tokens_in_their_input() -> None:
    """OpenAI's other words."""
    theirs = {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 400},
        "output_tokens": 10,
    }
    assert cost_of(theirs, "gpt-4.1", batch=False, when=NOW) == cost_of(
        usage(1000, 10, 400), "gpt-4.1", batch=False, when=NOW
    )


def test_audio_makes_it_an_estimate() -> None:
    """It has rates of its own, which are not here."""
    used = {**usage(10, 10), "prompt_tokens_details": {"audio_tokens": 5}}
    cost = cost_of(used, "gpt-4.1", batch=False, when=NOW)
    assert cost is not None
    assert cost.estimated


def test_prices_of_the_users_own(tmp_path: Path) -> None:
    """A file goes before the library, --price before both; patterns are for families."""
    path = tmp_path / "prices.yaml"
    path.write_text(
        "gpt-4.1: {input: 1, output: 2, batch: {input: 0.25, cached: 0.1, output: 0.5}}\n"
        '"qwen-*": {input: 4, cached: 1, output: 8}\n',
        encoding="utf-8",
    )
    prices = load_prices(path)
    used = usage(1_000_000, 1_000_000, cached=500_000)
    assert prices.cost_of(used, "gpt-4.1") == Cost(3.0, False)
    assert prices.cost_of(used, "gpt-4.1", batch=True) == Cost(0.125 + 0.05 + 0.5, False)
    assert prices.cost_of(used, "qwen-plus") == Cost(10.5, False)
    assert prices.cost_of(used, "qwen-plus", batch=True) == Cost(5.25, True)
    assert prices.cost_of(used, "qwen-plus", provider="https://gateway.example/v1") is not None
    assert prices.price_of("gpt-4.1-mini") == price_of("gpt-4.1-mini")
    assert prices.cost_of(used, "other") is None
    every = load_prices(path, "input=10,output=0")
    assert every.cost_of(used, "gpt-4.1") == every.cost_of(used, "other") == Cost(10.0, False)


def test_a_price_on_the_command_line() -> None:
    """In words; of a batch too."""
    price = parse_price("input=0.4, cached=0.1, output=1.6")
    assert (price.live, price.batch_estimated) == (Rates(0.4, 0.1, 1.6), True)
    price = parse_price("input=1,output=2,batch_input=0.3,batch_output=0.4")
    assert (price.batch, price.batch_estimated) == (Rates(0.3, 0.3, 0.4), False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not understood"),
        ("input", "is not understood"),
        ("input=1", "output is missing"),
        ("input=1,output=x", "output must be a number"),
        ("input=1,output=nan", "output must be dollars"),
        ("input=-1,output=1", "input must be dollars"),
        ("input=1,output=1,input=2", "is not understood"),
        ("input=1,output=1,thoughts=1", "is not understood"),
        ("input=1,output=1,batch_input=1", "batch: output is missing"),
    ],
)
def test_a_price_that_makes_no_sense(text: str, says: str) -> None:
    """One line that names it."""
    with pytest.raises(ConfigError, match=says):
        parse_price(text)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"m": 3}, "m: must be an object"),
        ({"m": {"input": 1}}, "m: output is missing"),
        ({"m": {"input": True, "output": 1}}, "m: input must be dollars"),
        ({"m": {"input": 1, "output": 1, "out": 1}}, "m: 'out' is not known here"),
        ({"m": {"input": 1, "output": 1, "batch": 2}}, "m: batch: must be an object"),
    ],
)
def test_a_file_of_prices_that_makes_no_sense(tmp_path: Path, data: Any, says: str) -> None:
    """The file and the model are named."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"prices.json: {says}"):
        load_prices(path)
    with pytest.raises(ConfigError, match="there is no such file of prices"):
        load_prices(tmp_path / "none.json")


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7))
def test_no_usage_costs_less_than_nothing(prompt: int, answer: int, cached: int) -> None:
    """For every usage, even one whose cached tokens exceed its prompt."""
    cost = Prices().cost_of(usage(prompt, answer, cached), "gpt-4.1", when=NOW)
    assert cost is not None
    assert 0 <= cost.amount_usd <= (prompt * 2 + answer * 8) / 1e6 + 1e-9


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices are there without a network."""

    def refuse(*_args: Any, **_more: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert cost_of(usage(10, 10), "gpt-4o-mini", batch=True) is not None
    assert not data_snapshot.get_snapshot().from_auto_update
    assert not [thread for thread in threading.enumerate() if "price" in thread.name.lower()]


def test_the_library_is_not_loaded_before_it_is_needed() -> None:
    """It takes half a second that other commands need not wait for."""
    code = "import sys, jsonl_runner.pricing; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
