"""A program that ends a batch run at its first step, at its second, and so on.

A step is a call's begin or end, or a commit's (the audit events of `batch.base.AUDIT`), or a file
that is opened or renamed. After each crash the run is done to its end and looked at. Prints a JSON
object with what was seen. Arguments: a folder to work in, the simulator's address, how many rows
and how many in a part, the first step and the distance to the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonl_runner import config as settings
from jsonl_runner.backoff import Backoff
from jsonl_runner.batch.base import AUDIT
from jsonl_runner.batch.desk import Pace, Time
from jsonl_runner.batch.job import Batches
from jsonl_runner.batch.openai import OpenAIBatches
from jsonl_runner.batch.plan import Wishes
from jsonl_runner.batch.profiles import OPENAI
from jsonl_runner.clock import Stop, SystemClock
from jsonl_runner.transport.base import TransportSettings

if TYPE_CHECKING:
    from collections.abc import Callable

CRASHED = 9
FILES = {"open", "os.rename", "os.mkdir", "os.remove"}
PACE = Pace(0.01, 0.05, settle_s=0.25, missing_s=1.0, retry=Backoff(0.02, 0.1))


def run(folder: Path, address: str, size: int) -> None:
    """Do the rows of a folder."""
    given = {"api_base": address, "api_keys": ["sk-any-key-0001"], "proxy": ""}
    config = settings.load(None, given, {})
    clock, stop = SystemClock(), Stop()
    limits = TransportSettings(address, timeout_s=20, connect_timeout_s=5, body_timeout_s=20)
    with contextlib.closing(OpenAIBatches(limits, OPENAI, clock, stop)) as provider:
        time_ = Time(clock, stop, PACE)
        with Batches(config, folder / "output.jsonl", provider, time_) as batches:
            batches.run(folder / "data.jsonl", Wishes(max_requests=size))


def ends(work: Callable[[], None], last: int, seen_at: Path) -> int:
    """Run in a process that ends at a step of that number (0: never); return its code."""
    process = os.fork()
    if process == 0:
        seen = 0

        def watch(event: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            if event == AUDIT:
                what = str(args[0])
            elif event in FILES and "/output" in str(args[0]):
                what = event
            else:
                return
            seen += 1
            if seen == last:
                seen_at.write_text(what)
                os._exit(CRASHED)

        sys.addaudithook(watch)
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            print(f"step {last}: {error!r}", file=sys.stderr)  # noqa: T201
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def write_rows(folder: Path, number: int, rows: int) -> None:
    folder.mkdir(parents=True)
    with (folder / "data.jsonl").open("w", encoding="utf-8") as file:
        for index in range(rows):
            row = {"index": index, "instruction": "Repeat.", "input": f"row {index} of {number}"}
            file.write(json.dumps(row) + "\n")


def check(folder: Path, number: int, rows: int) -> None:
    """Every row has its own output, on one line."""
    lines = (folder / "output.jsonl").read_text(encoding="utf-8").splitlines()
    found = Counter(index for line in lines for index in json.loads(line))
    assert found == Counter(str(index) for index in range(rows)), (number, len(lines))
    for line in lines:
        ((index, output),) = json.loads(line).items()
        assert f"row {index} of {number}" in output, (number, line)


def main(folder: str, address: str, *numbers: str) -> None:
    """Crash everywhere."""
    rows, size, first, distance = map(int, numbers)
    place, seen = Path(folder), Counter[str]()
    number, code, began = first, CRASHED, time.monotonic()
    while code == CRASHED:
        at = place / str(number)
        write_rows(at, number, rows)

        def work(at: Path = at) -> None:
            run(at, address, size)

        code = ends(work, number, place / "seen")
        assert code in {0, CRASHED}, code
        if code == CRASHED:
            seen[(place / "seen").read_text()] += 1
            assert ends(work, 0, place / "seen") == 0
        check(at, number, rows)
        number += distance
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"crashes": seen.total(), "at": seen, "seconds": seconds}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
