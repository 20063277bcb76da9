"""The call log: what each Outcome cost and why it failed, beside the ledger.

Derived: to delete it loses statistics and the notice of changed rows, never a result.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from . import jsontext
from .appendfile import AppendFile
from .errors import LedgerError
from .indexes import IndexMap, places_of
from .lines import last_line, read_blocks, torn_tail
from .records import fingerprint_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from .indexes import IndexSet
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
#: Bytes of a `response_format` that stands in the line of each run. A larger one is left out where
#: the run before asked the same: a run that is begun each minute would fill the log with it.
_SMALL = 4096


class SeenInput(NamedTuple):
    """The input as it was when a run began.

    Attributes:
        size: its bytes.
        digest: of them (see `reader.GroupReader`).
        is_clean: whether it had no bad row, and every output in the ledger was for its content.
        dataset: how its rows were made (see `Dataset.recipe`); None: they were taken as they are.
        judge: the template of the judge whose questions they were; None: of nobody.
        bad_rows: `skip` where bad rows were left out; None: there was none, or nobody knew yet.
    """

    size: int
    digest: str
    is_clean: bool
    dataset: dict[str, Any] | None = None
    judge: str | None = None
    bad_rows: str | None = None


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
        asked: the `response_format` that the run's outputs are to have; it stands in that line.

    Raises:
        LedgerError: it cannot be written.
    """

    def __init__(self, ledger: Path, seen: SeenInput | None = None, asked: object = None) -> None:
        path = path_for(ledger)
        self._ledger, self._seen, self._asked = ledger, seen, asked
        self._head = b"" if seen is None else _line_of_run(seen, asked, ledger)
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

    def turn_to(self, asked: object) -> None:
        """Write a new line of a run where the next outputs are to have another `response_format`.

        Raises:
            LedgerError: the call log cannot be read.
        """
        is_new = asked != self._asked
        if self._file.is_behind:  # who planned rows meanwhile may have written a line
            is_new = is_new or digest_of(asked) != last_asked(self._ledger)
        if is_new and self._seen is not None:
            self._asked = asked
            self._head = _line_of_run(self._seen, asked, self._ledger)

    def begin(self) -> None:
        """Write the line of the run, although none of its entries has come.

        Raises:
            LedgerError: it could not be written.
        """
        self.append(())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line_of_run(seen: SeenInput, asked: object, ledger: Path) -> bytes:
    entry = {name: value for name, value in seen._asdict().items() if value is not None}
    line: dict[str, Any] = {"run": entry}
    if asked is not None:
        line["asked"] = digest_of(asked)
        if len(jsontext.dump(asked)) <= _SMALL or last_asked(ledger) != line["asked"]:
            line["response_format"] = asked
    return jsontext.dump(line) + b"\n"


def digest_of(asked: object) -> str:
    """Return what stands for a `response_format` in the lines of runs; None has the empty text."""
    if asked is None:
        return ""
    return blake2b(jsontext.dump(asked, sort_keys=True), digest_size=8).hexdigest()


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


def read(
    ledger: Path, began: Callable[[dict[str, Any]], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the entries of a ledger's call log; a line that cannot be read is passed over.

    Args:
        ledger: whose call log it is.
        began: is told of each run's line, ahead of the run's entries.

    Raises:
        LedgerError: the file is there and cannot be read.
    """
    for block in read_blocks(path_for(ledger)):
        for line in block.lines:
            entry = _entry_of(line)
            if entry is not None:
                yield entry
            elif began is not None and line.startswith(_RUN) and (run := _object_of(line)):
                began(run)


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
    entry = _object_of(line)
    return entry if entry is not None and isinstance(entry.get("index"), str) else None


def _object_of(line: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


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


def last_asked(ledger: Path) -> str:
    """Return the digest of what the last run asked of its outputs (see `digest_of`).

    Raises:
        LedgerError: the call log is there and cannot be read.
    """
    line = last_line(path_for(ledger), _RUN)
    return "" if line is None else asked_in(_object_of(line) or {})


def asked_in(run: dict[str, Any]) -> str:
    """Return that digest from the line of a run."""
    asked = run.get("asked")
    return asked if isinstance(asked, str) else ""


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
