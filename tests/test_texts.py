"""Folders of texts: what is sent and written, what is paid once, and how runs end."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, read_ledger

from jsonl_runner.errors import (
    ConfigError,
    InputError,
    LedgerError,
    LedgerLockedError,
    NoUsableKeyError,
    RunStoppedError,
)
from jsonl_runner.simulator import SimulatorSettings, answer_text
from jsonl_runner.texts import FilesSummary, TextsJob, run_texts
from jsonl_runner.tree import WORK, work_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from support import Stage

SAY = "Repeat."
SAMPLES = Path(__file__).parent.parent / "data" / "samples" / "texts"
BAD = "[[fault:context_length]]"


def told(text: str, instruction: str = SAY) -> str:
    """Return what the simulator answers to a text."""
    messages = [
        {"role": "system", "content": instruction},
        {"role": "user", "content": text},
    ]
    return answer_text({"model": "gpt-4.1-mini", "messages": messages})


class Texts:
    """An input and an output folder on a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.source, self.target = stage.folder / "in", stage.folder / "out"
        self.work = self.target / WORK

    def put(self, texts: Mapping[str, str | bytes]) -> None:
        for name, text in texts.items():
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)

    def run(self, instruction: str = SAY, **options: Any) -> FilesSummary:
        job = TextsJob(self.source, self.target, instruction, quiet=True, **options)
        return run_texts(self.stage.config(max_retries=0, threads=8), job)

    def outputs(self) -> dict[str, str]:
        """Return every output; hidden files and the work folder are none."""
        return {
            path.relative_to(self.target).as_posix(): path.read_bytes().decode()
            for path in self.target.rglob("*")
            if path.is_file() and WORK not in path.parts
        }

    def kept(self) -> list[str]:
        """Return what is in the work folder."""
        return sorted(path.name for path in self.work.iterdir())

    def calls(self) -> int:
        return self.stage.simulator.journal.count()

    def cli(self, *words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        return self.stage.cli(*self.command(*words, **settings))

    def command(self, *words: str, **settings: Any) -> tuple[str, ...]:
        config = str(self.stage.config_file(**settings))
        return ("files", "in", "out", "--instruction", SAY, "--config", config, *words)


@pytest.fixture
def texts(stage: Stage) -> Texts:
    return Texts(stage)


def test_text_in_text_out_and_the_tree_is_kept(texts: Texts) -> None:
    """Each file has its own answer under its own name; a rerun calls nothing."""
    given = {"a.txt": "one", "s/b.md": "two\r\n", "s/t/春": "三", "s/t/a.txt": "one"}
    texts.put({**given, ".hidden": "x", ".git/y": "x"})
    summary = texts.run()
    assert (summary.written, summary.left, summary.exit_code) == (4, 0, 0)
    assert texts.outputs() == {name: told(text) for name, text in given.items()}
    assert texts.kept() == ["ledger.calls.jsonl"]
    again = texts.run()
    assert (again.skipped, again.written, texts.calls()) == (4, 0, 4)


def test_a_deleted_output_is_done_anew(texts: Texts) -> None:
    """Not from an old answer: whether the run before was complete or not."""
    texts.put({"a.txt": "one", "b.txt": "two"})
    texts.run()
    (texts.target / "a.txt").unlink()
    assert (texts.run().written, texts.calls()) == (1, 3)
    texts.put({"c.txt": BAD})
    texts.run()
    for calls in (6, 8):
        (texts.target / "a.txt").unlink()
        summary = texts.run()
        assert (summary.written, len(summary.failed), texts.calls()) == (1, 1, calls)
    assert texts.outputs() == {"a.txt": told("one"), "b.txt": told("two")}


def test_a_changed_text_or_instruction_never_meets_an_old_answer(texts: Texts) -> None:
    """Answers are kept for the same question only."""
    texts.put({"a.txt": "one\nmore\n", "b.txt": f"{BAD}\nx\n"})
    assert set(texts.run(split_tokens=1).failed) == {"b.txt"}
    texts.put({"b.txt": "new\nx\n"})
    calls = texts.calls()
    texts.run("Shout.", split_tokens=1)
    results = [told("new\n", "Shout."), told("x\n", "Shout.")]
    assert texts.outputs()["b.txt"] == "".join(f"{result}\n" for result in results)
    assert texts.calls() == calls + 2


def test_a_failed_file_is_named_and_its_good_parts_are_not_paid_again(texts: Texts) -> None:
    """The others are written; the next run calls what failed, and nothing else."""
    lines = [f"line {number}\n" for number in range(6)]
    texts.put({"s/a.txt": "".join([*lines[:3], "[[fault:refusal*1]]\n", *lines[3:]]), "b.txt": "x"})
    summary = texts.run(split_tokens=1)
    assert (summary.written, summary.left, summary.exit_code) == (1, 0, 1)
    (reason,) = summary.failed.values()
    assert reason.startswith("refusal: ")
    assert reason.endswith("(part 4 of 7)")
    assert summary.lines()[:2] == [
        "files: 1 written, 1 failed, 0 left",
        f"failed s/a.txt: {reason}",
    ]
    assert texts.outputs() == {"b.txt": told("x")}
    calls = texts.calls()
    assert (texts.run(split_tokens=1).written, texts.calls()) == (1, calls + 1)
    middle = told("[[fault:refusal*1]]\n")
    results = [*map(told, lines[:3]), middle, *map(told, lines[3:])]
    assert texts.outputs()["s/a.txt"] == "".join(f"{result}\n" for result in results)


def test_split_and_joined_in_order(texts: Texts) -> None:
    """Parts come back in any order; blank lines stay, and are not asked about."""
    simulator = texts.stage.simulator
    simulator.settings = replace(simulator.settings, latency_s=0.01, latency_spread_s=0.01)
    paragraphs = [f"Paragraph {number}, with some words in it." for number in range(40)]
    book = "\n\n \n" + "\n\n".join(paragraphs) + "\n\n"
    texts.put({"book.txt": book, "short.txt": "Hi"})
    summary = texts.run(split_tokens=12)
    assert summary.calls.done > 20
    written = texts.outputs()["book.txt"]
    assert written.startswith("\n\n \n[simulated]")
    assert written.endswith("\n\n")
    assert re.sub(r"\[simulated\] \w{12}\s*", "", written) == book
    assert texts.outputs()["short.txt"] == told("Hi")


def test_split_elsewhere_and_joined_otherwise(texts: Texts) -> None:
    """`split_at` says where, `join` what stands between results as they came."""
    texts.put({"a.txt": "一。二。三。"})
    assert texts.run(split_tokens=1, split_at="。", join=" | ").calls.done == 3
    assert texts.outputs()["a.txt"] == " | ".join(map(told, ["一。", "二。", "三。"]))


def test_empty_and_blank_files_cost_nothing(texts: Texts) -> None:
    """They are written as they are; no key is needed for that."""
    texts.put({"a.txt": "", "b.txt": " \n\n"})
    assert (texts.run().written, texts.calls()) == (2, 0)
    assert texts.outputs() == {"a.txt": "", "b.txt": " \n\n"}


def test_a_file_that_cannot_be_read_fails_alone(texts: Texts) -> None:
    """Not UTF-8, or larger than a request may be: named before the others are done."""
    texts.put({"a.txt": b"caf\xe9", "b.txt": b"\xef\xbb\xbfx", "c.txt": b"x" * (2**24 + 1)})
    summary = texts.run()
    assert summary.failed["a.txt"].startswith("not_text: its byte 3 is no UTF-8, which is expected")
    assert summary.failed["c.txt"].startswith("too_long: more than 16 MiB of text at once")
    assert texts.outputs() == {"b.txt": told("x")}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is always Unicode")
def test_a_name_that_is_no_unicode(texts: Texts) -> None:
    """Its file is done like any other."""
    texts.put({"\udce9.txt": "x", "\udce9b.txt": BAD, "#1@a.0": "y"})
    summary = texts.run()
    assert texts.outputs() == {"\udce9.txt": told("x"), "#1@a.0": told("y")}
    assert set(summary.failed) == {"\\udce9b.txt"}
    (texts.target / "\udce9.txt").unlink()
    assert (texts.run().written, texts.calls()) == (1, 5)


def test_suffix_and_glob(texts: Texts) -> None:
    """Outputs get the extension asked for, of the files asked for."""
    texts.put({"a.txt": "1", "b.md": "2", "s/c.txt": "3", "s/d/e.txt": "4", "f": "5"})
    options: list[tuple[tuple[str, ...], set[str]]] = [
        (("*.md", "f"), {"b.md", "f"}),
        (("s/*/*.txt",), {"s/d/e.txt"}),
        (("s/**/*.txt",), {"s/c.txt", "s/d/e.txt"}),
        (("**/*.txt",), {"a.txt", "s/c.txt", "s/d/e.txt"}),
        (("*.txt",), {"a.txt", "s/c.txt", "s/d/e.txt"}),
    ]
    for globs, want in options:
        texts.run(globs=globs)
        assert set(texts.outputs()) == want
        shutil.rmtree(texts.target)
    texts.run(suffix=".fr.txt")
    assert set(texts.outputs()) == {
        *("a.fr.txt", "b.fr.txt", "s/c.fr.txt", "s/d/e.fr.txt", "f.fr.txt")
    }
    with pytest.raises(InputError, match=r"no file in it that matches \*\.x or \*\.y"):
        texts.run(globs=("*.x", "*.y"))


def test_two_files_with_one_output_are_refused_before_anything_is_paid(texts: Texts) -> None:
    """Both are named, and the output."""
    texts.put({"s/a.txt": "x", "s/a.md": "y"})
    with pytest.raises(InputError, match=r"s/a\.md and a\.txt would have one output \(a\.html\)"):
        texts.run(suffix=".html")
    assert (texts.calls(), texts.target.exists()) == (0, False)
    assert texts.run().written == 2  # under their own names they are two


def test_file_count_and_other_files_answers(texts: Texts) -> None:
    """A few first; what a wider run has paid for outlives a complete narrow one."""
    texts.put({f"{number}.txt": f"text {number}" for number in range(5)})
    texts.put({"4.txt": f"good\n{BAD}\n"})
    assert texts.run(file_count=2).written == 2
    assert len(texts.run(split_tokens=1).failed) == 1
    (texts.target / "0.txt").unlink()
    assert texts.run(globs=("0*",)).exit_code == 0
    calls = texts.calls()
    texts.run(split_tokens=1)
    assert texts.calls() == calls + 1  # the part that failed; "good" was answered before


def test_jobs_that_cannot_be_done(texts: Texts) -> None:
    """One line each, before anything is written or paid."""
    for options, words in (
        ({"instruction": " \n"}, "instruction is empty"),
        ({"suffix": "md"}, "begin with a dot"),
        ({"suffix": "./md"}, "begin with a dot"),
        ({"file_count": 0}, "file_count must be at least 1"),
        ({"split_tokens": 0}, "split_tokens must be at least 1"),
        ({"split_tokens": 5, "split_at": ""}, "split_at is empty"),
    ):
        with pytest.raises(ConfigError, match=words):
            texts.run(**options)
    with pytest.raises(InputError, match="there is no such folder"):
        texts.run()
    texts.put({"a.txt": "x"})
    texts.target = texts.source
    with pytest.raises(InputError, match="the same folder"):
        texts.run()
    texts.target = texts.source / "a.txt"
    with pytest.raises(LedgerError, match="there is a file in the way"):
        texts.run()
    assert texts.calls() == 0


def test_one_run_at_a_time(texts: Texts) -> None:
    """The second says who is there."""
    texts.put({"a.txt": "x"})
    holder = f"another run is writing it .process {os.getpid()}"
    with work_folder(texts.target), pytest.raises(LedgerLockedError, match=holder):
        texts.run()


def test_an_output_that_cannot_be_written_is_kept_in_the_ledger(texts: Texts) -> None:
    """Its file fails by name; when the way is free, it is written without another call."""
    texts.put({"a.txt": "x", "b.txt": "y"})
    (texts.target / "a.txt" / "in the way").mkdir(parents=True)
    summary = texts.run()
    assert summary.failed["a.txt"].startswith("cannot be written (Is a directory")
    assert texts.outputs() == {"b.txt": told("y")}
    shutil.rmtree(texts.target / "a.txt")
    assert (texts.run().written, texts.calls()) == (1, 2)
    assert texts.outputs()["a.txt"] == told("x")


def test_a_run_whose_keys_are_finished_says_what_is_written(texts: Texts) -> None:
    """The error carries a summary in files; the next run goes on."""
    texts.put({f"{number}.txt": f"text {number}" for number in range(6)})
    simulator = texts.stage.simulator
    simulator.settings = SimulatorSettings(key_faults=dict.fromkeys(KEYS, "401"))
    with pytest.raises(NoUsableKeyError) as caught:
        texts.run()
    summary = caught.value.summary
    assert (summary.left, summary.written, summary.failed, summary.exit_code) == (6, 0, {}, 3)
    simulator.settings = SimulatorSettings()
    assert texts.run().written == 6


def test_a_bad_beginning_stops_before_the_rest_is_paid(texts: Texts) -> None:
    """As in any run; those that failed are named."""
    texts.put({f"{number:03}.txt": f"{BAD} {number}" for number in range(100)})
    with pytest.raises(RunStoppedError, match="all failed alike") as caught:
        texts.run()
    assert len(caught.value.summary.failed) >= 20
    assert caught.value.summary.left > 0


def keep(texts: Texts, name: str) -> bytes:
    return (texts.work / name).read_bytes()


def test_what_a_crash_leaves_at_each_point_is_gone_on_with(texts: Texts) -> None:
    """Between ledger, output and note: never a second call, never a half output."""
    texts.put({"a.txt": "one", "b.txt": BAD})
    texts.run()
    calls = texts.calls()
    output = texts.target / "a.txt"
    texts.put({"b.txt": ""})
    ledger, written = keep(texts, "ledger.jsonl"), keep(texts, "written.jsonl")
    # Answered, and killed before the output was written.
    output.unlink()
    (texts.work / "written.jsonl").unlink()
    (texts.work / "x.part").mkdir()
    (texts.work / "x.part" / "a.txt").write_text("[simul")
    (texts.work / ".data.jsonl.1.tmp").write_text("{")
    assert (texts.run().written, texts.calls()) == (2, calls)
    assert output.read_text() == told("one")
    assert texts.kept() == ["ledger.calls.jsonl"]
    # Killed while data and ledger were removed.
    for name in ("data.jsonl", "written.jsonl"):
        (texts.work / name).write_bytes(written)
    assert (texts.run().skipped, texts.kept()) == (2, ["ledger.calls.jsonl"])
    # Killed while the ledger's last line was written: it is called again, once.
    output.unlink()
    (texts.work / "ledger.jsonl").write_bytes(ledger.partition(b"\n")[0][:-4])
    assert (texts.run().written, texts.calls()) == (1, calls + 1)
    # Written, and killed before that was noted; then somebody deletes the output.
    texts.put({"b.txt": BAD})
    (texts.target / "b.txt").unlink()
    (texts.work / "ledger.jsonl").write_bytes(ledger)
    texts.run()
    assert keep(texts, "written.jsonl") == written
    calls = texts.calls()
    output.unlink()
    texts.run()
    assert texts.calls() == calls + 2


def test_files_on_the_command_line(texts: Texts) -> None:
    """Summary on stderr, JSON on stdout, exit codes as of `run`."""
    texts.put({"a.txt": "one", "s/b.txt": BAD})
    result = texts.cli()
    assert (result.returncode, result.stdout) == (1, "")
    assert "files: 1 written, 1 failed, 0 left\nfailed s/b.txt: context_length" in result.stderr
    assert "next: the same command tries what failed again" in result.stderr
    texts.put({"s/b.txt": "1\\n2\n3\n"})
    found = json.loads(
        texts.cli("--json", "--split-tokens", "1", "--join", r"\n--\n", "--split-at", r"\n").stdout
    )
    assert (found["written"], found["skipped"], found["left"], found["exit_code"]) == (1, 1, 0, 0)
    assert texts.outputs()["s/b.txt"] == "\n--\n".join([told("1\\n2\n"), told("3\n")])
    for words, part in (
        (("--instruction-file", "in/a.txt"), "either --instruction TEXT or --instruction-file"),
        (("--suffix", "md"), "begin with a dot"),
        (("--glob", "*.x"), "there is no file in it that matches *.x"),
        (("--simulate",), "out holds real answers"),
    ):
        result = texts.cli(*words)
        assert result.returncode == 2
        assert part in result.stderr


def test_the_instruction_from_a_file(texts: Texts) -> None:
    """A file that cannot be read is named."""
    texts.put({"a.txt": "one"})
    config = str(texts.stage.config_file())
    words = ("files", "in", "out", "--config", config, "--instruction-file")
    (texts.stage.folder / "say.txt").write_text(f"{SAY}\n")
    assert texts.stage.cli(*words, "say.txt").returncode == 0
    assert texts.outputs() == {"a.txt": told("one")}
    (texts.stage.folder / "bad.txt").write_bytes(b"\xff")
    for name, why in (("nothing.txt", "No such file"), ("bad.txt", "it is no UTF-8 text")):
        result = texts.stage.cli(*words, name)
        assert result.returncode == 2
        assert f"{name}: cannot be read ({why}" in result.stderr


def test_the_example_of_the_help(stage: Stage) -> None:
    """It runs as printed, twice; a real run does not take its answers for real ones."""
    shutil.copytree(SAMPLES, stage.folder / "data" / "samples" / "texts")
    words = ("files", "data/samples/texts", "out", "--instruction", "Translate into French.")
    for number in (0, 3):
        result = stage.cli(*words, "--simulate")
        assert result.returncode == 0
        assert f"files: {3 - number} written, 0 failed, 0 left" in result.stderr
    assert len(list((stage.folder / "out").rglob("*.txt"))) == 3
    result = stage.cli(*words, env={**os.environ, "OPENAI_API_KEY": KEYS[0]})
    assert result.returncode == 2
    assert "out holds simulated answers" in result.stderr


def test_it_is_watched_as_a_run_is(texts: Texts) -> None:
    """Its log says what happened."""
    texts.put({"a.txt": "one"})
    assert texts.cli("--log-file", "log.jsonl").returncode == 0
    log = (texts.stage.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in log][-1] == "run_ended"


@pytest.fixture
def begun(texts: Texts) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Return what starts a run over the folders as a process; all are killed at the end."""
    processes: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        words = texts.stage.command(*texts.command("--threads", "8", "--split-tokens", "8"))
        processes.append(
            subprocess.Popen(words, cwd=texts.stage.folder, stderr=subprocess.PIPE, text=True)
        )
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_calls(texts: Texts, process: subprocess.Popen[str], more: int) -> None:
    goal, deadline = texts.calls() + more, time.monotonic() + 20
    while texts.calls() < goal:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.003)


def long_texts(texts: Texts, count: int) -> dict[str, str]:
    """Write files of one and of three parts; return what their outputs must be."""
    given, want = {}, {}
    for number in range(count):
        parts = [f"file {number} part {part}\n" for part in range(3 if number % 4 == 0 else 1)]
        name = f"{number % 5}/{number}.txt"
        given[name] = "".join(parts)
        want[name] = "".join(f"{told(part)}\n" for part in parts)
    texts.put(given)
    return want


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs many processes quickly")
def test_a_crash_at_every_single_file_operation(stage: Stage) -> None:
    """What is there is whole; the next run completes it, and pays for one call again at most."""
    program = Path(__file__).with_name("crash_points.py")
    words = [sys.executable, str(program), "texts", str(stage.folder), stage.simulator.base_url]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    crashes = int(result.stdout)
    assert crashes > 30
    # Each crash has texts of its own, and each text three equal lines.
    calls = Counter(call.prompt for call in stage.simulator.journal.calls)
    assert len(calls) == 2 * (crashes + 1)
    again = Counter(prompt.split()[1] for prompt, count in calls.items() for _ in range(count - 3))
    assert set(again.values()) <= {1}


@pytest.mark.skipif(os.name == "nt", reason="kill -9 and its kin are POSIX")
def test_killed_at_random_moments_and_run_again(
    texts: Texts, begun: Callable[[], subprocess.Popen[str]]
) -> None:
    """Outputs are whole and their own at any time; only calls in flight are made again."""
    want = long_texts(texts, 240)
    simulator, journal = texts.stage.simulator, texts.stage.simulator.journal
    simulator.settings = replace(simulator.settings, latency_s=0.02, latency_spread_s=0.01)
    dice = random.Random(5)
    kills = 4
    for _ in range(kills):
        process = begun()
        wait_for_calls(texts, process, dice.randint(1, 60))
        process.kill()
        process.wait()
        assert texts.outputs().items() <= want.items()
        while journal.in_flight():
            time.sleep(0.01)
    process = begun()
    assert process.wait(30) == 0
    assert texts.outputs() == want
    assert texts.kept() == ["ledger.calls.jsonl"]
    calls = Counter(call.prompt for call in journal.calls)
    assert len(calls) == 360
    assert calls.total() - len(calls) <= kills * 8


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_ctrl_c_wastes_no_call(texts: Texts, begun: Callable[[], subprocess.Popen[str]]) -> None:
    """Exit 130 with a summary in files; what was answered is not called again."""
    want = long_texts(texts, 150)
    simulator, journal = texts.stage.simulator, texts.stage.simulator.journal
    simulator.settings = replace(simulator.settings, latency_s=0.02, latency_spread_s=0.02)
    process = begun()
    wait_for_calls(texts, process, 30)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "0 failed, " in said
    assert "next: run the same command again" in said
    assert said.splitlines()[-1] == "interrupted by SIGINT"
    assert len(read_ledger(texts.work / "ledger.jsonl")) == journal.count()
    assert begun().wait(30) == 0
    assert texts.outputs() == want
    assert set(Counter(call.prompt for call in journal.calls).values()) == {1}
