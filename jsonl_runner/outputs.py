"""The outputs of a ledger, each once and with its row, for whoever looks at them all.

The ledger is read twice: first for where each index's last output stands, in eight bytes an index,
then a group of rows at a time in the order of the file. So rows may be answered in any order, and
an output that a later one replaced is not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .indexes import IndexMap
from .ledger import entries_of, parse_line
from .lines import LineReader
from .quality import Inspection

if TYPE_CHECKING:
    from pathlib import Path

    from .indexes import Place
    from .ledger import Entries
    from .quality import Quality
    from .reader import Group

#: Ends that make an output one to look at, by the number that is kept of them.
_ODD_ENDS = (None, "length", "content_filter")


class Outputs:
    """Looks at the quality of a ledger's last outputs.

    First `note` is told all entries and `ended` the call log's; then either `look` each group of
    rows of the input, or `look_at_all` the outputs without their rows.

    Args:
        ledger: the file.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._lines: LineReader | None = None
        self._last = IndexMap()
        self._ends = IndexMap()
        self._inspection = Inspection()

    def note(self, entries: Entries) -> None:
        """Note where outputs stand."""
        if entries.outputs is None:
            self._last.put_all(entries.places, entries.offsets())
            return
        for place, offset, has_output in entries:
            if has_output:
                self._last.put(place, offset)

    def ended(self, place: Place, entry: dict[str, Any]) -> None:
        """Note how the answer of an index ended, from an entry of the call log."""
        end = entry.get("finish_reason")
        if end == "length" or end == "content_filter":
            if entry.get("status") == "ok":
                self._ends.put(place, _ODD_ENDS.index(end))
        elif self._ends.at(place) and entry.get("status") == "ok":  # it was asked again
            self._ends.put(place, 0)

    def look(self, group: Group) -> None:
        """Look at the outputs of a group's rows.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        found = {n: at for n, at in enumerate(self._last.all_at(group.places)) if at is not None}
        if not found:
            return
        if self._lines is None:
            self._lines = LineReader(self._ledger)
        order = sorted(found, key=found.__getitem__)  # as they stand in the ledger
        lines = dict(
            zip(order, map(self._lines.line_at, map(found.__getitem__, order)), strict=True)
        )
        ends = self._ends.all_at(group.places)
        for which in found:
            row = group.row(which)
            self._look(str(row["index"]), lines[which], row, ends[which])

    def look_at_all(self) -> None:
        """Look at all outputs, without their rows.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        for entries in entries_of(self._ledger, []):
            lines, offsets = entries.lines.lines, entries.offsets()
            last, ends = self._last.all_at(entries.places), self._ends.all_at(entries.places)
            for which, index in enumerate(entries.indices):
                if last[which] == offsets[which]:
                    number = which if entries.numbers is None else entries.numbers[which]
                    self._look(index, lines[number], None, ends[which])

    def _look(self, index: str, line: bytes, row: dict[str, Any] | None, end: int | None) -> None:
        try:
            told, output = parse_line(line)
        except ValueError:
            return
        if told == index and output is not None:  # else the ledger was rewritten meanwhile
            self._inspection.look(index, output, row=row, finish_reason=_ODD_ENDS[end or 0])

    def add_null(self, code: str, count: int = 1) -> None:
        """Count rows that have no output, by the call log's code for it."""
        self._inspection.add_null(code, count)

    def result(self) -> Quality:
        """Return what was found, and close the ledger."""
        if self._lines is not None:
            self._lines.close()
        return self._inspection.result()
