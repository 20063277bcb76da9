"""One cell of a table: one contestant does some rows once, as a whole process."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import data, machine

if TYPE_CHECKING:
    from benchmarks.machine import Server
    from benchmarks.programs import Contestant

Result = dict[str, Any]
#: How much of the most calls ever in flight still counts as running at full width.
_FULL = 0.95
#: Where "in flight" tells nothing (answers at once): the part of the answers that is looked at.
_MIDDLE = (0.2, 0.9)
#: Times that every call must have been answered before a rate is called sustained.
_WAVES = 3


@dataclass(frozen=True)
class Cell:
    """What is to be done.

    Attributes:
        suite: the table it belongs to.
        rows, in_flight, latency_ms: how much, how wide, how slow the answers come.
        bound_s: seconds after which it is ended, and counted by what it did until then.
    """

    suite: str
    rows: int
    in_flight: int
    latency_ms: float = 0
    bound_s: float = 240


def run(cell: Cell, contestant: Contestant, server: Server, inputs: Inputs) -> Result:
    """Have one contestant do one cell; say how it went."""
    in_flight = min(cell.in_flight, contestant.most or cell.in_flight)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        inputs.link(cell.rows, folder)
        server.settle()
        command = contestant.command(folder, server.base_url, in_flight)
        bound_s = cell.bound_s * contestant.patience
        cost = machine.measure(command, folder, bound_s, _environment(contestant, folder))
        seen = server.stats()
        rows_written = data.written(folder / "output.jsonl")
    # One asks for its limits first, another repeats rows: neither did more than there is to do.
    answered = min(seen["answers"], cell.rows)
    result: Result = asdict(cell) | {
        "contestant": contestant.name,
        "peer": contestant.peer,
        "note": contestant.note,
        "asked_in_flight": in_flight,
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
        "peak_mb": cost.peak_mb,
        "code": cost.code,
        "bounded": cost.code is None,
        "answered": answered,
        "written": rows_written,
        "load": os.getloadavg()[0],
        "connections": seen["connections"],
        "seen_in_flight": seen["max_in_flight"],
        "first_request_s": seen["first_request"] - cost.started if seen["requests"] else None,
        "requests": seen["requests"],
        "rate": answered / cost.wall_s,
        "sustained": sustained(seen, cell.latency_ms / 1000),
        "cpu_ms_per_row": cost.cpu_s * 1000 / answered if answered else None,
        "rows_per_cpu_s": answered / cost.cpu_s if answered else None,
    }
    if cell.latency_ms:
        ideal = cell.in_flight / (cell.latency_ms / 1000)
        result["share"] = result["rate"] / ideal
        steady = result["sustained"]
        result["sustained_share"] = steady / ideal if steady is not None else None
    result["error"] = _complaint(result, cost.tail)
    _report(result)
    return result


def sustained(seen: dict[str, Any], latency_s: float) -> float | None:
    """Return the rate without ramp-up and tail; None when the run was too short to tell.

    With slow answers that is the time at full width: from when the server first saw nearly the
    most calls in flight that it ever saw until it last did. With answers at once, the middle.
    """
    answers, widths = seen["step_answers"], seen["step_in_flight"]
    if latency_s:
        full = [i for i, width in enumerate(widths) if width >= _FULL * seen["max_in_flight"]]
        first, last = (full[0], full[-1]) if full else (0, 0)
    else:
        sums, total = [], 0
        for count in answers:
            total += count
            sums.append(total)
        inside = [i for i, count in enumerate(sums) if _MIDDLE[0] <= count / total <= _MIDDLE[1]]
        first, last = (inside[0], inside[-1]) if inside else (0, 0)
    # The first and the last step are only partly inside. Answers come in waves, one each latency,
    # so only whole waves count, and fewer than three tell nothing.
    wave = max(1, round(latency_s / seen["step_s"]))
    waves = (last - first - 1) // wave
    steps = answers[first + 1 : first + 1 + waves * wave]
    return sum(steps) / (len(steps) * seen["step_s"]) if waves >= _WAVES else None


class Inputs:
    """The input files, made once for each number of rows and linked into each run's folder.

    Args:
        folder: where they are kept meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def link(self, rows: int, target: Path) -> None:
        """Put the input of so many rows into a folder."""
        source = self._folder / str(rows)
        if not source.exists():
            source.mkdir()
            data.write_rows(source, rows)
        for path in source.iterdir():
            (target / path.name).hardlink_to(path)


def _environment(contestant: Contestant, folder: Path) -> dict[str, str]:
    """Return a contestant's variables; its caches and settings go into the run's own folder."""
    if not contestant.adapter:
        return {}
    shared = {"PYTHONPATH": str(machine.ROOT)}
    if not contestant.peer:
        return shared
    own = {"HOME": str(folder), "HF_HOME": str(folder / "hf"), "XDG_CACHE_HOME": str(folder / "c")}
    return shared | contestant.environment | own


def _complaint(result: Result, tail: str) -> str:
    """Return what went wrong, empty if nothing did."""
    if result["bounded"]:
        return ""
    lines = tail.strip().splitlines() or [""]
    if result["code"] != 0:
        return f"exit code {result['code']}: {lines[-1]}"
    if result["answered"] < result["rows"]:
        return f"{result['answered']} of {result['rows']} rows asked for: {lines[-1]}"
    if result["written"] is not None and result["written"] < result["rows"]:
        return f"{result['written']} of {result['rows']} rows written: {lines[-1]}"
    return ""


def _report(result: Result) -> None:
    each = result["cpu_ms_per_row"]
    print(
        f"{result['suite']}: {result['contestant']}, {result['rows']} rows, "
        f"{result['in_flight']} in flight, {result['latency_ms']:g} ms: "
        f"{result['rate']:.0f} rows/s, "
        f"{'-' if each is None else format(each, '.3f')} ms CPU a row, {result['peak_mb']:.0f} MB"
        f"{' *' if result['bounded'] else ''} {result['error']}".rstrip(),
        file=sys.stderr,
        flush=True,
    )
