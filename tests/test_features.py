"""Columns that `datasets` knows more of: a class is its name, a picture can be sent."""

from __future__ import annotations

import base64
import json
import random
import tracemalloc
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pytest
from pyarrow import parquet

from jsonl_runner import Dataset, InputError
from jsonl_runner.reader import RowReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
CLASS = {"names": ["bad", "good"], "_type": "ClassLabel"}
TEXT = {"dtype": "string", "_type": "Value"}
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(
    values: list[Any], kind: Any, feature: Any, *, says: Literal["schema", "file"] = "schema"
) -> pa.Table:
    """Return a table as `datasets` writes it; its schema tells of the columns, or does not."""
    schema = pa.schema([("index", pa.string()), ("instruction", pa.string()), ("x", kind)])
    if says == "schema":
        features = {"index": TEXT, "instruction": TEXT, "x": feature}
        info = json.dumps({"info": {"features": features}})
        schema = schema.with_metadata({"huggingface": info})
    rows = [
        {"index": str(number), "instruction": "Do.", "x": value}
        for number, value in enumerate(values)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def as_parquet(folder: Path, content: pa.Table) -> Path:
    parquet.write_table(content, folder / "d.parquet")
    return folder / "d.parquet"


def as_arrow(folder: Path, content: pa.Table, **features: Any) -> Path:
    """Write a table as `save_to_disk` does."""
    path = str(folder / "data-0.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content)
    state = {"_data_files": [{"filename": "data-0.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}), encoding="utf-8")
    return folder


def cells(path: Path, **options: Any) -> list[Any]:
    with Dataset(path, **options).open() as stream:
        return [json.loads(line).get("x") for line in stream]


@pytest.mark.parametrize("write", [as_parquet, as_arrow])
def test_a_class_is_its_name(tmp_path: Path, write: Callable[[Path, pa.Table], Path]) -> None:
    """-1 stands for none; a number that no name belongs to stays, and nothing is lost."""
    path = write(tmp_path, table([0, 1, -1, None, 7], pa.int64(), CLASS))
    assert cells(path) == ["bad", "good", None, None, 7]


def test_a_class_in_a_prompt(tmp_path: Path) -> None:
    """A map and a template have the name."""
    path = as_parquet(tmp_path, table([0, 1], pa.int64(), CLASS))
    for options in ({"map": {"instruction": "x"}}, {"template": "{{ x }}"}):
        with Dataset(path, **options).open() as stream:
            rows = [json.loads(line) for line in stream]
        told = [row.get("messages", [{"content": row["instruction"]}])[0] for row in rows]
        assert [message["content"] for message in told] == ["bad", "good"]


@pytest.mark.parametrize(
    ("kind", "feature", "value", "want"),
    [
        (pa.list_(pa.int64()), {"feature": CLASS, "_type": "List"}, [0, 1], ["bad", "good"]),
        (pa.list_(pa.int64()), {"feature": CLASS, "_type": "Sequence"}, [1, -1], ["good", None]),
        (pa.list_(pa.int64()), [CLASS], [1], ["good"]),
        (pa.struct([("y", pa.int64())]), {"y": CLASS}, {"y": 0}, {"y": "bad"}),
        (
            pa.struct([("y", pa.list_(pa.int64())), ("z", pa.int64())]),
            {"feature": {"y": CLASS, "z": {"dtype": "int64", "_type": "Value"}},
             "_type": "Sequence"},
            {"y": [0, 1], "z": 5},
            {"y": ["bad", "good"], "z": 5},
        ),
        (
            pa.list_(pa.struct([("y", pa.int64())])),
            {"feature": {"y": CLASS}, "_type": "List"},
            [{"y": 1}, None],
            [{"y": "good"}, None],
        ),
        (PICTURE, {"_type": "Image"}, {"bytes": PNG, "path": "a.png"}, URL),
        (PICTURE, {"_type": "Image"}, {"bytes": None, "path": "a.png"}, "a.png"),
        (pa.list_(PICTURE), {"feature": {"_type": "Image"}, "_type": "List"},
         [{"bytes": PNG, "path": None}], [URL]),
        (pa.list_(pa.string()), {"feature": {"_type": "Json"}, "_type": "List"},
         ['{"role":"user"}', "5", "no", None], [{"role": "user"}, 5, "no", None]),
        (pa.string(), {"_type": "Json", "decode": False}, "5", "5"),
        (pa.int64(), {"num_classes": 2, "_type": "ClassLabel"}, 1, 1),
        (pa.int64(), {"dtype": "int64", "_type": "Value"}, 1, 1),
        (pa.int64(), "nonsense", 1, 1),
    ],
    ids=["list", "sequence", "old list", "object", "list of objects, once", "list of objects",
         "picture", "path", "pictures", "JSON", "JSON as it is", "no names", "number", "nonsense"],
)  # fmt: skip
def test_wherever_it_stands(tmp_path: Path, kind: Any, feature: Any, value: Any, want: Any) -> None:
    """In lists and objects, as each generation of `datasets` wrote them."""
    assert cells(as_parquet(tmp_path, table([value], kind, feature))) == [want]


def test_what_the_folder_tells(tmp_path: Path) -> None:
    """Where the schema says nothing, dataset_info.json beside it does."""
    content = table([1], pa.int64(), CLASS, says="file")
    assert cells(as_arrow(tmp_path, content, x=CLASS)) == ["good"]
    assert cells(as_arrow(tmp_path, content)) == [1]


@pytest.mark.parametrize("info", [b"{", b"[]", b'{"info": 5}', b'{"info": {"features": []}}'])
def test_metadata_of_somebody_else(tmp_path: Path, info: bytes) -> None:
    """What cannot be understood is no reason not to read the table."""
    content = table([1], pa.int64(), CLASS)
    content = content.replace_schema_metadata({"huggingface": info})
    assert cells(as_parquet(tmp_path, content)) == [1]


def test_a_column_of_pictures_is_sent(tmp_path: Path) -> None:
    """A column called `image` is a row's image, without another word."""
    content = table([{"bytes": PNG, "path": None}], PICTURE, {"_type": "Image"})
    path = as_parquet(tmp_path, content.rename_columns(["index", "instruction", "image"]))
    features = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
    renamed = parquet.read_table(path).replace_schema_metadata({"huggingface": features})
    with Dataset(as_parquet(tmp_path, renamed)).open() as stream:
        (row,) = RowReader(stream, "d.parquet").rows()
    assert isinstance(row, dict)
    assert row["image"] == URL


@pytest.mark.parametrize("write", [as_parquet, as_arrow])
def test_rows_with_pictures_come_few_at_a_time(
    tmp_path: Path, write: Callable[[Path, pa.Table], Path]
) -> None:
    """As many as have some megabytes together: a thousand photographs would fill the memory."""
    one = PNG + random.Random(7).randbytes(2**21)
    values = [{"bytes": one + bytes([number]), "path": None} for number in range(40)]
    path = write(tmp_path, table(values, PICTURE, {"_type": "Image"}))
    del values
    tracemalloc.start()
    with Dataset(path).open() as stream:
        assert sum(1 for _ in stream) == 40
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20  # all of them are 80 MiB as bytes, and 107 MiB as base64


def test_maps_are_objects(tmp_path: Path) -> None:
    """With a key twice, a map stays the list of pairs that it is: no object can hold it."""
    kind = pa.map_(pa.string(), pa.list_(pa.map_(pa.int64(), pa.timestamp("ns"))))
    schema = pa.schema([("index", pa.int64()), ("x", kind)])
    when: list[Any] = [[("a", [[(1, 0)]])], None, [("a", []), ("a", None)]]
    arrays = [pa.array([1, 2, 3]), pa.array(when, kind)]
    path = as_parquet(tmp_path, pa.Table.from_arrays(arrays, schema=schema))
    assert cells(path) == [
        {"a": [{"1": "1970-01-01T00:00:00"}]}, None, [["a", []], ["a", None]],
    ]  # fmt: skip


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    """No row can hold both, and none is dropped in silence."""
    content = table([1], pa.int64(), CLASS).rename_columns(["index", "x", "x"])
    with pytest.raises(InputError, match="two columns are called 'x'; rename one"):
        cells(as_parquet(tmp_path, content))
