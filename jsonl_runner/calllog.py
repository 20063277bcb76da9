"""The call log: what each Outcome cost and why it failed, beside the ledger.

Derived: to delete it loses statistics and the notice of changed rows, never a result.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from . import jsontext
from .appendfile import AppendFile
from .errors import LedgerError
from .indexes import IndexMap, place_of, places_of
from .lines import last_line, read_blocks, torn_tail
from .records import fingerprint_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from .indexes import IndexSet, Place
    from .lines import LineReader
    from .records import Outcome


#: How each line that `_line_of` writes begins; an index with an escape in it is left to JSON.
_OWN = re.compile(
    rb'\n\{"index":"([^"\\\n]*)","status":"(ok|failed)","fingerprint":"([0-9a-f]{16})"'
)
#: What stands in the line of an entry with a `raw`; within a text its quotes would be escaped.
_HAS_RAW = b',"raw":"'
#: How the line begins that each run writes ahead of its entries.
_RUN = b'{"run":'


class SeenInput(NamedTuple):
    """The input as it was when a run began.

    Attributes:
        size: its bytes.
        digest: of them (see `reader.GroupReader`).
        is_clean: whether it had no bad row, and every output in the ledger was for its content.
        dataset: how its rows were made (see `Dataset.recipe`); None: they were taken as they are.
    """

    size: int
    digest: str
    is_clean: bool
    dataset: dict[str, Any] | None = None


def path_for(ledger: Path) -> Path:
    """Return the call log's path: `output.calls.jsonl` for `output.jsonl`, links followed.

    Raises:
        LedgerError: the ledger has no name: it is `.`, or `/`.
    """
    if not ledger.name:
        raise LedgerError(f"{ledger}: this is a directory; give a file name for the output")
    ledger = ledger.resolve() if ledger.is_symlink() else ledger
    return ledger.with_name(ledger.stem + ".calls" + ledger.suffix)


class CallLog:
    """A call log opened for a run.

    Args:
        ledger: path of the ledger it belongs to, whose lock the caller holds.
        seen: the input of the run; told by a line of its own ahead of the run's first entry.

    Raises:
        LedgerError: it cannot be written.
    """

    def __init__(self, ledger: Path, seen: SeenInput | None = None) -> None:
        path = path_for(ledger)
        self._head = b"" if seen is None else _line_of_run(seen)
        end, tail = torn_tail(path)
        self._file = AppendFile(path, "off")
        if tail:
            self._file.cut(end)

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Write what came of Outcomes, a line each.

        Raises:
            LedgerError: they could not all be written.
        """
        head, self._head = self._head, b""
        self._file.append(head + b"".join([_line_of(outcome) for outcome in outcomes]))

    def begin(self) -> None:
        """Write the line of the run, although none of its entries has come.

        Raises:
            LedgerError: it could not be written.
        """
        self.append(())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line_of_run(seen: SeenInput) -> bytes:
    entry = {name: value for name, value in seen._asdict().items() if value is not None}
    return jsontext.dump({"run": entry}) + b"\n"


def _line_of(outcome: Outcome) -> bytes:
    entry = {
        "index": outcome.index,
        "status": "failed" if outcome.output is None else "ok",
        "fingerprint": outcome.fingerprint,
        "code": outcome.code,
        "message": outcome.message,
        "attempts": outcome.attempts,
        "model": outcome.model,
        "finish_reason": outcome.finish_reason,
        "usage": outcome.usage,
        "cost": outcome.cost,
        "latency_s": round(outcome.latency_s, 4),
        "key": outcome.key,
        "started": round(outcome.started, 3),
        "ended": round(outcome.ended, 3),
    }
    if outcome.cached:
        entry["cached"] = True
    if outcome.batch:
        entry["batch"] = outcome.batch
    if outcome.cost_from:
        entry["cost_from"] = outcome.cost_from
    if outcome.raw is not None:
        entry["raw"] = outcome.raw
    return jsontext.dump(entry) + b"\n"


def read(ledger: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a ledger's call log; a line that cannot be read is passed over.

    Raises:
        LedgerError: the file is there and cannot be read.
    """
    for block in read_blocks(path_for(ledger)):
        for line in block.lines:
            entry = _entry_of(line)
            if entry is not None:
                yield entry


def raws(ledger: Path, of: IndexSet, since: int = 0) -> tuple[IndexMap, int]:
    """Return where entries with a `raw` begin.

    Args:
        ledger: whose call log it is.
        of: the indices to look for.
        since: byte of the call log at which a line begins, and before which there are none.

    Returns:
        For each index, where its newest begins; and where the oldest of all does: the end of the
        call log if there is none. For the same indices nothing before it is of use ever again.

    Raises:
        LedgerError: the file is there and cannot be read.
    """
    found, oldest = IndexMap(), None
    path = path_for(ledger)
    end = path.stat().st_size if path.exists() else 0
    since = min(since, end)
    for block in read_blocks(path, since) if len(of) else ():
        start = block.start
        for line in block.lines:
            if _HAS_RAW in line:
                entry = _entry_of(line)
                if entry is not None and entry["index"] in of:
                    found.set(entry["index"], start)
                    oldest = start if oldest is None else oldest
            start += len(line) + 1
    return found, end if oldest is None else oldest


def entry_at(reader: LineReader, start: int) -> dict[str, Any] | None:
    """Return the entry whose line begins at a byte, None if it cannot be read."""
    return _entry_of(reader.line_at(start))


def _entry_of(line: bytes) -> dict[str, Any] | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if isinstance(entry, dict) and isinstance(entry.get("index"), str):
        return entry
    return None


def last_input(ledger: Path, since: int = 0) -> SeenInput | None:
    """Return the input of the last run, None when there was none or it cannot be told.

    Args:
        ledger: whose call log it is.
        since: byte of the call log at which a line begins; only runs that began later are seen.

    Raises:
        LedgerError: the file is there and cannot be read.
    """
    line = last_line(path_for(ledger), _RUN, since)
    try:
        return None if line is None else SeenInput(**orjson.loads(line)["run"])
    except (ValueError, TypeError, KeyError):  # damaged, or of another version
        return None


def answered(entry: dict[str, Any]) -> int | None:
    """Return the fingerprint of the content an entry's output answers; None if it tells none."""
    if entry.get("status") != "ok":
        return None
    return fingerprint_number(str(entry.get("fingerprint"))) or None


def fingerprints(ledger: Path) -> IndexMap:
    """Return, for each index with an output, the fingerprint of the content it answers."""
    found = IndexMap()
    for block in read_blocks(path_for(ledger)):
        # The beginning of our own lines tells enough, at a fifth of the cost of all their JSON.
        text = b"\n" + b"\n".join(block.lines)
        own = _OWN.findall(text)
        if len(own) == len(block.lines):
            places = places_of([index.decode() for index, _, _ in own])
            for place, (_, status, content) in zip(places, own, strict=True):
                number = fingerprint_number(content.decode())
                if status == b"ok" and number:
                    found.put(place, number)
            continue
        for line in block.lines:
            entry = _entry_of(line)
            if entry is not None and (answers := answered(entry)) is not None:
                found.set(entry["index"], answers)
    return found


class Ends:
    """How answers ended where they ended oddly, in nine bytes an index.

    Args:
        odd: the finish reasons that are looked for.
    """

    def __init__(self, odd: Sequence[str]) -> None:
        self._odd = tuple(odd)
        self._numbers = IndexMap()

    def read(self, ledger: Path) -> None:
        """Take what a ledger's call log says.

        Raises:
            LedgerError: the file is there and cannot be read.
        """
        for entry in read(ledger):
            self.add(entry, place_of(entry["index"]))

    def add(self, entry: dict[str, Any], place: Place) -> None:
        """Take an entry of the call log, and where its index lies; the last output counts."""
        end = entry.get("finish_reason")
        if end in self._odd:
            if entry.get("status") == "ok":
                self._numbers.put(place, self._odd.index(end) + 1)
        elif len(self._numbers) and self._numbers.at(place) and entry.get("status") == "ok":
            self._numbers.put(place, 0)  # answered anew, and well

    def of(self, index: str) -> str | None:
        """Return how the answer of an index ended, None when it is not one of the odd ends."""
        return self.all_of([place_of(index)])[0] if len(self._numbers) else None

    def all_of(self, places: Sequence[Place]) -> list[str | None]:
        """Return the same of many indices, by where they lie."""
        numbers = self._numbers.all_at(places)
        return [self._odd[number - 1] if number else None for number in numbers]
