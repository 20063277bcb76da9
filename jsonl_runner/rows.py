"""What may stand in a row, whatever file it comes from, and what is wrong with one."""

from __future__ import annotations

import itertools
import re
from typing import Any

import orjson

from . import images, jsontext
from .encodings import looks_like, not_utf8
from .schemas import check_of_format

#: Characters of a row that are shown in a message.
_SHOWN = 60

#: Bytes. A longer row is a bad one: no provider takes a request body of this size, and a file that
#: is not what it seems (one endless line, a quote nobody closes) must not fill the memory.
MAX_ROW_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 200  #: levels of lists and objects; orjson writes 254, and nobody means more
#: What a line begins with that stands for a row that could not be made; the reason follows.
_REASON = b"\0no row: "
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
#: What Python and JavaScript write for a float that is no number, as a value.
_NO_NUMBER = re.compile(rb"[:,\[]\s*-?(NaN|Infinity)\s*[,\]}]")

#: The fields with a meaning of ours; all others are kept for merge.
FIELDS = ("index", "instruction", "input", "messages", "params", *images.FIELDS)
#: Those that `plain_rows` leaves to `parse_row`.
_NOT_PLAIN = {"messages", "params", *images.FIELDS}
_PLAIN_KINDS = {str, int, bool, type(None)}
_ROLES_HINT = 'a list of {"role": "…", "content": …}'


def reason_line(reason: str) -> bytes:
    """Return the line that stands for a row that could not be made; `parse_row` tells the reason.

    It is no JSON, whatever the reason.
    """
    return _REASON + " ".join(reason.split("\n")).encode("utf-8", "replace") + b"\n"


def load_object(line: bytes) -> dict[str, Any]:
    """Return a line's JSON object, whatever is in it.

    Raises:
        ValueError: there is none; the message says why.
    """
    try:
        row = (jsontext.load_exact if _LONG_NUMBER.search(line) else jsontext.load)(line)
    except (ValueError, RecursionError) as error:
        if line.startswith(_REASON):
            raise ValueError(line[len(_REASON) :].decode("utf-8", "replace")) from None
        shown = line[:_SHOWN].decode("utf-8", "replace")
        raise ValueError(f"{_why_not(line, error)}: {shown}") from None
    if not isinstance(row, dict):
        raise ValueError(f"not a JSON object but {kind_of(row)}")
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH:
        check_depth(row)
    return row


def _why_not(line: bytes, error: Exception) -> str:
    """Return why a line is no JSON, with what to do where many files have the same slip."""
    encoding = looks_like(line)
    if encoding is not None:
        return not_utf8(encoding)
    bare = line.strip()
    if bare in (b"{", b"["):
        return "an object over several lines, where JSONL has one a line (jq -c . FILE > NEW)"
    if bare.endswith(b"},"):
        return "a comma behind the object, where JSONL has none (sed 's/,$//' FILE > NEW)"
    if _NO_NUMBER.search(bare):
        return "not JSON (NaN and Infinity are none; write null)"
    return f"not JSON ({error or 'nested too deep'})"


def check_depth(row: dict[str, Any]) -> None:
    """Check that a row is not nested too deep.

    Raises:
        ValueError: it is.
    """
    if _depth(row) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def parse_row(line: bytes) -> dict[str, Any]:
    """Return a line's JSON object with `index` as its string.

    Raises:
        ValueError: the row cannot be used; the message says why.
    """
    row = load_object(line)
    check_row(row)
    return row


def check_row(row: dict[str, Any]) -> None:
    """Check that a row can be used, and make its `index` a string.

    Raises:
        ValueError: it cannot; the message says why.
    """
    _check_index(row)
    messages, params = row.get("messages"), row.get("params")
    if messages is not None:
        _check_messages(messages)
    _check_texts(row, has_messages=messages is not None)
    if params is not None:
        try:
            check_params(params)
        except ValueError as error:
            raise ValueError(f'"params" {error}') from None
    images.of_row(row)


def plain_rows(lines: list[bytes]) -> list[dict[str, Any]] | None:
    """Return the JSON objects of lines that hold plain rows only, None if any is not plain.

    Plain is a row of `index`, `instruction` and perhaps `input` with nothing to object to, whose
    other fields are texts, whole numbers, true, false or null. What is not plain may still be a
    good row: `parse_row` knows. This tells of a thousand lines at a quarter of its cost.
    """
    try:
        rows = list(map(orjson.loads, lines))
        if set(map(type, rows)) != {dict}:
            return None
        indices = [row["index"] for row in rows]
        instructions = [row["instruction"] for row in rows]
    except (orjson.JSONDecodeError, KeyError):
        return None
    names = set(itertools.chain.from_iterable(rows))
    # Without floats no whole number was too long for orjson, and without lists nothing is deep.
    kinds = set(map(type, itertools.chain.from_iterable(map(dict.values, rows))))
    is_plain = (
        kinds <= _PLAIN_KINDS
        and names.isdisjoint(_NOT_PLAIN)
        and set(map(type, indices)) <= {int, str}
        and "" not in indices
        and set(map(type, instructions)) == {str}
        and all(map(str.strip, instructions))
        and ("input" not in names or {type(row.get("input")) for row in rows} <= {str, type(None)})
    )
    return rows if is_plain else None


def _check_texts(row: dict[str, Any], *, has_messages: bool) -> None:
    instruction, text = row.get("instruction"), row.get("input")
    if not isinstance(instruction, str):
        if instruction is not None:
            raise ValueError(f'"instruction" must be a text, not {kind_of(instruction)}')
        if not has_messages:
            raise ValueError('it has no "instruction"' + _nearby_fields(row))
    elif not instruction.strip() and not has_messages and not text:
        raise ValueError('"instruction" is empty and there is no "input"')
    if text is not None and not isinstance(text, str):
        raise ValueError(f'"input" must be a text, not {kind_of(text)}')


def _depth(value: object) -> int:
    """Return how many levels of lists and objects a value has."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
    return depth


def _check_index(row: dict[str, Any]) -> None:
    index = row.get("index")
    if type(index) is int:  # not isinstance: True is an int to Python
        row["index"] = str(index)
    elif not isinstance(index, str):
        if index is None:
            raise ValueError(
                'it has no "index" (a string or an integer that names the row): --index-field NAME '
                "takes another field, --auto-index line or content makes one" + _nor_question(row)
            )
        raise ValueError(f'"index" must be a string or an integer, not {kind_of(index)}')
    elif not index:
        raise ValueError('"index" is empty')


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise ValueError(f'"messages" must be {_ROLES_HINT}, not {kind_of(messages)}')
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError(f'"messages"[{number}] has no "role": it must be {_ROLES_HINT}')


def check_params(params: object) -> None:
    """Check request parameters.

    Raises:
        ValueError: they cannot be used; the message goes behind their name.
    """
    if not isinstance(params, dict):
        raise ValueError(f"must be an object, not {kind_of(params)}")
    if params.get("stream"):
        raise ValueError("cannot hold stream: the ledger takes whole answers")
    if not isinstance(params.get("model", ""), str):
        raise ValueError(f"cannot hold a model that is {kind_of(params['model'])}")
    if params.get("n") not in (None, 1):
        raise ValueError("cannot hold n above 1, the ledger holds one answer a row: see run --n")
    if "messages" in params:
        raise ValueError("cannot hold messages: they have a field of their own in the row")
    if "response_format" in params:
        try:
            check_of_format(params["response_format"])
        except ValueError as error:
            raise ValueError(f"has a response_format that cannot be used: {error}") from None


#: What datasets call that which is asked: what can hardly be anything else, and what often is it.
QUESTIONS = ("prompt", "question", "query", "problem", "instructions", "user_prompt", "user")
TEXTS = ("input", "inputs", "task", "text", "content", "sentence", "document", "source", "title")


def _nor_question(row: dict[str, Any]) -> str:
    """Return what else a row lacks, so that both are told at once."""
    if row.get("instruction") is not None or row.get("messages") is not None:
        return ""
    return '; and it has no "instruction"' + _nearby_fields(row)


def named_fields(row: dict[str, Any]) -> str:
    """Return the names of a row's first fields, for people."""
    return ", ".join(list(row)[:5]) + (", …" if len(row) > 5 else "")


def _nearby_fields(row: dict[str, Any]) -> str:
    others = {name: value for name, value in row.items() if name not in FIELDS}
    if not others:
        return ""
    texts = [name for name, value in others.items() if isinstance(value, str)]
    longest = max(texts, key=lambda name: len(row[name]), default=None)
    best = next((name for name in (*QUESTIONS, *TEXTS) if name in texts), longest)
    way = "--template FILE makes it of them"
    if best is not None:
        way = f"--map instruction={best} takes one of them"
    return f"; its fields are {named_fields(others)}: {way}"


def kind_of(value: object) -> str:
    """Return what a JSON value is, for people."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), f"the number {value}") if value != [] else "an empty list"
