"""What several tests need: a fake clock, files of rows, the program as a process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jsonl_runner import config as settings
from jsonl_runner.job import Job
from jsonl_runner.runner import run
from jsonl_runner.simulator import Simulator, answer_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from jsonl_runner.clock import Clock
    from jsonl_runner.summary import RunSummary

#: Long enough to be a secret, and easy to grep for.
KEYS = ("sk-test-aaaaaaaaaaaaaaaa0001", "sk-test-bbbbbbbbbbbbbbbb0002")


class FakeClock:
    """A clock on which waiting is moving on: it takes no time at all."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._lock = threading.Lock()
        #: The waits that were asked for, in seconds.
        self.waits: list[float] = []

    def now(self) -> float:
        with self._lock:
            return self._now

    def wall(self) -> float:
        return 1_800_000_000.0 + self.now()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        if seconds is None:  # somebody else must come first: let him
            condition.wait(0.001)
            return
        self.waits.append(seconds)
        self.advance(seconds)

    def pause(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.advance(seconds)
        return event.is_set()


def row(index: int | str, text: str | None = None, **more: Any) -> dict[str, Any]:
    """Return an input row whose text no other row has."""
    return {
        "index": index,
        "instruction": "Repeat.",
        "input": f"row {index}" if text is None else text,
        **more,
    }


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSONL."""
    lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def expected(item: Mapping[str, Any], model: str = "gpt-4.1-mini") -> str:
    """Return what the simulator answers to a row made by `row`."""
    messages = [
        {"role": "system", "content": item["instruction"]},
        {"role": "user", "content": item["input"]},
    ]
    return answer_text({"model": model, "messages": messages})


def told(question: str, system: str | None = None, model: str = "gpt-4.1-mini") -> str:
    """Return what the simulator answers to a question."""
    messages = [{"role": "user", "content": question}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return answer_text({"model": model, "messages": messages})


def until(reached: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)


def read_ledger(path: Path) -> dict[str, str | None]:
    """Return the last output of each index, null where there is none; every line must be whole."""
    found: dict[str, str | None] = {}
    data = path.read_bytes()
    assert data.endswith(b"\n") or not data
    for line in data.decode("utf-8").split("\n")[:-1]:
        for index, output in json.loads(line).items():
            if output is not None or index not in found:
                found[index] = output
    return found


def read_calls(path: Path) -> dict[str, dict[str, Any]]:
    """Return the last entry of each index in a ledger's call log."""
    log = path.with_name(path.stem + ".calls.jsonl")
    entries = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    return {entry["index"]: entry for entry in entries if "run" not in entry}


@dataclass
class Stage:
    """An input, an output and a configuration that lead to a simulator."""

    simulator: Simulator
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data.jsonl"

    @property
    def output(self) -> Path:
        return self.folder / "output.jsonl"

    def config(self, **overrides: Any) -> settings.Config:
        """Return settings that lead to the simulator, with two keys."""
        given = {"api_base": self.simulator.base_url, "api_keys": list(KEYS), **overrides}
        return settings.load(None, given, {})

    def config_file(self, **more: Any) -> Path:
        """Write them into a file for the command line."""
        path = self.folder / "settings.json"
        data = {"api_base": self.simulator.base_url, "api_keys": list(KEYS), **more}
        path.write_text(json.dumps(data), encoding="utf-8")
        path.chmod(0o600)
        return path

    def run(
        self,
        rows: Iterable[Mapping[str, Any]] | None = None,
        *,
        clock: Clock | None = None,
        job: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> RunSummary:
        """Write the rows (None: those that are there) and run them, quietly."""
        if rows is not None:
            write_rows(self.data, rows)
        work = Job(self.data, self.output, **{"quiet": True, **(job or {})})
        return run(self.config(**overrides), work, clock=clock)

    def command(self, *words: str | Path) -> list[str]:
        """Return the program's command line, as a process of its own."""
        return [sys.executable, "-m", "jsonl_runner", *map(str, words)]

    def cli(self, *words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the program to its end, in the stage's folder; at most 60 seconds."""
        return subprocess.run(
            self.command(*words),
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            cwd=self.folder,
            **more,
        )

    def run_cli(self, *words: str | Path, **settings_: Any) -> subprocess.CompletedProcess[str]:
        """Run `jsonl-runner run` on the stage's files."""
        config = self.config_file(**settings_)
        return self.cli("run", self.data, self.output, "--config", config, *words)
