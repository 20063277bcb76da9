"""A text file, or a pipe, as a part of a dataset: JSONL, JSON, CSV or TSV, packed or not."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..errors import InputError
from ..remote import opened as opened_url
from ..remote import url_of
from .chunks import PACKED, chunks_of, packing_of, unpacked, with_head
from .csvrows import csv_rows
from .foreign import HEAD, check_head
from .jsondocument import holds_lines, items
from .jsonl import lines_as_they_are, rows_of_lines

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from .parts import Row

#: Bytes by which a JSON document is told from lines of JSON, at the most.
_HEAD = 1024 * 1024


class TextPart:
    """See above; a `parts.Part`.

    Args:
        source: the file, or an open stream, which can be read once only.
        kind: `jsonl`, `json`, `csv` or `tsv`.
        name: what messages call it.
    """

    def __init__(self, source: Path | IO[bytes], kind: str, name: str) -> None:
        self._source = source
        self._kind = kind
        self.name = name
        self.file = source.name if isinstance(source, Path) else name
        self.unit = ""
        #: Whether a row must not wait for the next one.
        self._is_live = not isinstance(source, Path)

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the number of each row, and the row."""
        with self._chunks() as chunks:
            if self._kind in ("csv", "tsv"):
                yield from csv_rows(chunks, self.name, is_tsv=self._kind == "tsv")
                return
            if self._kind == "json":
                is_lines, data = _told(chunks)
                if not is_lines:
                    self.unit = "item"
                    yield from items(data, self.name)
                else:
                    yield from rows_of_lines(data)
                return
            yield from rows_of_lines(chunks)

    def raw(self) -> Iterator[bytes] | None:
        """Return the lines as they are, in pieces, where they are JSONL already; else None."""
        return self._raw() if self._kind == "jsonl" else None

    def _raw(self) -> Iterator[bytes]:
        with self._chunks() as chunks:
            yield from lines_as_they_are(chunks)

    @contextlib.contextmanager
    def _chunks(self) -> Iterator[Iterator[bytes]]:
        """Yield the unpacked data."""
        source = self._source
        if not isinstance(source, Path):
            yield self._checked(unpacked(chunks_of(source), self.name))
            return
        with opened(source, self.name) as stream:
            said = source.suffix.lower()
            said = said if said in PACKED else ""
            yield self._checked(unpacked(chunks_of(stream), self.name, said=said))

    def _checked(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the data, if it is no other kind of file."""
        head, chunks = with_head(chunks, 1 if self._is_live else HEAD)
        check_head(head[:HEAD], self.name)
        yield from chunks


def opened(path: Path, name: str) -> io.BufferedReader:
    """Open a file for reading, here or elsewhere (see `remote`).

    Raises:
        InputError: it is missing or not readable.
    """
    url = url_of(path)
    if url is not None:
        return opened_url(url)
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file; check the path") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None


def is_json_lines(path: Path, name: str) -> bool:
    """Return whether a file that is called JSON holds a JSON object a line, unpacked already.

    Raises:
        InputError: it cannot be read.
    """
    with opened(path, name) as stream:
        return not packing_of(stream.peek(4)[:4]) and _told(chunks_of(stream))[0]


def _told(chunks: Iterator[bytes]) -> tuple[bool, Iterator[bytes]]:
    """Return whether they are lines of JSON and no JSON document, and all of the data."""
    head, is_all = b"", False
    while (found := holds_lines(head, is_all=is_all)) is None:
        chunk = next(chunks, b"")
        head += chunk
        is_all = not chunk or len(head) > _HEAD
    return found, itertools.chain([head] if head else [], chunks)
