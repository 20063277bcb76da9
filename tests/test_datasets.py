"""Datasets of any kind through the commands: run, resumed, merged, with what is wrong said."""

from __future__ import annotations

import gzip
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from support import Stage, read_ledger, until, write_rows
from test_sources import csv_text, jsonl, save_to_disk, some, write_parquet

from jsonl_runner import (
    BadRowsError,
    ConfigError,
    Dataset,
    InputError,
    LedgerError,
    ParallelToolkit,
)
from jsonl_runner.calllog import last_input
from jsonl_runner.compact import compact
from jsonl_runner.estimate import estimate
from jsonl_runner.job import Job
from jsonl_runner.merge import merge
from jsonl_runner.report import gather
from jsonl_runner.runner import run
from jsonl_runner.status import status

if TYPE_CHECKING:
    from jsonl_runner.dataset import Data


def do(stage: Stage, data: Data, **job: Any) -> int:
    """Run a dataset; return how many calls were made."""
    before = len(stage.simulator.journal.calls)
    run(stage.config(), Job(data, stage.output, quiet=True, **job))
    return len(stage.simulator.journal.calls) - before


def unnamed(*texts: str) -> list[dict[str, Any]]:
    """Return rows without an index."""
    return [{"instruction": "Repeat.", "input": text} for text in texts]


def test_every_command_takes_a_recorded_recipe(stage: Stage) -> None:
    """What `run` was told of a dataset, merge, status, report and compact need not be told."""
    data = stage.folder / "people.csv"
    data.write_bytes(csv_text([{"id": f"00{k}", "instruction": "Repeat.", "input": f"{k}"}
                               for k in range(5)]))  # fmt: skip
    assert do(stage, Dataset(data, index_field="id")) == 5
    assert last_input(stage.output).dataset == {"index_field": "id"}  # type: ignore[union-attr]
    assert sorted(read_ledger(stage.output)) == ["000", "001", "002", "003", "004"]
    found = status(data, stage.output)
    assert (found.rows, found.done, found.left, found.changed) == (5, 5, 0, 0)
    merged = stage.folder / "merged.json"
    assert merge(data, stage.output, merged).written == 5
    first = json.loads(merged.read_bytes())[0]
    assert (first["index"], first["id"]) == ("000", "000")
    assert gather(stage.output, data).rows.total == 5
    assert estimate(stage.config(), data, stage.output).to_do == 0
    text = data.rename(stage.folder / "people.txt")
    assert status(Dataset(text, format="csv"), stage.output).done == 5
    assert status(Dataset(text, format="csv", auto_index="content"), stage.output).done == 0
    data = text.rename(data)
    compact(stage.output, data)
    assert list(read_ledger(stage.output)) == ["000", "001", "002", "003", "004"]


def test_reordered_and_appended_rows_by_content_cost_only_the_new_ones(stage: Stage) -> None:
    """With indices made of the content, rows may move and be repeated; new ones alone are paid."""
    data = stage.folder / "d.jsonl"
    dataset = Dataset(data, auto_index="content")
    data.write_bytes(jsonl(unnamed("a", "b", "c", "b")))
    assert do(stage, dataset) == 4
    before = read_ledger(stage.output)
    assert sum(index.endswith("-2") for index in before) == 1
    data.write_bytes(jsonl(unnamed("new", "b", "c", "b", "a", "b")))
    assert do(stage, dataset) == 2  # one is new, one is there a third time
    assert set(before.items()) < set(read_ledger(stage.output).items())
    assert do(stage, dataset) == 0


def test_another_name_for_the_rows_of_a_ledger_is_refused(stage: Stage) -> None:
    """Rows that are called otherwise would all be paid for again."""
    data = write_rows(stage.data, [{"id": k, **row} for k, row in enumerate(unnamed("a", "b"))])
    assert do(stage, Dataset(data, index_field="id")) == 2
    with pytest.raises(ConfigError) as caught:
        do(stage, Dataset(data, auto_index="line"))
    assert str(caught.value) == (
        f"{stage.output}: its rows have their index from their field id (--index-field), and not "
        "from their line (--auto-index): by other names they would all be paid for again; say it "
        "as before, or name another output"
    )
    assert do(stage, Dataset(data, index_field="id")) == 0


def test_a_line_is_an_index_with_its_file_where_there_may_be_several(stage: Stage) -> None:
    """A second shard changes no name, since a pattern's rows always bear their file's."""
    shards = stage.folder / "shards"
    shards.mkdir()
    (shards / "s-2.jsonl.gz").write_bytes(gzip.compress(jsonl(unnamed("a", "b"))))
    dataset = Dataset(str(shards / "s-*.jsonl*"), auto_index="line")
    assert do(stage, dataset) == 2
    (shards / "s-10.jsonl").write_bytes(jsonl(unnamed("c")))
    assert do(stage, dataset) == 1
    names = ["s-10.jsonl:1", "s-2.jsonl.gz:1", "s-2.jsonl.gz:2"]
    assert sorted(read_ledger(stage.output)) == names
    merged = stage.folder / "m.jsonl"
    merge(str(shards / "s-*.jsonl*"), stage.output, merged)
    lines = merged.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["input"] for line in lines] == ["a", "b", "c"]


def test_changed_rows_are_noticed_in_any_format(stage: Stage) -> None:
    """The content of a row in a table is compared as that of a line is."""
    data = stage.folder / "d.parquet"
    rows = [{"key": k, "instruction": "Repeat.", "input": f"{k}"} for k in range(4)]
    dataset = Dataset(data, index_field="key")
    write_parquet(data, rows)
    assert do(stage, dataset) == 4
    rows[2]["input"] = "another"
    write_parquet(data, rows)
    assert status(data, stage.output).changed == 1
    assert do(stage, dataset, redo_changed=True) == 1


def test_a_dataset_saved_to_disk_runs(stage: Stage) -> None:
    """The Arrow files of `datasets` are read without that package."""
    folder = save_to_disk(stage.folder / "saved", [some(3), some(2, 4)])
    assert do(stage, folder) == 5
    toolkit = ParallelToolkit(
        None, Dataset(folder), stage.output, quiet=True,
        api_base=stage.simulator.base_url, api_keys=["sk-test-aaaaaaaaaaaaaaaa0001"],
    )  # fmt: skip
    assert toolkit.run().skipped == 5
    assert toolkit.merge(stage.folder / "merged.json").written == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.jsonl", jsonl(some(2))),
        ("b.jsonl", jsonl([{"text": "one"}, {"text": "two"}])),
        ("b.jsonl", jsonl([{"messages": [{"role": "user", "content": "x"}]}])),
        ("b.jsonl.gz", gzip.compress(jsonl(some(20)))),
        ("b.csv", csv_text(some(3))),
    ],
)
def test_an_output_that_is_a_dataset_is_refused(stage: Stage, name: str, content: bytes) -> None:
    """`run a.jsonl b.jsonl` without an OUTPUT must not write into the last input."""
    write_rows(stage.data, some(2))
    other = stage.folder / name
    other.write_bytes(content)
    files = sorted(stage.folder.iterdir())
    with pytest.raises(LedgerError, match="this file is no ledger; are input and output swapped, "):
        run(stage.config(), Job(stage.data, other, quiet=True))
    assert other.read_bytes() == content
    assert sorted(stage.folder.iterdir()) == files
    assert stage.simulator.journal.calls == []


def test_an_output_among_the_inputs_is_refused(stage: Stage) -> None:
    """Also where a pattern would fit it once it is there."""
    write_rows(stage.folder / "a.jsonl", some(2))
    for data in (str(stage.folder / "*.jsonl"), stage.folder):
        with pytest.raises(InputError, match="input and output are the same file"):
            run(stage.config(), Job(data, stage.output, quiet=True))
    assert not stage.output.exists()


def test_rows_come_through_a_pipe_one_by_one(stage: Stage) -> None:
    """A row of a CSV file is asked before the next one is written."""
    config = stage.config_file()
    command = stage.command(
        "run", "-", stage.output, "--config", config, "--input-format", "csv",
        "--index-field", "id", "--threads", "1",
    )  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=stage.folder
    )
    assert process.stdin is not None
    process.stdin.write(b"id,instruction,input\r\n")
    for number in range(3):
        process.stdin.write(f'{number},Repeat.,"two\nlines {number}"\r\n'.encode())
        process.stdin.flush()
        until(lambda number=number: len(stage.simulator.journal.calls) == number + 1)  # type: ignore[misc]
    process.stdin.close()
    assert process.wait(30) == 0
    assert len(read_ledger(stage.output)) == 3


def test_commands_take_several_files_and_patterns(stage: Stage) -> None:
    """From shell words to training data."""
    a, b, config = "a.jsonl.gz", "b.jsonl.gz", stage.config_file()
    for name, rows in ((a, some(2)), (b, some(2, 3))):
        (stage.folder / name).write_bytes(gzip.compress(jsonl(rows)))
    assert stage.cli("validate", a, b).returncode == 0
    done = stage.cli("run", a, b, "output.jsonl", "--config", config)
    assert (done.returncode, len(read_ledger(stage.output))) == (0, 4)
    assert f"merge {a} {b} output.jsonl merged.json" in done.stderr
    assert "done 4" in stage.cli("status", "?.jsonl.gz", "output.jsonl").stdout
    told = stage.cli("estimate", a, b, "output.jsonl", "--model", "gpt-4.1-mini").stdout
    assert told.startswith(f"{a} and 1 other file: 0 rows to do, 4 have an output")
    assert stage.cli("merge", a, b, "output.jsonl", "merged.json").returncode == 0
    assert len(json.loads((stage.folder / "merged.json").read_bytes())) == 4


def test_a_forgotten_argument_is_named(stage: Stage) -> None:
    """DATA takes what the others leave; so the last one is what is missing."""
    for words, last in (
        (["run", "a"], "OUTPUT"),
        (["merge", "a", "b"], "MERGED"),
        (["validate"], "DATA"),
    ):
        done = stage.cli(*words)
        assert done.returncode == 2
        assert f"Missing argument '{last}'" in done.stderr


def test_bad_rows_of_several_files_are_counted_together(stage: Stage) -> None:
    """The error does not put them all down to one file."""
    for name in ("a.csv", "b.csv", "c.csv"):
        (stage.folder / name).write_bytes(csv_text(some(2)) + b"x\n")
    with pytest.raises(
        BadRowsError, match=r"a\.csv and 2 other files: \d rows cannot be used"
    ) as bad:
        do(stage, str(stage.folder / "?.csv"))
    assert bad.value.rows[0] == f"{stage.folder}/a.csv:4: it has 1 cell where the header has 2"
    assert stage.simulator.journal.calls == []


def test_batches_take_any_dataset_and_remember_how(stage: Stage) -> None:
    """What was sent in batches is merged without a word on how its rows were made."""
    (stage.folder / "d.csv").write_bytes(csv_text([{"instruction": "Say", "input": "a\nb"}]))
    words = ("d.csv", "output.jsonl", "--auto-index", "content", "--simulate")
    done = stage.cli("batch", "run", *words, "--model", "gpt-4.1-mini")
    assert done.returncode == 0, done.stderr
    done = stage.cli("merge", "d.csv", "output.jsonl", "merged.json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads((stage.folder / "merged.json").read_bytes())) == 1
