"""The outputs of a ledger by their index: merged rows and next questions are made of them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from .errors import LedgerError
from .indexes import IndexMap
from .ledger import entries_of, parse_line
from .lines import LineReader

if TYPE_CHECKING:
    from pathlib import Path

    from .ledger import Damage, Entries


#: What the name of a judge's ledger has beyond that of the outputs'.
_VERDICTS = ".judge"


def verdicts_on(ledger: Path) -> Path:
    """Return where a judge's verdicts on outputs stand: `output.judge.jsonl` for `output.jsonl`."""
    return ledger.with_name(f"{ledger.stem}{_VERDICTS}{ledger.suffix}")


def judged_in(ledger: Path) -> Path | None:
    """Return the ledger whose outputs are judged in one, by its name; None for any other."""
    bare = ledger.suffix == _VERDICTS  # on a ledger without a suffix
    stem, suffix = (ledger.name, "") if bare else (ledger.stem, ledger.suffix)
    judged = stem.removesuffix(_VERDICTS)
    return ledger.with_name(judged + suffix) if judged and judged != stem else None


def check_is_no_judges(ledger: Path) -> None:
    """Check that a ledger is to hold outputs, by its name.

    Raises:
        LedgerError: verdicts on another ledger's outputs stand there, or would.
    """
    judged = judged_in(ledger.resolve() if ledger.is_symlink() else ledger)
    if judged is not None:
        raise LedgerError(
            f"{ledger}: this is where a judge's verdicts on the outputs in {judged.name} stand; "
            "name another output (run --judge writes the verdicts)"
        )


def put_outputs(entries: Entries, last: IndexMap) -> None:
    """Note the byte at which each output's line begins; a later output replaces an earlier one."""
    if entries.outputs is None:
        last.put_all(entries.places, entries.offsets())
        return
    for place, offset, has_output in entries:
        if has_output:
            last.put(place, offset)


class Answers:
    """What stands in a ledger at the moment it is opened; of several outputs the last.

    Memory holds eight bytes an output, and not the output.

    Args:
        ledger: the file; one that is not there has no output.

    Raises:
        LedgerError: it cannot be read.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._lines: LineReader | None = None
        self._at = IndexMap()
        #: Lines that cannot be read.
        self.damage: list[Damage] = []
        for entries in entries_of(ledger, self.damage):
            put_outputs(entries, self._at)

    def of(self, index: str) -> str | None:
        """Return an index's output, None when it has none.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        offset = self._at.get(index)
        if offset is None:
            return None
        if self._lines is None:
            self._lines = LineReader(self._ledger)
            # What asks for answers lies within streams of rows that are opened here and there: the
            # file is closed with the last of them.
            weakref.finalize(self, self._lines.close)
        output: str | None = parse_line(self._lines.line_at(offset))[1]
        return output
