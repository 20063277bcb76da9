"""A JSON document with the rows in an array, read item by item: `[…]` or `{"data": […]}`."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

from ..encodings import looks_like, wrong_encoding
from ..errors import InputError
from ..rows import FIELDS, MAX_ROW_BYTES, check_depth, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .parts import Row

_WHITE = " \t\r\n"
_MARK = "\ufeff"
#: Letters before the end of a text in which it may have been cut: `-Infinity`, `\\ud83d\\ude00`.
_LONGEST_WORD = 12


def holds_lines(head: bytes, *, is_all: bool) -> bool | None:
    """Return whether a file that is called JSON holds a JSON object a line; None: too soon to say.

    Args:
        head: its first bytes.
        is_all: whether no more of them will be looked at.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        return False if is_all else None
    first, end, rest = text.partition(b"\n")
    if not first.startswith(b"{"):
        return False
    if not end and not is_all:
        return None
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    if rest.strip() or not {*FIELDS}.isdisjoint(row):
        return True
    has_rows = any(
        isinstance(value, list) and value and isinstance(value[0], dict) for value in row.values()
    )
    return not has_rows if is_all or not has_rows else None


def items(chunks: Iterator[bytes], name: str) -> Iterator[tuple[int, Row]]:
    """Yield the number of each item, from 1, and its row.

    Raises:
        InputError: it is no such document, or cannot be read on.
    """
    return _Document(chunks, name).rows()


class _Document:
    """A document that is being read."""

    def __init__(self, chunks: Iterator[bytes], name: str) -> None:
        self._chunks = chunks
        self._name = name
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        #: Lines ahead of the text.
        self._lines = 0
        #: Items read.
        self._items = 0
        self._is_over = False
        self._has_constant = False
        self._decoder = json.JSONDecoder(parse_constant=self._constant)

    def rows(self) -> Iterator[tuple[int, Row]]:
        first = self._next()
        if not first:
            raise InputError(f"{self._name}: the file is empty; it needs a JSON array of rows")
        if first == "[":
            yield from self._array()
        elif first == "{":
            yield from self._object()
        else:
            raise self._error("this is no JSON document: it begins with neither [ nor {")
        if self._next():
            raise self._error("something stands behind the end of the document")

    def _object(self) -> Iterator[tuple[int, Row]]:
        """Yield the items of an object's one array."""
        self._at += 1
        found, has_array = "", False
        while self._next() != "}":
            key = self._value()
            if not isinstance(key, str) or self._next() != ":":
                raise self._error("a name and a colon should stand here")
            self._at += 1
            if self._next() == "[" and not found:
                has_array = True
                yield from self._array()
                found = key if self._items else ""  # an empty one may stand beside
            else:
                value = self._value()
                if isinstance(value, list) and value:
                    raise self._error(f'"{found}" and "{key}" are both arrays: which has the rows?')
            if self._next() == ",":
                self._at += 1
            elif self._next() != "}":
                raise self._error("a comma or } should stand here")
        self._at += 1
        if not has_array:
            raise self._error("there is no array in this object; rows are the items of an array")

    def _array(self) -> Iterator[tuple[int, Row]]:
        self._at += 1
        if self._next() == "]":
            self._at += 1
            return
        while True:
            self._next()
            self._items += 1
            yield self._items, self._row()
            separator = self._next()
            self._at += 1
            if separator == "]":
                return
            if separator != ",":
                self._at -= 1
                raise self._error("a comma or ] should stand here")

    def _row(self) -> Row:
        self._has_constant = False
        before = self._at
        value = self._value()
        if self._has_constant:
            return "NaN and Infinity are no JSON; write null"
        if not isinstance(value, dict):
            return f"not a JSON object but {kind_of(value)}"
        if self._at - before > 400:  # shorter text cannot be nested deep enough
            try:
                check_depth(value)
            except ValueError as error:
                return str(error)
        return value

    def _constant(self, _text: str) -> None:
        self._has_constant = True

    def _value(self) -> Any:
        """Return the value that begins here, and go behind it."""
        tried = 0
        while self._next():
            # An object is not whole before it is closed; all else is short.
            is_open = self._text[self._at] == "{" and self._text.find("}", self._at + tried) < 0
            if self._is_over or not is_open:
                try:
                    value, end = self._decoder.raw_decode(self._text, self._at)
                except (ValueError, RecursionError) as error:
                    if not self._is_cut(error):
                        raise self._broken(error) from None
                    if self._is_over:
                        break
                else:
                    is_whole = end < len(self._text) or isinstance(value, (dict, list, str))
                    size = end - self._at
                    if is_whole or not self._more():  # a number might go on
                        self._at += size
                        return value
                    continue
            tried = len(self._text) - self._at
            if tried > MAX_ROW_BYTES:
                size = MAX_ROW_BYTES // 2**20
                raise self._error(f"item {max(1, self._items)} is longer than {size} MiB")
            self._more()
        raise self._error(f"the document is cut off within item {max(1, self._items)}")

    def _is_cut(self, error: Exception) -> bool:
        """Return whether a value that cannot be read may be one whose end has not come."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        end = len(self._text.rstrip(_WHITE)) if self._is_over else len(self._text) - _LONGEST_WORD
        return error.pos >= end or error.msg.startswith("Unterminated string")

    def _next(self) -> str:
        """Go to what stands next, and return its first letter; nothing at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _WHITE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read on, and let go of what is done; return whether there was more."""
        if self._is_over:
            return False
        chunk = next(self._chunks, None)
        is_first = not self._text and not self._lines and not self._items
        if is_first and chunk and looks_like(chunk[:4096]) in ("UTF-16", "UTF-16LE", "UTF-16BE"):
            raise wrong_encoding(self._name, chunk)
        try:
            new = self._decode.decode(chunk or b"", final=chunk is None)
        except UnicodeDecodeError as error:
            line = self._lines + self._text.count("\n") + error.object[: error.start].count(b"\n")
            raise wrong_encoding(self._name, error.object, line + 1) from None
        self._is_over = chunk is None
        self._lines += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + (new.removeprefix(_MARK) if is_first else new)
        self._at = 0
        return not self._is_over

    def _broken(self, error: Exception) -> InputError:
        what, at = str(error) or "nested too deep", self._at
        if isinstance(error, json.JSONDecodeError):
            what, at = error.msg, error.pos
        line = self._lines + self._text.count("\n", 0, at) + 1
        return InputError(
            f"{self._name}:{line}: item {max(1, self._items)}: not JSON ({what}), and what comes "
            "behind it cannot be read"
        )

    def _error(self, what: str) -> InputError:
        line = self._lines + self._text.count("\n", 0, self._at) + 1
        return InputError(f"{self._name}:{line}: {what}")
