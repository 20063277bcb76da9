"""`jsonl-runner estimate`."""

from __future__ import annotations

import functools
from dataclasses import replace
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .calling import (
    config_of,
    judge_of,
    judge_options,
    price_option,
    response_format_option,
)
from .help import Sectioned
from .inputs import dataset_options
from .options import (
    PATH,
    bad_rows_option,
    config_options,
    console_options,
    json_option,
    print_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..bill import Amount, ModelCost
    from ..config import Config
    from ..dataset import Dataset
    from ..estimate import Estimate
    from ..judging import Judge

#: Options of calls that nothing here hangs on; `config_of` wants to hear of them.
_UNUSED = ("transport", "proxy", "threads", "max_retries", "timeout", "temperature")


@click.command(cls=Sectioned, short_help="What a dataset will cost, before anything is paid.")
@click.argument("data", type=PATH, nargs=-1, metavar="DATA... [OUTPUT]")
@functools.partial(config_options, calls=False)
@click.option(
    "--output-tokens",
    type=click.FloatRange(min=0),
    metavar="N",
    help="Tokens of an answer.  [default: learnt from the call log of OUTPUT]",
)
@price_option
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A request parameter of the run, such as tools. May be repeated.",
)
@response_format_option
@click.option("--max-tokens", type=int, help="Longest answer, in tokens.")
@judge_options
@click.option(
    "--verdict-tokens",
    type=click.FloatRange(min=0),
    metavar="N",
    help="Tokens of a verdict.  [default: learnt from the call log of the verdicts on OUTPUT]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sample of many rows.")
@bad_rows_option
@functools.partial(dataset_options, last="DATA")
@json_option
@console_options
def estimate(data: Dataset, **options: Any) -> int:
    """Tell what the rows of DATA will cost that have no output in OUTPUT yet: nothing is sent.

    Tokens of prompts are counted (above 50,000 rows: of a sample); those of answers are told,
    learnt from the call log of OUTPUT, or unknown. To learn them, run a few rows first (run
    --sample 50). Samples (--n) and turns count as rows; with --judge, the verdicts are counted too.

    \b
    Example:
      jsonl-runner estimate data/samples/data.jsonl --output-tokens 200
    """
    from ..estimate import estimate as estimate_of  # noqa: PLC0415  # --help need not wait for it

    data, output = _apart(data)
    options["simulate"] = False
    judge = judge_of(options)
    with config_of({**dict.fromkeys(_UNUSED), **options}) as config:
        found = estimate_of(
            config,
            data,
            output,
            output_tokens=options["output_tokens"],
            judge=judge,
            verdict_tokens=options["verdict_tokens"],
            bad_rows=options["bad_rows"],
            seed=options["seed"],
        )
    if options["as_json"]:
        print_json(found.to_dict())
    else:
        for line in _lines(found, data, config, judge):
            click.echo(line)
    return 0


def _lines(found: Estimate, data: Dataset, config: Config, judge: Judge | None) -> Iterator[str]:
    yield from _rows(found, data)
    yield from _tokens(found, config)
    yield from _costs(found)
    yield from _time(found, config)
    yield from (f"note: {note}" for note in found.notes if found.to_do)
    if found.judge is None or judge is None or not found.judge.to_do:
        return
    from ..judging import as_judge  # noqa: PLC0415

    verdicts, settings = found.judge, as_judge(judge, config)
    plural = "verdict" if verdicts.to_do == 1 else "verdicts"
    yield f"judge: {verdicts.to_do:,} {plural}, each on one output; on those to come as expected"
    told = (*_tokens(verdicts, settings, "--verdict-tokens"), *_costs(verdicts, live_only=True))
    yield from (f"judge: {line}" for line in (*told, *_time(verdicts, settings)))
    outputs, judged = (part.costs[0].live if part.to_do else None for part in (found, verdicts))
    if outputs is not None and judged is not None:
        yield f"outputs and verdicts together, live: {_dollars(outputs.plus(judged))}"


def _apart(given: Dataset) -> tuple[Dataset, Path | None]:
    """Return the input and the ledger: the last file is one, if it can be, and is not alone."""
    from ..strangers import may_be_ledger  # noqa: PLC0415

    *files, last = map(Path, given.given)
    if not files or last.is_dir() or has_magic(str(last)) or not may_be_ledger(last):
        return given, None
    return replace(given, files=tuple(files)), last


def _rows(found: Estimate, data: Dataset) -> list[str]:
    done = f", {found.rows - found.to_do:,} have an output" if found.rows > found.to_do else ""
    bad = f", {found.bad_rows:,} more cannot be used" if found.bad_rows else ""
    plural = "row" if found.to_do == 1 else "rows"
    return [f"{data}: {found.to_do:,} {plural} to do{done}{bad}; all that follows is an estimate"]


def _tokens(found: Estimate, config: Config, told: str = "--output-tokens") -> list[str]:
    if not found.to_do:
        return []
    given = found.input_tokens
    each = (given.expected or 0.0) / found.to_do
    how = f"as {config.model} counts"
    if found.counted < found.to_do:
        how += f", by {found.counted:,} rows at random, {_error(given)} (95 %)"
    lines = [f"tokens in:  {given.expected or 0:,.0f} ({each:,.1f} a row; {how})"]
    out = found.output_tokens
    if out.expected is None:
        bound = (
            "not known"
            if out.high is None
            else f"not known, {out.high:,.0f} at the most (max_tokens)"
        )
        return [*lines, f"tokens out: {bound}; tell with {told}, or run --sample 50 first"]
    how = told
    if found.output_from == "call log":
        how = f"mean of {found.answers:,} answers so far, {_error(out)} (95 %)"
    return [
        *lines,
        f"tokens out: {out.expected:,.0f} ({out.expected / found.to_do:,.1f} a row; {how})",
    ]


def _error(amount: Amount) -> str:
    """Return half the width of an interval as a share."""
    expected = amount.expected or 1.0
    return f"± {((amount.high or 0.0) - amount.low) / 2 / expected:.1%}"


def _costs(found: Estimate, *, live_only: bool = False) -> list[str]:
    if not found.to_do:
        return []
    if found.unpriced:
        models = ", ".join(found.unpriced)
        return [
            f"cost: no price is known for {models} at this address; give --price input=…,output=…"
        ]
    width = max(len(cost.model) for cost in found.costs)
    if live_only:  # what run --judge does
        lines = [f"{'cost':{width}}  {'live':>22}"]
        lines += [f"{cost.model:{width}}  {_dollars(cost.live):>22}" for cost in found.costs]
        return [*lines, *_of_others(found.costs), f"prices: {found.price_source}"]
    lines = [f"{'cost':{width}}  {'live':>22}  {'in batches':>22}"]
    lines += [
        f"{cost.model:{width}}  {_dollars(cost.live):>22}  {_dollars(cost.batch):>22}"
        + (" (half of live, no list price)" if cost.batch_estimated else "")
        for cost in found.costs
    ]
    lines += _of_others(found.costs)
    return [*lines, f"prices: {found.price_source}"]


def _of_others(costs: list[ModelCost]) -> list[str]:
    if len(costs) < 2:
        return []
    return ["(the cheaper models with as many tokens; those that reason answer with more)"]


def _dollars(amount: Amount | None) -> str:
    from ..summary import dollars  # noqa: PLC0415

    if amount is None:
        return "not known"
    if amount.expected is not None:
        return dollars(amount.expected)
    if amount.high is None:
        return f"{dollars(amount.low)} + answers"
    return f"{dollars(amount.low)} to {dollars(amount.high)}"


def _time(found: Estimate, config: Config) -> list[str]:
    if not found.to_do:
        return []
    if found.minutes is None:
        return ["time: the keys' limits are learnt on the way (requests_per_minute sets them)"]
    from ..limits import in_words  # noqa: PLC0415

    keys = max(1, len(config.api_keys))
    plural = "key" if keys == 1 else "keys"
    limits = [
        f"{limit:,g} {what} a minute"
        for limit, what in (
            (config.requests_per_minute, "requests"),
            (config.tokens_per_minute, "tokens"),
        )
        if limit
    ]
    wait = in_words(found.minutes * 60)
    return [f"time: {wait} at the least, with {keys} {plural} of {' and '.join(limits)}"]
