"""Rows that are left out for what would spoil training, by the reasons of `quality`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..calllog import Ends, path_for
from ..errors import ConfigError
from ..quality import ODD_ENDS, REASONS, Inspection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


class Drops:
    """Says which rows are to be left out.

    Args:
        reasons: of `quality.REASONS`, those for which a row is.

    Raises:
        ConfigError: there is no such reason.
    """

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons = frozenset(reasons)
        for reason in sorted(self.reasons.difference(REASONS)):
            raise ConfigError(
                f"drop_reasons: there is no {reason!r}; there are {', '.join(REASONS)}"
            )
        self._inspection = Inspection()
        self._ends = Ends(ODD_ENDS)

    def read_log(self, ledger: Path) -> str | None:
        """Take from a ledger's call log how answers ended; return what the user should know.

        Raises:
            LedgerError: the call log cannot be read.
        """
        if self.reasons.isdisjoint({"length", "refusal"}):
            return None
        self._ends.read(ledger)
        if "length" in self.reasons and not path_for(ledger).exists():
            return f"{path_for(ledger)} is not there: no output is known to be cut off"
        return None

    def begin(self) -> None:
        """Begin with the first row again."""
        self._inspection = Inspection()

    def reason_of(self, row: Mapping[str, Any]) -> str | None:
        """Return why a row with an output is left out, None when it is not.

        Rows must come in their order: of outputs that repeat each other, the first is good.
        """
        index = row["index"]
        found = self._inspection.look(
            index, row["output"], row=row, finish_reason=self._ends.of(index)
        )
        return next((reason for reason in found if reason in self.reasons), None)
