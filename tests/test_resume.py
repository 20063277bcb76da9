"""Runs over what earlier runs have left: nulls, changed rows; pipes; rows that are none."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support import expected, read_calls, read_ledger, row, write_rows

from jsonl_runner.errors import (
    BadRowsError,
    JsonlRunnerError,
    RunStoppedError,
    WrongEndpointError,
)
from jsonl_runner.job import Job
from jsonl_runner.runner import run

if TYPE_CHECKING:
    from pathlib import Path

    from support import FakeClock, Stage

IMPOSSIBLE = "[[fault:context_length*1]]"


def want(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {str(item["index"]): expected(item) for item in rows}


def new_calls(stage: Stage) -> set[str]:
    """Return the prompts called since the journal was last cleared, each called once."""
    prompts = [call.prompt for call in stage.simulator.journal.calls]
    assert len(prompts) == len(set(prompts))
    return set(prompts)


def call_log(stage: Stage) -> Path:
    return stage.output.with_name("output.calls.jsonl")


def test_a_rerun_tries_the_nulls_and_nothing_else(stage: Stage) -> None:
    """Of 1,000 rows 100 fail and say why; the rerun calls just those, and outputs replace them."""
    rows = [
        row(number, f"row {number}" + (IMPOSSIBLE if number % 10 == 0 else ""))
        for number in range(1000)
    ]
    bad = {str(number) for number in range(0, 1000, 10)}
    first = stage.run(rows)
    assert first.exit_code == 1
    assert (first.done, first.failed) == (900, 100)
    assert first.failures["context_length_exceeded"].count == 100
    ledger = read_ledger(stage.output)
    assert {index for index, output in ledger.items() if output is None} == bad
    calls = read_calls(stage.output)
    assert {i for i, call in calls.items() if call["code"] == "context_length_exceeded"} == bad
    assert all("maximum context length" in calls[index]["message"] for index in bad)

    stage.simulator.journal.clear()
    second = stage.run()
    assert second.exit_code == 0
    assert (second.skipped, second.done, second.failed) == (900, 100, 0)
    assert new_calls(stage) == {rows[int(index)]["input"] for index in bad}
    assert read_ledger(stage.output) == want(rows)

    stage.simulator.journal.clear()
    third = stage.run()
    assert (third.skipped, third.done, third.exit_code) == (1000, 0, 0)
    assert stage.simulator.journal.calls == []


def test_a_finished_ledger_needs_neither_key_nor_server(stage: Stage) -> None:
    """Where nothing is left to do, nothing is needed."""
    stage.run([row(0)])
    before = stage.output.read_bytes()
    stage.simulator.stop()
    assert stage.run(api_keys=[]).exit_code == 0
    assert stage.output.read_bytes() == before


def test_changed_rows_are_named_and_called_again_only_on_request(stage: Stage) -> None:
    """A row whose content has changed keeps its output and is named; --redo-changed calls it."""
    rows = [row(number) for number in range(50)]
    stage.run(rows)
    changed = [row(n, f"new {n}") if n in {3, 7, 11} else item for n, item in enumerate(rows)]
    stage.simulator.journal.clear()
    summary = stage.run(changed)
    assert summary.changed.examples == ["3", "7", "11"]
    assert any("3 rows (index 3, 7, 11) changed" in note for note in summary.notes)
    assert stage.simulator.journal.calls == []
    assert read_ledger(stage.output) == want(rows)

    stage.run(job={"redo_changed": True})
    assert new_calls(stage) == {"new 3", "new 7", "new 11"}
    assert read_ledger(stage.output) == want(changed)
    assert stage.run().changed.count == 0


def test_an_edited_row_is_noticed_whatever_runs_came_between(stage: Stage) -> None:
    """Rows that were added are new; an edit is found behind a run that found none, and again."""
    rows = [row(number) for number in range(40)]
    stage.run(rows[:20])
    assert stage.run(rows).done == 20  # the file has grown: its beginning is known
    assert stage.run(rows).changed.count == 0
    edited = [row(7, "new 7"), *rows[:7], *rows[8:]]
    for more in ([], [row(40)], [row(40), row(41)]):
        summary = stage.run([*edited, *more])
        assert (summary.changed.examples, summary.done) == (["7"], min(1, len(more)))
    assert stage.run([*rows, row(40), row(41)]).changed.count == 0


def test_an_edit_back_and_forth_is_noticed(stage: Stage) -> None:
    """Row 3 was answered as it stands in the second file: the first one, again, differs."""
    one, two = [row(number) for number in range(6)], [row(3, "new 3"), row(6)]
    stage.run(one[:3])
    stage.run(two)
    summary = stage.run(one)
    assert (summary.changed.examples, summary.done) == (["3"], 2)
    assert stage.run([*one, row(7)]).changed.examples == ["3"]
    assert read_ledger(stage.output)["3"] == expected(two[0])


def test_rows_from_a_pipe_are_compared_with_the_file_after_them(stage: Stage) -> None:
    """A pipe is not remembered, and neither is the file before it."""
    rows = [row(number) for number in range(4)]
    stage.run(rows[:2])
    piped = "".join(json.dumps(item) + "\n" for item in [row(2, "piped")]).encode()
    config = stage.config()
    run(config, Job(None, stage.output, quiet=True), stdin=io.BytesIO(piped))
    assert stage.run(rows).changed.examples == ["2"]


def test_without_its_call_log_no_result_is_lost(stage: Stage) -> None:
    """Deleting the call log loses the notice of changed rows and statistics, never an output."""
    rows = [row(number) for number in range(30)]
    stage.run(rows)
    call_log(stage).unlink()
    stage.simulator.journal.clear()
    more = [*rows, row(30)]
    assert stage.run(more).done == 1
    assert new_calls(stage) == {"row 30"}
    assert read_ledger(stage.output) == want(more)
    assert stage.run(job={"redo_changed": True}).exit_code == 0
    assert new_calls(stage) == {"row 30"}


def test_a_corrupt_line_is_named_and_its_row_done_again(stage: Stage) -> None:
    """Damage in the middle of a ledger costs the rows of that line and is told with its number."""
    rows = [row(number) for number in range(10)]
    stage.run(rows, threads=1)
    lines = stage.output.read_bytes().splitlines(keepends=True)
    lines[4] = b"\x00" * (len(lines[4]) - 1) + b"\n"
    stage.output.write_bytes(b"".join(lines))
    stage.simulator.journal.clear()
    summary = stage.run()
    assert any(note.startswith(f"{stage.output}:5: ") for note in summary.notes)
    assert new_calls(stage) == {"row 4"}


def test_integer_and_text_indices_are_one(stage: Stage) -> None:
    """`7` and `"7"` are the same row: a ledger resumes whichever way the input writes them."""
    stage.run([row(number) for number in range(20)])
    stage.simulator.journal.clear()
    summary = stage.run([row(str(number), f"row {number}") for number in range(21)])
    assert (summary.skipped, summary.done, summary.changed.count) == (20, 1, 0)
    assert new_calls(stage) == {"row 20"}


def test_twenty_failures_alike_at_the_start_stop_the_run(stage: Stage) -> None:
    """When the first 20 rows all fail for one reason the rest is not paid for: exit 3."""
    rows = [row(number, f"row {number} [[fault:content_policy]]") for number in range(500)]
    with pytest.raises(RunStoppedError, match=r"first \d+ rows all failed alike") as caught:
        stage.run(rows, threads=4)
    assert caught.value.exit_code == 3
    assert "content_policy_violation" in str(caught.value)
    written = read_ledger(stage.output)
    assert 20 <= len(written) <= 24
    assert set(written.values()) == {None}
    assert caught.value.summary.left == 500 - len(written)


def test_twenty_failures_after_a_success_do_not(stage: Stage) -> None:
    """A stretch of bad rows stops nothing once a row has succeeded."""
    rows = [row(0), *[row(n, f"row {n} [[fault:content_policy]]") for n in range(1, 60)], row(60)]
    summary = stage.run(rows, threads=1)
    assert (summary.done, summary.failed, summary.exit_code) == (2, 59, 1)


def test_standard_input_is_an_input(stage: Stage) -> None:
    """`-` reads rows from a pipe, and a file with the same rows goes on from there."""
    rows = [row(number) for number in range(60)]
    data = write_rows(stage.data, rows)
    words = ("run", "-", stage.output, "--config", stage.config_file(), "--json")
    head = "".join(data.read_text(encoding="utf-8").splitlines(keepends=True)[:25])
    result = stage.cli(*words, input=head)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["done"] == 25
    assert stage.run().done == 35
    assert read_ledger(stage.output) == want(rows)


def streamed(stage: Stage, text: str, clock: FakeClock, **job: Any) -> Any:
    work = Job(None, stage.output, quiet=True, **job)
    return run(stage.config(threads=2), work, clock=clock, stdin=io.BytesIO(text.encode()))


def test_bad_rows_of_a_pipe(stage: Stage, clock: FakeClock) -> None:
    """A bad row ends a piped run with its line number, or is left out; good rows are kept."""
    good = [json.dumps(row(number)) for number in range(6)]
    text = "\n".join([*good[:3], "{broken", *good[3:], good[0], ""])
    with pytest.raises(BadRowsError) as caught:
        streamed(stage, text, clock)
    assert caught.value.exit_code == 2
    assert caught.value.rows[0].startswith("standard input:4: not JSON")
    assert set(read_ledger(stage.output)) <= {"0", "1", "2"}
    summary = streamed(stage, text, clock, bad_rows="skip")
    assert summary.rows == 6
    assert [line.partition(": ")[0] for line in summary.bad_rows] == [
        "standard input:4",
        "standard input:8",
    ]
    assert summary.exit_code == 1
    assert read_ledger(stage.output) == want([row(number) for number in range(6)])


@pytest.mark.parametrize("is_pipe", [False, True])
def test_of_many_bad_rows_the_first_are_told(
    stage: Stage, clock: FakeClock, *, is_pipe: bool
) -> None:
    """Their number is told, and memory holds no more of them; `validate` names each."""
    text = "\n".join(["{broken"] * 33 + [json.dumps(row(0))])
    stage.data.write_text(text, encoding="utf-8")
    if is_pipe:
        summary = streamed(stage, text, clock, bad_rows="skip")
    else:
        summary = stage.run(job={"bad_rows": "skip"})
    assert (summary.done, summary.exit_code) == (1, 1)
    assert [line.partition(":")[2].partition(":")[0] for line in summary.bad_rows[:-1]] == [
        str(line) for line in range(1, 21)
    ]
    assert summary.bad_rows[-1] == "… and 13 more"
    assert stage.cli("validate", stage.data).stdout.count("not JSON") == 33
    named = json.loads(stage.cli("validate", stage.data, "--json").stdout)
    assert len(named["bad_rows"]) == 33


def test_of_many_damaged_lines_the_first_are_told(stage: Stage) -> None:
    """A ledger that somebody spoilt by hand does not fill the screen; its rows are done again."""
    stage.output.write_bytes(b'{"0":"yes"}\n' + b'{"1":torn\n' * 25)
    summary = stage.run([row(0), row(1)])
    assert (summary.skipped, summary.done) == (1, 1)
    assert sum("its row counts as not done" in note for note in summary.notes) == 20
    assert "… and 5 more" in summary.notes


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_pipe_that_stays_open_does_not_keep_ctrl_c_waiting(stage: Stage) -> None:
    """What came through the pipe is written at once, and SIGINT ends the wait for more."""
    command = stage.command("run", "-", stage.output, "--config", stage.config_file())
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=stage.folder, stdin=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(row(0)) + "\n")
            process.stdin.flush()
            wait_for_line(stage.output)
            process.send_signal(2)
            assert process.wait(5) == 130
        finally:
            process.kill()
    assert read_ledger(stage.output) == want([row(0)])


def wait_for_line(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_bytes().endswith(b"\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "no-such-model"}, "model_not_found: HTTP 404: The model `no-such-model`"),
        ({"api_base": "/nowhere"}, "unknown_url: HTTP 404: Unknown request URL"),
    ],
)
def test_a_wrong_model_or_path_stops_at_once(
    stage: Stage, settings: dict[str, Any], says: str
) -> None:
    """404 before any success: exit 2, the name of the setting to check, nothing written."""
    stage.simulator.settings = replace(stage.simulator.settings, models=("gpt-4.1-mini",))
    if "api_base" in settings:
        settings = {"api_base": stage.simulator.base_url + settings["api_base"]}
    with pytest.raises(WrongEndpointError, match=says) as caught:
        stage.run([row(number) for number in range(500)], **settings)
    assert caught.value.exit_code == 2
    assert str(caught.value).endswith(
        "check model (--model)" if "model" in settings else "api_base, which mostly ends in /v1"
    )
    assert not stage.output.exists()
    assert not call_log(stage).exists()
    assert len(stage.simulator.journal.calls) <= 4


def test_a_row_with_a_model_of_its_own_that_is_unknown_fails_alone(stage: Stage) -> None:
    """A wrong model in one row's params is that row's fault: null, and no key is retired."""
    stage.simulator.settings = replace(stage.simulator.settings, models=("gpt-4.1-mini",))
    rows = [row("x", params={"model": "no-such"}), *[row(number) for number in range(40)]]
    summary = stage.run(rows, threads=1)
    assert (summary.done, summary.failed) == (40, 1)
    assert read_calls(stage.output)["x"]["code"] == "model_not_found"


def test_an_unreachable_server_stops_the_run_after_stall_timeout(
    stage: Stage, clock: FakeClock
) -> None:
    """Nobody waits for ever: exit 3 when nothing has succeeded for so long, no row made null."""
    rows = [row(number) for number in range(50)]
    stage.simulator.stop()
    begun = clock.now()
    with pytest.raises(RunStoppedError, match=r"120 s \(stall_timeout\)") as caught:
        stage.run(rows, clock=clock, stall_timeout=120, timeout=5, max_retries=0)
    assert caught.value.exit_code == 3
    assert "no connection to 127.0.0.1" in str(caught.value)
    assert clock.now() - begun >= 120
    assert not stage.output.exists()
    stage.simulator.start()
    assert stage.run(clock=clock).done == 50


def test_a_server_that_comes_back_is_waited_for(stage: Stage) -> None:
    """No connection costs no retry: the run goes on by itself once the server is there again."""
    write_rows(stage.data, [row(number) for number in range(50)])
    stage.simulator.stop()
    command = stage.command("run", stage.data, stage.output, "--config", stage.config_file())
    words = ("--max-retries", "0")
    with subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.8)
            stage.simulator.start()
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert len(read_ledger(stage.output)) == 50


def broken_rows(count: int) -> str:
    good = "".join(json.dumps(row(number)) + "\n" for number in range(5))
    return good + "".join(f'{{"index": "b{number}"}}\n' for number in range(count))


def test_bad_rows_are_listed_before_anything_is_paid(stage: Stage) -> None:
    """--bad-rows fail: the first 20 with their lines, how many more there are, and no call."""
    stage.data.write_text(broken_rows(33), encoding="utf-8")
    with pytest.raises(BadRowsError, match="33 rows cannot be used") as caught:
        stage.run()
    assert caught.value.exit_code == 2
    rows = caught.value.rows
    assert len(rows) == 21
    assert [r.partition(": ")[0] for r in rows[:20]] == [f"{stage.data}:{n}" for n in range(6, 26)]
    assert rows[20] == "… and 13 more"
    assert stage.simulator.journal.calls == []
    assert not stage.output.exists()


def test_bad_rows_can_be_left_out(stage: Stage) -> None:
    """--bad-rows skip: the good rows are done, the others stand in the summary; exit 1."""
    stage.data.write_text(broken_rows(3), encoding="utf-8")
    result = stage.run_cli("--bad-rows", "skip")
    assert result.returncode == 1
    assert len(read_ledger(stage.output)) == 5
    for line in (6, 7, 8):
        assert f"not usable {stage.data}:{line}: " in result.stderr


def test_every_error_of_a_stopped_run_carries_its_summary(stage: Stage) -> None:
    """Who calls from Python learns from the error what was done until then."""
    rows = [row(0), row(1), row(2, "[[fault:401]]"), row(3)]
    with pytest.raises(JsonlRunnerError) as caught:
        stage.run(rows, threads=1)
    assert (caught.value.summary.done, caught.value.summary.left) == (2, 2)
    assert caught.value.summary.exit_code == 3
