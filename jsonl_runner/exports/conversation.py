"""What was said in a row: its messages as they were sent, and the answer."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .. import images, jsontext
from ..prompts import messages_of
from ..records import Record, images_of
from .toolcalls import Call, answered, as_text, calls_of
from .unfit import Unfit

#: What stands for an image in a text, as LLaMA-Factory has it.
IMAGE = "<image>"


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


def answer_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the answer as a message: its text, or the tools it calls.

    One that is neither is the text of its JSON.
    """
    output = row["output"]
    if calls := answered(output):
        return calls
    text = output if isinstance(output, str) else jsontext.dump(output).decode()
    return {"role": "assistant", "content": text}


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


class Turn(NamedTuple):
    """What one of them said.

    Attributes:
        speaker: `human` or `gpt`, or, as LLaMA-Factory has them, `function_call` for a model that
            calls tools and `observation` for what they bring.
        text: what was said; of calls, their JSON.
    """

    speaker: str
    text: str


class Turns(NamedTuple):
    """A conversation by turns.

    Attributes:
        system: the system prompt, None where there is none.
        said: what was said, the user first and the answer last.
        images: paths, one for each `<image>` in it.
    """

    system: str | None
    said: list[Turn]
    images: list[str]

    @property
    def has_calls(self) -> bool:
        """Whether tools are called in it."""
        return any(turn.speaker == "function_call" for turn in self.said)


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
    said = _by_turns([*messages, answer_of(row)])
    if pictures:
        if any(re.match(r"[a-z]{2,}:", picture) for picture in pictures):
            raise Unfit("image")
        if "\n".join([system or "", *(turn.text for turn in said)]).count(IMAGE) != len(pictures):
            raise Unfit("image")  # a text has the word, which a trainer takes for one more
    return Turns(system, said, pictures)


def _by_turns(messages: list[dict[str, Any]]) -> list[Turn]:
    """Return messages as turns: someone who asks or a tool's result, then the model."""
    said: list[Turn] = []
    called = 0
    for message in messages:
        calls = calls_of(message)
        if message.get("function_call"):  # the older form of one call
            calls += calls_of({"tool_calls": [{"function": message["function_call"]}]})
        speaker = _speaker(message["role"], has_calls=bool(calls))
        if speaker == "observation":
            if called != 1:  # one turn has one result
                raise Unfit("tools" if called else "tool_call")
        elif called:
            raise Unfit("tool_call")  # nothing came of it
        if (speaker in ("gpt", "function_call")) != (len(said) % 2 == 1):
            raise Unfit("turns")
        said.append(Turn(speaker, _text_of_turn(message.get("content"), calls)))
        called = len(calls)
    if len(said) % 2:
        raise Unfit("turns")
    return said


def _speaker(role: str, *, has_calls: bool) -> str:
    if role in ("tool", "function"):
        return "observation"
    if has_calls:
        if role != "assistant":
            raise Unfit("tool_call")
        return "function_call"
    speaker = {"user": "human", "assistant": "gpt"}.get(role)
    if speaker is None:
        raise Unfit("turns")
    return speaker


def _text_of_turn(content: object, calls: list[Call]) -> str:
    if not calls:
        return text_of(content)
    if content and text_of(content).strip():
        raise Unfit("tools")  # a turn is calls or a text
    return as_text(calls)
