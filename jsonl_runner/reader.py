r"""Reading the input: a JSONL file streamed into rows, with every bad one named.

A line ends at `\n` and nowhere else (U+2028, U+0085 and a lone `\r` are text); `\r\n` and a
UTF-8 byte order mark are taken as they come. Blank lines are allowed.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from . import images
from .dataset import dataset_of
from .indexes import IndexSet, place_of, places_of, places_of_integers
from .records import BadRow, images_of, to_record
from .rows import MAX_ROW_BYTES, parse_row, plain_rows
from .sources.stream import bad_rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .dataset import Data
    from .indexes import Place
    from .records import Record
    from .sources.stream import BadRowOf


#: Bytes read at once by a GroupReader, and when what is left of too long a line is passed over.
_BLOCK = 256 * 1024


#: The index of a row, where it stands first: an integer, or a text without an escape.
_INDEX = re.compile(rb'\n\{"index": ?([0-9]+|"[^"\\\n]+")[,}]')


def new_digest() -> hashlib._Hash:
    """Return the hash that tells whether a file is still the same.

    SHA-256, because most processors of today have instructions for it.
    """
    return hashlib.sha256()


def _row_of(
    line: bytes | None, number: int, bad_row: BadRowOf, max_row_bytes: int, *, checks_images: bool
) -> dict[str, Any] | BadRow | None:
    """Return what stands in a line (None: one that is too long); None for nothing at all."""
    if line is None:
        return bad_row(number, f"the line is longer than {max_row_bytes / 2**20:g} MiB")
    content = line.strip(b" \t\r\n")
    if number == 1:
        content = content.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t")
    if not content:
        return None
    try:
        row = parse_row(content)
        if checks_images and (found := images_of(row)):
            images.check(found, _folder(number, bad_row))
    except ValueError as error:
        return bad_row(number, str(error))
    return row


def _folder(number: int, bad_row: BadRowOf) -> Path:
    """Return the folder of the file that a line comes from."""
    return Path(bad_row(number, "").file).parent


def _record_of(row: dict[str, Any], number: int, bad_row: BadRowOf) -> Record:
    return to_record(row, number, _folder(number, bad_row) if images_of(row) else None)


def _twice(row: dict[str, Any], number: int, bad_row: BadRowOf) -> BadRow:
    return bad_row(number, f"index {str(row['index'])!r} stands in an earlier line already")


class RowReader:
    """Streams the rows of one input; a row that cannot be used comes as a `BadRow`.

    Args:
        stream: opened for reading bytes.
        name: what messages call the file.
        max_row_bytes: longer lines are bad rows.
        checks_images: whether a row is bad whose images cannot be sent: not where nothing is.
    """

    def __init__(
        self,
        stream: IO[bytes],
        name: str,
        *,
        max_row_bytes: int = MAX_ROW_BYTES,
        checks_images: bool = True,
    ) -> None:
        self._stream = stream
        self._bad_row = bad_rows_of(stream, name)
        self._max = max_row_bytes
        self._checks_images = checks_images
        self._seen = IndexSet()
        #: Number of the line read last, from 1.
        self.line = 0

    def rows(self) -> Iterator[dict[str, Any] | BadRow]:
        """Yield each row as its JSON object, or as a BadRow; no line is read ahead of it."""
        for line in self._lines():
            row = _row_of(
                line, self.line, self._bad_row, self._max, checks_images=self._checks_images
            )
            if row is None:
                continue
            if isinstance(row, dict) and not self._seen.add(row["index"]):
                row = _twice(row, self.line, self._bad_row)
            yield row

    @property
    def folder(self) -> Path:
        """The folder of the file that the row read last comes from."""
        return _folder(self.line, self._bad_row)

    def where(self) -> str:
        """Return where the row read last stands: file and line."""
        return str(self._bad_row(self.line, "")).removesuffix(": ")

    def records(self) -> Iterator[Record | BadRow]:
        """Yield each row as a Record, or as a BadRow; no line is read ahead of it."""
        for row in self.rows():
            yield row if isinstance(row, BadRow) else _record_of(row, self.line, self._bad_row)

    def _lines(self) -> Iterator[bytes | None]:
        """Yield each line; None for one that is too long, which is passed over unread."""
        limit = self._max + 2  # room for the line end
        while line := self._stream.readline(limit):
            self.line += 1
            if len(line) < limit or line.endswith(b"\n"):
                yield line
                continue
            while (rest := self._stream.readline(_BLOCK)) and not rest.endswith(b"\n"):
                pass
            yield None


@dataclass(slots=True)
class Group:
    """Neighbouring rows.

    Attributes:
        block: the lines they stand in, without the last newline; None: one that is too long.
        bad_row: makes a BadRow of a line and a reason, and so knows the line's file.
        start, lines_before: byte at which the first line begins, and the lines ahead of it.
        places: of the indices of those rows that can be used.
        bad: the rows that cannot.
        is_known: whether they have been looked at by an earlier run, and found good.
    """

    block: bytes | None
    bad_row: BadRowOf
    start: int
    lines_before: int
    places: Sequence[Place] = ()
    bad: list[BadRow] = field(default_factory=list)
    is_known: bool = False
    #: For each place, how many lines of the group stand before its row.
    numbers: Sequence[int] = ()
    rows: list[dict[str, Any]] | None = None

    @property
    def lines(self) -> list[bytes | None]:
        """The lines, without their newlines."""
        return [None] if self.block is None else list(self.block.split(b"\n"))

    def row(self, which: int) -> dict[str, Any]:
        """Return the row of a place, as a JSON object whose index may still be an integer."""
        if self.rows is None:
            self.rows = [parse_row(line) for line in self.lines if line is not None]
        return self.rows[which]

    def index(self, which: int) -> str:
        """Return the index of a place."""
        return str(self.row(which)["index"])

    def record(self, which: int) -> Record:
        """Return the Record of a place."""
        line = self.lines_before + self.numbers[which] + 1
        return _record_of(self.row(which), line, self.bad_row)

    def position(self, which: int) -> tuple[int, int]:
        """Return the byte at which the line of a place begins, and the lines ahead of it."""
        before = self.lines[: self.numbers[which]]
        size = sum(len(line) + 1 for line in before if line is not None)
        return self.start + size, self.lines_before + len(before)


class GroupReader:
    """Reads the rows of a file many at a time, at a third of the cost of `RowReader` or less.

    Args:
        stream: the file, opened for reading bytes.
        name: what messages call it.
        max_row_bytes: longer lines are bad rows.
        checks_images: whether a row is bad whose images cannot be sent: not where nothing is.
        known: so many bytes of it were looked at by an earlier run, which found nothing bad.
    """

    def __init__(
        self,
        stream: IO[bytes],
        name: str,
        *,
        max_row_bytes: int = MAX_ROW_BYTES,
        checks_images: bool = True,
        known: int = 0,
    ) -> None:
        self._stream = stream
        self._bad_row = bad_rows_of(stream, name)
        self._max = max_row_bytes
        self._checks_images = checks_images
        self._known = known
        self._grew = not known or known < _size_of(stream)
        self._seen = IndexSet()
        #: Of all bytes read so far, and how many they are.
        self.digest = new_digest()
        self.size = 0
        self._start = self._lines_before = 0

    def start_at(self, offset: int, lines_before: int) -> None:
        """Begin with the line at byte `offset`, which has `lines_before` lines ahead of it."""
        self._stream.seek(offset)
        self._start, self._lines_before = offset, lines_before

    def groups(self) -> Iterator[Group]:
        """Yield all rows, each once."""
        lines_before = self._lines_before
        for start, block in self._blocks():
            yield self._group_of(block, start, lines_before)
            lines_before += 1 if block is None else block.count(b"\n") + 1

    def group_at(self, start: int, end: int, lines_before: int) -> Group:
        """Return the rows of the lines from byte `start` to `end`, as `groups` did before."""
        self._stream.seek(start)
        block = self._stream.read(end - start)
        return self._group_of(block.removesuffix(b"\n"), start, lines_before)

    def _group_of(self, block: bytes | None, start: int, lines_before: int) -> Group:
        group = Group(block, self._bad_row, start, lines_before)
        if not self._take_known(group) and not self._take_plain(group):
            self._take_one_by_one(group)
        return group

    def _take_known(self, group: Group) -> bool:
        """Take the indices alone; return whether that is enough.

        Of a row that is known to be good, "index" where it stands once is the field.
        """
        if group.block is None or group.start + len(group.block) > self._known:
            return False
        found = _INDEX.findall(b"\n" + group.block)
        count = group.block.count(b"\n") + 1
        if len(found) != count or group.block.count(b'"index"') != count:
            return False
        if b'"' in b"".join(found):
            places = places_of([index.decode().strip('"') for index in found])
        else:
            places = places_of_integers(list(map(int, found)))
        if self._grew:  # among the known rows none stands twice, but one that came later may
            self._seen.put_all(places)
        group.places, group.numbers, group.is_known = places, range(count), True
        return True

    def _take_plain(self, group: Group) -> bool:
        """Take rows of the commonest kind; return whether they all were."""
        lines = [line for line in group.lines if line is not None]
        if group.block is None or max(map(len, lines)) > self._max + 1:
            return False
        rows = plain_rows(lines)
        if rows is None:
            return False
        places = places_of([str(row["index"]) for row in rows])
        numbers: Sequence[int] = range(len(rows))
        twice = self._seen.put_all(places)
        if twice:
            for k in twice:
                group.bad.append(_twice(rows[k], group.lines_before + k + 1, self._bad_row))
            numbers = sorted(set(numbers).difference(twice))
            rows, places = [rows[k] for k in numbers], [places[k] for k in numbers]
        group.rows, group.places, group.numbers = rows, places, numbers
        return True

    def _take_one_by_one(self, group: Group) -> None:
        rows: list[dict[str, Any]] = []
        places: list[Place] = []
        numbers: list[int] = []
        for number, line in enumerate(group.lines):
            too_long = line is not None and len(line) > self._max + 1
            where = group.lines_before + number + 1
            row = _row_of(
                None if too_long else line,
                where,
                self._bad_row,
                self._max,
                checks_images=self._checks_images,
            )
            if isinstance(row, dict):
                place = place_of(row["index"])
                if self._seen.put(place):
                    rows.append(row)
                    places.append(place)
                    numbers.append(number)
                    continue
                row = _twice(row, where, self._bad_row)
            if row is not None:
                group.bad.append(row)
        group.rows, group.places, group.numbers = rows, places, numbers

    def _blocks(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield where a block of lines begins, and the block; None for a line that is too long."""
        start, rest = self._start, b""
        while data := self._read():
            rest += data
            cut = rest.rfind(b"\n")
            if cut >= 0:
                yield start, rest[:cut]
                start, rest = start + cut + 1, rest[cut + 1 :]
            elif len(rest) > self._max + 1:
                yield start, None
                while (data := self._read()) and b"\n" not in data:
                    pass
                rest = data[data.find(b"\n") + 1 :]
                start = self._start + self.size - len(rest)
        if rest:
            yield start, rest.removesuffix(b"\n")

    def _read(self) -> bytes:
        data = self._stream.read(_BLOCK)
        self.digest.update(data)
        self.size += len(data)
        return data


def _size_of(stream: IO[bytes]) -> int:
    before = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(before)
    return size


def digest_of(stream: IO[bytes], size: int) -> str | None:
    """Return the digest of a file's first `size` bytes, None if it has fewer; go back to its start.

    A file that grew at its end still begins with what it was.
    """
    digest, left = new_digest(), size
    while left and (data := stream.read(min(left, _BLOCK))):
        digest.update(data)
        left -= len(data)
    stream.seek(0)
    return None if left else digest.hexdigest()


def open_input(data: Data) -> IO[bytes]:
    """Open an input for reading, as a stream of JSONL; see `Dataset.open`.

    Raises:
        InputError: it is missing, empty or not readable.
    """
    return dataset_of(data).open()
