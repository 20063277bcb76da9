"""What the call log tells of each output: how its answer ended, and what it was to be.

An output is judged by what the run asked for that answered it. Where that run asked for nothing, or
is not known (the output is older than the schema, or was copied in), it is judged by what the last
run asked for: that is what the whole ledger is to be now. What a function made of an answer
(`post`) is judged by no schema: the answer was, before the function saw it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .calllog import asked_in, last_asked, read
from .indexes import IndexMap, place_of
from .quality import ODD_ENDS, Origin
from .schemas import check_of_format

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .indexes import Place
    from .schemas import Check

#: How an answer may have ended, and how many ways there are; the first is any that is nothing odd.
_ENDS = ("", *ODD_ENDS)
_WAYS = len(_ENDS)


class Provenance:
    """See above. In memory nine bytes for each output that there is something to say of.

    First `read` takes the whole call log, or `began` and `add` are told of its lines in their
    order; then `all_of` says what they come to.

    Args:
        ledger: whose call log it is.

    Raises:
        LedgerError: the call log cannot be read.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        #: What runs asked for, by number; the last run's is 0, as is nothing.
        self._asked = [last_asked(ledger)]
        self._formats: dict[str, object] = {}
        self._now = 0
        self._numbers = IndexMap()
        self._origins: dict[int | None, Origin] = {}

    def read(self) -> None:
        """Take what the call log says.

        Raises:
            LedgerError: the file is there and cannot be read.
        """
        for entry in read(self._ledger, self.began):
            self.add(entry, place_of(entry["index"]))

    def began(self, run: dict[str, Any]) -> None:
        """Take the line of a run."""
        asked, self._now = asked_in(run), 0
        if asked:
            if "response_format" in run:
                self._formats[asked] = run["response_format"]
            if asked not in self._asked:
                self._asked.append(asked)
            self._now = self._asked.index(asked)

    def add(self, entry: dict[str, Any], place: Place) -> None:
        """Take an entry of the call log, and where its index lies; the last output counts."""
        if entry.get("status") != "ok":
            return
        end, number = entry.get("finish_reason"), 2 * _WAYS * self._now
        if end in ODD_ENDS:
            number += 2 * _ENDS.index(end)
        if "raw" in entry:
            number += 1
        if number or (len(self._numbers) and self._numbers.at(place)):
            self._numbers.put(place, number)

    def of(self, index: str) -> Origin:
        """Return where the output of an index comes from."""
        return self.all_of([place_of(index)])[0]

    def all_of(self, places: Sequence[Place]) -> list[Origin]:
        """Return the same of many indices, by where they lie."""
        if not len(self._numbers):
            return [self._origin(None)] * len(places)
        return list(map(self._origin, self._numbers.all_at(places)))

    def _origin(self, number: int | None) -> Origin:
        found = self._origins.get(number)
        if found is None:
            asked, rest = divmod(number or 0, 2 * _WAYS)
            end, is_made = divmod(rest, 2)
            check = self._check(self._asked[asked])
            found = self._origins[number] = Origin(_ENDS[end] or None, check, bool(is_made))
        return found

    def _check(self, asked: str) -> Check | None:
        try:
            return check_of_format(self._formats.get(asked))
        except ValueError:  # of another version's making
            return None
