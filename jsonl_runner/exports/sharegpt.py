"""ShareGPT: `{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}`.

As LLaMA-Factory and axolotl take it: a system prompt first if there is one, then human and gpt by
turns, and gpt is the last to speak; `images` are paths, each of which is `<image>` in a text.
(LLaMA-Factory leaves out any other conversation in silence.)
"""

from __future__ import annotations

from typing import Any

from .conversation import answer_of, turns_of

NAMES = ("conversations", "images")


def shape(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as a ShareGPT conversation.

    Raises:
        Unfit: its messages are no conversation by turns.
    """
    system, said, pictures = turns_of(row)
    turns = [] if system is None else [{"from": "system", "value": system}]
    for number, text in enumerate([*said, answer_of(row)]):
        turns.append({"from": "gpt" if number % 2 else "human", "value": text})
    return {"conversations": turns, "images": pictures} if pictures else {"conversations": turns}
