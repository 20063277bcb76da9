"""What the value of each setting must be: a check returns it as it is kept.

A ValueError's text goes behind the setting's name.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .. import jsontext
from ..rows import check_params
from ..secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_API_BASE = "https://api.openai.com/v1"
#: What can make the calls: libcurl, or the openai SDK.
TRANSPORTS = ("curl", "openai")
#: What spreads a run's rows over workers: threads here, or processes on a Ray cluster.
ENGINES = ("local", "ray")
#: What stands in place of a key in config.json.example, and what becomes of it by hand.
PLACEHOLDERS = ("sk-…", "sk-...")
PROXY_SCHEMES = ("http://", "https://", "socks5://", "socks5h://")


def keys(value: object) -> tuple[tuple[Secret, ...], list[str]]:
    """Return the keys, and what was odd about them."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise ValueError("must be a list of keys")
    texts: list[str] = []
    notes: list[str] = []
    for position, text in enumerate(value, 1):
        if not isinstance(text, str):
            raise ValueError(f"must be a list of texts; entry {position} is none")
        key, around = _bare(text)
        if around:
            notes.append(f"api_keys entry {position} has {around} around it; taken without them")
        if key in PLACEHOLDERS:
            notes.append(f"api_keys entry {position} is the example's placeholder; left out")
        elif not key:
            notes.append(f"api_keys entry {position} is empty; left out")
        elif key in texts:
            first = texts.index(key) + 1
            notes.append(f"api_keys entry {position} repeats key {first}; used once")
        elif not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(f"entry {position} is no key; put your own there")
        else:
            texts.append(key)
    return tuple(Secret(key, position) for position, key in enumerate(texts, 1)), notes


def _bare(text: str) -> tuple[str, str]:
    """Return a key, and what stood around it: files of variables keep the quotes."""
    key = text.strip()
    around = "" if key == text else "blanks"
    if len(key) > 2 and key[0] == key[-1] and key[0] in "\"'":
        return key[1:-1].strip(), "quotes"
    return key, around


def address(value: object) -> str:
    """Return an address without what is behind `/v1`; an empty one is the default."""
    if value is None or value == "":
        return DEFAULT_API_BASE
    if not isinstance(value, str):
        raise ValueError(f"must be an address, got {value!r}")
    base = value.strip().rstrip("/")
    if not base.startswith(("http://", "https://")) or "//" not in base or base.endswith(":/"):
        raise ValueError("must begin with http:// or https://")
    if any(char.isspace() for char in base):
        raise ValueError("must hold no blanks")
    return base.removesuffix("/chat/completions")


def proxy(value: object) -> str | None:
    """Return a proxy's address; an empty one is none."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.startswith(PROXY_SCHEMES):
        raise ValueError(f"must begin with one of {', '.join(PROXY_SCHEMES)}")
    return value


def transport(value: object) -> str:
    """Return one of `TRANSPORTS`."""
    if value not in TRANSPORTS:
        raise ValueError(f"must be one of {', '.join(TRANSPORTS)}, got {value!r}")
    return str(value)


def switch(*, optional: bool) -> Callable[[object], bool | None]:
    """Return the check of what is on or off; `optional`: or null."""

    def check(value: object) -> bool | None:
        if isinstance(value, bool) or (value is None and optional):
            return value
        kinds = "true, false or null" if optional else "true or false"
        raise ValueError(f"must be {kinds}, got {value!r}")

    return check


def engine(value: object) -> str:
    """Return one of `ENGINES`."""
    if value not in ENGINES:
        raise ValueError(f"must be one of {', '.join(ENGINES)}, got {value!r}")
    return str(value)


def ray_address(value: object) -> str:
    """Return where a Ray cluster is: `local`, `auto`, `host:port` or `ray://host:port`."""
    if value in ("local", "auto") or (
        isinstance(value, str) and value.rpartition(":")[2].isdigit()
    ):
        return str(value)
    raise ValueError(f"must be local, auto, host:port or ray://host:port, got {value!r}")


def key_groups(value: object) -> list[list[int]]:
    """Return groups of keys, each key by its position from 1."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(g, (list, tuple)) for g in value):
        raise ValueError(
            f"must be a list of lists of positions, such as [[1, 2], [3]], got {value!r}"
        )
    found = [position for group in value for position in group]
    for position in found:
        if type(position) is not int or position < 1:
            raise ValueError(f"must hold positions of keys, from 1, got {position!r}")
        if found.count(position) > 1:
            raise ValueError(f"has key {position} twice")
    return [list(group) for group in value if group]


def text(value: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a text, got {value!r}")
    return value


def folder(value: object) -> Path | None:
    """Return the path of a folder, with `~` for one's home; an empty one is none."""
    if value is None or value == "":
        return None
    if not isinstance(value, (str, Path)) or not str(value).strip() or "\0" in str(value):
        raise ValueError(f"must be the path of a folder or null, got {value!r}")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # ~name of nobody
        raise ValueError(f"names a home folder that is not there, got {value!r}") from None


def params(value: object) -> dict[str, Any]:
    """Return request parameters."""
    check_params(value)
    try:
        jsontext.dump(value)
    except TypeError as error:
        raise ValueError(f"cannot be sent as JSON ({error})") from None
    return cast("dict[str, Any]", value)


def post(value: object) -> Any:
    """Return a function, or the text `module:function`; null: none."""
    if value is None or callable(value):
        return value
    module, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    path = (*module.split("."), *name.split("."))
    is_file = module.endswith(".py")
    if not colon or is_file or not all(word.isidentifier() for word in path):
        hint = " (without .py)" if is_file else ""
        raise ValueError(f"must be module:function{hint}, got {value!r}")
    return value


def number(minimum: float, *, whole: bool = False, optional: bool = False) -> Callable[[Any], Any]:
    """Return the check of a number from `minimum` on; `optional`: or null."""
    kind = "whole number" if whole else "number"
    least = f"of at least {minimum:g}" if minimum else "of 0 or more"

    def check(value: object) -> Any:
        if value is None and optional:
            return None
        allowed = (int,) if whole else (int, float)
        if (
            not isinstance(value, allowed)
            or isinstance(value, bool)
            or not minimum <= value < math.inf
        ):
            null = " or null" if optional else ""
            raise ValueError(f"must be a {kind} {least}{null}, got {value!r}")
        return value

    return check
