"""Workers on Ray for the tests of engines: what they do, and who leads them."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine_support import work

from jsonl_runner.clock import Stop
from jsonl_runner.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jsonl_runner.engines.station import Duty
    from jsonl_runner.errors import JsonlRunnerError
    from jsonl_runner.records import Outcome, Record


class PlainDuty:
    """Does what each row says; tells its number."""

    def __init__(self, number: int, threads: int) -> None:
        self.number = number
        self.threads = threads
        self.stop = Stop()
        self._has_told = False

    def work(self, record: Record) -> Outcome:
        if not self._has_told:
            self._has_told = True
            (Path(record.instruction) / f"pid-{os.getpid()}").touch()
        return work(record)

    def hear(self, word: Any) -> None:
        pass

    def tell(self) -> int:
        return self.number

    def close(self) -> None:
        pass


class PlainLead:
    """Leads workers of some threads each, and remembers what it was told."""

    def __init__(self, *threads: int) -> None:
        self.threads = threads
        self.heard_of: set[int] = set()
        self.losses: list[tuple[int, int]] = []
        self.ends: list[tuple[int, str, bool]] = []

    def duty(self, number: int) -> Callable[[], Duty]:
        return partial(PlainDuty, number, self.threads[number])

    def word(self, number: int) -> Any:
        return None

    def heard(self, number: int, told: Any, *, has_rows: bool) -> None:
        self.heard_of.add(told)

    def is_stuck(self, number: int) -> bool:
        return False

    def lost(self, number: int, rows: int, why: str) -> None:
        assert why
        self.losses.append((number, rows))

    def ended(self, number: int, why: JsonlRunnerError, *, is_last: bool) -> None:
        self.ends.append((number, str(why), is_last))


def nothing_here() -> Duty:
    """Do what a node does that lacks something."""
    raise ConfigError("this node lacks a key")


class BrokenLead(PlainLead):
    """Leads workers that cannot begin."""

    def duty(self, number: int) -> Callable[[], Duty]:
        return nothing_here


def workers_below(raylets: list[int]) -> list[int]:
    """Return the process ids of our workers on some nodes; on Linux alone."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and (entry / "cmdline").read_text().startswith("ray::Station"):
                found.append(int(entry.name))
    return found
