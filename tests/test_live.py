"""`run --live`: the table, read from the screen of a terminal; SIGUSR1, which prints it once."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pyte
import pytest
from support import FakeClock, row, write_rows

from jsonl_runner import live
from jsonl_runner.live import Live, why_not
from jsonl_runner.signals import reporting
from jsonl_runner.simulator import SimulatorSettings
from jsonl_runner.snapshot import FailureView, KeyView, Snapshot
from jsonl_runner.table import plain, short, sparkline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support import Stage

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")

KEYS = tuple(
    KeyView(
        f"#{n}(…{n:04})",
        "cooling" if n == 20 else "retired" if n == 30 else "ready",
        {20: "busy: HTTP 429", 30: "invalid_api_key: HTTP 401"}.get(n, ""),
        calls=n, limit=16, in_flight=3, why="raised: calls succeed", errors=int(n == 40),
        cooldown_s=41.0 if n == 20 else 0.0, requests_left=1.5e6, tokens=25_300,
    )
    for n in range(1, 51)
)  # fmt: skip
FAILURES = tuple(FailureView(f"f{n}", "timeout", f"message {n}", 2) for n in range(30))
NOW = Snapshot(
    1e9, 187.0, "data.jsonl", "output.jsonl", rows=100_000, skipped=50, done=12_300, failed=45,
    retried=67, tokens_in=1_500_000, tokens_out=30_000, cost=1.5, expected_cost=12.25, rate=600.0,
    left_s=146.0, p50=0.25, p95=0.8, p99=1.25, rates=(1.0, 4.0, 8.0), latencies=(0.2, 0.1, 0.4),
    reasons={"timeout": 45}, last_failures=FAILURES, keys=KEYS,
)  # fmt: skip


class Screen:
    """A terminal whose screen can be read: the other end of what a program writes to."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self._reader, self.writer = os.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._bytes = pyte.ByteStream(self._screen)
        #: Everything that was written.
        self.raw = b""
        self.resize(columns, lines)
        self.stream = os.fdopen(os.dup(self.writer), "w", encoding="utf-8")

    def resize(self, columns: int, lines: int) -> None:
        import termios  # noqa: PLC0415  # POSIX only

        termios.tcsetwinsize(self.writer, (lines, columns))
        self._screen.resize(lines, columns)

    def read(self) -> None:
        while select.select([self._reader], [], [], 0)[0]:
            block = os.read(self._reader, 65536)
            self.raw += block
            self._bytes.feed(block)

    def lines(self) -> list[str]:
        self.read()
        return [line.rstrip() for line in self._screen.display]

    def wait_for(self, seen: Callable[[list[str]], bool], seconds: float = 20) -> list[str]:
        until = time.monotonic() + seconds
        while not seen(lines := self.lines()):
            assert time.monotonic() < until, "\n".join(lines)
            time.sleep(0.02)
        return lines

    def close(self) -> None:
        self.stream.close()
        os.close(self.writer)
        os.close(self._reader)


@pytest.fixture
def screen() -> Iterator[Screen]:
    made = Screen()
    yield made
    made.close()


@pytest.fixture
def table(screen: Screen, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")  # a size of long ago
    made = Live(clock, screen.stream)
    yield made
    made.close()


def has(word: str) -> Callable[[list[str]], bool]:
    return lambda lines: any(word in line for line in lines)


# The table itself


def test_sparklines_and_short_numbers() -> None:
    """The highest is a full block; numbers take five columns at the most."""
    assert sparkline([0, 4, 8], 10) == "▁▅█"
    assert sparkline([9, 9, 0, 8], 2) == "▁█"
    assert sparkline([0.0, 0.0], 5) == "▁▁"
    assert sparkline([], 5) == ""
    shown = [short(number) for number in (None, 0, 870.4, 9999, 12_345, 999_700, 1.5e6, 2e9)]
    assert shown == ["–", "0", "870", "9999", "12.3k", "1M", "1.5M", "2G"]


def test_it_fits_eighty_columns_and_twenty_four_lines(screen: Screen, table: Live) -> None:
    """Fifty keys: those with trouble first, and how many there are more; the newest failures."""
    table.say("note: something")
    screen.read()
    table.look(NOW)
    lines = screen.lines()
    assert lines[0] == "running, 3:07 min  data.jsonl → output.jsonl"
    assert lines[1] == "12,395/100,000 rows  12%, ok 12,300, null 45, retried 67"
    assert lines[2].startswith("speed    ▂▅█ 600.0 rows/s   2:26 min left, ends about ")
    assert lines[3] == "latency  ▅▃█ p50 0.25 s, p95 0.8 s, p99 1.25 s"
    assert lines[4].startswith(
        "calls    150 in flight of 784;  cost 1.5000 of ~12.2500;  tokens 1.5"
    )
    assert lines[6].split()[:4] == ["key", "state", "flight", "req"]
    assert [line.split()[0] for line in lines[7:10]] == ["#20(…0020)", "#40(…0040)", "#1(…0001)"]
    assert lines[7].startswith("#20(…0020) cooling 41 s   3/16     1.5M")
    assert "busy" in lines[7]
    assert "… and 39 more: 38 ready, 1 retired" in lines
    place = lines.index("last failures (timeout 45)")
    assert lines[place + 1] == "f28  timeout: message 28  (2 calls)"
    assert lines[place + 2] == "f29  timeout: message 29  (2 calls)"
    assert lines[place + 3 :] == ["notes", "note: something"]


def test_few_keys_stand_in_their_order_and_leave_room(screen: Screen, table: Live) -> None:
    """What they do not need goes to the failures; without failures and notes nothing stands."""
    table.look(replace(NOW, keys=(KEYS[0], KEYS[19], KEYS[29])))
    lines = screen.lines()
    assert [line.split()[0] for line in lines[7:10]] == ["#1(…0001)", "#20(…0020)", "#30(…0030)"]
    assert lines[9].split()[1] == "retired"
    assert lines[10] == "last failures (timeout 45)"
    assert lines[-1].startswith("f29")
    table._due = 0.0
    table.look(replace(NOW, keys=KEYS[:1], last_failures=(), reasons={}))
    assert screen.lines()[8:] == [""] * 16


@pytest.mark.parametrize(("columns", "lines"), [(20, 5), (60, 12), (200, 60)])
def test_it_works_in_any_size_and_follows_it(
    screen: Screen, table: Live, clock: FakeClock, columns: int, lines: int
) -> None:
    """Nothing wraps or scrolls: the first line stays the first."""
    table.look(NOW)
    screen.resize(columns, lines)
    clock.advance(60)
    table.look(NOW)
    shown = screen.lines()
    assert shown[0].startswith("running, 3:07 min  d"[: columns - 1])
    if lines == 60:
        assert shown[0] == "running, 3:07 min  data.jsonl → output.jsonl"
        assert sum(line.startswith("#") for line in shown) > 40


def test_nothing_of_a_provider_commands_the_terminal(screen: Screen, table: Live) -> None:
    """Neither control characters nor rich's own markup; a line end stays within its line."""
    evil = "\x1b]0;owned\x07\x1b[2J[bold]x[/bold]\r\ny"
    failure = FailureView(evil, evil, evil)
    key = KeyView("#1", "retired", evil)
    table.say(f"note: {evil}")
    screen.read()
    before = len(screen.raw)
    table.look(
        replace(
            NOW, data=evil, keys=(key,), last_failures=(failure,), trouble=evil, reasons={evil: 1}
        )
    )
    lines = screen.lines()
    assert b"\x1b]0" not in screen.raw[before:]
    assert b"\x1b[2J[bold]" not in screen.raw[before:]
    assert any("[bold]x[/bold] y" in line for line in lines)
    assert lines[0].startswith("running")
    text = plain(replace(NOW, trouble=evil), [evil])
    assert "\x1b" not in text
    table.close()
    assert b"\x1b]0" not in screen.raw


def test_it_is_drawn_four_times_a_second_at_the_most(
    screen: Screen, table: Live, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And more rarely where a drawing takes long: never above its share of the processor."""
    spent = iter([0.0, 0.001, 0.0, 0.030, 0.0, 0.001])
    monkeypatch.setattr("jsonl_runner.live.time.thread_time", lambda: next(spent))
    table.look(NOW)
    assert not table.is_due
    clock.advance(live.DRAW_EVERY_S)
    assert table.is_due
    screen.lines()
    size = len(screen.raw)
    table.look(replace(NOW, done=1))
    screen.lines()
    assert len(screen.raw) > size
    clock.advance(2.9)
    assert not table.is_due
    table.look(replace(NOW, done=2))
    assert "ok 1," in screen.lines()[1]
    clock.advance(0.2)
    assert table.is_due


def test_what_was_said_is_printed_when_the_table_is_gone(screen: Screen, table: Live) -> None:
    """On the normal screen, once, with whatever stood there before."""
    table.say("before")
    assert screen.lines()[0] == "before"
    table.look(NOW)
    for n in range(50):
        table.say(f"note {n}")
    table.keep("kept")
    assert b"note 3" not in screen.raw
    screen.read()
    size = len(screen.raw)
    table.close()
    screen.read()
    end = screen.raw[size:].decode()
    assert "\x1b[?1049l" in end
    assert "\x1b[?25h" in end
    said = end.partition("\x1b[?1049l")[2]
    assert re.findall(r"note \d+|kept|before", said) == [*(f"note {n}" for n in range(50)), "kept"]
    table.say("after")
    table.look(NOW)
    assert screen.lines().count("after") == 1


def test_where_there_can_be_no_table(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal, a dumb one, one whose letters are others."""
    monkeypatch.setenv("TERM", "xterm")
    assert why_not(screen.stream) == ""
    assert why_not(io.StringIO()) == "this is no terminal"
    latin = io.TextIOWrapper(os.fdopen(os.dup(screen.writer), "wb"), encoding="latin-1")
    assert "UTF-8" in why_not(latin)
    latin.close()
    for term in ("dumb", None):
        if term is None:
            monkeypatch.delenv("TERM")
        else:
            monkeypatch.setenv("TERM", term)
        assert why_not(screen.stream) == "the terminal is dumb"


# The program


@contextlib.contextmanager
def running(
    stage: Stage, *words: str, stderr: int, rows: int = 400, latency_s: float = 0.2
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program; whatever happens, it is ended."""
    stage.simulator.settings = SimulatorSettings(latency_s=latency_s)
    texts = ["[[fault:content_policy]]" if n == 7 else None for n in range(rows)]
    write_rows(stage.data, [row(n, text) for n, text in enumerate(texts)])
    command = stage.command(
        "run", stage.data, stage.output, "--config", stage.config_file(), "--threads", "8", *words
    )
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stderr=stderr, stdout=stderr, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_run_with_a_table_from_start_to_ctrl_c(stage: Stage, screen: Screen) -> None:
    """It moves, names the failure, says that it stops, and leaves the terminal as it was."""
    with running(stage, "--live", stderr=screen.writer, latency_s=1.0) as process:
        screen.wait_for(has("last failures (content_policy_violation 1)"))
        lines = screen.wait_for(has("8 in flight of 8;"))
        assert has(f"{stage.data} → ")(lines) or lines[0].startswith("running")
        assert any(line.startswith("#1(…0001) ready") for line in lines)
        # All calls in flight are to take long enough for the table to be drawn once more.
        stage.simulator.settings = SimulatorSettings(latency_s=3.0)
        seen = len(stage.simulator.journal.calls)
        screen.wait_for(lambda _: len(stage.simulator.journal.calls) >= seen + 8)
        process.send_signal(signal.SIGINT)
        screen.wait_for(lambda _: process.poll() is not None)  # a full terminal would hold it up
        assert process.returncode == 130
    screen.read()
    assert b"stopping (interrupted by SIGINT)" in screen.raw  # while calls were in flight
    end = screen.raw.decode().partition("\x1b[?1049l")[2]
    assert "stopping: " in end
    assert "interrupted by SIGINT" in end
    assert "done " in end
    assert screen.raw.count(b"\x1b[?1049h") == screen.raw.count(b"\x1b[?1049l") == 1


def test_without_a_terminal_there_are_lines_and_one_note(stage: Stage) -> None:
    """As without --live."""
    write_rows(stage.data, [row(0)])
    done = stage.run_cli("--live")
    assert done.returncode == 0
    assert done.stderr.count("note: --live: this is no terminal; showing lines instead") == 1
    assert "\x1b" not in done.stderr


def test_the_table_is_gone_when_the_run_fails(stage: Stage, screen: Screen) -> None:
    """Also where no key can serve: the error stands on the normal screen."""
    stage.simulator.settings = SimulatorSettings(latency_s=0.5)
    with running(stage, "--live", stderr=screen.writer, latency_s=0.5) as process:
        screen.wait_for(has("in flight of"))
        stage.simulator.settings = SimulatorSettings(
            key_faults=dict.fromkeys(
                ("sk-test-aaaaaaaaaaaaaaaa0001", "sk-test-bbbbbbbbbbbbbbbb0002"), "401"
            )
        )
        screen.wait_for(lambda _: process.poll() is not None)
        assert process.returncode == 3
    screen.read()
    assert b"keys are finished" in screen.raw.rpartition(b"\x1b[?1049l")[2]


# SIGUSR1


def wait_for_text(path: Path, text: str, seconds: float = 20) -> str:
    until = time.monotonic() + seconds
    while text not in (found := path.read_text(encoding="utf-8", errors="replace")):
        assert time.monotonic() < until, found
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("words", [(), ("-q",)])
def test_sigusr1_prints_the_table_once(
    stage: Stage, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Plainly, into stderr and the log, quiet or not; and the run goes on."""
    path, log = tmp_path / "stderr", tmp_path / "log"
    with path.open("wb") as stream:
        given = ("--log-file", str(log), *words)
        with running(stage, *given, stderr=stream.fileno(), rows=60) as process:
            deadline = time.monotonic() + 20
            while not stage.output.exists() or not stage.output.read_bytes():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGUSR1)
            text = wait_for_text(path, "#2(…0002) ready")
            assert process.wait(20) == 1
    text = path.read_text(encoding="utf-8")
    assert text.count("speed    ") == 1
    assert "\x1b" not in text
    assert '"event":"table","lines":["running' in log.read_text(encoding="utf-8")


def test_a_program_keeps_its_own_use_of_the_signal() -> None:
    """A handler that is there stays; ours is gone after the block."""
    asked: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
    try:
        with reporting(lambda: asked.append(2)):
            signal.raise_signal(signal.SIGUSR1)
        assert asked == [1]
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        with reporting(lambda: asked.append(3)):
            signal.raise_signal(signal.SIGUSR1)
        assert asked == [1, 3]
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_rich_is_not_imported_by_a_run_without_a_table() -> None:
    """Nor Prometheus: whoever does not look need not wait."""
    code = (
        "import sys, jsonl_runner.runner, jsonl_runner.cli.main;"
        "print([m for m in ('rich', 'prometheus_client') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
