"""`jsonl-runner run`."""

from __future__ import annotations

import functools
import shlex
from typing import TYPE_CHECKING, Any

import click

from ..errors import EXIT_BUDGET, EXIT_STOPPED, EXIT_USAGE, ConfigError, JsonlRunnerError
from ..terminal import counted
from .calling import (
    budget_options,
    call_options,
    config_of,
    engine_options,
    judge_of,
    judge_options,
    simulate_option,
)
from .help import Sectioned
from .inputs import data_argument, dataset_options
from .options import (
    PATH,
    bad_rows_option,
    config_options,
    console,
    console_options,
    json_option,
    print_json,
    say,
)
from .watch import views_of, watch_options

if TYPE_CHECKING:
    from pathlib import Path

    from ..choice import Choice
    from ..dataset import Dataset
    from ..judging import Judge
    from ..summary import RunSummary


@click.command(cls=Sectioned, short_help="Do every row that has no output yet.")
@data_argument
@click.argument("output", type=PATH)
@config_options
@call_options
@bad_rows_option
@click.option(
    "--fsync",
    type=click.Choice(["always", "group", "off"]),
    default="group",
    show_default=True,
    help="When answers are forced onto the disk: each group at once, every 0.1 s, or never.",
)
@click.option(
    "--cache/--no-cache",
    default=None,
    help="Take answers to equal requests from the cache, and keep new ones.  [default: no]",
)
@budget_options
@engine_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Do N rows only: the first that have no output.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Do N rows only, taken at random of those without an output.",
)
@click.option(
    "--seed",
    "sample_seed",
    type=int,
    default=0,
    show_default=True,
    help="Of that chance: the same rows again.",
)
@click.option(
    "--dry-run", is_flag=True, help="Show the first three requests; send and write nothing."
)
@judge_options
@click.option("--redo-changed", is_flag=True, help="Call rows again whose content has changed.")
@click.option(
    "--include-batched", is_flag=True, help="Call rows that lie in a batch, and pay for them twice."
)
@functools.partial(dataset_options, last="OUTPUT")
@watch_options
@simulate_option
@json_option
@console_options
@click.pass_context
def run(ctx: click.Context, /, data: Dataset, output: Path, **options: Any) -> int:
    """Do every row of DATA that has no output in OUTPUT yet.

    DATA is JSONL, JSON, CSV, TSV or Parquet, plain, .gz or .zst: files, patterns, a folder with a
    dataset, or - for standard input. Each row has index, instruction and input.
    OUTPUT gets {"<index>": "text"} or {"<index>": null} a line. Stop it whenever you like: the same
    command goes on where it stopped, and tries the nulls again.

    \b
    Example:
      jsonl-runner run data/samples/data.jsonl output.jsonl --simulate
    """
    from .. import passes  # noqa: PLC0415  # --help need not wait for it
    from ..job import Job  # noqa: PLC0415

    as_json, judge = options["as_json"], judge_of(options)
    if options["dry_run"]:
        return _dry_run(data, output, options, judge)
    with config_of(options, ledger=output, output=output) as config:
        job = Job(
            data,
            output,
            bad_rows=options["bad_rows"],
            fsync=options["fsync"],
            redo_changed=options["redo_changed"],
            include_batched=options["include_batched"],
            choice=_choice(data, options),
            quiet=console.quiet,
            views=views_of(options),
        )
        try:
            summary = passes.run(config, job, judge=judge)
        except JsonlRunnerError as error:
            if error.summary is not None:
                _report(error.summary, data, output, as_json=as_json, command=ctx.command_path)
            raise
    _report(summary, data, output, as_json=as_json, command=ctx.command_path)
    return summary.exit_code


def _choice(data: Dataset, options: dict[str, Any]) -> Choice:
    """Return which rows are wished for; say what chance goes by."""
    from ..choice import Choice  # noqa: PLC0415

    if options["sample"] is not None:
        if data.is_pipe:
            raise ConfigError("--sample needs a file: a pipe can be read once only (try --limit)")
        say(
            f"sample: {options['sample']:,} rows without an output, --seed {options['sample_seed']}"
        )
    return Choice(options["limit"], options["sample"], options["sample_seed"])


def _dry_run(data: Dataset, output: Path, options: dict[str, Any], judge: Judge | None) -> int:
    """Show the first requests; nothing is sent, and no file is touched."""
    from ..batch.manifest import waiting_rows  # noqa: PLC0415  # --help need not wait for it
    from ..indexes import IndexSet  # noqa: PLC0415
    from ..job import Job  # noqa: PLC0415
    from ..passes import check  # noqa: PLC0415
    from ..preview import SHOWN, preview  # noqa: PLC0415

    if data.is_stdin:
        raise ConfigError("--dry-run needs a file: what it reads of a pipe would be gone")
    check(Job(data, output, bad_rows=options["bad_rows"]), judge)
    with config_of({**options, "simulate": False}) as config:
        found = preview(
            config,
            data,
            output,
            _choice(data, options),
            batched=IndexSet() if options["include_batched"] else waiting_rows(output),
            bad_rows=options["bad_rows"],
            redo_changed=options["redo_changed"],
        )
    print_json(found.requests)
    shown = f"the first {SHOWN} of {found.rows:,}" if found.rows > SHOWN else f"{found.rows:,}"
    plural = "request" if found.rows == 1 else "requests"
    say(f"dry run: {shown} {plural} as they would be sent; nothing was sent, no file was touched")
    if found.waiting:
        say(f"{found.waiting:,} turns wait for the answer to the one before them, and come later")
    return 0


def _report(
    summary: RunSummary, data: Dataset, output: Path, *, as_json: bool, command: str
) -> None:
    if as_json:
        print_json(summary.to_dict())
        return
    for line in summary.lines():
        say(line)
    for line in _next_steps(summary, data, output, command):
        say(line)


def _next_steps(summary: RunSummary, data: Dataset, output: Path, command: str) -> list[str]:
    if summary.stop_code in {EXIT_USAGE, EXIT_STOPPED, EXIT_BUDGET}:
        return []  # the error that follows says what to do first
    if data.is_pipe:
        return []
    if summary.left_out and summary.stopped is None:
        return ["next: the same command without --limit and --sample does the other rows"]
    if summary.stopped is not None or summary.left:
        return ["next: run the same command again, it goes on where it stopped"]
    if summary.failed:
        return [f"next: the same command tries the {counted(summary.failed, 'null')} again"]
    merged = output.with_name("merged.json")
    files = " ".join(map(shlex.quote, (*data.given, str(output), str(merged))))
    return [f"next: {command.replace(' run', ' merge')} {files}"]
