"""Rows that are left out for what would spoil training, by the reasons of `quality`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..calllog import path_for
from ..errors import ConfigError
from ..provenance import Provenance
from ..quality import REASONS, Inspection, Origin

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
        self._provenance: Provenance | None = None

    def read_log(self, ledger: Path) -> str | None:
        """Take what a ledger's call log tells of its outputs; return what the user should know.

        Raises:
            LedgerError: the call log cannot be read.
        """
        if self.reasons.isdisjoint({"length", "refusal", "schema"}):
            return None
        self._provenance = Provenance(ledger)
        self._provenance.read()
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
        origin = Origin() if self._provenance is None else self._provenance.of(index)
        found = self._inspection.look(index, row["output"], row, origin)
        return next((reason for reason in found if reason in self.reasons), None)
