"""Disks that are full, files that are locked, places that cannot be written: real ones."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import refusing
from support import expected, read_ledger, row, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import Stage

    from jsonl_runner.simulator import Simulator

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX limits and mounts")

#: Runs the rest of the command line with files of at most so many bytes.
LIMITED = (
    "import os, resource, sys; size = int(sys.argv[1]); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)
NO_ROOM = "make room and run the same command again, it goes on where it stopped"


def rows_of(count: int, text: str = "row") -> list[dict[str, Any]]:
    return [row(number, f"{text} {number}") for number in range(count)]


def want(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {str(item["index"]): expected(item) for item in rows}


def finish(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


def assert_one_error(result: subprocess.CompletedProcess[str], code: int, *says: str) -> None:
    """Check the exit code, and that the last line is the only error and says what is wanted."""
    assert result.returncode == code, result.stderr
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "Traceback" not in result.stderr
    for words in says:
        assert words in lines[-1]


@pytest.mark.parametrize(
    ("text", "full"),
    [
        # The simulator repeats 200 characters, of four bytes each here: the ledger grows faster.
        ("\N{GRINNING FACE}" * 200, "output.jsonl"),
        # The call log's lines are longer than a short answer's.
        ("row", "output.calls.jsonl"),
    ],
)
def test_a_file_that_may_not_grow_stops_the_run_cleanly(stage: Stage, text: str, full: str) -> None:
    """A short write leaves whole lines and one clear error, exit 4; the rerun pays no row twice."""
    rows = rows_of(200, text)
    write_rows(stage.data, rows)
    command = stage.command("run", stage.data, stage.output, "--config", stage.config_file())
    limit = 20_001
    result = finish([sys.executable, "-S", "-c", LIMITED, str(limit), *command], stage.folder)
    assert_one_error(result, 4, str(stage.folder / full), "File too large", NO_ROOM)
    assert limit - 1000 < (stage.folder / full).stat().st_size <= limit
    before = read_ledger(stage.output)
    assert before == {index: want(rows)[index] for index in before}
    calls = (stage.folder / "output.calls.jsonl").read_bytes()
    assert calls.endswith(b"\n")
    assert all(json.loads(line) for line in calls.splitlines())
    assert not (stage.folder / "output.jsonl.lock").exists()

    stage.simulator.journal.clear()
    summary = stage.run()
    assert (summary.exit_code, summary.skipped) == (0, len(before))
    assert len(stage.simulator.journal.calls) == 200 - len(before)
    assert read_ledger(stage.output) == want(rows)


def test_no_more_is_paid_once_nothing_can_be_written(stage: Stage) -> None:
    """After the ledger has failed no further row is called, but for those in flight."""
    rows = rows_of(1000, "\N{GRINNING FACE}" * 200)
    write_rows(stage.data, rows)
    words = ("--config", stage.config_file(), "--threads", "8")
    command = stage.command("run", stage.data, stage.output, *words)
    finish([sys.executable, "-S", "-c", LIMITED, "20000", *command], stage.folder)
    assert len(stage.simulator.journal.calls) <= len(read_ledger(stage.output)) + 8


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of its own; skip the test where that is not allowed."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(stage: Stage) -> None:
    """The disk fills up: exit 4, whole lines; with room made, the same command does the rest."""
    rows = rows_of(600)
    write_rows(stage.data, rows)
    config = stage.config_file()
    with small_disk(stage.folder / "disk", "64k") as disk:
        output = disk / "output.jsonl"
        result = stage.cli("run", stage.data, output, "--config", config)
        assert_one_error(result, 4, "No space left on device", NO_ROOM)
        before = read_ledger(output)
        assert 0 < len(before) < 600
        again = stage.cli("run", stage.data, output, "--config", config)
        assert_one_error(again, 4, "No space left on device")
        assert before.items() <= read_ledger(output).items()

        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        done = stage.cli("run", stage.data, output, "--config", config)
        assert done.returncode == 0, done.stderr
        assert read_ledger(output) == want(rows)


@contextlib.contextmanager
def holding(stage: Stage, simulator: Simulator) -> Iterator[subprocess.Popen[bytes]]:
    """A run that hangs, so that it holds its ledger until it is killed."""
    write_rows(stage.data, [row(0, "[[fault:hang]]")])
    command = stage.command("run", stage.data, stage.output, "--config", stage.config_file(), "-q")
    with subprocess.Popen(command, cwd=stage.folder) as process:
        try:
            deadline = time.monotonic() + 10
            while simulator.journal.in_flight() == 0:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def test_a_second_run_on_a_ledger_ends_at_once_and_names_the_first(
    stage: Stage, simulator: Simulator
) -> None:
    """One writer at a time: exit 4, the process that holds it, no call made, nothing touched."""
    with holding(stage, simulator) as first:
        result = stage.run_cli()
        assert_one_error(result, 4, "another run is writing it", f"process {first.pid} on ")
        compacting = stage.cli("compact", stage.output)
        assert_one_error(compacting, 4, f"process {first.pid} on ")
        assert first.poll() is None
    assert len(simulator.journal.calls) == 1
    assert result.stdout == ""


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """A folder in which nobody can make a file; root can wherever permissions alone forbid it."""
    if os.geteuid():
        folder.mkdir(mode=0o555)
        yield folder
        return
    with small_disk(folder, "64k"):
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder


def test_an_output_folder_that_cannot_be_written_is_told_before_anything_is_paid(
    stage: Stage,
) -> None:
    """No file can be made there: exit 4, one line with the path, no call."""
    write_rows(stage.data, rows_of(3))
    with read_only(stage.folder / "read-only") as folder:
        output = folder / "output.jsonl"
        result = stage.cli("run", stage.data, output, "--config", stage.config_file())
    assert_one_error(result, 4, str(output), "cannot be made")
    assert result.stderr.count("\n") == 1
    assert stage.simulator.journal.calls == []


@pytest.mark.parametrize("name", ["output.jsonl.lock", "output.calls.jsonl"])
def test_what_a_run_cannot_do_without_is_told_before_anything_is_paid(
    stage: Stage, name: str
) -> None:
    """A file that cannot be written: exit 4, one line with its path, no call, nothing half-made."""
    write_rows(stage.data, rows_of(3))
    (stage.folder / name).mkdir()
    result = stage.run_cli()
    assert_one_error(result, 4, str(stage.folder / name))
    assert stage.simulator.journal.calls == []
    assert not stage.output.exists()


@pytest.mark.parametrize("name", ["output.jsonl.index", "output.state.json"])
def test_a_run_does_without_what_it_only_looks_up(stage: Stage, name: str) -> None:
    """The index file and the state file are derived: where they cannot be written, all is done."""
    rows = rows_of(3)
    write_rows(stage.data, rows)
    (stage.folder / name).mkdir()
    large = {"x" * (16 * 1024 * 1024): "from here on there is an index file"}
    stage.output.write_text(json.dumps(large) + "\n", encoding="utf-8")
    result = stage.run_cli()
    assert (result.returncode, "error: " in result.stderr) == (0, False)
    assert read_ledger(stage.output) == want(rows) | large


@pytest.mark.skipif(not refusing.IS_ABLE, reason="only Linux refuses on demand")
def test_a_disk_that_fails_ends_the_run_with_its_summary(stage: Stage) -> None:
    """What could be written stays; the error is said once; the rerun does the rest."""
    rows = rows_of(40)
    write_rows(stage.data, rows)
    words = (stage.data, stage.output, "--config", stage.config_file(), "--fsync", "always")
    limited = [sys.executable, refusing.__file__, "fdatasync=EIO", *stage.command("run", *words)]
    result = finish(limited, stage.folder)
    assert_one_error(result, 4, "Input/output error", "see to the disk and run the same command")
    assert "left 40" in result.stderr
    paid = len(read_ledger(stage.output))
    assert 0 < paid < 40
    stage.simulator.journal.clear()
    assert stage.run().exit_code == 0
    assert len(stage.simulator.journal.calls) == 40 - paid
    assert read_ledger(stage.output) == want(rows)


def test_an_input_folder_that_cannot_be_written_is_no_hindrance(stage: Stage) -> None:
    """Where its rows stand is kept beside the output; beside the input nothing is ever made."""
    with small_disk(stage.folder / "data", "24m") as folder:
        rows = [row(number, "x" * 2_000_000) for number in range(9)]
        data = write_rows(folder / "data.jsonl", rows)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        done = stage.cli("run", data, stage.output, "--config", stage.config_file(), "-q")
        assert done.returncode == 0, done.stderr
    assert stage.output.with_name("output.jsonl.index").exists()


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (".", "this is a directory; give a file name for the output"),
        ("nowhere/output.jsonl", "does not exist; make it first"),
    ],
)
def test_an_output_that_can_be_no_file(stage: Stage, output: str, says: str) -> None:
    """A directory, or a folder that is not there: exit 4, said before anything is paid."""
    write_rows(stage.data, rows_of(3))
    before = set(stage.folder.iterdir())
    config = stage.config_file()
    result = stage.cli("run", stage.data, stage.folder / output, "--config", config)
    assert_one_error(result, 4, says)
    assert stage.simulator.journal.calls == []
    assert set(stage.folder.iterdir()) - before == {config}
