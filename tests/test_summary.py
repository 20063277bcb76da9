"""What a run says of itself: numbers, exit code, lines for people, JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner.errors import (
    ConfigError,
    JsonlRunnerError,
    LedgerError,
    NoUsableKeyError,
    RunInterruptedError,
    RunStoppedError,
    WrongEndpointError,
)
from jsonl_runner.records import Outcome
from jsonl_runner.summary import Failure, Named, RunSummary, Tokens

if TYPE_CHECKING:
    from support import Stage

CODES = st.sampled_from(["timeout", "refusal", "empty_answer"])
OUTCOMES = st.builds(
    Outcome,
    index=st.integers(0, 99).map(str),
    output=st.none() | st.just("text"),
    code=CODES,
    attempts=st.integers(0, 4),
    finish_reason=st.sampled_from(["stop", "length", None]),
    usage=st.none() | st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9)}),
    cost=st.none() | st.integers(0, 3).map(float),
)


def counted(*outcomes: Outcome, **more: Any) -> RunSummary:
    summary = RunSummary(**more)
    summary.add(outcomes)
    return summary


@given(st.lists(st.lists(OUTCOMES, max_size=5), max_size=5))
def test_the_numbers_add_up(groups: list[list[Outcome]]) -> None:
    """For every list of outcomes, in whatever groups they come: each counts once, as it ended."""
    outcomes = [outcome for group in groups for outcome in group]
    summary = RunSummary(rows=len(outcomes) + 7, skipped=3)
    for group in groups:
        summary.add(group)
    failed = [outcome for outcome in outcomes if outcome.output is None]
    assert (summary.done, summary.failed) == (len(outcomes) - len(failed), len(failed))
    assert summary.left == 4
    assert {code: failure.count for code, failure in summary.failures.items()} == {
        code: len([o for o in failed if o.code == code]) for code in {o.code for o in failed}
    }
    assert summary.cut_off == sum(
        o.finish_reason == "length" and o.output is not None for o in outcomes
    )
    assert summary.retried == sum(o.attempts - 1 for o in outcomes if o.attempts)
    assert summary.tokens.prompt == sum(
        (o.usage or {"prompt_tokens": 0})["prompt_tokens"] for o in outcomes
    )
    costs = [o.cost for o in outcomes if o.cost is not None]
    assert summary.cost == (sum(costs) if costs else None)


def test_a_failure_keeps_its_first_example() -> None:
    """The first row of a reason stands for all of it."""
    first = Outcome("7", None, code="refusal", message="no")
    summary = counted(first, Outcome("8", None, code="refusal", message="never"))
    assert summary.failures == {"refusal": Failure(2, "7", "no")}


@pytest.mark.parametrize(
    "usage",
    [None, "x", [], {}, {"prompt_tokens": None}, {"prompt_tokens": "5"}, {"prompt_tokens": True}],
)
def test_a_usage_that_says_nothing_counts_nothing(usage: Any) -> None:
    """Providers send all sorts of things; only whole numbers are tokens."""
    tokens = Tokens(1, 2)
    tokens.add(usage)
    assert (tokens, tokens.total) == (Tokens(1, 2), 3)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunStoppedError("x"), 3),
        (NoUsableKeyError("x"), 3),
        (LedgerError("x"), 4),
        (WrongEndpointError("x"), 2),
        (ConfigError("x"), 2),
        (RunInterruptedError(2), 130),
        (RunInterruptedError(15), 143),
    ],
)
def test_a_stopped_run_exits_with_its_reason(error: JsonlRunnerError, code: int) -> None:
    """Whatever rows have failed before."""
    summary = counted(Outcome("1", None))
    summary.stop(error)
    assert (summary.exit_code, summary.stopped) == (code, str(error))


def test_a_run_to_the_end_exits_with_what_came_of_its_rows() -> None:
    """0: every row has its output; 1: some row is null, or could not be used."""
    assert RunSummary(rows=0).exit_code == 0
    assert counted(Outcome("1", "x"), rows=2, skipped=1).exit_code == 0
    assert counted(Outcome("1", "x"), Outcome("2", None)).exit_code == 1
    assert counted(Outcome("1", "x"), bad_rows=["d.jsonl:1: bad"]).exit_code == 1


def test_a_note_is_kept_once() -> None:
    """However often it is said, in the order of the first time."""
    summary = RunSummary()
    for text in ("b", "a", "b"):
        summary.note(text)
    assert summary.notes == ["b", "a"]


def test_the_lines_of_a_good_run() -> None:
    """What was done, how fast, what it took; nothing of what did not happen."""
    usage = {"prompt_tokens": 1500, "completion_tokens": 20}
    summary = counted(
        Outcome("1", "x", attempts=3, usage=usage, cost=0.25),
        Outcome("2", "x", attempts=1, usage=usage),
        rows=1002,
        skipped=1000,
        elapsed_s=4.0,
    )
    assert summary.lines() == [
        "done 2, failed 0, had an output before 1,000  (4.0 s, 0.5 rows/s)",
        "tokens: 3,000 in, 40 out, cost 0.2500; tries beyond the first: 2",
    ]
    assert RunSummary(rows=0).lines() == ["done 0, failed 0, had an output before 0  (0.0 s)"]


def named(*indices: str) -> Named:
    found = Named()
    for index in indices:
        found.add(index)
    return found


def test_the_lines_of_a_bad_run() -> None:
    """Failures, the most frequent first; what is left, cut off, not usable and changed."""
    summary = counted(
        Outcome("1", None, code="odd", message="once"),
        Outcome("2", None, code="often", message="twice"),
        Outcome("3", None, code="often", message="again"),
        Outcome("4", "x", finish_reason="length"),
        rows=9,
        elapsed_s=100.0,
        bad_rows=["d.jsonl:7: not JSON"],
        changed=named("5", "6"),
    )
    assert summary.lines() == [
        "done 1, failed 3, had an output before 0, left 5  (1:40 min, 0.0 rows/s)",
        "1 outputs end at max_tokens (finish_reason length)",
        "failed, often: 2, e.g. index 2: twice",
        "failed, odd: 1, e.g. index 1: once",
        "not usable d.jsonl:7: not JSON",
        "changed since they were answered: 2 rows (index 5, 6)",
    ]


def test_many_changed_rows_are_counted() -> None:
    """The first twenty are named."""
    (line,) = RunSummary(changed=named(*map(str, range(1021)))).lines()[1:]
    assert line.startswith("changed since they were answered: 1,021 rows (index 0, 1, ")
    assert line.endswith(" 18, 19, …)")


def test_as_json_for_programs() -> None:
    """All of it by name, with what is left and the exit code."""
    summary = counted(Outcome("1", None, code="refusal", message="no"), rows=3, skipped=1)
    summary.stop(NoUsableKeyError("all gone"))
    told = json.loads(json.dumps(summary.to_dict()))
    assert told == {
        "rows": 3,
        "skipped": 1,
        "done": 0,
        "failed": 1,
        "left": 1,
        "cached": 0,
        "cut_off": 0,
        "retried": 0,
        "tokens": {"prompt": 0, "completion": 0},
        "cost": None,
        "cost_from": "",
        "left_out": 0,
        "budget": None,
        "elapsed_s": 0.0,
        "failures": {"refusal": {"count": 1, "example": "1", "message": "no"}},
        "bad_rows": [],
        "changed": {"count": 0, "examples": []},
        "notes": [],
        "turns": 0,
        "conversations": 0,
        "stopped": "all gone",
        "judged": None,
        "exit_code": 3,
    }


def test_what_is_left_of_a_stream_is_unknown() -> None:
    """Before its end nobody knows, and no line claims to."""
    summary = counted(Outcome("1", "x"))
    assert summary.left is None
    assert "left" not in summary.lines()[0]


def test_a_real_run_counts_as_the_server_does(stage: Stage) -> None:
    """Tokens, tries and cut outputs of a run are those that the simulator sent."""
    texts = ["[[fault:500*2]]", "[[fault:length]] " + "word " * 40, "[[fault:refusal]]", "plain"]
    rows = [{"index": n, "instruction": "Do.", "input": text} for n, text in enumerate(texts)]
    summary = stage.run(rows, params={"max_tokens": 5})
    assert (summary.done, summary.failed, summary.cut_off, summary.retried) == (3, 1, 1, 2)
    assert list(summary.failures) == ["refusal"]
    assert len(stage.simulator.journal.calls) == 4 + summary.retried
    assert summary.tokens.prompt > 0
    assert summary.elapsed_s > 0
