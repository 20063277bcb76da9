"""What the commands on batches share: opening them, what they cost, who is told."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import ConfigError, JsonlRunnerError
from .calling import config_of, model_of, prices_option, request_options
from .options import (
    bad_rows_option,
    config_options,
    console_options,
    json_option,
    say,
    with_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..batch.collect import CostOf
    from ..batch.job import Batches
    from ..batch.parts import Part
    from ..batch.plan import Planned, Wishes
    from ..config import Config
    from ..dataset import Dataset
    from ..pricing import Prices
    from ..summary import RunSummary

_Command = TypeVar("_Command", bound="Callable[..., Any]")

#: Seconds that the command of --notify-command may take.
_NOTIFY_S = 60.0
#: Options of calls that a batch has no use for; `config_of` wants to hear of them.
_UNUSED = ("threads", "max_retries", "timeout", "transport", "simulate", "temperature", "cache")


def provider_options(command: _Command, *, several_models: bool = False) -> _Command:
    """Add the options that say whose batches they are, and how they are looked after."""
    return with_options(
        command,
        console_options,
        json_option,
        click.option(
            "--settle-seconds",
            type=click.FloatRange(min=0),
            default=900.0,
            show_default=True,
            help="How long a batch whose creation was not answered is looked for.",
        ),
        click.option(
            "--poll-seconds",
            type=click.FloatRange(min=0.05),
            default=None,
            help="Between two looks at running batches.  [default: 15, growing to 300]",
        ),
        prices_option,
        click.option("--provider", metavar="NAME", help="Whose batches.  [default: by --api-base]"),
        functools.partial(config_options, several_models=several_models),
    )


def sending_options(command: _Command) -> _Command:
    """Add the options that say how rows are sent."""
    return with_options(
        command,
        bad_rows_option,
        click.option(
            "--max-cost",
            type=click.FloatRange(min=0),
            metavar="X",
            help="Send nothing if it would cost more than X dollars, by estimate.",
        ),
        click.option(
            "--max-enqueued-tokens",
            type=click.IntRange(min=1),
            metavar="N",
            help="Prompt tokens of a model that may wait at the provider; parts are made to fit.",
        ),
        click.option(
            "--sampling", is_flag=True, help="Send Anthropic temperature, top_p and top_k."
        ),
        click.option("--max-requests", type=click.IntRange(min=1), help="Rows in a part."),
        click.option("--completion-window", metavar="24h", help="How long a batch may take."),
        request_options,
    )


notify_option = click.option(
    "--notify-command",
    metavar="CMD",
    help="Run CMD when a batch ends, with JSONL_RUNNER_BATCH_ID and JSONL_RUNNER_BATCH_STATE in "
    "its environment; no shell reads it.",
)


@contextlib.contextmanager
def opened(
    output: Path, options: dict[str, Any], *, brings_answers: bool = True
) -> Iterator[tuple[Config, Batches]]:
    """Yield the settings and the batches of a ledger, held until the end of the block.

    Args:
        output: the ledger.
        options: of the command.
        brings_answers: whether answers may come into the ledger, which must then be of their kind,
            real or simulated.
    """
    from ..batch.desk import Watched  # noqa: PLC0415  # --help need not wait for it
    from ..batch.job import Batches  # noqa: PLC0415
    from ..signals import stopping  # noqa: PLC0415

    watched = Watched(
        note=lambda text: say(f"note: {text}"),
        changed=_tell,
        over=_notifier(options.get("notify_command"), output),
    )
    ledger = output if brings_answers else None
    with ready(options, ledger) as (config, provider, time), stopping(time.stop):
        prices = _prices(options)
        with Batches(
            config,
            output,
            provider,
            time,
            watched=watched,
            max_enqueued=options.get("max_enqueued_tokens"),
            cost_of=_cost_of(config, prices, provider.profile.discount),
        ) as batches:
            try:
                yield config, batches
            except JsonlRunnerError as error:
                batches.summary.stop(error)
                error.summary = batches.end()
                raise


@contextlib.contextmanager
def ready(options: dict[str, Any], ledger: Path | None = None) -> Iterator[tuple[Config, Any, Any]]:
    """Yield the settings, the provider and the time; no answer may come into another's ledger."""
    from ..batch.desk import Pace, Time  # noqa: PLC0415
    from ..batch.providers import provider_of  # noqa: PLC0415
    from ..clock import Stop, SystemClock  # noqa: PLC0415

    options = {**dict.fromkeys(_UNUSED), "params": (), "max_tokens": None, **options}
    options["simulate"] = bool(options["simulate"])
    with config_of(options, ledger=ledger) as config:
        clock, stop = SystemClock(), Stop()
        poll = options["poll_seconds"] or (0.2 if options["simulate"] else None)
        pace = Pace(settle_s=options["settle_seconds"])
        if poll is not None:
            pace = Pace(poll, max(poll, 1.0), settle_s=options["settle_seconds"])
        provider = provider_of(config, options["provider"], clock=clock, stop=stop)
        with contextlib.closing(provider):
            yield config, provider, Time(clock, stop, pace)


def rows_of(data: Dataset, output: Path, options: dict[str, Any]) -> Dataset | Path:
    """Return the file with the rows: the input, or one with its rows for each of several models."""
    models = options.pop("models")
    options["model"] = models[0] if models else None
    if len(models) < 2:
        return data
    from ..spread import rows_path, spread  # noqa: PLC0415

    target = rows_path(output)
    skips = options["bad_rows"] == "skip"
    rows = spread(data, models, target, skips_bad_rows=skips)
    say(f"{target}: {rows:,} rows, each of {data} for {len(models)} models; merge with this file")
    return target


def wishes_of(options: dict[str, Any], *, dry: bool = False) -> Wishes:
    """Return how rows are to be sent."""
    from ..batch.plan import Wishes  # noqa: PLC0415

    return Wishes(
        options["completion_window"],
        options["max_requests"],
        options["max_enqueued_tokens"],
        "skip" if options["bad_rows"] == "skip" else "fail",
        dry,
        options["sampling"],
    )


def _tell(part: Part) -> None:
    what = part.status if part.state == "submitted" else part.state
    done = ""
    if part.state == "submitted" and part.completed is not None and part.total:
        done = f", {part.completed:,} of {part.total:,} done"
    say(f"part {part.number}: {what}{done}")


def _notifier(command: str | None, output: Path) -> Callable[[Part], None]:
    try:
        words = shlex.split(command) if command else []
    except ValueError as error:
        raise ConfigError(f"--notify-command: {error}") from None

    def notify(part: Part) -> None:
        if not words:
            return
        told = {
            "JSONL_RUNNER_BATCH_ID": part.batch,
            "JSONL_RUNNER_BATCH_STATE": part.status or part.state,
            "JSONL_RUNNER_BATCH_OUTPUT": str(output),
        }
        try:
            subprocess.run(  # noqa: S603  # the user's own command
                words, env={**os.environ, **told}, timeout=_NOTIFY_S, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            say(f"note: --notify-command did not succeed: {error}")

    return notify


# -- money ---------------------------------------------------------------------------------------


def _prices(options: dict[str, Any]) -> Prices:
    from ..pricefile import load_prices  # noqa: PLC0415

    return load_prices(options["prices"])


def _cost_of(config: Config, prices: Prices, discount: float | None) -> CostOf:
    from ..pricing import BATCH_DISCOUNT  # noqa: PLC0415

    def cost_of(
        model: str, usage: dict[str, Any], wall: float, batch: bool
    ) -> tuple[float | None, str]:
        cost = prices.cost_of(
            usage,
            model,
            batch=batch,
            provider=config.api_base,
            when=datetime.fromtimestamp(wall, UTC),
            discount=BATCH_DISCOUNT if discount is None else discount,
        )
        if cost is None:
            return None, ""
        return cost.amount_usd, "estimate" if cost.estimated or (
            batch and discount is None
        ) else "prices"

    return cost_of


def bounded(config: Config, options: dict[str, Any], batches: Batches) -> Callable[[Planned], None]:
    """Return what looks at the cost of a plan before it is sent, and says it."""
    prices = _prices(options)
    limit = options["max_cost"]
    longest = config.params.get("max_completion_tokens") or config.params.get("max_tokens") or 0

    def check(planned: Planned) -> None:
        if not planned.parts:
            return
        amount: float | None = 0.0
        for part in planned.parts:
            usage = {
                "prompt_tokens": part.tokens,
                "completion_tokens": longest * part.requests,
            }
            cost = prices.cost_of(usage, part.model, batch=True, provider=config.api_base)
            amount = None if cost is None or amount is None else amount + cost.amount_usd
        answers = f"answers of {longest:,} tokens" if longest else "the answers not counted"
        if amount is None:
            text = f"no price is known for {model_of(config)}: see --prices"
        else:
            text = f"estimated cost {amount:.4f} dollars ({answers})"
        count = len(planned.parts)
        say(
            f"{planned.rows:,} rows in {count:,} {'part' if count == 1 else 'parts'}, some "
            f"{planned.tokens:,} tokens of prompts" + (f"; {text}" if amount is not None else "")
        )
        spent = batches.summary.cost or 0.0
        if limit is not None and amount is None:
            raise ConfigError(f"--max-cost cannot be kept: {text}")
        if limit is not None and amount is not None and spent + amount > limit:
            raise ConfigError(
                f"--max-cost {limit:g}: {text}, and {spent:.4f} are spent; nothing was sent"
            )

    return check


def report(summary: RunSummary) -> None:
    """Tell what was done."""
    for line in summary.lines():
        say(line)
