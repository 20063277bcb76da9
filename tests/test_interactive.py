"""`jsonl-runner interactive` in a real pseudo-terminal, on a dumb one, and behind a pipe."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support import KEYS

from jsonl_runner.rows import MAX_ROW_BYTES
from jsonl_runner.simulator import SimulatorSettings, answer_text

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX's", allow_module_level=True)

import pty
import termios

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from support import Stage

#: Makes the terminal on stdin the controlling one, so that its Ctrl-C is a signal.
_LAUNCH = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'jsonl_runner', *sys.argv[1:]])"
)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[=>]|\x1b\][^\x07]*\x07")
#: How a line editor says that it begins (bracketed paste); what it draws is drawn in bits.
_BEGINS = "\x1b[?2004h"
_PROMPT = "<prompt>"
CTRL_C, CTRL_D, CTRL_R, ENTER, UP, ALT_ENTER = "\x03", "\x04", "\x12", "\r", "\x1b[A", "\x1b\r"


class Terminal:
    """The program in a pseudo-terminal of 80 columns."""

    def __init__(self, folder: Path, words: list[str], env: Mapping[str, str]) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 80))
        self.raw = ""
        self._seen = 0
        self._is_dumb = env.get("TERM") == "dumb"
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, "interactive", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd=folder,
            env={
                **os.environ,
                "TERM": "xterm",
                "PROMPT_TOOLKIT_NO_CPR": "1",  # nobody here answers where the cursor is
                "XDG_STATE_HOME": str(folder / "state"),
                "HOME": str(folder),
                **env,
            },
        )
        os.close(slave)

    def type(self, *texts: str) -> None:
        for text in texts:
            os.write(self.master, text.encode())

    def see(self, text: str, timeout_s: float = 15) -> str:
        """Wait until a text has come behind what was seen before; return all up to there."""
        limit = time.monotonic() + timeout_s
        while True:
            shown = _ESCAPES.sub("", self.raw.replace(_BEGINS, _PROMPT)).replace("\r", "")
            at = shown.find(text, self._seen)
            if at >= 0:
                before, self._seen = shown[self._seen : at], at + len(text)
                return before
            if not self._read(limit - time.monotonic()):
                pytest.fail(f"{text!r} did not come; there is {shown[self._seen :]!r}")

    def prompt(self) -> str:
        """Wait for the prompt; return what came before."""
        return self.see("> " if self._is_dumb else _PROMPT)

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read(15):
            pass
        return self.process.wait(15)

    def is_as_found(self) -> bool:
        """Return whether the terminal shows what is typed, line by line."""
        flags = termios.tcgetattr(self.master)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self.master], [], [], max(0.0, timeout_s))[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            return False
        self.raw += data.decode("utf-8", "replace")
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(15)
        os.close(self.master)


@contextlib.contextmanager
def terminal(stage: Stage, *words: str, **env: str) -> Iterator[Terminal]:
    opened = Terminal(stage.folder, ["--config", str(stage.config_file()), *words], env)
    try:
        yield opened
    finally:
        opened.close()


def answer(*texts: str, system: str = "", model: str = "gpt-4.1-mini") -> str:
    """Return what the simulator says to the last of several questions."""
    messages = [{"role": "system", "content": system}] if system else []
    said = ""
    for text in texts:
        messages.append({"role": "user", "content": text})
        said = answer_text({"model": model, "messages": messages})
        messages.append({"role": "assistant", "content": said})
    return said


def test_a_conversation_in_a_terminal(stage: Stage) -> None:
    """Questions, edited and brought back; each answer knows those before; Ctrl-D ends."""
    with terminal(stage) as tty:
        assert "/help lists the commands" in tty.prompt()
        tty.type("My name is Anx", "\x7f", "n.", ENTER)
        tty.see(answer("My name is Ann."))
        tty.prompt()
        tty.type("Who am I?", ENTER)
        tty.see(answer("My name is Ann.", "Who am I?"))
        tty.prompt()
        tty.type(UP, UP, ENTER)
        tty.see(answer("My name is Ann.", "Who am I?", "My name is Ann."))
        tty.prompt()
        tty.type(CTRL_D)
        assert tty.end() == 0
        assert tty.is_as_found()
    prompts = [call.prompt for call in stage.simulator.journal.calls]
    assert prompts == ["My name is Ann.", "Who am I?", "My name is Ann."]


def test_what_was_typed_is_remembered_the_next_time(stage: Stage) -> None:
    """In a file that its owner alone may read; Ctrl-R finds it."""
    with terminal(stage, "-q") as tty:
        tty.prompt()
        tty.type("the first question", ENTER)
        tty.see(answer("the first question"))
        tty.prompt()
        tty.type("another", ENTER)
        tty.see(answer("the first question", "another"))
        tty.prompt()
        tty.type("quit", ENTER)
        assert tty.end() == 0
    (path,) = (stage.folder / "state").rglob("history")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with terminal(stage, "-q") as tty:
        tty.prompt()
        tty.type(CTRL_R, "first q")
        tty.see("the first question")
        tty.type(ENTER)  # takes what was found
        tty.type(ENTER)
        tty.see(answer("the first question"))


def test_a_history_that_cannot_be_kept_is_no_obstacle(stage: Stage) -> None:
    """It is said once."""
    (stage.folder / "state").write_text("in the way")
    with terminal(stage) as tty:
        tty.prompt()
        tty.type("hello", ENTER)
        tty.see("note: what is typed will not be remembered")
        tty.see(answer("hello"))


def test_ctrl_c_stops_the_answer_only(stage: Stage) -> None:
    """What came stays, the turn is forgotten, the call ends, the conversation goes on."""
    with terminal(stage) as tty:
        tty.prompt()
        tty.type("one", ENTER)
        tty.see(answer("one"))
        stage.simulator.settings = SimulatorSettings(latency_s=20)
        tty.prompt()
        tty.type("a slow one", ENTER)
        tty.see("[sim")
        tty.type(CTRL_C)
        tty.see("(stopped; this turn is not remembered)", 3)
        tty.prompt()
        limit = time.monotonic() + 5
        while stage.simulator.journal.in_flight():
            assert time.monotonic() < limit
            time.sleep(0.01)
        stage.simulator.settings = SimulatorSettings()
        tty.type("two", ENTER)
        tty.see(answer("one", "two"))
        tty.prompt()
        tty.type("half a line", CTRL_C)
        tty.prompt()
        tty.type("three", ENTER)
        tty.see(answer("one", "two", "three"))
        assert tty.process.poll() is None


def test_ctrl_c_before_anything_came(stage: Stage) -> None:
    """A server that hangs holds up nobody."""
    with terminal(stage) as tty:
        tty.prompt()
        tty.type("[[fault:hang]]", ENTER)
        limit = time.monotonic() + 15
        while not stage.simulator.journal.in_flight():
            assert time.monotonic() < limit
            time.sleep(0.01)
        tty.type(CTRL_C)
        tty.see("(stopped", 3)
        tty.prompt()
        tty.type("hello", ENTER)
        tty.see(answer("hello"))


def test_texts_of_several_lines(stage: Stage) -> None:
    """What is pasted stays one text, and Alt-Enter begins a new line."""
    with terminal(stage) as tty:
        tty.prompt()
        tty.type("\x1b[200~one\r\ntwo\nthree\x1b[201~", ENTER)
        tty.see("[simulated]")
        tty.prompt()
        tty.type("four", ALT_ENTER, "five", ENTER)
        tty.see("[simulated]")
        tty.prompt()
    prompts = [call.prompt for call in stage.simulator.journal.calls]
    assert prompts == ["one\ntwo\nthree", "four\nfive"]


def test_what_is_typed_during_an_answer_waits(stage: Stage) -> None:
    """It is not shown amid the answer, and is the next question."""
    stage.simulator.settings = SimulatorSettings(latency_s=1)
    with terminal(stage) as tty:
        tty.prompt()
        tty.type("one", ENTER)
        tty.see("[sim")
        tty.type("two\r")
        assert "two" not in tty.prompt()
        tty.see(answer("one", "two"))


def test_the_commands(stage: Stage) -> None:
    """Model, system message, saving, forgetting, help, and what is none."""
    with terminal(stage, "--system", "Be brief.") as tty:
        tty.prompt()
        for typed, seen in (
            ("/save talk.jsonl", "error: nothing has been said yet"),
            ("/model", "model: gpt-4.1-mini"),
            ("/model gpt-4.1", "model: gpt-4.1"),
            ("/system", "system: Be brief."),
            ("one", answer("one", system="Be brief.", model="gpt-4.1")),
            ("/save talk.jsonl", "saved 1 turn in talk.jsonl"),
            ("/save", "error: name the file"),
            ("/sav x", "error: there is no command /sav; did you mean /save?"),
            ("/qwertz", "error: there is no command /qwertz; there are /model, /system"),
            ("/help", "part of a question"),
            ("/etc/passwd is a path", "[simulated]"),
            (" /imagine that", "[simulated]"),
            ("/clear", "forgot 3 turns"),
            ("/system -", "system: (none)"),
            ("two", answer("two", model="gpt-4.1")),
            ("/save 'talk.jsonl'", "talk.jsonl: is there already"),
            ("/mo\t", "/model"),
        ):
            tty.type(typed, ENTER)
            tty.see(seen)
            tty.prompt()
        tty.type("/quit", ENTER)
        assert tty.end() == 0
    saved = json.loads((stage.folder / "talk.jsonl").read_bytes())
    assert [message["role"] for message in saved["messages"]] == ["system", "user", "assistant"]


def test_an_answer_cannot_command_the_terminal(stage: Stage) -> None:
    """A model that repeats an escape sequence does not rename the window."""
    with terminal(stage) as tty:
        tty.prompt()
        evil = "\x1b]0;evil\x07\x9b31m\x08ok"
        tty.type(f"\x1b[200~{evil}\x1b[201~", ENTER)
        tty.see("[simulated]")
        tty.see("ok")
        tty.prompt()
    assert stage.simulator.journal.calls[0].prompt == evil
    for part in ("\x1b]0;evil", "\x07", "\x9b"):
        assert part not in tty.raw


def test_errors_are_a_line_and_the_conversation_goes_on(stage: Stage) -> None:
    """Dead keys, one dead key, no server, an answer that breaks off."""
    with terminal(stage, "--param", "top_p=0.5") as tty:
        tty.prompt()
        good = stage.simulator.settings
        spent = dict.fromkeys(KEYS, "insufficient_quota")
        stage.simulator.settings = replace(good, key_faults=spent)
        tty.type("one", ENTER)
        tty.see("error: all 2 keys are finished")
        tty.prompt()
        stage.simulator.settings = good
        tty.type("two", ENTER)
        tty.see(answer("two"))
        tty.prompt()
        tty.type("[[fault:context_length]]", ENTER)
        tty.see("error: context_length_exceeded")
        tty.see("/clear begins anew")
        tty.prompt()
        tty.type("[[fault:truncated*1]] x", ENTER)
        tty.see("(the answer broke off; asked again)")
        tty.see(answer("two", "[[fault:truncated*1]] x"))
        tty.prompt()
        tty.type(CTRL_D)
        assert tty.end() == 0
    assert not any(key in tty.raw for key in KEYS)


def test_why_nothing_comes(stage: Stage) -> None:
    """After some seconds it is said what is waited for, and Ctrl-C ends the wait."""
    with terminal(stage) as tty:
        tty.prompt()
        stage.simulator.stop()
        tty.type("hello", ENTER)
        tty.see("note: ", 20)
        tty.see("127.0.0.1", 5)
        tty.type(CTRL_C)
        tty.see("(stopped", 3)
        tty.prompt()
        stage.simulator.start()
        tty.type("[[fault:hang]]", ENTER)
        tty.see("note: no answer yet; Ctrl-C stops it", 30)
        tty.type(CTRL_C)
        tty.see("(stopped", 3)


@pytest.mark.parametrize("when", ["typing", "answering"])
def test_sigterm_leaves_the_terminal_as_it_was(stage: Stage, when: str) -> None:
    """It ends with 143, and what is typed then is shown again."""
    with terminal(stage) as tty:
        tty.prompt()
        if when == "answering":
            stage.simulator.settings = SimulatorSettings(latency_s=20)
            tty.type("slow", ENTER)
            tty.see("[sim")
        tty.process.send_signal(signal.SIGTERM)
        assert tty.end() == 143
        assert "interrupted by SIGTERM" in tty.raw
        assert tty.is_as_found()


def test_on_a_dumb_terminal(stage: Stage) -> None:
    """Plain lines, not one escape sequence; Ctrl-C and Ctrl-D as ever."""
    with terminal(stage, TERM="dumb") as tty:
        tty.prompt()
        tty.type("one\n")
        tty.see(answer("one"))
        tty.prompt()
        tty.type("half", CTRL_C)
        tty.prompt()
        stage.simulator.settings = SimulatorSettings(latency_s=20)
        tty.type("slow\n")
        tty.see("[sim")
        tty.type(CTRL_C)
        tty.see("(stopped")
        tty.prompt()
        stage.simulator.settings = SimulatorSettings()
        tty.type("two\n")
        tty.see(answer("one", "two"))
        tty.prompt()
        tty.type(CTRL_D)
        assert tty.end() == 0
        assert "\x1b" not in tty.raw


def piped(
    stage: Stage, lines: str | bytes, *words: str, **settings: object
) -> subprocess.CompletedProcess[bytes]:
    config = str(stage.config_file(**settings))
    return subprocess.run(
        stage.command("interactive", "--config", config, *words),
        input=lines.encode() if isinstance(lines, str) else lines,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=stage.folder,
        env={**os.environ, "HOME": str(stage.folder)},
    )


def test_behind_a_pipe(stage: Stage) -> None:
    """A turn a line; the answers and nothing else on stdout, byte for byte; no history."""
    done = piped(stage, "\ufeffMy name is Ann. \x1b[1m\r\n\nWho am I? ü\n", "-q")
    first = "My name is Ann. \x1b[1m"
    said = [answer(first), answer(first, "Who am I? ü")]
    assert done.stdout.decode() == "".join(line + "\n" for line in said)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not list(stage.folder.rglob("history"))


def test_commands_behind_a_pipe(stage: Stage) -> None:
    """What they say goes to stderr; what comes after quit is not read."""
    lines = "/model gpt-4.1\none\n/save talk.jsonl\n/save talk.jsonl\nquit\ntwo"
    done = piped(stage, lines)
    assert done.stdout.decode() == answer("one", model="gpt-4.1") + "\n"
    assert done.stderr.decode().count("saved 1 turn in talk.jsonl") == 2
    assert done.returncode == 0
    assert (stage.folder / "talk.jsonl").exists()


def test_failures_behind_a_pipe(stage: Stage) -> None:
    """A turn that failed is told and gone on from; where nothing can succeed it ends."""
    done = piped(stage, "[[fault:truncated*1]] a\n[[fault:content_filter]]\nb")
    assert done.returncode == 1
    kept = "[[fault:truncated*1]] a"
    assert done.stdout.decode() == f"{answer(kept)}\n{answer(kept, 'b')}\n"
    assert done.stderr.decode().startswith("error: content_filter: ")
    done = piped(stage, b"x" * (MAX_ROW_BYTES + 5) + b"\nshort\n")
    assert (done.returncode, done.stdout.decode()) == (1, answer("short") + "\n")
    assert b"standard input:1: the line is longer than" in done.stderr
    done = piped(stage, b"\xff\xfe\n")
    assert (done.returncode, b"no UTF-8" in done.stderr) == (1, True)
    done = piped(stage, "a\nb\n", api_keys=[])
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    stage.simulator.settings = SimulatorSettings(keys=())
    done = piped(stage, "a\nb\n")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.decode().count("error: ") == 1
    assert not any(key in done.stderr.decode() for key in KEYS)


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_nobody_to_talk_to(stage: Stage, closed: str) -> None:
    """A closed stdin or stdout is named; the number is not read from whatever has it now."""
    line = f'"$0" -m jsonl_runner interactive --config "$1" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", line, sys.executable, str(stage.config_file())],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=stage.folder,
    )
    assert done.returncode == 2
    assert b"stdin or stdout is closed" in done.stderr


def test_ctrl_c_behind_a_pipe_ends_it(stage: Stage) -> None:
    """Nobody sits there who would ask the next question."""
    stage.simulator.settings = SimulatorSettings(latency_s=30)
    config = str(stage.config_file())
    with subprocess.Popen(
        stage.command("interactive", "--config", config),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=stage.folder,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"hello\nmore\n")
        process.stdin.flush()
        limit = time.monotonic() + 15
        while not stage.simulator.journal.in_flight():
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=10)
    assert (process.returncode, out) == (130, b"")
    assert error.strip() == b"error: interrupted"
