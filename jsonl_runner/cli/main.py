"""The command `jsonl-runner`, and how errors become one line and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import NoReturn

import click

from .. import __version__
from ..errors import EXIT_FILE, EXIT_USAGE, BadRowsError, JsonlRunnerError, RunInterruptedError
from ..terminal import harmless
from .batch import batch
from .cache import cache
from .config import config
from .data import compact, status, validate
from .estimate import estimate
from .files import files
from .help import unknown_option, usage_of, write_commands
from .interactive import interactive
from .keys import keys
from .merge import merge
from .options import Suggesting, console
from .query import query
from .render import render
from .report import report
from .requests import requests
from .run import run
from .simulate import simulate
from .tokens import tokens

#: The shells' 128 + SIGPIPE, and EX_SOFTWARE of sysexits.h: neither says "some rows are null".
_EXIT_PIPE, _EXIT_DEFECT = 141, 70

#: Of the standard streams.
_LAST_STREAM = 2
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

_EPILOG = (
    "Exit codes: 0 every row has its output, 1 some rows are null, 2 usage, configuration or input "
    "is wrong, 3 stopped with rows left (no usable key), 4 the output cannot be written, 5 the "
    "budget is spent (--max-cost, --max-tokens-total), 130 and 143 interrupted."
)


class _Front(Suggesting):
    """The whole program."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in sections."""
        write_commands(self, ctx, formatter)


@click.group(
    cls=_Front,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="jsonl-runner")
def cli() -> None:
    """Push a JSONL dataset through an LLM API and get training data back.

    \b
    Try it without a key:
      jsonl-runner run data/samples/data.jsonl output.jsonl --simulate
    """


for command in (
    run,
    render,
    estimate,
    query,
    interactive,
    files,
    batch,
    merge,
    status,
    report,
    validate,
    compact,
    keys,
    config,
    cache,
    tokens,
    requests,
    simulate,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    _hold_streams()
    sys.exit(_run())


def _run() -> int:
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        result = cli.main(prog_name="jsonl-runner", standalone_mode=False)
    except click.ClickException as error:
        return _usage(error)
    except JsonlRunnerError as error:
        return _explain(error)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130)
    except (SystemExit, BrokenPipeError):
        # The reader of our output (head, less) has had enough: click ends with an exit of its own.
        return _EXIT_PIPE
    except OSError as error:
        if error.errno not in _DISK_IS_FULL:
            return _defect(error)
        return _fail(f"what is printed cannot be written ({error.strerror}); make room", EXIT_FILE)
    except Exception as error:  # the border of the process  # noqa: BLE001
        return _defect(error)
    return result if isinstance(result, int) else 0


def _hold_streams() -> None:
    """Give standard streams that are closed a place that is nowhere.

    Else the next file that is opened, perhaps the ledger, has their number, and whatever some
    library prints goes into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STREAM:
        pass
    os.close(descriptor)
    if sys.stderr is None:  # the other two are looked at where they are wanted
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _defect(error: Exception) -> int:
    if console.debug:
        traceback.print_exc()
    what = f"{type(error).__name__}: {error}"
    return _fail(
        f"{what} (a defect of jsonl-runner: please report what --debug shows)", _EXIT_DEFECT
    )


def _usage(error: click.ClickException) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and context is not None:
        click.echo(context.get_help(), err=True)
        return EXIT_USAGE
    hint = f" ({context.command_path} --help tells more)" if context is not None else ""
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        message = unknown_option(error)
    elif message.startswith(("Missing argument", "Got unexpected extra")):
        message += f"; write {usage_of(context)}"
    return _fail(f"{message}{hint}", EXIT_USAGE)


def _explain(error: JsonlRunnerError) -> int:
    if console.debug:
        traceback.print_exc()
    if isinstance(error, RunInterruptedError):  # as was asked for: no error
        click.echo(str(error), err=True)
        return error.exit_code
    if isinstance(error, BadRowsError):
        for row in error.rows:
            click.echo(row, err=True)
    return _fail(str(error), error.exit_code)


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {harmless(message)}", err=True)  # it may quote the provider
    return code
