"""Time and peak memory of writing, checking and converting request files.

    python benchmarks/batch_requests.py [folder]

Writes some 2 GB into a folder of its own below `folder` (else the temporary one) and removes it.
Each step is a process of its own; memory is its peak resident size as the kernel counts it. (That
count begins with the size of whoever started it: nothing here reads a whole file.)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEXT = "The library opens at nine, and the reading room an hour later. " * 4


def rows(path: Path, count: int, text: str = _TEXT) -> Path:
    """Write a dataset."""
    with path.open("w", encoding="utf-8") as stream:
        for index in range(count):
            stream.write(f'{{"index": {index}, "instruction": "Repeat.", "input": "{text}"}}\n')
    return path


def results(path: Path, count: int) -> Path:
    """Write a provider's output file."""
    choice = {"index": 0, "message": {"role": "assistant", "content": _TEXT}}
    body = {
        "model": "gpt-4.1-mini",
        "choices": [{**choice, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 70, "completion_tokens": 60, "total_tokens": 130},
    }
    response = json.dumps({"status_code": 200, "request_id": "r", "body": body})
    with path.open("w", encoding="utf-8") as stream:
        for index in range(count):
            stream.write(f'{{"id":"b","custom_id":"{index}","response":{response},"error":null}}\n')
    return path


def measured(*command: str | Path) -> tuple[float, float, float]:
    """Run a command; return its seconds, those of processor time, and peak megabytes."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command}: {said[-500:].decode()}")
    return time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def steps(folder: Path, count: int) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Write, check and convert so many rows."""
    cli = ("-m", "jsonl_runner", "requests")
    data, target = rows(folder / f"{count}.jsonl", count), folder / f"r{count}.jsonl"
    yield "write", measured(*cli, data, "-o", target, "--provider", "openai")
    data.unlink()
    parts = sorted(folder.glob(f"r{count}*.jsonl"))
    whole = folder / "whole.jsonl"
    with whole.open("wb") as stream:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, stream)
            part.unlink()
    check = (
        "from pathlib import Path; from dataclasses import replace; import sys\n"
        "from jsonl_runner.batch.checking import check\n"
        "from jsonl_runner.batch.profiles import OPENAI\n"
        "p = replace(OPENAI, max_requests=10**9, max_bytes=10**12)\n"
        "sys.exit(not check(Path(sys.argv[1]), p, print).is_good)"
    )
    yield "check", measured("-c", check, whole)
    whole.unlink()
    output = results(folder / "results.jsonl", count)
    convert = (
        "from pathlib import Path; import sys; from jsonl_runner.convert import convert_to_jsonl\n"
        "convert_to_jsonl([Path(sys.argv[1])], Path(sys.argv[2]))"
    )
    yield "convert", measured("-c", convert, output, folder / "texts.jsonl")
    output.unlink()


def lines_in(path: Path) -> int:
    """Count them."""
    with path.open("rb") as stream:
        return sum(1 for _ in stream)


def splits(folder: Path) -> None:
    """Show what becomes of one row too many, and of 201 MB."""
    for name, count, text in (("50,001 rows", 50_001, "x"), ("201 MB", 2_010, "x" * 99_870)):
        data = rows(folder / "data.jsonl", count, text)
        measured(
            "-m", "jsonl_runner", "requests", data, "-o", folder / "s.jsonl", "--provider", "openai"
        )
        parts = sorted(folder.glob("s.*.jsonl"))
        found = ", ".join(
            f"{lines_in(part):,} requests of {part.stat().st_size:,} bytes" for part in parts
        )
        print(f"{name}: {found}")
        for part in parts:
            part.unlink()


def main() -> None:
    """Measure and print."""
    base = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name)
        splits(folder)
        for count in (10_000, 1_000_000):
            for step, (wall, cpu, peak) in steps(folder, count):
                print(f"{step:8} {count:>9,}: {wall:6.1f} s, cpu {cpu:6.1f} s, peak {peak:6.1f} MB")


if __name__ == "__main__":
    main()
