"""What tokens cost. Nothing is fetched from anywhere: the prices lie in the package genai-prices.

That library (https://github.com/pydantic/genai-prices, MIT) goes to the network only when somebody
starts its `UpdatePrices`; nothing here does. Prices of the user's own go before its (`pricefile`
reads them). A model without a price has none: `None`, never a guess by a similar name.

Rates are US dollars for a million tokens. The price of a batch is the library's where it has one.
It has those of dates from 2026-10-14 on only, and of some providers none: then it is a part of the
live price (a half, unless told otherwise) and said to be an estimate.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a batch costs of the live price where nothing better is known; all large providers say so.
BATCH_DISCOUNT = 0.5
_MILLION = 1_000_000
#: Some prices change with the time of day, at full or half hours.
_STEP_S = 600


class Rates(NamedTuple):
    """US dollars for a million tokens.

    Attributes:
        input: of the prompt.
        cached: of that part of the prompt the provider had in its cache.
        output: of the answer.
    """

    input: float
    cached: float
    output: float


@dataclass(frozen=True)
class Price:
    """What a model costs.

    Attributes:
        live, batch: the rates; of long prompts they may be higher, see `Prices.cost_of`.
        batch_estimated: whether those of a batch are a part of the live ones.
        source: who says so.
    """

    live: Rates
    batch: Rates
    batch_estimated: bool
    source: str


class Cost(NamedTuple):
    """What a request cost.

    Attributes:
        amount_usd: US dollars.
        estimated: whether the rates are an estimate, or the usage holds what has no rate here.
    """

    amount_usd: float
    estimated: bool


class _Used(NamedTuple):
    """Tokens of one request; `prompt` holds those read from and written into a cache."""

    prompt: int
    cached: int
    written: int
    answer: int
    has_other: bool


class _Steps(NamedTuple):
    """A rate that depends on how long the prompt is: all tokens have that of the step reached."""

    base: float
    steps: tuple[tuple[int, float], ...] = ()

    def at(self, prompt: int) -> float:
        rate = self.base
        for start, price in self.steps:
            if prompt > start:
                rate = price
        return rate


class _Known(NamedTuple):
    """The rates of one model at one time; `written` is of tokens written into a cache."""

    input: _Steps
    cached: _Steps
    written: _Steps
    output: _Steps

    def rates(self) -> Rates:
        return Rates(self.input.base, self.cached.base, self.output.base)

    def cost(self, used: _Used) -> float:
        fresh = used.prompt - used.cached - used.written
        dollars = (
            fresh * self.input.at(used.prompt)
            + used.cached * self.cached.at(used.prompt)
            + used.written * self.written.at(used.prompt)
            + used.answer * self.output.at(used.prompt)
        )
        return dollars / _MILLION


@dataclass(frozen=True)
class Prices:
    """The prices in force; each of the user's own holds for all lengths of prompts.

    Attributes:
        every: of every model, from `--price`; None: not given.
        own: of models by name, or by a pattern such as `qwen-*`; from the user's file.
    """

    every: Price | None = None
    own: Mapping[str, Price] = field(default_factory=dict)

    def price_of(
        self,
        model: str,
        provider: str | None = None,
        *,
        when: datetime | None = None,
        discount: float = BATCH_DISCOUNT,
    ) -> Price | None:
        """Return what a model costs, None when that is not known.

        Args:
            model: as the provider calls it.
            provider: its name in genai-prices, or the address of its API; None: whoever makes the
                model. An address that is not known there has no prices.
            when: the moment of the call; None: now.
            discount: price of a batch as a part of the live one, where nothing better is known.
        """
        given = self.given(model)
        if given is not None:
            return given
        live, batch, estimated = _looked_up(model, provider, when, discount)
        if live is None or batch is None:
            return None
        return Price(live.rates(), batch.rates(), estimated, _source())

    def cost_of(
        self,
        usage: Mapping[str, Any] | None,
        model: str,
        *,
        batch: bool = False,
        provider: str | None = None,
        when: datetime | None = None,
        discount: float = BATCH_DISCOUNT,
    ) -> Cost | None:
        """Return what a request cost, None when that cannot be known.

        One request at a time: the rates of some models depend on how long its prompt is.

        Args:
            usage: of the answer, in OpenAI's words or Anthropic's.
            model: the model that answered.
            batch: whether it was answered in a batch.
            provider: as `price_of` takes it.
            when: as `price_of` takes it.
            discount: as `price_of` takes it.
        """
        used = _used(usage)
        if used is None:
            return None
        given = self.given(model)
        if given is not None:
            rates = given.batch if batch else given.live
            fresh, cached, output = (_Steps(rate) for rate in rates)
            known: _Known | None = _Known(fresh, cached, fresh, output)
            estimated = batch and given.batch_estimated
        else:
            live, batched, is_guess = _looked_up(model, provider, when, discount)
            known, estimated = (batched, is_guess) if batch else (live, False)
        if known is None:
            return None
        return Cost(known.cost(used), estimated or used.has_other)

    def given(self, model: str) -> Price | None:
        """Return the user's own price of a model, None where there is none."""
        if self.every is not None:
            return self.every
        if model in self.own:
            return self.own[model]
        for pattern, price in self.own.items():
            if fnmatchcase(model, pattern):
                return price
        return None


def _looked_up(
    model: str, provider: str | None, when: datetime | None, discount: float
) -> tuple[_Known | None, _Known | None, bool]:
    """Return the live rates, those of a batch, and whether the latter are an estimate."""
    seconds = time.time() if when is None else when.timestamp()
    return _rates_at(model, provider, int(seconds // _STEP_S) * _STEP_S, discount)


@functools.lru_cache(maxsize=4096)  # a run has millions of answers, and a report counts them all
def _rates_at(
    model: str, provider: str | None, seconds: int, discount: float
) -> tuple[_Known | None, _Known | None, bool]:
    live, batch = _from_library(model, provider, seconds)
    if live is None:
        return None, None, False
    if batch != live:
        return live, batch, False
    return live, _Known(*(_part_of(rate, discount) for rate in live)), True


def _part_of(rate: _Steps, part: float) -> _Steps:
    return _Steps(rate.base * part, tuple((start, price * part) for start, price in rate.steps))


def _from_library(
    model: str, provider: str | None, seconds: int
) -> tuple[_Known | None, _Known | None]:
    import genai_prices  # noqa: PLC0415  # half a second that --help need not wait for

    where: dict[str, Any] = {}
    if provider is not None:
        where["provider_api_url" if "://" in provider else "provider_id"] = provider
    nothing = genai_prices.Usage(input_tokens=0, output_tokens=0)
    when = datetime.fromtimestamp(seconds, UTC)
    found = []
    for context in (None, {"processing": "batch"}):
        try:
            calculated = genai_prices.calc_price(
                nothing, model, genai_request_timestamp=when, price_context=context, **where
            )
        except LookupError:
            return None, None
        found.append(_known(calculated.model_price))
    return found[0], found[1]


def _known(price: Any) -> _Known | None:
    """Return the library's rates; None where it has none for prompt or answer."""
    prompt, output = _steps(price.input_mtok), _steps(price.output_mtok)
    if prompt is None or output is None:
        return None
    return _Known(
        prompt,
        _steps(price.cache_read_mtok) or prompt,
        _steps(price.cache_write_mtok) or prompt,
        output,
    )


def _steps(rate: Any) -> _Steps | None:
    if rate is None:
        return None
    if hasattr(rate, "base"):
        steps = tuple((tier.start, float(tier.price)) for tier in rate.tiers)
        return _Steps(float(rate.base), steps)
    return _Steps(float(rate))


def _source() -> str:
    import genai_prices  # noqa: PLC0415

    return f"genai-prices {genai_prices.__version__}"


def _used(usage: object) -> _Used | None:
    """Return the tokens of a usage.

    OpenAI's `prompt_tokens` and the `input_tokens` of its Responses hold the cached ones,
    Anthropic's `input_tokens` do not.
    """
    if not isinstance(usage, dict):
        return None
    of_chat = "prompt_tokens" in usage
    prompt = _tokens(usage, "prompt_tokens" if of_chat else "input_tokens")
    answer = _tokens(usage, "completion_tokens" if of_chat else "output_tokens")
    if prompt is None or answer is None:
        return None
    details = usage.get("prompt_tokens_details" if of_chat else "input_tokens_details")
    told = details if isinstance(details, dict) else {}
    written = _tokens(usage, "cache_creation_input_tokens") or 0
    cached = _tokens(told, "cached_tokens") or 0
    if not of_chat and {"cache_read_input_tokens", "cache_creation_input_tokens"} & usage.keys():
        cached = _tokens(usage, "cache_read_input_tokens") or 0
        prompt += cached + written
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    return _Used(prompt, cached, written, answer, bool(_tokens(told, "audio_tokens")))


def _tokens(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
