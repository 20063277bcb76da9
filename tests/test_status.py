"""Where a dataset stands: the numbers of the ledger, the reasons of the call log."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support import row, write_rows

from jsonl_runner.calllog import path_for
from jsonl_runner.errors import InputError, LedgerError
from jsonl_runner.quality import Quality
from jsonl_runner.status import Status, status
from jsonl_runner.summary import Failure, Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from support import Stage

ROWS = [row(number) for number in range(6)]


def lay(folder: Path, ledger: str, *calls: dict[str, Any]) -> tuple[Path, Path]:
    """Write six rows, a ledger and its call log."""
    data, output = write_rows(folder / "data.jsonl", ROWS), folder / "output.jsonl"
    if ledger:
        output.write_text(ledger, encoding="utf-8")
    write_rows(path_for(output), calls)
    return data, output


def failed(index: str, code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"index": index, "status": "failed", "code": code, "message": message, **more}


def test_a_ledger_that_is_not_there_is_an_empty_one(tmp_path: Path) -> None:
    """Before the first run every row is left."""
    data, output = lay(tmp_path, "")
    assert status(data, output) == Status(rows=6, left=6)
    assert not output.exists()


def test_done_failed_and_left(tmp_path: Path) -> None:
    """An output is done, a null failed, neither is left; rows of other inputs count nowhere."""
    ledger = '{"0":"a"}\n{"1":null}\n{"2":null}\n{"2":"b"}\n{"3":"c"}\n{"3":null}\n{"x":null}\n'
    found = status(*lay(tmp_path, ledger))
    assert (found.rows, found.done, found.failed, found.left) == (6, 3, 1, 2)
    assert found.failures == {"unknown": Failure(1, "1", "the call log does not say")}
    assert (found.calls, found.cost) == (0, None)


def test_the_reasons_of_the_nulls(tmp_path: Path) -> None:
    """Each null under its last reason, the first of them as an example; not those of done rows."""
    calls = [
        failed("0", "timeout", "too slow"),
        failed("1", "timeout", "too slow"),
        failed("1", "empty_answer", "nothing came"),
        failed("2", "empty_answer", "nothing came"),
        failed("3", "refusal", "no"),
        {"index": "0", "status": "ok"},
    ]
    ledger = '{"0":"a"}\n{"1":null}\n{"2":null}\n{"3":null}\n{"4":null}\n'
    found = status(*lay(tmp_path, ledger, *calls))
    assert found.failures == {
        "empty_answer": Failure(2, "1", "nothing came"),
        "refusal": Failure(1, "3", "no"),
        "unknown": Failure(1, "4", "the call log does not say"),
    }


def test_calls_tokens_and_cost_of_all_runs(tmp_path: Path) -> None:
    """They add up over every entry, failed ones too; what is no number counts nothing."""
    usage = {"prompt_tokens": 10, "completion_tokens": 3}
    calls = [
        {"index": "0", "status": "ok", "attempts": 2, "usage": usage, "cost": 0.25},
        failed("1", "x", "y", attempts=3, usage=usage, cost=0.5),
        {"index": "0", "status": "ok", "attempts": 1, "usage": None, "cost": None},
        {"index": "0", "status": "ok", "attempts": "2", "usage": "x", "cost": "1"},
    ]
    found = status(*lay(tmp_path, '{"0":"a"}\n', *calls))
    assert (found.calls, found.tokens, found.cost) == (6, Tokens(20, 6), 0.75)


def test_bad_rows_and_damage_are_listed(tmp_path: Path) -> None:
    """Each with its file and line."""
    data, output = lay(tmp_path, '{"0":"a"}\n{"1":"br\n')
    with data.open("a", encoding="utf-8") as stream:
        stream.write('{"index": 9}\n')
    found = status(data, output)
    assert [line.partition(": ")[0] for line in found.bad_rows] == [f"{data}:7"]
    assert [line.partition(": ")[0] for line in found.damage] == [f"{output}:2"]
    assert (found.rows, found.done) == (6, 1)


def test_it_agrees_with_the_run(stage: Stage) -> None:
    """After a run with failures and changes: the run's numbers, as JSON too."""
    rows = [row(0), row(1), row(2, "[[fault:content_policy]]"), row(3, "[[fault:500*1]]")]
    summary = stage.run(rows)
    write_rows(stage.data, [row(0, "changed"), *rows[1:], row(4)])
    before = {path: path.read_bytes() for path in stage.folder.iterdir()}
    found = status(stage.data, stage.output)
    assert (found.rows, found.done, found.failed, found.left) == (5, 3, 1, 1)
    assert found.changed == 1
    assert found.failures == summary.failures
    assert found.tokens == summary.tokens
    assert found.calls == len(stage.simulator.journal.calls) == 4 + summary.retried
    assert json.loads(json.dumps(found.to_dict()))["failures"]["content_policy_violation"] == {
        "count": 1,
        "example": "2",
        "message": summary.failures["content_policy_violation"].message,
    }
    assert {path: path.read_bytes() for path in stage.folder.iterdir()} == before


def test_it_may_be_asked_while_a_run_writes(stage: Stage) -> None:
    """The lock keeps no reader out, and a line that is being written is no damage."""
    stage.run([row(0)])
    with stage.output.open("ab") as stream:
        stream.write(b'{"1":"being writ')
    (stage.folder / "output.jsonl.lock").write_text("process 1 on here\n", encoding="utf-8")
    found = status(stage.data, stage.output)
    assert found.quality.outputs == 1
    rest = replace(found, tokens=Tokens(), calls=0, quality=Quality())
    assert rest == Status(rows=1, done=1)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A missing input, a folder as ledger: errors that name them."""
    data, output = lay(tmp_path, '{"0":"a"}\n')
    with pytest.raises(InputError, match="there is no such file"):
        status(tmp_path / "none", output)
    with pytest.raises(LedgerError, match="cannot be read"):
        status(data, tmp_path)


def test_what_would_spoil_training_is_told_in_plain_words(stage: Stage) -> None:
    """By reason, with rows to look at; JSON has the whole of it."""
    outputs = ["fine", " ", "Sorry, but I cannot help with that.", "fine", "fine", "fi\x1b[1mne"]
    ledger = "".join(json.dumps({str(n): text}) + "\n" for n, text in enumerate(outputs))
    data, output = lay(stage.folder, ledger)
    result = stage.cli("status", str(data), str(output))
    assert result.returncode == 0
    first, *more = result.stdout.splitlines()[2:]
    assert first.startswith("would spoil training: 2 of 6 outputs (")
    assert more == [
        "  empty 1: nothing but white space; e.g. 1",
        "  refusal 1: the model refused, or its answer was filtered; e.g. 2",
        "most frequent output: fine (3 rows)",
    ]
    found = json.loads(stage.cli("status", str(data), str(output), "--json").stdout)["quality"]
    assert (found["outputs"], found["spoilt"]) == (6, 2)
    assert found["frequent"] == [{"text": "fine", "rows": 3}]
    assert found["findings"][0]["examples"] == [
        {"index": "1", "output": " ", "input": "Repeat. row 1"}
    ]
