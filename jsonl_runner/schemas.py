"""Whether a text is the JSON it should be, and if not, why: in one line, with its place.

The schemas are jsonschema-rs's, which never fetches anything here: a `$ref` to an address or a file
is a mistake in the schema, told before anything is paid.

What is JSON is decided strictly. A text goes into training data as it came, so JSON in a Markdown
fence, or with a word before it, is no JSON: whoever trains on it teaches a model to answer so.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from . import jsontext

if TYPE_CHECKING:
    import jsonschema_rs

    _Validator = jsonschema_rs.Validator

#: Errors of one text that are told; the first ones usually bring the others about.
_TOLD = 3
#: Characters of a reason, and of a value in it: a model is to read it, and a table to show it.
_MAX_REASON, _MAX_VALUE = 300, 60
#: Different schemas of rows that are kept compiled.
_KEPT = 256
#: Levels of a text down to which its errors are looked for. To find that there are some takes
#: little stack at any depth; to say which takes a frame for each level and each schema on the way.
_MAX_DEPTH = 32
#: Bytes of stack for that. The threads of a run have a hundredth of it, and a stack that overflows
#: ends the process. The system gives only what is touched.
_STACK_BYTES = 64 * 1024 * 1024

_stack_size = threading.Lock()


class Problem(NamedTuple):
    """Why a text will not do.

    Attributes:
        code: `json`, or `schema` where it is JSON, but not the one that was asked for.
        reason: one line: `at /items/0/name: "x" is not of type "integer"`.
    """

    code: str
    reason: str


class Check:
    """What a text is checked against; for any number of threads.

    Args:
        validator: of a schema; None: any JSON will do.
    """

    __slots__ = ("_validator",)

    def __init__(self, validator: _Validator | None = None) -> None:
        self._validator = validator

    def fits(self, text: str) -> bool:
        """Return whether nothing is wrong with a text; quicker than to say what."""
        try:
            value = jsontext.load(text.encode("utf-8", "replace"))
        except ValueError:
            return False
        return self._validator is None or self._validator.is_valid(value)

    def problem(self, text: str) -> Problem | None:
        """Return what is wrong with a text, None when nothing is."""
        try:
            value = jsontext.load(text.encode("utf-8", "replace"))
        except ValueError as error:
            return Problem("json", _not_json(text, error))
        if self._validator is None or self._validator.is_valid(value):
            return None
        return Problem("schema", _explained(self._validator, value))


def check_of_schema(schema: object) -> Check:
    """Return the check of a JSON schema; equal schemas share one.

    Args:
        schema: the parsed JSON of any draft; its `$schema` says which, 2020-12 where it does not.

    Raises:
        ValueError: it is no schema, or refers to what lies outside of it; the message says why.
    """
    if not isinstance(schema, (dict, bool)):
        raise ValueError(f"a JSON schema is an object, not {type(schema).__name__}")
    return _compiled(jsontext.dump(schema))


def check_of_format(response_format: object) -> Check | None:
    """Return the check that a `response_format` asks for, None when it asks for none.

    Args:
        response_format: the request parameter. Where the schema stands differs between providers:
            in `json_schema.schema` (OpenAI), or in `schema` beside `type`. A kind that is not
            known here is the server's to look after.

    Raises:
        ValueError: its schema cannot be used; the message says why.
    """
    if not isinstance(response_format, dict):
        return None
    if response_format.get("type") not in {"json_object", "json_schema"}:
        return None
    named = response_format.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    schema = response_format.get("schema") if schema is None else schema
    return _ANY_JSON if schema is None else check_of_schema(schema)


_ANY_JSON = Check()


@functools.lru_cache(_KEPT)
def _compiled(schema: bytes) -> Check:
    import jsonschema_rs  # noqa: PLC0415  # 40 ms that only those who have a schema need pay

    try:
        return Check(jsonschema_rs.validator_for(jsontext.load(schema), offline=True))
    except jsonschema_rs.ValidationError as error:
        hint = "; nothing is fetched: put it into $defs" if error.kind.name == "$ref" else ""
        raise ValueError(_at(error) + hint) from None
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(_one_line(str(error))) from None


def _not_json(text: str, error: ValueError) -> str:
    if not text.strip():
        return "not JSON: it is empty"
    if text.lstrip().startswith("```"):
        return "not JSON: it stands in a Markdown code fence (```)"
    return f"not JSON: {_one_line(str(error))}"


def _explained(validator: _Validator, value: Any) -> str:
    """Return the first errors of a value that has some."""
    if _is_deeper(value, _MAX_DEPTH):
        return "it does not match the schema (and is too deeply nested to say where)"
    found: list[str] = []

    def look() -> None:
        try:
            for error in validator.iter_errors(value):
                if len(found) == _TOLD:
                    found.append("…")
                    break
                found.append(_at(error))
        except ValueError as error:  # its own limits
            found.append(f"it does not match the schema ({_one_line(str(error))})")

    with _stack_size:
        before = threading.stack_size(_STACK_BYTES)
        try:
            thread = threading.Thread(target=look, name="schema")
            thread.start()
        except RuntimeError:  # the system gives no more threads
            return "it does not match the schema"
        finally:
            threading.stack_size(before)
    thread.join()
    return _cut("; ".join(found) or "it does not match the schema", _MAX_REASON)


def _at(error: jsonschema_rs.ValidationError) -> str:
    """Return an error with its place."""
    message = error.message
    shown = jsontext.dump(error.instance).decode()
    if len(shown) > _MAX_VALUE:
        message = message.replace(shown, _cut(shown, _MAX_VALUE), 1)
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in error.instance_path)
    place = "".join(f"/{step}" for step in steps)
    return _one_line(f"at {place or 'the top'}: {message}")


def _is_deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        inner: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return False
        layer = inner
    return True


def _one_line(text: str) -> str:
    return _cut(" ".join(text.split()), _MAX_REASON)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
