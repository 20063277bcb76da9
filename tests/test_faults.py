"""Every fault of the simulator in one row among good ones: an output, a null or a stop; no hang."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import expected, read_calls, read_ledger, row

from jsonl_runner.errors import JsonlRunnerError, NoUsableKeyError, RunStoppedError
from jsonl_runner.simulator import FAULT_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from support import FakeClock, Stage

BAD = "bad"
#: One retry, and limits that a good answer keeps by far.
PATIENCE: dict[str, Any] = {"max_retries": 1, "timeout": 1.0, "body_timeout": 0.3, "threads": 1}


class Null(NamedTuple):
    """A lasting fault ends in a null with this code, after so many calls."""

    code: str
    calls: int


class Stops(NamedTuple):
    """A lasting fault ends the run with this error, which says this."""

    error: type[JsonlRunnerError]
    says: str


KEY_FINISHED = Stops(NoUsableKeyError, "all 2 keys are finished")
STALLED = Stops(RunStoppedError, "stall_timeout")

#: What becomes of a row that meets a fault at every call; None: an output all the same.
LASTING: dict[str, Null | Stops | None] = {
    "429": STALLED,
    "429_bare": STALLED,
    "slow_down": STALLED,
    "529": STALLED,
    "401": KEY_FINISHED,
    "deactivated": KEY_FINISHED,
    "insufficient_quota": KEY_FINISHED,
    "credit_balance_exhausted": KEY_FINISHED,
    "403": KEY_FINISHED,
    "key_echo": KEY_FINISHED,
    "404_model": KEY_FINISHED,
    "400": Null("invalid_request_error", 1),
    "context_length": Null("context_length_exceeded", 1),
    "content_policy": Null("content_policy_violation", 1),
    "unsupported_parameter": Null("unsupported_parameter", 1),
    "413": Null("request_too_large", 1),
    "422": Null("invalid_request_error", 1),
    "content_filter": Null("content_filter", 1),
    "empty_answer": Null("empty_answer", 1),
    "null_answer": Null("empty_answer", 1),
    "refusal": Null("refusal", 1),
    "408": Null("timeout", 2),
    "409": Null("invalid_request_error", 2),
    "redirect": Null("redirect", 2),
    "500": Null("server_error", 2),
    "502_html": Null("http_502", 2),
    "503": Null("server_is_overloaded", 2),
    "empty": Null("malformed", 2),
    "malformed": Null("malformed", 2),
    "html": Null("not_json", 2),
    "error_in_200": Null("upstream_error", 2),
    "no_choices": Null("no_choices", 2),
    "null_choices": Null("no_choices", 2),
    "hang": Null("timeout", 2),
    "drip": Null("stalled", 2),
    "stall": Null("stalled", 2),
    "reset": Null("reset", 2),
    "close": Null("cut_off", 2),
    "truncated": Null("cut_off", 2),
    "huge": Null("too_large", 2),
    "length": None,
    "tool_calls": None,
    "surrogate": None,
    "whitespace": None,
    "fenced_json": None,  # nobody has asked these rows for JSON: see test_review
    "broken_json": None,
    "other_json": None,
}
ROW_FAULTS = {kind for kind, fate in LASTING.items() if isinstance(fate, Null) and fate.calls == 1}

#: What the output of such a row is, made from what a good answer would have been.
OUTPUTS: dict[str, Callable[[str], str]] = {
    "length": lambda good: good[: len(good) // 2],
    "tool_calls": lambda _: '"look_up"',
    "surrogate": lambda good: good + "\ufffd",
    "whitespace": lambda good: good,
    "fenced_json": lambda good: f"```json\n{good}\n```",
    "broken_json": lambda good: good[:-1],
    "other_json": lambda _: '["something else"]',
}


def rows_with(marker: str) -> list[dict[str, Any]]:
    """Return three good rows, the one with the fault, and three good rows."""
    good = [row(number) for number in range(6)]
    return [*good[:3], row(BAD, f"bad [[fault:{marker}]]"), *good[3:]]


def assert_good_rows_done(stage: Stage, rows: list[dict[str, Any]]) -> None:
    ledger = read_ledger(stage.output)
    good = [item for item in rows if item["index"] != BAD]
    assert {i: text for i, text in ledger.items() if i != BAD} == {
        str(item["index"]): expected(item) for item in good
    }


def bad_calls(stage: Stage) -> int:
    """Return how many calls for the row with the fault have reached the server."""
    return sum("[[fault" in call.prompt for call in stage.simulator.journal.calls)


def test_the_table_knows_every_fault() -> None:
    """A new kind of fault needs a line that says what becomes of its row."""
    assert set(LASTING) == set(FAULT_KINDS)
    assert set(OUTPUTS) == {kind for kind, fate in LASTING.items() if fate is None}


@pytest.mark.parametrize("kind", [k for k, fate in LASTING.items() if isinstance(fate, Null)])
def test_a_lasting_fault_of_a_row_is_a_null_with_its_reason(
    stage: Stage, clock: FakeClock, kind: str
) -> None:
    """The row is null, call log and summary say why, and no other row is touched."""
    fate = LASTING[kind]
    assert isinstance(fate, Null)
    rows = rows_with(kind)
    summary = stage.run(rows, clock=clock, **PATIENCE)
    assert summary.exit_code == 1
    assert (summary.done, summary.failed) == (6, 1)
    assert_good_rows_done(stage, rows)
    assert read_ledger(stage.output)[BAD] is None
    entry = read_calls(stage.output)[BAD]
    assert (entry["status"], entry["code"]) == ("failed", fate.code)
    assert entry["message"]
    assert entry["attempts"] == fate.calls
    assert list(summary.failures) == [fate.code]
    assert summary.failures[fate.code].example == BAD
    assert summary.failures[fate.code].message == entry["message"]


@pytest.mark.parametrize("kind", ["429", "401", "500", "malformed", "truncated", "close", "reset"])
def test_no_call_is_made_behind_the_books(stage: Stage, clock: FakeClock, kind: str) -> None:
    """The calls that reached the server are those the call log counts: each may be billed."""
    stage.run(rows_with(f"{kind}*1"), clock=clock, **PATIENCE)
    assert read_calls(stage.output)[BAD]["attempts"] == bad_calls(stage)


@pytest.mark.parametrize("kind", [k for k, fate in LASTING.items() if isinstance(fate, Stops)])
def test_a_lasting_fault_of_keys_or_server_stops_the_run(
    stage: Stage, clock: FakeClock, kind: str
) -> None:
    """Where no call can succeed the run ends with exit 3; the row stays unwritten, not null."""
    fate = LASTING[kind]
    assert isinstance(fate, Stops)
    rows = rows_with(kind)
    with pytest.raises(fate.error, match=fate.says) as caught:
        stage.run(rows, clock=clock, stall_timeout=60, **PATIENCE)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    ledger = read_ledger(stage.output)
    assert ledger == {str(item["index"]): expected(item) for item in rows[:3]}
    assert caught.value.summary.done == 3
    assert caught.value.summary.left == 4
    # Once the server is well again, the same command does the rest.
    rows[3] = row(BAD, "well again")
    assert stage.run(rows, clock=clock, **PATIENCE).done == 4


@pytest.mark.parametrize("kind", sorted(set(FAULT_KINDS) - ROW_FAULTS - set(OUTPUTS)))
def test_a_passing_fault_ends_in_an_output(stage: Stage, clock: FakeClock, kind: str) -> None:
    """What happens once is tried again, with another key where the key was at fault."""
    rows = rows_with(f"{kind}*1")
    summary = stage.run(rows, clock=clock, **PATIENCE)
    assert summary.exit_code == 0
    assert_good_rows_done(stage, rows)
    assert read_ledger(stage.output)[BAD] == expected(rows[3])
    assert bad_calls(stage) == 2


@pytest.mark.parametrize("kind", sorted(OUTPUTS))
def test_an_odd_answer_is_kept(stage: Stage, clock: FakeClock, kind: str) -> None:
    """A cut-off text, tool calls, half an emoji, no good JSON: paid for, so it is an output."""
    rows = rows_with(kind)
    summary = stage.run(rows, clock=clock, **{**PATIENCE, "timeout": 10})
    assert summary.exit_code == 0
    assert_good_rows_done(stage, rows)
    output = read_ledger(stage.output)[BAD]
    assert output is not None
    assert OUTPUTS[kind](expected(rows[3])) in output
    assert summary.cut_off == (kind == "length")
    assert bad_calls(stage) == 1


def test_the_first_answer_being_a_redirect_stops_the_run(stage: Stage, clock: FakeClock) -> None:
    """A redirect before anything has succeeded is a wrong api_base: exit 2, nothing written."""
    with pytest.raises(
        JsonlRunnerError, match=r"redirects to http://127\.0\.0\.1:9/: set api_base"
    ) as e:
        stage.run([row(0, "[[fault:redirect]]"), row(1)], clock=clock, threads=1)
    assert e.value.exit_code == 2
    assert not stage.output.exists()


def test_a_hanging_row_holds_nobody_up(stage: Stage) -> None:
    """While one call hangs, all others are done; its null comes when its time is up."""
    rows = [row(BAD, "[[fault:hang]]"), *[row(number) for number in range(200)]]
    summary = stage.run(rows, threads=4, timeout=0.5, max_retries=0)
    assert (summary.done, summary.failed) == (200, 1)
    lines = stage.output.read_text(encoding="utf-8").splitlines()
    assert lines[-1] == '{"bad":null}'
    assert_good_rows_done(stage, rows)


def test_a_storm_of_everything_that_passes_loses_no_row(stage: Stage, clock: FakeClock) -> None:
    """Two fifths of all calls fail in one way or another, and each row gets its own answer."""
    kinds = ("429", "429_bare", "500", "503", "529", "reset", "close", "truncated", "malformed")
    rates = dict.fromkeys((*kinds, "no_choices"), 0.04)
    rows = [row(number) for number in range(400)]
    stage.simulator.settings = type(stage.simulator.settings)(fault_rates=rates, seed=3)
    summary = stage.run(rows, clock=clock, threads=16, max_retries=30)
    assert summary.exit_code == 0
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}
    assert summary.retried > 100
