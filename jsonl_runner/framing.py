"""How many tokens a request's prompt has, with what a chat puts around its messages.

OpenAI's cookbook tells how its models frame them ("How to count tokens with tiktoken",
https://developers.openai.com/cookbook/examples/how_to_count_tokens_with_tiktoken): three tokens a
message, one more for a name, and three at the end that begin the answer. Others do it much alike.
What is no text (images, audio) is counted by nobody but the provider.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from . import jsontext
from .tokens import num_tokens_from_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Tokens around a message, before a name, and before the answer.
_MESSAGE, _NAME, _ANSWER = 3, 1, 3
#: Texts up to this length are remembered: instructions repeat, and inputs do not.
_SHORT = 20_000


class PromptCount(NamedTuple):
    """Tokens of a prompt.

    Attributes:
        tokens: of all that is text.
        has_other: whether there is more in it (images, audio, tools), which nobody here can count,
            or not exactly.
    """

    tokens: int
    has_other: bool


def prompt_count(
    messages: Iterable[Mapping[str, Any]], model: str, params: Mapping[str, Any] | None = None
) -> PromptCount:
    """Return how many tokens a prompt has.

    Args:
        messages: as they are sent.
        model: whose tokens; see `tokens.tokenizer_of`.
        params: of the request; tools and schemas among them are counted as their JSON.

    Raises:
        JsonlRunnerError: a vocabulary of this package is damaged.
    """
    tokens, has_other = _ANSWER, False
    for message in messages:
        tokens += _MESSAGE
        for name, value in message.items():
            if name == "role":
                tokens += _repeated(str(value), model)
                continue
            for text, is_text in _texts(value):
                count = _repeated if message.get("role") == "system" else num_tokens_from_string
                tokens += count(text, model)
                has_other = has_other or not is_text
            tokens += _NAME if name == "name" else 0
    for name in ("tools", "response_format"):
        if params and params.get(name):
            tokens += num_tokens_from_string(jsontext.dump(params[name]).decode(), model)
            has_other = True
    return PromptCount(tokens, has_other)


def _texts(value: object) -> Iterable[tuple[str, bool]]:
    """Yield the texts of a message's field, and whether that is all it holds."""
    if isinstance(value, str):
        yield value, True
    elif isinstance(value, list):
        for part in value:
            text = part.get("text") if isinstance(part, dict) else part
            yield (text, True) if isinstance(text, str) else ("", False)
    elif value is not None:
        yield jsontext.dump(value).decode(), False


def _repeated(text: str, model: str) -> int:
    if len(text) > _SHORT:
        return num_tokens_from_string(text, model)
    return _remembered(text, model)


@functools.lru_cache(maxsize=256)
def _remembered(text: str, model: str) -> int:
    return num_tokens_from_string(text, model)
