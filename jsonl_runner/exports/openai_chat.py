"""OpenAI's fine-tuning data: `{"messages": [{"role", "content"}, …]}`, a line each, checked.

The checks are those of OpenAI's cookbook ("Data preparation and analysis for chat model
fine-tuning", https://developers.openai.com/cookbook/examples/chat_finetuning_data_prep), by the
names it gives them. The guides on supervised and on vision fine-tuning add the rest: the length of
an example, `weight`, and images, which user messages may hold. Calls of tools and the tools are as
the API reference has them ("FineTuneChatRequestInput"), which the cookbook's check is older than.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import images, jsontext
from ..framing import prompt_count
from .conversation import answer_of, has_image, sent, text_of
from .toolcalls import are_tools, as_message, calls_of, tools_of
from .unfit import Unfit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

#: Why an example would be refused, by the word that counts it.
REASONS = {
    "data_type": "it or one of its messages is no object",
    "missing_messages_list": "it has no messages",
    "message_missing_key": "a message lacks its role or content",
    "message_unrecognized_key": "a message has a key that is not taken",
    "unrecognized_role": "a role is none of system, user, assistant, tool and function",
    "missing_content": "a message has no text, or the answer is empty",
    "example_missing_assistant_message": "no message is the assistant's",
    "weight": "a weight is not 0 or 1, or not the assistant's",
    "too_long": "it has more than 65,536 tokens: its end would be cut off",
    "image": "an image is not the user's, is one of too many, or is neither on the web nor small",
}
#: A file with fewer examples is refused.
MIN_EXAMPLES = 10
#: Tokens of an example, for the models that can be tuned since GPT-4o; what is longer is cut off at
#: its end, where the answer stands.
_MAX_TOKENS = 65_536
_TOKENS_OF = "gpt-4.1"
#: Images of an example, and bytes of each (the vision guide).
_MAX_IMAGES, _MAX_IMAGE_BYTES = 10, 10_000_000
_DATA = tuple(f"data:image/{kind};base64," for kind in ("jpeg", "png", "webp"))
_KEYS = frozenset(
    {"role", "content", "name", "function_call", "tool_calls", "tool_call_id", "weight"}
)
_ROLES = frozenset({"system", "user", "assistant", "tool", "function"})
#: Parameters of a request that belong to an example too, beside `tools`.
_PARAMS = ("parallel_tool_calls", "functions")


def shape(
    row: dict[str, Any], folder: Callable[[], Path], tools: list[Any] | None = None
) -> dict[str, Any]:
    """Return a row as an example: the messages as they were sent, the answer, and the tools.

    Keys of a message that hold null or an empty list are left out, as files with a column for each
    key have them; parts that are texts become one. Images in files become data.

    Args:
        row: the row with its output.
        folder: says what the paths of its images are relative to.
        tools: those that were offered to all rows which name none.

    Raises:
        Unfit: OpenAI would refuse it, or cut it off.
    """
    messages = [_plain(message) for message in sent(row)]
    if images.of_messages(messages):
        messages = _with_data(messages, folder())
    messages.append(_plain(answer_of(row)))
    example: dict[str, Any] = {"messages": messages}
    if offered := tools_of(row, tools):
        example["tools"] = offered
    params = row.get("params") or {}
    example |= {name: params[name] for name in _PARAMS if params.get(name) is not None}
    for problem in problems(example):
        raise Unfit(problem)
    return example


def _with_data(messages: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Return messages with the content of images that are files."""
    try:
        return images.replaced(messages, lambda name: images.data_url(images.located(name, folder)))
    except images.ImageError:
        raise Unfit("image") from None


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    message = as_message(message)
    is_call = bool(message.get("tool_calls") or message.get("function_call"))
    plain = {
        name: value
        for name, value in message.items()
        if value not in (None, []) or (name == "content" and not is_call)
    }
    if is_call and plain.get("content") == "":
        del plain["content"]
    if isinstance(plain.get("content"), list) and not has_image(plain["content"]):
        plain["content"] = text_of(plain["content"])
    return plain


def problems(example: object) -> Iterator[str]:
    """Yield what OpenAI would object to in an example, by the words of REASONS."""
    if not isinstance(example, dict):
        yield "data_type"
        return
    messages = example.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "missing_messages_list"
        return
    for message in messages:
        yield from _problems_of(message)
    messages = [message for message in messages if isinstance(message, dict)]
    if not any(message.get("role") == "assistant" for message in messages):
        yield "example_missing_assistant_message"
    if sum(len(_images(message.get("content"))) for message in messages) > _MAX_IMAGES:
        yield "image"
    yield from _problems_of_calls(messages)
    tools = example.get("tools")
    if not are_tools(tools):
        yield "tool_definition"
    elif _is_too_long(messages, tools or []):
        yield "too_long"


def _problems_of(message: object) -> Iterator[str]:
    if not isinstance(message, dict):
        yield "data_type"
        return
    is_call = bool(message.get("tool_calls") or message.get("function_call"))
    if "role" not in message or not (is_call or "content" in message):
        yield "message_missing_key"
    if not message.keys() <= _KEYS:
        yield "message_unrecognized_key"
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        yield "unrecognized_role"
    if has_image(content):
        if role != "user" or not all(map(_is_part, content or ())):
            yield "image"
    elif content is None and is_call:
        pass
    elif not isinstance(content, str) or not (content or is_call or role == "tool"):
        yield "missing_content"
    if "weight" in message and (role != "assistant" or message["weight"] not in (0, 1)):
        yield "weight"


def _problems_of_calls(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with calls: each but the answer's has its result behind it, by its id."""
    waiting: list[object] = []
    for message in messages:
        if message.get("role") == "tool":
            if message.get("tool_call_id") not in waiting:
                yield "tool_call"
                return
            waiting.remove(message["tool_call_id"])
            continue
        try:
            calls = calls_of(message)
        except Unfit as verdict:
            yield verdict.reason
            return
        ids = [call.id for call in calls]
        is_odd = bool(ids) and (message.get("role") != "assistant" or len({*ids}) < len(ids))
        if waiting or is_odd or "" in ids:
            yield "tool_call"
            return
        waiting = list(ids)


def _is_part(part: object) -> bool:
    if isinstance(part, dict) and part.get("type") == "text":
        return isinstance(part.get("text"), str)
    image = part.get("image_url") if isinstance(part, dict) else None
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        return False
    if url.startswith(_DATA):  # four letters stand for three bytes
        return len(url) * 3 // 4 <= _MAX_IMAGE_BYTES
    return url.startswith(("https://", "http://"))


def _images(content: object) -> list[Any]:
    if not isinstance(content, list):
        return []
    return [part for part in content if isinstance(part, dict) and part.get("type") == "image_url"]


def _is_too_long(messages: list[dict[str, Any]], tools: list[Any]) -> bool:
    texts = [{**message, "content": _text_parts(message.get("content"))} for message in messages]
    # A token is a byte at least, so that hardly any example need be counted.
    if len(jsontext.dump([texts, tools])) <= _MAX_TOKENS:
        return False
    return prompt_count(texts, _TOKENS_OF, {"tools": tools}).tokens > _MAX_TOKENS


def _text_parts(content: object) -> Any:
    """Return a content without its images, whose tokens nobody here can count."""
    if not isinstance(content, list):
        return content
    return [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
