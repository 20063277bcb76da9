"""Commands on the files of a run: status, validate, compact."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..secret import shorten
from ..terminal import counted, harmless
from .help import Sectioned
from .inputs import data_argument, dataset_options
from .options import PATH, console_options, json_option, print_json, say
from .watch import watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ..dataset import Dataset
    from ..quality import Quality
    from ..reader import Group
    from ..status import Status

#: Characters of an output in a line, and the share of the rows from which on it is told.
_SHOWN, _OFTEN = 60, 0.05


@click.command(cls=Sectioned, short_help="Where a dataset stands.")
@data_argument
@click.argument("output", type=PATH)
@functools.partial(dataset_options, last="OUTPUT")
@click.option(
    "--watch", "watched", is_flag=True, help="Show the run that writes OUTPUT until it ends."
)
@json_option
@console_options
def status(data: Dataset, output: Path, watched: bool, as_json: bool) -> int:
    """Tell how many rows of DATA are done in OUTPUT, failed (by reason) and left.

    With --watch, the run in another terminal is shown as `run --live` shows it; with --json too,
    as a JSON object a second.

    \b
    Example:
      jsonl-runner status data/samples/data.jsonl output.jsonl
    """
    from ..status import status as status_of  # noqa: PLC0415

    if watched:
        code = watch(data, output, as_json=as_json)
        if code or as_json:
            return code
    found = status_of(data, output)
    if not output.exists():
        say(f"note: {output} is not there yet")
    if as_json:
        print_json(found.to_dict())
    else:
        _print_status(found)
    return 0


def _print_status(found: Status) -> None:
    from ..summary import turns_line  # noqa: PLC0415  # --help need not wait for it

    click.echo(
        f"rows {found.rows:,}: done {found.done:,}, failed {found.failed:,}, left {found.left:,}"
    )
    if found.conversations:
        click.echo(turns_line(found.rows, found.turns, found.conversations))
    for code, failure in found.failures.items():
        click.echo(failure.line(code))
    cost = f", cost {found.cost:.4f}" if found.cost is not None else ""
    click.echo(
        f"calls {found.calls:,}; tokens {found.tokens.prompt:,} in, "
        f"{found.tokens.completion:,} out{cost}"
    )
    for line in _quality_lines(found.quality):
        click.echo(line)
    if found.changed:
        click.echo(f"changed since they were answered: {found.changed:,} (run --redo-changed)")
    for row in found.bad_rows:
        click.echo(f"not usable {row}")
    for line in found.damage:
        click.echo(line)


def _quality_lines(found: Quality) -> Iterator[str]:
    """Yield what would spoil training in plain words; nothing where nothing would."""
    from ..quality import MEANINGS  # noqa: PLC0415

    if found.spoilt:
        merge = "report shows them, merge --drop-reasons leaves them out"
        yield f"would spoil training: {found.spoilt:,} of {found.outputs:,} outputs ({merge})"
    for finding in found.findings:
        if finding.outputs:
            examples = ", ".join(example.index for example in finding.examples)
            meaning = MEANINGS[finding.reason]
            line = f"  {finding.reason} {finding.outputs:,}: {meaning}; e.g. {examples}"
            yield harmless(line)
    for text, rows in found.frequent[:1]:
        if rows >= _OFTEN * found.outputs:
            at_least = "at least " if found.at_least else ""
            shown = " ".join(shorten(text, _SHOWN).split()) or "(empty)"
            yield harmless(f"most frequent output: {shown} ({at_least}{rows:,} rows)")


@click.command(cls=Sectioned, short_help="Name every row that cannot be used.")
@data_argument
@functools.partial(dataset_options, last="DATA")
@json_option
@console_options
def validate(data: Dataset, as_json: bool) -> int:
    """Read DATA and name every row that cannot be used, with its line and what is wrong.

    \b
    Example:
      jsonl-runner validate data/samples/data.jsonl
    """
    from ..errors import EXIT_USAGE  # noqa: PLC0415
    from ..fitting import what_is_missing  # noqa: PLC0415
    from ..reader import open_input  # noqa: PLC0415
    from ..summary import turns_line  # noqa: PLC0415
    from ..survey import survey  # noqa: PLC0415
    from ..turns import TurnCount, check_turns  # noqa: PLC0415

    check_turns(data)
    count = TurnCount(data)
    named: list[dict[str, str | int]] = []

    def each(group: Group, left: Sequence[int]) -> None:
        count.see(group, left)
        for row in group.bad:
            if as_json:
                named.append({"file": row.file, "line": row.line, "reason": row.reason})
            else:
                click.echo(row)

    with open_input(data) as stream:
        found = survey(stream, data, each=each)
    turns = {"turns": count.turns, "conversations": count.conversations}
    if as_json:
        print_json({"rows": count.rows, **turns, "bad_rows": named})
    else:
        click.echo(f"{data}: {counted(count.rows, 'row')} can be used, {len(found.bad):,} cannot")
        if count.conversations:
            click.echo(turns_line(count.rows, **turns))
    lack = what_is_missing(data) if found.bad and not found.rows else None
    if lack is not None:
        say(f"{data}: {harmless(lack)}")
    return EXIT_USAGE if found.bad or not found.rows else 0


@click.command(cls=Sectioned, short_help="Rewrite a ledger without what is superseded.")
@click.argument("output", type=PATH)
@click.option(
    "--order",
    type=PATH,
    multiple=True,
    metavar="DATA",
    help="Put the lines into the order of DATA. May be repeated, for several files.",
)
@functools.partial(dataset_options, name="order")
@json_option
@console_options
def compact(output: Path, order: Dataset | None, as_json: bool) -> int:
    """Rewrite OUTPUT with one line an index: its last output, or a null if it has none.

    The file is replaced in one step; whatever goes wrong, the old one stays.

    \b
    Example:
      jsonl-runner compact output.jsonl --order data/samples/data.jsonl
    """
    from ..compact import compact as compact_ledger  # noqa: PLC0415

    summary = compact_ledger(output, order)
    if as_json:
        print_json(asdict(summary))
    for line in summary.damage:
        say(f"{line}; moved to {output}.damaged")
    say(
        f"{output}: {summary.entries_before:,} entries are now {summary.entries_after:,} "
        f"({summary.bytes_before:,} bytes, now {summary.bytes_after:,})"
    )
    return 0
