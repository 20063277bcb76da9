"""What an answer from the cache takes: `python benchmarks/cache.py`.

A session of one process, the built-in simulator, 500 answers kept and asked for again.
"""

from __future__ import annotations

import statistics
import tempfile
import time

from jsonl_runner import config
from jsonl_runner.records import Record
from jsonl_runner.session import Session
from jsonl_runner.simulator import Simulator, SimulatorSettings

QUESTIONS = 500


def seconds_of(session: Session) -> list[float]:
    """Ask every question once; return what each took, in seconds."""
    taken = []
    for number in range(QUESTIONS):
        begun = time.perf_counter()
        session.ask(Record("0", f"question {number}"))
        taken.append(time.perf_counter() - begun)
    return sorted(taken)


def main() -> None:
    with Simulator(SimulatorSettings()) as simulator, tempfile.TemporaryDirectory() as folder:
        given = {
            "api_base": simulator.base_url,
            "api_keys": ["sk-benchmark-0001"],
            "cache": True,
            "cache_directory": folder,
        }
        session = Session(config.load(None, given, {}))
        for name in ("asked", "from the cache"):
            taken = seconds_of(session)
            print(
                f"{name}: median {statistics.median(taken) * 1000:.2f} ms, "
                f"99 % below {taken[QUESTIONS * 99 // 100] * 1000:.2f} ms, "
                f"longest {taken[-1] * 1000:.2f} ms"
            )
        assert session.summary.cached == QUESTIONS
        session.close()


if __name__ == "__main__":
    main()
