"""What the commands share that read rows: which files, and how rows are made of them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .options import PATH
from .shaping import shape_of, shaping_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ..dataset import Dataset

_Command = TypeVar("_Command", bound="Callable[..., Any]")

#: As `dataset.FORMATS` has them; --help need not wait for what reads them.
FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "arrow")

_OPTIONS = (
    click.option(
        "--turns",
        metavar="NAME",
        help="The field with what a user says turn by turn: each is asked with the answers before.",
    ),
    click.option(
        "--n",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="Ask each row N times; the answers are the rows 7#0, 7#1, ….",
    ),
    click.option(
        "--auto-index",
        type=click.Choice(["line", "content"]),
        help="Name rows by their line (and file, where there are several) or by their content, "
        "which stays whatever the order.",
    ),
    click.option(
        "--index-field", metavar="NAME", help="The field that names the row.  [default: index]"
    ),
    click.option(
        "--input-format",
        "format",
        type=click.Choice(FORMATS),
        help="What is in DATA, .gz or .zst or not.  [default: by the files' names]",
    ),
)
#: Of the options above, and so of `Dataset`.
_NAMES = ("format", "index_field", "auto_index", "n", "turns")

#: DATA for several files; what it leads to is for `dataset_options`.
data_argument = click.argument("data", type=PATH, nargs=-1, metavar="DATA...")


def dataset_options(command: _Command, *, name: str = "data", last: str = "") -> _Command:
    """Add the options that say how rows are read and made; the command gets a `Dataset`.

    Args:
        command: has the argument `data`, or an option for several files.
        name: what that is called.
        last: the last argument of a command that has to have DATA. DATA takes what the others
            leave, so when nothing is left, it is the last that was forgotten. Empty: the command
            may do without, and gets None.
    """

    @functools.wraps(command)
    def with_dataset(*args: Any, **options: Any) -> Any:
        recipe = {**{key: options.pop(key) for key in _NAMES}, **shape_of(options)}
        if last and not options[name]:
            raise click.UsageError(f"Missing argument {last!r}.", click.get_current_context())
        options[name] = _dataset(options[name], recipe)
        return command(*args, **options)

    for option in (shaping_options, *_OPTIONS):
        with_dataset = option(with_dataset)
    return with_dataset  # type: ignore[return-value]


def _dataset(files: Sequence[Path], recipe: dict[str, Any]) -> Dataset | None:
    from ..dataset import Dataset  # noqa: PLC0415  # --help need not wait for it

    return Dataset(tuple(files), **recipe) if files else None
