"""The suites that push rows through contestants; those of other kinds stand in special.py."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import machine
from benchmarks.cells import Cell, Inputs, run
from benchmarks.programs import RUNNER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.cells import Result
    from benchmarks.programs import Contestant

#: Seconds after which a contestant is ended in suites with many cells.
_SHORT_BOUND_S = 60
#: A cell of `flight` has this many rows for each call in flight, where that is enough rows, …
_ROWS_EACH = 12
_ROWS_LEAST = 5000
#: … and not more than an ideal client does in these seconds.
_IDEAL_S = 24


@dataclass(frozen=True)
class Plan:
    """What a run of the benchmarks is asked for.

    Attributes:
        contestants: who takes part.
        repeat: times that each cell is measured; None for the suite's own number.
        quick: fewer rows, to see whether all runs.
        bound_s: seconds for a cell, where a suite has no shorter bound.
    """

    contestants: Sequence[Contestant]
    repeat: int | None = None
    quick: bool = False
    bound_s: float = 240

    def ours(self) -> list[Contestant]:
        """Return the program of this checkout alone."""
        return [contestant for contestant in self.contestants if contestant.name == RUNNER]

    def times(self, usual: int) -> int:
        """Return how often a cell is measured."""
        return self.repeat or (1 if self.quick else usual)


def measure(
    cells: Sequence[Cell], plan: Plan, usual: int, who: Sequence[Contestant]
) -> list[Result]:
    """Measure cells of one latency after the other, the contestants taking turns."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        inputs = Inputs(Path(name))
        for latency_ms in sorted({cell.latency_ms for cell in cells}):
            with machine.server(latency_ms) as server:
                for cell in cells:
                    if cell.latency_ms != latency_ms:
                        continue
                    for _ in range(plan.times(usual)):
                        results += [run(cell, contestant, server, inputs) for contestant in who]
    return results


def whole(plan: Plan) -> list[Result]:
    """5,000 rows at 0 ms: what a short run costs, start-up and all."""
    cell = Cell("whole", 500 if plan.quick else 5000, 64, bound_s=plan.bound_s)
    return measure([cell], plan, 3, plan.contestants)


def long(plan: Plan) -> list[Result]:
    """200,000 rows at 0 ms: what a row costs when start-up no longer counts."""
    cell = Cell("long", 2000 if plan.quick else 200_000, 64, bound_s=plan.bound_s)
    return measure([cell], plan, 1, plan.contestants)


def flight(plan: Plan) -> list[Result]:
    """0 ms, 50 ms and 1 s by 64 to 4,096 calls in flight."""
    bound_s = min(_SHORT_BOUND_S, plan.bound_s)
    cells = []
    for latency_ms in (0, 50, 1000):
        for width in (64, 256, 1024, 4096):
            rows = max(_ROWS_LEAST, _ROWS_EACH * width)
            if latency_ms:
                rows = min(rows, round(_IDEAL_S * width * 1000 / latency_ms))
            if plan.quick:
                rows = min(rows, 2 * width)
            cells.append(Cell("flight", rows, width, latency_ms, bound_s))
    return measure(cells, plan, 1, plan.contestants)


def polite(plan: Plan) -> list[Result]:
    """5,000 rows at 50 ms with 200 threads: the everyday run."""
    cell = Cell("polite", 500 if plan.quick else 5000, 200, 50, plan.bound_s)
    return measure([cell], plan, 3, plan.contestants)


def ideal(plan: Plan) -> list[Result]:
    """Long runs with slow answers: how near the rate comes to in-flight / latency."""
    share = 40 if plan.quick else 1
    cells = [
        Cell("ideal", 1_000_000 // share, 4096, 1000, 900),
        Cell("ideal", 300_000 // share, 256, 50, 900),
    ]
    return measure(cells, plan, 1, plan.ours())


def curve(plan: Plan) -> list[Result]:
    """10^3 to 10^6 rows at 0 ms: do the cost of a row and the memory stay flat?"""
    sizes = (1000, 10_000) if plan.quick else (1000, 10_000, 100_000, 1_000_000)
    return measure([Cell("curve", rows, 64, 0, 1800) for rows in sizes], plan, 1, plan.ours())
