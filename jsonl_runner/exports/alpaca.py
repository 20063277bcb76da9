"""Alpaca: `{"instruction", "input", "output"}`, with other fields where they are needed.

Those are LLaMA-Factory's (data/README.md there): `system`; `history`, a list of pairs, what the
user said and what was answered; `images`, paths, each of which is `<image>` in a text. A trainer
joins instruction and input with a line end. There is no place for calls of tools.
"""

from __future__ import annotations

from typing import Any

from ..records import images_of
from .conversation import answer_of, turns_of
from .unfit import Unfit

NAMES = ("instruction", "input", "output", "system", "history", "images")


def shape(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as an Alpaca example; LLaMA-Factory's fields only if it needs them.

    Raises:
        Unfit: its messages are no conversation by turns, or tools are called in it.
    """
    if row.get("messages") is None and not images_of(row):
        # An instruction is required there: a row with an input alone asks by that.
        asked = (row["instruction"], row["input"]) if row["instruction"] else (row["input"], "")
        answer = answer_of(row)
        if "tool_calls" in answer:
            raise Unfit("tools")
        return {"instruction": asked[0], "input": asked[1], "output": answer["content"]}
    turns = turns_of(row)
    if turns.has_calls:
        raise Unfit("tools")
    *before, asked_last, answered = [turn.text for turn in turns.said]
    example: dict[str, Any] = {"instruction": asked_last, "input": "", "output": answered}
    if turns.system is not None:
        example["system"] = turns.system
    if before:
        pairs = iter(before)
        example["history"] = [list(pair) for pair in zip(pairs, pairs, strict=True)]
    if turns.images:
        example["images"] = turns.images
    return example
