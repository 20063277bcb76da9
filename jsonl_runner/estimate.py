"""What a dataset will cost, before anything is paid: tokens, dollars, time. Nothing is sent.

Prompts are counted as they would be sent; of more than 50,000 rows a sample is, one row at random
from each of 10,000 equal stretches, and the error is stated. How long answers are nobody can count:
it is told (`--output-tokens`), learnt from an earlier call log, or said to be unknown.
"""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from . import calllog
from .choice import left_rows
from .costs import is_own_server
from .errors import InputError
from .framing import prompt_count
from .indexes import IndexSet
from .ledger import scan
from .offers import cheaper_models
from .prompts import messages_of
from .reader import GroupReader, open_input
from .recipes import dataset_for
from .settings.price import prices_of
from .survey import survey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from .config import Config
    from .dataset import Data
    from .pricing import Prices
    from .records import Record
    from .survey import BadRowsPolicy

#: Rows up to which each is counted, and how many are of more.
COUNT_ALL, SAMPLE = 50_000, 10_000
#: Standard errors on each side of a mean that hold 95 % of the cases.
_SIGMAS = 1.96


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


@dataclass
class Estimate:
    """What a dataset will cost.

    Attributes:
        rows: rows that can be used.
        to_do: those without an output; all that follows is of them.
        bad_rows: rows that cannot be used.
        counted: rows whose tokens were counted: all to do, or a sample.
        input_tokens: of all prompts.
        output_tokens: of all answers.
        output_from: how that is known: `given`, `call log`, `max_tokens` (the upper bound alone),
            or empty.
        answers: of the call log that it was learnt from.
        costs: of the model, then of cheaper ones of the same provider.
        unpriced: models of rows without a price.
        minutes: at the limits of the settings, at the least; None: the limits are learnt.
        price_source: who says what tokens cost.
        notes: what the figures leave out.
    """

    rows: int = 0
    to_do: int = 0
    bad_rows: int = 0
    counted: int = 0
    input_tokens: Amount = Amount(0.0, 0.0, 0.0)
    output_tokens: Amount = Amount(None, 0.0, None)
    output_from: str = ""
    answers: int = 0
    costs: list[ModelCost] = field(default_factory=list)
    unpriced: list[str] = field(default_factory=list)
    minutes: float | None = None
    price_source: str = ""
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return asdict(self)


class _Prompts:
    """Prompts counted: tokens of each, by model."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.by_model: dict[str, array[int]] = {}
        self.limits = 0
        #: Sum of `max_tokens`, as far as every prompt had one.
        self.limit_tokens = 0
        self.has_other = 0

    def add(self, record: Record) -> None:
        params = {**self._config.params, **(record.params or {})}
        model = str(params.get("model") or self._config.model)
        found = prompt_count(messages_of(record), model, params)
        self.by_model.setdefault(model, array("q")).append(found.tokens)
        self.has_other += found.has_other
        limit = params.get("max_completion_tokens") or params.get("max_tokens")
        if isinstance(limit, int):
            self.limits += 1
            self.limit_tokens += limit

    @property
    def count(self) -> int:
        return sum(map(len, self.by_model.values()))

    def total(self, rows: int) -> Amount:
        """Return the tokens of so many rows, of which these are all or a sample."""
        count = self.count
        tokens = [tokens for counts in self.by_model.values() for tokens in counts]
        # Of `rows` prompts, `count` are known.
        doubt = 1 / count - 1 / rows if count else 0.0
        return _mean(sum(tokens), sum(n * n for n in tokens), count, doubt).scaled(rows)


def _mean(total: float, squares: float, count: int, doubt: float) -> Amount:
    """Return the mean of so many numbers, and between what the mean of the others asked for lies.

    Args:
        total: sum of the numbers known.
        squares: sum of their squares.
        count: how many they are.
        doubt: the variance of the mean asked for, in variances of one number.
    """
    if not count:
        return Amount(0.0, 0.0, 0.0)
    mean = total / count
    variance = max(0.0, squares / count - mean * mean) * count / max(1, count - 1)
    error = _SIGMAS * math.sqrt(variance * doubt)
    return Amount(mean, max(0.0, mean - error), mean + error)


def estimate(
    config: Config,
    data: Data,
    output: Path | None = None,
    *,
    output_tokens: float | None = None,
    bad_rows: BadRowsPolicy = "fail",
    seed: int = 0,
) -> Estimate:
    """Return what the rows of a dataset without an output will cost.

    Args:
        config: the settings; needs no key.
        data: the input.
        output: its ledger, whose rows are done, and whose call log tells how long answers are;
            None: no row is done.
        output_tokens: tokens of an answer; None: learnt from the call log.
        bad_rows: what to do about rows that cannot be used.
        seed: of the sample.

    Raises:
        InputError: the input cannot be read, or rows in it cannot be used.
        LedgerError: the ledger cannot be read.
        JsonlRunnerError: a vocabulary of this package is damaged.
    """
    data = dataset_for(data, output)
    done = IndexSet() if output is None else scan(output).done
    prompts = _Prompts(config)
    with open_input(data) as stream:
        if not stream.seekable():
            raise InputError(f"{data}: this is a pipe, which can be read once only; give a file")
        found = survey(stream, data, done)
        found.check(bad_rows)
        stream.seek(0)
        for record in _some(stream, str(data), done, found.todo, seed):
            prompts.add(record)
    result = Estimate(found.rows, found.todo, len(found.bad), prompts.count)
    result.input_tokens = prompts.total(found.todo)
    if output_tokens is not None:
        result.output_from = "given"
        result.output_tokens = Amount(*[output_tokens * found.todo] * 3)
    else:
        _learn(result, output, prompts)
    _price(result, config, prompts)
    result.minutes = _minutes(result, config)
    if prompts.has_other:
        share = f"{prompts.has_other:,} of the {prompts.count:,} prompts counted"
        result.notes.append(
            f"{share} hold images, tools or schemas, which only the provider counts"
        )
    return result


def _some(stream: IO[bytes], name: str, done: IndexSet, to_do: int, seed: int) -> Iterator[Record]:
    """Yield the rows to do, or one of each stretch where they are many."""
    rows = left_rows(GroupReader(stream, name).groups(), done, IndexSet(), IndexSet())
    if to_do <= COUNT_ALL:
        yield from (group.record(which) for group, which in rows)
        return
    rng = random.Random(seed)  # guards nothing
    stretch = 0
    wanted = -1
    for number, (group, which) in enumerate(rows):
        if number == stretch * to_do // SAMPLE:
            stretch += 1
            wanted = rng.randrange(number, stretch * to_do // SAMPLE)
        if number == wanted:
            yield group.record(which)


def _learn(result: Estimate, output: Path | None, prompts: _Prompts) -> None:
    """Tell how long answers will be by those that came, else by `max_tokens`."""
    count, total, squares = 0, 0, 0
    for entry in () if output is None else calllog.read(output):
        usage = entry.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        if entry.get("status") == "ok" and type(tokens) is int:
            count, total, squares = count + 1, total + tokens, squares + tokens * tokens
    if count:
        result.output_from, result.answers = "call log", count
        # The answers that came are no part of those to come: both have their chance.
        doubt = 1 / count + 1 / max(1, result.to_do)
        result.output_tokens = _mean(total, squares, count, doubt).scaled(result.to_do)
    elif prompts.count and prompts.limits == prompts.count:
        result.output_from = "max_tokens"
        high = prompts.limit_tokens / prompts.count * result.to_do
        result.output_tokens = Amount(None, 0.0, high)


def _price(result: Estimate, config: Config, prompts: _Prompts) -> None:
    """Tell what the rows cost with the model and with cheaper ones."""
    prices = prices_of(config.prices)
    provider = config.api_base
    if not prices.own and is_own_server(provider):
        result.unpriced = sorted(prompts.by_model)
        result.costs = [ModelCost(config.model, None, None)]
        return
    known = {model: prices.price_of(model, provider) for model in prompts.by_model}
    result.unpriced = sorted(model for model, price in known.items() if price is None)
    own = prices.price_of(config.model, provider)
    sources = [price.source for price in (own, *known.values()) if price is not None]
    result.price_source = ", ".join(dict.fromkeys(sources))
    chosen = ModelCost(config.model, None, None)
    if not result.unpriced and prompts.count:
        live, batch = (_cost(result, prices, prompts, provider, is_batch) for is_batch in (0, 1))
        guess = any(price.batch_estimated for price in known.values() if price is not None)
        chosen = ModelCost(config.model, live, batch, guess)
    result.costs = [chosen]
    if chosen.live is None or is_own_server(provider):
        return
    longest = max(map(max, prompts.by_model.values()))
    offers = []
    for model in cheaper_models(config.model, provider, longest):
        price = prices.price_of(model, provider)
        if price is None:
            continue
        live, batch = (_cost(result, prices, prompts, provider, b, model) for b in (0, 1))
        offers.append(ModelCost(model, live, batch, price.batch_estimated))
    result.costs += _nearest_below(chosen, offers)


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
    result: Estimate,
    prices: Prices,
    prompts: _Prompts,
    provider: str,
    is_batch: int,
    model: str | None = None,
) -> Amount:
    """Return dollars for all rows, each with its own model or all with one."""
    rows = result.to_do
    answer = result.output_tokens.scaled(1 / rows)
    known = result.input_tokens.expected or 0.0
    spread = [bound / known if known else 1.0 for bound in _bounds(result.input_tokens)]
    totals: list[float | None] = []
    for tokens, share in zip(
        (answer.expected, answer.low, answer.high), (1.0, *spread), strict=True
    ):
        if tokens is None:
            totals.append(None)
            continue
        total = 0.0
        for own, counts in prompts.by_model.items():
            total += _dollars(prices, model or own, provider, bool(is_batch), counts, tokens, share)
        totals.append(total * rows / prompts.count)
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


def _minutes(result: Estimate, config: Config) -> float | None:
    """Return the minutes the rows take at the limits of the settings, at the least."""
    keys = max(1, len(config.api_keys))
    tokens = (result.input_tokens.expected or 0.0) + (
        result.output_tokens.expected or result.output_tokens.high or 0.0
    )
    found = []
    if config.requests_per_minute:
        found.append(result.to_do / (config.requests_per_minute * keys))
    if config.tokens_per_minute:
        found.append(tokens / (config.tokens_per_minute * keys))
    return max(found, default=None)
