"""`--log-file`: one JSON object a line for each thing that happens, and never at the run's cost."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, FakeClock, row, write_rows

from jsonl_runner import watching
from jsonl_runner.errors import ConfigError, NoUsableKeyError
from jsonl_runner.eventlog import EventLog
from jsonl_runner.secret import Redactor, Secret
from jsonl_runner.simulator import SimulatorSettings
from jsonl_runner.snapshot import KeyView, Snapshot
from jsonl_runner.watching import Views

if TYPE_CHECKING:
    from pathlib import Path

    from support import Stage

REDACT = Redactor([Secret(KEYS[0], 1)])


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def log_at(path: Path, clock: FakeClock, warned: list[str] | None = None) -> EventLog:
    told: list[str] = [] if warned is None else warned
    return EventLog(path, redact=REDACT, clock=clock, warn=told.append)


def views(path: Path) -> dict[str, Any]:
    return {"views": Views(log_file=path)}


def test_a_run_from_its_start_to_its_end(stage: Stage, tmp_path: Path) -> None:
    """Settings, failures, what was said, the summary; readable by its owner alone."""
    path = tmp_path / "log"
    rows = [row(0), row(1, "[[fault:content_policy]]"), row(2, "[[fault:500*1]]")]
    stage.run(rows, job=views(path), retry_delay=0.01)
    found = [entry for entry in events(path) if entry["event"] != "concurrency_moved"]
    assert [entry["event"] for entry in found] == ["run_started", "row_failed", "run_ended"]
    started, failed, ended = found
    assert started["model"] == "gpt-4.1-mini"
    assert started["api_base"] == stage.simulator.base_url
    assert started["keys"] == ["#1(…0001)", "#2(…0002)"]
    assert (failed["index"], failed["code"]) == ("1", "content_policy_violation")
    assert failed["attempts"] == 1
    assert (ended["error"], ended["exit_code"], ended["summary"]["done"]) == (None, 1, 2)
    assert all(entry["time"].endswith("Z") for entry in found)
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_appended_to_and_says_why_a_run_stopped(stage: Stage, tmp_path: Path) -> None:
    """A run without a usable key: retired with the reason, ended with the error."""
    path = tmp_path / "log"
    stage.run([row(0)], job=views(path))
    before = path.read_bytes()
    stage.simulator.settings = SimulatorSettings(key_faults=dict.fromkeys(KEYS, "401"))
    with pytest.raises(NoUsableKeyError):
        stage.run([row(0), row(1)], job=views(path))
    assert path.read_bytes().startswith(before)
    found = events(path)[before.count(b"\n") :]
    assert found[0]["event"] == "run_started"
    retired = [entry for entry in found if entry["event"] == "key_retired"]
    assert {entry["key"] for entry in retired} == {"#1(…0001)", "#2(…0002)"}
    assert all("invalid_api_key" in entry["reason"] for entry in retired)
    assert found[-1]["event"] == "run_ended"
    assert found[-1]["exit_code"] == 3
    assert "keys are finished" in found[-1]["error"]
    text = path.read_text(encoding="utf-8")
    assert not any(key in text for key in KEYS)


def test_cooling_and_concurrency(clock: FakeClock, tmp_path: Path) -> None:
    """A key that begins to cool, once; each move of an allowance that has a reason."""
    log = log_at(tmp_path / "log", clock)
    ready = KeyView("#1", limit=1)
    moved = KeyView("#1", limit=16, why="opened: it answers")
    cooling = KeyView("#1", "cooling", "busy", 9, 8, why="halved: told to wait", cooldown_s=2.5)
    for key in (ready, moved, moved, cooling, cooling, moved, cooling):
        log.look(Snapshot(1.0, keys=(key,)))
    log.close()
    found = events(tmp_path / "log")
    assert [(e["event"], e.get("before"), e.get("after")) for e in found] == [
        ("concurrency_moved", 1, 16),
        ("key_cooled", None, None),
        ("concurrency_moved", 16, 8),
        ("concurrency_moved", 8, 16),
        ("key_cooled", None, None),
        ("concurrency_moved", 16, 8),
    ]
    assert (found[1]["reason"], found[1]["cooldown_s"]) == ("busy", 2.5)


def test_a_key_in_a_text_is_taken_out(clock: FakeClock, tmp_path: Path) -> None:
    """Wherever it stands, and whoever put it there."""
    log = log_at(tmp_path / "log", clock)
    log.write("note", message=f"see {KEYS[0]}", at="http://me:secret@proxy/")
    log.close()
    (entry,) = events(tmp_path / "log")
    assert entry["message"] == "see #1(…0001)"
    assert "secret" not in entry["at"]


def test_a_full_disk_is_said_once_and_costs_lines_only(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits in part is closed off, so that the next whole line can be read."""
    warned: list[str] = []
    log = log_at(tmp_path / "log", clock, warned)
    whole = os.write
    monkeypatch.setattr("os.write", lambda file, data: whole(file, data[:20]))
    log.write("note", message="cut off")

    def full(_file: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    log.write("note", message="lost")
    monkeypatch.undo()
    log.write("note", message="whole")
    log.close()
    assert len(warned) == 1
    assert "only a part was taken" in warned[0]
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["message"] == "whole"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")  # noqa: PTH110
def test_a_run_goes_on_when_the_log_is_full(stage: Stage) -> None:
    """One note, and all rows done."""
    write_rows(stage.data, [row(n) for n in range(5)])
    done = stage.run_cli("--log-file", "/dev/full")
    assert done.returncode == 0
    note = "note: /dev/full: lines of the log are lost (No space left on device)"
    assert done.stderr.count(note) == 1
    assert "done 5" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes with names")
def test_a_pipe_that_nobody_reads_holds_nothing_up(stage: Stage, tmp_path: Path) -> None:
    """It is an error before anything is paid."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="cannot be written"):
        stage.run([row(0)], job=views(pipe))
    assert stage.simulator.journal.calls == []


def test_a_log_that_cannot_be_had_is_an_error_at_the_start(stage: Stage, tmp_path: Path) -> None:
    """Its folder is missing; or it is one of the run's own files, which would be spoilt."""
    with pytest.raises(ConfigError, match="cannot be written"):
        stage.run([row(0)], job=views(tmp_path / "none" / "log"))
    for own in (stage.data, stage.output):
        with pytest.raises(ConfigError, match="one of the run's own files"):
            stage.run([row(0)], job=views(own))
    assert stage.simulator.journal.calls == []
    assert stage.run([row(0)]).done == 1
    with pytest.raises(ConfigError, match="one of the run's own files"):
        stage.run([row(0)], job=views(tmp_path / "output.calls.jsonl"))


def test_notes_and_trouble_have_their_own_names(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said to the user is in the log, by its kind."""
    monkeypatch.setattr(watching, "LOOK_EVERY_S", 0.0)
    watch = watching.Watch(
        Views(log_file=tmp_path / "log"),
        name="x", quiet=True, data="d", output=stage.output, config=stage.config(),
        clock=FakeClock(),
    )  # fmt: skip
    with watch:
        for text in ("note: one", "trouble: two", "stopping: 3 calls"):
            watch.say(text)
    found = [(entry["event"], entry.get("message")) for entry in events(tmp_path / "log")]
    assert found[1:-1] == [("note", "one"), ("trouble", "two"), ("said", "stopping: 3 calls")]
