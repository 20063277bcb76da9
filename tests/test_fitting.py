"""The first contact: one line proposes all that a dataset lacks, and what it proposes works."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from support import Stage, read_ledger, told, write_rows

from jsonl_runner import BadRowsError, Dataset, InputError, ParallelToolkit
from jsonl_runner.cli.main import cli
from jsonl_runner.fitting import what_is_missing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HUMAN, GPT = {"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}
SYSTEM = {"from": "system", "value": "Be kind."}
ASKED = {"role": "user", "content": "Hi?"}


def proposed(lack: str | None) -> list[str]:
    """Return the options that a message proposes."""
    found = re.search(r": add (.*?)( \(|, and|$)", lack or "")
    assert found is not None, lack
    return shlex.split(found[1])


def done(stage: Stage, words: Sequence[str], data: Path) -> dict[str, str | None]:
    """Type a run with these words; return its outputs."""
    config = str(stage.config_file())
    line = ["run", str(data), str(stage.output), "--config", config, "--quiet", *words]
    assert cli.main(line, standalone_mode=False) in (0, None)
    return read_ledger(stage.output)


@pytest.mark.parametrize(
    ("row", "words", "asked"),
    [
        ({"id": 7, "prompt": "Hi?"}, "--index-field id --map instruction=prompt", "Hi?"),
        ({"question": "Hi?", "answer": "Hello. " * 9},
         "--auto-index line --map instruction=question", "Hi?"),
        ({"Question": "Hi?", "uid": "a"}, "--index-field uid --map instruction=Question", "Hi?"),
        ({"task_id": "T/0", "prompt": "Hi?", "test": "assert 1 == 1, 'long'"},
         "--index-field task_id --map instruction=prompt", "Hi?"),
        ({"input": "Hi?", "output": "Hello, hello."},
         "--auto-index line --map instruction=input", "Hi?"),
        ({"index": 7, "label": "greeting", "aufgabe": "Hi?"}, "--map instruction=aufgabe", "Hi?"),
        ({"index": 1.5, "instruction": "Hi?"}, "--auto-index line", "Hi?"),
        ({"index": None, "ID": 7, "instruction": "Hi?"}, "--index-field ID", "Hi?"),
        ({"my key's": 1, "the prompt's text": "Hi?"},
         "--auto-index line --map 'instruction=the prompt'\"'\"'s text'", "Hi?"),
        ({"id": 7, "conversations": [HUMAN, GPT, HUMAN]},
         "--index-field id --map instruction=conversations.0.value", "Hi?"),
        ({"messages": [HUMAN, GPT]},
         "--auto-index line --map instruction=messages.0.value --map messages=", "Hi?"),
        ({"id": 7, "conversation": [ASKED]}, "--index-field id --map messages=conversation", "Hi?"),
        ({"id": 7, "prompt": [ASKED], "chosen": [ASKED, {"role": "assistant", "content": "No."}]},
         "--index-field id --map messages=prompt", "Hi?"),
        ({"instruction": [ASKED]}, "--auto-index line --map messages=instruction", "Hi?"),
        ({"question_id": 7, "category": "x", "turns": ["Hi?"]},
         "--index-field question_id --turns turns", "Hi?"),
    ],
)  # fmt: skip
def test_what_is_proposed_works(stage: Stage, row: dict[str, Any], words: str, asked: str) -> None:
    """Typed as it stands, it runs, and asks what is meant."""
    write_rows(stage.data, [row])
    with pytest.raises(BadRowsError) as caught:
        done(stage, [], stage.data)
    assert proposed(str(caught.value)) == shlex.split(words)
    assert words in str(caught.value), "quoted as a shell wants it"
    (output,) = done(stage, shlex.split(words), stage.data).values()
    assert output == told(asked)


def test_a_system_message_of_sharegpt(stage: Stage) -> None:
    """It stays the system message."""
    write_rows(stage.data, [{"id": 7, "conversations": [SYSTEM, HUMAN, GPT]}])
    words = proposed(what_is_missing(Dataset(stage.data)))
    assert done(stage, words, stage.data) == {"7": told("Hi?", "Be kind.")}


def test_every_command_proposes_it(stage: Stage) -> None:
    """One line, of all that is missing, by each command that a newcomer begins with."""
    write_rows(stage.data, [{"id": k, "prompt": f"{k}?"} for k in range(3)])
    line = (
        'data.jsonl:1: it has no "index" (a string or an integer that names the row) and no '
        '"instruction"; its fields are id, prompt: add --index-field id --map instruction=prompt'
    )
    config = stage.config_file().name
    for words, last in (
        (("run", "data.jsonl", "output.jsonl", "--config", config), " (and so for all 3 rows)"),
        (("estimate", "data.jsonl", "--output-tokens", "9"), " (and so for all 3 rows)"),
        (("render", "data.jsonl"), ""),
    ):
        result = stage.cli(*words)
        assert (result.returncode, result.stderr) == (2, f"error: {line}{last}\n")
    result = stage.cli("validate", "data.jsonl")
    assert result.returncode == 2
    assert result.stderr == line.replace(":1:", ":") + "\n"
    assert not stage.output.exists()
    assert stage.simulator.journal.calls == []


def test_a_field_that_does_not_name_each_row(stage: Stage) -> None:
    """An id that stands twice, in a later row too, or is missing in one, is not proposed."""
    rows = [{"id": k, "conversation_id": k // 2, "prompt": "x"} for k in range(3000)]
    write_rows(stage.data, rows)
    assert proposed(what_is_missing(Dataset(stage.data)))[:2] == ["--index-field", "id"]
    for spoilt in (7, None, "", 1.5):
        rows[-1]["id"] = spoilt
        write_rows(stage.data, rows)
        assert proposed(what_is_missing(Dataset(stage.data)))[:2] == ["--auto-index", "line"]


def test_a_few_rows_without_a_question(stage: Stage) -> None:
    """They are bad rows by any name, and no reason to propose nothing."""
    rows: list[dict[str, Any]] = [{"id": k, "prompt": "x"} for k in range(100)]
    rows[50]["prompt"] = None
    write_rows(stage.data, rows)
    words = proposed(what_is_missing(Dataset(stage.data)))
    assert words == ["--index-field", "id", "--map", "instruction=prompt"]
    with pytest.raises(BadRowsError, match="1 row cannot be used; mend them"):
        done(stage, words, stage.data)


def test_what_was_said_already_is_not_proposed(stage: Stage) -> None:
    """The rest alone, and it goes together with it."""
    write_rows(stage.data, [{"id": 7, "question": "Hi?", "context": "Well, well, well."}])
    for said, words in (
        ({"index_field": "id"}, "--map instruction=question"),
        ({"auto_index": "line", "map": {"input": "question"}}, "--map instruction=context"),
        ({"map": {"instruction": "question"}}, "--index-field id"),
        ({"template": "{{ question }}"}, "--index-field id"),
    ):
        assert proposed(what_is_missing(Dataset(stage.data, **said))) == words.split()


def test_nothing_that_would_be_refused_is_proposed(stage: Stage) -> None:
    """Where no field looks like a question, a template is told of, and no map."""
    write_rows(stage.data, [{"id": k, "score": 1, "answer": "x"} for k in range(2)])
    with pytest.raises(BadRowsError, match=r"add --index-field id, and write a --template FILE"):
        done(stage, [], stage.data)
    lack = what_is_missing(Dataset(stage.data, index_field="id")) or ""
    assert lack.endswith(": write a --template FILE that makes a question of them")
    for rows in ([{"index": 1, "instruction": 5}], [{"index": 1, "instruction": "x", "input": 5}],
                 [{"index": 1, "instruction": "x", "params": 1}]):  # fmt: skip
        write_rows(stage.data, rows)
        assert "--map" not in (what_is_missing(Dataset(stage.data)) or "")
    write_rows(stage.data, [{"id": 7, "prompt": "x", "input": 5}])
    assert what_is_missing(Dataset(stage.data)) is None, "another mistake than a name"
    stage.data.write_text('{"id": 7,\n', encoding="utf-8")
    assert what_is_missing(Dataset(stage.data)) is None


def test_a_byte_order_mark_is_no_part_of_the_first_row(stage: Stage) -> None:
    """Windows writes one, and a file of one row has all of it there."""
    stage.data.write_text('{"id": 7, "prompt": "Hi?"}', encoding="utf-8-sig")
    words = proposed(what_is_missing(Dataset(stage.data)))
    assert done(stage, words, stage.data) == {"7": told("Hi?")}


def test_files_that_are_called_alike(stage: Stage) -> None:
    """Their lines would be called alike too: the content is proposed."""
    for name in ("a", "b"):
        (stage.folder / name).mkdir()
        write_rows(stage.folder / name / "d.jsonl", [{"prompt": name}])
    dataset = Dataset([stage.folder / "a" / "d.jsonl", stage.folder / "b" / "d.jsonl"])
    assert proposed(what_is_missing(dataset)) == ["--auto-index", "content", "--map",
                                                  "instruction=prompt"]  # fmt: skip


def test_rows_in_memory_are_told_in_python(stage: Stage) -> None:
    """What is proposed can be written down as it stands."""
    rows = [{"id": k, "prompt": f"{k}?"} for k in range(3)]
    with pytest.raises(InputError) as caught:
        ParallelToolkit(stage.config_file(), rows, stage.output, quiet=True).run()
    written = """Dataset(rows, index_field='id', map={'instruction': 'prompt'})"""
    assert str(caught.value) == (
        'the rows given: row 1: it has no "index" (a string or an integer that names the row) and '
        f'no "instruction"; its fields are id, prompt: write {written} (and so for all 3 rows)'
    )
    again = Dataset(rows, index_field="id", map={"instruction": "prompt"})
    assert ParallelToolkit(stage.config_file(), again, stage.output, quiet=True).run().done == 3


def test_a_pipe_tells_both_of_its_first_row(stage: Stage) -> None:
    """It cannot be read again; so nothing is tried, and what a row lacks is told in one line."""
    words = ("run", "-", "output.jsonl", "--config", stage.config_file().name)
    result = stage.cli(*words, input=json.dumps({"id": 7, "prompt": "Hi?"}) + "\n")
    assert result.returncode == 2
    assert "--index-field NAME takes another field, --auto-index line" in result.stderr
    assert "its fields are id, prompt: --map instruction=prompt takes one" in result.stderr
