"""The call log: what each Outcome cost and why it failed, beside the ledger.

Derived: to delete it loses statistics and the notice of changed rows, never a result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from . import jsontext
from .appendfile import AppendFile, read_lines, torn_tail
from .indexes import IndexMap
from .records import fingerprint_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .records import Outcome


def path_for(ledger: Path) -> Path:
    """Return the call log's path: `output.calls.jsonl` for `output.jsonl`, links followed."""
    ledger = ledger.resolve() if ledger.is_symlink() else ledger
    return ledger.with_name(ledger.stem + ".calls" + ledger.suffix)


class CallLog:
    """A call log opened for a run.

    Args:
        ledger: path of the ledger it belongs to, whose lock the caller holds.

    Raises:
        LedgerError: it cannot be written.
    """

    def __init__(self, ledger: Path) -> None:
        path = path_for(ledger)
        end, tail = torn_tail(path)
        self._file = AppendFile(path, "off")
        if tail:
            self._file.cut(end)

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Write what came of Outcomes, a line each.

        Raises:
            LedgerError: they could not all be written.
        """
        self._file.append(b"".join([_line_of(outcome) for outcome in outcomes]))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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
    return jsontext.dump(entry) + b"\n"


def read(ledger: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a ledger's call log; a line that cannot be read is passed over.

    Raises:
        LedgerError: the file is there and cannot be read.
    """
    for _, line in read_lines(path_for(ledger)):
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("index"), str):
            yield entry


def answered(entry: dict[str, Any]) -> int | None:
    """Return the fingerprint of the content an entry's output answers; None if it tells none."""
    if entry.get("status") != "ok":
        return None
    return fingerprint_number(str(entry.get("fingerprint"))) or None


def fingerprints(ledger: Path) -> IndexMap:
    """Return, for each index with an output, the fingerprint of the content it answers."""
    found = IndexMap()
    for entry in read(ledger):
        number = answered(entry)
        if number is not None:
            found.set(entry["index"], number)
    return found
