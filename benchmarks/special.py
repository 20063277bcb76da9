"""Suites that are no table of rows: going on with a large run, encrypted calls, starting."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import data, machine, tls
from benchmarks.machine import HERE
from benchmarks.programs import PROGRAM, write_config

if TYPE_CHECKING:
    from benchmarks.cells import Result
    from benchmarks.machine import Cost, Server
    from benchmarks.suites import Plan

_STARTS = 15
#: Seconds in which a run over the whole input begins to answer its first rows.
_HEAD_START_S = 20


def resume(plan: Plan) -> list[Result]:
    """A million rows of which one is missing: how soon does the run go on, how large is it?"""
    rows = 20_000 if plan.quick else 1_000_000
    results = []
    for indices in ("numbers", "texts"):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
            folder = Path(name)
            _prepare_resume(folder, rows, indices)
            for case in ("with call log", "without call log"):
                if case == "without call log":
                    (folder / "output.calls.jsonl").unlink()
                with machine.server() as server:
                    results += [_go_on(folder, server) for _ in range(plan.times(3))]
                for result in results:
                    result.setdefault("case", case)
            results += [_merge(folder) for _ in range(plan.times(3))]
            for result in results:
                result.setdefault("indices", indices)
    for result in results:
        result |= {"suite": "resume", "rows": rows}
    return results


def _prepare_resume(folder: Path, rows: int, indices: str) -> None:
    """Make the input, have a run begin it, and fill in the rest of what that run would write."""
    script = [sys.executable, str(HERE / "data.py")]
    arguments = [str(folder), str(rows), indices]
    subprocess.run([*script, "input", *arguments], check=True)
    with machine.server(1000) as server:  # slow answers: only a few rows are done
        cost = machine.measure(_run_command(folder, server, 4), folder, _HEAD_START_S)
    if cost.code is not None:
        sys.exit(f"benchmarks: the run to be resumed ended by itself: {cost.tail}")
    subprocess.run([*script, "fill", *arguments], check=True)


def _run_command(folder: Path, server: Server, threads: int) -> list[str]:
    files = [str(folder / "data.jsonl"), str(folder / "output.jsonl")]
    config = ["--config", write_config(folder, server.base_url)]
    return [*PROGRAM, "run", *files, *config, "--threads", str(threads), "-q"]


def _go_on(folder: Path, server: Server) -> Result:
    """Run the one missing row; then take its line away again."""
    files = [folder / "output.jsonl", folder / "output.calls.jsonl"]
    sizes = [path.stat().st_size if path.exists() else 0 for path in files]
    # What it takes to read both files; large.py measures what it takes not to.
    (folder / "output.jsonl.index").unlink(missing_ok=True)
    server.settle()
    cost = machine.measure(_run_command(folder, server, 64), folder, 900)
    seen = server.stats()
    for path, size in zip(files, sizes, strict=True):
        if size:
            os.truncate(path, size)
        else:
            path.unlink(missing_ok=True)
    first = seen["first_request"] - cost.started if seen["requests"] else None
    problem = "" if seen["requests"] == 1 else f"{seen['requests']} rows asked for instead of 1"
    return {"first_request_s": first, "error": problem} | _costs(cost)


def _merge(folder: Path) -> Result:
    merged = folder / "merged.json"
    files = [str(folder / "data.jsonl"), str(folder / "output.jsonl"), str(merged)]
    cost = machine.measure([*PROGRAM, "merge", *files], folder, 900)
    merged.unlink(missing_ok=True)
    return {"case": "merge", "first_request_s": None, "error": ""} | _costs(cost)


def _costs(cost: Cost) -> Result:
    return {
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
        "peak_mb": cost.peak_mb,
        "code": cost.code,
        "tail": cost.tail[-200:],
    }


def encrypted(plan: Plan) -> list[Result]:
    """The same rows against nginx, in the clear and with TLS."""
    missing = [name for name in ("nginx", "openssl") if shutil.which(name) is None]
    if missing:
        print(f"left out: tls (needs the Debian package {missing[0]})", file=sys.stderr)
        return []
    rows = 2000 if plan.quick else 50_000
    results = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        data.write_rows(folder, rows)
        with tls.nginx(folder) as (plain, secure, certificate):
            for _ in range(plan.times(3)):
                for address in (plain, secure):
                    config = ["--config", write_config(folder, address)]
                    output = folder / "output.jsonl"
                    for path in folder.glob("output.*"):
                        path.unlink()
                    files = [str(folder / "data.jsonl"), str(output)]
                    command = [*PROGRAM, "run", *files, *config, "--threads", "64", "-q"]
                    extra = {"SSL_CERT_FILE": str(certificate)}
                    cost = machine.measure(command, folder, 600, extra)
                    done = data.written(output) or 0
                    results.append(
                        {
                            "suite": "tls",
                            "case": address.partition(":")[0],
                            "rows": rows,
                            "answered": done,
                            "cpu_ms_per_row": cost.cpu_s * 1000 / done if done else None,
                            "error": "" if done == rows else cost.tail[-200:],
                        }
                        | _costs(cost)
                    )
    return results


def start(plan: Plan) -> list[Result]:
    """Time to `--help`, against importing click alone; time to the first call of a small run."""
    commands = {
        "--help": [*PROGRAM, "--help"],
        "import click": [sys.executable, "-c", "import click"],
    }
    results = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, machine.server() as server:
        folder = Path(name)
        for _ in range(plan.times(_STARTS)):
            for case, command in commands.items():
                cost = machine.measure(command, folder, 60)
                results.append({"case": case, "first_request_s": None, "error": ""} | _costs(cost))
        data.write_rows(folder, 10)
        for _ in range(plan.times(_STARTS)):
            (folder / "output.jsonl").unlink(missing_ok=True)
            server.settle()
            cost = machine.measure(_run_command(folder, server, 10), folder, 60)
            first = server.stats()["first_request"] - cost.started
            results.append({"case": "run of 10 rows", "first_request_s": first, "error": ""})
            results[-1] |= _costs(cost)
    return [result | {"suite": "start"} for result in results]


def server_speed() -> dict[str, float | str]:
    """Return how fast the server is, so that it is clear that the clients are measured."""
    with machine.server() as server, tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        before = server.cpu_seconds()
        wrk = shutil.which("wrk")
        if wrk is not None:
            script = folder / "post.lua"
            script.write_text(
                'wrk.method = "POST"\nwrk.body = string.rep("x", 250)\n', encoding="ascii"
            )
            address = f"{server.base_url}/chat/completions"
            command = [wrk, "-t1", "-c64", "-d3s", "-s", str(script), address]
        else:
            data.write_rows(folder, 20_000)
            adapter = ["-m", "benchmarks.contestants.bare_pycurl"]
            files = [str(folder / "data.jsonl"), str(folder / "output.jsonl")]
            command = [sys.executable, *adapter, *files, server.base_url, "64"]
        machine.measure(command, folder, 60, {"PYTHONPATH": str(machine.ROOT)})
        seen = server.stats()
        used = server.cpu_seconds() - before
    seconds = seen["last_answer"] - seen["first_answer"]
    return {
        "by": "wrk" if wrk else "bare-pycurl (wrk, a Debian package, is not here)",
        "rate": seen["answers"] / seconds,
        "per_cpu_s": seen["answers"] / used,
        "steady": statistics.median(seen["step_answers"]) / seen["step_s"],
    }
