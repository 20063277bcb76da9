"""JSON that may hold half an emoji.

A model cut off in the middle of an emoji sends half a surrogate pair, and Python texts may hold one
too. orjson refuses it and UTF-8 cannot hold it, but the text around it was paid for: it becomes
U+FFFD.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def load(data: bytes) -> Any:
    """Return JSON from outside, mended.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if b"\\ud" not in data.lower():
            raise
        try:
            return mended(json.loads(data))
        except RecursionError:  # nested deeper than anybody means to
            raise error from None


def load_exact(text: str | bytes) -> Any:
    """Return JSON from outside, mended, with whole numbers of any length.

    orjson makes a float of one above 64 bits, and so another number.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deep.
    """
    found = json.loads(text, parse_constant=_refuse)
    has_no_half = isinstance(text, bytes) and b"\\ud" not in text.lower()
    return found if has_no_half else mended(found)


def _refuse(constant: str) -> None:
    raise ValueError(f"unexpected {constant}")


def dump(value: Any, *, sort_keys: bool = False) -> bytes:
    """Return a value as JSON, mended.

    Raises:
        TypeError: it holds what JSON cannot.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else 0)
    except orjson.JSONEncodeError:
        # Slower, but it knows whole numbers above 64 bits, and deeper nesting.
        return json.dumps(
            mended(value), ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys
        ).encode()


def mended(value: Any) -> Any:
    """Return a value with U+FFFD in place of every half of a surrogate pair."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, list):
        return [mended(item) for item in value]
    if isinstance(value, dict):
        return {mended(key): mended(item) for key, item in value.items()}
    return value
