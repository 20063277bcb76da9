"""`jsonl-runner tokens`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from ..errors import InputError
from ..terminal import counted
from .options import PATH, Suggesting, console_options, json_option, print_json, say, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterator

_STDIN = Path("-")

_model_option = click.option(
    "--model",
    help="Whose tokens: a model's, or an encoding's by name (o200k_base, cl100k_base).  "
    "[default: gpt-4.1-mini]",
)


@click.group(cls=Suggesting, short_help="Count tokens, split a text by them.")
def tokens() -> None:
    """Count tokens and split texts by them, without any network.

    \b
    Example:
      jsonl-runner tokens count data/samples/data.jsonl
    """


@tokens.command(short_help="Tokens of files.")
@click.argument("files", type=PATH, nargs=-1)
@_model_option
@json_option
@console_options
def count(files: tuple[Path, ...], model: str | None, as_json: bool) -> int:
    """Print how many tokens each of FILES (UTF-8) has, and all of them together.

    A file is counted as it stands, JSON included. Without FILES, or where one is -, stdin is read.

    \b
    Example:
      jsonl-runner tokens count data/samples/data.jsonl
    """
    from ..tokens import count_tokens  # noqa: PLC0415  # --help need not wait for it

    encoding = _encoding_of(model)
    total, rows = 0, []
    for file in files or (_STDIN,):
        with _open(file) as stream:
            found = count_tokens(stream, str(file), encoding)
        total += found.tokens
        rows.append({"file": str(file), "tokens": found.tokens, "exact": found.exact})
        if not as_json:
            click.echo(f"{found.tokens:>12} {file}" if files else found.tokens)
        if not found.exact:
            say(
                f"note: {file}: an estimate, some tokens off: it has stretches of half a million "
                "characters without a word's end"
            )
    if as_json:
        print_json({"encoding": encoding, "files": rows, "total": total})
    elif len(rows) > 1:
        click.echo(f"{total:>12} total")
    return 0


@tokens.command(short_help="Cut a text into rows of so many tokens.")
@click.argument("file", type=PATH)
@click.option(
    "--tokens", "limit", type=click.IntRange(min=1), required=True, help="Tokens of a part at most."
)
@click.option(
    "--at",
    "signal",
    default=r"\n",
    show_default=True,
    metavar="TEXT",
    help=r"Where to cut; \n, \r, \t and \\ are taken as in Python.",
)
@click.option("--instruction", default="", metavar="TEXT", help="What each row is to say.")
@_model_option
@console_options
def split(file: Path, limit: int, signal: str, instruction: str, model: str | None) -> int:
    """Cut FILE (UTF-8; - for stdin) into parts, and print them as rows that `run` can take.

    Cuts are behind TEXT only: a stretch without it that has more tokens stays whole, and stderr
    says how many do. All parts together are the file, which is read into memory as a whole.

    \b
    Example:
      jsonl-runner tokens split README.md --tokens 500 --at '\\n\\n' --instruction 'Sum it up.'
    """
    import orjson  # noqa: PLC0415  # --help need not wait for it

    from ..tokens import num_tokens_from_string, read_text, split_string_by_tokens  # noqa: PLC0415

    signal = unescaped(signal)
    if not signal:
        raise click.BadParameter("give the text to cut at", param_hint="--at")
    encoding = _encoding_of(model)
    with _open(file) as stream:
        text = "".join(read_text(stream, str(file)))
    parts = split_string_by_tokens(text, limit, signal, encoding)
    for index, part in enumerate(parts):
        row = {"index": index, "instruction": instruction, "input": part}
        click.echo(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE), nl=False)
    longer = sum(num_tokens_from_string(part, encoding) > limit for part in parts)
    over = f"; {longer:,} longer than {limit:,} tokens, with nothing to cut at" if longer else ""
    say(f"{file}: {counted(len(parts), 'row')}{over}")
    return 0


def _encoding_of(model: str | None) -> str:
    """Return the encoding of a model, and say so if it is a guess."""
    from ..tokens import DEFAULT_MODEL, tokenizer_of  # noqa: PLC0415

    encoding, note = tokenizer_of(model or DEFAULT_MODEL)
    if note:
        say(f"note: {note}")
    return encoding


@contextlib.contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, or stdin for `-`.

    Raises:
        InputError: it cannot be opened.
    """
    if path == _STDIN:
        yield sys.stdin.buffer
        return
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    with stream:
        yield stream
