"""Experiments: every combination once, under a name of its own, with what its model takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner.errors import ConfigError, InputError
from jsonl_runner.grid import load
from jsonl_runner.rows import parse_row

if TYPE_CHECKING:
    from support import Stage

SAMPLE = Path(__file__).parent.parent / "data" / "samples" / "experiment.yaml"


def rows_of(folder: Path, **data: Any) -> list[dict[str, Any]]:
    path = folder / "e.json"
    path.write_text(json.dumps({"models": ["m"], **data}), encoding="utf-8")
    return list(load(path).rows())


def test_every_combination_once(tmp_path: Path) -> None:
    """Text by text, with persona, model and trial; each row is one that `run` takes."""
    rows = rows_of(
        tmp_path,
        personas={"a": "Be kind.", "b": ""},
        models=["m", {"name": "n", "model": "o/n"}],
        trials=2,
        texts={"t": "Hi"},
    )
    assert [item["index"] for item in rows] == [
        f"p{persona}_{model}_n{trial}_t" for persona in "ab" for model in "mn" for trial in (1, 2)
    ]
    assert rows[0] == {
        "index": "pa_m_n1_t",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
        ],
        "params": {"model": "m", "seed": 1},
        "persona": "a",
        "model": "m",
        "trial": 1,
        "text": "t",
    }
    assert rows[6]["messages"] == [{"role": "user", "content": "Hi"}]
    assert rows[6]["params"]["model"] == "o/n"
    for item in rows:
        assert parse_row(json.dumps(item).encode())["index"] == item["index"]


def test_models_that_take_no_temperature_get_none(tmp_path: Path) -> None:
    """The known families, and those the file says so of; a model's own parameters are sent."""
    models: list[Any] = [
        "gpt-4.1", "o3", "o4-mini", "openai/o1-preview", "gpt-5-mini", "gpt-5-chat-latest", "o4tel",
        {"name": "mine", "sampling": False},
        {"name": "gpt-5.1", "sampling": True},
        {"name": "own", "params": {"temperature": 0.1, "top_k": 3}},
        {"name": "o3-own", "model": "o3", "params": {"temperature": 1}},
    ]  # fmt: skip
    rows = rows_of(tmp_path, models=models, params={"temperature": 0.7, "stop": "x"}, texts=["a"])
    found = {item["model"]: item["params"].get("temperature") for item in rows}
    assert found == {
        "gpt-4.1": 0.7, "o3": None, "o4-mini": None, "openai/o1-preview": None, "gpt-5-mini": None,
        "gpt-5-chat-latest": 0.7, "o4tel": 0.7, "mine": None, "gpt-5.1": 0.7, "own": 0.1,
        "o3-own": 1,
    }  # fmt: skip
    assert all(item["params"]["stop"] == "x" for item in rows)


@pytest.mark.parametrize(
    ("more", "seeds"),
    [
        ({}, [None]),
        ({"trials": 3}, [1, 2, 3]),
        ({"trials": 2, "seeds": False}, [None, None]),
        ({"trials": 2, "seeds": [7, 9]}, [7, 9]),
        ({"trials": 1, "seeds": [7]}, [7]),
    ],
)
def test_trials_have_seeds(tmp_path: Path, more: dict[str, Any], seeds: list[int | None]) -> None:
    """So that no two trials are one request; a single one needs none."""
    rows = rows_of(tmp_path, texts=["a"], **more)
    assert [item["params"].get("seed") for item in rows] == seeds


def test_templates(tmp_path: Path) -> None:
    """Fields by name, with a format; braces written twice are braces; a text's own are text."""
    rows = rows_of(
        tmp_path,
        index="{text}-{trial:03}",
        template='{{"x"}} {text} by {persona} in {text_name}',
        personas=["P"],
        texts=[{"name": "n", "text": "{persona} {0}"}],
    )
    assert rows[0]["index"] == "n-001"
    assert rows[0]["messages"][1]["content"] == '{"x"} {persona} {0} by 1 in n'


def test_texts_from_a_file_of_rows(tmp_path: Path) -> None:
    """Index and texts of each; what cannot be used is named."""
    (tmp_path / "t.jsonl").write_text(
        '{"index": 7, "instruction": "Do", "input": "it"}\n{"index": "b", "instruction": "x"}\n',
        encoding="utf-8",
    )
    rows = rows_of(tmp_path, texts_file="t.jsonl")
    assert [(item["text"], item["messages"][0]["content"]) for item in rows] == [
        ("7", "Do\n\nit"),
        ("b", "x"),
    ]
    (tmp_path / "t.jsonl").write_text('{"index": 7}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r't\.jsonl:1: it has no "instruction"'):
        rows_of(tmp_path, texts_file="t.jsonl")
    (tmp_path / "t.jsonl").write_text('{"index": 7, "messages": [{"role": "user"}]}\n')
    with pytest.raises(InputError, match="row 7: messages cannot be a text"):
        rows_of(tmp_path, texts_file="t.jsonl")


def test_texts_from_lines_and_from_files(tmp_path: Path) -> None:
    """A text a line (blank ones are none), or a file each, named by its path."""
    (tmp_path / "t.txt").write_bytes("one\u2028x\r\n\ntwo".encode())
    rows = rows_of(tmp_path, texts_file="t.txt")
    assert [(item["text"], item["messages"][0]["content"]) for item in rows] == [
        ("1", "one\u2028x"),
        ("3", "two"),
    ]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.md").write_text("B", encoding="utf-8")
    (tmp_path / "sub" / "a.md").write_text("A", encoding="utf-8")
    rows = rows_of(tmp_path, texts_glob="**/*.md")
    assert [(item["text"], item["messages"][0]["content"]) for item in rows] == [
        ("sub/a", "A"),
        ("sub/b", "B"),
    ]
    (tmp_path / "t.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(InputError, match=r"t\.txt:2: not UTF-8"):
        rows_of(tmp_path, texts_file="t.txt")
    with pytest.raises(InputError, match="no such file"):
        rows_of(tmp_path, texts_file="none.txt")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"modells": []}, "'modells' is not known here; known are index, personas"),
        ({"models": []}, "models: must be a list"),
        ({"models": "gpt-4.1"}, "models: must be a list"),
        ({"models": ["m", "m"]}, "'m' stands twice"),
        ({"models": [{}]}, r"models\[1\]: None cannot be a name"),
        ({"models": [True]}, r"models\[1\]: True cannot be a name"),
        ({"models": [{"name": "m", "temp": 1}]}, r"models\[1\]: 'temp' is not known"),
        ({"models": [{"name": "m", "params": {"stream": True}}]}, "cannot hold stream"),
        ({"models": [{"name": "m", "sampling": "no"}]}, "sampling: must be true or false"),
        (
            {"models": [{"name": "m", "sampling": False, "params": {"top_p": 1}}]},
            "top_p is given, and sampling is false",
        ),
        ({"params": []}, "params must be an object"),
        ({"trials": 0}, "trials: must be a whole number"),
        ({"trials": True}, "trials: must be a whole number"),
        ({"seeds": "x"}, "seeds: must be true, false or a list"),
        ({"trials": 2, "seeds": [1, 1]}, "2 different ones"),
        ({"personas": []}, "personas: must be texts"),
        ({"personas": {"a": 1}}, "personas: a: must be a text"),
        ({"personas": [{"name": "a", "system": "x"}, {"name": "a", "system": "y"}]}, "twice"),
        ({"personas": [{"nam": "a"}]}, r"personas\[1\]: 'nam' is not known"),
        ({"texts": {}}, "texts: must be texts"),
        ({"texts": ["a"], "texts_glob": "*"}, "give one of texts, texts_file, texts_glob"),
        ({"texts": None}, "give one of texts"),
        ({"texts": None, "texts_glob": "*.none"}, "no file is called"),
        ({"texts": None, "texts_glob": "/x/*"}, "must be relative"),
        ({"texts": None, "texts_file": 3}, "texts_file: must be a text"),
        ({"template": "{txt}"}, r"template: \{txt\} is not known here; known are \{persona\}"),
        ({"template": "{text.__class__}"}, "is not known here"),
        ({"template": "{text!r}"}, "is not known here"),
        ({"template": "{}"}, "is not known here"),
        ({"template": "{text:{trial}}"}, "is not known here"),
        ({"template": "{text:d}"}, "template: Unknown format code"),
        ({"template": "a } b"}, "template: .*brace of the text is written twice"),
        ({"template": 3}, "template: must be a text"),
        ({"index": "{text_name}"}, r"index: \{text_name\} is not known"),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path: Path, data: dict[str, Any], says: str) -> None:
    """With the file and the field."""
    with pytest.raises(ConfigError, match=says) as caught:
        rows_of(tmp_path, **{"texts": ["a"], **data})
    assert str(caught.value).startswith(str(tmp_path / "e.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        {"index": "x"},
        {"index": "{text}", "trials": 2},
        {"personas": {"a": "", "a_m": ""}, "models": ["m_m", "m"]},
    ],
)
def test_two_rows_with_one_index_are_refused_first(tmp_path: Path, data: dict[str, Any]) -> None:
    """Before the first row comes."""
    path = tmp_path / "e.json"
    path.write_text(json.dumps({"models": ["m"], "texts": ["a", "b"], **data}), encoding="utf-8")
    with pytest.raises(ConfigError, match="gives two rows the index"):
        next(load(path).rows())


NAMES = st.lists(st.text("abc_{}", min_size=1, max_size=4), min_size=1, max_size=3, unique=True)


@given(NAMES, NAMES, NAMES, st.integers(1, 3))
def test_the_product_is_whole(
    tmp_path_factory: pytest.TempPathFactory,
    personas: list[str],
    models: list[str],
    texts: list[str],
    trials: int,
) -> None:
    """For every experiment with an index that tells its rows apart: the whole product."""
    rows = rows_of(
        tmp_path_factory.getbasetemp(),
        index="{persona}|{model}|{trial}|{text}",
        personas=dict.fromkeys(personas, "s"),
        models=models,
        texts=dict.fromkeys(texts, "t"),
        trials=trials,
    )
    assert len(rows) == len(personas) * len(models) * len(texts) * trials
    assert len({item["index"] for item in rows}) == len(rows)


def test_the_sample(stage: Stage) -> None:
    """Into requests for each model, or into rows that `run` takes; nothing if indices clash."""
    told = stage.cli("requests", "--grid", SAMPLE, "-o", "r.jsonl")
    assert told.returncode == 0, told.stderr
    counts = [
        len((stage.folder / name).read_bytes().splitlines())
        for name in ("r.0001.jsonl", "r.0002.jsonl")
    ]
    assert counts == [12, 12]
    told = stage.cli("requests", "--grid", SAMPLE, "--rows-only", "-o", "rows.jsonl", "--json")
    assert json.loads(told.stdout)["rows"] == 24
    assert stage.cli("validate", "rows.jsonl").returncode == 0
    clash = stage.folder / "e.yaml"
    clash.write_text("models: [m]\ntexts: [a, b]\nindex: x\n", encoding="utf-8")
    for words in ((), ("--rows-only",)):
        told = stage.cli("requests", "--grid", clash, "-o", "x.jsonl", *words)
        assert told.returncode == 2
        assert "gives two rows the index 'x'" in told.stderr
        assert not (stage.folder / "x.jsonl").exists()
