"""The ledger: the output file, appended to by one run at a time and read back by the next.

A row is done if and only if the ledger holds a non-null value for its index. The last non-null
value wins; a null never hides an output.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from . import indexfile, jsontext
from .appendfile import AppendFile, FsyncPolicy
from .errors import LedgerError
from .indexes import IndexSet, place_of, places_of
from .indexfile import Segments
from .lines import Lines, read_blocks, torn_tail
from .locking import hold, lock, unlock
from .remote import check_is_local
from .strangers import may_be_damaged, may_be_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from .indexes import Place
    from .indexfile import KeptInput
    from .records import Outcome

#: Bytes of the ledger, or of its input, from which on an index file is written: a scan of so much
#: takes a fifth of a second, or two where lines are very short.
INDEXED_FROM = 16 * 1024 * 1024
#: It is written again during a run after so many more bytes, which a killed run leaves to be
#: scanned, or after so many times its own size, that writing it stays cheap beside the ledger.
_KEEP_EVERY, _KEEP_TIMES = 64 * 1024 * 1024, 8


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
        lines: whole lines.
        segments: digests of them.
        input: what is known of the last run's input.
        is_kept: whether all of it stands in an index file as it is.
    """

    done: IndexSet = field(default_factory=IndexSet)
    nulls: IndexSet = field(default_factory=IndexSet)
    damage: list[Damage] = field(default_factory=list)
    end: int = 0
    tail: bytes = b""
    lines: int = 0
    segments: Segments = field(default_factory=Segments)
    input: KeptInput | None = None
    is_kept: bool = False

    def put(self, place: Place, *, has_output: bool) -> bool:
        """Count an entry; return whether it is the first output of its index."""
        if has_output:
            return self.done.put(place)
        if not self.done.has(place):
            self.nulls.put(place)
        return False

    def take(self, entries: Entries) -> None:
        """Count many entries."""
        if entries.outputs is None:
            self.done.put_all(entries.places)
            return
        for place, _, has_output in entries:
            self.put(place, has_output=has_output)


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
    _places: Sequence[Place] | None = None

    @property
    def places(self) -> Sequence[Place]:
        """Where the indices lie."""
        self._places = places_of(self.indices) if self._places is None else self._places
        return self._places

    def offsets(self) -> list[int]:
        """Return the byte at which each one's line begins."""
        sizes = map((1).__add__, map(len, self.lines.lines))
        starts = list(itertools.accumulate(sizes, initial=self.lines.start))
        return starts[:-1] if self.numbers is None else [starts[n] for n in self.numbers]

    def __iter__(self) -> Iterator[tuple[Place, int, bool]]:
        """Yield each one's place, the byte its line begins at, and whether it has an output."""
        outputs = itertools.repeat(True) if self.outputs is None else self.outputs
        return zip(self.places, self.offsets(), outputs, strict=False)


def entries_of(
    path: Path, damage: list[Damage], start: int = 0, lines_before: int = 0
) -> Iterator[Entries]:
    """Yield a ledger's entries in file order, many at a time.

    A last line without its newline counts only if it is whole.

    Args:
        path: the ledger.
        damage: lines that cannot be read are added to it.
        start: byte to begin at: of a ledger that is known to be one up to there.
        lines_before: lines ahead of it.

    Raises:
        LedgerError: the file has lines, and none of them can ever have been a ledger's.
    """
    if not may_be_ledger(path):
        raise _no_ledger(path)
    known = start
    foreign = False
    for block in read_blocks(path, start):
        entries = _all_whole(block)
        if entries is None:
            entries, bad = _one_by_one(block)
            for number, reason, line in bad:
                foreign = foreign or not may_be_damaged(line)
                if not block.torn:
                    damage.append(Damage(str(path), lines_before + number, reason))
        lines_before += len(block.lines)
        known += len(entries.indices)
        yield entries
    if foreign and not known:
        raise _no_ledger(path)


def _no_ledger(path: Path) -> LedgerError:
    hint = "are input and output swapped, or is OUTPUT forgotten? else name another output"
    return LedgerError(f"{path}: this file is no ledger; {hint}")


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


def scan(path: Path) -> Scan:
    """Return what a ledger holds; one that is not there is empty.

    What its index file tells, if it has one that is of it, is not read again.

    Args:
        path: the file.

    Raises:
        LedgerError: it cannot be read.
    """
    found = Scan()
    kept = indexfile.load(path)
    if kept is not None:
        found.done, found.nulls, found.lines = kept.done, kept.nulls, kept.lines
        found.damage = [Damage(str(path), line, reason) for line, reason in kept.damage]
        found.segments, found.input = kept.segments, kept.input
    start = found.segments.size
    for entries in entries_of(path, found.damage, start, found.lines):
        if not entries.lines.torn:
            found.lines += len(entries.lines.lines)
            found.segments.update(b"\n".join(entries.lines.lines) + b"\n")
        found.take(entries)
    found.end, found.tail = torn_tail(path)
    found.is_kept = kept is not None and kept.is_current and found.segments.size == start
    return found


class Ledger:
    """A ledger opened for a run, which is the only one to write it until `close`.

    Args:
        path: `output.jsonl`.
        fsync: when to force it onto the disk.
        indexed_from: bytes of it, or of its input, from which on it has an index file.

    Attributes:
        found: what it holds: what it held when it was opened, and what came since.
        notes: what was put right on opening, for the user.

    Raises:
        LedgerLockedError: another run holds it.
        LedgerError: it cannot be read or written.
    """

    def __init__(
        self, path: Path, fsync: FsyncPolicy = "group", *, indexed_from: int = INDEXED_FROM
    ) -> None:
        check_is_local(path)
        self.path = path
        self.notes: list[str] = []
        self._indexed_from = indexed_from
        self._keep_at = 0
        self._is_counted = True
        self._lock = lock(path)
        with contextlib.ExitStack() as undo:
            undo.callback(unlock, path, self._lock)
            self._file = AppendFile(path, fsync)
            undo.callback(self._file.abandon)
            hold(path, self._file.descriptor)
            self.found = scan(path)
            self._mend()
            self._plan_keeping(0)
            undo.pop_all()

    def _mend(self) -> None:
        """Cut a torn last line back; give its newline to one that only lacks that."""
        if not self.found.tail:
            return
        self.found.is_kept = False
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
            self.found.segments.update(self.found.tail + b"\n")
            self.found.lines += 1
            self.notes.append(f"{self.path}: its last line was whole but for the newline; added")

    def append(self, outcomes: Sequence[Outcome]) -> None:
        """Write Outcomes, one whole line each, in one go.

        Raises:
            LedgerError: they could not all be written; only whole lines stay.
        """
        lines = b"".join([line_of(o.index, o.output) for o in outcomes])
        found = self.found
        if found.input is not None and found.input.log is None:
            found.input = None  # rows of who knows which input: what was known of one is no more
        # Should the disk be full now, some of them may stay, uncounted: no index file any more.
        self._is_counted, was_counted = False, self._is_counted
        self._file.append(lines)
        self._is_counted = was_counted
        found.segments.update(lines)
        found.lines += len(outcomes)
        found.is_kept = False
        offsets = None if found.input is None else found.input.offsets
        for outcome in outcomes:
            has_output = outcome.output is not None
            is_new = found.put(place_of(outcome.index), has_output=has_output)
            if offsets is not None:
                offsets.settled(outcome.index, has_output=is_new)
        if found.segments.size >= self._keep_at:
            self.keep()

    def know_input(self, known: KeptInput) -> None:
        """Tell what is known of the input whose rows are to come."""
        before = self.found.input
        if before is None or known.offsets is not before.offsets or known.mark != before.mark:
            self.found.is_kept = False
        self.found.input = known
        self.keep()

    def keep(self) -> None:
        """Write the index file, if the ledger or its input is large and there is something new.

        Whatever goes wrong costs the next run time, and nothing else.
        """
        found, size = self.found, 0
        if self._is_counted and self._is_large and not found.is_kept:
            kept = indexfile.Kept(
                found.segments,
                found.lines,
                found.done,
                found.nulls,
                [(damage.line, damage.reason) for damage in found.damage],
                found.input,
            )
            with contextlib.suppress(LedgerError):  # close will say it
                # What the system has not yet written may be gone after a power cut, and the index
                # file must not tell of it.
                descriptor = self._file.force()
                size = indexfile.save(self.path, descriptor, kept)
            found.is_kept = size > 0
        self._plan_keeping(size)

    @property
    def _is_large(self) -> bool:
        input_size = 0 if self.found.input is None else self.found.input.offsets.size
        return max(self.found.segments.size, input_size) >= self._indexed_from

    def _plan_keeping(self, size: int) -> None:
        self._keep_at = self.found.segments.size + max(_KEEP_EVERY, _KEEP_TIMES * size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Close it; an error that is under way goes before one of closing."""
        with contextlib.suppress(*([LedgerError] if error else [])):
            self.close()

    def close(self) -> None:
        """Force it onto the disk, and let others write it. A ledger nothing came into is removed.

        Raises:
            LedgerError: the disk would not take it.
        """
        try:
            self.keep()
            self._file.close()
            if not (self._is_large and self.path.exists()):
                indexfile.forget(self.path)
        finally:
            unlock(self.path, self._lock)


def line_of(index: str, output: str | None) -> bytes:
    """Return the ledger's line for an output."""
    return jsontext.dump({index: output}) + b"\n"
