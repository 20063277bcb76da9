"""`jsonl-runner config`: the settings in force, and a file to change them in."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError
from .options import (
    PATH,
    Suggesting,
    config_options,
    console_options,
    json_option,
    load_config,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..config import Config
    from ..settings.table import Setting

#: Keys that a table shows by their label.
_MANY_KEYS = 10
#: Characters up to which the column of values grows with them.
_WIDEST = 48
#: Parameters that hold texts which are nobody's business (`max_tokens` holds a number).
_SECRET_NAME = re.compile(r"key|token|secret|password|authorization|cookie", re.IGNORECASE)
#: A login in an address, to its last `@`: a password written wrongly may hold a slash.
_LOGIN = re.compile(r"(?<=://)\S*@")

_HEAD = """\
# Settings of jsonl-runner; `jsonl-runner config show` prints those in force.
# A line that begins with # and a name holds a default: take the # away and change the value.
# A value may be ${NAME}: it is taken from the environment. Flags and JSONL_RUNNER_* go before this
# file. Every setting may as well stand outside its group, under the name that `config show` has.
"""


@click.group(cls=Suggesting, short_help="The settings in force; a file for them.")
def config() -> None:
    """Show the settings in force, or begin a file for them.

    \b
    Example:
      jsonl-runner config show
    """


@config.command(short_help="Every setting, and where it comes from.")
@config_options
@json_option
@console_options
def show(as_json: bool, **options: Any) -> None:
    """Print every setting: its name, the value in force, where that came from.

    Keys are shown by their label, addresses without a login.

    \b
    Example:
      jsonl-runner config show --config config.json
    """
    from ..settings.table import TABLE  # noqa: PLC0415  # --help need not wait for it

    found = load_config(options.pop("config_path"), options)
    mask = _masks(found)
    values = {setting.name: mask(getattr(found, setting.name)) for setting in TABLE}
    if as_json:
        rows = (
            {"setting": name, "value": value, "origin": _origin(found, name)}
            for name, value in values.items()
        )
        click.echo(_json(list(rows), indent=2))
    else:
        lines = [
            (setting.name, _cell(setting, values[setting.name]), _origin(found, setting.name))
            for setting in TABLE
        ]
        for line in _table([("setting", "value", "from"), *lines]):
            click.echo(line)
    for note in found.notes:
        say(f"note: {note}")


def _masks(found: Config) -> Callable[[Any], Any]:
    """Return a function that makes of a setting's value what may be shown, as JSON knows it."""
    from ..secret import Redactor, Secret  # noqa: PLC0415

    redact = Redactor(found.api_keys)

    def mask(value: Any) -> Any:
        if isinstance(value, Secret):
            return value.label
        if isinstance(value, (str, Path)):
            whole = (
                str(value).encode("utf-8", "replace").decode()
            )  # half an emoji cannot be printed
            return _LOGIN.sub("…@", redact(whole))
        if isinstance(value, (list, tuple)):
            return [mask(item) for item in value]
        if isinstance(value, dict):
            return {mask(str(name)): _hidden(name, mask(item)) for name, item in value.items()}
        return value

    return mask


def _hidden(name: object, value: Any) -> Any:
    return "…" if isinstance(value, (str, list)) and _SECRET_NAME.search(str(name)) else value


def _origin(found: Config, name: str) -> str:
    origin = found.origins.get(name, "default")
    return f"option --{name.replace('_', '-')}" if origin == "arguments" else origin


def _cell(setting: Setting, value: Any) -> str:
    """Return a value as the table has it; one that is not set with what that means."""
    if value is None:
        return f"null ({setting.unset})" if setting.unset else "null"
    if setting.name == "api_keys":
        more = len(value) - _MANY_KEYS
        labels = ", ".join(value[:_MANY_KEYS]) or "none"
        return labels + (f" and {more} more" if more > 0 else "")
    return value if isinstance(value, str) and value.isprintable() else _json(value)


def _json(value: object, indent: int | None = None) -> str:
    """Return JSON of all that a file can hold: numbers of any length, YAML's dates."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def _table(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    first = max(len(row[0]) for row in rows)
    second = min(_WIDEST, max(len(row[1]) for row in rows))
    for name, value, origin in rows:
        yield f"{name:<{first}}  {value:<{second}}  {origin}"


@config.command(short_help="Write a file with every setting in it.")
@click.argument("path", type=PATH, default="config.yaml")
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@console_options
def init(path: Path, force: bool) -> None:
    """Write a file with every setting in it, explained, that only you can read.

    PATH (config.yaml if you give none) ends in .yaml or .yml, or in .json, which holds no
    explanations. As it is written, nothing is changed: fill in what you want otherwise.

    \b
    Example:
      jsonl-runner config init settings.yaml
    """
    from ..config import DEFAULT_CONFIG_FILES  # noqa: PLC0415  # --help need not wait for it
    from ..configfile import YAML_SUFFIXES, create, is_yaml  # noqa: PLC0415

    if not is_yaml(path) and path.suffix.lower() != ".json":
        endings = ", ".join((*YAML_SUFFIXES, ".json"))
        raise ConfigError(f"{path}: its name must end in one of {endings}")
    create(path, yaml_text() if is_yaml(path) else json_text(), replace=force)
    found_by_itself = str(path) in DEFAULT_CONFIG_FILES
    others = [name for name in DEFAULT_CONFIG_FILES if name != str(path) and Path(name).is_file()]
    named = "" if found_by_itself and not others else f" --config {path}"
    say(f"{path} is written; only you can read it")
    say(f"next: put your keys in, then jsonl-runner keys check{named}")
    if found_by_itself and others:
        say(f"note: {others[0]} is here too: remove one of them, or name one with --config")


def json_text() -> str:
    """Return a JSON file with every setting in it, which changes none."""
    from ..config import Config  # noqa: PLC0415
    from ..settings.table import TABLE  # noqa: PLC0415

    defaults = {setting.name: getattr(Config(), setting.name) for setting in TABLE}
    return json.dumps(defaults, indent=2) + "\n"


def yaml_text() -> str:
    """Return a YAML file with every setting in it, which changes none."""
    from ..config import Config  # noqa: PLC0415
    from ..settings.table import TABLE  # noqa: PLC0415

    defaults = Config()
    sections: dict[str, list[str]] = {}
    for setting in TABLE:
        group, _, name = "".join(setting.grouped[:1]).rpartition(".")
        if setting.name == "params":  # has a name for each parameter there
            group, name = "", ""
        lines = sections.setdefault(group, [])
        default = getattr(defaults, setting.name)
        words = setting.words + (f" (null: {setting.unset})" if default is None else "")
        lines += ["", *textwrap.wrap(words, 94, initial_indent="# ", subsequent_indent="# ")]
        if setting.name == "api_keys":
            lines += [f"{name}:", "  #- ${OPENAI_API_KEY}", "  #- sk-…"]
        else:
            lines.append(f"#{name or setting.name}: {json.dumps(default, ensure_ascii=False)}")
    ungrouped = sections.pop("")
    text = _HEAD
    for group, lines in sections.items():
        indented = "\n".join(f"  {line}".rstrip() for line in lines[1:])
        text += f"\n{group}:\n{indented}\n"
    return text + "\n".join(ungrouped) + "\n"
