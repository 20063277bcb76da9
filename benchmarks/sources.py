"""Time and peak memory of reading each kind of input: `python benchmarks/sources.py [rows …]`.

With `--runs` ahead of the rows, of whole runs over some of them, 64 in flight, answers at once.
Of 100,000 and 1,000,000 rows (or those given): `validate` reads every row of each kind, `merge`
joins two of them with outputs, each a process of its own; memory is its peak resident size as the
kernel counts it. Writes some 1 GB into the temporary folder and removes it.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import machine
from benchmarks.batch_requests import measured

_NAMES = ("index", "instruction", "input")
#: What is read: the file, and options of the command.
_CASES = (
    ("d.jsonl",),
    ("d.jsonl", "--index-field", "index"),
    ("d.jsonl", "--auto-index", "line"),
    ("d.jsonl", "--auto-index", "content"),
    ("d.jsonl.gz",),
    ("d.jsonl.zst",),
    ("d.json",),
    ("d.csv",),
    ("d.parquet",),
    ("d.arrow",),
)
_RUN = ("d.jsonl", "d.jsonl.gz", "d.parquet")
_MERGED = ("d.jsonl", "d.jsonl.gz", "d.parquet")
#: Rows of a row group: as many as pyarrow puts there by itself.
_GROUP = 1024 * 1024


def lay(folder: Path, count: int) -> None:
    """Write the same rows in every format, and a ledger."""
    import pyarrow as pa  # noqa: PLC0415  # not in the process whose children are measured
    import zstandard  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    rows = [
        (number, "Translate into French.", f"The library opens at nine, not at {number}. " * 2)
        for number in range(count)
    ]
    lines = "".join(json.dumps(dict(zip(_NAMES, row, strict=True))) + "\n" for row in rows).encode()
    (folder / "d.jsonl").write_bytes(lines)
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(lines, 6))
    (folder / "d.jsonl.zst").write_bytes(zstandard.compress(lines))
    (folder / "d.json").write_bytes(b"[" + lines.rstrip().replace(b"\n", b",\n") + b"]")
    with (folder / "d.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([_NAMES, *rows])
    table = pa.table({name: list(cells) for name, cells in zip(_NAMES, zip(*rows, strict=True),
                                                               strict=True)})  # fmt: skip
    parquet.write_table(table, folder / "d.parquet", row_group_size=_GROUP)
    sink = pa.OSFile(str(folder / "d.arrow"), "wb")
    with sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    with (folder / "output.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(
            f'{{"{row[0]}":"La bibliothèque ouvre à neuf heures."}}\n' for row in rows
        )


def runs(counts: list[int]) -> None:
    """Run some of them from the first row to the last, against the server of the benchmarks."""
    print("| rows | file | seconds | rows/s | CPU ms per row | peak MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for count in counts:
        with tempfile.TemporaryDirectory() as name, machine.server() as server:
            folder = Path(name)
            measured(__file__, "--lay", folder, str(count))
            config = folder / "config.json"
            keys = [f"sk-benchmark-{number:08}" for number in range(4)]
            config.write_text(json.dumps({"api_keys": keys, "api_base": server.base_url}))
            config.chmod(0o600)
            for file in _RUN:
                output = folder / f"{file}.output.jsonl"
                seconds, cpu, peak = measured(
                    *("-m", "jsonl_runner", "run", folder / file, output),
                    *("--config", config, "--threads", "64", "-q"),
                )
                with output.open("rb") as lines:
                    assert sum(1 for _ in lines) == count
                print(
                    f"| {count:,} | {file} | {seconds:.0f} | {count / seconds:,.0f} | "
                    f"{cpu / count * 1000:.3f} | {peak:.0f} |",
                    flush=True,
                )
                output.unlink()


def main() -> None:
    """Print a table for docs/performance.md."""
    if sys.argv[1:2] == ["--lay"]:
        lay(Path(sys.argv[2]), int(sys.argv[3]))
        return
    if sys.argv[1:2] == ["--runs"]:
        runs([int(word) for word in sys.argv[2:]] or [100_000, 1_000_000])
        return
    counts = [int(word) for word in sys.argv[1:]] or [100_000, 1_000_000]
    print("| rows | command | seconds | rows/s | peak MB | MB read |")
    print("| --- | --- | --- | --- | --- | --- |")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            # In a process of its own: a child's peak is its parent's where that is higher.
            measured(__file__, "--lay", folder, str(count))
            cases = [("validate", *case) for case in _CASES]
            cases += [("merge", file) for file in _MERGED]
            for command, file, *options in cases:
                files = [folder / "output.jsonl", folder / "m.json"] if command == "merge" else []
                seconds, _, peak = measured(
                    "-m", "jsonl_runner", command, folder / file, *files, "-q", *options
                )
                size = (folder / file).stat().st_size / 1e6
                words = " ".join([command, file, *options])
                print(
                    f"| {count:,} | {words} | {seconds:.1f} | {count / seconds:,.0f} | "
                    f"{peak:.0f} | {size:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
