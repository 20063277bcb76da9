"""The stage of random walks: an input that is edited, a ledger, a simulator, and their model."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine_model import MODEL, Asked, Book, Task, asked
from machine_processes import DEFECT
from support import KEYS, FakeClock, until

from jsonl_runner import config as settings
from jsonl_runner import passes
from jsonl_runner.answers import verdicts_on
from jsonl_runner.batch.desk import Pace, Time
from jsonl_runner.batch.job import Batches
from jsonl_runner.batch.manifest import waiting_rows
from jsonl_runner.batch.openai import OpenAIBatches
from jsonl_runner.batch.profiles import OPENAI
from jsonl_runner.choice import Choice
from jsonl_runner.clock import Stop
from jsonl_runner.dataset import Dataset
from jsonl_runner.errors import RunStoppedError
from jsonl_runner.job import Job
from jsonl_runner.judging import Judge
from jsonl_runner.reader import open_input
from jsonl_runner.simulator import Simulator, SimulatorSettings
from jsonl_runner.transport.base import TransportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine_processes import Processes

    from jsonl_runner.simulator import Call

JUDGE = "Judge this: {{ output }}"
#: Bytes of fields beside what is asked, so that an input is large enough for an index file.
PAD = "p" * (6 * 1024 * 1024)
BATCH_S = 60.0
DAY_S = 86_400.0


@dataclass
class Row:
    """An input row; with several texts a conversation."""

    name: int | str
    texts: list[str]


class World:
    """See above.

    Args:
        kind: `plain`, `samples` (--n) or `turns` (--turns).
        naming: `index`, `line` or `content`.
        processes: do what is killed.
        is_large: whether the input has an index file.
    """

    def __init__(self, kind: str, naming: str, processes: Processes, *, is_large: bool) -> None:
        self.kind, self.naming, self._processes = kind, naming, processes
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.simulator = Simulator(SimulatorSettings(), now=self.clock.now)
        self.simulator.start()
        self.output = self.folder / "output.jsonl"
        self.book, self.verdicts = Book(self.output), Book(verdicts_on(self.output))
        self.rows: list[Row] = []
        self.n = 2
        self.form = "jsonl"
        # Others are read to their end each time.
        self.is_large = is_large and (kind, naming) == ("plain", "index")
        #: Rows that lie in batches, and what they ask.
        self.batched: dict[str, Asked] = {}
        #: Texts that stand in the cache.
        self.known: set[str] = set()
        #: What a killed process may have left beside the files.
        self._tolerated: set[str] = set()
        self._calls = self._lines = self._writes = 0

    def close(self) -> None:
        """End it, after a last look: no key stands in any file."""
        try:
            for path in self.folder.rglob("*"):
                found = path.read_bytes() if path.is_file() and path != self.input else b""
                assert not any(key.encode() in found for key in KEYS), path
        finally:
            self.simulator.stop()
            shutil.rmtree(self.folder)

    # -- the input -------------------------------------------------------------------------------

    @property
    def input(self) -> Path:
        """The file with the rows."""
        return self.folder / f"data.{self.form}"

    @property
    def data(self) -> dict[str, Any]:
        """The arguments of the Dataset."""
        more: dict[str, Any] = {"n": self.n} if self.kind == "samples" else {}
        if self.kind == "turns":
            more["turns"] = "turns"
        if self.naming != "index":
            more["auto_index"] = self.naming
        return {"files": str(self.input), **more}

    @property
    def dataset(self) -> Dataset:
        """The input, as it is run."""
        return Dataset(**self.data)

    def write(self, *, extra: bytes = b"") -> None:
        """Write the rows, and some lines of JSONL that are none."""
        rows = [self._as_dict(number, row) for number, row in enumerate(self.rows)]
        lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        path, self._writes = self.input, self._writes + 1
        if self.form == "jsonl.gz":
            path.write_bytes(gzip.compress(lines + extra, mtime=0))
        elif self.form == "json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        elif self.form == "csv":
            with path.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        elif self.form == "parquet":
            import pyarrow as pa  # noqa: PLC0415  # takes a while
            import pyarrow.parquet as pq  # noqa: PLC0415

            named = [{**row, "index": str(row["index"])} for row in rows]
            pq.write_table(pa.Table.from_pylist(named), path)
        else:
            path.write_bytes(lines + extra)
        # As a file that was left alone for some minutes: only such a one is known again unread.
        past = (path.stat().st_mtime_ns - 300 * 10**9) // 1000 * 1000 + 1 + self._writes
        os.utime(path, ns=(past, past))

    def _as_dict(self, number: int, row: Row) -> dict[str, Any]:
        found: dict[str, Any] = {"index": row.name} if self.naming == "index" else {}
        found["instruction"] = "Repeat."
        if self.kind == "turns":
            found["turns"] = row.texts
        else:
            found["input"] = row.texts[0]
        if self.is_large and number < 3:
            found["pad"] = PAD
        return found

    def names(self) -> list[str]:
        """Return the index of each row, before samples and turns."""
        if self.naming == "index":
            return [str(row.name) for row in self.rows]
        if self.naming == "line":
            return [str(number) for number in range(1, len(self.rows) + 1)]
        with open_input(Dataset(str(self.input), auto_index="content")) as stream:
            return [json.loads(line)["index"] for line in stream.read().splitlines() if line]

    # -- what is owed ----------------------------------------------------------------------------

    def tasks(self, *, whole: bool = False) -> list[Task]:
        """Return what is asked: with turns the next of each conversation, or its last (`whole`)."""
        found = []
        for name, row in zip(self.names(), self.rows, strict=True):
            if self.kind == "samples":
                found += [Task(f"{name}#{k}", asked(row.texts[0])) for k in range(self.n)]
            elif self.kind == "plain":
                found.append(Task(name, asked(row.texts[0])))
            else:
                count = len(row.texts)
                before = [self.book.held.get(f"{name}@{turn}") for turn in range(1, count)]
                said = [held.output if held else None for held in before]
                turns = [count] if whole else range(1, count + 1)
                found += [
                    Task(f"{name}@{turn}", _turn(row.texts, said, turn))
                    for turn in turns
                    if whole or None not in said[: turn - 1]
                ]
        return found

    def task_of(self, index: str) -> Task:
        """Return what an index asks; one in a batch asks what it asked when it was sent."""
        if index in self.batched:
            return Task(index, self.batched[index])
        return next(task for task in self.tasks() if task.index == index)

    def verdict_of(self, index: str) -> Task:
        """Return what the judge is asked of an output."""
        assert any(task.index == index for task in self.tasks(whole=True))
        output = self.book.held[index].output
        return Task(index, asked(f"Judge this: {output}", None))

    def owed(self, *, redo: bool) -> list[Task]:
        """Return the tasks that a run must do."""
        return [
            task
            for task in self.tasks()
            if self.book.is_owed(task, redo=redo) and task.index not in self.batched
        ]

    # -- commands --------------------------------------------------------------------------------

    def config(self, **more: Any) -> dict[str, Any]:
        """Return settings that lead to the simulator."""
        base = {"api_base": self.simulator.base_url, "api_keys": list(KEYS), "model": MODEL}
        return {**base, "cache_directory": str(self.folder / "cache"), **more}

    def run(
        self,
        config: dict[str, Any],
        job: dict[str, Any],
        choice: dict[str, int],
        judge: str | None = None,
        ends: tuple[int, int] | None = None,
    ) -> tuple[Any, str]:
        """Do a run; return its summary (None: it was ended by a signal) and why it stopped."""
        config = self.config(**config)
        if ends is not None:
            given = {"config": config, "data": self.data, "output": str(self.output), "job": job}
            more = {"choice": choice, "judge": judge, "now": self.clock.now()}
            code, said = self.process("run", ends, **given, **more)
            return None, f"{code} {said}"
        work = Job(self.dataset, self.output, quiet=True, choice=Choice(**choice), **job)
        judges = Judge(judge) if judge else None
        try:
            return passes.run(
                settings.load(None, config, {}), work, judge=judges, clock=self.clock
            ), ""
        except RunStoppedError as error:
            return error.summary, str(error)
        finally:
            self.clock.advance(1)

    def process(self, command: str, ends: tuple[int, int], **given: Any) -> tuple[int, str]:
        """Do a command that gets a signal at one of its file operations."""
        code, said = self._processes.do(command, *ends, **given)
        assert code != DEFECT, said
        until(lambda: self.simulator.journal.in_flight() == 0)
        self.clock.advance(DAY_S)
        if code == -9:
            self._tolerated |= self._scraps()
        elif "KeyboardInterrupt" in said:  # a lock file that nobody holds
            self._tolerated |= {f"{book.path.name}.lock" for book in (self.book, self.verdicts)}
        return code, said

    @contextlib.contextmanager
    def batches(self) -> Iterator[Batches]:
        """Open the batches of the ledger."""
        limits = TransportSettings(
            self.simulator.base_url, timeout_s=10, connect_timeout_s=5, body_timeout_s=10
        )
        stop = Stop()
        config = settings.load(None, self.config(), {})
        with (
            contextlib.closing(OpenAIBatches(limits, OPENAI, self.clock, stop)) as provider,
            Batches(config, self.output, provider, Time(self.clock, stop, Pace())) as found,
        ):
            yield found

    # -- looks -----------------------------------------------------------------------------------

    def calls(self) -> list[Call]:
        """Return the calls of prompts since the last time."""
        calls = self.simulator.journal.calls[self._calls :]
        self._calls += len(calls)
        return [call for call in calls if call.path == "/v1/chat/completions"]

    def batch_bill(self) -> Counter[str]:
        """Return how often each prompt was answered in batches since the last time."""
        lines = self.simulator.journal.batches.billed[self._lines :]
        self._lines += len(lines)
        return Counter(line.prompt for line in lines)

    def check_files(self) -> None:
        """No command leaves anything behind but one that was killed."""
        assert self._scraps() <= self._tolerated, self._scraps()
        waiting = waiting_rows(self.output)
        assert len(waiting) == len(self.batched), (len(waiting), self.batched)
        assert all(index in waiting for index in self.batched)

    def _scraps(self) -> set[str]:
        names = {path.name for path in self.folder.iterdir()}
        return {name for name in names if name.endswith((".tmp", ".part", ".lock"))}


def _turn(texts: list[str], said: list[str | None], turn: int) -> Asked:
    question: list[tuple[str, str]] = [("system", "Repeat.")]
    for text, answer in zip(texts[:turn], [*said[: turn - 1], None], strict=True):
        question.append(("user", text))
        if answer is not None:
            question.append(("assistant", answer))
    return tuple(question)


def first_answers(calls: list[Call]) -> Counter[str]:
    """Return how often each prompt was answered as well as the simulator can."""
    good = {None, "whitespace"}
    return Counter(call.prompt for call in calls if call.status == 200 and call.fault in good)
