"""`jsonl-runner run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import EXIT_STOPPED, EXIT_USAGE, JsonlRunnerError
from .calling import call_options, config_of, simulate_option
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

    from ..runner import Job
    from ..summary import RunSummary


@click.command(short_help="Do every row that has no output yet.")
@click.argument("data", type=PATH)
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
@click.option("--redo-changed", is_flag=True, help="Call rows again whose content has changed.")
@click.option(
    "--include-batched", is_flag=True, help="Call rows that lie in a batch, and pay for them twice."
)
@watch_options
@simulate_option
@json_option
@console_options
@click.pass_context
def run(ctx: click.Context, /, data: Path, output: Path, **options: Any) -> int:
    """Do every row of DATA that has no output in OUTPUT yet.

    DATA is a JSONL file (- for standard input) with index, instruction and input in each row.
    OUTPUT gets {"<index>": "text"} or {"<index>": null} a line. Stop it whenever you like: the same
    command goes on where it stopped, and tries the nulls again.

    \b
    Example:
      jsonl-runner run data/samples/data.jsonl output.jsonl --simulate
    """
    from .. import runner  # noqa: PLC0415  # --help need not wait for it

    as_json = options["as_json"]
    with config_of(options, ledger=output, output=output) as config:
        job = runner.Job(
            None if str(data) == "-" else data,
            output,
            bad_rows=options["bad_rows"],
            fsync=options["fsync"],
            redo_changed=options["redo_changed"],
            include_batched=options["include_batched"],
            quiet=console.quiet,
            views=views_of(options),
        )
        try:
            summary = runner.run(config, job)
        except JsonlRunnerError as error:
            if error.summary is not None:
                _report(error.summary, job, as_json=as_json, command=ctx.command_path)
            raise
    _report(summary, job, as_json=as_json, command=ctx.command_path)
    return summary.exit_code


def _report(summary: RunSummary, job: Job, *, as_json: bool, command: str) -> None:
    if as_json:
        print_json(summary.to_dict())
        return
    for line in summary.lines():
        say(line)
    for line in _next_steps(summary, job, command):
        say(line)


def _next_steps(summary: RunSummary, job: Job, command: str) -> list[str]:
    if summary.stop_code in {EXIT_USAGE, EXIT_STOPPED}:
        return []  # the error that follows says what to do first
    if job.data is None:
        return []
    if summary.stopped is not None or summary.left:
        return ["next: run the same command again, it goes on where it stopped"]
    if summary.failed:
        return [f"next: the same command tries the {summary.failed:,} nulls again"]
    merged = job.output.with_name("merged.json")
    return [f"next: {command.replace(' run', ' merge')} {job.data} {job.output} {merged}"]
