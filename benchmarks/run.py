"""What a row costs, measured side by side with other programs: `python benchmarks/run.py`.

Needs Linux with two cores, a C compiler, and for the first run a package index (the other programs
get environments of their own in the cache folder). All calls go to 127.0.0.1. Every suite in full
takes some hours; `--quick` sees in minutes whether all runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# This folder's modules import one another as `benchmarks.…`, as mypy sees them.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, programs, special, suites, tables

if TYPE_CHECKING:
    from collections.abc import Callable

SUITES: dict[str, Callable[[suites.Plan], list[dict[str, Any]]]] = {
    "start": special.start,
    "whole": suites.whole,
    "polite": suites.polite,
    "resume": special.resume,
    "tls": special.encrypted,
    "curve": suites.curve,
    "ideal": suites.ideal,
    "long": suites.long,
    "flight": suites.flight,
}


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--suite", action="append", choices=SUITES, help="only this one; repeatable"
    )
    parser.add_argument("--only", default="", metavar="NAME,…", help="only these contestants")
    parser.add_argument("--repeat", type=int, metavar="N", help="measure each cell N times")
    parser.add_argument("--quick", action="store_true", help="few rows, once: does all run?")
    parser.add_argument(
        "--bound", type=float, default=240, metavar="S", help="seconds for one cell [240]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="read them instead"
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw rows per CPU second")
    parser.add_argument("--list", action="store_true", help="name the contestants")
    return parser.parse_args()


def check_machine() -> None:
    """End with a clear word where nothing could be measured."""
    if not hasattr(os, "pidfd_open") or (os.cpu_count() or 1) < 2:
        sys.exit("benchmarks: this needs Linux and two cores")
    if (
        importlib.util.find_spec("jsonl_runner") is None
        or importlib.util.find_spec("pycurl") is None
    ):
        sys.exit("benchmarks: run this with the interpreter that jsonl-runner is installed for")


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run the suites; what was measured until then is kept when one of them fails."""
    check_machine()
    machine.allow_many_files()
    machine.build_server()
    contestants = programs.prepare(programs.chosen(options.only.split(",")))
    plan = suites.Plan(contestants, options.repeat, options.quick, options.bound)
    head = machine.facts() | {"command": shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]])}
    found: dict[str, Any] = {"head": head | {"server": special.server_speed()}, "results": []}
    for name in options.suite or SUITES:
        found["results"] += SUITES[name](plan)
        save(found, options.json)
    return found


def save(found: dict[str, Any], target: Path | None) -> None:
    """Write the results."""
    if target is not None:
        target.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def plot(found: dict[str, Any], target: Path) -> None:
    """Draw the chart, in the environment that can."""
    source = machine.cache_folder() / "plot.json"
    save(found, source)
    script = str(machine.HERE / "plot.py")
    subprocess.run([programs.plot_python(), script, str(source), str(target)], check=True)


def main() -> None:
    """Measure or read, then print."""
    options = arguments()
    # As Ctrl-C does, so that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.list:
        print("\n".join(contestant.name for contestant in programs.all_contestants()))
        return
    if options.source is not None:
        found = json.loads(options.source.read_text(encoding="utf-8"))
    else:
        found = measured(options)
    print(tables.markdown(found["results"], found["head"]))
    if options.plot is not None:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
