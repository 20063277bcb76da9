"""Conversations: rows whose turns are asked one after the other, each with the answers before it.

A turn is a row of its own, with an index, a line in the ledger and a reason where it failed. So all
turns of one number are asked together, and a rerun goes on at the turn where each conversation
stopped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .answers import Answers
from .errors import ConfigError
from .sources.expanding import asked_at, index_of_turn, turns_of

if TYPE_CHECKING:
    from pathlib import Path

    from .dataset import Dataset


class Turns:
    """The rows of a dataset's conversations, as far as a ledger has answers.

    Args:
        dataset: says which field holds the turns.
        ledger: where the answers are.
    """

    def __init__(self, dataset: Dataset, ledger: Path) -> None:
        if dataset.turns is None:
            raise ConfigError("turns: the dataset does not say which field holds them")
        self._dataset, self._ledger = dataset, ledger
        self._field = dataset.turns
        #: Turns of the longest conversation met so far.
        self.longest = 0

    def rows_of(self, turn: int) -> Dataset:
        """Return the rows that ask one turn, from 1: those whose turns before it are answered.

        Rows without turns come with the first.
        """
        answers = Answers(self._ledger) if turn > 1 else None

        def expand(row: dict[str, Any]) -> list[dict[str, Any]]:
            turns = turns_of(row, self._field)
            if turns is None:
                return [row] if answers is None else []
            self.longest = max(self.longest, len(turns))
            before = [] if answers is None else _before(answers, row, turn)
            if len(turns) < turn or None in before:
                return []
            return [asked_at(row, turns, turn, before)]

        return replace(self._dataset, then=expand)

    def whole(self) -> Dataset:
        """Return a row for each conversation: its last turn, with all that was said before it."""
        answers = Answers(self._ledger)

        def expand(row: dict[str, Any]) -> list[dict[str, Any]]:
            turns = turns_of(row, self._field)
            if turns is None:
                return [row]
            return [asked_at(row, turns, len(turns), _before(answers, row, len(turns)))]

        return replace(self._dataset, then=expand)


def _before(answers: Answers, row: dict[str, Any], turn: int) -> list[str | None]:
    return [answers.of(index_of_turn(row["index"], number)) for number in range(1, turn)]


def conversations(dataset: Dataset, ledger: Path) -> Dataset:
    """Return an input whose rows stand for whole conversations; any other input as it is.

    For whoever looks at a ledger when a run is over: a merge, a status, a report.
    """
    if dataset.turns is None or dataset.then is not None:
        return dataset
    return Turns(dataset, ledger).whole()
