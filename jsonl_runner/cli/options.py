"""What commands share: options, the console's state, printing."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .help import Sectioned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..config import Config

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def with_options(
    command: _Command, *options: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> _Command:
    """Return a command with options, the last of which stands first in its help."""
    for option in options:
        command = option(command)  # type: ignore[assignment]  # click gives back what it takes
    return command


#: A file named on the command line; whether it is there is for the library to say.
PATH = click.Path(path_type=Path)


@dataclass
class Console:
    """How much is told; one for the process, set by the options of the command."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = False


console = Console()


class Suggesting(click.Group):
    """A group that names the nearest command when one is not known."""

    command_class = Sectioned

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or say which one may have been meant."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else "see jsonl-runner --help"
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


def _set(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def callback(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        setattr(console, name, value)

    return callback


def console_options(command: _Command) -> _Command:
    """Add -q, -v and --debug."""
    for flags, name, text in (
        (("--debug",), "debug", "Show a traceback with an error."),
        (("-v", "--verbose"), "verbose", "Tell more."),
        (("-q", "--quiet"), "quiet", "Tell nothing but errors."),
    ):
        option = click.option(
            *flags, is_flag=True, expose_value=False, callback=_set(name), help=text
        )
        command = option(command)
    return command


def config_options(
    command: _Command, *, several_models: bool = False, calls: bool = True
) -> _Command:
    """Add the options that say where calls go; collected by `load_config`.

    Args:
        command: gets them.
        calls: whether any are made: else there is none to say how.
        several_models: whether `--model` may be repeated, and is then called `models`.
    """
    model = click.option("--model", help="Model where a row names none.")
    if several_models:
        model = click.option(
            "--model",
            "models",
            multiple=True,
            help="Model where a row names none. Repeated: every row goes to each of them.",
        )
    how = (
        click.option(
            "--transport",
            type=click.Choice(["curl", "openai"]),
            help="What makes the calls: libcurl, or the openai SDK.  [default: curl]",
        ),
        click.option("--proxy", help="http, https or socks5 address.  [default: environment]"),
    )
    return with_options(
        command,
        *(how if calls else ()),
        click.option("--api-base", metavar="URL", help="Address of the API, up to /v1."),
        model,
        click.option(
            "--config",
            "config_path",
            type=PATH,
            help="JSON or YAML file with keys and settings.  [default: config.json or .yaml here]",
        ),
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
bad_rows_option = click.option(
    "--bad-rows",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Rows that cannot be used: stop before anything is paid, or leave them out.",
)
bad_rows_as_run_option = click.option(
    "--bad-rows",
    type=click.Choice(["fail", "skip"]),
    help="Rows that cannot be used: stop, or leave them out.  [default: as the run did]",
)


#: How `config.load` begins what it says of an argument.
_ARGUMENT = re.compile(r"^arguments: (\w+)")
#: Settings whose option is not called as they are.
_OPTION_OF = {"params": "param", "prices": "price"}
_ESCAPE = re.compile(r"\\([ntr\\])")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def unescaped(text: str) -> str:
    r"""Return a text with `\n` and the like as what they stand for."""
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], text)


def load_config(config_path: Path | None, overrides: Mapping[str, Any]) -> Config:
    """Return the settings in force; see `config.load`.

    Raises:
        ConfigError: one is wrong; of the command line, it is named as it is typed.
    """
    from ..config import load  # noqa: PLC0415  # --help need not wait for it
    from ..errors import ConfigError  # noqa: PLC0415

    try:
        return load(config_path, overrides)
    except ConfigError as error:
        raise ConfigError(_ARGUMENT.sub(_as_typed, str(error))) from None


def _as_typed(found: re.Match[str]) -> str:
    name = found[1]
    return f"--{_OPTION_OF.get(name, name.replace('_', '-'))}"


def age_of(text: str, option: str) -> float:
    """Return the seconds of an age as an option has it: `7d`, `12h`, `30m`.

    Raises:
        BadParameter: it is none; a number alone, which nobody can be sure of, too.
    """
    from ..limits import parse_duration  # noqa: PLC0415  # --help need not wait for it

    seconds = parse_duration(text)
    if seconds is None or not text[-1:].isalpha():
        raise click.BadParameter(f"{text!r} is no age; give 7d, 12h or 30m", param_hint=option)
    return seconds


def place_of(config: Config) -> str:
    """Return the address of the API as it may be shown."""
    from ..secret import without_login  # noqa: PLC0415

    return without_login(config.api_base)


def say(text: str) -> None:
    """Tell the user a line on stderr, unless told to be quiet."""
    if not console.quiet:
        click.echo(text, err=True)


def print_json(data: object) -> None:
    """Print a result for programs on stdout."""
    import orjson  # noqa: PLC0415

    click.echo(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())
