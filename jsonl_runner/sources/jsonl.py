"""JSONL: a row a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..rows import MAX_ROW_BYTES, load_object
from .chunks import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .parts import Row

_MARK = b"\xef\xbb\xbf"


def rows_of_lines(chunks: Iterator[bytes]) -> Iterator[tuple[int, Row]]:
    """Yield the number of each line that is not blank, and its row."""
    for number, line in enumerate(lines_of(chunks), 1):
        if line is None:
            yield number, f"the line is longer than {MAX_ROW_BYTES / 2**20:g} MiB"
            continue
        content = line.strip(b" \t\r")
        if number == 1:
            content = content.removeprefix(_MARK).lstrip(b" \t")
        if content:
            try:
                yield number, load_object(content)
            except ValueError as error:
                yield number, str(error)


def lines_as_they_are(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines as they are, the last one with a newline too."""
    last, is_first = b"\n", True
    for chunk in chunks:
        data = chunk.removeprefix(_MARK) if is_first else chunk
        is_first = False
        if data:
            yield data
            last = data
    if not last.endswith(b"\n"):
        yield b"\n"
