"""Whether a text is the JSON it should be, and the line that says why not."""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner.schemas import Problem, check_of_format, check_of_schema

ITEMS = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "integer"}, "a/b": {"type": "null"}},
            },
        }
    },
    "required": ["items"],
}
RECURSIVE: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"anyOf": [{"type": "integer"}, {"$ref": "#"}]}},
    "additionalProperties": False,
}


@pytest.mark.parametrize("text", ['{"items": []}', ' {"items": [{"name": 1}], "more": 1e3}\n'])
def test_what_fits_has_no_problem(text: str) -> None:
    """White space around is JSON; whatever the schema does not forbid may be there."""
    assert check_of_schema(ITEMS).problem(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"items": [{"name": "x"}]}', 'at /items/0/name: "x" is not of type "integer"'),
        ("[1]", 'at the top: [1] is not of type "object"'),
        ("{}", 'at the top: "items" is a required property'),
        ('{"items": [{"a/b": 1}]}', 'at /items/0/a~1b: 1 is not of type "null"'),
        (
            '{"items": [1, 2, 3, 4]}',
            "; ".join(f'at /items/{n}: {n + 1} is not of type "object"' for n in range(3)) + "; …",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(text: str, said: str) -> None:
    """The place is a JSON pointer; after three errors it is enough."""
    assert check_of_schema(ITEMS).problem(text) == Problem("schema", said)


def test_a_long_value_is_cut_and_not_the_reason() -> None:
    """A page of text in the wrong place leaves a line that says what is wrong with it."""
    problem = check_of_schema(ITEMS).problem(orjson.dumps({"items": "x\n" * 5000}).decode())
    assert problem is not None
    assert problem.reason.endswith('… is not of type "array"')
    assert len(problem.reason) < 120
    assert "\n" not in problem.reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ('{"items": [', "line 1 column 12"),
        ('{"items": []} as you wished', "unexpected content after document"),
        ('Here it is: {"items": []}', "unexpected character"),
        ('```json\n{"items": []}\n```', "it stands in a Markdown code fence (```)"),
        ("NaN", "line 1"),
        ("[" * 100_000, "line 1"),
    ],
)
def test_what_is_no_json(text: str, said: str) -> None:
    """A fence or a word around JSON is no JSON: the ledger keeps texts as they came."""
    for check in (check_of_schema(ITEMS), check_of_format({"type": "json_object"})):
        assert check is not None
        problem = check.problem(text)
        assert problem is not None
        assert problem.code == "json"
        assert problem.reason.startswith("not JSON: ")
        assert said in problem.reason


@pytest.mark.parametrize("text", ["{}", "[1]", '"a"', "null", '{"half an emoji": "\\ud83d"}'])
def test_json_mode_takes_any_json(text: str) -> None:
    """What is JSON is JSON."""
    check = check_of_format({"type": "json_object"})
    assert check is not None
    assert check.problem(text) is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_every_json_is_json(value: object) -> None:
    """For every value: its JSON passes as JSON, and what is cut off its list does not."""
    check = check_of_format({"type": "json_object"})
    assert check is not None
    text = orjson.dumps([value]).decode() if not _is_big(value) else "[]"
    assert check.problem(text) is None
    assert check.problem(text[:-1]) is not None


def _is_big(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_is_big, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**64


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": ITEMS}}, "{}"),
        ({"type": "json_schema", "schema": ITEMS}, "{}"),
        ({"type": "json_object", "schema": ITEMS}, "{}"),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, "nothing"),
    ],
)
def test_where_providers_take_the_schema(shape: dict[str, Any], text: str) -> None:
    """OpenAI's place, and those of servers that call themselves compatible."""
    check = check_of_format(shape)
    assert check is not None
    assert check.problem(text) is not None
    assert check.problem('{"items": []}') is None


@pytest.mark.parametrize("shape", [None, "json", {"type": "text"}, {"type": "grammar"}, {}])
def test_other_formats_are_the_servers_business(shape: object) -> None:
    """What is not known here is sent, and not checked."""
    assert check_of_format(shape) is None


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "objekt"}, 'at /type: "objekt"'),
        ({"properties": {"a": {"required": "b"}}}, "at /properties/a/required"),
        ({"pattern": "("}, "at /pattern"),
        ({"$ref": "#/$defs/missing"}, "/$defs/missing"),
        ({"$ref": "other.json"}, "nothing is fetched"),
        ({"$schema": "http://127.0.0.1:9/mine"}, "Unknown meta-schema"),
        ([], "an object, not list"),
        ("{}", "an object, not str"),
    ],
)
def test_a_schema_that_is_none(schema: object, said: str) -> None:
    """One line, with the place in the schema."""
    with pytest.raises(ValueError, match=r"^[^\n]*$") as raised:
        check_of_schema(schema)
    assert said in str(raised.value)


def test_an_earlier_draft_is_known_by_its_name() -> None:
    """`definitions` and `dependencies` of draft 7."""
    draft = "http://json-schema.org/draft-07/schema#"
    check = check_of_schema({"$schema": draft, "dependencies": {"a": ["b"]}})
    assert check.problem('{"a": 1}') is not None
    assert check.problem('{"a": 1, "b": 1}') is None


@pytest.mark.parametrize("word", ["$ref", "$schema", "$dynamicRef"])
def test_nothing_is_ever_fetched(word: str) -> None:
    """A server that is named in a schema hears nothing; nor is a file read."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        for place in (address, "file:///etc/hosts"):
            for schema in ({word: place}, {"properties": {"a": {word: place}}}):
                with contextlib.suppress(ValueError):
                    check_of_schema(schema).problem('{"a": 1}')
        with pytest.raises(TimeoutError):
            server.accept()


def test_an_answer_that_is_too_deep_is_told_and_ends_nothing() -> None:
    """A run's threads have half a megabyte of stack, and an overflow would end the process."""
    check = check_of_schema(RECURSIVE)
    before = threading.stack_size(512 * 1024)
    try:
        with ThreadPoolExecutor(4) as pool:
            for depth in (3, 30, 40, 500):
                good = '{"a":' * depth + "3" + "}" * depth
                bad = '{"a":' * depth + "[]" + "}" * depth
                assert pool.submit(check.problem, good).result() is None
                found = [pool.submit(check.problem, bad) for _ in range(4)]
                for future in found:
                    problem = future.result()
                    assert problem is not None
                    assert problem.code == "schema"
                    assert ("too deeply" in problem.reason) == (depth > 32)
            assert threading.stack_size() == 512 * 1024
    finally:
        threading.stack_size(before)
