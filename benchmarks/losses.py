"""What a run over three nodes loses and pays twice when workers, nodes and its leader are killed.

Run by hand on Linux (`python benchmarks/losses.py`, some two minutes, in an environment with Ray);
results stand in docs/performance.md. The nodes are processes of this machine
(`ray.cluster_utils.Cluster`); the server is the simulator in a process of its own, which counts the
calls of each row.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The tests kill workers too.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from ray_support import workers_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NODES = 3
_KEYS = 12
_STORE_BYTES = 80 * 2**20
#: Answers each line of its standard input with the calls of each row so far.
_SERVER = """
import json, sys
from collections import Counter
from jsonl_runner.simulator import Simulator, SimulatorSettings
with Simulator(SimulatorSettings(latency_s=float(sys.argv[1]))) as simulator:
    print(simulator.base_url, flush=True)
    for _ in sys.stdin:
        calls = Counter(call.prompt for call in simulator.journal.calls)
        print(json.dumps([simulator.journal.in_flight(), calls]), flush=True)
"""


class Server:
    """The simulator, and what it was asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.base_url = self._line().strip()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def calls(self) -> tuple[int, Counter[str]]:
        """Return the calls in flight, and how often each row has been called."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        in_flight, calls = json.loads(self._line())
        return in_flight, Counter(calls)


@contextlib.contextmanager
def server(latency_s: float) -> Iterator[Server]:
    """Run the simulator."""
    command = [sys.executable, "-c", _SERVER, str(latency_s)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Server(process)
        finally:
            process.terminate()


def wait_for(reached: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    while not reached():
        time.sleep(0.05)


class Runs:
    """Runs on one folder's files, led by processes that are started and killed."""

    def __init__(self, folder: Path, rows: int, words: list[str]) -> None:
        self.output = folder / "output.jsonl"
        self.rows = rows
        data = folder / "data.jsonl"
        lines = ({"index": i, "instruction": f"row {i}"} for i in range(rows))
        data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        command = [sys.executable, "-m", "jsonl_runner", "run", str(data), str(self.output)]
        self._command = [*command, "--engine", "ray", "-q", *words]

    def written(self) -> int:
        """Return how many lines the ledger has."""
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0

    @contextlib.contextmanager
    def led(self) -> Iterator[subprocess.Popen[bytes]]:
        """Lead a run."""
        with subprocess.Popen(self._command) as process:
            try:
                yield process
            finally:
                process.kill()

    def result(self, calls: Counter[str]) -> str:
        """Return what was lost and what was called again."""
        found: dict[str, Any] = {}
        for line in self.output.read_bytes().splitlines():
            found |= json.loads(line)
        lost = self.rows - sum(output is not None for output in found.values())
        return f"lost {lost}, called twice {calls.total() - self.rows}, lines {self.written():,}"


def main() -> None:
    """Kill, and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=48)
    parser.add_argument("--latency", type=float, default=0.05)
    options = parser.parse_args()
    from ray.cluster_utils import Cluster  # noqa: PLC0415  # after --help

    node = {"num_cpus": 1, "object_store_memory": _STORE_BYTES}
    os.environ["OPENAI_API_KEYS"] = ",".join(f"sk-losses-{number:04}" for number in range(_KEYS))
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes = [cluster.head_node, *(cluster.add_node(**node) for _ in range(_NODES - 1))]
    words = ["--ray-address", cluster.address, "--workers", str(_NODES)]
    words += ["--threads", str(options.threads)]
    try:
        with tempfile.TemporaryDirectory() as name, server(options.latency) as simulator:
            runs = Runs(Path(name), options.rows, [*words, "--api-base", simulator.base_url])
            raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
            with runs.led() as process:
                wait_for(lambda: runs.written() >= options.rows * 0.3)
                os.kill(workers_below(raylets)[0], signal.SIGKILL)
                wait_for(lambda: runs.written() >= options.rows * 0.6)
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                code = process.wait()
            print(
                f"a worker, then a node killed: exit {code}, "
                f"{runs.result(simulator.calls()[1])}; {options.threads} threads"
            )
        with tempfile.TemporaryDirectory() as name, server(options.latency) as simulator:
            runs = Runs(Path(name), options.rows, [*words, "--api-base", simulator.base_url])
            with runs.led() as process:
                wait_for(lambda: runs.written() >= options.rows * 0.4)
                process.kill()
            wait_for(lambda: simulator.calls()[0] == 0)
            with runs.led() as process:
                code = process.wait()
            print(
                f"the leader killed and run again: exit {code}, "
                f"{runs.result(simulator.calls()[1])}; {options.threads} threads"
            )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
