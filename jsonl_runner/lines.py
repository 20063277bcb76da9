"""Files of lines, read: whole blocks at a time, single lines by their place, the torn end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Bytes read at once when a file is scanned.
_BLOCK = 1024 * 1024
#: Bytes read at once around a single line: dear enough to a random reader, cheap to a sequential.
_WINDOW = 64 * 1024


class Lines(NamedTuple):
    """Neighbouring lines of a file.

    Attributes:
        start: byte at which the first begins.
        lines: without their newlines.
        torn: whether the last one has none in the file either.
    """

    start: int
    lines: list[bytes]
    torn: bool = False


def read_blocks(path: Path, start: int = 0) -> Iterator[Lines]:
    r"""Yield a file's lines from byte `start` on, a megabyte or so at a time.

    A third of the cost of iterating over the file. A line ends at `\n` and nowhere else. A file
    that is not there has no lines.

    Raises:
        LedgerError: the file cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(start)
            parts: list[bytes] = []  # of a line whose end has not come yet
            while block := stream.read(_BLOCK):
                parts.append(block)
                if b"\n" not in block:
                    continue
                whole = b"".join(parts)
                lines = whole.split(b"\n")
                parts = [lines.pop()]
                yield Lines(start, lines)
                start += len(whole) - len(parts[0])
            if rest := b"".join(parts):
                yield Lines(start, [rest], torn=True)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error.strerror})") from None


def read_lines(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield each line of a file with the byte it begins at; the last one may lack its newline.

    Raises:
        LedgerError: the file cannot be read.
    """
    for block in read_blocks(path, start):
        place = block.start
        for line in block.lines:
            yield place, line if block.torn else line + b"\n"
            place += len(line) + 1


def torn_tail(path: Path) -> tuple[int, bytes]:
    """Return the byte after a file's last newline, and what stands behind it.

    Raises:
        LedgerError: the file cannot be read.
    """
    tail = b""
    try:
        if not path.exists():
            return 0, b""
        start = path.stat().st_size
        with path.open("rb") as stream:
            block = b""
            while start and b"\n" not in block:
                step = min(start, _BLOCK)
                start -= step
                stream.seek(start)
                block = stream.read(step)
                tail = block + tail
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error.strerror})") from None
    whole = tail.rfind(b"\n") + 1
    return start + whole, tail[whole:]


def last_line(path: Path, beginning: bytes, since: int = 0) -> bytes | None:
    """Return the last line of a file that begins with `beginning`, None if none does.

    Args:
        path: the file.
        beginning: of the line.
        since: byte at which a line begins; none of those before it is looked at.

    Raises:
        LedgerError: the file cannot be read.
    """
    mark = b"\n" + beginning
    try:
        with path.open("rb", buffering=0) as stream:
            end, after = path.stat().st_size, b""
            while end > since:
                start = max(since, end - _BLOCK)
                stream.seek(start)
                is_first = start == since
                block = (b"\n" if is_first else b"") + stream.read(end - start) + after
                at = block.rfind(mark)
                if at >= 0:
                    stream.seek(start + at + (0 if is_first else 1))
                    return stream.readline()
                end, after = start, block[: len(mark) - 1]
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error.strerror})") from None
    return None


class LineReader:
    """Reads single lines of a file by where they begin; neighbours cost no second look.

    Args:
        path: the file.

    Raises:
        LedgerError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._stream = path.open("rb", buffering=0)
        except OSError as error:
            raise LedgerError(f"{path}: cannot be read ({error.strerror})") from None
        self._window = b""
        self._start = 0

    def line_at(self, offset: int) -> bytes:
        """Return the line that begins at byte `offset`, without its newline."""
        at = offset - self._start
        end = self._window.find(b"\n", at) if 0 <= at < len(self._window) else -1
        if end < 0:
            self._stream.seek(offset)
            self._start, at = offset, 0
            self._window = self._stream.read(_WINDOW)
            while (end := self._window.find(b"\n")) < 0 and (more := self._stream.read(_BLOCK)):
                self._window += more
        return self._window[at:end] if end >= 0 else self._window[at:]

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
