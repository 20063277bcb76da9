"""Rows of other forms into ours: renamed fields, templates, system messages; nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from jsonl_runner.errors import ConfigError
from jsonl_runner.shaping import Shape, parse_map
from jsonl_runner.templates import Template

GSM = {"question": "1+1?", "answer": "2"}


def shaped(
    row: dict[str, Any], *words: str, template: str = "", system: str = ""
) -> dict[str, Any]:
    made = Template(template, "p.j2") if template else None
    before = repr(row)
    found = Shape(parse_map(words), made, system)(row)
    assert repr(row) == before, "the row given stays as it is"
    return found


def test_a_field_moves() -> None:
    """What is renamed is there once, under its new name; the others stay."""
    assert shaped(GSM, "instruction=question") == {"instruction": "1+1?", "answer": "2"}
    swapped = shaped({"instruction": "a", "input": "b"}, "instruction=input", "input=instruction")
    assert swapped == {"instruction": "b", "input": "a"}


def test_paths() -> None:
    """A value within others is copied, and what it stands in stays; a name with dots goes first."""
    row = {"meta": {"id": 7, "turns": ["a", "b"]}, "meta.id": 8}
    assert shaped({"meta": row["meta"]}, "index=meta.id")["index"] == 7
    assert shaped(row, "index=meta.id") == {"index": 8, "meta": row["meta"]}
    assert shaped(row, "instruction=meta.turns.1")["instruction"] == "b"
    assert shaped(row, "instruction=meta.turns.1")["meta"] == row["meta"]


def test_what_is_replaced_stays() -> None:
    """An own field in the way of a map or a template is kept under another name."""
    row = {"index": 1, "instruction": "Add.", "input": "1+1", "id": "a"}
    assert shaped(row, "index=id") == {
        "index": "a",
        "instruction": "Add.",
        "input": "1+1",
        "source_index": 1,
    }
    assert shaped(row, template="{{ instruction }} {{ input }}") == {
        "instruction": "Add. 1+1",
        "index": 1,
        "id": "a",
        "source_instruction": "Add.",
        "source_input": "1+1",
    }
    message = '{% message role="user" %}{{ input }}{% endmessage %}'
    assert shaped({**row, "messages": []}, template=message) == {
        "messages": [{"role": "user", "content": "1+1"}],
        "index": 1,
        "id": "a",
        "source_instruction": "Add.",
        "source_input": "1+1",
        "source_messages": [],
    }


def test_a_template_sees_what_a_map_made() -> None:
    """First the map, then the template, then the system message."""
    found = shaped(GSM, "input=question", template="Solve: {{ input }}", system="Be brief.")
    assert found == {
        "instruction": "Be brief.",
        "input": "Solve: 1+1?",
        "answer": "2",
        "source_input": "1+1?",
    }


SYSTEM = {"role": "system", "content": "Own."}
USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "Hi"}, {"instruction": "S", "input": "Hi"}),
        ({"instruction": "Own.", "input": "Hi"}, {"instruction": "S\n\nOwn.", "input": "Hi"}),
        ({"instruction": "", "input": "Hi"}, {"instruction": "S", "input": "Hi"}),
        ({"input": "Hi"}, {"instruction": "S", "input": "Hi"}),
        ({"messages": [USER]}, {"messages": [{**SYSTEM, "content": "S"}, USER]}),
        ({"messages": [SYSTEM, USER]}, {"messages": [{**SYSTEM, "content": "S\n\nOwn."}, USER]}),
        (
            {"messages": [{"role": "developer", "content": [{"type": "text", "text": "Own."}]}]},
            {
                "messages": [
                    {
                        "role": "developer",
                        "content": [
                            {"type": "text", "text": "S"},
                            {"type": "text", "text": "Own."},
                        ],
                    }
                ]
            },
        ),
        ({"nothing": 1}, {"nothing": 1}),
    ],
)
def test_a_system_message(row: dict[str, Any], expected: dict[str, Any]) -> None:
    """It stands before the row's own, and there is one: many models take no second."""
    assert shaped(row, system="S") == expected


def test_an_unknown_field() -> None:
    """The row says which map it is, and what it has instead."""
    with pytest.raises(
        ValueError, match=r'--map instruction=qestion: the row has no .*"question"\?'
    ):
        shaped(GSM, "instruction=qestion")
    with pytest.raises(ValueError, match=r"its fields are question, answer"):
        shaped(GSM, "instruction=zzz")
    with pytest.raises(ValueError, match=r"no field \"answer.x\""):
        shaped(GSM, "instruction=answer.x")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("instruction",), "write --map FIELD=YOURS"),
        (("=question",), "write --map FIELD=YOURS"),
        (("instrucion=question",), "did you mean instruction?"),
        (("question=instruction",), "write --map instruction=question"),
        (("prompt=question",), "it is one of index, instruction"),
        (("input=a", "input=b"), "input is a already"),
    ],
)
def test_maps_that_mean_nothing(words: tuple[str, ...], said: str) -> None:
    """Said before anything is read."""
    with pytest.raises(ConfigError) as caught:
        parse_map(words)
    assert said in str(caught.value)
