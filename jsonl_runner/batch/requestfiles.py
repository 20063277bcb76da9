"""Writing files of requests: all of them, or none."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .. import jsontext
from ..errors import ConfigError, LedgerError
from ..records import BadRow
from ..sources.stream import bad_rows_of
from ..survey import BadRows
from .requests import index_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..sources.stream import BadRowOf
    from ..survey import BadRowsPolicy
    from .requests import Line, Part, Splitter


@dataclass
class Written:
    """What was written.

    Attributes:
        files: in the order of their numbers.
        parts: what is in each.
        ids: the file that says which index a hashed `custom_id` is for; None: there is none.
        bad: rows that could not be requests.
    """

    files: list[Path] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    ids: Path | None = None
    bad: BadRows = field(default_factory=BadRows)

    @property
    def requests(self) -> int:
        """How many there are in all files."""
        return sum(part.requests for part in self.parts)


def write_requests(
    lines: Iterable[Line | BadRow],
    target: Path,
    splitter: Splitter,
    name: str,
    *,
    bad_row: BadRowOf | None = None,
    may_split: bool = True,
    bad_rows: BadRowsPolicy = "fail",
) -> Written:
    """Write requests into `target`, or into `<stem>.0001<suffix>` and so on if they need splitting.

    Which index a hashed `custom_id` stands for goes into `<stem>.ids.jsonl`, if there are any.
    Memory does not grow with the data. All files are whole and there, or none is.

    Args:
        lines: the requests, and rows that cannot be one.
        target: the file.
        splitter: a new one.
        name: what messages call the source of the rows.
        bad_row: makes a BadRow of a line of it, and the reason; None: there is one file.
        may_split: whether more than one file may be written.
        bad_rows: whether rows that cannot be a request are left out.

    Raises:
        BadRowsError: some rows cannot be a request, and are not to be left out.
        ConfigError: nothing to write; there would be several files; old ones are in the way.
        LedgerError: a file cannot be written.
    """
    if target.is_dir():
        raise LedgerError(f"{target}: this is a directory; give a file name")
    bad_row = bad_row or bad_rows_of(None, name)
    written = Written(parts=splitter.parts)
    with _folder_beside(target) as folder:
        with contextlib.closing(_Files(folder, target)) as files:
            for line in lines:
                if isinstance(line, BadRow):
                    written.bad.append(line)
                    continue
                try:
                    part = splitter.place(line)
                except ValueError as error:
                    written.bad.append(bad_row(line.row, str(error)))
                    continue
                if part.number > 1 and not may_split:
                    raise ConfigError(
                        f"{name}: its requests do not fit into one file (or are for several "
                        f"models); leave out --no-split and {target} becomes several"
                    )
                files.put(part, line)
            files.end()
        if written.bad and bad_rows == "fail":
            raise written.bad.error()
        if not splitter.parts:
            raise ConfigError(f"{name}: not one of its rows can be a request")
        written.files = _names_of(target, len(splitter.parts))
        written.ids = files.ids
        _refuse_older(target, written)
        _move(folder, written)
    return written


def _numbered(target: Path, number: int) -> Path:
    return target.with_name(f"{target.stem}.{number:04}{target.suffix}")


def _names_of(target: Path, count: int) -> list[Path]:
    if count == 1:
        return [target]
    return [_numbered(target, number) for number in range(1, count + 1)]


def _refuse_older(target: Path, written: Written) -> None:
    """Keep files of an earlier split from being taken for a part of this one.

    Raises:
        ConfigError: there are some that would stay.
    """
    numbered = re.compile(re.escape(target.stem) + r"\.[0-9]{4,}" + re.escape(target.suffix))
    others = (path for path in target.parent.iterdir() if numbered.fullmatch(path.name))
    ids = target.with_name(f"{target.stem}.ids.jsonl")
    found = {path.name for path in (*others, target, ids) if path.exists()}
    new = [*written.files, written.ids] if written.ids else written.files
    stale = found - {path.name for path in new}
    if stale:
        more = f" and {len(stale) - 1:,} more" if len(stale) > 1 else ""
        raise ConfigError(
            f"{target.with_name(min(stale))}{more}: from an earlier time, and no part of these "
            f"{len(written.files):,} files; remove it, or name another output"
        )


@contextlib.contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """Yield a new folder on the same disk; it is removed."""
    if not target.parent.is_dir():
        raise LedgerError(f"{target}: its folder does not exist; make it first")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise LedgerError(f"{target}: cannot be written ({error.strerror or error})") from None
    try:
        yield folder
    except OSError as error:
        raise LedgerError(f"{target}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Files:
    """The parts while they are written: those that may still grow are open."""

    def __init__(self, folder: Path, target: Path) -> None:
        self._folder = folder
        self._ids_name = target.with_name(f"{target.stem}.ids.jsonl")
        self._open: dict[int, tuple[Part, IO[bytes]]] = {}
        self._ids: IO[bytes] | None = None
        #: The file of hashed ids; None while there are none.
        self.ids: Path | None = None

    def put(self, part: Part, line: Line) -> None:
        """Write a request."""
        if part.number not in self._open:
            for number in [n for n, (old, _) in self._open.items() if old.is_full]:
                self._finish(self._open.pop(number)[1])
            stream = (self._folder / str(part.number)).open("xb")
            self._open[part.number] = part, stream
        self._open[part.number][1].write(line.data)
        if index_in(line.custom_id) != line.index:
            if self._ids is None:
                self._ids = (self._folder / "ids").open("xb")
                self.ids = self._ids_name
            entry = {"custom_id": line.custom_id, "index": line.index}
            self._ids.write(jsontext.dump(entry) + b"\n")

    def end(self) -> None:
        """Force what was written onto the disk."""
        for _, stream in self._open.values():
            self._finish(stream)
        if self._ids is not None:
            self._finish(self._ids)

    def close(self) -> None:
        """Close all files."""
        for _, stream in self._open.values():
            stream.close()
        if self._ids is not None:
            self._ids.close()

    @staticmethod
    def _finish(stream: IO[bytes]) -> None:
        stream.flush()
        os.fsync(stream.fileno())
        stream.close()


def _move(folder: Path, written: Written) -> None:
    for number, path in enumerate(written.files, 1):
        (folder / str(number)).replace(path)
    if written.ids is not None:
        (folder / "ids").replace(written.ids)
