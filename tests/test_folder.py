"""A folder of files through the user's three functions: what is done, kept, named, and mended."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest
from support import KEYS, FakeClock

from jsonl_runner import config as settings
from jsonl_runner.clock import Stop
from jsonl_runner.errors import (
    ConfigError,
    InputError,
    LedgerError,
    LedgerLockedError,
    NoUsableKeyError,
    RunInterruptedError,
    RunStoppedError,
)
from jsonl_runner.folder import FolderJob, Steps, run_folder
from jsonl_runner.keys import KeysView
from jsonl_runner.progress import Silent
from jsonl_runner.tree import WORK, work_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jsonl_runner.summary import RunSummary

VIEW = KeysView(0, 0, 0, 0, 0, "", "")


def read(stream: TextIO) -> str:
    return stream.read()


def upper(data: str) -> str:
    return data.upper()


def write(data: str, path: str) -> None:
    Path(f"{path}.out").write_text(data, encoding="utf-8")


STEPS = Steps(read, upper, write)


def steps(**others: Callable[..., Any]) -> Steps:
    return replace(STEPS, **others)


class Folders:
    """An input and an output folder."""

    def __init__(self, folder: Path) -> None:
        self.source, self.target = folder / "in", folder / "out"

    def put(self, **texts: str | bytes) -> None:
        self.put_all(texts)

    def put_all(self, texts: dict[str, str | bytes]) -> None:
        for name, text in texts.items():
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)

    def run(
        self,
        given: Steps = STEPS,
        *,
        threads: int = 4,
        stop: Stop | None = None,
        file_count: int | None = None,
    ) -> RunSummary:
        job = FolderJob(self.source, self.target, threads, file_count)
        config = settings.load(None, {"api_keys": list(KEYS)}, {})
        return run_folder(
            config,
            job,
            given,
            stop=stop or Stop(),
            view=lambda: VIEW,
            clock=FakeClock(),
            shown_on=Silent(),
        )

    def outputs(self) -> dict[str, str]:
        """Return every file below the output folder, the work folder's too."""
        return {
            path.relative_to(self.target).as_posix(): path.read_text(encoding="utf-8")
            for path in self.target.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_the_tree_is_kept_and_what_is_done_is_skipped(folders: Folders) -> None:
    """Each file's output lies where the file lies; hidden files are none; a rerun does nothing."""
    folders.put_all({"a.txt": "one", "s/b.md": "two", "s/t/c": "三", ".h": "x", ".g/d.txt": "x"})
    assert (folders.run().done, folders.run().skipped) == (3, 3)
    assert folders.outputs() == {"a.out": "ONE", "s/b.out": "TWO", "s/t/c.out": "三"}
    (folders.target / "s/b.out").unlink()
    summary = folders.run()
    assert (summary.rows, summary.skipped, summary.done, summary.exit_code) == (3, 2, 1, 0)
    assert folders.outputs()["s/b.out"] == "TWO"


def test_an_output_of_any_extension_counts_and_a_hidden_one_does_not(folders: Folders) -> None:
    """The name up to the last dot tells; of a name with dots in it, up to the last one."""
    folders.put_all({"a.txt": "x", "b.v1.txt": "x", "c.txt": "x"})
    folders.target.mkdir()
    for name in ("a.json", "b.json", ".c.json"):
        (folders.target / name).touch()
    assert folders.run().skipped == 1
    assert {"b.v1.out", "c.out"} < set(folders.outputs())


def test_file_count_counts_files_without_output(folders: Folders) -> None:
    """A first look at a few files, and the next few with the next run."""
    folders.put_all({f"{number}.txt": "x" for number in range(5)})
    for done in ("2", "4"):
        summary = folders.run(file_count=2)
        assert (summary.done, summary.left, str(len(folders.outputs()))) == (2, 0, done)
    assert summary.notes == ["1 more files have no output (file_count 2)"]
    assert folders.run(file_count=2).done == 1


@pytest.mark.parametrize("step", ["read", "work", "write"])
def test_a_crash_fails_its_file_alone_by_name_and_the_next_run_tries_again(
    folders: Folders, step: str
) -> None:
    """Whichever function raises: the others' outputs are there, and no half of this one's."""

    def crash(first: Any, *more: str) -> Any:
        text = first.read() if step == "read" else first
        if "bad" in text.lower():
            if step == "write":
                Path(f"{more[0]}.out").write_text("half", encoding="utf-8")
            raise ZeroDivisionError(f"no key {KEYS[0]} \n in the log")
        if step == "write":
            write(text, *more)
        return text if step == "read" else text.upper()

    folders.put_all({"s/a.txt": "bad", "b.txt": "good", "c.txt": "good"})
    summary = folders.run(steps(**{step: crash}))
    assert (summary.done, summary.failed, summary.left, summary.exit_code) == (2, 1, 0, 1)
    reason = "ZeroDivisionError: no key #1(…0001) in the log"
    assert summary.failed_files == {"s/a.txt": reason}
    assert f"failed s/a.txt: {reason}" in summary.lines()
    assert set(folders.outputs()) == {"b.out", "c.out"}
    again = folders.run()
    assert (again.done, again.skipped, folders.outputs()["s/a.out"]) == (1, 2, "BAD")


def test_what_ends_a_program_elsewhere_fails_one_file_here(folders: Folders) -> None:
    """`sys.exit()` in a function is that file's failure, and a bare exception has words too."""

    def leave(data: str) -> str:
        if data == "bare":
            raise ValueError
        return sys.exit("enough") if data == "bad" else data

    folders.put_all({"a.txt": "bad", "b.txt": "good", "c.txt": "bare"})
    summary = folders.run(steps(work=leave))
    assert summary.failed_files == {
        "a.txt": "SystemExit: enough",
        "c.txt": "ValueError: no message",
    }


def test_a_file_that_is_no_utf8_fails_alone_and_a_mark_is_no_text(folders: Folders) -> None:
    """Its name, the byte and what was expected; a byte order mark is not handed on."""
    folders.put_all({"a.txt": b"caf\xe9", "b.txt": b"\xef\xbb\xbfx"})
    summary = folders.run()
    (reason,) = summary.failed_files.values()
    assert "a.txt" in summary.failed_files
    assert reason.startswith("not_text: its byte 3 is no utf-8, and UTF-8 text is expected")
    assert folders.outputs() == {"b.out": "X"}


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_links(folders: Folders, tmp_path: Path) -> None:
    """Linked files and folders are inputs, once each and never in a circle; dead links fail."""
    folders.put_all({"a.txt": "x", "s/b.txt": "y"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "d.txt").write_text("z")
    (folders.source / "c.txt").symlink_to("a.txt")
    (folders.source / "dead.txt").symlink_to("nothing")
    (folders.source / "self").symlink_to("self")
    (folders.source / "s" / "up").symlink_to(folders.source)
    (folders.source / "there").symlink_to(elsewhere)
    summary = folders.run()
    assert set(folders.outputs()) == {"a.out", "s/b.out", "c.out", "there/d.out"}
    assert set(summary.failed_files) == {"dead.txt", "self"}
    assert summary.failed_files["dead.txt"].startswith("FileNotFoundError: ")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is always Unicode")
def test_a_name_that_is_no_unicode(folders: Folders) -> None:
    """Its file is done like any other, and can be named in a message."""
    folders.put_all({"\udce9.txt": "x", "bad\udce9.txt": "bad"})

    def crash(data: str) -> str:
        return data if data == "x" else 1 / 0  # type: ignore[return-value]

    summary = folders.run(steps(work=crash))
    assert set(folders.outputs()) == {"\udce9.out"}
    assert summary.failed_files == {"bad\\udce9.txt": "ZeroDivisionError: division by zero"}
    assert folders.run().skipped == 1


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second disk")
def test_a_mirrored_folder_on_another_disk(folders: Folders) -> None:
    """A link in the output folder may lead to where no rename reaches."""
    folders.put_all({"s/a.txt": "x"})
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        folders.target.mkdir()
        (folders.target / "s").symlink_to(elsewhere)
        assert folders.run().done == 1
        assert folders.run().skipped == 1
        assert [path.name for path in Path(elsewhere).iterdir()] == ["a.out"]


def test_the_output_folder_in_the_input_folder_is_no_input(folders: Folders) -> None:
    """Outputs are not done again as inputs, run after run."""
    folders.put(a="x")
    folders.target = folders.source / "out"
    assert (folders.run().done, folders.run().rows) == (1, 1)


def test_folders_that_cannot_be_used(folders: Folders, tmp_path: Path) -> None:
    """One line each, before anything is done."""
    with pytest.raises(InputError, match="there is no such folder"):
        folders.run()
    folders.source.mkdir()
    with pytest.raises(InputError, match="there are no files in it"):
        folders.run()
    assert not folders.target.exists()
    folders.put_all({"s/a.txt": "x"})
    for target in (folders.source, folders.source / "s" / ".."):
        folders.target = target
        with pytest.raises(InputError, match="the same folder"):
            folders.run()
    (tmp_path / "file").touch()
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        folders.target = target
        with pytest.raises(LedgerError, match="there is a file in the way"):
            folders.run()
    folders.target = tmp_path / "out"
    folders.target.mkdir()
    (folders.target / "s").touch()
    with pytest.raises(LedgerError, match="a folder of outputs must go here; move it away"):
        folders.run()
    folders.source = tmp_path / "file"
    with pytest.raises(InputError, match="this is a file; give the folder"):
        folders.run()


def test_inputs_in_the_output_folder(folders: Folders, tmp_path: Path) -> None:
    """An input folder within the output folder is fine until an output would land in it."""
    folders.put_all({"a.txt": "x"})
    folders.target = tmp_path
    assert folders.run().done == 1
    assert (tmp_path / "a.out").exists()
    folders.put_all({"in/b.txt": "x"})
    with pytest.raises(InputError, match="would land in the input folder"):
        folders.run()


def test_two_files_with_one_output_are_refused_before_anything_is_done(folders: Folders) -> None:
    """Both are named."""
    folders.put_all({"s/a.txt": "x", "s/a.md": "y", "b.txt": "z"})
    with pytest.raises(InputError, match=r"s/a\.md and a\.txt would have one output"):
        folders.run()
    assert not folders.target.exists()


def test_writing_nothing_or_under_another_name_fails_with_a_word_on_what_to_do(
    folders: Folders,
) -> None:
    """Else the work of such a file would be paid for by every run anew."""

    def odd(data: str, path: str) -> None:
        name = {"A": [], "B": ["_1.txt"], "C": ["_1.txt", ".txt"], "D": [""]}[data]
        for ending in name:
            Path(path + ending).write_text(data, encoding="utf-8")

    folders.put(a="a", b="b", c="c", d="d")
    summary = folders.run(steps(write=odd))
    nothing, other = summary.failed_files["a"], summary.failed_files["b"]
    assert nothing.startswith("no_output: process_output wrote nothing to output_file_without_ext")
    assert other.startswith("no_output: process_output wrote b_1.txt, by which")
    assert set(folders.outputs()) == {"c.txt", "c_1.txt", "d"}


def test_an_output_is_not_there_while_it_is_written(folders: Folders) -> None:
    """Whoever looks into the output folder sees whole files only."""
    seen = []

    def slowly(data: str, path: str) -> None:
        with Path(f"{path}.out").open("w", encoding="utf-8") as stream:
            stream.write(data[:1])
            stream.flush()
            seen.append([name for name in folders.outputs() if not name.startswith(WORK)])
            stream.write(data[1:])

    folders.put_all({"s/a.txt": "one"})
    folders.run(steps(write=slowly))
    assert (seen, folders.outputs()) == ([[]], {"s/a.out": "ONE"})


def test_a_folder_in_the_place_of_an_output_fails_that_file(folders: Folders) -> None:
    """It stays as it is."""
    folders.put_all({"a.txt": "x", "b.txt": "y"})
    (folders.target / "a.out" / "kept").mkdir(parents=True)
    summary = folders.run()
    assert list(summary.failed_files) == ["a.txt"]
    assert "a.out" in summary.failed_files["a.txt"]
    assert (folders.target / "a.out" / "kept").is_dir()
    assert folders.outputs() == {"b.out": "Y"}


def debris(work: Path, name: str, **texts: str) -> None:
    for path, text in texts.items():
        (work / name / "s").mkdir(parents=True, exist_ok=True)
        (work / name / "s" / f"{path}.out").write_text(text)


def test_what_a_crash_leaves_at_each_point_is_put_in_order(folders: Folders) -> None:
    """Unfinished: thrown away. Whole: moved to its place, also when some of it was already."""
    folders.put_all({f"s/{name}.txt": name for name in "abcd"})
    work = folders.target / WORK
    debris(work, "1.part", a="hal")
    debris(work, "2.whole", b="B whole")
    debris(work, "3.whole", c="C whole")  # its other file was moved before the crash
    (folders.target / "s").mkdir()
    (folders.target / "s" / "c.more").write_text("C more")
    (work / "4.whole" / "s").mkdir(parents=True)  # all of it was moved
    (work / "5.part").mkdir()
    (work / "lock").write_text("process 1 on nowhere\n")
    summary = folders.run()
    assert (summary.skipped, summary.done) == (2, 2)
    assert folders.outputs() == {
        "s/a.out": "A",
        "s/b.out": "B whole",
        "s/c.out": "C whole",
        "s/c.more": "C more",
        "s/d.out": "D",
    }
    assert not work.exists()


def test_what_cannot_be_put_in_order_is_named(folders: Folders) -> None:
    """A folder where a whole output should go: one line with both names."""
    folders.put_all({"s/a.txt": "a"})
    debris(folders.target / WORK, "1.whole", a="A")
    (folders.target / "s" / "a.out" / "x").mkdir(parents=True)
    with pytest.raises(LedgerError, match=r"1\.whole: the outputs in it cannot be moved") as caught:
        folders.run()
    assert "a.out" in str(caught.value)


def test_one_run_at_a_time(folders: Folders) -> None:
    """A second run on the output folder ends at once and says who holds it."""
    folders.put(a="x")
    holder = f"another run is writing it .process {os.getpid()}"
    with work_folder(folders.target), pytest.raises(LedgerLockedError, match=holder):
        folders.run()
    assert folders.run().done == 1


def test_a_stop_leaves_what_is_in_flight(folders: Folders) -> None:
    """Keys that are all finished fail no file: the error is raised, with a summary of the rest."""
    stop = Stop()

    def ask(data: str) -> str:
        if data == "good":
            return data
        error = NoUsableKeyError("all 2 keys are finished")
        stop.request(error)
        if data == "wrapped":
            raise ValueError("no answer") from error
        raise error

    folders.put_all({"a.txt": "good", "b.txt": "bad", "c.txt": "wrapped", "d.txt": "good"})
    for name in ("b.txt", "c.txt"):
        stop = Stop()
        with pytest.raises(NoUsableKeyError) as caught:
            folders.run(steps(work=ask), stop=stop, threads=1)
        summary = caught.value.summary
        assert (summary.failed, summary.exit_code) == (0, 3)
        (folders.source / name).write_text("good")
    assert folders.run(steps(work=ask)).left == 0


def test_errors_that_every_file_would_meet_stop_the_run(folders: Folders) -> None:
    """A wrong configuration, a full disk: said once, and no file is failed by it."""
    folders.put_all({f"{number}.txt": "x" for number in range(30)})

    def unconfigured(data: str) -> str:
        raise ConfigError("no API key: put it into config.json")

    def full(data: str, path: str) -> None:
        raise OSError(28, "No space left on device", path)

    for given, kind in ((steps(work=unconfigured), ConfigError), (steps(write=full), LedgerError)):
        with pytest.raises(kind) as caught:
            folders.run(given)
        assert caught.value.summary.failed == 0
    assert "its output cannot be written (No space left on device); make room" in str(caught.value)


def test_twenty_files_that_all_fail_alike_stop_a_first_run(folders: Folders) -> None:
    """A defect in a function is found before everything is paid for."""
    folders.put_all({f"{number:03}.txt": "x" for number in range(300)})
    with pytest.raises(RunStoppedError, match=r"files all failed alike \(TypeError: ") as caught:
        folders.run(steps(work=lambda data: data + 1), threads=2)
    assert caught.value.summary.left > 200


def test_an_interrupt_from_within_a_function_stops_the_run(folders: Folders) -> None:
    """A library that turns Ctrl-C into an exception has its file left, not failed."""

    def interrupted(data: str) -> str:
        raise KeyboardInterrupt

    folders.put(a="x", b="y")
    with pytest.raises(RunInterruptedError) as caught:
        folders.run(steps(work=interrupted), threads=1)
    assert (caught.value.exit_code, caught.value.summary.failed) == (130, 0)


def test_after_an_abort_nothing_is_moved_any_more(folders: Folders) -> None:
    """A thread that is left behind cannot write into the folder of a later run."""
    stop, hangs, go_on = Stop(), threading.Event(), threading.Event()

    def hang(data: str, path: str) -> None:
        hangs.set()
        go_on.wait(20)
        write(data, path)

    def abort() -> None:
        hangs.wait(20)
        stop.request(RunInterruptedError(signal.SIGINT))
        stop.abort()

    folders.put(a="x")
    threading.Thread(target=abort).start()
    with pytest.raises(RunInterruptedError):
        folders.run(steps(write=hang), stop=stop)
    left_behind = [t for t in threading.enumerate() if t.name.startswith("worker-")]
    go_on.set()
    for thread in left_behind:
        thread.join(20)
    assert folders.outputs() == {}


PROGRAM = """
import random, sys, time
from pathlib import Path
from jsonl_runner import config as settings
from jsonl_runner.clock import Stop
from jsonl_runner.errors import JsonlRunnerError
from jsonl_runner.folder import FolderJob, Steps, run_folder
from jsonl_runner.keys import KeysView

def write(data, path):
    for ending in (".more", ".out"):
        with open(path + ending, "w", encoding="utf-8") as stream:
            for _ in range(40):
                stream.write(data)
                stream.flush()
            time.sleep(random.random() / 200)

def work(data):
    time.sleep(random.random() / 100)
    return data.upper()

source, target = map(Path, sys.argv[1:])
stop = Stop()
try:
    summary = run_folder(
        settings.load(None, {}, {}), FolderJob(source, target, 8),
        Steps(lambda stream: stream.read(), work, write),
        stop=stop, view=lambda: KeysView(0, 0, 0, 0, 0, "", ""),
    )
except JsonlRunnerError as error:
    print(error, error.summary and error.summary.lines(), file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def begun(folders: Folders) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Return what starts a run over the folders as a process; all are killed at the end."""
    processes: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        words = [sys.executable, "-c", PROGRAM, str(folders.source), str(folders.target)]
        processes.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def count(folders: Folders) -> int:
    return sum(name.endswith(".out") for _, _, names in os.walk(folders.target) for name in names)


def wait_for(process: subprocess.Popen[str], folders: Folders, outputs: int) -> None:
    """Wait until there are so many outputs in the folder, whole or on their way."""
    deadline = time.monotonic() + 20
    while count(folders) < outputs:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs many processes quickly")
def test_a_crash_at_every_single_file_operation(tmp_path: Path) -> None:
    """Wherever it ends, what is there is whole, and the next run completes it and tidies up."""
    program = Path(__file__).with_name("crash_points.py")
    words = [sys.executable, str(program), "folder", str(tmp_path)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) > 20


@pytest.mark.skipif(os.name == "nt", reason="kill -9 and its kin are POSIX")
def test_killed_at_random_moments_and_run_again(
    folders: Folders, begun: Callable[[], subprocess.Popen[str]]
) -> None:
    """Each output that is there is whole at any time, and its own; in the end all are there."""
    texts = {f"{number % 7}/{number}.txt": f"text {number}\n" for number in range(300)}
    folders.put_all(dict(texts))
    whole = {
        f"{name[:-4]}{ending}": text.upper() * 40
        for name, text in texts.items()
        for ending in (".more", ".out")
    }
    dice = random.Random(3)
    for _ in range(6):
        process = begun()
        wait_for(process, folders, count(folders) + dice.randint(1, 40))
        time.sleep(dice.random() / 50)
        process.kill()
        process.wait()
        there = {n: text for n, text in folders.outputs().items() if not n.startswith(WORK)}
        assert there.items() <= whole.items()
    process = begun()
    assert process.wait(30) == 0
    assert folders.outputs() == whole


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_ctrl_c_lets_files_finish_and_names_what_is_left(
    folders: Folders, begun: Callable[[], subprocess.Popen[str]]
) -> None:
    """Exit 130, nothing failed, the lock and the work folder gone; the next run goes on."""
    folders.put_all({f"{number}.txt": "x" for number in range(200)})
    process = begun()
    wait_for(process, folders, 5)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "interrupted by SIGINT" in told
    assert "failed 0" in told
    assert "Traceback" not in told
    assert not (folders.target / WORK).exists()
    assert begun().wait(30) == 0
    assert count(folders) == 200


def test_the_summary_as_json_names_files(folders: Folders) -> None:
    """A program reads which files failed and why."""
    folders.put_all({f"{number:02}.txt": "bad" if number < 25 else "x" for number in range(30)})
    folders.put(z="done before")
    folders.target.mkdir()
    (folders.target / "z.out").touch()
    summary = folders.run(steps(work=lambda data: [1, 2][data == "bad"] // (data != "bad")))
    told = json.loads(json.dumps(summary.to_dict()))
    assert len(told["failed_files"]) == told["failed"] == 30
    lines = summary.lines()
    assert lines[1].startswith("failed 0")
    assert lines[-1] == "… and 10 more failed"
