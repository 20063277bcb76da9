"""Rows as JSON, with what Parquet and Arrow know and JSON does not.

Times are ISO 8601, durations seconds, decimals texts (no digit is lost), bytes base64, and a float
that is no number is null, as missing numbers are written by pandas. Of numpy,
numbers are numbers and arrays lists; what pandas has for a missing value is null.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
from typing import Any

import orjson

from .. import jsontext

#: What pandas has in place of a time, or of any value; neither is equal to itself.
_MISSING = ("NaTType", "NAType")


def dumped(row: dict[str, Any], *, sort_keys: bool = False) -> bytes:
    """Return a row as a line of JSON, with its newline.

    Raises:
        ValueError: it holds what cannot be JSON.
    """
    option = (
        orjson.OPT_APPEND_NEWLINE
        | orjson.OPT_SERIALIZE_NUMPY
        | (orjson.OPT_SORT_KEYS if sort_keys else 0)
    )
    try:
        return orjson.dumps(row, default=_plain, option=option)
    except orjson.JSONEncodeError as error:
        try:  # whole numbers above 64 bits
            return jsontext.dump(row, sort_keys=sort_keys) + b"\n"
        except (TypeError, ValueError, RecursionError):
            raise ValueError(f"it cannot be written as JSON ({error})") from None


def _plain(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if type(value).__name__ in _MISSING:
        return None
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()  # a class derived from them, such as pandas'
    if hasattr(value, "tolist"):  # an array that orjson does not know: of texts, or not in order
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")
