"""What a cluster costs: rows a second of `--engine ray` beside the local engine, at equal width.

Run by hand (`python benchmarks/engines.py`, some two minutes, in an environment with Ray); results
stand in docs/performance.md. The engines take turns, so that a slow minute of the machine meets
both. The server is that of the other benchmarks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# This folder's modules import one another as `benchmarks.…`, as mypy sees them.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import server

#: Rows before and after which the rate is not taken: start, ramp and end.
_SHARE = 0.1
_KEYS = 16


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    engines: dict[str, list[str]] = {
        "local": [],
        "ray": ["--engine", "ray", "--workers", str(options.workers)],
    }
    rates: dict[str, list[float]] = {name: [] for name in engines}
    with tempfile.TemporaryDirectory() as name, server(options.latency_ms) as running:
        folder = Path(name)
        data = folder / "data.jsonl"
        rows = ({"index": i, "instruction": f"Row {i}."} for i in range(options.rows))
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        config = folder / "settings.json"
        keys = [f"sk-benchmark-{number:04}" for number in range(_KEYS)]
        config.write_text(
            json.dumps({"api_keys": keys, "api_base": running.base_url, "threads": options.threads})
        )
        config.chmod(0o600)
        for number in range(options.rounds):
            for engine, words in engines.items():
                output = folder / f"{engine}-{number}.jsonl"
                began = time.perf_counter()
                command = [sys.executable, "-m", "jsonl_runner", "run", str(data), str(output)]
                subprocess.run([*command, "--config", str(config), "-q", *words], check=True)
                whole_s = time.perf_counter() - began
                rates[engine].append(steady(output))
                print(f"{engine}: {rates[engine][-1]:,.0f} rows/s steady, {whole_s:.1f} s in all")
    ideal = options.threads / options.latency_ms * 1000
    medians = {engine: statistics.median(found) for engine, found in rates.items()}
    ratios = [ray / local for local, ray in zip(rates["local"], rates["ray"], strict=True)]
    print(f"ideal {ideal:,.0f}; medians {medians}; ratios {[round(ratio, 3) for ratio in ratios]}")
    print(f"ray is {medians['ray'] / medians['local']:.3f} of local")


def steady(output: Path) -> float:
    """Return rows a second between the first and the last tenth of a run."""
    log = output.with_name(f"{output.stem}.calls.jsonl")
    entries = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    ends = sorted(entry["ended"] for entry in entries if "index" in entry)
    first, last = int(len(ends) * _SHARE), int(len(ends) * (1 - _SHARE))
    return (last - first) / float(ends[last] - ends[first])


if __name__ == "__main__":
    main()
