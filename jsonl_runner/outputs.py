"""The outputs of a ledger, each once and with its row, for whoever looks at them all.

The ledger is read twice: first for where each index's last output stands, in eight bytes an index,
then a group of rows at a time in the order of the file. So rows may be answered in any order, and
an output that a later one replaced is not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from .answers import put_outputs
from .indexes import IndexMap
from .ledger import entries_of, parse_line
from .lines import LineReader
from .provenance import Provenance
from .quality import Inspection

if TYPE_CHECKING:
    from pathlib import Path

    from .ledger import Entries
    from .quality import Quality
    from .reader import Group


class Outputs:
    """Looks at the quality of a ledger's last outputs.

    First `note` is told all entries, and `provenance` the call log's; then either `look` each
    group of rows of the input, or `look_at_all` the outputs without their rows.

    Args:
        ledger: the file.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._lines: LineReader | None = None
        self._last = IndexMap()
        #: For the lines of the call log, which it does not read itself.
        self.provenance = Provenance(ledger)
        self._inspection = Inspection()

    def note(self, entries: Entries) -> None:
        """Note where outputs stand."""
        put_outputs(entries, self._last)

    def look(self, group: Group) -> None:
        """Look at the outputs of a group's rows.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        offsets = self._last.all_at(group.places)
        there = [which for which, offset in enumerate(offsets) if offset is not None]
        if not there:
            return
        if self._lines is None:
            self._lines = LineReader(self._ledger)
        order = sorted(there, key=offsets.__getitem__)  # type: ignore[arg-type]  # none is None
        read = map(self._lines.line_at, map(offsets.__getitem__, order))  # type: ignore[arg-type]
        lines = dict(zip(order, read, strict=True))
        entries = _loaded([lines[which] for which in there])
        origins, look = self.provenance.all_of(group.places), self._inspection.look
        for which, entry in zip(there, entries, strict=True):
            row = group.row(which)
            index = str(row["index"])
            output = entry.get(index)
            if output is not None:  # else the ledger was rewritten meanwhile
                look(index, output, row, origins[which])

    def look_at_all(self) -> None:
        """Look at all outputs, without their rows.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        for entries in entries_of(self._ledger, []):
            offsets, last = entries.offsets(), self._last.all_at(entries.places)
            there = [which for which, offset in enumerate(offsets) if offset == last[which]]
            numbers = range(len(offsets)) if entries.numbers is None else entries.numbers
            found = _loaded([entries.lines.lines[numbers[which]] for which in there])
            origins, look = self.provenance.all_of(entries.places), self._inspection.look
            for which, entry in zip(there, found, strict=True):
                index = entries.indices[which]
                output = entry.get(index)
                if output is not None:
                    look(index, output, None, origins[which])

    def add_null(self, code: str, count: int = 1) -> None:
        """Count rows that have no output, by the call log's code for it."""
        self._inspection.add_null(code, count)

    def result(self) -> Quality:
        """Return what was found, and close the ledger."""
        if self._lines is not None:
            self._lines.close()
        return self._inspection.result()


def _loaded(lines: list[bytes]) -> list[dict[str, Any]]:
    """Return the entries that stand in lines; an empty one where there is none any more."""
    try:
        found = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError:
        found = []
    return found if set(map(type, found)) == {dict} else list(map(_entry_of, lines))


def _entry_of(line: bytes) -> dict[str, Any]:
    try:
        return dict([parse_line(line)])
    except ValueError:
        return {}
