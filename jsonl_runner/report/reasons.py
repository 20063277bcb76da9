"""Why rows failed: each under the reason its last entry tells, with a few to look at."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ..indexes import IndexMap, place_of
from ..secret import shorten
from .calls import MAX_NAME, OTHERS
from .numbers import Example, Group

if TYPE_CHECKING:
    from ..indexes import Place

#: Of a row that the call log knows nothing of.
UNKNOWN = "unknown"
NOT_SAID = "the call log does not say"
#: Reasons told one by one, examples of each, characters of a message.
MAX_REASONS, EXAMPLES, MAX_MESSAGE = 50, 5, 300


def code_of(entry: dict[str, Any]) -> str:
    """Return an entry's reason, short enough to be shown."""
    return shorten(str(entry.get("code")), MAX_NAME)


def message_of(entry: dict[str, Any]) -> str:
    """Return what an entry says on it."""
    return shorten(str(entry.get("message")), MAX_MESSAGE)


class Reasons:
    """Counts rows by the last reason that was given for each."""

    def __init__(self) -> None:
        self._last = IndexMap()
        self._numbers: dict[str, int] = {}
        self._counts: Counter[int] = Counter()
        self._examples: dict[int, dict[Place, Example]] = {}

    def add(self, place: Place, entry: dict[str, Any]) -> None:
        """Count an entry of a failed row; it takes the place of that row's one before."""
        code = code_of(entry)
        if code not in self._numbers and len(self._numbers) >= MAX_REASONS:
            code = OTHERS
        number = self._numbers.setdefault(code, len(self._numbers))
        before = self._last.at(place)
        if before is not None:
            self._counts[before] -= 1
        self._counts[number] += 1
        self._last.put(place, number)

    def knows(self, place: Place) -> bool:
        """Return whether a reason was given for a row."""
        return self._last.at(place) is not None

    def exemplify(self, entry: dict[str, Any]) -> None:
        """Take an entry as an example, if it is one; for all of them again, once all are in."""
        place = place_of(entry["index"])
        number = self._numbers.get(code_of(entry), self._numbers.get(OTHERS))
        if number is None or self._last.at(place) != number:
            return
        examples = self._examples.setdefault(number, {})
        if place in examples or len(examples) < EXAMPLES:
            examples[place] = Example(shorten(entry["index"], MAX_NAME), message_of(entry))

    def groups(self, failed: int) -> list[Group]:
        """Return the reasons of so many failed rows, the commonest first."""
        groups = [
            Group(code, self._counts[number], list(self._examples.get(number, {}).values()))
            for code, number in self._numbers.items()
            if self._counts[number]
        ]
        missing = failed - sum(group.count for group in groups)
        if missing > 0:
            groups.append(Group(UNKNOWN, missing))
        return sorted(groups, key=lambda group: (-group.count, group.code))
