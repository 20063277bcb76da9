"""The ledger: the output file, appended to by one run at a time and read back by the next.

A row is done if and only if the ledger holds a non-null value for its index. The last non-null
value wins; a null never hides an output.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from . import jsontext
from .appendfile import AppendFile, FsyncPolicy
from .errors import LedgerError
from .indexes import IndexSet, places_of
from .lines import Lines, read_blocks, torn_tail
from .locking import lock, unlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .indexes import Place
    from .records import Outcome


#: What every line of a ledger begins with.
_BEGINNING = b'{"'


class Damage(NamedTuple):
    """A line of the ledger that cannot be read: where it is, and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}; its row counts as not done"


@dataclass
class Scan:
    """What a ledger holds.

    Attributes:
        done: the indices with an output.
        nulls: the indices with a null and no output before it.
        damage: lines that cannot be read.
        end: the byte after the last whole line.
        tail: what stands after it: a line whose writing was cut off.
    """

    done: IndexSet = field(default_factory=IndexSet)
    nulls: IndexSet = field(default_factory=IndexSet)
    damage: list[Damage] = field(default_factory=list)
    end: int = 0
    tail: bytes = b""


def parse_line(line: bytes) -> tuple[str, Any]:
    """Return a ledger line's index and output.

    Raises:
        ValueError: it is no ledger line.
    """
    try:
        entry = jsontext.load(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError('not a ledger line ({"<index>": output})')
    ((index, output),) = entry.items()
    return index, output


@dataclass(slots=True)
class Entries:
    """Neighbouring entries of a ledger.

    Attributes:
        lines: the lines they stand in.
        indices: the index of each.
        outputs: whether each has an output; None when all have.
        numbers: of each, how many of the lines stand before it; None when each line holds one.
    """

    lines: Lines
    indices: list[str]
    outputs: list[bool] | None = None
    numbers: list[int] | None = None

    def __iter__(self) -> Iterator[tuple[Place, int, bool]]:
        """Yield each one's place, the byte its line begins at, and whether it has an output."""
        sizes = map((1).__add__, map(len, self.lines.lines))
        starts = list(itertools.accumulate(sizes, initial=self.lines.start))
        offsets = starts if self.numbers is None else [starts[n] for n in self.numbers]
        outputs = itertools.repeat(True) if self.outputs is None else self.outputs
        return zip(places_of(self.indices), offsets, outputs, strict=False)


def entries_of(path: Path, damage: list[Damage]) -> Iterator[Entries]:
    """Yield a ledger's entries in file order, many at a time.

    Lines that cannot be read are added to `damage`. A last line without its newline counts only
    if it is whole.

    Raises:
        LedgerError: the file is no ledger at all: it has lines, and none of them can ever have
            been one.
    """
    known = 0
    foreign = False
    lines_before = 0
    for block in read_blocks(path):
        entries = _all_whole(block)
        if entries is None:
            entries, bad = _one_by_one(block)
            for number, reason, line in bad:
                foreign = foreign or not _may_be_damaged(line)
                if not block.torn:
                    damage.append(Damage(str(path), lines_before + number, reason))
        lines_before += len(block.lines)
        known += len(entries.indices)
        yield entries
    if foreign and not known:
        hint = "are input and output swapped? else name another output"
        raise LedgerError(f"{path}: this file is no ledger; {hint}")


def _all_whole(block: Lines) -> Entries | None:
    """Return the entries of lines that are all whole, None if any is not; the quick way."""
    try:
        found = list(map(orjson.loads, block.lines))
    except orjson.JSONDecodeError:
        return None
    if set(map(type, found)) != {dict} or set(map(len, found)) != {1}:
        return None
    outputs = list(itertools.chain.from_iterable(map(dict.values, found)))
    has_null = None in outputs
    return Entries(
        block,
        list(itertools.chain.from_iterable(found)),
        [output is not None for output in outputs] if has_null else None,
    )


def _one_by_one(block: Lines) -> tuple[Entries, list[tuple[int, str, bytes]]]:
    """Return a block's entries, and of each line that is none its number, the reason, the line."""
    outputs: list[bool] = []
    numbers: list[int] = []
    entries = Entries(block, [], outputs, numbers)
    bad = []
    for number, line in enumerate(block.lines):
        if not line or line.isspace():
            continue
        try:
            index, output = parse_line(line)
        except ValueError as error:
            bad.append((number + 1, str(error), line))
        else:
            entries.indices.append(index)
            outputs.append(output is not None)
            numbers.append(number)
    return entries, bad


def _may_be_damaged(line: bytes) -> bool:
    """Return whether a line that cannot be read may once have been a ledger's.

    Zeros are what a power cut leaves of lines that were not yet on the disk.
    """
    if not line.strip(b"\0\n"):
        return True
    try:
        jsontext.load(line)
    except ValueError:
        return line.startswith(_BEGINNING[: len(line)])
    return False


def scan(path: Path) -> Scan:
    """Read a whole ledger; one that is not there is empty.

    Raises:
        LedgerError: it cannot be read.
    """
    found = Scan()
    for entries in entries_of(path, found.damage):
        if entries.outputs is None:
            found.done.put_all(places_of(entries.indices))
            continue
        for place, _, has_output in entries:
            if has_output:
                found.done.put(place)
            elif not found.done.has(place):
                found.nulls.put(place)
    found.end, found.tail = torn_tail(path)
    return found


class Ledger:
    """A ledger opened for a run, which is the only one to write it until `close`.

    Args:
        path: `output.jsonl`.
        fsync: when to force it onto the disk.

    Attributes:
        found: what it held when it was opened.
        notes: what was put right on opening, for the user.

    Raises:
        LedgerLockedError: another run holds it.
        LedgerError: it cannot be read or written.
    """

    def __init__(self, path: Path, fsync: FsyncPolicy = "group") -> None:
        self.path = path
        self.notes: list[str] = []
        self._lock = lock(path)
        try:
            self.found = scan(path)
            self._file = AppendFile(path, fsync)
            self._mend()
        except BaseException:
            unlock(path, self._lock)
            raise

    def _mend(self) -> None:
        """Cut a torn last line back; give its newline to one that only lacks that."""
        if not self.found.tail:
            return
        try:
            parse_line(self.found.tail)
        except ValueError:
            self._file.cut(self.found.end)
            size = len(self.found.tail)
            self.notes.append(
                f"{self.path}: its last line was cut off while it was written; these {size} bytes "
                "are removed, and the row is done again"
            )
        else:
            self._file.append(b"\n")
            self.notes.append(f"{self.path}: its last line was whole but for the newline; added")

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Write Outcomes, one whole line each, in one go.

        Raises:
            LedgerError: they could not all be written; only whole lines stay.
        """
        self._file.append(b"".join([line_of(o.index, o.output) for o in outcomes]))

    def close(self) -> None:
        """Force it onto the disk, and let others write it. A ledger nothing came into is removed.

        Raises:
            LedgerError: the disk would not take it.
        """
        try:
            self._file.close()
        finally:
            unlock(self.path, self._lock)


def line_of(index: str, output: str | None) -> bytes:
    """Return the ledger's line for an output."""
    return jsontext.dump({index: output}) + b"\n"
