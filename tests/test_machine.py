"""For every order of edits, runs, faults, kills and batches: nothing is lost, nothing paid twice.

Random walks over one ledger, through a real socket, beside a model of what must come of them (see
`machine_model`). A few are taken here; EVERY_STEP=1 takes many, other ones each time.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    precondition,
    rule,
    run_state_machine_as_test,
)
from machine_model import SHAPE
from machine_processes import REFUSED, Processes
from machine_stage import BATCH_S, JUDGE, Row
from machine_walk import RARELY, Walk
from support import KEYS, read_ledger, row

from jsonl_runner.batch.plan import Wishes
from jsonl_runner.calllog import last_input
from jsonl_runner.compact import compact
from jsonl_runner.errors import BadRowsError, ConfigError, InputError
from jsonl_runner.merge import merge
from jsonl_runner.simulator import SimulatorSettings
from jsonl_runner.status import status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from machine_model import Added, Book, Task
    from support import Stage


pytestmark = pytest.mark.skipif(os.name == "nt", reason="it forks, and kills")

#: Chances of faults while a run lasts.
RATES: list[dict[str, float]] = [
    {"500": 0.3, "429": 0.2},
    {"reset": 0.2, "truncated": 0.2, "close": 0.1},
    {"null_answer": 0.3, "empty": 0.2, "html": 0.1},
    {"content_policy": 0.3, "503": 0.2},
    {"401": 0.1, "error_in_200": 0.2},
    {"context_length": 0.9},
]
BAD_ANSWERS = {"broken_json": 0.4, "fenced_json": 0.2, "other_json": 0.1}
PRICES = {"gpt-4.1-mini": {"input": 1, "output": 1}}
THREADS = st.sampled_from([1, 2, 5, 16])
#: How a command may end that was interrupted, or just not.
_STOPS = ("RunInterrupted", "KeyboardInterrupt", "RunStopped", "BudgetReached", "NoUsableKey")
ENDINGS = ("0 ", *(f"{REFUSED} {name}" for name in _STOPS))
ENDS = st.tuples(st.integers(1, 60), st.sampled_from([signal.SIGKILL, signal.SIGINT]))


class Runs(Walk):
    """Everything that is done to one ledger."""

    # -- runs ------------------------------------------------------------------------------------

    @rule(
        threads=THREADS,
        choice=st.sampled_from([{}, {}, {"limit": 1}, {"limit": 3}, {"sample": 2, "seed": 5}]),
        fsync=st.sampled_from(["group", "always", "off"]),
        redo=st.booleans(),
        shaped=RARELY,
        cached=RARELY,
        rates=st.sampled_from([{}, {}, {}, *RATES]),
        max_cost=st.sampled_from([None, None, None, 0.0001, 0.001]),
        judged=RARELY,
        ends=st.none() | st.none() | ENDS,
    )
    def run(self, **how: Any) -> None:
        self.check_run(**how)

    @rule(threads=THREADS, redo=st.booleans())
    def go_on(self, *, threads: int, redo: bool) -> None:
        self.check_run(threads=threads, redo=redo)

    @rule(threads=THREADS, ends=ENDS)
    def end_early(self, *, threads: int, ends: tuple[int, int]) -> None:
        self.check_run(threads=threads, ends=ends)

    @rule(rates=st.sampled_from(RATES), shaped=st.booleans())
    def meet_faults(self, *, rates: dict[str, float], shaped: bool) -> None:
        self.check_run(threads=4, rates=rates, shaped=shaped)

    @rule(redo=st.booleans(), limit=st.sampled_from([{}, {"limit": 1}]))
    def judge(self, *, redo: bool, limit: dict[str, int]) -> None:
        self.check_run(threads=2, redo=redo, judged=True, choice=limit)

    def check_run(
        self,
        *,
        threads: int,
        choice: dict[str, int] | None = None,
        fsync: str = "off",
        redo: bool = False,
        shaped: bool = False,
        cached: bool = False,
        rates: dict[str, float] | None = None,
        max_cost: float | None = None,
        judged: bool = False,
        ends: tuple[int, int] | None = None,
    ) -> None:
        """Do a run, and look at everything that came of it."""
        choice, rates = choice or {}, rates or {}
        world = self.world
        owed = world.owed(redo=redo)
        if shaped and rates:
            rates, judged = BAD_ANSWERS, False
        changed = sum(map(world.book.is_changed, world.tasks()))
        world.simulator.settings = SimulatorSettings(
            fault_rates=rates, batch_in_progress_s=BATCH_S, latency_s=0.002 if ends else 0.0
        )
        shape = SHAPE if shaped else None
        config: dict[str, Any] = {"threads": threads, "max_retries": 2, "cache": cached}
        config |= {"params": {"response_format": SHAPE}} if shaped else {}
        config |= {"max_cost": max_cost, "prices": PRICES} if max_cost else {}
        job = {"fsync": fsync, "redo_changed": redo}
        summary, why = world.run(config, job, choice, JUDGE if judged else None, ends)
        killed = summary is None and why.startswith("-9")
        calls = world.calls()
        added, verdicts = self.take(shape=shape, redo=redo, torn=summary is None)
        lost = threads if killed else 0
        self.check_bill(calls, added, verdicts, shaped=shaped, cached=cached, lost=lost)
        assert not world.batched.keys() & {*added.outputs, *added.nulls}, "it lies in a batch"
        if summary is None:
            assert killed or why.startswith(ENDINGS), why
            return
        assert (summary.done, summary.failed) == (len(added.outputs), len(added.nulls))
        if world.kind != "turns":
            todo = len(owed)
            count = min([todo, *(v for k, v in choice.items() if k != "seed")])
            came = len(added.outputs) + len(added.nulls)
            assert came == count or (came < count and why)
            if not redo and all(h.question for h in world.book.held.values()):
                assert summary.changed.count == changed
        if not (why or choice or rates):
            self.check_whole(world.owed(redo=redo), world.book, added)
        if judged and not (why or rates or summary.stopped):
            held = [t.index for t in world.tasks(whole=True) if t.index in world.book.held]
            verdicts_owed = [
                t for t in map(world.verdict_of, held) if world.verdicts.is_owed(t, redo=True)
            ]
            self.check_whole(verdicts_owed, world.verdicts, verdicts)
        if not owed:  # but for verdicts that a fault, or the budget, has kept from coming
            calls = [c for c in calls if not (judged and c.prompt.startswith("Judge this"))]
            assert not calls, "there was nothing to do"

    def check_whole(self, owed: list[Task], book: Book, added: Added) -> None:
        """Where nothing stood in the way, what has no output asked for a fault."""
        for task in owed:
            assert task.index in {*book.nulls, *added.nulls}, f"{task} was left out"
            assert "[[fault:" in json.dumps(task.question), f"{task} has no output"

    # -- batches ---------------------------------------------------------------------------------

    @precondition(lambda self: self.world.kind != "turns")
    @rule(size=st.sampled_from([None, 2]))
    def submit(self, size: int | None) -> None:
        world = self.world
        owed = world.owed(redo=False)
        world.simulator.settings = SimulatorSettings(
            batch_in_progress_s=BATCH_S, batch_window_s=1e12
        )
        with world.batches() as batches:
            batches.plan(world.dataset, Wishes(max_requests=size))
            batches.submit()
        added, verdicts = self.take()
        self.check_bill(world.calls(), added, verdicts)
        world.batched |= {t.index: t.question for t in owed if t.index not in world.book.held}

    @precondition(lambda self: self.world.kind != "turns")
    @rule(late=st.booleans())
    def fetch(self, *, late: bool) -> None:
        world = self.world
        if late:
            world.clock.advance(2 * BATCH_S)
        with world.batches() as batches:
            batches.fetch()
            waiting = batches.manifest.waiting_rows()
            over = [index for index in world.batched if index not in waiting]
        added, _ = self.take()
        assert set(added.outputs + added.nulls) <= set(over)
        paid, bill = added.billed + added.free, world.batch_bill()
        assert not paid - bill, f"nobody has sent: {paid - bill}"
        lost = [prompt for prompt in bill - paid if "[[fault:" not in prompt]  # no good answers
        assert not lost, f"paid, and not in the ledger: {lost}"
        assert not (late and len(waiting))
        for index in over:
            del world.batched[index]

    # -- what is made of them --------------------------------------------------------------------

    @rule(ends=st.none() | ENDS, of_verdicts=RARELY)
    def compact(self, *, ends: tuple[int, int] | None, of_verdicts: bool) -> None:
        world = self.world
        book = world.verdicts if of_verdicts else world.book
        if not book.path.exists():
            return
        before = book.path.read_bytes()
        if ends is None:
            compact(book.path)
        else:
            world.process("compact", ends, output=str(book.path))
        after = book.path.read_bytes()
        if after == before and ends is not None:
            return
        lines = after.splitlines(keepends=True)
        assert set(lines) <= {*before.splitlines(keepends=True), before.split(b"\n")[-1] + b"\n"}
        last = {index: held.output for index, held in book.held.items()}
        entries = [item for line in lines for item in json.loads(line).items()]
        assert dict(entries) == {**dict.fromkeys(book.nulls), **last}
        assert len(entries) == len(book.held) + len(book.nulls)
        book.bytes = after

    @rule(suffix=st.sampled_from(["json", "jsonl", "csv"]), ends=st.none() | st.none() | ENDS)
    def merge(self, suffix: str, ends: tuple[int, int] | None) -> None:
        world = self.world
        self.merge_judged()
        target = world.folder / f"merged.{suffix}"
        done = [(t, world.book.held.get(t.index)) for t in world.tasks(whole=True)]
        want = [(task.index, held.output) for task, held in done if held is not None]
        if ends is not None:
            given = {"data": world.data, "output": str(world.output), "target": str(target)}
            world.process("merge", ends, **given)
            return
        if not want:
            with pytest.raises(InputError):
                merge(world.dataset, world.output, target)
            return
        merge(world.dataset, world.output, target)
        if suffix == "csv":
            return
        text = target.read_text(encoding="utf-8")
        rows = json.loads(text) if suffix == "json" else map(json.loads, text.splitlines())
        assert [(str(row["index"]), row["output"]) for row in rows] == want

    def merge_judged(self) -> None:
        world, target = self.world, self.world.folder / "judged.jsonl"
        if not world.verdicts.held or not world.book.held:
            return
        tasks = [t for t in world.tasks(whole=True) if t.index in world.book.held]
        if not tasks:
            return
        merge(world.dataset, world.output, target, judged="simulated")
        for line in target.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            held = world.verdicts.held[row["index"]]
            assert row["judge"] == held.output
            now = world.verdict_of(row["index"])
            if held.question is not None and world.book.held[row["index"]].question is not None:
                assert (
                    held.question == now.question or world.book.held[row["index"]].question is None
                ), "a verdict on an earlier output"

    @rule()
    def status(self) -> None:
        world = self.world
        found = status(world.dataset, world.output)
        tasks = world.tasks()
        rows = sum(len(row.texts) for row in world.rows) * (
            world.n if world.kind == "samples" else 1
        )
        held, nulls = world.book.held, world.book.nulls
        done = sum(task.index in held for task in tasks)
        failed = sum(task.index in nulls for task in tasks)
        counts = (found.rows, found.done, found.failed)
        assert counts == (rows, done, failed)
        assert found.left == rows - done - failed
        changed = sum(world.book.is_changed(task) for task in tasks)
        unknown = sum(task.index in held and held[task.index].question is None for task in tasks)
        assert changed <= found.changed <= changed + unknown

    # -- what is refused -------------------------------------------------------------------------

    @rule(bad=st.sampled_from([b"{broken\n", b"[]\n", b"twin", b"names"]))
    def refuse(self, bad: bytes) -> None:
        """Bad rows are told before anything is paid, and rows that are called otherwise now."""
        world, rows, kind = self.world, list(self.world.rows), self.world.kind
        if bad == b"names":
            if kind == "turns" or not last_input(world.output):
                return
            world.kind = "samples" if kind == "plain" else "plain"
        elif bad == b"twin":
            if world.naming != "index":
                return
            world.rows.append(Row(rows[0].name, ["another"]))
            world.write()
        elif world.form not in {"jsonl", "jsonl.gz"}:
            return
        else:
            world.write(extra=bad)
        with pytest.raises(ConfigError if bad == b"names" else BadRowsError):
            world.run({}, {}, {})
        world.rows, world.kind = rows, kind
        world.write()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with Processes(tmp_path_factory.mktemp("processes")) as found:
        yield found


def test_ctrl_c_while_a_table_is_read_is_said_as_such(
    processes: Processes, stage: Stage, tmp_path: Path
) -> None:
    """Not as a file that cannot be read: the thread that decodes it may be at work."""
    import pyarrow as pa  # noqa: PLC0415  # takes a while
    import pyarrow.parquet as pq  # noqa: PLC0415

    data = tmp_path / "data.parquet"
    pq.write_table(pa.Table.from_pylist([row(number) for number in range(5)]), data)
    given = {"data": {"files": str(data)}, "output": str(stage.output), "now": 0.0}
    given |= {"config": {"api_base": stage.simulator.base_url, "api_keys": list(KEYS)}}
    given |= {"job": {}, "choice": {}, "judge": None}
    for at in range(1, 60, 2):
        code, said = processes.do("run", at, signal.SIGINT, **given)
        assert code == 0 or said.startswith(("RunInterrupted", "KeyboardInterrupt")), (at, said)
    assert read_ledger(stage.output).keys() <= set("01234")


def test_for_every_order_of_steps_nothing_is_lost_and_nothing_is_paid_twice(
    processes: Processes,
) -> None:
    """See above."""
    many = bool(os.environ.get("EVERY_STEP"))

    class Here(Runs):
        pass

    Here.processes = processes
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=400 if many else 10,
            stateful_step_count=30 if many else 20,
            derandomize=not many,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
