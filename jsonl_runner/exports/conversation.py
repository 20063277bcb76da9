"""What was said in a row: its messages as they were sent, and the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import jsontext
from ..prompts import messages_of
from ..records import to_record

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Why a row does not fit into a format, by the word that counts it.
REASONS = {
    "turns": "user and assistant do not take turns, or the user is not the last to speak",
    "image": "it holds an image that this format has no place for",
    "content": "it holds a message whose content is no text",
    "tools": "it holds tool calls or their results",
}


class Unfit(ValueError):  # noqa: N818  # a verdict on a row, not an error of anybody
    """A row that a format has no place for.

    Attributes:
        reason: the word that counts it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def sent(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages sent for a row: its own, or instruction as system and input as user.

    `developer` is OpenAI's newer word for `system`, which trainers do not know.
    """
    messages = messages_of(to_record(dict(row)))
    return [
        {**message, "role": "system"} if message["role"] == "developer" else message
        for message in messages
    ]


def answer_of(row: Mapping[str, Any]) -> str:
    """Return the answer as a text; one that is no text as its JSON."""
    output = row["output"]
    return output if isinstance(output, str) else jsontext.dump(output).decode()


def has_image(content: object) -> bool:
    """Return whether there is anything but text in a message's content."""
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") != "text" for part in content
    )


def text_of(content: object) -> str:
    r"""Return a message's content as one text; parts that are texts are put together with `\n`.

    Raises:
        Unfit: it is no text.
    """
    if isinstance(content, str):
        return content
    if has_image(content):
        raise Unfit("image")
    if isinstance(content, list):
        found = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [text for text in found if isinstance(text, str)]
        if texts and len(texts) == len(content):
            return "\n".join(texts)
    raise Unfit("content")


def turns_of(row: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """Return a row's system prompt (None: it has none), and what was said by turns, user first.

    The last turn is the user's: the answer follows it.

    Raises:
        Unfit: it is no such conversation.
    """
    messages = sent(row)
    system = None
    if messages[0]["role"] == "system":
        system = text_of(messages[0].get("content"))
        messages = messages[1:]
    said = []
    for number, message in enumerate(messages):
        if message.get("tool_calls") or message.get("function_call"):
            raise Unfit("tools")
        if message["role"] in ("tool", "function"):
            raise Unfit("tools")
        if message["role"] != ("assistant" if number % 2 else "user"):
            raise Unfit("turns")
        said.append(text_of(message.get("content")))
    if len(said) % 2 == 0:
        raise Unfit("turns")
    return system, said
