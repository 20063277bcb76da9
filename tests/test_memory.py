"""Rows that are in memory: run, resumed, merged and looked at as a file's are."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import json
import types
from typing import TYPE_CHECKING, Any

import pytest
from support import Stage, expected, read_ledger, row, told, write_rows

from jsonl_runner import BadRowsError, ConfigError, Dataset, InputError, ParallelToolkit
from jsonl_runner.calllog import last_input
from jsonl_runner.estimate import estimate
from jsonl_runner.job import Job
from jsonl_runner.merge import merge
from jsonl_runner.preview import render
from jsonl_runner.report import gather
from jsonl_runner.runner import run
from jsonl_runner.status import status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROWS = [row(number) for number in range(5)]


def tool(stage: Stage, rows: Any, **options: Any) -> ParallelToolkit:
    """Return a quiet toolkit on rows."""
    given = {"quiet": True, "max_retries": 0, **options}
    return ParallelToolkit(stage.config_file(), rows, stage.output, **given)


def read(rows: Any, **options: Any) -> list[dict[str, Any]]:
    """Return rows as they are read."""
    with Dataset(rows, **options).open() as stream:
        return [json.loads(line) for line in stream]


class Again:
    """Rows that are made each time they are asked for."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._rows = rows
        self.times = 0

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        self.times += 1
        return map(types.MappingProxyType, iter(self._rows))


@pytest.mark.parametrize("kind", [list, tuple, collections.deque, Again])
def test_a_run_of_rows_in_memory(stage: Stage, kind: Any) -> None:
    """Whatever holds them: each has its answer, a rerun makes no call, and merge knows them."""
    toolkit = tool(stage, kind(ROWS))
    assert toolkit.run().done == 5
    want = {str(item["index"]): expected(item) for item in ROWS}
    assert read_ledger(stage.output) == want
    assert toolkit.run().skipped == 5
    assert len(stage.simulator.journal.calls) == 5
    merged = stage.folder / "merged.json"
    assert toolkit.merge(merged).written == 5
    assert {row["index"]: row["output"] for row in json.loads(merged.read_bytes())} == want


def test_a_run_that_goes_on(stage: Stage) -> None:
    """Rows that came since are asked alone; those that changed are told, and asked if wished."""
    tool(stage, ROWS[:3]).run()
    assert tool(stage, ROWS).run().done == 2
    assert len(stage.simulator.journal.calls) == 5
    changed = [row(0, "new"), *ROWS[1:]]
    assert tool(stage, changed).run().changed.examples == ["0"]
    assert tool(stage, changed, redo_changed=True).run().done == 1
    assert read_ledger(stage.output)["0"] == expected(changed[0])


def test_from_memory_to_a_file_and_back(stage: Stage) -> None:
    """The same rows in a file are the same rows: nothing is paid again; the log tells of both."""
    texts = [{"question": f"{k}?"} for k in range(4)]
    write_rows(stage.data, texts)
    recipe: dict[str, Any] = {"map": {"instruction": "question"}, "auto_index": "line"}
    assert run(stage.config(), Job(Dataset(texts, **recipe), stage.output, quiet=True)).done == 4
    seen = last_input(stage.output)
    assert seen is not None
    assert seen.dataset == {**recipe, "name_files": False, "memory": True}
    assert status(stage.data, stage.output).done == 4
    for data in (Dataset(stage.data, **recipe), Dataset(texts, **recipe)):
        assert run(stage.config(), Job(data, stage.output, quiet=True)).skipped == 4
    with pytest.raises(ConfigError, match=r"have their index from their line \(--auto-index\)"):
        run(stage.config(), Job(Dataset(texts, index_field="question"), stage.output, quiet=True))
    assert len(stage.simulator.journal.calls) == 4


def test_whoever_looks_at_rows_in_memory(stage: Stage) -> None:
    """Status, report, estimate, render and merge; how they were made is known from the log."""
    rows = [{"id": f"a{k}", "question": f"{k}?", "when": dt.date(2026, 1, k + 1)} for k in range(3)]
    dataset = Dataset(rows, index_field="id", template="{{ question }} Why?")
    assert tool(stage, dataset).run().done == 3
    assert read_ledger(stage.output)["a1"] == told("1? Why?")
    again = Dataset(rows)
    found = status(again, stage.output)
    assert (found.rows, found.done, found.left) == (3, 3, 0)
    assert gather(stage.output, again).rows.total == 3
    assert estimate(stage.config(), again, stage.output, output_tokens=9).rows == 3
    (shown, *_) = render(stage.config(), dataset)
    assert (shown.index, shown.where) == ("a0", "the rows given: row 1")
    merged = stage.folder / "merged.json"
    assert merge(again, stage.output, merged).written == 3
    (first, *_) = json.loads(merged.read_bytes())
    assert (first["index"], first["id"], first["when"]) == ("a0", "a0", "2026-01-01")
    assert (str(again), again.name) == ("the rows given", "the rows given")
    assert len(repr(Dataset([row(k) for k in range(9999)]))) < 1000


def test_indices_of_rows_in_memory(stage: Stage) -> None:
    """By line is the row's number, also after a place is gone back to; by content as of files."""
    rows = [{"instruction": f"{k}"} for k in range(3000)]
    assert [row["index"] for row in read(rows, auto_index="line")] == [*range(1, 3001)]
    write_rows(stage.data, rows[:2])
    assert read(rows[:2], auto_index="content") == read(stage.data, auto_index="content")
    with Dataset(rows, auto_index="line").open() as stream:
        lines = stream.readlines()
        stream.seek(len(b"".join(lines[:1500])))
        assert stream.readlines() == lines[1500:]


def test_several_answers_and_turns(stage: Stage) -> None:
    """Samples and conversations of rows in memory."""
    rows = [{"index": 1, "turns": ("One?", "Two?")}, {"index": 2, "instruction": "Hi"}]
    assert tool(stage, Dataset(rows, turns="turns", n=2)).run().done == 6
    assert sorted(read_ledger(stage.output)) == ["1#0@1", "1#0@2", "1#1@1", "1#1@2", "2#0", "2#1"]


def test_bad_rows_of_memory(stage: Stage) -> None:
    """Named by their number, before anything is paid; or left out."""
    circle: list[Any] = []
    circle.append(circle)
    rows: Any = [row(1), {"index": 2}, "text", row(4, tags={1, 2}), row(1), row(6, x=circle)]
    for data in (rows, Dataset(rows, system="Be brief.")):
        with pytest.raises(BadRowsError) as caught:
            tool(stage, data).run()
        assert str(caught.value).startswith("the rows given: 5 rows cannot be used; mend them")
        given = "the rows given: row"
        assert caught.value.rows[0].startswith(f'{given} 2: it has no "instruction"')
        assert caught.value.rows[1] == f"{given} 3: a row must be a mapping, not str"
        assert caught.value.rows[2].startswith(f"{given} 4: it cannot be written as JSON (")
        assert "set" in caught.value.rows[2]
        assert caught.value.rows[3] == f"{given} 5: index '1' stands in an earlier line already"
        assert caught.value.rows[4].startswith(f"{given} 6: it cannot be written as JSON (")
    assert stage.simulator.journal.calls == []
    assert tool(stage, rows, bad_rows="skip").run().done == 1
    with pytest.raises(InputError, match=r"^the rows given: no row in it can be used"):
        tool(stage, rows[1:2], bad_rows="skip").run()


def test_values_that_json_does_not_know() -> None:
    """They become what those of a Parquet file become; a row is what a file would hold of it."""
    values: dict[str, Any] = {
        "when": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "span": dt.timedelta(seconds=90),
        "price": decimal.Decimal("1.10"),
        "data": b"\0\1",
        "nothing": float("nan"),
        "long": 2**70,
        "pair": (1, 2),
        "half": "\ud83d",
        "numbers": array.array("i", [3, 4]),
    }
    want = {
        "when": "2026-01-02T03:04:05+00:00",
        "span": 90.0,
        "price": "1.10",
        "data": "AAE=",
        "nothing": None,
        "long": 2**70,
        "pair": [1, 2],
        "half": "\ufffd",
        "numbers": [3, 4],
    }
    for name, value in values.items():
        for system in (None, "x"):
            (found,) = read([{**row(1), name: value}], system=system)
            assert found[name] == want[name]
    assert values["pair"] == (1, 2), "what was given stays as it is"


def test_what_is_no_row_and_no_file() -> None:
    """A generator would be empty when the rows are asked; a format is a file's."""
    with pytest.raises(ConfigError, match=r"these can be read once only: give list\(rows\)"):
        Dataset(row for row in ROWS)
    with pytest.raises(ConfigError, match="format says what is in files; rows in memory have none"):
        Dataset(ROWS, format="csv")
    rows = Again(ROWS)
    Dataset(rows)
    assert rows.times == 1, "one look at the first row, no more"


def test_paths_from_a_generator(stage: Stage) -> None:
    """Files may come from whatever gives paths, as a folder's glob does."""
    write_rows(stage.data, ROWS)
    dataset = Dataset(stage.folder.glob("data.*"))
    assert dataset.given == (str(stage.data),)
    assert run(stage.config(), Job(dataset, stage.output, quiet=True)).done == 5
    assert dataset.with_recipe({}).paths() == [stage.data]


def test_tables_of_pandas(stage: Stage) -> None:
    """Whole numbers stay whole, and what is missing is null."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "index": range(2500),
            "instruction": [f"{k}" for k in range(2500)],
            "when": [pd.Timestamp(2026, 1, 1), *[pd.NaT] * 2499],
            "count": pd.array([1, None] * 1250, dtype="Int64"),
            "score": [0.5, None] * 1250,
        }
    )
    rows = read(frame, system="Be brief.")
    assert [row["index"] for row in rows] == [*range(2500)]
    assert [rows[0][name] for name in ("when", "count", "score")] == ["2026-01-01T00:00:00", 1, 0.5]
    assert [rows[1][name] for name in ("when", "count", "score")] == [None, None, None]
    assert tool(stage, frame[:3]).run().done == 3
    assert read(frame[:0]) == []


def test_values_of_numpy() -> None:
    """Its numbers are numbers, in an index too."""
    np = pytest.importorskip("numpy")
    given = {
        "id": np.int64(7),
        "x": np.float32(0.5),
        "y": np.array([[1, 2], [3, 4]]),
        "z": np.array(["a", "b"]),
        "yes": np.bool_(True),
        "u": np.array([1, 2, 3])[::2],
    }
    (found,) = read([given], index_field="id", system="x")
    assert found == {"index": 7, "id": 7, "x": 0.5, "y": [[1, 2], [3, 4]], "z": ["a", "b"],
                     "yes": True, "u": [1, 3]}  # fmt: skip


def test_tables_of_polars(stage: Stage) -> None:
    """Their rows, not their columns."""
    pl = pytest.importorskip("polars")
    days = [dt.date(2026, 1, 1)] * 2
    frame = pl.DataFrame({"index": [1, 2], "instruction": ["a", "b"], "when": days})
    assert read(frame)[1] == {"index": 2, "instruction": "b", "when": "2026-01-01"}
    assert tool(stage, frame).run().done == 2


def test_datasets_of_hugging_face(stage: Stage) -> None:
    """As the files that it saves: classes by their names, in whatever form rows are asked for."""
    hub = pytest.importorskip("datasets")
    features = hub.Features(
        {
            "index": hub.Value("int64"),
            "instruction": hub.Value("string"),
            "label": hub.ClassLabel(names=["bad", "good"]),
        }
    )
    content = {"index": [1, 2], "instruction": ["a", "b"], "label": [1, 0]}
    dataset = hub.Dataset.from_dict(content, features=features)
    want = [{"index": 1, "instruction": "a", "label": "good"},
            {"index": 2, "instruction": "b", "label": "bad"}]  # fmt: skip
    for given in (dataset, dataset.with_format("numpy"), dataset.to_iterable_dataset()):
        assert read(given) == want
    assert read(dataset.select([1])) == want[1:]
    assert read(dataset.rename_column("label", "tag"))[0]["tag"] == "good"
    assert tool(stage, dataset).run().done == 2
    with pytest.raises(ConfigError, match=r"take one \(dataset\['train'\]\)"):
        Dataset(hub.DatasetDict({"train": dataset}))
