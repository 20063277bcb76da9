"""`jsonl-runner query`."""

from __future__ import annotations

import contextlib
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import (
    EXIT_STOPPED,
    EXIT_USAGE,
    InputError,
    JsonlRunnerError,
    RunInterruptedError,
    RunStoppedError,
)
from ..terminal import counted, harmless
from .calling import call_options, config_of, simulate_option
from .help import Sectioned
from .options import PATH, config_options, console, console_options, json_option, print_json, say
from .printing import LiveAnswer, Notes, Output, Printing, answered, failed
from .shaping import system_text
from .watch import views_of, watch_options

if TYPE_CHECKING:
    from pathlib import Path

    from ..config import Config
    from ..summary import RunSummary

_STDIN = "-"
_EXAMPLE = 'jsonl-runner query "What is the capital of Japan?"'


@click.command(cls=Sectioned, short_help="Ask one question, or a file of questions.")
@click.argument("question", nargs=-1, metavar="[QUESTION]")
@click.option(
    "--file",
    "file",
    type=PATH,
    metavar="FILE",
    help="Ask each line of FILE that is not blank (- for stdin); several at a time.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="ANSWERS",
    help="Keep the answers to --file in this ledger; the same command goes on where it stopped.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Ask N questions of --file at a time at the most.  [default: keys x 16]",
)
@click.option("--system", metavar="TEXT|@FILE", help="System message ahead of each question.")
@click.option(
    "--cache/--no-cache",
    default=None,
    help="Take what was asked before from the cache, and keep new answers.  "
    "[default: yes, unless the configuration says cache: false]",
)
@click.option("--redo-changed", is_flag=True, help="With -o, ask again where --system has changed.")
@config_options
@call_options
@watch_options
@simulate_option
@json_option
@console_options
@click.pass_context
def query(ctx: click.Context, /, question: tuple[str, ...], **options: Any) -> int:
    """Ask QUESTION (- for all of stdin) and print the answer, and nothing else, on stdout.

    With --file, the answers are printed in the order of the questions, each as it came and with a
    line end; for a question that failed an empty line is printed, and stderr says why. Answers may
    have several lines: --json prints one JSON object a line instead (index: the question's line
    number, question, answer, model, usage, cost, ...; or code and message where it failed).

    With -o nothing is printed: ANSWERS gets {"<question>": "answer"} a line, and the rows that
    `status` and `merge` want stand beside it, in ANSWERS' name with .questions.jsonl. The file may
    be edited meanwhile: what is new is asked, and nothing twice. (Stdin is read to its end first.)

    \b
    Example:
      jsonl-runner query "What is the capital of Japan?" --simulate
      echo "What is the capital of Japan?" | jsonl-runner query - --json --simulate
      printf 'One?\\nTwo?\\n' | jsonl-runner query --file - --simulate
      printf 'One?\\nTwo?\\n' | jsonl-runner query --file - -o answers.jsonl --simulate
    """
    _check(question, options)
    options["system"] = system_text(options["system"])
    sizes = [size for size in (options["batch_size"], options["threads"]) if size is not None]
    options["threads"] = min(sizes, default=None)
    output = options["output"]
    asked = _question(question) if options["file"] is None else ""
    with config_of(options, ledger=output) as config:
        if config.cache is None:  # a question that is asked again is meant to cost nothing
            config = replace(config, cache=True)  # noqa: PLW2901
        if options["file"] is None:
            return _one(config, asked, options)
        source = None if str(options["file"]) == _STDIN else options["file"]
        if output is not None:
            return _kept(config, source, options, ctx.command_path)
        return _printed(config, source, options)


def _check(question: tuple[str, ...], options: dict[str, Any]) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: some do not.
    """
    if options["file"] is None:
        for name in ("output", "batch_size"):
            if options[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} is for the questions of --file")
        if len(question) > 1:
            raise click.UsageError(f"put the question into quotes: {_EXAMPLE}")
    elif question:
        raise click.UsageError("give a question or --file, not both")
    elif str(options["file"]) == _STDIN and sys.stdin is None:
        raise click.UsageError("standard input is closed: give a file")
    if options["output"] is None:
        for name in ("redo_changed", "live", "log_file", "metrics_port"):
            if options[name] not in {None, False}:
                raise click.UsageError(f"--{name.replace('_', '-')} is for -o")


def _question(words: tuple[str, ...]) -> str:
    """Return the one question.

    Raises:
        UsageError: there is none.
        InputError: stdin cannot be read as text.
    """
    if words and words[0] != _STDIN:
        question = words[0]
    elif sys.stdin is None or (not words and sys.stdin.isatty()):
        raise click.UsageError(f"give a question: {_EXAMPLE}")
    else:
        try:
            question = sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputError(
                "standard input: this is no UTF-8 text; convert it (iconv -t UTF-8)"
            ) from None
    if not question.strip():
        raise click.UsageError(f"the question is empty; give one: {_EXAMPLE}")
    return question


def _one(config: Config, question: str, options: dict[str, Any]) -> int:
    from ..models import CallFailedError  # noqa: PLC0415  # --help need not wait for it
    from ..records import Record  # noqa: PLC0415
    from ..session import Session  # noqa: PLC0415

    as_json, system, output = options["as_json"], options["system"], Output()
    shows = output.is_terminal and not as_json and config.post is None  # which makes it another
    live = LiveAnswer(output) if shows else None
    record = Record("0", system, question) if system else Record("0", question)
    notes = Notes(say)
    session = Session(config, note=notes)
    with contextlib.closing(notes), contextlib.closing(session):
        try:
            if live is None:
                outcome = session.ask(record)
            else:
                outcome = session.ask(record, on_text=live.text, on_restart=live.restart)
        except KeyboardInterrupt:
            raise RunInterruptedError(signal.SIGINT) from None
        except RunStoppedError as error:
            if as_json:
                print_json({"answer": None, "code": "stopped", "message": str(error)})
            raise
        finally:
            if live is not None:
                live.end()
    if outcome.output is None:
        if as_json:
            print_json(failed(outcome))
        raise CallFailedError(harmless(outcome.code), harmless(outcome.message), outcome.raw)
    if as_json:
        print_json(answered(outcome))
    elif live is None:
        output.put_answer(outcome.output)
    return 0


def _printed(config: Config, source: Path | None, options: dict[str, Any]) -> int:
    from ..clock import Stop, SystemClock  # noqa: PLC0415  # --help need not wait for it
    from ..progress import progress  # noqa: PLC0415
    from ..questions import count_questions, open_questions  # noqa: PLC0415
    from ..session import Session  # noqa: PLC0415
    from ..signals import stopping  # noqa: PLC0415

    name = "standard input" if source is None else str(source)
    output, stop = Output(), Stop()
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open_questions(source))
        total = count_questions(stream, name)
        # On one terminal with the answers there is no room for a bar.
        quiet = console.quiet or output.is_terminal
        shown = progress("jsonl-runner query", quiet=quiet, clock=SystemClock())
        printing = Printing(shown, name, total, output, as_json=options["as_json"])
        notes = stack.enter_context(contextlib.closing(Notes(printing.note)))
        session = Session(config, stop=stop, note=notes)
        stack.enter_context(contextlib.closing(session))
        stack.enter_context(stopping(stop))
        return printing.all(session, stop, stream, options["system"])


def _kept(config: Config, source: Path | None, options: dict[str, Any], command: str) -> int:
    from ..questions import QuestionsJob, run_questions  # noqa: PLC0415  # --help need not wait for it

    try:
        job = QuestionsJob(
            source,
            options["output"],
            system=options["system"],
            redo_changed=options["redo_changed"],
            quiet=console.quiet,
            views=views_of(options),
        )
        summary = run_questions(config, job)
    except JsonlRunnerError as error:
        if error.summary is not None:
            _report(error.summary, options, command)
        raise
    _report(summary, options, command)
    return summary.exit_code


def _report(summary: RunSummary, options: dict[str, Any], command: str) -> None:
    from ..questions import questions_path  # noqa: PLC0415

    if options["as_json"]:
        print_json(summary.to_dict())
        return
    for line in summary.lines():
        say(harmless(line))
    output = options["output"]
    if summary.stop_code in {EXIT_USAGE, EXIT_STOPPED}:
        return  # the error that follows says what to do first
    if summary.stopped is not None or summary.left:
        say("next: run the same command again, it goes on where it stopped")
    elif summary.failed:
        say(f"next: the same command tries the {counted(summary.failed, 'null')} again")
    else:
        data, merged = questions_path(output), output.with_name("merged.json")
        merge = command.removesuffix("query") + "merge"
        say(f"next: {merge} {data} {output} {merged}")
