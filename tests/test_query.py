"""`jsonl-runner query` as a user, a pipe or a terminal meets it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, Stage, read_ledger, told, until

from jsonl_runner.answerformat import response_format
from jsonl_runner.cli.printing import Output, Printing
from jsonl_runner.errors import ConfigError
from jsonl_runner.progress import Silent
from jsonl_runner.records import Outcome, Record
from jsonl_runner.simulator import SimulatorSettings
from jsonl_runner.terminal import harmless

if TYPE_CHECKING:
    from pathlib import Path

JAPAN = "What is the capital of Japan?"
posix = pytest.mark.skipif(os.name == "nt", reason="signals and terminals are POSIX")


class Queries:
    """The command on a stage, whose settings keep no answers unless a test says so."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.source = stage.folder / "queries.txt"
        self.settings(cache=False)

    def settings(self, **more: Any) -> None:
        self.stage.config_file(**more)

    def words(self, *words: str | Path) -> list[str]:
        return self.stage.command("query", "--config", "settings.json", *words)

    def __call__(
        self, *words: str | Path, stdin: str | bytes = "", code: int = 0
    ) -> tuple[str, str]:
        """Run it; return stdout and stderr."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        result = subprocess.run(
            self.words(*words),
            input=given,
            capture_output=True,
            timeout=60,
            cwd=self.stage.folder,
            check=False,
        )
        out, err = result.stdout.decode(), result.stderr.decode()
        assert result.returncode == code, err
        return out, err

    def write(self, *questions: str) -> None:
        self.source.write_text("".join(f"{question}\n" for question in questions), encoding="utf-8")

    def popen(self, *words: str | Path, **more: Any) -> subprocess.Popen[bytes]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(self.words(*words), cwd=self.stage.folder, **streams)


@pytest.fixture
def query(stage: Stage) -> Queries:
    return Queries(stage)


def test_the_answer_alone_on_stdout(query: Queries) -> None:
    """Byte for byte, with a line end; nothing at all on stderr."""
    assert query(JAPAN) == (told(JAPAN) + "\n", "")
    hostile = "red \x1b[31m and \x07 and \x9b, and 東京"
    assert query(hostile)[0] == told(hostile) + "\n"


@pytest.mark.parametrize("words", [(), ("-",)])
def test_a_question_on_stdin(query: Queries, words: tuple[str, ...]) -> None:
    """All of it is one question, however many lines it has."""
    assert query(*words, stdin=JAPAN + "\n")[0] == told(JAPAN) + "\n"
    text = "  def f():\n    return 1\n\nWhat is this?"
    assert query(*words, stdin="\ufeff" + text + "\r\n")[0] == told(text) + "\n"


def test_a_system_message_may_stand_in_a_file(query: Queries, tmp_path: Path) -> None:
    """As that of a run; the name of a file is nothing to send."""
    (tmp_path / "system.txt").write_text("Be brief.\n", encoding="utf-8")
    out, _ = query(JAPAN, "--system", f"@{tmp_path / 'system.txt'}")
    assert out == told(JAPAN, "Be brief.") + "\n"


def test_system_model_and_parameters_reach_the_server(query: Queries) -> None:
    """`--system` is a system message; a model and a cut are the server's to see."""
    out, _ = query(JAPAN, "--system", "Be brief.", "--model", "gpt-x", "--temperature", "0.1")
    assert out == told(JAPAN, "Be brief.", "gpt-x") + "\n"
    out, _ = query("word " * 40 + "[[fault:length]]", "--max-tokens", "5")
    assert len(out) == 5 * 4 + 1


def test_json(query: Queries) -> None:
    """One object with what a program may want to know."""
    found = json.loads(query(JAPAN, "--json")[0])
    assert found.pop("latency_s") >= 0
    usage = found.pop("usage")
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert found == {
        "answer": told(JAPAN),
        "model": "gpt-4.1-mini",
        "finish_reason": "stop",
        "cost": None,
        "cached": False,
        "attempts": 1,
    }


def test_a_question_that_fails(query: Queries) -> None:
    """Exit 1, the reason on stderr and nothing on stdout; --json tells a program too."""
    question = "too long [[fault:context_length]]"
    out, err = query(question, code=1)
    assert out == ""
    assert err.startswith("error: context_length_exceeded: HTTP 400: This model's maximum")
    assert len(err.splitlines()) == 1
    out, err = query(question, "--json", code=1)
    found = json.loads(out)
    assert set(found) == {"answer", "code", "message"}
    assert (found["answer"], found["code"]) == (None, "context_length_exceeded")
    assert err.startswith("error: context_length_exceeded")


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (("",), "", "the question is empty; give one: jsonl-runner query"),
        ((), "", "the question is empty"),
        (("-",), " \n", "the question is empty"),
        (("-",), b"\xff", "standard input: this is no UTF-8 text"),
        (("What", "is", "it?"), "", "put the question into quotes"),
        ((JAPAN, "--file", "queries.txt"), "", "give a question or --file, not both"),
        ((JAPAN, "-o", "answers.jsonl"), "", "--output is for the questions of --file"),
        ((JAPAN, "--batch-size", "3"), "", "--batch-size is for the questions of --file"),
        ((JAPAN, "--redo-changed"), "", "--redo-changed is for -o"),
        ((JAPAN, "--live"), "", "--live is for -o"),
        (("--file", "-", "--log-file", "x"), JAPAN, "--log-file is for -o"),
        (("--file", "missing.txt"), "", "missing.txt: there is no such file"),
        (("--file", "missing.txt", "-o", "a.jsonl"), "", "missing.txt: there is no such file"),
        (("--file", "-"), "\n\n", "standard input: there is no question in it"),
        (("--file", "-"), b"\xff", "standard input:1: this is no UTF-8 text"),
        ((JAPAN, "--response-format", "missing.json"), "", "missing.json: there is no such file"),
        ((JAPAN, "--config", "missing.json"), "", "missing.json: there is no such configuration"),
    ],
)
def test_wrong_use(query: Queries, words: tuple[str, ...], stdin: str, said: str) -> None:
    """Exit 2 and one line that says what to do; nothing is asked."""
    out, err = query(*words, stdin=stdin, code=2)
    assert out == ""
    assert err.startswith(f"error: {said}")
    assert len(err.splitlines()) == 1
    assert query.stage.simulator.journal.calls == []


@pytest.mark.parametrize("words", [(JAPAN,), ("--file", "queries.txt")])
def test_no_key_can_serve(query: Queries, words: tuple[str, ...]) -> None:
    """Exit 3, and no key in what is told."""
    query.stage.simulator.settings = SimulatorSettings(key_faults=dict.fromkeys(KEYS, "401"))
    query.write(JAPAN)
    out, err = query(*words, code=3)
    assert out == ""
    assert err.splitlines()[-1].startswith("error: all 2 keys are finished")
    assert not any(key in err for key in KEYS)


def test_no_key_can_serve_json(query: Queries) -> None:
    """A program learns why from the object."""
    query.stage.simulator.settings = SimulatorSettings(keys=())
    found = json.loads(query(JAPAN, "--json", code=3)[0])
    assert (found["answer"], found["code"]) == (None, "stopped")
    assert found["message"].startswith("all 2 keys are finished")


def test_an_output_that_cannot_be_written(query: Queries) -> None:
    """Exit 4."""
    query.write(JAPAN)
    assert "does not exist" in query("--file", "queries.txt", "-o", "no/a.jsonl", code=4)[1]


@posix
@pytest.mark.parametrize("words", [f"'{JAPAN}'", "--file queries.txt"])
def test_an_stdout_that_takes_nothing(query: Queries, words: str) -> None:
    """Full: exit 4 and why. Closed: the same, and nothing is asked."""
    query.write(JAPAN)
    command = " ".join(query.words())
    for target, said, calls in ((">&-", "is closed", 0), (">/dev/full", "cannot be written", 1)):
        if target.endswith("full") and not os.path.exists("/dev/full"):  # noqa: PTH110
            continue
        result = subprocess.run(
            ["sh", "-c", f"{command} {words} {target}"],
            cwd=query.stage.folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert result.returncode == 4
        assert result.stderr.splitlines()[-1].startswith("error: standard output")
        assert said in result.stderr
        assert len(query.stage.simulator.journal.calls) == calls


@posix
def test_a_closed_stdin(query: Queries) -> None:
    """Whatever file gets its number, it is not read."""
    command = " ".join(query.words())
    for words, said in (("", "give a question"), ("--file -", "standard input is closed")):
        result = subprocess.run(
            ["sh", "-c", f"{command} {words} <&-"],
            cwd=query.stage.folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith(f"error: {said}")


@posix
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_ctrl_c_ends_a_single_question(query: Queries, number: signal.Signals, code: int) -> None:
    """At once, whatever the server does, with exit 130 (SIGTERM: as any program) and one line."""
    with query.popen("[[fault:hang]]") as process:
        until(lambda: query.stage.simulator.journal.count(fault="hang") == 1)
        begun = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert time.monotonic() - begun < 3
    assert (process.returncode, out) == (code, b"")
    assert err == (b"interrupted by SIGINT\n" if number is signal.SIGINT else b"")


@posix
def test_the_examples_of_the_help_run_as_printed(query: Queries, tmp_path: Path) -> None:
    """Each of them, without a key."""
    script = tmp_path / "bin" / "jsonl-runner"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jsonl_runner "$@"\n')
    script.chmod(0o755)
    shown = query.stage.cli("query", "--help").stdout.partition("Example:\n")[2]
    examples = shown.partition("\n\n")[0].splitlines()
    assert len(examples) == 4
    for example in examples:
        environment = {**os.environ, "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}
        result = subprocess.run(
            ["sh", "-ec", example],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert "-o answers.jsonl" in example or "[simulated]" in result.stdout
    assert len(read_ledger(tmp_path / "answers.jsonl")) == 2


def test_simulate_needs_nothing(stage: Stage) -> None:
    """No key, no configuration, no network; it says that the answer is not real."""
    result = stage.cli("query", JAPAN, "--simulate")
    assert result.stdout == told(JAPAN, model="simulated-gpt-4.1-mini") + "\n"
    assert "the answers are NOT real" in result.stderr


def test_answers_come_from_the_cache(query: Queries) -> None:
    """By default; not with --no-cache, nor where the configuration says so."""
    folder = str(query.stage.folder / "cache")
    query.settings(cache_directory=folder)
    journal = query.stage.simulator.journal
    assert json.loads(query(JAPAN, "--json")[0])["cached"] is False
    found = json.loads(query(JAPAN, "--json")[0])
    assert (found["answer"], found["cached"]) == (told(JAPAN), True)
    query.write(JAPAN)
    assert query("--file", "queries.txt")[0] == told(JAPAN) + "\n"
    assert len(journal.calls) == 1
    query(JAPAN, "--no-cache")
    query.settings(cache_directory=folder, cache=False)
    query(JAPAN)
    assert len(journal.calls) == 3


def test_answers_in_the_order_of_the_questions(query: Queries) -> None:
    """Plain: each with a line end. --json: a line each, with the question and its line."""
    query.stage.simulator.settings = SimulatorSettings(latency_spread_s=0.05)
    questions = [f"question {number}" for number in range(200)]
    query.write("", *questions)
    out, err = query("--file", "queries.txt", "--batch-size", "7")
    assert out == "".join(f"{told(question)}\n" for question in questions)
    assert query.stage.simulator.journal.max_in_flight <= 7
    assert err.startswith("done 200, failed 0")
    found = [json.loads(line) for line in query("--file", "queries.txt", "--json")[0].splitlines()]
    assert [(item["index"], item["question"], item["answer"]) for item in found] == [
        (number, question, told(question)) for number, question in enumerate(questions, 2)
    ]
    names = {"model", "finish_reason", "usage", "cost", "cached", "latency_s", "attempts"}
    assert set(found[0]) == {"index", "question", "answer"} | names


def test_a_failed_question_keeps_its_place(query: Queries) -> None:
    """An empty line stands for it, stderr names its line and why, and the exit code is 1."""
    bad = "bad [[fault:context_length]]"
    query.write("One?", "", bad, "Two?")
    out, err = query("--file", "queries.txt", code=1)
    assert out == f"{told('One?')}\n\n{told('Two?')}\n"
    assert err.startswith("queries.txt:3: context_length_exceeded: HTTP 400")
    assert query("--file", "queries.txt", "-q", code=1)[1] == err.splitlines()[0] + "\n"
    out, _ = query("--file", "queries.txt", "--json", code=1)
    found = json.loads(out.splitlines()[1])
    assert found.pop("message").startswith("HTTP 400")
    assert found == {"index": 3, "question": bad, "answer": None, "code": "context_length_exceeded"}


@pytest.mark.parametrize(("count", "code"), [(20, 1), (21, 3), (400, 3)])
def test_a_beginning_that_comes_to_nothing(query: Queries, count: int, code: int) -> None:
    """Twenty alike end it, as they end a run; what is printed so far keeps its places."""
    query.write(*(f"{number} [[fault:context_length]]" for number in range(count)))
    out, err = query("--file", "queries.txt", "--batch-size", "2", code=code)
    assert out == "\n" * 20
    if code == 3:
        assert "error: the first 20 questions all failed alike (context_length" in err
    assert len(query.stage.simulator.journal.calls) <= 20 + 64


def test_a_carriage_return_is_text(query: Queries) -> None:
    """As it is in the data of a run; it reaches a pipe as it came."""
    query.source.write_bytes(b"a\rb?\r\nTwo?")
    assert query("--file", "queries.txt")[0] == f"{told('a' + chr(13) + 'b?')}\n{told('Two?')}\n"


def test_answers_of_several_lines_are_told_once(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """They are printed as they came; whoever counts lines is told what to do."""
    told_: list[str] = []
    shown = Silent()
    shown.say = told_.append  # type: ignore[assignment, method-assign]
    printing = Printing(shown, "q.txt", 3, Output(), as_json=False)
    for line, answer in ((1, "one\n"), (2, "a\n\nb"), (3, "c\nd\n")):
        printing._print(Record(str(line), "?", line=line), Outcome(str(line), answer))
    assert capfdbinary.readouterr().out == b"one\na\n\nb\nc\nd\n"
    assert told_ == [
        "note: the answer to q.txt:2 has several lines; --json prints one line a question"
    ]


def test_a_line_is_answered_when_it_comes(query: Queries) -> None:
    """A program that writes a question and waits for the answer gets it."""
    with query.popen("--file", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(f"question {number}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline().decode() == told(f"question {number}") + "\n"
        process.stdin.close()
        assert process.wait(10) == 0


@posix
def test_ctrl_c_prints_what_is_answered_in_order(query: Queries) -> None:
    """Calls under way may finish; a second Ctrl-C ends them; what is lost is said."""
    query.write("One?", "Two?", "[[fault:hang]]", "Four?", "Five?")
    journal = query.stage.simulator.journal
    with query.popen("--file", "queries.txt") as process:
        assert process.stderr is not None
        until(lambda: journal.count(status=200) == 4 and journal.count(fault="hang") == 1)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        told_ = process.stderr.readline().decode()
        assert told_ == "stopping: 1 calls in flight may finish; Ctrl-C again ends now\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert time.monotonic() - begun < 3
    assert process.returncode == 130
    assert out.decode() == f"{told('One?')}\n{told('Two?')}\n"
    first, *_, last = err.decode().splitlines()
    assert first.startswith("2 answers behind the first question without one are not printed; -o")
    assert last == "interrupted by SIGINT"


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_at_an_idle_pipe(query: Queries, number: signal.Signals, code: int) -> None:
    """Where nothing is under way, the first is enough."""
    with query.popen("--file", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"One?\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(number)
        process.wait(5)
        assert process.returncode == code
        process.stdin.close()


@posix
@pytest.mark.parametrize("json_flag", [(), ("--json",)])
def test_a_closed_pipe(query: Queries, json_flag: tuple[str, ...]) -> None:
    """`| head -n 1` ends quietly, and asks no more than a window ahead."""
    query.write(*(f"question {number}" for number in range(3000)))
    words = " ".join(query.words("--file", "queries.txt", "--batch-size", "2", *json_flag))
    piped = subprocess.run(
        ["sh", "-c", f"{words} | head -n 1"],
        cwd=query.stage.folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert piped.stderr == ""
    assert len(piped.stdout.splitlines()) == 1
    assert len(query.stage.simulator.journal.calls) < 1000


def kill_when(query: Queries, calls: int) -> None:
    journal = query.stage.simulator.journal
    goal = len(journal.calls) + calls
    words = ("--file", "queries.txt", "-o", "answers.jsonl", "--batch-size", "8")
    with query.popen(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: len(journal.calls) >= goal or process.poll() is not None)
        assert process.poll() is None
        process.kill()
    until(lambda: journal.in_flight() == 0)


@posix
def test_killed_half_way_and_run_again(query: Queries) -> None:
    """Each question is paid once, but for those in flight; then status and merge have all."""
    questions = [f"question {number}" for number in range(200)]
    query.write(*questions)
    query.stage.simulator.settings = SimulatorSettings(latency_s=0.02, latency_spread_s=0.01)
    kills = 3
    for _ in range(kills):
        kill_when(query, 40)
    out, err = query("--file", "queries.txt", "-o", "answers.jsonl")
    assert out == ""
    assert read_ledger(query.stage.folder / "answers.jsonl") == {
        question: told(question) for question in questions
    }
    paid = Counter(call.prompt for call in query.stage.simulator.journal.calls)
    assert len(paid) == 200
    assert paid.total() - 200 <= kills * 8
    names = sorted(path.name for path in query.stage.folder.glob("answers*"))
    assert names == ["answers.calls.jsonl", "answers.jsonl", "answers.questions.jsonl"]
    last = err.splitlines()[-1]
    assert last.startswith("next: jsonl-runner merge answers.questions.jsonl answers.jsonl merged")
    assert query.stage.cli(*last.split()[2:]).returncode == 0
    merged = json.loads((query.stage.folder / "merged.json").read_text(encoding="utf-8"))
    assert [row["output"] for row in merged] == [told(question) for question in questions]


def test_a_ledger_tells_a_program_what_was_done(query: Queries) -> None:
    """--json prints the summary; a null is exit 1, and the next run tries it again."""
    query.write("One?", "Two? [[fault:context_length*1]]")
    words = ("--file", "queries.txt", "-o", "answers.jsonl")
    found = json.loads(query(*words, "--json", code=1)[0])
    assert (found["done"], found["failed"]) == (1, 1)
    assert query(*words)[1].splitlines()[0].startswith("done 1, failed 0, had an output before 1")


def test_real_and_simulated_answers_are_kept_apart(query: Queries) -> None:
    """As in every ledger."""
    query.write("One?")
    words = ("--file", "queries.txt", "-o", "answers.jsonl")
    query(*words, "--simulate")
    assert "answers.jsonl holds simulated answers" in query(*words, code=2)[1]


SCHEMA = {"title": "A City!", "type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("content", "file", "name"),
    [
        (SCHEMA, "x.json", "A_City"),
        ({"type": "object"}, "my schema.v1.json", "my_schema_v1"),
        ({"type": "object", "title": "é" * 9}, "東京.json", "answer"),
        ({"type": "object", "title": "n" * 90}, "x.json", "n" * 64),
    ],
)
def test_a_schema_becomes_a_response_format(
    tmp_path: Path, content: dict[str, Any], file: str, name: str
) -> None:
    """Strict, and with a name that the provider takes."""
    path = tmp_path / file
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    assert response_format(path) == {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": content, "strict": True},
    }


@pytest.mark.parametrize(
    "whole",
    [
        {"type": "json_object"},
        {"type": "text"},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    ],
)
def test_a_whole_response_format_is_sent_as_it_stands(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    """Known by its type, which no JSON schema has."""
    path = tmp_path / "format.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    assert response_format(path) == whole


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{\n"a": }', r"format\.json:2: not valid JSON"),
        (b"[1]", "must hold an object, a JSON schema"),
        (b"\xff\xfe", "no UTF-8 text"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"type": "json_schema", "schema": {}}', '"json_schema" holds no object with'),
        (b'{"properties": {"a": {"type": "word"}}}', "format.json: .* at /properties/a/type"),
        (b'{"$ref": "https://example.com/other.json"}', "nothing is fetched"),
    ],
)
def test_a_response_format_that_is_none(tmp_path: Path, content: bytes, said: str) -> None:
    """One line that names the file."""
    path = tmp_path / "format.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        response_format(path)


@pytest.mark.parametrize("given", ["json", "schema.json"])
def test_a_response_format_reaches_the_server(query: Queries, given: str) -> None:
    """A server that takes none gets to see it."""
    (query.stage.folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    query.stage.simulator.settings = SimulatorSettings(unsupported_params=("response_format",))
    assert "response_format" in query(JAPAN, "--response-format", given, code=1)[1]
    assert query(JAPAN)[0] == told(JAPAN) + "\n"


def on_terminal(
    query: Queries, *words: str, until_seen: str = "", number: int = 0
) -> tuple[str, str, int]:
    """Run it with stdin and stdout on a terminal; return what that got, stderr and exit code."""
    import pty  # noqa: PLC0415  # POSIX alone has it

    ours, theirs = pty.openpty()
    with query.popen(*words, stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        seen = b""
        deadline = time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                if select.select([ours], [], [], 0.05)[0]:
                    data = os.read(ours, 4096)
                    if not data:
                        break
                    seen += data
                    if until_seen and until_seen in seen.decode(errors="replace"):
                        process.send_signal(number)
                        until_seen = ""
        except OSError:  # Linux says so when the other side is gone
            pass
        _, err = process.communicate(timeout=10)
    os.close(ours)
    return seen.decode().replace("\r\n", "\n"), err.decode(), process.returncode


HOSTILE = "red \x1b[31m title \x1b]0;owned\x07 bell \x07 over\rwritten \x9b2J \x7f\ttab 東京"


def test_harmless() -> None:
    """Control characters are shown as what they are not obeyed as; text stays as it is."""
    assert harmless("a\n\tb 東京 é\u200f🙂") == "a\n\tb 東京 é\u200f🙂"
    assert harmless("\x1b[31m\x07\x9b\x7f\x00") == "\ufffd[31m" + "\ufffd" * 4
    assert harmless("a\r\nb\rc") == "a\nbc"


@posix
@pytest.mark.parametrize("words", [(), ("--file", "queries.txt")])
def test_a_terminal_obeys_no_answer(query: Queries, words: tuple[str, ...]) -> None:
    """A hostile answer's sequences are not obeyed, nor those of a reason for failure."""
    query.write(HOSTILE)
    seen, _, code = on_terminal(query, *(words or (HOSTILE,)))
    assert code == 0
    assert seen.replace("\t", "") == harmless(told(HOSTILE)).replace("\t", "") + "\n"
    assert not {"\x1b", "\x07", "\x9b", "\x7f", "\r"} & set(seen)


@posix
def test_on_a_terminal_without_a_question(query: Queries) -> None:
    """It does not sit there waiting: it says how to ask."""
    seen, err, code = on_terminal(query)
    assert (seen, code) == ("", 2)
    assert err.startswith(f'error: give a question: jsonl-runner query "{JAPAN}"')


@posix
def test_an_answer_is_shown_while_it_comes(query: Queries) -> None:
    """On a terminal; Ctrl-C in the middle leaves what came, on a line of its own."""
    query.stage.simulator.settings = SimulatorSettings(latency_s=8)
    seen, err, code = on_terminal(query, JAPAN, until_seen="[simu", number=signal.SIGINT)
    assert (code, err) == (130, "interrupted by SIGINT\n")
    assert seen.endswith("\n")
    assert told(JAPAN).startswith(seen.removesuffix("\n").removesuffix("^C"))
    assert len(seen) < len(told(JAPAN))


@posix
def test_an_answer_that_begins_anew_is_told(query: Queries) -> None:
    """What broke off is not taken for a part of the answer."""
    question = "a long question " * 5 + "[[fault:truncated*1]]"
    seen, err, code = on_terminal(query, question)
    assert code == 0
    assert seen.endswith(told(question) + "\n")
    assert seen != told(question) + "\n"
    assert err == "note: that answer broke off; it begins anew\n"


def test_json_on_a_terminal_and_pipes_do_not_stream(query: Queries) -> None:
    """A server that does not stream is no matter there."""
    query.stage.simulator.settings = SimulatorSettings(unsupported_params=("stream",))
    assert query(JAPAN)[0] == told(JAPAN) + "\n"
    assert query.stage.simulator.journal.count() == 1


def test_a_kept_file_of_questions_is_watched_as_a_run_is(query: Queries) -> None:
    """Its log says what happened."""
    query.write("One?", "Two?")
    query("--file", query.source, "-o", "answers.jsonl", "--log-file", "log.jsonl")
    log = (query.stage.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in log][-1] == "run_ended"
