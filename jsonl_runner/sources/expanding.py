"""Rows that become several: samples of one answer, and the turns of a conversation.

A row of `n` samples becomes the rows `7#0`, `7#1`, …; the turns of a conversation are the rows
`7@1`, `7@2`, …, each asked with what was said before it. What makes an index is never taken apart
again: rows of another origin may hold `#` and `@` as they like. Only beside conversations is a row
without turns refused whose index could be that of another row's turn (`without_turns`). Samples
meet nobody: where there are any, all rows of a ledger are samples.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..rows import check_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: Makes rows of one.
    Expand = Callable[[dict[str, Any]], Sequence[dict[str, Any]]]

#: What holds the number of a sample, and what keeps a field of the row's own by that name.
SAMPLE, _KEPT = "sample", "source_sample"
_IMAGES = ("image", "images")
#: How the index of a turn ends.
_OF_TURN = re.compile(r"@[1-9][0-9]*\Z")


def samples(n: int, turns: str | None = None) -> Expand:
    """Return what makes `n` rows of one, to be asked the same.

    The Expand raises ValueError for a row that cannot be used, so that it is told once.

    Args:
        n: how many.
        turns: the field of rows that are whole by it.
    """

    def expand(row: dict[str, Any]) -> list[dict[str, Any]]:
        if turns is None or turns_of(row, turns) is None:
            check_row(row)
        if SAMPLE in row:
            row = {_KEPT: row[SAMPLE], **row}
        return [{**row, "index": f"{row['index']}#{k}", SAMPLE: k} for k in range(n)]

    return expand


def both(first: Expand, second: Expand) -> Expand:
    """Return what does the second with each row that comes of the first."""
    return lambda row: [made for one in first(row) for made in second(one)]


def turns_of(row: dict[str, Any], field: str) -> list[str] | None:
    """Return what the user says turn by turn, None for a row without turns.

    Raises:
        ValueError: the field holds something else, or the row cannot be asked by turns.
    """
    turns = row.get(field)
    if turns is None:
        return None
    if not isinstance(turns, list) or not turns:
        raise ValueError(f'"{field}" must be a list of texts, one for each turn of the user')
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, str) or not turn.strip():
            raise ValueError(f'"{field}": turn {number} is no text, or an empty one')
    if row.get("input"):
        raise ValueError(f'it has an "input" beside "{field}"; make it part of the first turn')
    if any(row.get(name) for name in _IMAGES):
        raise ValueError(f'images do not go together with "{field}"; put them into "messages"')
    own = row if row.get("messages") else {**row, "messages": [{"role": "user", "content": "-"}]}
    check_row(own)  # before its index is part of others, which any would do for
    return turns


def without_turns(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row that has no turns, among rows that may have some.

    Raises:
        ValueError: its index could be that of another row's turn, whose answer it would be given.
    """
    index = str(row.get("index"))
    if _OF_TURN.search(index):
        raise ValueError(
            f"index {index!r} of a row without turns is what a turn of another row is called; "
            "name it otherwise, or run it into a ledger of its own"
        )
    return row


def index_of_turn(index: object, turn: int) -> str:
    """Return the index of a conversation's turn, from 1."""
    return f"{index}@{turn}"


def asked_at(
    row: dict[str, Any], turns: Sequence[str], turn: int, answers: Sequence[str | None]
) -> dict[str, Any]:
    """Return the row that asks one turn, with what was said before it.

    Args:
        row: the conversation: `messages` stand before its turns, or `instruction` as a system
            message.
        turns: what the user says.
        turn: which of them is asked, from 1.
        answers: to the turns before; None for one that is not known.
    """
    messages = list(row.get("messages") or ())
    if not messages and row.get("instruction"):
        messages.append({"role": "system", "content": row["instruction"]})
    for said, answer in zip(turns, [*answers, None], strict=False):
        messages.append({"role": "user", "content": said})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
    return {**row, "index": index_of_turn(row["index"], turn), "messages": messages}


def first_turn(field: str) -> Expand:
    """Return what asks the first turn of each row that has turns."""

    def expand(row: dict[str, Any]) -> list[dict[str, Any]]:
        turns = turns_of(row, field)
        return [without_turns(row) if turns is None else asked_at(row, turns, 1, ())]

    return expand
