"""Rows of every kind of file: what is read is what stands there, and what is wrong is named."""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import decimal
import gzip
import io
import json
import lzma
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pyarrow.feather import write_feather

from jsonl_runner import ConfigError, Dataset, InputError
from jsonl_runner.cli import inputs
from jsonl_runner.dataset import FORMATS
from jsonl_runner.reader import GroupReader, RowReader, open_input
from jsonl_runner.records import BadRow
from jsonl_runner.rows import MAX_ROW_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

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


def zipped(name: str) -> bytes:
    """Return an archive with a file of that name."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(name, b"")
    return whole.getvalue()


def tarred(name: str) -> bytes:
    """Return an archive with a file of that name."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return whole.getvalue()


#: What stands in place of a file that Git LFS has not fetched.
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n"
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


GOOD = b'{"index": 1, "instruction": "x"}\n'
ARRAY = b'[\n{"index": 1, "instruction": "x"},\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.csv", b"", "d.csv: the file is empty; it needs a header and a row a line"),
        ("d.csv", b"index,,b\n", "d.csv:1: column 2 has no name in the header, which is the first"),
        ("d.csv", b"\nindex,b,b\n", "d.csv:2: the header names two columns 'b'; rename one"),
        ("d.csv", b'index,"b\nc', "d.csv:1: the header: a quote in it is not closed, and the"),
        ("d.csv", "index,b\n1,é\n".encode("utf-16"), "d.csv: not UTF-8; it looks like UTF-16: "),
        (
            "d.csv",
            "index,b\n1,é\n".encode("latin-1"),
            ("d.csv:2: not UTF-8; it looks like Windows-1252: convert the file first "
            "(iconv -f Windows-1252 -t UTF-8 FILE > NEW)"),
        ),
        ("d.csv", "index,b\n1,请翻译\n".encode("gb18030"), "d.csv:2: not UTF-8; it looks like GB1"),
        ("d.json", b"", "d.json: the file is empty; it needs a JSON array of rows"),
        ("d.json", b"7", "d.json:1: this is no JSON document: it begins with neither [ nor {"),
        ("d.json", b'{"a":\n 1}', "d.json:2: there is no array in this object; rows are"),
        ("d.json", b'{"a":\n[{}], "b": [7]}', 'd.json:2: "a" and "b" are both arrays: which has'),
        ("d.json", ARRAY + b'{"index"', "d.json:3: the document is cut off within item 2"),
        ("d.json", ARRAY + b'{"index": 2}', "d.json:3: a comma or ] should stand here"),
        ("d.json", ARRAY + b"{'index': 2}]", "d.json:3: item 2: not JSON (Expecting property name"),
        ("d.json", ARRAY + b'{"index": 2}] 7', "d.json:3: something stands behind the end of the"),
        ("d.json", '[{"a": "é"}]'.encode("latin-1"), "d.json:1: not UTF-8; it looks like Windows"),
        ("d.json", '[{"a": "é"}]'.encode("utf-16"), "d.json: not UTF-8; it looks like UTF-16: "),
        ("d.jsonl", ARRAY, "d.jsonl: this is a JSON array, not JSONL; say so (--input-format"),
        ("d.jsonl.gz", GOOD, "d.jsonl.gz: this is no gzip data, although its name ends in .gz"),
        (
            "d.jsonl.gz",
            gzip.compress(GOOD, mtime=0)[:-9],
            "d.jsonl.gz: the gzip data is cut off before its end; get the file again",
        ),
        (
            "d.jsonl.gz",
            gzip.compress(GOOD, mtime=0) + b"rest",
            "d.jsonl.gz: the gzip data is damaged (",
        ),
        (
            "d.jsonl.zst",
            zstandard.compress(GOOD)[:-5],
            "d.jsonl.zst: the zstd data is cut off before its end; get the file again",
        ),
        ("d.jsonl.zst", zstandard.compress(GOOD) + b"r", "d.jsonl.zst: the zstd data is damaged ("),
        ("d.parquet", b"PAR1 and more", "d.parquet: cannot be read as Parquet behind row 0 ("),
        ("d.arrow", b"nothing of the kind", "d.arrow: cannot be read as Arrow behind row 0 ("),
        ("d.jsonl", zipped("d.jsonl"), "d.jsonl: this is a ZIP archive: unpack it (unzip FILE)"),
        ("d.csv", zipped("d.csv"), "d.csv: this is a ZIP archive: "),
        ("d.csv", zipped("xl/workbook.xml"), "d.csv: this is an Excel workbook: save the sheet"),
        ("d.tar", tarred("d.jsonl"), "d.tar: this is a tar archive: unpack it (tar -xf FILE)"),
        ("d.tgz", gzip.compress(tarred("d.jsonl"), mtime=0), "d.tgz: this is a tar archive: "),
        ("d.json", bz2.compress(GOOD), "d.json: this is packed with bzip2: unpack it first ("),
        ("d.xz", lzma.compress(GOOD), "d.xz: this is packed with xz: unpack it first (unxz FILE)"),
        ("d.parquet", POINTER, "d.parquet: this is a pointer of Git LFS, and not the file: get"),
        ("d.jsonl", POINTER, "d.jsonl: this is a pointer of Git LFS, and not the file: get it ("),
        ("d.calls.jsonl", b'{"run":{"size":1}}\n', "d.calls.jsonl: this is the call log of a run"),
        ("d.jsonl.index", b"jsonl-runner index file 1\n\0", "d.jsonl.index: this is the index"),
        ("d.jsonl", GOOD.decode().encode("utf-16"), "d.jsonl: not UTF-8; it looks like UTF-16: "),
        ("d.jsonl", GOOD.decode().encode("utf-16-le"), "d.jsonl: not UTF-8; it looks like UTF-16L"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    """One line says which file, where in it, what is wrong and what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(name)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "content",
    [
        b"index;instruction\n1;a, b\n",
        b"index\tinstruction\n1\ta, b\n",
        b"index|instruction\n1|a, b\n",
        b'index;"instruction"\n1;"a, b"\n',
        b'index,"instruction"\n1,"a, b"\n',
        b"sep=;\r\nindex;instruction\r\n1;a, b\r\n",
        b'\xef\xbb\xbfsep=,\nindex,instruction\n1,"a, b"\n',
        b'index , instruction\n1,"a, b"\n',
    ],
)
def test_whatever_parts_the_cells(tmp_path: Path, content: bytes) -> None:
    """It is seen in the header, or said by the line that Excel takes; names have no blanks."""
    path = tmp_path / "d.csv"
    path.write_bytes(content)
    assert rows_of(path) == [{"index": "1", "instruction": "a, b"}]
    quoted = tmp_path / "e.csv"
    quoted.write_bytes(b'index;"a, b";instruction\n1;x;y\n')
    assert rows_of(quoted) == [{"index": "1", "a, b": "x", "instruction": "y"}]


@pytest.mark.parametrize("name", ["d.feather", "d.arrow", "d.data", "d.jsonl"])
def test_an_arrow_file_by_any_name(tmp_path: Path, name: str) -> None:
    """Feather is Arrow; and a file that begins as one is one, whatever it is called."""
    write_feather(pa.Table.from_pylist(some(3)), str(tmp_path / name))
    assert rows_of(tmp_path / name) == some(3)


@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.jsonl.gz"])
def test_half_an_emoji_in_an_input(tmp_path: Path, name: str) -> None:
    """It becomes U+FFFD, as in an answer, and the row around it can be used."""
    line = b'{"index": 12345678901234567890, "instruction": "a\\ud83d b", "n": "\\ud83d\\ude00"}'
    content = {"d.json": b"[" + line + b"]", "d.jsonl.gz": gzip.compress(line)}.get(name, line)
    (tmp_path / name).write_bytes(content)
    rows, bad = read(tmp_path / name)
    assert not bad
    assert [(row["instruction"], row["n"]) for row in rows] == [("a\ufffd b", "\U0001f600")]


@pytest.mark.parametrize(
    ("name", "content", "bad"),
    [
        (
            "d.csv",
            b"index,instruction\n1,a\n2\n3,c,d\n\n4,\"two\nlines\"\n5,\"quo\"te\"\n6,f\n7,n\0l\n8,\"open\n9,i\n",
            [
                "d.csv:3: it has 1 cell where the header has 2",
                "d.csv:4: it has 3 cells where the header has 2",
                ("d.csv:8: not CSV (',' expected after '\"'): a quote inside of a quoted cell is "
                'written twice ("")'),
                "d.csv:10: there is a NUL byte in it, which no text has",
                "d.csv:11: a quote in it is not closed, and the lines below cannot be told from it",
            ],
        ),
        (
            "d.json",
            b'[{"index": 1, "instruction": "x"}, 7, {"index": 3, "a": NaN}, {"index": 4}]',
            [
                "d.json: item 2: not a JSON object but the number 7",
                "d.json: item 3: NaN and Infinity are no JSON; write null",
                "d.json: item 4: it has no \"instruction\"",
            ],
        ),
        (
            "d.jsonl.gz",
            gzip.compress(GOOD + b"\n{bad}\n") + gzip.compress(GOOD + b"[]"),
            [
                ("d.jsonl.gz:3: not JSON (unexpected character, expected a string key: line 1 "
                "column 2 (char 1)): {bad}"),
                "d.jsonl.gz:4: index '1' stands in an earlier line already",
                "d.jsonl.gz:5: not a JSON object but an empty list",
            ],
        ),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, bad: list[str]
) -> None:
    """The line is the one an editor shows; where there are none, the row's or item's number."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert read(name)[1] == bad


def test_lines_are_those_of_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of several files of several kinds are named by their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"index": 1, "instruction": "x"}\n\n7')
    (tmp_path / "b.csv").write_bytes(b'index,instruction\r\n2,"a\r\nb"\r\n,c\r\n')
    write_parquet(tmp_path / "c.parquet", [{"index": 3, "instruction": None}])
    good, bad = read(Dataset(["a.jsonl", "b.csv", "c.parquet"]))
    assert [row["index"] for row in good] == ["1", "2"]
    assert good[1]["instruction"] == "a\r\nb"
    assert bad == [
        "a.jsonl:3: not a JSON object but the number 7",
        'b.csv:4: "index" is empty',
        'c.parquet: row 1: it has no "instruction"',
    ]


def test_an_endless_row_is_one_bad_row(tmp_path: Path) -> None:
    """Neither a line nor a quote that never ends fills the memory, and rows before it are read."""
    long = b"x" * (MAX_ROW_BYTES + 10)
    (tmp_path / "a.csv").write_bytes(b'index,instruction\n1,a\n2,"' + long + b"\n3,c\n")
    (tmp_path / "b.jsonl").write_bytes(b'{"index": 8, "instruction": "b"}\n' + long + b"\n7\n")
    good, bad = read(Dataset([tmp_path / "a.csv", tmp_path / "b.jsonl"]))
    assert [row["index"] for row in good] == ["1", "8"]
    assert [text[len(str(tmp_path)) + 1 :] for text in bad] == [
        (
            "a.csv:3: the row is longer than 16 MiB: a quote in it is not closed, and the lines "
            "below cannot be told from it"
        ),
        "b.jsonl:2: the line is longer than 16 MiB",
        "b.jsonl:3: not a JSON object but the number 7",
    ]


def test_what_json_has_no_word_for_is_written_plainly(tmp_path: Path) -> None:
    """Times, decimals, bytes and missing numbers of a table, as the documentation says."""
    zone = dt.timezone(dt.timedelta(hours=2))
    nanoseconds = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
    table = pa.table(
        {
            "index": ["1"],
            "instruction": ["x"],
            "time": [dt.datetime(2024, 5, 1, 12, 30, tzinfo=zone)],
            "day": [dt.date(2024, 5, 1)],
            "exact": [decimal.Decimal("0.10")],
            "raw": [b"\xff\x00"],
            "missing": [float("nan")],
            "took": [dt.timedelta(seconds=90)],
            "ns": nanoseconds,
            "deep": pa.array([[{"t": 1_700_000_000_000_000_001}]], pa.list_(
                pa.struct([("t", pa.timestamp("ns"))]))),
            "big": pa.array([2**64 - 1], pa.uint64()),
        }
    )  # fmt: skip
    parquet.write_table(table, tmp_path / "d.parquet")
    (row,) = rows_of(tmp_path / "d.parquet")
    assert dt.datetime.fromisoformat(row["time"]) == dt.datetime(2024, 5, 1, 12, 30, tzinfo=zone)
    assert {
        name: row[name] for name in ("day", "exact", "raw", "missing", "took", "ns", "big")
    } == {
        "day": "2024-05-01",
        "exact": "0.10",
        "raw": "/wA=",
        "missing": None,
        "took": 90.0,
        "ns": "2023-11-14T22:13:20.123456",
        "big": 2**64 - 1,
    }
    assert row["deep"] == [{"t": "2023-11-14T22:13:20"}]


def test_indices_of_a_field(tmp_path: Path) -> None:
    """A nested field, numbers as they are, and what cannot name a row."""
    rows: Rows = [
        {"meta": {"id": "007"}, "instruction": "x", "index": "old"},
        {"meta": {"id": 7}, "instruction": "x"},
        {"meta": {"id": 7.0}, "instruction": "x"},
        {"meta": {}, "instruction": "x"},
        {"meta": {"id": ""}, "instruction": "x"},
    ]
    path = tmp_path / "d.jsonl"
    path.write_bytes(jsonl(rows))
    good, bad = read(Dataset(path, index_field="meta.id"))
    assert [(row["index"], row.get("source_index")) for row in good] == [
        ("007", "old"),
        ("7", None),
    ]
    assert [text.partition(": ")[2] for text in bad] == [
        'its "meta.id" must be a string or an integer, not the number 7.0',
        'it has no "meta.id" to be its index; its fields are meta, instruction',
        'its "meta.id" is empty, and cannot be its index',
    ]


def test_a_row_without_an_index_is_told_of_both_ways(tmp_path: Path) -> None:
    """The first thing that people with a dataset of their own meet."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"instruction": "x"}\n')
    assert read(path)[1] == [
        (
            f'{path}:1: it has no "index" (a string or an integer that names the row): '
            "--index-field NAME takes another field, --auto-index line or content makes one"
        )
    ]


def test_folders(tmp_path: Path) -> None:
    """Shards of one set are read in order; of several sets one has to be named."""
    folder = tmp_path / "hub"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("text", encoding="utf-8")
    (folder / "dataset_infos.json").write_text("{}", encoding="utf-8")
    for number in (2, 0, 10):
        name = f"train-{number:05}-of-00011.parquet"
        write_parquet(folder / "data" / name, some(1, number))
    assert [row["index"] for row in rows_of(folder)] == ["0", "2", "10"]
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", some(1))
    with pytest.raises(InputError) as caught:
        rows_of(folder)
    assert str(caught.value) == (
        f"{folder}: this is a directory with several sets of rows: name one of "
        f"'{folder}/data/test*.parquet', '{folder}/data/train*.parquet'"
    )
    assert len(rows_of(str(folder / "data" / "train*.parquet"))) == 3
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "dataset_dict.json").write_text('{"splits": ["train", "test"]}', encoding="utf-8")
    with pytest.raises(InputError) as caught:
        rows_of(saved)
    assert str(caught.value) == (
        f"{saved}: this dataset has splits (train, test): name one, as {saved}/train"
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"files": "no*.jsonl"}, InputError, "no*.jsonl: no file fits this pattern; check it"),
        ({"files": ["a.jsonl", "./a.jsonl"]}, InputError, "a.jsonl: this file is given twice"),
        ({"files": ["a.jsonl", "b.jsonl"]}, InputError, "b.jsonl: there is no such file; "),
        (
            {"files": ["a.jsonl", "c/a.jsonl"], "auto_index": "line"},
            InputError,
            ("c/a.jsonl: its rows would be called as those of a.jsonl, by the file's name and the "
            "line; take --auto-index content, or --index-field NAME"),
        ),
        ({"files": "-", "format": "parquet"}, InputError, "standard input: parquet cannot be "),
        ({"files": ()}, ConfigError, "a dataset needs a file"),
        ({"files": ["-", "a.jsonl"]}, ConfigError, "- (standard input) is read alone, without"),
        ({"files": "a.jsonl", "format": "xml"}, ConfigError, "format 'xml' is not known; say "),
        ({"files": "a.jsonl", "auto_index": "x"}, ConfigError, "auto_index must be line or "),
        (
            {"files": "a.jsonl", "auto_index": "line", "index_field": "id"},
            ConfigError,
            "index_field and auto_index both give rows their index: give one",
        ),
    ],
)  # fmt: skip
def test_a_dataset_that_cannot_be_meant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """Each mistake is said before a row is read."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "c/a.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(GOOD)
    with pytest.raises(error) as caught:
        Dataset(**arguments).open(io.BytesIO()).close()
    assert str(caught.value).startswith(message)


def test_the_command_line_knows_the_formats() -> None:
    """Its own list of them, which spares `--help` an import, is the library's."""
    assert FORMATS == inputs.FORMATS


def test_a_missing_package_is_said_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet without pyarrow, as after a plain installation."""
    path = write_parquet(tmp_path / "d.parquet", some(1))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError) as caught:
        open_input(path)
    assert str(caught.value) == (
        f"{path}: Parquet files need the package pyarrow: pip install 'jsonl-runner[data]'"
    )
