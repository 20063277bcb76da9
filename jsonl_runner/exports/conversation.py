"""What was said in a row: its messages as they were sent, and the answer."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .. import images, jsontext
from ..prompts import messages_of
from ..records import Record, images_of

#: What stands for an image in a text, as LLaMA-Factory has it.
IMAGE = "<image>"
#: Why a row does not fit into a format, by the word that counts it.
REASONS = {
    "turns": "user and assistant do not take turns, or the user is not the last to speak",
    "image": "it holds an image that this format has no place for, such as one on the web",
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


def sent(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages sent for a row: its own, or instruction as system and input as user.

    Images stand in them by the names that the row has for them. `developer` is OpenAI's newer word
    for `system`, which trainers do not know.
    """
    record = Record("", row["instruction"], row["input"], row.get("messages"))
    messages = [
        {**message, "role": "system"} if message["role"] == "developer" else message
        for message in messages_of(record)
    ]
    sources = images_of(row)
    if sources and not images.of_messages(messages):
        return images.with_images(messages, sources)
    return messages


def answer_of(row: dict[str, Any]) -> str:
    """Return the answer as a text; one that is no text as its JSON."""
    output = row["output"]
    return output if isinstance(output, str) else jsontext.dump(output).decode()


def has_image(content: object) -> bool:
    """Return whether there is anything but text in a message's content."""
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") != "text" for part in content
    )


def text_of(content: object) -> str:
    r"""Return a message's content as one text; parts are put together with `\n`.

    An image is `<image>` in it.

    Raises:
        Unfit: it is neither texts nor images.
    """
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [_text_of_part(part) for part in parts]
    if not texts:
        raise Unfit("content")
    return "\n".join(texts)


def _text_of_part(part: object) -> str:
    if isinstance(part, dict):
        if part.get("type") == "image_url":
            return IMAGE
        part = part.get("text")
    if not isinstance(part, str):
        raise Unfit("content")
    return part


class Turns(NamedTuple):
    """A conversation by turns.

    Attributes:
        system: the system prompt, None where there is none.
        said: what was said, the user first and last; the answer follows it.
        images: paths, one for each `<image>` in it.
    """

    system: str | None
    said: list[str]
    images: list[str]


def turns_of(row: dict[str, Any]) -> Turns:
    """Return what was said in a row by turns.

    Raises:
        Unfit: it is no such conversation, or its images are no files.
    """
    messages = sent(row)
    pictures = images.of_messages(messages)
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
    if pictures:
        if any(re.match(r"[a-z]{2,}:", picture) for picture in pictures):
            raise Unfit("image")
        if "\n".join([system or "", *said, answer_of(row)]).count(IMAGE) != len(pictures):
            raise Unfit("image")  # a text has the word, which a trainer takes for one more
    return Turns(system, said, pictures)
