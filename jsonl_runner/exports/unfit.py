"""Rows that a format has no place for, and the words that count them."""

from __future__ import annotations

#: Why a row does not fit into a format, by the word that counts it.
REASONS = {
    "turns": "user and assistant do not take turns, or the user is not the last to speak",
    "image": "it holds an image that this format has no place for, such as one on the web",
    "content": "it holds a message whose content is no text",
    "tools": "it holds calls of tools that this format has no place for",
    "tool_call": "a call of a tool is broken (its name, arguments that are no JSON object), has "
    "no result, or a result has no call",
    "tool_definition": "its tools are no list of functions as the API takes them",
}


class Unfit(ValueError):  # noqa: N818  # a verdict on a row, not an error of anybody
    """A row that a format has no place for.

    Attributes:
        reason: the word that counts it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
