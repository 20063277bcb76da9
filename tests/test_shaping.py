"""Rows of other forms into ours: renamed fields, templates, system messages; nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import read_ledger, told, write_rows

from jsonl_runner.dataset import Dataset
from jsonl_runner.errors import ConfigError
from jsonl_runner.shaping import Shape, parse_map
from jsonl_runner.templates import Template

if TYPE_CHECKING:
    from support import Stage

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


def test_a_field_that_means_something_else() -> None:
    """An empty map takes a name of ours from a row's own field; it stays for merge."""
    row = {"instruction": "Hi", "image": "a cat", "topic": "pets"}
    assert shaped(row, "image=") == {
        "instruction": "Hi",
        "topic": "pets",
        "source_image": "a cat",
    }
    assert shaped(row, "input=") == row


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


def rows_of(dataset: Dataset) -> list[Any]:
    with dataset.open() as stream:
        return [json.loads(line) for line in stream]


def test_a_dataset_has_a_shape(tmp_path: Path) -> None:
    """Map, template and system message from texts or files; the recipe holds the texts."""
    data = write_rows(tmp_path / "data.jsonl", [{"id": 7, **GSM}])
    (tmp_path / "prompt.j2").write_bytes("\ufeffSolve:\r\n{{ question }}\r\n".encode())
    (tmp_path / "system.txt").write_text("Be brief.\n", encoding="utf-8")
    dataset = Dataset(
        data,
        map={"index": "id"},
        template=tmp_path / "prompt.j2",
        system=tmp_path / "system.txt",
    )
    expected = {"index": 7, "instruction": "Be brief.", "input": "Solve:\n1+1?", **GSM}
    assert rows_of(dataset) == [expected]
    with dataset.open() as stream:
        assert stream.read().startswith(b'{"index":7,'), "where a reader looks for it first"
    recipe = dataset.recipe()
    assert recipe == {
        "map": {"index": "id"},
        "template": "Solve:\n{{ question }}",
        "template_name": str(tmp_path / "prompt.j2"),
        "system": "Be brief.",
    }
    (tmp_path / "prompt.j2").unlink()
    assert rows_of(Dataset(data, **json.loads(json.dumps(recipe)))) == [expected]
    hash(dataset)


def test_a_dataset_that_cannot_be_meant(tmp_path: Path) -> None:
    """Files that are not there or say nothing, two sources of an index, templates with mistakes."""
    empty = tmp_path / "empty.txt"
    empty.write_bytes(b"\n")
    latin = tmp_path / "latin.j2"
    latin.write_bytes("Größe".encode("latin-1"))
    broken = tmp_path / "broken.j2"
    broken.write_text("a\n{{ b", encoding="utf-8")
    for given, said in (
        ({"template": tmp_path / "no.j2"}, "no.j2: cannot be read (No such file or directory)"),
        ({"system": empty}, "the file is empty"),
        ({"template": latin}, "byte 2 is not UTF-8"),
        ({"template": broken}, f"{broken}:2: unexpected end of template"),
        ({"map": {"index": "id"}, "auto_index": "line"}, "give one of them"),
        ({"map": {"prompt": "question"}}, "prompt is no field of ours"),
    ):
        with pytest.raises(ConfigError) as caught:
            Dataset("data.jsonl", **given)
        assert said in str(caught.value)


SAMPLES = Path(__file__).parent.parent / "data" / "samples"
SOLVE = (SAMPLES / "solve.j2").read_text(encoding="utf-8")


def merged_of(stage: Stage) -> list[Any]:
    target = stage.folder / "merged.json"
    result = stage.cli("merge", stage.data, stage.output, target)
    assert result.returncode == 0, result.stderr
    found = json.loads(target.read_text(encoding="utf-8"))
    assert isinstance(found, list)
    return found


def test_a_real_dataset_from_end_to_end(stage: Stage) -> None:
    """GSM8K as it is published: asked through a map, merged without a word on how it was asked."""
    stage.data.write_bytes((SAMPLES / "gsm8k.jsonl").read_bytes())
    problems = [json.loads(line) for line in stage.data.read_bytes().splitlines()]
    result = stage.run_cli("--map", "instruction=question", "--auto-index", "line")
    assert result.returncode == 0, result.stderr
    assert merged_of(stage) == [
        {
            "index": str(number),
            "instruction": problem["question"],
            "input": "",
            "output": told(problem["question"]),
            "answer": problem["answer"],
        }
        for number, problem in enumerate(problems, 1)
    ]
    again = stage.run_cli("--map", "instruction=question", "--auto-index", "line")
    assert f"had an output before {len(problems)}" in again.stderr
    assert len(stage.simulator.journal.calls) == len(problems)


def test_a_template_is_needed_once(stage: Stage) -> None:
    """What it says is kept with the run; another one makes other rows, and that is told."""
    stage.data.write_bytes((SAMPLES / "gsm8k.jsonl").read_bytes())
    template = stage.folder / "prompt.j2"
    template.write_text(SOLVE, encoding="utf-8")
    words = ("--template", "prompt.j2", "--auto-index", "line", "--limit", "2")
    config = stage.config_file()
    run = ("run", stage.data, stage.output, "--config", config, *words)
    assert stage.cli(*run).returncode == 0
    template.write_text(SOLVE.replace("step by step", "at once"), encoding="utf-8")
    assert "2 rows (index 1, 2) changed since" in stage.cli(*run, "--limit", "1").stderr
    template.unlink()
    first, second, _ = merged_of(stage)
    assert first["messages"][0] == {
        "role": "system",
        "content": "Solve the problem at once. Write the number alone into the last line.",
    }
    assert first["messages"][1] == {"role": "user", "content": first["question"]}
    question = first["question"]
    system = "Solve the problem step by step. Write the number alone into the last line."
    assert first["output"] == told(question, system)
    assert second["answer"].endswith("#### 3")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "Solve:\n{{ qestion }}",
            'data.jsonl:1: prompt.j2:2: the row has no field "qestion"; did you mean "question"?',
        ),
        ("{{ ''.__class__.__mro__ }}", "prompt.j2:1: a template cannot reach __mro__"),
        (
            "{{ question['__class__'] }}",
            "data.jsonl:1: prompt.j2:1: access to attribute '__class__' of 'str' object is unsafe",
        ),
        ("{% for x in y", "prompt.j2:1: unexpected end of template"),
    ],
)
def test_a_mistake_in_a_template_costs_nothing(stage: Stage, template: str, said: str) -> None:
    """One line, before any call; no output is begun."""
    stage.data.write_bytes((SAMPLES / "gsm8k.jsonl").read_bytes())
    (stage.folder / "prompt.j2").write_text(template, encoding="utf-8")
    config = stage.config_file()
    words = ("--template", "prompt.j2", "--auto-index", "line", "--config", config)
    result = stage.cli("run", "data.jsonl", "output.jsonl", *words)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {said}")
    assert line.endswith("(and so for all 20 rows)") == said.startswith("data.jsonl")
    assert not stage.simulator.journal.calls
    assert not stage.output.exists()


def test_a_row_without_a_field_is_named(stage: Stage) -> None:
    """Among good rows, each with its line and the template's; they may be left out."""
    rows = [{"id": k, **({"q": f"{k}?"} if k != 2 else {"p": ""})} for k in range(5)]
    write_rows(stage.data, rows)
    (stage.folder / "prompt.j2").write_text("{{ q }}", encoding="utf-8")
    config = stage.config_file()
    words = ("--template", "prompt.j2", "--map", "index=id", "--config", config)
    result = stage.cli("run", "data.jsonl", "output.jsonl", *words)
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == (
        'data.jsonl:3: prompt.j2:1: the row has no field "q"; its fields are index, p'
    )
    result = stage.cli("run", "data.jsonl", "output.jsonl", *words, "--bad-rows", "skip")
    assert result.returncode == 1, "a row has no output"
    assert set(read_ledger(stage.output)) == {"0", "1", "3", "4"}


def test_a_mapped_index_is_kept_to(stage: Stage) -> None:
    """By other names all rows would be paid for again."""
    write_rows(stage.data, [{"id": k, "name": f"n{k}", "instruction": "Hi"} for k in range(2)])
    assert stage.run_cli("--map", "index=id").returncode == 0
    result = stage.run_cli("--map", "index=name")
    assert result.returncode == 2
    assert "from their field id (--map index=id), and not from their field name" in result.stderr


def test_a_system_message_from_a_file(stage: Stage) -> None:
    """As many prompts are kept; one that is not there is said at once."""
    write_rows(stage.data, [{"index": 0, "instruction": "Hi"}])
    (stage.folder / "system.txt").write_text("Be brief.\n", encoding="utf-8")
    config = stage.config_file()
    run = ("run", "data.jsonl", "output.jsonl", "--config", config, "--system")
    result = stage.cli(*run, "@none.txt")
    assert (result.returncode, result.stderr) == (
        2,
        "error: system none.txt: cannot be read (No such file or directory)\n",
    )
    assert stage.cli(*run, "@system.txt").returncode == 0
    assert read_ledger(stage.output) == {"0": told("Hi", "Be brief.")}
