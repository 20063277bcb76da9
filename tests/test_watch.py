"""Looking at a run from elsewhere: the state file, and `status --watch`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, FakeClock, row, write_rows
from test_live import Screen, has

from jsonl_runner import statefile, watching
from jsonl_runner.calllog import path_for
from jsonl_runner.cli.watch import line_of
from jsonl_runner.errors import RunInterruptedError
from jsonl_runner.lookout import Lookout, Sight
from jsonl_runner.simulator import SimulatorSettings
from jsonl_runner.snapshot import Snapshot
from jsonl_runner.statefile import StateFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import Stage

NOW = Snapshot(1.8e9 + 1000, rows=10, done=3, failed=1, rate=2.0, left_s=3.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "output.jsonl"


@pytest.fixture
def screen() -> Iterator[Screen]:
    if os.name == "nt":
        pytest.skip("POSIX terminals")
    made = Screen()
    yield made
    made.close()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def changed(path: Path, **more: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **more}))


# The state file


def test_it_is_read_as_it_was_written(ledger: Path) -> None:
    """By its process, which is there; and nothing is left beside it."""
    state = StateFile(ledger)
    assert statefile.read(ledger) is None
    state.write(NOW)
    found = statefile.read(ledger)
    assert found is not None
    assert (found.snapshot, found.pid, found.fate) == (NOW, os.getpid(), "running")
    assert files(ledger.parent) == {"output.state.json"}
    state.remove()
    assert files(ledger.parent) == set()


def test_the_newest_state_is_offered_in_the_background(ledger: Path) -> None:
    """And whatever comes last stands in the file at the end."""
    state = StateFile(ledger)
    for done in range(50):
        state.offer(Snapshot(1.0, done=done))
    state.end(Snapshot(1.0, done=99), "interrupted")
    found = statefile.read(ledger)
    assert found is not None
    assert (found.snapshot.done, found.fate, found.ended) == (99, "ended", "interrupted")
    StateFile(ledger)  # the next run
    assert statefile.read(ledger) is None


def test_what_became_of_its_process(ledger: Path) -> None:
    """A number of a process that is gone, or that another one has now; another machine."""
    StateFile(ledger).write(NOW)
    path = statefile.path_for(ledger)
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    for more, fate in (
        ({"pid": done.pid}, "gone"),
        ({"pid": os.getpid(), "host": "elsewhere"}, "elsewhere"),
    ):
        changed(path, **more)
        found = statefile.read(ledger)
        assert found is not None
        assert found.fate == fate
    if sys.platform == "linux":
        StateFile(ledger).write(NOW)
        changed(path, began=1)
        found = statefile.read(ledger)
        assert found is not None
        assert found.fate == "gone"


@pytest.mark.parametrize(
    "more",
    [{"version": 2}, {"pid": "1"}, {"pid": -1}, {"began": "x"}, {"snapshot": 5}, {"snapshot": {}}],
)
def test_what_is_no_state_is_none(ledger: Path, more: dict[str, Any]) -> None:
    """Of another version, damaged, cut off: as if it were not there."""
    StateFile(ledger).write(NOW)
    path = statefile.path_for(ledger)
    whole = path.read_bytes()
    changed(path, **more)
    assert statefile.read(ledger) is None
    for broken in (b"", b"[]", b"{}", whole[:50], b"\xff"):
        path.write_bytes(broken)
        assert statefile.read(ledger) is None


def test_a_folder_that_takes_no_file_costs_nothing(ledger: Path) -> None:
    """Nothing is raised, and nothing is there."""
    state = StateFile(ledger.parent / "none" / "output.jsonl")
    state.offer(NOW)
    state.end(NOW, "x")
    state.remove()
    assert not state.is_there
    blocked = StateFile(ledger)
    statefile.path_for(ledger).mkdir()
    blocked.write(NOW)
    assert not blocked.is_there
    assert files(ledger.parent) == {"output.state.json"}


def test_a_run_has_one_while_it_runs_and_none_when_it_is_complete(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the run's numbers; deleting it meanwhile harms nothing."""
    monkeypatch.setattr(watching, "LOOK_EVERY_S", 0.0)
    stage.simulator.settings = SimulatorSettings(latency_s=0.05)
    seen: list[statefile.State] = []

    def settled(_group: object) -> None:
        state = statefile.read(stage.output)
        if state is not None:
            seen.append(state)
            statefile.path_for(stage.output).unlink(missing_ok=True)

    summary = stage.run([row(n) for n in range(60)], threads=2, job={"settled": settled})
    assert summary.done == 60
    assert seen
    assert all(state.fate == "running" for state in seen)
    assert (seen[-1].snapshot.rows, seen[-1].snapshot.output) == (60, str(stage.output))
    assert files(stage.folder) == {"data.jsonl", "output.jsonl", "output.calls.jsonl"}


def test_a_run_that_ends_early_says_why(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its state file, without a key; the next run takes it away."""
    from jsonl_runner.clock import Stop  # noqa: PLC0415
    from jsonl_runner.job import Job  # noqa: PLC0415
    from jsonl_runner.runner import run  # noqa: PLC0415

    monkeypatch.setattr(watching, "LOOK_EVERY_S", 0.0)
    stop = Stop()
    write_rows(stage.data, [row(n) for n in range(40)])

    def settled(_group: object) -> None:
        if statefile.path_for(stage.output).exists():
            stop.request(RunInterruptedError(signal.SIGINT))

    stage.simulator.settings = SimulatorSettings(latency_s=0.05)
    job = Job(stage.data, stage.output, quiet=True, settled=settled)
    with pytest.raises(RunInterruptedError):
        run(stage.config(threads=1), job, stop=stop)
    state = statefile.read(stage.output)
    assert state is not None
    assert (state.fate, state.ended) == ("ended", "interrupted by SIGINT")
    text = statefile.path_for(stage.output).read_text(encoding="utf-8")
    assert not any(key in text for key in KEYS)
    stage.run()
    assert not statefile.path_for(stage.output).exists()


# Looking


def look(clock: FakeClock, ledger: Path) -> Sight:
    data = ledger.with_name("data.jsonl")
    if not data.exists():
        write_rows(data, [row(n) for n in range(10)])
    return Lookout(data, ledger, clock).look()


def test_a_run_is_seen_by_its_state(clock: FakeClock, ledger: Path) -> None:
    """As it says; and when it has said nothing for long, that."""
    StateFile(ledger).write(NOW)
    assert look(clock, ledger) == Sight(NOW, "running")
    clock.advance(60)
    silent = look(clock, ledger)
    assert silent.run == "running"
    assert silent.word.endswith("for 60 s")
    assert str(os.getpid()) in silent.word


def test_a_run_that_has_ended_or_died(clock: FakeClock, ledger: Path) -> None:
    """With why, and since when; one whose file goes away while it is watched is complete."""
    StateFile(ledger).end(NOW, "interrupted by SIGINT")
    clock.advance(200)
    ended = look(clock, ledger)
    assert (ended.run, ended.word) == ("ended", "ended 3:20 min ago: interrupted by SIGINT")
    assert ended.is_over
    changed(statefile.path_for(ledger), ended="", began=1, pid=2**22 - 1)
    gone = look(clock, ledger)
    assert gone.run == "gone"
    assert "gone without a word" in gone.word
    changed(statefile.path_for(ledger), pid=os.getpid(), began=None)
    watched = Lookout(ledger.with_name("data.jsonl"), ledger, clock)
    assert watched.look().run == "running"
    statefile.path_for(ledger).unlink()
    assert watched.look() == Sight(NOW, "ended", "ended")


def entry(index: int, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    return {
        "index": str(index), "status": "ok", "code": "ok", "message": "", "attempts": 1,
        "latency_s": 0.5, "key": "#1", "usage": usage, "cost": 0.25, "ended": 1e9, **more,
    }  # fmt: skip


def test_without_a_state_file_the_call_log_tells(clock: FakeClock, ledger: Path) -> None:
    """Only what comes while one looks; half a line waits for its end; nonsense is passed over."""
    write_rows(ledger.with_name("data.jsonl"), [row(n) for n in range(10)])
    ledger.write_text('{"0":"a"}\n', encoding="utf-8")
    log = path_for(ledger)
    write_rows(log, [entry(0)])
    lock = ledger.with_name("output.jsonl.lock")
    lock.write_text("process 1\n", encoding="utf-8")
    watched = Lookout(ledger.with_name("data.jsonl"), ledger, clock)
    first = watched.look()
    assert (first.run, first.word) == ("calls", "by its call log")
    assert (first.snapshot.rows, first.snapshot.skipped, first.snapshot.done) == (10, 1, 0)
    clock.advance(1)
    failed = entry(2, status="failed", code="timeout", message="slow", attempts=3)
    with log.open("a", encoding="utf-8") as stream:
        lines = ["nonsense", '{"run": {}}', json.dumps(entry(1)), json.dumps(failed)]
        stream.write("\n".join(lines) + '\n{"index"')
    now = watched.look().snapshot
    assert (now.done, now.failed, now.left, now.rate) == (1, 1, 7, 2)
    assert (now.cost, now.tokens_in, now.reasons) == (0.5, 4, {"timeout": 1})
    assert [(key.label, key.calls, key.tokens, key.cost) for key in now.keys] == [
        ("#1", 4, 10, 0.5)
    ]
    with log.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry(3)).removeprefix('{"index"') + "\n")
    assert watched.look().snapshot.done == 2
    log.write_text(json.dumps(entry(4)) + "\n", encoding="utf-8")  # compacted away, begun anew
    assert watched.look().snapshot.done == 3
    lock.unlink()
    assert watched.look().run == "none"


def test_where_nothing_is_left_there_is_nothing_to_wait_for(clock: FakeClock, ledger: Path) -> None:
    """No run and every row done: it is over; with rows left it waits for a run."""
    assert look(clock, ledger).word == "no run is writing it; waiting for one"
    outputs = "".join(f'{{"{n}":"a"}}\n' for n in range(10))
    ledger.write_text(outputs, encoding="utf-8")
    complete = look(clock, ledger)
    assert (complete.run, complete.word) == ("ended", "complete")


def test_a_sight_in_a_line() -> None:
    """What moves, and the words behind it, harmless."""
    assert line_of(Sight(NOW, "running")) == "4/10 rows, null 1, 2.0 rows/s, 3.0 s left"
    odd = Snapshot(1.0, done=5, cost=1.5, stopping="stopping", trouble="bad \x1b[2J")
    assert line_of(Sight(odd, "running", "no news")) == (
        "5 rows, null 0, 0.0 rows/s, cost 1.5000; no news; stopping; bad \ufffd[2J"
    )
    assert line_of(Sight(odd, "gone", "gone")) == "5 rows, null 0, cost 1.5000; gone"


# The program


def test_watching_a_run_in_another_terminal(stage: Stage, screen: Screen, tmp_path: Path) -> None:
    """The table while it runs; how it ended, and where the rows stand, on the normal screen."""
    stage.simulator.settings = SimulatorSettings(latency_s=0.5)
    write_rows(stage.data, [row(n) for n in range(30)])
    given = (stage.data, stage.output, "--config", stage.config_file(), "--threads", "4", "-q")
    environment = {**os.environ, "TERM": "xterm-256color"}
    run = subprocess.Popen(stage.command("run", *given))
    watch = None
    try:
        until = time.monotonic() + 20
        while statefile.read(stage.output) is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        watch = subprocess.Popen(
            stage.command("status", stage.data, stage.output, "--watch"),
            stdout=screen.writer,
            env=environment,
        )
        lines = screen.wait_for(has("in flight of"))
        assert lines[0].startswith("running, ")
        assert any(line.startswith("#1(…0001) ready") for line in lines)
        assert run.wait(30) == 0
        assert watch.wait(20) == 0
    finally:
        for process in (run, watch):
            if process is not None:
                process.kill()
                process.wait()
    screen.read()
    end = screen.raw.decode().rpartition("\x1b[?1049l")[2].replace("\r\n", "\n")
    assert "; ended\nrows 30: done 30, failed 0, left 0\n" in end


def test_as_json_and_as_lines(stage: Stage) -> None:
    """Where the run is over at the first look, one look is all."""
    stage.run([row(n) for n in range(3)])
    state = StateFile(stage.output)
    state.end(Snapshot(time.time(), rows=3, done=2), "interrupted by SIGINT")
    done = stage.cli("status", stage.data, stage.output, "--watch", "--json")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert (found["run"], found["snapshot"]["done"]) == ("ended", 2)
    assert found["word"].endswith("ago: interrupted by SIGINT")
    done = stage.cli("status", stage.data, stage.output, "--watch")
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith("2/3 rows, null 0; ended ")
    assert second == "rows 3: done 3, failed 0, left 0"


def test_ctrl_c_ends_the_watching(stage: Stage) -> None:
    """With the shells' code, and no error."""
    write_rows(stage.data, [row(0)])
    watch = subprocess.Popen(
        stage.command("status", stage.data, stage.output, "--watch", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watch.stdout is not None
    assert json.loads(watch.stdout.readline())["run"] == "none"
    watch.send_signal(signal.SIGINT)
    _, errors = watch.communicate(timeout=20)
    assert (watch.returncode, errors) == (130, "")


def test_what_cannot_be_read_is_an_error(stage: Stage) -> None:
    """The input is not there."""
    done = stage.cli("status", "none.jsonl", stage.output, "--watch")
    assert done.returncode == 2
    assert "none.jsonl" in done.stderr
