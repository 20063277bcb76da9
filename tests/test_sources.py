"""Rows of every kind of file: what is read is what stands there, and what is wrong is named."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from jsonl_runner import Dataset
from jsonl_runner.reader import GroupReader, RowReader, open_input
from jsonl_runner.records import BadRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pytest

    from jsonl_runner.dataset import Data

Rows = list[dict[str, Any]]


def rows_of(data: Data) -> Rows:
    """Return the rows, every one of which must be good, read in both ways."""
    found, bad = read(data)
    assert bad == []
    return found


def read(data: Data) -> tuple[Rows, list[str]]:
    """Return the good rows, and what is said of the others; both ways of reading must agree."""
    with open_input(data) as stream:
        one_by_one = list(RowReader(stream, str(data)).rows())
    good = [row for row in one_by_one if not isinstance(row, BadRow)]
    bad = [str(row) for row in one_by_one if isinstance(row, BadRow)]
    with open_input(data) as stream:
        groups = list(GroupReader(stream, str(data)).groups())
        many = [{**row, "index": str(row["index"])} for group in groups for row in group.rows or ()]
        assert many == good
        assert [str(row) for group in groups for row in group.bad] == bad
    return good, bad


def jsonl(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def csv_text(rows: Rows, delimiter: str = ",", end: str = "\n") -> bytes:
    names = list(rows[0])
    out = io.StringIO(newline="")
    # A lone \r is quoted by the latter alone.
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL
    writer = csv.DictWriter(out, names, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def write_parquet(path: Path, rows: Rows, **options: Any) -> Path:
    parquet.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def save_to_disk(folder: Path, shards: list[Rows]) -> Path:
    """Write rows as `datasets.Dataset.save_to_disk` does."""
    folder.mkdir()
    names = [f"data-{k:05}-of-{len(shards):05}.arrow" for k in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(
            sink, table.schema
        ) as writer:  # fmt: skip
            writer.write_table(table, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / "dataset_info.json").write_text("{}", encoding="utf-8")
    return folder


def some(count: int, first: int = 1) -> Rows:
    return [{"index": str(k), "instruction": f"Do {k}"} for k in range(first, first + count)]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
TABLES_OF_TEXTS = st.lists(
    st.fixed_dictionaries({"instruction": TEXTS.filter(str.strip), "a b": TEXTS, "ü,": TEXTS}),
    min_size=1,
    max_size=12,
).map(lambda rows: [{"index": f"i{k}", **row} for k, row in enumerate(rows)])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
}


@settings(max_examples=30, deadline=None)
@given(rows=TABLES_OF_TEXTS, packing=st.sampled_from(sorted(PACKERS)))
def test_every_format_has_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, packing: str
) -> None:
    """For every rows of texts: each format, packed or not, gives back what JSONL does."""
    folder = tmp_path_factory.mktemp("formats")
    contents = {
        "d.jsonl": jsonl(rows),
        "d.json": json.dumps(rows).encode(),
        "e.json": json.dumps({"version": [], "data": rows, "n": 1}, indent=1).encode(),
        "d.csv": csv_text(rows),
        "e.csv": b"\xef\xbb\xbf" + csv_text(rows, end="\r\n"),
        "d.tsv": csv_text(rows, "\t"),
    }
    for name, content in contents.items():
        path = folder / (name + packing)
        path.write_bytes(PACKERS[packing](content))
        assert rows_of(path) == rows, name
    assert rows_of(write_parquet(folder / "d.parquet", rows, row_group_size=3)) == rows
    assert rows_of(save_to_disk(folder / "saved", [rows, some(3)])) == rows + some(3)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(VALUES, min_size=1, max_size=8),
    step=st.integers(1, 40),
    is_object=st.booleans(),
)
def test_every_json_value_comes_through_an_array(
    values: list[Any],
    step: int,
    is_object: bool,  # noqa: FBT001  # hypothesis gives it
) -> None:
    """For every values and however they drip in: the items of an array are the lines of JSONL."""
    rows = [{"index": str(k), "instruction": "x", "v": v} for k, v in enumerate(values)]
    document: Any = {"a": {"b": [1]}, "rows": rows} if is_object else rows
    text = json.dumps(document, ensure_ascii=False).encode()
    dataset = Dataset("-", format="json")
    with dataset.open(io.BufferedReader(Dripping(text, step), 1)) as stream:
        found = list(RowReader(stream, "-").rows())
    assert found == rows


class Dripping(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = data, step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._data[: min(self._step, len(buffer))]
        self._data = self._data[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.lists(st.integers(0, 3), max_size=8), min_size=1, max_size=4),
    places=st.lists(st.integers(0, 400), max_size=6),
    how=st.sampled_from([{}, {"auto_index": "line"}, {"auto_index": "content"}]),
)
def test_a_stream_of_rows_can_be_read_from_anywhere(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[list[int]],
    places: list[int],
    how: dict[str, Any],
) -> None:
    """For every files and places: what is read there is what a reader from the start meets."""
    folder = tmp_path_factory.mktemp("seek")
    for number, values in enumerate(parts):
        rows = [{"instruction": "x" * value} for value in values]
        (folder / f"{number}.jsonl").write_bytes(jsonl(rows)[: -1 if number % 2 else None])
    dataset = Dataset(str(folder / "*.jsonl"), **how)
    with dataset.open() as stream:
        whole = stream.read()
        assert stream.seek(0, io.SEEK_END) == len(whole)
        for place in places:
            assert stream.seek(place) == min(place, len(whole))
            assert stream.read(50) == whole[place : place + 50]
            assert stream.tell() == min(place + 50, len(whole))
