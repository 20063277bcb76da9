"""`response_format`: what shape an answer is to have, from a file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .schemas import check_of_format

if TYPE_CHECKING:
    from pathlib import Path

#: What OpenAI takes as the name of a schema.
_NOT_IN_NAMES, _MAX_NAME = re.compile(r"[^A-Za-z0-9_-]+"), 64
#: The kinds of response_format; a JSON schema's `type` is none of them.
_KINDS = ("json_schema", "json_object", "text")


def response_format(file: Path) -> dict[str, Any]:
    """Return the request parameter `response_format` that a file asks for.

    Args:
        file: holds a JSON schema, or a whole response_format object (known by its `type`).

    Raises:
        ConfigError: the file is missing, or is neither.
    """
    found = _whole(_read(file), file)
    try:
        check_of_format(found)
    except ValueError as error:
        raise ConfigError(f"{file}: this is no JSON schema that can be used: {error}") from None
    return found


def _whole(schema: dict[str, Any], file: Path) -> dict[str, Any]:
    kind = schema.get("type")
    if kind not in _KINDS:
        named = {"name": _name(schema.get("title"), file), "schema": schema, "strict": True}
        return {"type": "json_schema", "json_schema": named}
    if kind == "json_schema":
        inner = schema.get("json_schema")
        if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
            raise ConfigError(
                f'{file}: "type" is json_schema, but "json_schema" holds no object with a '
                '"schema"; give one, or the JSON schema alone'
            )
    return schema


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: there is no such file; give one with a JSON schema, or the word json"
        ) from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{file}:{error.lineno}: not valid JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: cannot be read (it is no UTF-8 text)") from None
    except (RecursionError, ValueError) as error:  # nested, or with a number, beyond all reason
        raise ConfigError(f"{file}: cannot be read ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: must hold an object, a JSON schema")
    return found


def _name(title: object, file: Path) -> str:
    for text in (title, file.stem):
        name = _NOT_IN_NAMES.sub("_", text).strip("_") if isinstance(text, str) else ""
        if name:
            return name[:_MAX_NAME]
    return "answer"
