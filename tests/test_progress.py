"""The progress line: a bar on a terminal, plain lines elsewhere, nothing when asked for quiet."""

from __future__ import annotations

import io
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from support import FakeClock, Stage, row, write_rows

from jsonl_runner.keys import KeysView
from jsonl_runner.progress import Bar, Plain, Progress, Silent, Surviving, progress, state_of
from jsonl_runner.summary import RunSummary, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

WAITING = "all 12 keys are cooling, next ready in 41 s"


def view(**more: Any) -> KeysView:
    none = {
        "cooling": 0,
        "retired": 0,
        "in_flight": 0,
        "calls": 9,
        "waiting_for": "",
        "trouble": "",
    }
    return KeysView(**{"ready": 2, **none, **more})


def plain(clock: FakeClock) -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    shown = progress("job", quiet=False, clock=clock, stream=stream)
    assert isinstance(shown, Surviving)
    assert isinstance(shown._shown, Plain)
    return shown, stream


class Terminal:
    """A pseudo-terminal of 120 columns: a stream that is one, and what was written to it."""

    def __init__(self) -> None:
        import termios  # noqa: PLC0415  # POSIX only

        self._reader, writer = os.openpty()
        termios.tcsetwinsize(writer, (24, 120))
        self.stream = os.fdopen(writer, "w", encoding="utf-8")

    def text(self) -> str:
        self.stream.flush()
        os.set_blocking(self._reader, False)
        found = b""
        try:
            while block := os.read(self._reader, 65536):
                found += block
        except BlockingIOError:
            pass
        return found.decode()

    def drawings(self) -> list[str]:
        """Return what was drawn since the last look, one text each."""
        return [part for part in self.text().replace("\n", "\r").split("\r") if part.strip()]

    def close(self) -> None:
        self.stream.close()
        os.close(self._reader)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    if os.name == "nt":
        pytest.skip("POSIX terminals")
    pty = Terminal()
    yield pty
    pty.close()


def test_a_stream_that_is_no_terminal_gets_plain_lines(clock: FakeClock) -> None:
    """One every ten seconds: rows, rate, time left, keys; no carriage return among them."""
    shown, stream = plain(clock)
    summary = RunSummary(rows=1200, skipped=200)
    for second in range(1, 31):
        clock.advance(1)
        summary.done = second * 10
        shown.show(summary, view())
    assert stream.getvalue().splitlines() == [
        "job: 300/1,200 rows, 10.0 rows/s, 90 s left; ok 100, keys 2 ready",
        "job: 400/1,200 rows, 10.0 rows/s, 80 s left; ok 200, keys 2 ready",
        "job: 500/1,200 rows, 10.0 rows/s, 70 s left; ok 300, keys 2 ready",
    ]


def test_nothing_is_told_of_a_run_that_is_soon_over(clock: FakeClock) -> None:
    """Under ten seconds the summary says it all; the end adds no line."""
    shown, stream = plain(clock)
    clock.advance(9.9)
    shown.show(RunSummary(rows=1, done=1), view())
    shown.close(RunSummary(rows=1, done=1), view())
    assert stream.getvalue() == ""


def test_before_the_first_row_no_time_left_is_made_up(clock: FakeClock) -> None:
    """Without a rate there is no forecast; a stream has no total."""
    shown, stream = plain(clock)
    clock.advance(20)
    shown.show(RunSummary(rows=10), view(calls=0))
    clock.advance(20)
    shown.show(RunSummary(rows=None, done=8), view())
    assert stream.getvalue().splitlines() == [
        "job: 0/10 rows, 0.0 rows/s; ok 0, keys 2 ready",
        "job: 8 rows, 0.2 rows/s; ok 8, keys 2 ready",
    ]


def test_a_failed_row_is_progress_too(clock: FakeClock) -> None:
    """Nulls are finished rows of this run and are told as such."""
    shown, stream = plain(clock)
    clock.advance(10)
    shown.show(RunSummary(rows=10, done=3, failed=2), view())
    assert (
        stream.getvalue() == "job: 5/10 rows, 0.5 rows/s, 10 s left; ok 3, null 2, keys 2 ready\n"
    )


def test_a_line_that_is_said_comes_at_once(clock: FakeClock) -> None:
    """Whatever was shown before; also on a terminal, in a line of its own."""
    shown, stream = plain(clock)
    shown.say("note: something")
    assert stream.getvalue() == "note: something\n"


def test_the_state_of_keys_and_rows() -> None:
    """Only what there is: nulls, retries, cooling and retired keys, tokens."""
    assert state_of(RunSummary(), view()) == "ok 0, keys 2 ready"
    summary = RunSummary(done=1234, failed=5, retried=6, tokens=Tokens(1_500_000, 0))
    assert state_of(summary, view(ready=0, cooling=3, retired=1)) == (
        "ok 1,234, null 5, retried 6, keys 3 cooling 1 retired, 1.50M tokens"
    )


def test_the_cost_so_far_and_at_the_end() -> None:
    """What the rest costs is what the rows so far did; without a cost nothing is made up."""
    summary = RunSummary(rows=110, skipped=10, done=24, failed=1, cost=0.5)
    assert state_of(summary, view()) == "ok 24, null 1, keys 2 ready, cost 0.5000 of ~2.0000"
    summary.cost = 500.0
    assert state_of(summary, view()).endswith("cost 500.00 of ~2,000.00")
    assert state_of(RunSummary(rows=25, done=25, cost=1.5), view()).endswith(", cost 1.5000")
    assert state_of(RunSummary(rows=None, done=5, cost=1.5), view()).endswith(", cost 1.5000")
    for nothing in (None, 0.0):
        assert "cost" not in state_of(RunSummary(rows=9, done=5, cost=nothing), view())


def test_what_matters_least_is_left_out_first() -> None:
    """Tokens, tries, keys, cost; never what is done, what failed and why nothing moves."""
    tokens = Tokens(1_500_000, 0)
    summary = RunSummary(rows=9, done=5, failed=1, retried=6, tokens=tokens, cost=0.5)
    whole = state_of(summary, view())
    without_tokens = "ok 5, null 1, retried 6, keys 2 ready, cost 0.5000 of ~0.7500"
    assert whole != state_of(summary, view(), len(whole) - 1)
    assert state_of(summary, view(), len(whole)) == whole
    assert state_of(summary, view(), len(whole) - 1) == without_tokens
    assert state_of(summary, view(), 60) == "ok 5, null 1, keys 2 ready, cost 0.5000 of ~0.7500"
    assert state_of(summary, view(), 40) == "ok 5, null 1, cost 0.5000 of ~0.7500"
    assert state_of(summary, view(), 20) == state_of(summary, view(), -9) == "ok 5, null 1"
    waiting = view(waiting_for=WAITING)
    assert state_of(summary, waiting, 20) == f"ok 5, null 1, {WAITING}"


@pytest.mark.parametrize(
    ("columns", "shown_"), [(120, "keys 2 ready"), (90, "cost 0.5000 of ~1.0000 [")]
)
def test_the_times_stay_on_a_narrow_terminal(
    clock: FakeClock, terminal: Terminal, columns: int, shown_: str
) -> None:
    """The numbers behind the bar give way before the time that is left."""
    import termios  # noqa: PLC0415

    termios.tcsetwinsize(terminal.stream.fileno(), (24, columns))
    shown = progress("job", quiet=False, clock=clock, stream=terminal.stream)
    summary = RunSummary(rows=10_000, done=5000, cost=0.5, retried=7, tokens=Tokens(10**6, 0))
    shown.show(summary, view())
    drawn = terminal.drawings()[-1]
    assert shown_ in drawn
    assert "rows/s]" in drawn
    assert len(drawn) <= columns
    shown.close(summary, view())


def test_why_nothing_moves_is_shown(clock: FakeClock) -> None:
    """The reason takes the place of what is less important."""
    shown, stream = plain(clock)
    clock.advance(10)
    shown.show(RunSummary(rows=9, done=1), view(ready=0, cooling=12, waiting_for=WAITING))
    assert stream.getvalue().endswith(f"; ok 1, {WAITING}\n")


def test_quiet_says_nothing(clock: FakeClock, terminal: Terminal) -> None:
    """Neither to a terminal nor to a file."""
    stream = io.StringIO()
    for given in (stream, terminal.stream):
        shown = progress("job", quiet=True, clock=clock, stream=given)
        assert isinstance(shown, Silent)
        clock.advance(100)
        shown.show(RunSummary(rows=1), view())
        shown.say("note")
        shown.close(RunSummary(rows=1, done=1), view())
    assert (stream.getvalue(), terminal.text()) == ("", "")


def test_a_terminal_gets_a_bar(clock: FakeClock, terminal: Terminal) -> None:
    """In one line that is drawn over, ten times a second at the most, with what was done before."""
    shown = progress("job", quiet=False, clock=clock, stream=terminal.stream)
    assert isinstance(shown, Surviving)
    assert isinstance(shown._shown, Bar)
    summary = RunSummary(rows=1000, skipped=500)
    shown.show(summary, view())
    first = terminal.drawings()
    assert first
    assert first[-1].startswith("job:  50% ")
    assert "500/1000, ok 0" in first[-1]
    assert "ok 0, keys 2 ready" in first[-1]
    for _ in range(9):
        clock.advance(0.01)
        summary.done += 25
        shown.show(summary, view())
    assert terminal.drawings() == []
    clock.advance(0.02)
    shown.show(summary, view(waiting_for=WAITING))
    (second,) = terminal.drawings()
    assert "725/1000, ok 225" in second
    assert f"ok 225, {WAITING}" in second
    summary.done, summary.failed = 499, 1
    shown.close(summary, view())
    last = terminal.text()
    assert "job: 100% " in last
    assert "1000/1000, ok 499" in last
    assert "ok 499, null 1, keys 2 ready" in last
    assert last.endswith("\n")


def test_a_line_is_said_above_the_bar(clock: FakeClock, terminal: Terminal) -> None:
    """It stands whole in a line of its own and the bar is drawn again under it."""
    shown = progress("job", quiet=False, clock=clock, stream=terminal.stream)
    shown.show(RunSummary(rows=10, done=5), view())
    terminal.text()
    shown.say("note: something")
    told = terminal.text().replace("\r\n", "\n")
    assert "note: something\n" in told
    assert told.partition("note: something\n")[2].lstrip("\r").startswith("job:  50% ")
    shown.close(RunSummary(rows=10, done=10), view())


def test_the_bar_of_a_stream_has_no_end(clock: FakeClock, terminal: Terminal) -> None:
    """Rows are counted, no share is made up."""
    shown = progress("job", quiet=False, clock=clock, stream=terminal.stream)
    shown.show(RunSummary(rows=None, done=5, skipped=2), view())
    text = terminal.drawings()[-1]
    assert text.startswith("job: 7 rows, ok 5")
    assert "%" not in text
    shown.close(RunSummary(rows=7, done=5, skipped=2), view())


@pytest.mark.parametrize("columns", [40, 80])
def test_a_narrow_terminal_keeps_the_bar_in_one_line(
    clock: FakeClock, terminal: Terminal, columns: int
) -> None:
    """What does not fit is left out at the end; nothing wraps."""
    import termios  # noqa: PLC0415

    termios.tcsetwinsize(terminal.stream.fileno(), (24, columns))
    shown = progress("job", quiet=False, clock=clock, stream=terminal.stream)
    shown.show(RunSummary(rows=10, done=5), view(waiting_for=WAITING * 3))
    drawn = terminal.drawings()
    assert drawn
    assert all(len(text) <= columns for text in drawn)
    shown.close(RunSummary(rows=10, done=10), view())


def test_a_run_on_a_terminal_ends_with_a_full_bar(stage: Stage, terminal: Terminal) -> None:
    """The program itself draws it: the last drawing has every row."""
    write_rows(stage.data, [row(number) for number in range(5)])
    command = stage.command("run", stage.data, stage.output, "--config", stage.config_file())
    subprocess.run(command, stderr=terminal.stream, timeout=30, check=True)
    text = terminal.text()
    assert "jsonl-runner: 100% " in text
    assert "5/5, ok 5" in text
    assert "done 5, failed 0, had an output before 0  (" in text


def test_a_part_of_the_rows_is_the_goal(clock: FakeClock) -> None:
    """With `--limit` the rows that are not tried are no rows to wait for."""
    shown, stream = plain(clock)
    summary = RunSummary(rows=100_000, skipped=200, left_out=98_800, done=100)
    clock.advance(10)
    shown.show(summary, view())
    assert stream.getvalue().startswith("job: 300/1,200 rows, 10.0 rows/s, 90 s left; ")
