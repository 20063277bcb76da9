"""Configuration files: read as JSON or YAML, their references looked up, and written in private."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: What ends the name of a YAML file; everything else is JSON.
YAML_SUFFIXES = (".yaml", ".yml")

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LIKE_REFERENCE = re.compile(r"\$\{[^{}]*\}")
_HOW_TO_BEGIN = "copy config.json.example to it, or let jsonl-runner config init write one"
#: Nobody but the owner.
_PRIVATE = 0o600


def is_yaml(path: Path) -> bool:
    """Return whether a file is YAML, by its name."""
    return path.suffix.lower() in YAML_SUFFIXES


def read(path: Path) -> dict[Any, Any]:
    """Return what a file holds.

    Raises:
        ConfigError: it is not there, or cannot be read; the text never quotes it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration file; {_HOW_TO_BEGIN}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8; save it as such") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    if not text.strip():
        raise ConfigError(f"{path}: the file is empty; {_HOW_TO_BEGIN}")
    try:
        data = _yaml(text, path) if is_yaml(path) else _json(text, path)
    except json.JSONDecodeError as error:
        ended = text[error.pos : error.pos + 1] in ("]", "}")
        comma = ended and text[: error.pos].rstrip().endswith(",")
        reason = f"a comma stands before {text[error.pos]}" if comma else error.msg
        raise ConfigError(f"{path}:{error.lineno}: not valid JSON: {reason}") from None
    except (RecursionError, ValueError) as error:  # nested, or with a number, beyond all reason
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__})") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold an object with settings")
    return data


def _json(text: str, path: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{path}: {name!r} stands there twice")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)


def _yaml(text: str, path: Path) -> Any:
    import yaml  # noqa: PLC0415  # 30 ms that users of JSON need not pay

    def refuse_twice(node: yaml.Node | None, depth: int) -> None:
        names = set()
        for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if name.value in names:
                line = name.start_mark.line + 1
                raise ConfigError(f"{path}:{line}: {name.value} stands there twice")
            names.add(name.value)
            if depth:
                refuse_twice(value, depth - 1)

    try:
        data = yaml.safe_load(text)
        refuse_twice(yaml.compose(text, yaml.SafeLoader), 1)  # the settings, and those in groups
    except yaml.YAMLError as error:
        # Never its whole text: that quotes the file, and so the keys in it.
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", "")
        if problem and "'\\t'" in problem:
            problem = "a tab stands at its beginning; YAML takes blanks there"
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {problem or 'odd text'}") from None
    return data


def reference_in(value: object) -> str | None:
    """Return the variable that a text names as a whole (`${NAME}`); None if it names none."""
    match = _REFERENCE.fullmatch(value.strip()) if isinstance(value, str) else None
    return match[1] if match else None


def look_up(
    value: Any,
    where: str,
    environ: Mapping[str, str],
    parse: Callable[[str], Any],
    within: Callable[[str], Any],
) -> Any:
    """Return a value with what it takes from the environment: each text in it that is `${NAME}`.

    Args:
        value: as the file holds it.
        where: what messages call it.
        environ: where the names are looked up.
        parse: says what a variable's text means that is the whole value.
        within: the same for one inside a list or an object.

    Raises:
        ConfigError: a variable is not set, or empty; the file's name belongs before the message.
    """
    if isinstance(value, list):
        return [
            look_up(item, f"{where} entry {number}", environ, within, within)
            for number, item in enumerate(value, 1)
        ]
    if isinstance(value, dict):
        return {
            name: look_up(item, f"{where}.{name}", environ, within, within)
            for name, item in value.items()
        }
    name = reference_in(value)
    if name is None:
        return value
    text = environ.get(name, "").strip()
    if not text:
        raise ConfigError(f"{where} is ${{{name}}}, and no such variable is set: export {name}=…")
    return parse(text)


def half_reference(value: Any) -> bool:
    """Return whether a text, or one in a list, has `${…}` in it and is not `${NAME}` as a whole."""
    if isinstance(value, list):
        return any(map(half_reference, value))
    like = isinstance(value, str) and _LIKE_REFERENCE.search(value) is not None
    return like and reference_in(value) is None


def create(path: Path, text: str, *, replace: bool) -> None:
    """Write a file that nobody but its owner can read, at no time.

    Args:
        path: where it is to be.
        text: what it holds.
        replace: whether it may take the place of another.

    Raises:
        ConfigError: there is a file already, or it cannot be written.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: this is a directory; give a file name")
    target = path.resolve() if replace else path  # a link stays a link
    new = target.with_name(f".{target.name}.{os.getpid()}.tmp") if replace else target
    made = False
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        made = True
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        if replace:
            new.replace(target)
    except FileExistsError:
        raise ConfigError(f"{path} is there already: --force replaces it") from None
    except OSError as error:
        if made:
            new.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from None
