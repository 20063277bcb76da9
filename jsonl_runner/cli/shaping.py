"""The options that make a run's rows of a dataset's own: --map, --template, --system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .options import PATH, with_options

if TYPE_CHECKING:
    from collections.abc import Callable

_Command = TypeVar("_Command", bound="Callable[..., Any]")

#: What stands before the name of a file that holds a text.
_OF_FILE = "@"


def shaping_options(command: _Command) -> _Command:
    """Add the options that say how a row becomes what is asked; collected by `shape_of`."""
    return with_options(
        command,
        click.option(
            "--system",
            metavar="TEXT|@FILE",
            help="A system message ahead of each row's own.",
        ),
        click.option(
            "--template", type=PATH, metavar="FILE", help="Jinja2 template of what is asked."
        ),
        click.option(
            "--map",
            "maps",
            multiple=True,
            metavar="FIELD=YOURS",
            help="Take a field from one of yours, as in instruction=question. May be repeated.",
        ),
    )


def shape_of(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `shaping_options` out; return the arguments of a Dataset that they are.

    Raises:
        ConfigError: a map cannot be used.
    """
    found: dict[str, Any] = {}
    maps, template, system = (options.pop(name) for name in ("maps", "template", "system"))
    if maps:
        from ..shaping import parse_map  # noqa: PLC0415  # --help need not wait for it

        found["map"] = parse_map(maps)
    if template is not None:
        found["template"] = template
    if system:
        found["system"] = _system_of(system)
    return found


def _system_of(given: str) -> str | Path:
    return Path(given.removeprefix(_OF_FILE)) if given.startswith(_OF_FILE) else given


def system_text(given: str | None) -> str:
    """Return the system message of a single question, which a file may hold as a run's may.

    Raises:
        ConfigError: the file cannot be read.
    """
    from ..dataset import text_of  # noqa: PLC0415  # --help need not wait for it

    return (given and text_of(_system_of(given), "system")) or ""
