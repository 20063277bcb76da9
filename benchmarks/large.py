"""How soon a run over very many rows goes on: `python benchmarks/large.py 10000000`.

All rows but a thousand have an output; each run does ten of these and ends, so that its seconds are
those of starting. Needs 300 bytes of disk a row; less with `--short`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jsonl_runner.simulator import Simulator, SimulatorSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEFT = 1000
_BATCH = 10_000
#: For so long the input must have been left alone (see jsonl_runner.indexfile).
_SETTLED_S = 3
_ANSWER = (
    "The library opens at nine in the morning on weekdays and at ten on Saturdays; on Sundays and "
    "public holidays it stays closed."
)
_QUESTION = "When does the library in this town open on a weekday, and when on a Saturday?"


def _batches(rows: int, indices: str) -> Iterator[list[str]]:
    prefix = "doc-" if indices == "texts" else ""
    for start in range(0, rows, _BATCH):
        yield [f"{prefix}{number}" for number in range(start, min(start + _BATCH, rows))]


def write(folder: Path, rows: int, indices: str, *, is_short: bool) -> None:
    """Write input and ledger."""
    question, answer = ("Say it.", "ok") if is_short else (_QUESTION, _ANSWER)
    with (
        (folder / "data.jsonl").open("w", encoding="utf-8") as data,
        (folder / "output.jsonl").open("w", encoding="utf-8") as ledger,
    ):
        left = rows - _LEFT
        for names in _batches(rows, indices):
            data.writelines(f'{{"index": "{n}", "instruction": "{question} {n}"}}\n' for n in names)
            ledger.writelines(f'{{"{n}":"{answer} {n}"}}\n' for n in names[:left])
            left = max(0, left - len(names))


def go_on(folder: Path, base_url: str) -> str:
    """Do ten rows; return seconds and peak memory."""
    config = folder / "settings.json"
    config.write_text(json.dumps({"api_keys": ["sk-benchmark-0001"]}), encoding="utf-8")
    config.chmod(0o600)
    command = [sys.executable, "-m", "jsonl_runner", "run", "data.jsonl", "output.jsonl", "-q"]
    command += ["--config", "settings.json", "--api-base", base_url, "--limit", "10"]
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"benchmarks: the run ended with {process.returncode}")
    peak = usage.ru_maxrss / 1024
    return f"{seconds:.2f} s, {usage.ru_utime + usage.ru_stime:.2f} s CPU, peak {peak:.0f} MB"


def measure(folder: Path, base_url: str) -> None:
    """Print what each case takes."""
    for name in ("data.jsonl", "output.jsonl", "output.jsonl.index"):
        size = (folder / name).stat().st_size if (folder / name).exists() else 0
        print(f"{name}: {size / 2**20:,.1f} MiB")
    print("first run:", go_on(folder, base_url), flush=True)
    index = folder / "output.jsonl.index"
    print(f"its index file: {index.stat().st_size / 2**20:.1f} MiB")
    for _ in range(3):
        print("again:", go_on(folder, base_url), flush=True)
    os.utime(folder / "output.jsonl")
    print("the ledger digested:", go_on(folder, base_url), flush=True)
    os.utime(folder / "data.jsonl")
    time.sleep(_SETTLED_S)
    print("the input digested:", go_on(folder, base_url), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--indices", choices=["numbers", "texts"], default="numbers")
    parser.add_argument("--short", action="store_true", help="questions and answers of a word")
    parser.add_argument("--folder", type=Path, help="where the files are, or are written and stay")
    args = parser.parse_args()
    with Simulator(SimulatorSettings()) as simulator, tempfile.TemporaryDirectory() as name:
        folder = Path(name) if args.folder is None else args.folder
        if not (folder / "data.jsonl").exists():
            write(folder, args.rows, args.indices, is_short=args.short)
            time.sleep(_SETTLED_S)
        measure(folder, simulator.base_url)


if __name__ == "__main__":
    main()
