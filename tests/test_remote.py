"""Inputs and merged files elsewhere: in fsspec's own memory, and on a server of this machine."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import expected, read_ledger, row, write_rows

from jsonl_runner.errors import BadRowsError, ConfigError, InputError, LedgerError
from jsonl_runner.job import Job
from jsonl_runner.ledger import Ledger
from jsonl_runner.merge import merge
from jsonl_runner.remote import name_of, opened, url_of
from jsonl_runner.runner import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Stage

fsspec = pytest.importorskip("fsspec")

ROWS = [row(number) for number in range(20)]


@pytest.fixture
def memory() -> Iterator[Any]:
    """The file system that fsspec has in memory, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL that it is served at, without ranges."""
    pytest.importorskip("aiohttp")
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def write_ledger(path: Path) -> Path:
    path.write_text("".join(f'{{"{n}":"answer {n}"}}\n' for n in range(20)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("s3://bucket/a/b.jsonl", "s3://bucket/a/b.jsonl"),
        (Path("s3://bucket/a/b.jsonl"), "s3://bucket/a/b.jsonl"),
        (Path("memory://b.jsonl"), "memory://b.jsonl"),
        ("C:/data/b.jsonl", None),
        ("c://data", None),
        ("/data/s3://b", None),
        ("data.jsonl", None),
    ],
)
def test_a_url_is_known_however_it_came(place: str | Path, url: str | None) -> None:
    """A text, or the path that pathlib made of it; a drive is none."""
    assert url_of(place) == url


def test_a_folder_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a folder `s3:` means that."""
    monkeypatch.chdir(tmp_path)
    if os.name != "nt":
        Path("s3:").mkdir()
        assert url_of("s3://bucket/x") is None


def test_no_secret_of_a_url_is_told() -> None:
    """Neither login nor the signature in a query."""
    assert name_of("https://me:word@host/a?Signature=secret") == "https://…@host/a"


def test_merge_into_an_object_store(stage: Stage, memory: Any) -> None:
    """The file is the same as one here; its parts stand beside it."""
    write_rows(stage.data, ROWS)
    ledger = write_ledger(stage.output)
    merge(stage.data, ledger, stage.folder / "here.jsonl")
    merge(stage.data, ledger, Path("memory://bucket/out/merged.jsonl"))
    assert memory.cat("/bucket/out/merged.jsonl") == (stage.folder / "here.jsonl").read_bytes()
    result = stage.cli("merge", stage.data, ledger, "https://example.org/m.jsonl")
    assert result.returncode == 4
    assert "for reading only" in result.stderr
    merge(
        stage.data,
        ledger,
        Path("memory://bucket/parts/m.jsonl"),
        split={"train": 0.5, "test": 0.5},
    )
    names = [Path(name).name for name in memory.ls("/bucket/parts", detail=False)]
    assert sorted(names) == ["m.test.jsonl", "m.train.jsonl"]


def test_a_failed_merge_sends_nothing(stage: Stage, memory: Any) -> None:
    """What stood at the URL stays."""
    write_rows(stage.data, ROWS)
    with stage.data.open("a", encoding="utf-8") as stream:
        stream.write("{broken\n")
    memory.pipe("/bucket/merged.jsonl", b"old")
    with pytest.raises(BadRowsError):
        merge(stage.data, write_ledger(stage.output), Path("memory://bucket/merged.jsonl"))
    assert memory.cat("/bucket/merged.jsonl") == b"old"
    assert memory.find("/") == ["/bucket/merged.jsonl"]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("memory://full/x.jsonl", "cannot be written"),
        ("nowhere://bucket/x.jsonl", "no protocol nowhere://"),
        ("s3://bucket/x.jsonl", "pip install 's3fs'"),
    ],
)
def test_a_url_that_cannot_be_written_is_one_line(
    stage: Stage, memory: Any, target: str, says: str
) -> None:
    """Which names what is missing."""
    if "s3fs" in says and _is_installed("s3fs"):
        pytest.skip("s3fs is installed")
    write_rows(stage.data, ROWS)
    memory.pipe("/full", b"a file where a folder is wanted")
    with pytest.raises((InputError, LedgerError, ConfigError), match=says) as caught:
        merge(stage.data, write_ledger(stage.output), Path(target))
    assert "\n" not in str(caught.value)


def _is_installed(module: str) -> bool:
    import importlib.util  # noqa: PLC0415

    return importlib.util.find_spec(module) is not None


def test_a_ledger_elsewhere_is_refused(stage: Stage) -> None:
    """Object stores cannot append: said before anything is read or paid."""
    write_rows(stage.data, ROWS)
    result = stage.cli("run", stage.data, "s3://bucket/out.jsonl", "--config", stage.config_file())
    assert result.returncode == 4
    assert result.stderr.splitlines()[-1].startswith("error: s3://bucket/out.jsonl: a run appends")
    assert stage.simulator.journal.calls == []
    with pytest.raises(LedgerError, match=r"memory://out\.jsonl: a run appends"):
        Ledger(Path("memory://out.jsonl"))


def test_a_file_elsewhere_is_read_and_read_again(memory: Any) -> None:
    """It can go back, and errors name it."""
    content = "".join(json.dumps(item) + "\n" for item in ROWS).encode()
    memory.pipe("/bucket/data.jsonl", content)
    with opened("memory://bucket/data.jsonl") as stream:
        assert stream.seekable()
        assert stream.read() == content
        stream.seek(10)
        assert stream.readline() == content[10 : content.index(b"\n") + 1]
    with pytest.raises(InputError, match="memory://bucket/none: there is no such file"):
        opened("memory://bucket/none")


def rows_in_memory(memory: Any, name: str, kind: str, rows: list[dict[str, Any]]) -> str:
    """Put rows into a file in memory; return its URL."""
    lines = "".join(json.dumps(item) + "\n" for item in rows).encode()
    if kind == "jsonl.gz":
        lines = gzip.compress(lines)
    elif kind == "json":
        lines = json.dumps(rows).encode()
    elif kind == "csv":
        cells = [f"{item['index']},{item['instruction']},{item['input']}" for item in rows]
        lines = "\n".join(["index,instruction,input", *cells]).encode()
    elif kind in ("parquet", "arrow"):
        lines = table_of(kind, rows)
    memory.pipe(f"/bucket/{name}.{kind}", lines)
    return f"memory://bucket/{name}.{kind}"


def table_of(kind: str, rows: list[dict[str, Any]]) -> bytes:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet  # noqa: PLC0415

    table, stream = arrow.Table.from_pylist(rows), io.BytesIO()
    if kind == "parquet":
        pyarrow.parquet.write_table(table, stream)
    else:
        with arrow.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "csv", "parquet", "arrow"])
def test_a_run_over_rows_elsewhere(stage: Stage, memory: Any, kind: str) -> None:
    """They are rows like others, and a rerun does what is left."""
    url = rows_in_memory(memory, "data", kind, ROWS[:10])
    job = Job(url, stage.output, quiet=True)
    assert run(stage.config(), job).done == 10
    rows_in_memory(memory, "data", kind, ROWS)
    summary = run(stage.config(), job)
    assert (summary.skipped, summary.done, summary.exit_code) == (10, 10, 0)
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in ROWS}


def test_a_pattern_elsewhere(stage: Stage, memory: Any) -> None:
    """All files it fits, in the order of their names; none is an error in one line."""
    for number in (10, 2, 1):
        rows_in_memory(memory, f"shard-{number}", "jsonl", [row(number)])
    job = Job("memory://bucket/shard-*.jsonl", stage.output, quiet=True)
    assert run(stage.config(threads=1, per_key_concurrency=1), job).done == 3
    assert list(read_ledger(stage.output)) == ["1", "2", "10"]
    with pytest.raises(InputError, match="no file fits this pattern"):
        run(stage.config(), Job("memory://bucket/no-*.jsonl", stage.output, quiet=True))


def test_bad_rows_elsewhere_are_named(stage: Stage, memory: Any) -> None:
    """With the URL and the line."""
    memory.pipe("/bucket/data.jsonl", b'{"index": 1, "instruction": "x"}\n{broken\n')
    with pytest.raises(BadRowsError) as caught:
        run(stage.config(), Job("memory://bucket/data.jsonl", stage.output, quiet=True))
    assert caught.value.rows[0].startswith("memory://bucket/data.jsonl:2: ")


def test_a_run_over_rows_of_a_server(stage: Stage, served: tuple[Path, str]) -> None:
    """A server that gives no parts of files is asked for the whole file as often as needed."""
    folder, url = served
    write_rows(folder / "data.jsonl", ROWS)
    summary = run(stage.config(), Job(f"{url}/data.jsonl", stage.output, quiet=True))
    assert (summary.rows, summary.done) == (20, 20)
    assert run(stage.config(), Job(f"{url}/data.jsonl", stage.output, quiet=True)).skipped == 20


def test_a_file_of_a_server_is_read(served: tuple[Path, str]) -> None:
    """From a server, which has no ranges, once; from one that is gone, an error in one line."""
    folder, url = served
    write_rows(folder / "data.jsonl", ROWS)
    with opened(f"{url}/data.jsonl") as stream:
        assert stream.read() == (folder / "data.jsonl").read_bytes()
    with pytest.raises(InputError, match="there is no such file"):
        opened(f"{url}/none.jsonl").read()
    with pytest.raises(InputError, match="onnect"):
        opened("http://127.0.0.1:1/data.jsonl").read()
