r"""CSV and TSV: a header with the fields' names, then a row each; every cell is a text.

A row's number is that of the line it begins in, so that an editor finds it.
"""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Any

from ..encodings import looks_like, wrong_encoding
from ..errors import InputError
from ..rows import MAX_ROW_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .parts import Row

_MARK = "\ufeff"
#: Bytes at the beginning by which another encoding is known at once.
_HEAD = 4096


#: What may part cells, the first that a header has.
_SEPARATORS = (",", ";", "\t", "|")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SAID = re.compile(r'sep=([^"\r\n])\s*')


class _TooLongError(Exception):
    """A row is longer than any may be."""


class _Lines:
    r"""Yields lines of text with their `\n`; knows how long the row under way is.

    Attributes:
        row: characters of it, so far.
        has_nul: whether a NUL came anywhere; no text has one, and few files do.
    """

    def __init__(self, chunks: Iterator[bytes], name: str) -> None:
        self._chunks = chunks
        self._name = name
        self._number = 0
        self.row = 0
        self.has_nul = False

    def __iter__(self) -> Iterator[str]:
        rest: list[bytes] = []
        size, is_first = 0, True
        for chunk in self._chunks:
            if is_first and (encoding := looks_like(chunk[:_HEAD])) and encoding[:6] == "UTF-16":
                raise wrong_encoding(self._name, chunk)
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                size += len(chunk)
                if size > MAX_ROW_BYTES:
                    raise _TooLongError
                rest.append(chunk)
                continue
            text = self._text(b"".join((*rest, chunk[:cut])))
            yield from self._counted(text.removeprefix(_MARK) if is_first else text)
            rest, is_first = [chunk[cut:]], False
            size = len(rest[0])
        if size:
            text = self._text(b"".join(rest))
            yield from self._counted(text.removeprefix(_MARK) if is_first else text)

    def _text(self, data: bytes) -> str:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            before = data[: error.start].count(b"\n")
            line = data.split(b"\n")[before]
            raise wrong_encoding(self._name, line, self._number + before + 1) from None
        self.has_nul = self.has_nul or "\0" in text
        self._number += text.count("\n")
        return text

    def _counted(self, text: str) -> Iterator[str]:
        for line in io.StringIO(text, newline="\n"):
            self.row += len(line)
            if self.row > MAX_ROW_BYTES:
                raise _TooLongError
            yield line


def csv_rows(chunks: Iterator[bytes], name: str, *, is_tsv: bool) -> Iterator[tuple[int, Row]]:
    """Yield the number of the line where each row begins, and the row.

    A comma parts the cells of a CSV file; where its header has none, a semicolon, a tab or a bar.
    A line `sep=;` ahead of the header, as Excel takes it, says so itself.

    Args:
        chunks: the data.
        name: what messages call the file.
        is_tsv: whether tabs part the cells.

    Raises:
        InputError: it has no header of use, or is not UTF-8.
    """
    # For the whole process; any other reader sees its long cells, and no error.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
    lines = _Lines(chunks, name)
    texts = iter(lines)
    reader, header, number = _begun(texts, name, is_tsv=is_tsv)
    width = len(header)
    while True:
        lines.row, last = 0, reader.line_num + number
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield last + 1, _reason(error)
            continue
        except _TooLongError:
            yield last + 1, f"the row is longer than {MAX_ROW_BYTES / 2**20:g} MiB: {_OPEN}"
            return
        if len(cells) == width:
            if lines.has_nul and any("\0" in cell for cell in cells):
                yield last + 1, "there is a NUL byte in it, which no text has"
            else:
                yield last + 1, dict(zip(header, cells, strict=True))
        elif cells:
            plural = "cell" if len(cells) == 1 else "cells"
            yield last + 1, f"it has {len(cells)} {plural} where the header has {width}"


#: What is to be done about a quote that nobody closes.
_OPEN = "a quote in it is not closed, and the lines below cannot be told from it"


def _reason(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text:
        return _OPEN
    if "new-line character" in text:
        return r"a line ends in \r alone, as of old Macs: convert the file's line ends to \n"
    return f'not CSV ({text}): a quote inside of a quoted cell is written twice ("")'


def _begun(texts: Iterator[str], name: str, *, is_tsv: bool) -> tuple[Any, list[str], int]:
    """Return what reads the rows behind the header, the header, and the lines before it."""
    number = 0
    first = said = ""
    try:
        for first in texts:
            if not said and (found := _SAID.fullmatch(first)):
                said = found[1]
            elif first.strip():
                break
            number += 1
        else:
            raise InputError(f"{name}: the file is empty; it needs a header and a row a line")
        separator = "\t" if is_tsv else said or _separator(first)

        def all_lines() -> Iterator[str]:
            yield first
            yield from texts

        reader = csv.reader(all_lines(), delimiter=separator, strict=True)
        header = [title.strip() for title in next(reader)]
    except csv.Error as error:
        raise InputError(f"{name}:{number + 1}: the header: {_reason(error)}") from None
    except _TooLongError:
        raise InputError(f"{name}:{number + 1}: the header: {_OPEN}") from None
    _check(header, f"{name}:{number + 1}")
    return reader, header, number


def _separator(header: str) -> str:
    """Return what parts the names in a header; within quotes, it parts nothing."""
    bare = _QUOTED.sub("", header)
    return next((letter for letter in _SEPARATORS if letter in bare), _SEPARATORS[0])


def _check(header: list[str], where: str) -> None:
    """Check that the columns have names.

    Raises:
        InputError: they have not.
    """
    for number, title in enumerate(header, 1):
        if not title.strip():
            raise InputError(
                f"{where}: column {number} has no name in the header, which is the first line; "
                "give it one, or take the column out"
            )
        if header.index(title) < number - 1:
            raise InputError(f"{where}: the header names two columns {title!r}; rename one")
