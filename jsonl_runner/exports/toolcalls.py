"""Calls of tools: in the messages of a row, and in an answer that is nothing else.

An answer that calls tools stands in the ledger as the JSON of its calls, `[{"id", "type",
"function": {"name", "arguments"}}, …]`; with what was said beside them, where anything was, as
`{"content", "tool_calls"}` (see `retry`). Those of OpenAI's Responses API have another form,
`{"type": "function_call", "call_id", "name", "arguments"}`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import jsontext
from .unfit import Unfit

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a function may be called (OpenAI's API reference, "function.name").
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: How the JSON of calls begins in a ledger; all other texts are spared a parser.
_BEGINNINGS = ("[{", '{"content":')


class Call(NamedTuple):
    """A call of a function.

    Attributes:
        id: what its result is told by; empty where the provider gave none.
        name: the function's.
        arguments: JSON, an object.
    """

    id: str
    name: str
    arguments: str


def calls_of(message: Mapping[str, Any]) -> list[Call]:
    """Return the calls in a message; none where it holds none.

    Raises:
        Unfit: one of them is broken.
    """
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise Unfit("tool_call")
    return [_call(item) for item in calls]


def answered(output: object) -> dict[str, Any] | None:
    """Return the message of an output that calls tools; None: it is a text like any other."""
    if not isinstance(output, str) or not output.startswith(_BEGINNINGS):
        return None
    try:
        found = json.loads(output)
    except (ValueError, RecursionError):
        return None
    text = None
    if isinstance(found, dict):
        if found.keys() != {"content", "tool_calls"} or not isinstance(found["content"], str):
            return None
        text, found = found["content"], found["tool_calls"]
    if not isinstance(found, list) or not found or not all(map(_is_call, found)):
        return None
    return {"role": "assistant", "content": text, "tool_calls": found}


def _is_call(item: object) -> bool:
    """Return whether something is a call of a function, be it a broken one."""
    if not isinstance(item, dict):
        return False
    told = item if item.get("type") == "function_call" else item.get("function")
    return isinstance(told, dict) and {"name", "arguments"} <= told.keys()


def _call(item: object) -> Call:
    if not isinstance(item, dict) or not _is_call(item):
        raise Unfit("tool_call")
    told = item if item.get("type") == "function_call" else item["function"]
    name, arguments = told["name"], told["arguments"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Unfit("tool_call")
    if not isinstance(arguments, str):
        arguments = jsontext.dump(arguments).decode()
    arguments = arguments.strip() or "{}"  # some send nothing for a function that takes nothing
    if not isinstance(_json(arguments), dict):
        raise Unfit("tool_call")
    known = item.get("call_id") or item.get("id")
    return Call(known if isinstance(known, str) else "", name, arguments)


def _json(text: str) -> Any:
    try:
        return jsontext.load_exact(text)
    except (ValueError, RecursionError):
        raise Unfit("tool_call") from None


def as_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message with its calls as the chat API has them; one without any as it is.

    Raises:
        Unfit: one of them is broken.
    """
    calls = calls_of(message)
    if not calls:
        return dict(message)
    written = [
        {
            "id": call.id or f"call_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for number, call in enumerate(calls)
    ]
    return {**message, "tool_calls": written}


def as_text(calls: list[Call]) -> str:
    """Return calls as LLaMA-Factory reads them: `{"name", "arguments"}`, or a list of several."""
    told = [{"name": call.name, "arguments": _json(call.arguments)} for call in calls]
    return jsontext.dump(told[0] if len(told) == 1 else told).decode()


def tools_of(row: Mapping[str, Any], default: list[Any] | None = None) -> list[dict[str, Any]]:
    """Return the tools that a row offers: `tools` of its params, or those of the whole run.

    Raises:
        Unfit: they are no such list.
    """
    params = row.get("params")
    own = params.get("tools") if isinstance(params, dict) else None
    found = default if own is None else own
    if not are_tools(found):
        raise Unfit("tool_definition")
    return found or []


def are_tools(found: object) -> bool:
    """Return whether something is a list of functions, as the chat API takes it; None is one."""
    return found is None or (
        isinstance(found, list)
        and all(
            isinstance(tool, dict)
            and tool.get("type") == "function"
            and isinstance(tool.get("function"), dict)
            and isinstance(tool["function"].get("name"), str)
            for tool in found
        )
    )


def functions_of(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tools as LLaMA-Factory reads them: functions, each with all that it looks for."""
    found = []
    for tool in tools:
        told = tool["function"]
        parameters = told.get("parameters") or {}
        found.append(
            {
                "name": told["name"],
                "description": told.get("description") or "",
                "parameters": {"type": "object", "properties": {}, **parameters},
            }
        )
    return found


def lacks_tools(example: Mapping[str, Any]) -> bool:
    """Return whether an example calls tools and does not say which there are."""
    if example.get("tools"):
        return False
    if any(message.get("tool_calls") for message in example.get("messages") or ()):
        return True
    return any(turn["from"] == "function_call" for turn in example.get("conversations") or ())
