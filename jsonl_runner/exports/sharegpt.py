"""ShareGPT: `{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}`.

As LLaMA-Factory and axolotl take it: a system prompt first if there is one, then human and gpt by
turns, and gpt is the last to speak; `images` are paths, each of which is `<image>` in a text.
Calls of tools are LLaMA-Factory's (its `SharegptDatasetConverter` and `tool_utils`): where gpt
speaks, `function_call` may, with the JSON of `{"name", "arguments"}` or a list of several, and
where human does, `observation`, with the result of one call; `tools` is the functions' JSON.
(LLaMA-Factory leaves out any other conversation in silence.)
"""

from __future__ import annotations

from typing import Any

from .. import jsontext
from .conversation import turns_of
from .toolcalls import functions_of, tools_of

NAMES = ("conversations", "images", "tools")


def shape(row: dict[str, Any], tools: list[Any] | None = None) -> dict[str, Any]:
    """Return a row as a ShareGPT conversation.

    Args:
        row: the row with its output.
        tools: those that were offered to all rows which name none.

    Raises:
        Unfit: its messages are no conversation by turns.
    """
    system, said, pictures = turns_of(row)
    turns = [] if system is None else [{"from": "system", "value": system}]
    turns += [{"from": turn.speaker, "value": turn.text} for turn in said]
    example: dict[str, Any] = {"conversations": turns}
    if pictures:
        example["images"] = pictures
    if offered := tools_of(row, tools):
        example["tools"] = jsontext.dump(functions_of(offered)).decode()
    return example
