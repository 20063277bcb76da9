"""The command that joins input and outputs."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..exports.forms import FORMATS
from ..terminal import counted
from .help import Sectioned
from .inputs import data_argument, dataset_options
from .options import PATH, bad_rows_as_run_option, console_options, json_option, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..dataset import Dataset
    from ..merge import MergeSummary
    from ..survey import BadRowsPolicy

#: As MERGED: write the rows there.
_STDOUT = "-"


@click.command(cls=Sectioned, short_help="Join input and outputs into training data.")
@data_argument
@click.argument("output", type=PATH)
@click.argument("merged", type=PATH)
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), help="Format.  [default: MERGED's suffix]"
)
@click.option(
    "--fields",
    metavar="A,B,NEW=C",
    help="Fields to write, in this order; NEW=C writes field C as NEW.  [default: all]",
)
@click.option(
    "--split",
    metavar="train=0.95,test=0.05",
    help="Write parts, by a hash of seed and prompt: MERGED.train.jsonl, MERGED.test.jsonl.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split.")
@click.option(
    "--drop-reasons",
    metavar="A,B",
    help="Leave out what would spoil training: empty, length, refusal, duplicate, echo, schema.",
)
@click.option(
    "--judged",
    metavar="PATTERN",
    help="Only rows whose verdict (run --judge) has this regular expression in it.",
)
@click.option("--dedupe", is_flag=True, help="Of the same prompt and output, keep the first alone.")
@click.option(
    "--tools",
    type=PATH,
    metavar="FILE",
    help="JSON with the tools the run offered to all rows, for sharegpt and openai-chat.",
)
@click.option("--keep-null", is_flag=True, help="Keep rows without an output, with null.")
@functools.partial(dataset_options, last="MERGED")
@bad_rows_as_run_option
@json_option
@console_options
def merge(  # noqa: PLR0917  # one for each option
    data: Dataset,
    output: Path,
    merged: Path,
    format_: str | None,
    fields: str | None,
    split: str | None,
    seed: int,
    drop_reasons: str | None,
    judged: str | None,
    dedupe: bool,
    tools: Path | None,
    keep_null: bool,
    bad_rows: BadRowsPolicy | None,
    as_json: bool,
) -> int:
    """Write MERGED: index, instruction, input, output and other fields in the order of DATA.

    The format is that of MERGED's suffix (.json an array, .jsonl, .csv, .parquet, and .jsonl.gz or
    .zst), or --format: alpaca, sharegpt and openai-chat are for trainers. Rows without an output
    are left out and counted, and so are rows that the format has no place for. With - for MERGED
    they are written to standard output once all are there: a JSON array, or --format jsonl.

    \b
    Example:
      jsonl-runner merge data/samples/data.jsonl output.jsonl merged.json
      jsonl-runner merge data.jsonl output.jsonl chat.jsonl --format openai-chat --dedupe
      jsonl-runner merge data.jsonl output.jsonl merged.parquet --split train=0.95,test=0.05
    """
    from ..exports.plan import tools_in  # noqa: PLC0415
    from ..exports.split import parse_split  # noqa: PLC0415  # --help need not wait for it
    from ..merge import merge as merge_files  # noqa: PLC0415

    if str(merged) == _STDOUT:
        _check_stdout(format_, split, as_json=as_json)
    with _place_of(merged) as place:
        summary = merge_files(
            data,
            output,
            place,
            format=format_,
            fields=None if fields is None else fields.split(","),
            split=None if split is None else parse_split(split),
            seed=seed,
            drop_reasons=drop_reasons.replace(" ", "").split(",") if drop_reasons else (),
            judged=judged,
            dedupe=dedupe,
            tools=None if tools is None else tools_in(tools),
            keep_null=keep_null,
            bad_rows=bad_rows,
        )
        summary.notes = [note.replace(str(place), _name_of(merged)) for note in summary.notes]
    if as_json:
        print_json(asdict(summary))
    _tell(summary, _name_of(merged), keep_null=keep_null)
    return 0


def _check_stdout(format_: str | None, split: str | None, *, as_json: bool) -> None:
    """Refuse what standard output cannot take."""
    if split is not None:
        raise click.UsageError("--split writes a file for each part: name a file, not - (stdout)")
    if format_ == "parquet":
        raise click.UsageError("--format parquet needs a file of its own, not - (stdout)")
    if as_json:
        raise click.UsageError("--json and the rows would both stand on stdout: name a file")


def _name_of(merged: Path) -> str:
    return "standard output" if str(merged) == _STDOUT else str(merged)


@contextlib.contextmanager
def _place_of(merged: Path) -> Iterator[Path]:
    """Yield where to write: for standard output a file, sent when it is whole.

    What has gone down a pipe cannot be taken back when a later row turns out to be a bad one.
    """
    if str(merged) != _STDOUT:
        yield merged
        return
    import tempfile  # noqa: PLC0415  # few need it
    from pathlib import Path as Place  # noqa: PLC0415

    from .printing import Output  # noqa: PLC0415

    stdout = Output()
    with tempfile.TemporaryDirectory(prefix="jsonl-runner-") as folder:
        place = Place(folder) / "merged"
        yield place
        with place.open("rb") as stream:
            stdout.put_file(stream)


def _tell(summary: MergeSummary, merged: str, *, keep_null: bool) -> None:
    from ..exports.plan import reason_of  # noqa: PLC0415

    for line in (*summary.damage, *(f"left out {row}" for row in summary.bad_rows)):
        say(line)
    for reason, count in sorted(summary.left_out.items(), key=lambda item: -item[1]):
        say(f"left out {count:,} {reason}: {reason_of(reason)}")
    for note in summary.notes:
        say(f"note: {note}")
    fate = "kept with null" if keep_null else "left out"
    without = f"; {summary.without_output:,} without an output {fate}"
    shares = ", ".join(f"{count:,} {part}" for part, count in summary.parts.items())
    parts = f" ({shares})" if shares else ""
    rows = counted(summary.written, "row")
    say(f"{merged}: {rows}{parts}{without if summary.without_output else ''}")
