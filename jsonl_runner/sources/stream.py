r"""Rows of any kind as one stream of JSONL, made while it is read.

Its lines are numbered as the rows are at their place: the line of a row in a CSV file is its line
in the stream, counted on from file to file; where a row has several lines there, blank ones follow.
Where rows become several, every line of the place has as many in the stream.
A row that cannot be made has a line too, which `rows.parse_row` takes for its reason.
"""

from __future__ import annotations

import bisect
import io
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ..records import BadRow
from ..rows import reason_line
from .indexing import with_index
from .values import dumped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .indexing import Indexer
    from .parts import Part, Row

#: Makes a BadRow of a line's number in a stream, and the reason.
BadRowOf: TypeAlias = "Callable[[int, str], BadRow]"

#: Bytes that are made at once, where nobody waits for single rows.
_BLOCK = 64 * 1024
#: Bytes that are kept ready for the reader: as many as it takes at once.
_BUFFER = 256 * 1024


class Recipe(NamedTuple):
    """How a row becomes what is asked.

    Attributes:
        new_indexer: returns what gives rows their index, beginning anew; None: they have one.
        shape: makes a row with `instruction` or `messages` of a row of another form, and raises
            ValueError where it cannot; None: they have it.
        looks_back: whether an index hangs on the rows before.
        expand: makes `each` rows of one, or fewer; None: one row stays one.
        each: lines that a line of the place has here.
    """

    new_indexer: Callable[[], Indexer] | None = None
    shape: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    looks_back: bool = False
    expand: Callable[[dict[str, Any]], Sequence[dict[str, Any]]] | None = None
    each: int = 1

    @property
    def is_empty(self) -> bool:
        """Whether rows are what they are asked with."""
        return self.new_indexer is None and self.shape is None and self.expand is None


class _Begun(NamedTuple):
    """Where a part begins in the stream, and the lines ahead of it."""

    start: int
    lines_before: int
    part: Part


class _Rows(io.RawIOBase):
    """The bytes; see above. To go back is to begin anew, to go forwards to make and drop."""

    def __init__(self, parts: Sequence[Part], recipe: Recipe, *, live: bool) -> None:
        self._parts, self._recipe, self._live = parts, recipe, live
        self._begun: list[_Begun] = []
        self._restart(0)

    def _restart(self, number: int) -> None:
        """Begin anew with one of the parts that have been begun before."""
        place = self._begun[number] if self._begun else _Begun(0, 0, self._parts[0])
        self._at, self._rest = place.start, memoryview(b"")
        self._blocks = self._made(number, place.start, place.lines_before)

    def _made(self, first: int, start: int, lines_before: int) -> Iterator[bytes]:
        new_indexer = self._recipe.new_indexer
        indexer = None if new_indexer is None else new_indexer()
        for number, part in enumerate(self._parts[first:], first):
            if number == len(self._begun):
                self._begun.append(_Begun(start, lines_before, part))
            lines = part.raw() if self._recipe.is_empty else None
            for block in self._blocks_of(part, indexer) if lines is None else lines:
                yield block
                start += len(block)
                lines_before += block.count(b"\n")

    def _blocks_of(self, part: Part, indexer: Indexer | None) -> Iterator[bytes]:
        lines: list[bytes] = []
        size = last = 0
        longest = 0 if self._live else _BLOCK
        each = self._recipe.each
        for number, row in part.rows():
            if number > last + 1:
                lines.append(b"\n" * (number - last - 1) * each)
            last = number
            line = self._lines(part.file, number, row, indexer)
            lines.append(line)
            size += len(line)
            if size > longest:
                yield b"".join(lines)
                lines.clear()
                size = 0
        if lines:
            yield b"".join(lines)

    def _lines(self, file: str, number: int, row: Row, indexer: Indexer | None) -> bytes:
        made = self._line(file, number, row, indexer)
        return made + b"\n" * (self._recipe.each - made.count(b"\n"))

    def _line(self, file: str, number: int, row: Row, indexer: Indexer | None) -> bytes:
        if isinstance(row, str):
            return reason_line(row)
        try:
            if indexer is not None:
                row = with_index(row, indexer(file, number, row))
            if self._recipe.shape is not None:
                row = self._recipe.shape(row)
            if self._recipe.expand is not None:
                return b"".join(map(dumped, self._recipe.expand(row)))
            return dumped(row)
        except ValueError as error:
            return reason_line(str(error))

    def where(self, line: int) -> tuple[str, int, str]:
        """Return the file of a line that has been read, its number there, and what is counted."""
        which = bisect.bisect_left(self._begun, line, key=lambda begun: begun.lines_before) - 1
        begun = self._begun[max(0, which)]
        number = (line - begun.lines_before - 1) // self._recipe.each + 1
        return begun.part.name, number, begun.part.unit

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return not self._live

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._at += count
        return count

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if self._live:
            raise io.UnsupportedOperation("a pipe can be read once only")
        if whence == io.SEEK_END:
            self._drop(None)
            offset += self._at
        elif whence == io.SEEK_CUR:
            offset += self._at
        number = bisect.bisect_right(self._begun, offset, key=lambda begun: begun.start) - 1
        if self._recipe.looks_back:
            number = 0
        ahead = bool(self._begun) and number >= 0 and self._begun[number].start > self._at
        if offset < self._at or ahead:
            self._restart(max(0, number))
        self._drop(offset)
        return self._at

    def _drop(self, until: int | None) -> None:
        """Make bytes for nobody: until a place, or to the end."""
        dropped = bytearray(_BUFFER)
        while until is None or self._at < until:
            size = _BUFFER if until is None else min(_BUFFER, until - self._at)
            if not self.readinto(memoryview(dropped)[:size]):
                return

    def close(self) -> None:
        if not self.closed:
            blocks, self._blocks = self._blocks, iter(())
            if hasattr(blocks, "close"):
                blocks.close()  # and with it the file it reads
        super().close()


class RowStream(io.BufferedReader):
    """Rows as JSONL; a stream of bytes like any other, which also knows where its lines come from.

    Args:
        parts: the files.
        recipe: what becomes of each row.
        live: whether a row must not wait for the one behind it: they come through a pipe, which
            can be read once only.
    """

    def __init__(self, parts: Sequence[Part], recipe: Recipe, *, live: bool = False) -> None:
        self._rows = _Rows(parts, recipe, live=live)
        super().__init__(self._rows, _BUFFER)

    def where(self, line: int) -> tuple[str, int, str]:
        """Return the file of a line that has been read, its number there, and what is counted."""
        return self._rows.where(line)


def bad_rows_of(stream: object, name: str) -> BadRowOf:
    """Return what makes a BadRow of a line of a stream, and the reason.

    Args:
        stream: any; a `RowStream` knows where its lines come from.
        name: what messages call another.
    """
    if not isinstance(stream, RowStream):
        return lambda line, reason: BadRow(name, line, reason)

    def bad_row(line: int, reason: str) -> BadRow:
        file, number, unit = stream.where(line)
        return BadRow(file, number, reason, unit)

    return bad_row
