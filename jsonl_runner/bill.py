"""What rows cost whose tokens are known or guessed: with a model, and with cheaper ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .costs import is_own_server
from .offers import cheaper_models
from .settings.price import prices_of

if TYPE_CHECKING:
    from array import array
    from collections.abc import Mapping

    from .config import Config
    from .pricing import Prices


@dataclass(frozen=True)
class Amount:
    """A number, and where it lies in 95 of 100 cases (or its bounds, where they are known).

    Attributes:
        expected: None when nobody can tell.
        low, high: the bounds; `high` None: without bound.
    """

    expected: float | None
    low: float
    high: float | None

    def scaled(self, factor: float) -> Amount:
        """Return it so many times."""
        expected = None if self.expected is None else self.expected * factor
        return Amount(
            expected, self.low * factor, None if self.high is None else self.high * factor
        )

    def plus(self, other: Amount) -> Amount:
        """Return it and another one together; what is not known of either is not of both."""
        pairs = (self.expected, other.expected), (self.high, other.high)
        expected, high = (None if a is None or b is None else a + b for a, b in pairs)
        return Amount(expected, self.low + other.low, high)


@dataclass(frozen=True)
class ModelCost:
    """What the rows cost with a model.

    Attributes:
        model: its name; of the first, rows that name models of their own keep to those.
        live, batch: US dollars; None: no price is known.
        batch_estimated: whether the price of a batch is a part of the live one.
    """

    model: str
    live: Amount | None
    batch: Amount | None
    batch_estimated: bool = False


class Payable(NamedTuple):
    """Rows that are to be paid for.

    Attributes:
        rows: how many.
        by_model: tokens of their prompts, of all or of a sample, by the model that is payable.
        input_tokens, output_tokens: of all of them.
    """

    rows: int
    by_model: Mapping[str, array[int]]
    input_tokens: Amount
    output_tokens: Amount

    @property
    def counted(self) -> int:
        """How many prompts were counted."""
        return sum(map(len, self.by_model.values()))


@dataclass
class Bill:
    """What they cost.

    Attributes:
        costs: of the model, then of cheaper ones of the same provider.
        unpriced: models of rows without a price.
        source: who says what tokens cost.
    """

    costs: list[ModelCost]
    unpriced: list[str] = field(default_factory=list)
    source: str = ""


def bill(config: Config, payable: Payable) -> Bill:
    """Return what rows cost with the settings' model and with cheaper ones.

    Args:
        config: the settings.
        payable: the rows.
    """
    prices = prices_of(config.prices)
    provider = config.api_base
    if not prices.own and is_own_server(provider):
        return Bill([ModelCost(config.model, None, None)], sorted(payable.by_model))
    known = {model: prices.price_of(model, provider) for model in payable.by_model}
    unpriced = sorted(model for model, price in known.items() if price is None)
    own = prices.price_of(config.model, provider)
    sources = [price.source for price in (own, *known.values()) if price is not None]
    source = ", ".join(dict.fromkeys(sources))
    chosen = ModelCost(config.model, None, None)
    if not unpriced and payable.counted:
        live, batch = (_cost(payable, prices, provider, is_batch) for is_batch in (0, 1))
        guess = any(price.batch_estimated for price in known.values() if price is not None)
        chosen = ModelCost(config.model, live, batch, guess)
    found = Bill([chosen], unpriced, source)
    if chosen.live is None or is_own_server(provider):
        return found
    longest = max(map(max, payable.by_model.values()))
    offers = []
    for model in cheaper_models(config.model, provider, longest):
        price = prices.price_of(model, provider)
        if price is None:
            continue
        live, batch = (_cost(payable, prices, provider, is_batch, model) for is_batch in (0, 1))
        offers.append(ModelCost(model, live, batch, price.batch_estimated))
    found.costs += _nearest_below(chosen, offers)
    return found


def _nearest_below(chosen: ModelCost, offers: list[ModelCost]) -> list[ModelCost]:
    """Return the two dearest of those that cost less, no two of one price."""
    found: list[ModelCost] = []
    bound = _size(chosen)
    for offer in sorted(offers, key=lambda offer: (-_size(offer), len(offer.model))):
        if len(found) < 2 and _size(offer) < bound * (1 - 1e-9):
            found.append(offer)
            bound = _size(offer)
    return found


def _size(cost: ModelCost) -> float:
    amount = cost.live
    if amount is None:
        return 0.0
    return amount.expected or amount.high or amount.low


def _cost(
    payable: Payable,
    prices: Prices,
    provider: str,
    is_batch: int,
    model: str | None = None,
) -> Amount:
    """Return dollars for all rows, each with its own model or all with one."""
    answer = payable.output_tokens.scaled(1 / payable.rows)
    known = payable.input_tokens.expected or 0.0
    spread = [bound / known if known else 1.0 for bound in _bounds(payable.input_tokens)]
    totals: list[float | None] = []
    for tokens, share in zip(
        (answer.expected, answer.low, answer.high), (1.0, *spread), strict=True
    ):
        if tokens is None:
            totals.append(None)
            continue
        total = 0.0
        for own, counts in payable.by_model.items():
            total += _dollars(prices, model or own, provider, bool(is_batch), counts, tokens, share)
        totals.append(total * payable.rows / payable.counted)
    return Amount(totals[0], totals[1] or 0.0, totals[2])


def _bounds(amount: Amount) -> tuple[float, float]:
    return amount.low, amount.low if amount.high is None else amount.high


def _dollars(  # what a price hangs on
    prices: Prices,
    model: str,
    provider: str,
    is_batch: bool,  # noqa: FBT001
    counts: array[int],
    answer: float,
    share: float,
) -> float:
    """Return dollars for prompts of these lengths (times `share`), with answers of one length."""

    def cost(prompt: float, completion: float) -> float:
        # A million requests' worth at once would meet the higher rates of long prompts: so one, and
        # whole tokens, of which a fraction makes no difference over many rows.
        usage = {"prompt_tokens": round(prompt), "completion_tokens": round(completion)}
        found = prices.cost_of(usage, model, batch=is_batch, provider=provider)
        return 0.0 if found is None else found.amount_usd

    big = 1_000_000
    longest = max(counts)
    per_token = cost(longest, 0) / max(1, longest)
    # The rate of the longest prompt is that of one token: then of all between.
    if math.isclose(per_token, cost(1, 0), rel_tol=1e-9):
        prompts_cost = per_token * sum(counts) * share
    else:
        prompts_cost = sum(cost(tokens * share, 0) for tokens in counts)
    return prompts_cost + cost(0, big) / big * answer * len(counts)
