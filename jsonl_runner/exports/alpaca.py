"""Alpaca: `{"instruction", "input", "output"}`, with other fields where they are needed.

Those are LLaMA-Factory's (data/README.md there): `system`; `history`, a list of pairs, what the
user said and what was answered; `images`, paths, each of which is `<image>` in a text. A trainer
joins instruction and input with a line end.
"""

from __future__ import annotations

from typing import Any

from ..records import images_of
from .conversation import answer_of, turns_of

NAMES = ("instruction", "input", "output", "system", "history", "images")


def shape(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as an Alpaca example; LLaMA-Factory's fields only if it needs them.

    Raises:
        Unfit: its messages are no conversation by turns.
    """
    if row.get("messages") is None and not images_of(row):
        # An instruction is required there: a row with an input alone asks by that.
        asked = (row["instruction"], row["input"]) if row["instruction"] else (row["input"], "")
        return {"instruction": asked[0], "input": asked[1], "output": answer_of(row)}
    system, said, pictures = turns_of(row)
    example: dict[str, Any] = {"instruction": said[-1], "input": "", "output": answer_of(row)}
    if system is not None:
        example["system"] = system
    if len(said) > 1:
        before = iter(said[:-1])
        example["history"] = [list(pair) for pair in zip(before, before, strict=True)]
    if pictures:
        example["images"] = pictures
    return example
