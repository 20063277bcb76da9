"""Commands that end at one of their own file operations: kill -9, or Ctrl-C, at each that there is.

As a program it is a server of one thread, from which each command is forked: JSON lines in, JSON
lines out. `Processes` is the side of the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import FakeClock

import jsonl_runner.transport.curl  # noqa: F401  # once, before there are many processes
from jsonl_runner import config as settings
from jsonl_runner import passes
from jsonl_runner.choice import Choice
from jsonl_runner.compact import compact
from jsonl_runner.dataset import Dataset
from jsonl_runner.errors import JsonlRunnerError
from jsonl_runner.job import Job
from jsonl_runner.judging import Judge
from jsonl_runner.merge import merge

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Self

#: What changes a file, or makes it safe; of each, the moment before and the moment after count.
OPERATIONS = {"write", "ftruncate", "open", "rename", "replace", "unlink", "rmdir", "mkdir"}
OPERATIONS |= {"fsync", "fdatasync", "commit", "close"}
REFUSED, DEFECT = 3, 70


def run_of(given: dict[str, Any]) -> Callable[[], Any]:
    """Return what does a run; `given` holds the arguments, as JSON can."""
    config = settings.load(None, given["config"], {})
    job = Job(Dataset(**given["data"]), Path(given["output"]), quiet=True, **given["job"])
    job = replace(job, choice=Choice(**given["choice"]))
    judge = Judge(given["judge"]) if given["judge"] else None
    return lambda: passes.run(config, job, judge=judge, clock=FakeClock(given["now"]))


def merge_of(given: dict[str, Any]) -> Callable[[], Any]:
    """Return what merges; the same of it."""
    output, target = Path(given["output"]), Path(given["target"])
    return lambda: merge(Dataset(**given["data"]), output, target)


def compact_of(given: dict[str, Any]) -> Callable[[], Any]:
    """Return what compacts; the same of it."""
    return lambda: compact(Path(given["output"]))


COMMANDS = {"run": run_of, "merge": merge_of, "compact": compact_of}


def end_at(number: int, how: int) -> None:
    """Send this process a signal at its file operation of that number, from any thread."""
    seen = 0

    def watch(_frame: FrameType, event: str, what: Any) -> None:
        nonlocal seen
        if event in {"c_call", "c_return"} and what.__name__ in OPERATIONS:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), how)

    threading.setprofile(watch)
    sys.setprofile(watch)


def do(order: dict[str, Any]) -> int:
    """Do a command in this process; return its code, and write what is wrong to stderr."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command = COMMANDS[order["command"]](order)
        end_at(order["at"], order["signal"])
        command()
    except (JsonlRunnerError, KeyboardInterrupt) as error:
        sys.setprofile(None)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return REFUSED
    except BaseException:  # noqa: BLE001
        sys.setprofile(None)
        traceback.print_exc()
        return DEFECT
    return 0


def main() -> None:
    """Do commands until there are no more."""
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            code = do(json.loads(line))
            sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        print(json.dumps(code), flush=True)  # noqa: T201


class Processes:
    """The server, as the tests see it; a context manager.

    Args:
        folder: for what commands say.
    """

    def __init__(self, folder: Path) -> None:
        self._said = folder / "said"

    def __enter__(self) -> Self:
        self._file = self._said.open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._file,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=20)
        self._file.close()

    def do(self, command: str, at: int, how: int, **given: Any) -> tuple[int, str]:
        """Do a command that gets a signal; return its code (-9: killed) and what it said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = self._said.stat().st_size
        order = {"command": command, "at": at, "signal": how, **given}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())
        return code, self._said.read_bytes()[before:].decode()


if __name__ == "__main__":
    main()
