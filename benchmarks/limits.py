"""How well a run keeps to limits it is not told: time against the ideal, and refusals.

Run by hand (`python benchmarks/limits.py`, about a minute and a half); results with their date
stand in docs/performance.md. The server is the simulator, in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = [sys.executable, "-m", "jsonl_runner"]


@dataclass(frozen=True)
class Case:
    """One limit, and what the best possible client would need."""

    name: str
    rows: int
    keys: int
    ideal_s: float
    server: tuple[str, ...]
    client: tuple[str, ...] = ()


CASES = [
    Case(
        "20 calls in flight, 200 ms, told 100 threads",
        1000,
        1,
        10.0,
        ("--max-in-flight", "20", "--latency", "0.2"),
        ("--threads", "100"),
    ),
    # A bucket holds one second's worth at the start, so the first 20 rows of each key are free.
    Case("20 requests/s a key, 1 key", 600, 1, 29.0, ("--requests-per-second", "20")),
    Case("20 requests/s a key, 3 keys", 600, 3, 9.0, ("--requests-per-second", "20")),
]


@contextlib.contextmanager
def simulator(options: tuple[str, ...]) -> Iterator[str]:
    """Run the simulator; yield its address."""
    command = [*PROGRAM, "simulate", "--port", "0", "--latency", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().decode().split()[1]
        finally:
            server.terminate()


def measure(case: Case, folder: Path) -> tuple[float, int, int]:
    """Return the seconds, the rows done and the refused attempts of one case."""
    data, output = folder / "data.jsonl", folder / "output.jsonl"
    rows = [{"index": i, "instruction": f"Row {i}."} for i in range(case.rows)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    keys = [f"sk-benchmark-{number:04}" for number in range(case.keys)]
    with simulator(case.server) as base:
        config = folder / "config.json"
        config.write_text(json.dumps({"api_keys": keys, "api_base": base}), encoding="utf-8")
        config.chmod(0o600)
        command = [*PROGRAM, "run", str(data), str(output), "--config", str(config), "--json"]
        started = time.perf_counter()
        result = subprocess.run(
            [*command, *case.client], capture_output=True, check=True, text=True
        )
        elapsed = time.perf_counter() - started
    summary = json.loads(re.sub(r"^[^{]*", "", result.stdout))
    return elapsed, summary["done"], summary["retried"]


def main() -> None:
    """Print a table of all cases."""
    print("| limit | rows done | refused | seconds | ideal | ratio |")
    print("|---|---|---|---|---|---|")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            elapsed, done, refused = measure(case, Path(folder))
        ratio = elapsed / case.ideal_s
        print(
            f"| {case.name} | {done} of {case.rows} | {refused} | {elapsed:.1f} | "
            f"{case.ideal_s:.1f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
