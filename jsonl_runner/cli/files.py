"""`jsonl-runner files`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import EXIT_STOPPED, EXIT_USAGE, ConfigError, JsonlRunnerError
from .calling import call_options, config_of, model_of, simulate_option
from .help import Sectioned
from .options import (
    PATH,
    config_options,
    console,
    console_options,
    json_option,
    print_json,
    say,
    unescaped,
)
from .watch import views_of, watch_options

if TYPE_CHECKING:
    from pathlib import Path

    from ..texts import FilesSummary


@click.command(cls=Sectioned, short_help="Do every text file of a folder.")
@click.argument("input_dir", type=PATH)
@click.argument("output_dir", type=PATH)
@click.option("--instruction", metavar="TEXT", help="What to do with each text.")
@click.option("--instruction-file", type=PATH, metavar="FILE", help="The same, from a file.")
@click.option(
    "--glob",
    "globs",
    multiple=True,
    metavar="PATTERN",
    help="Which files: '*.txt', or 'sub/**/*.md' with a path. May be repeated.  [default: all]",
)
@click.option(
    "--suffix",
    metavar=".EXT",
    help="Extension of the outputs, in place of the inputs'.  [default: the same name]",
)
@click.option(
    "--file-count",
    "--limit",
    "file_count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Do N files at the most that have no output yet.",
)
@click.option(
    "--split-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Cut longer texts into parts of N tokens, do the parts, and join the results in order.",
)
@click.option(
    "--split-at",
    default="\\n",
    show_default=True,
    metavar="TEXT",
    help="Where a text may be cut; \\n is a line end.",
)
@click.option(
    "--join",
    metavar="TEXT",
    help="What stands between the results of parts.  [default: the white space around each part "
    "of the input, so that lines and paragraphs stay]",
)
@config_options
@call_options
@watch_options
@simulate_option
@json_option
@console_options
def files(input_dir: Path, output_dir: Path, **options: Any) -> int:
    """Send every text file below INPUT_DIR with an instruction; write the answers to OUTPUT_DIR.

    The folder tree is kept, hidden files are left out, and a file whose output is there is skipped:
    stop it whenever you like, the same command goes on where it stopped, and tries again what
    failed. Delete an output to have it done anew.

    \b
    Example:
      jsonl-runner files data/samples/texts out --instruction "Translate into French." --simulate
    """
    from ..texts import LEDGER, TextsJob, run_texts  # noqa: PLC0415  # --help need not wait for it
    from ..tree import WORK  # noqa: PLC0415

    as_json = options["as_json"]
    job = TextsJob(
        input_dir,
        output_dir,
        _instruction(options["instruction"], options["instruction_file"]),
        globs=options["globs"],
        suffix=options["suffix"],
        file_count=options["file_count"],
        split_tokens=options["split_tokens"],
        split_at=unescaped(options["split_at"]),
        join=None if options["join"] is None else unescaped(options["join"]),
        quiet=console.quiet,
        views=views_of(options),
    )
    job.check()
    with config_of(options, ledger=output_dir / WORK / LEDGER, output=output_dir) as config:
        try:
            summary = run_texts(config, replace(job, split_model=model_of(config)))
        except JsonlRunnerError as error:
            if error.summary is not None:
                _report(error.summary, as_json=as_json)
            raise
    _report(summary, as_json=as_json)
    return summary.exit_code


def _instruction(text: str | None, path: Path | None) -> str:
    """Return the instruction.

    Raises:
        ConfigError: there is none, or there are two, or its file cannot be read.
    """
    if (text is None) == (path is None):
        raise ConfigError(
            "say what to do with each text: either --instruction TEXT or --instruction-file FILE"
        )
    if path is None:
        return text or ""
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: cannot be read (it is no UTF-8 text)") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def _report(summary: FilesSummary, *, as_json: bool) -> None:
    if as_json:
        print_json(summary.to_dict())
        return
    for line in (*summary.lines(), *(f"note: {note}" for note in summary.notes)):
        say(line)
    if summary.calls.stop_code in {EXIT_USAGE, EXIT_STOPPED}:
        return  # the error that follows says what to do first
    if summary.left:
        say("next: run the same command again, it goes on where it stopped")
    elif summary.failed:
        say("next: the same command tries what failed again")
