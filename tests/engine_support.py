"""Work for engines that does what a row says, in this process or in another."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jsonl_runner.records import Outcome, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Seconds after which what hangs lets go, so that a test fails instead; no machine is as slow.
PATIENCE_S = 240.0


def rows(folder: Path, count: int, special: dict[int, str] | None = None) -> Iterator[Record]:
    """Yield Records numbered from 0; `special`: what some of them do."""
    for number in range(count):
        yield Record(str(number), str(folder), (special or {}).get(number, ""))


def work(record: Record) -> Outcome:
    """Note that a row has begun, and do what it says: nothing, `wait FILE`, `raise`, `die`."""
    with (Path(record.instruction) / "begun").open("ab", buffering=0) as stream:
        stream.write(f"{record.index}\n".encode())  # one write: other processes do the same
    verb, _, rest = record.input.partition(" ")
    if verb == "wait":
        deadline = time.monotonic() + PATIENCE_S
        while not Path(rest).exists() and time.monotonic() < deadline:
            time.sleep(0.002)
    elif verb == "raise":
        raise OSError("the disk is gone")
    elif verb == "die":
        os._exit(1)
    return Outcome(record.index, "done")


def begun(folder: Path) -> list[str]:
    """Return the indices of the rows that have begun, as often as they have."""
    path = folder / "begun"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def indices(groups: Iterable[list[Outcome]]) -> list[str]:
    """Return the indices of all Outcomes, in the order of the numbers."""
    return sorted((outcome.index for group in groups for outcome in group), key=int)


def numbers(count: int) -> list[str]:
    """Return what `indices` is of so many rows."""
    return [str(number) for number in range(count)]
