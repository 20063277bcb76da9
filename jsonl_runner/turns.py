"""Conversations: rows whose turns are asked one after the other, each with the answers before it.

A turn is a row of its own, with an index, a line in the ledger and a reason where it failed, and is
counted as one. So all turns of one number are asked together, and a rerun goes on at the turn where
each conversation stopped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .answers import Answers
from .errors import ConfigError, InputError
from .reader import open_input
from .sources.expanding import asked_at, index_of_turn, turns_of, without_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .dataset import Dataset
    from .reader import Group

    #: Makes rows of a conversation, given what the user says.
    _Asks = Callable[[dict[str, Any], list[str]], list[dict[str, Any]]]
    #: Returns the answer of an index, None where there is none.
    _AnswerOf = Callable[[str], str | None]


#: Names among which the one is looked for that was meant; rows may have others each.
_MANY_FIELDS = 1000


class Turns:
    """The rows of a dataset's conversations, as far as a ledger has answers.

    Args:
        dataset: says which field holds the turns.
        ledger: where the answers are; None: there are none.
        unknown: stands for an answer that is not there yet; None: nothing does.
    """

    def __init__(
        self, dataset: Dataset, ledger: Path | None, *, unknown: str | None = None
    ) -> None:
        if dataset.turns is None:
            raise ConfigError("turns: the dataset does not say which field holds them")
        self._dataset, self._ledger, self._unknown = dataset, ledger, unknown
        self._field = dataset.turns
        #: Turns of the longest conversation met so far.
        self.longest = 0

    def rows_of(self, turn: int) -> Dataset:
        """Return the rows that ask one turn, from 1: those whose turns before it are answered.

        Rows without turns come with the first.
        """
        answer_of = self._answers() if turn > 1 else _nothing

        def asks(row: dict[str, Any], turns: list[str]) -> list[dict[str, Any]]:
            before = _before(answer_of, row, turn) if len(turns) >= turn else []
            if len(turns) < turn or None in before:
                return []
            return [asked_at(row, turns, turn, before)]

        return self._rows(asks, plain=turn == 1)

    def askable(self) -> Iterator[Dataset]:
        """Yield the rows of each turn that can be asked with the answers that are there."""
        turn = 1
        yield self.rows_of(turn)
        while turn < self.longest:
            turn += 1
            yield self.rows_of(turn)

    def all(self) -> Iterator[Dataset]:
        """Yield the rows of each turn, whether or not they can be asked yet: all that there is."""
        answer_of, turn = self._answers(), 1
        yield self._turn(turn, answer_of)
        while turn < self.longest:
            turn += 1
            yield self._turn(turn, answer_of)

    def _turn(self, turn: int, answer_of: _AnswerOf) -> Dataset:
        def asks(row: dict[str, Any], turns: list[str]) -> list[dict[str, Any]]:
            if len(turns) < turn:
                return []
            return [asked_at(row, turns, turn, self._before(answer_of, row, turn))]

        return self._rows(asks, plain=turn == 1)

    def in_order(self) -> Dataset:
        """Return the rows of all turns, conversation by conversation; their lines are not known."""

        def asks(row: dict[str, Any], turns: list[str]) -> list[dict[str, Any]]:
            return [asked_at(row, turns, turn, ()) for turn in range(1, len(turns) + 1)]

        return self._rows(asks, plain=True)

    def whole(self) -> Dataset:
        """Return a row for each conversation: its last turn, with all that was said before it."""
        answer_of = self._answers()

        def asks(row: dict[str, Any], turns: list[str]) -> list[dict[str, Any]]:
            return [asked_at(row, turns, len(turns), self._before(answer_of, row, len(turns)))]

        return self._rows(asks, plain=True)

    def _rows(self, asks: _Asks, *, plain: bool) -> Dataset:
        """Return what is asked of conversations, and rows without turns if they are wanted."""

        def expand(row: dict[str, Any]) -> list[dict[str, Any]]:
            turns = turns_of(row, self._field)
            if turns is None:
                return [without_turns(row)] if plain else []
            self.longest = max(self.longest, len(turns))
            return asks(row, turns)

        return replace(self._dataset, then=expand)

    def _answers(self) -> _AnswerOf:
        return _nothing if self._ledger is None else Answers(self._ledger).of

    def _before(self, answer_of: _AnswerOf, row: dict[str, Any], turn: int) -> list[str | None]:
        before = _before(answer_of, row, turn)
        return [self._unknown if answer is None else answer for answer in before]


def _nothing(_index: str) -> str | None:
    return None


def _before(answer_of: _AnswerOf, row: dict[str, Any], turn: int) -> list[str | None]:
    return [answer_of(index_of_turn(row["index"], number)) for number in range(1, turn)]


def conversations(dataset: Dataset, ledger: Path | None, *, unknown: str | None = None) -> Dataset:
    """Return an input whose rows stand for whole conversations; any other input as it is.

    For whoever writes what was said: a merge, a judge.
    """
    if dataset.turns is None or dataset.then is not None:
        return dataset
    return Turns(dataset, ledger, unknown=unknown).whole()


def turn_by_turn(
    dataset: Dataset, ledger: Path | None = None, *, unknown: str | None = None
) -> Iterator[Dataset]:
    """Yield inputs that have all rows together, each turn as one; any other input as it is.

    For whoever counts rows, as a run does. Each has to be read before the next is asked for.
    """
    if dataset.turns is None or dataset.then is not None:
        return iter([dataset])
    return Turns(dataset, ledger, unknown=unknown).all()


def askable(dataset: Dataset, ledger: Path) -> Iterator[Dataset]:
    """Yield inputs that have all rows together that a run could begin with; as `turn_by_turn`."""
    if dataset.turns is None or dataset.then is not None:
        return iter([dataset])
    return Turns(dataset, ledger).askable()


def in_order(dataset: Dataset) -> Dataset:
    """Return an input with every turn of its conversations, one after the other."""
    if dataset.turns is None or dataset.then is not None:
        return dataset
    return Turns(dataset, None).in_order()


class TurnCount:
    """Counts the rows of a dataset, each turn as one, by the rows that ask the first turns.

    Args:
        dataset: says which field holds turns; None: there are none.

    Attributes:
        rows: all of them.
        turns: those that are turns.
        conversations: what these are turns of.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._field = dataset.turns
        self.rows = self.turns = self.conversations = 0

    def see(self, group: Group, _left: Sequence[int] = ()) -> None:
        """Count a group's rows."""
        self.rows += len(group.places)
        if self._field is None:
            return
        for which in range(len(group.places)):
            turns = group.row(which).get(self._field)
            if turns is not None:
                self.rows += len(turns) - 1
                self.turns += len(turns)
                self.conversations += 1


def check_turns(dataset: Dataset, ledger: Path | None = None) -> None:
    """Check that a dataset's turns can be asked, before all rows are taken for such without any.

    Args:
        dataset: the input.
        ledger: its ledger; None: there is none. Beside one that is there the field's name is no
            slip, since it is compared with its call log's, and rows may all be without turns.

    Raises:
        InputError: it is a pipe, or no row has the field that is to hold them.
    """
    field = dataset.turns
    if field is None:
        return
    if dataset.is_pipe:
        raise InputError(f"{dataset}: turns are asked in several passes; give a file, no pipe")
    if ledger is not None and ledger.exists():
        return
    fields: dict[str, None] = {}

    def look(row: dict[str, Any]) -> list[dict[str, Any]]:
        if len(fields) < _MANY_FIELDS or field in row:
            fields.update(dict.fromkeys(row))
        return [row]

    with open_input(replace(dataset, n=1, then=look)) as stream:
        if any(field in fields for _line in stream):
            return
    if fields:
        from .templates import no_field  # noqa: PLC0415  # most runs need no templates

        reason = no_field(field, fields)
        raise InputError(f"{dataset}: --turns {field}: {reason} (and so for all rows)")
