"""Where a dataset stands, without running it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .calllog import answered, read
from .indexes import IndexMap, place_of
from .judging import as_judged
from .ledger import Scan, entries_of
from .outputs import Outputs
from .quality import Quality
from .reader import open_input
from .recipes import dataset_for
from .summary import Failure, Tokens
from .survey import survey
from .turns import TurnCount, turn_by_turn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .dataset import Data
    from .indexes import Place
    from .reader import Group

#: The reason of a null that the call log knows nothing of.
UNKNOWN = "unknown"


@dataclass
class Status:
    """Where a dataset stands.

    Attributes:
        rows: rows of the input that can be used; each turn of a conversation is one.
        turns, conversations: of the rows, those that are turns, and what they are turns of.
        done: those with an output.
        failed: those with a null.
        left: those with neither.
        changed: those with an output whose content has changed since.
        bad_rows: rows that cannot be used, a line of text each (see `first_of`).
        damage: ledger lines that cannot be read.
        failures: the nulls by reason, with an example each.
        calls: calls made in all runs so far.
        tokens: used by them.
        cost: what the provider says they cost; None when it says nothing.
        quality: what would spoil training.
    """

    rows: int = 0
    turns: int = 0
    conversations: int = 0
    done: int = 0
    failed: int = 0
    left: int = 0
    changed: int = 0
    bad_rows: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    calls: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    cost: float | None = None
    quality: Quality = field(default_factory=Quality)

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {**asdict(self), "quality": self.quality.to_dict()}


def status(data: Data, ledger: Path) -> Status:
    """Return where a dataset stands; a ledger that is not there is an empty one.

    Args:
        data: the input.
        ledger: its ledger.

    Raises:
        InputError: the input cannot be read.
        LedgerError: the ledger cannot be read.
    """
    data = as_judged(dataset_for(data, ledger), ledger)
    outputs, found = Outputs(ledger), Scan()
    for entries in entries_of(ledger, found.damage):
        found.take(entries)
        outputs.note(entries)
    result = Status(damage=[str(item) for item in found.damage])
    calls = _Calls(result)
    for entry in read(ledger, outputs.provenance.began):
        place = place_of(entry["index"])
        calls.add(place, entry)
        outputs.provenance.add(entry, place)

    def look(group: Group, left: Sequence[int]) -> None:
        if not result.rows:
            counted.see(group)
        outputs.look(group)
        for which in left:
            index = group.index(which)
            if index in found.nulls:
                result.failed += 1
                code, message = calls.reason(index)
                result.failures.setdefault(code, Failure(0, index, message)).count += 1

    counted = TurnCount(data)
    for number, rows in enumerate(turn_by_turn(data, ledger)):
        with open_input(rows) as stream:
            seen = survey(
                stream,
                rows,
                found.done,
                answered=lambda: calls.answered,
                each=look,
                checks_images=False,
            )
        result.rows += seen.rows
        result.done += seen.skipped
        result.changed += seen.changed.count
        if not number:  # of later turns the same rows are bad
            result.bad_rows = seen.bad.lines()
    result.left = result.rows - result.done - result.failed
    result.turns, result.conversations = counted.turns, counted.conversations
    for code, failure in result.failures.items():
        outputs.add_null(code, failure.count)
    result.quality = outputs.result()
    return result


class _Calls:
    """What the call log says, kept small: one number an index."""

    def __init__(self, result: Status) -> None:
        self._result = result
        self.answered = IndexMap()
        self._reason_of = IndexMap()
        self._numbers: dict[str, int] = {}
        self._reasons: list[tuple[str, str]] = []

    def add(self, place: Place, entry: dict[str, Any]) -> None:
        result = self._result
        attempts, cost = entry.get("attempts"), entry.get("cost")
        result.calls += attempts if isinstance(attempts, int) else 0
        result.tokens.add(entry.get("usage"))
        if isinstance(cost, (int, float)):
            result.cost = (result.cost or 0.0) + cost
        number = answered(entry)
        if number is not None:
            self.answered.put(place, number)
        if entry.get("status") == "ok":
            return
        code = str(entry.get("code"))
        if code not in self._numbers:
            self._numbers[code] = len(self._reasons)
            self._reasons.append((code, str(entry.get("message"))))
        self._reason_of.put(place, self._numbers[code])

    def reason(self, index: str) -> tuple[str, str]:
        number = self._reason_of.get(index)
        return (UNKNOWN, "the call log does not say") if number is None else self._reasons[number]
