"""One bar chart: rows per CPU second of each contestant, from a file of results.

Runs in an environment of its own (`run.py --plot`), as the project itself needs no matplotlib:
`python plot.py RESULTS.json CHART.png`.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found]

mpl.use("Agg")
from matplotlib import pyplot as plt

_OURS, _FLOOR, _OTHERS = "#1f6fb4", "#9aa5b1", "#d9a441"


def main() -> None:
    """Draw the chart, of the long runs if they were measured."""
    source, target = sys.argv[1:]
    found: list[dict[str, Any]] = json.loads(Path(source).read_text(encoding="utf-8"))["results"]
    suites = {result["suite"] for result in found}
    suite = "long" if "long" in suites else "whole"
    speeds: dict[str, list[float]] = {}
    peers = set()
    for result in found:
        if result["suite"] == suite and result["rows_per_cpu_s"]:
            speeds.setdefault(result["contestant"], []).append(result["rows_per_cpu_s"])
            peers |= {result["contestant"]} if result["peer"] else set()
    if not speeds:
        sys.exit("benchmarks: no rows per CPU second in these results (suites long, whole)")
    bars = sorted((statistics.median(values), name) for name, values in speeds.items())
    draw(bars, peers, Path(target), next(r for r in found if r["suite"] == suite))


def draw(bars: list[tuple[float, str]], peers: set[str], target: Path, one: dict[str, Any]) -> None:
    """Draw one bar for each program, the quickest on top."""
    names = [name for _, name in bars]
    figure, axes = plt.subplots(figsize=(7.2, 0.6 + 0.3 * len(bars)), facecolor="white")
    colours = [
        _OURS if name.startswith("jsonl-runner") else _OTHERS if name in peers else _FLOOR
        for name in names
    ]
    axes.barh(names, [speed for speed, _ in bars], color=colours)
    axes.set_xscale("log")
    axes.set_xlim(bars[0][0] * 0.6, bars[-1][0] * 2.5)
    for place, (speed, _) in enumerate(bars):
        axes.text(speed * 1.06, place, f"{speed:,.0f}", va="center", fontsize=8)
    what = f"{one['rows']:,} rows, {one['in_flight']} calls in flight, log scale"
    figure.suptitle(f"Rows per second of processor time ({what})", fontsize=9)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main()
