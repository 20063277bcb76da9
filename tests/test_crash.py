"""Killed and interrupted runs: real processes against a simulator that remembers every call."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support import expected, read_ledger, row, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support import Stage

    from jsonl_runner.simulator import Simulator

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kill -9 and its kin are POSIX")

THREADS = 16
KILLS = 20


def until(reached: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is true; a test that waits in vain fails."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)


@contextlib.contextmanager
def running(stage: Stage, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program on the stage's files; its stderr goes into `err`. Killed at the end."""
    command = stage.command("run", stage.data, stage.output, "--config", "settings.json", *words)
    with (
        (stage.folder / "err").open("wb") as err,
        subprocess.Popen(
            command, cwd=stage.folder, stdout=subprocess.DEVNULL, stderr=err
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def stderr_of(stage: Stage) -> str:
    return (stage.folder / "err").read_text(encoding="utf-8")


def whole_lines(path: Path) -> list[tuple[str, str | None]]:
    """Return the entries of a ledger's whole lines; each must be JSON, a torn tail is allowed."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [entry for line in lines for entry in json.loads(line).items()]


def kill_at(stage: Stage, calls: int) -> None:
    """Run until so many calls have arrived, then kill -9, and wait until the server knows."""
    journal = stage.simulator.journal
    goal = journal.count() + calls
    with running(stage, "--threads", str(THREADS), "--max-retries", "0") as process:
        until(lambda: journal.count() >= goal or process.poll() is not None)
        assert process.poll() is None, f"it ended before it was killed: {stderr_of(stage)}"
        process.kill()
        process.wait()
    until(lambda: journal.in_flight() == 0)


def lost(calls: Counter[str], before: Counter[str], ledger: Path) -> int:
    """Return how many rows a killed run had called that have no output now."""
    answered = {f"row {index}" for index, output in whole_lines(ledger) if output is not None}
    return len(set(calls - before) - answered)


def calls_of(simulator: Simulator) -> Counter[str]:
    """Return how often each prompt has reached the server, answered or not."""
    return Counter(call.prompt for call in simulator.journal.calls)


def test_killed_twenty_times_nothing_is_lost_and_only_what_was_in_flight_is_called_again(
    stage: Stage,
) -> None:
    """A kill -9 at any moment: whole lines, each row once with its own answer, no call wasted."""
    rows = [row(number) for number in range(2000)]
    write_rows(stage.data, rows)
    stage.config_file()
    simulator = stage.simulator
    simulator.settings = replace(simulator.settings, latency_s=0.02, latency_spread_s=0.01)
    dice = random.Random(9)
    lost_in_all = 0
    for _ in range(KILLS):
        before = calls_of(simulator)
        kill_at(stage, dice.randint(1, 150))
        lost_now = lost(calls_of(simulator), before, stage.output)
        assert lost_now <= THREADS, "more rows were lost than were in flight"
        lost_in_all += lost_now
    assert stage.run(threads=THREADS).left == 0
    entries = whole_lines(stage.output)
    assert Counter(index for index, _ in entries) == Counter(str(i) for i in range(2000))
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}
    calls = calls_of(simulator)
    assert calls.total() - len(calls) == lost_in_all, (
        "a row that was not in flight was called again"
    )
    assert lost_in_all > 0, "no kill hit a call in flight: this test shows nothing"


def test_a_ledger_cut_off_at_any_byte_is_mended(stage: Stage) -> None:
    """Whatever byte of the last lines a crash leaves, the rerun does just what is missing."""
    rows = [row(number) for number in range(5)]
    stage.run(rows, threads=1)
    whole = stage.output.read_bytes()
    want = {str(item["index"]): expected(item) for item in rows}
    for size in range(len(whole) - 90, len(whole)):
        stage.output.write_bytes(whole[:size])
        done_before = whole[: size + 1].count(b"\n")  # a line that lacks only its newline is whole
        summary = stage.run(threads=1, per_key_concurrency=1)
        assert (summary.skipped, summary.done) == (done_before, 5 - done_before)
        assert read_ledger(stage.output) == want
        torn = not whole[:size].endswith(b"\n")
        assert any("last line" in note for note in summary.notes) == torn


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_calls_in_flight_finish_and_says_how_to_go_on(
    stage: Stage, number: signal.Signals, code: int
) -> None:
    """Ctrl-C and SIGTERM waste no call at all, time after time."""
    rows = [row(index) for index in range(150)]
    write_rows(stage.data, rows)
    stage.config_file()
    simulator, journal = stage.simulator, stage.simulator.journal
    simulator.settings = replace(simulator.settings, latency_s=0.04, latency_spread_s=0.04)
    dice = random.Random(7)
    for _ in range(2):
        goal = journal.count() + dice.randint(1, 70)
        with running(stage, "--threads", str(THREADS)) as process:
            until(lambda goal=goal: journal.count() >= goal)  # type: ignore[misc]
            process.send_signal(number)
            assert process.wait(10) == code
        told = stderr_of(stage)
        assert "run the same command again" in told
        assert told.splitlines()[-1] == f"interrupted by {number.name}"
        assert journal.count() == journal.count(status=200), "a call in flight was cut off"
        assert len(read_ledger(stage.output)) == journal.count(), "a paid answer was not written"
        assert not stage.output.with_name("output.jsonl.lock").exists()
    assert stage.run(threads=THREADS).exit_code == 0
    assert set(calls_of(simulator).values()) == {1}
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}


def test_a_second_ctrl_c_ends_even_a_hanging_call(stage: Stage) -> None:
    """Two SIGINTs end the run within two seconds, whatever the server does; nothing is torn."""
    rows = [row(number) for number in range(20)]
    write_rows(stage.data, [*rows[:10], row("h", "[[fault:hang]]"), *rows[10:]])
    stage.config_file()
    journal = stage.simulator.journal
    with running(stage, "--threads", "4") as process:
        until(lambda: journal.count(fault="hang") == 1 and journal.in_flight() == 1)
        until(lambda: len(whole_lines(stage.output)) == 20)
        process.send_signal(signal.SIGINT)
        until(lambda: "Ctrl-C again ends now" in stderr_of(stage))
        assert "stopping: 1 calls in flight" in stderr_of(stage)
        assert process.poll() is None
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert time.monotonic() - begun < 2.5
    assert "Traceback" not in stderr_of(stage)
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}


def test_a_lock_of_a_killed_run_holds_nobody_up(stage: Stage) -> None:
    """What a killed run leaves beside the ledger does not have to be removed by hand."""
    write_rows(stage.data, [row(0, "[[fault:hang*1]]"), row(1)])
    stage.config_file()
    with running(stage) as process:
        until(lambda: stage.simulator.journal.count(fault="hang") == 1)
        process.kill()
        process.wait()
    assert stage.output.with_name("output.jsonl.lock").exists()
    assert stage.run().exit_code == 0
    assert not stage.output.with_name("output.jsonl.lock").exists()
