"""From the answers of parts to whole files: each output is written when its last part has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import jsontext
from .appendfile import AppendFile
from .errors import LedgerError
from .ledger import entries_of, parse_line
from .lines import LineReader, read_blocks, torn_tail
from .tree import is_full, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .records import Outcome
    from .tree import Staging


def index_of(name: str, number: int, digest: str, generation: int) -> str:
    """Return the index of a file's part.

    Args:
        name: the file's path.
        number: of the part, from 0.
        digest: of instruction and text, so that neither ever meets another's answer.
        generation: how often the file's output has been written, so that one that was deleted is
            answered anew.
    """
    return f"{name}#{number + 1}@{digest}.{generation}"


def _name_of(index: str) -> tuple[str, int, int] | None:
    """Return what `index_of` was given, without the digest; None for another's index."""
    name, _, rest = index.rpartition("#")
    number, _, mark = rest.partition("@")
    generation = mark.rpartition(".")[2]
    if not (name and number.isdecimal() and generation.isdecimal()):
        return None
    return name, int(number) - 1, int(generation)


class Text:
    """A file whose parts are being answered.

    Args:
        output: path of its output from the output folder on.
        parts: its text.
        indices: of each part; empty for a part of white space, which nobody is asked about.
        keep_edges: whether each result gets the white space around its part.
    """

    __slots__ = ("edges", "indices", "missing", "output", "results")

    def __init__(
        self, output: str, parts: Sequence[str], indices: list[str], *, keep_edges: bool
    ) -> None:
        self.output = output
        self.indices = indices
        self.missing = len(indices) - indices.count("")
        #: The result of each part, or the byte of the ledger at which its line begins.
        self.results: list[str | int | None] = [None if index else "" for index in indices]
        # A text of white space is its own result.
        is_blank = not self.missing
        self.edges = [_edges(part) for part in parts] if keep_edges or is_blank else None

    def put(self, number: int, index: str, result: str | int) -> bool:
        """Note a part's result; return whether it is wanted."""
        if number >= len(self.indices) or self.indices[number] != index:
            return False
        self.missing -= self.results[number] is None
        self.results[number] = result
        return True


def _edges(part: str) -> tuple[str, str]:
    """Return the white space before and behind a text."""
    bare = part.lstrip()
    return part[: len(part) - len(bare)], bare[len(bare.rstrip()) :]


class Written:
    """Which outputs have been written, kept in a file: those that are missing now were deleted.

    Args:
        path: the file.

    Raises:
        LedgerError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._times: dict[str, int] = {}
        end, tail = torn_tail(path)
        for block in read_blocks(path):
            for line in block.lines if not block.torn else ():
                self._count(line)
        self._is_closed = False
        self._file = AppendFile(path, "off")
        if tail:
            self._file.cut(end)

    def _count(self, line: bytes) -> None:
        try:
            output = jsontext.load(line)
        except ValueError:
            return
        if isinstance(output, str):
            self._times[output] = self._times.get(output, 0) + 1

    def times(self, output: str) -> int:
        """Return how often an output has been written."""
        return self._times.get(shown(output), 0)

    def add(self, output: str) -> None:
        """Note that an output has been written."""
        line = jsontext.dump(shown(output))
        self._file.append(line + b"\n")
        self._count(line)

    def close(self) -> None:
        """Close the file."""
        if not self._is_closed:
            self._is_closed = True
            self._file.close()

    def forget(self) -> None:
        """Remove the file, when there is no ledger any more whose answers might be met again."""
        self.close()
        self._path.unlink(missing_ok=True)


class Joiner:
    """Collects the results of parts, and writes what is complete; used by one thread.

    What is in the ledger from before is not held in memory, nor is what has come of a file of which
    a part failed.

    Args:
        ledger: where the answers are.
        staging: where outputs are made.
        written: is told of each.
        failed: gets each file that failed, with the reason.
        join: stands between results; None: nothing.
    """

    def __init__(
        self,
        ledger: Path,
        staging: Staging,
        written: Written,
        failed: dict[str, str],
        join: str | None,
    ) -> None:
        self._ledger = ledger
        self._staging = staging
        self._written = written
        self._failed = failed
        self._join = join
        self._texts: dict[str, Text] = {}
        self._there: dict[str, str] = {}
        self._lines: LineReader | None = None
        #: How many outputs have been written.
        self.written = 0
        #: Whether the ledger holds answers for files that are not part of this run.
        self.has_others = False

    @property
    def waiting(self) -> int:
        """How many files are not complete."""
        return len(self._texts)

    def add_there(self, name: str, output: str) -> None:
        """Add a file whose output is there."""
        self._there[name] = output

    def add(self, name: str, text: Text) -> None:
        """Add a file whose parts are to be answered."""
        self._texts[name] = text

    def read_ledger(self) -> None:
        """Find the parts that have been answered by earlier runs.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        for entries in entries_of(self._ledger, []):
            for index, (_, offset, has_output) in zip(entries.indices, entries, strict=False):
                found = _name_of(index)
                if found is None or not has_output:
                    continue
                name, number, generation = found
                text = self._texts.get(name)
                if text is not None:
                    text.put(number, index, offset)
                elif name in self._there:
                    self._note_there(self._there[name], generation)
                elif name not in self._failed:
                    self.has_others = True

    def _note_there(self, output: str, generation: int) -> None:
        """Note an output that was written, but not noted any more before a crash."""
        if self._written.times(output) == generation:
            self._written.add(output)

    def write_what_is_complete(self) -> None:
        """Write each file that lacks no part."""
        for name in [name for name, text in self._texts.items() if not text.missing]:
            self._finish(name)

    def settled(self, outcomes: Sequence[Outcome]) -> None:
        """Take what has come of parts and is in the ledger.

        Raises:
            LedgerError: there is no room for outputs.
        """
        for outcome in outcomes:
            found = _name_of(outcome.index)
            text = None if found is None else self._texts.get(found[0])
            if found is None or text is None:
                continue
            name, number, _ = found
            if outcome.output is None:
                part = f" (part {number + 1} of {len(text.indices)})"
                where = part if len(text.indices) > 1 else ""
                self._failed[name] = f"{outcome.code}: {outcome.message}{where}"
                del self._texts[name]  # what has come of it is in the ledger
            elif text.put(number, outcome.index, outcome.output) and not text.missing:
                self._finish(name)

    def _finish(self, name: str) -> None:
        """Write a file that is complete.

        Raises:
            LedgerError: there is no room for it, nor for any other.
        """
        text = self._texts.pop(name)
        folder, _, file_name = text.output.rpartition("/")
        try:
            with self._staging.room(folder) as room:
                (room.folder / file_name).write_bytes(self._joined(text))
                if room.place():
                    self._written.add(text.output)
                    self.written += 1
        except OSError as error:
            if is_full(error):
                place = self._staging.target / text.output
                raise LedgerError(
                    f"{place}: cannot be written ({error.strerror}); make room and run the same "
                    "command again, it goes on where it stopped"
                ) from None
            where = error.filename2 or error.filename or text.output
            self._failed[name] = f"cannot be written ({error.strerror}: {where})"

    def _joined(self, text: Text) -> bytes:
        results = [self._result(result) for result in text.results]
        if text.edges is not None:
            joined = "".join(
                f"{before}{result.strip()}{behind}"
                for result, (before, behind) in zip(results, text.edges, strict=True)
            )
        else:
            asked = [r for r, index in zip(results, text.indices, strict=True) if index]
            joined = (self._join or "").join(asked)
        return joined.encode("utf-8", "replace")

    def _result(self, result: str | int | None) -> str:
        if not isinstance(result, int):
            return result or ""
        if self._lines is None:
            self._lines = LineReader(self._ledger)
        return str(parse_line(self._lines.line_at(result))[1])

    def close(self) -> None:
        """Close the ledger it reads."""
        if self._lines is not None:
            self._lines.close()
