"""The index file: what a ledger and its input hold, kept beside the ledger between two runs.

Derived: to delete it loses time, never a result. What it says of a file is believed

- as long as the file is to the system what it was: size, time of its last change (both kinds),
  inode. A change that keeps all of these, made to the size and within the clock's tick (some
  milliseconds) of our own last look, is not seen; file systems that keep whole seconds only are
  not believed.
- else if what it covers still has the same digest: a copy, or a ledger that has grown.

An index file that is damaged, of another version or of other files is as none at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import orjson

from .atomic import replacing
from .errors import LedgerError
from .indexes import IndexSet
from .offsets import Offsets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: What an index file begins with. Another number: another layout, or other meanings.
_MAGIC = b"jsonl-runner index file 1\n"
#: Bytes of a ledger behind one digest: what is read again of it, at the most, to go on.
SEGMENT = 16 * 1024 * 1024
_DIGEST = 32
#: Bytes read at once.
_BLOCK = 1024 * 1024
#: Size of the head, which follows the magic.
_HEAD = struct.Struct("<Q")
#: Nanoseconds for which a file must have been left alone before its time of change tells anything
#: of what happens next: two changes within one tick of the clock have one time. A tick has up to
#: 10 ms; clocks of other machines may be late.
_SETTLED_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000
#: With more lines that cannot be read, no index file is worth it: each run names them all.
_MAX_DAMAGE = 10_000


class Mark(NamedTuple):
    """What the system says of a file: another content has another mark.

    Attributes:
        size: in bytes.
        mtime_ns: when its content changed last.
        ctime_ns: when anything about it did, which nobody can set (Windows: when it was made).
        inode: its number on its disk.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @property
    def is_fine(self) -> bool:
        """Whether its time of change is told in less than seconds."""
        return self.mtime_ns % _SECOND_NS != 0

    @property
    def is_settled(self) -> bool:
        """Whether the file has been left alone for a while."""
        return self.is_fine and time.time_ns() - self.mtime_ns > _SETTLED_NS


def mark_of(descriptor: int) -> Mark | None:
    """Return the mark of an open file, None if it is no plain file."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return None
    return Mark(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Segments:
    """The digests of a file that grows, one for each `SEGMENT` of it."""

    def __init__(self) -> None:
        self.size = 0
        self._whole = bytearray()
        self._last = hashlib.sha256()

    def update(self, data: bytes) -> None:
        """Take what the file goes on with."""
        view = memoryview(data)
        while view:
            room = SEGMENT - self.size % SEGMENT
            part, view = view[:room], view[room:]
            self._last.update(part)
            self.size += len(part)
            if len(part) == room:
                self._whole += self._last.digest()
                self._last = hashlib.sha256()

    def digests(self) -> bytes:
        """Return the digests, the one of what is behind the last whole segment included."""
        return bytes(self._whole) + self._last.digest()

    @classmethod
    def read(
        cls, stream: IO[bytes], size: int, digests: bytes, *, is_trusted: bool
    ) -> Segments | None:
        """Return the digests of a file's first `size` bytes if they are `digests`, else None.

        Args:
            stream: the file.
            size: how much of it to look at.
            digests: what they are to be.
            is_trusted: whether to read the first and the last segment alone.
        """
        found = cls()
        whole = size // SEGMENT
        if is_trusted and whole > 1:
            stream.seek(0)
            found._take(stream, SEGMENT)
            if found._whole != digests[:_DIGEST]:
                return None
            found._whole = bytearray(digests[: whole * _DIGEST])
            found.size = whole * SEGMENT
        stream.seek(found.size)
        found._take(stream, size - found.size)
        return found if found.size == size and found.digests() == digests else None

    def _take(self, stream: IO[bytes], size: int) -> None:
        end = self.size + size
        while self.size < end and (data := stream.read(min(_BLOCK, end - self.size))):
            self.update(data)


@dataclass
class KeptInput:
    """The input of the last run, which had no bad row and none that changed since its answer.

    Attributes:
        digest: of all of it (see `reader.new_digest`).
        mark: of its file; None when that tells nothing.
        offsets: its stretches; they know its size.
        log: the call log that the run writes; None where the input is an earlier run's.
        log_size: of that log when the index file was written: which runs came later.
        ledger_end: bytes of the ledger whose outputs the `offsets` have been told.
        recall_from: byte of the call log before which no answer is of use (see `recall`).
    """

    digest: str
    mark: Mark | None
    offsets: Offsets
    log: Path | None = None
    log_size: int = 0
    ledger_end: int = 0
    recall_from: int = 0


@dataclass
class Kept:
    """What an index file says.

    Attributes:
        segments: the digests of the ledger's bytes that it covers; they know their number.
        lines: whole lines in them.
        done, nulls: see `ledger.Scan`.
        damage: number of each line that cannot be read, and why.
        input: of the last run; None when nothing is known of it.
        is_current: whether the ledger is what it was when this was written.
    """

    segments: Segments = field(default_factory=Segments)
    lines: int = 0
    done: IndexSet = field(default_factory=IndexSet)
    nulls: IndexSet = field(default_factory=IndexSet)
    damage: list[tuple[int, str]] = field(default_factory=list)
    input: KeptInput | None = None
    is_current: bool = False


def path_for(ledger: Path) -> Path:
    """Return the index file's path: `output.jsonl.index` for `output.jsonl`, links followed."""
    ledger = ledger.resolve() if ledger.is_symlink() else ledger
    return ledger.with_name(ledger.name + ".index")


def forget(ledger: Path) -> None:
    """Remove a ledger's index file; the caller holds the ledger's lock."""
    with contextlib.suppress(OSError):
        path_for(ledger).unlink()


def save(ledger: Path, descriptor: int, kept: Kept) -> int:
    """Write a ledger's index file; the caller holds the ledger's lock, and has forced it to disk.

    Args:
        ledger: the ledger.
        descriptor: the same, open.
        kept: what to write.

    Returns:
        The bytes of the index file; 0 when it is not worth its while, or could not be written.
    """
    mark = mark_of(descriptor)
    if mark is None or mark.size != kept.segments.size or len(kept.damage) > _MAX_DAMAGE:
        return 0
    try:
        head = {
            "order": sys.byteorder,
            "ledger": list(mark),
            "end": kept.segments.size,
            "lines": kept.lines,
            "digests": kept.segments.digests().hex(),
            "damage": kept.damage,
            "input": None if kept.input is None else _head_of(kept.input, kept.segments.size),
        }
        with replacing(path_for(ledger)) as stream:
            digest = hashlib.sha256()

            def write(data: bytes | bytearray) -> None:
                digest.update(data)
                stream.write(data)

            packed = orjson.dumps(head)
            write(_MAGIC + _HEAD.pack(len(packed)) + packed)
            kept.done.dump(write)
            kept.nulls.dump(write)
            if kept.input is not None:
                kept.input.offsets.dump(write)
            stream.write(digest.digest())
            return stream.tell()
    except (LedgerError, OSError):  # a full disk, a folder that takes no files: only time is lost
        return 0


def _head_of(known: KeptInput, end: int) -> dict[str, Any]:
    if known.log is not None:
        known.log_size = known.log.stat().st_size if known.log.exists() else 0
        known.ledger_end = end
    return {
        "digest": known.digest,
        "mark": None if known.mark is None else list(known.mark),
        "size": known.offsets.size,
        "stretches": len(known.offsets),
        "log_size": known.log_size,
        "ledger_end": known.ledger_end,
        "recall_from": known.recall_from,
    }


def load(ledger: Path) -> Kept | None:
    """Return what a ledger's index file says, None if there is none for the ledger as it is now.

    A ledger that has grown since is still the same: what came later is for the caller to read.
    """
    try:
        with path_for(ledger).open("rb") as stream, ledger.open("rb", buffering=0) as content:
            head = _read_head(stream)
            mark = mark_of(content.fileno())
            if head is None or mark is None or mark.size < head["end"]:
                return None
            is_current = mark.is_fine and list(mark) == head["ledger"]
            digests = bytes.fromhex(head["digests"])
            segments = Segments.read(content, head["end"], digests, is_trusted=is_current)
            if segments is None:
                return None
            stream.seek(0)
            return _read(stream, head, segments, is_current=is_current)
    except (OSError, ValueError, KeyError, TypeError, IndexError, struct.error, MemoryError):
        return None


def _read_head(stream: IO[bytes]) -> dict[str, Any] | None:
    """Return the head of an index file of this version, None if anything in the file is amiss."""
    if stream.read(len(_MAGIC)) != _MAGIC:
        return None
    digest, size = hashlib.sha256(), os.fstat(stream.fileno()).st_size - _DIGEST
    stream.seek(0)
    while stream.tell() < size and (data := stream.read(min(_BLOCK, size - stream.tell()))):
        digest.update(data)
    if stream.read() != digest.digest():
        return None
    stream.seek(len(_MAGIC))
    (length,) = _HEAD.unpack(stream.read(_HEAD.size))
    head: dict[str, Any] = orjson.loads(stream.read(length))
    return head if head["order"] == sys.byteorder else None


def _read(stream: IO[bytes], head: dict[str, Any], segments: Segments, *, is_current: bool) -> Kept:
    stream.seek(len(_MAGIC))
    stream.seek(_HEAD.unpack(stream.read(_HEAD.size))[0], os.SEEK_CUR)
    read: Callable[[int], bytes] = stream.read
    done, nulls = IndexSet.load(read), IndexSet.load(read)
    kept = Kept(segments, head["lines"], done, nulls, is_current=is_current)
    kept.damage = [(int(line), str(reason)) for line, reason in head["damage"]]
    about = head["input"]
    if about is not None:
        offsets = Offsets()
        offsets.load(read, about["stretches"])
        offsets.size = about["size"]
        kept.input = KeptInput(
            about["digest"],
            None if about["mark"] is None else Mark(*about["mark"]),
            offsets,
            log_size=about["log_size"],
            ledger_end=about["ledger_end"],
            recall_from=about["recall_from"],
        )
    return kept
