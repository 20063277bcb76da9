"""Answers of batches, checked and put through a function as live ones are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from batch_support import Bench, bench
from support import KEYS, expected, read_calls, read_ledger, row, write_rows
from test_batch_anthropic import AnthropicBench, answer
from test_review import SHAPE, failing, told

from jsonl_runner.batch.plan import Wishes
from jsonl_runner.calllog import digest_of, path_for
from jsonl_runner.errors import ConfigError

if TYPE_CHECKING:
    from jsonl_runner.records import Record

__all__ = ["bench"]


def test_answers_of_a_batch_are_checked_and_what_fails_is_done_live(bench: Bench) -> None:
    """Null with its reason, the answer in the call log; nothing is asked again within the batch."""
    bench.rows(4, r1="[[fault:other_json*1]]", r2="[[fault:fenced_json*1]]")
    config: dict[str, Any] = {"params": {"response_format": SHAPE}}
    batches = bench.run(config=config)
    assert (batches.summary.done, batches.summary.failed) == (2, 2)
    assert len(bench.created()) == 1
    entries = read_calls(bench.stage.output)
    assert entries["1"]["code"] == "schema"
    assert entries["1"]["message"] == 'at the top: ["something else"] is not of type "object"'
    assert entries["1"]["raw"] == '["something else"]'
    assert entries["1"]["usage"]["total_tokens"] > 0
    assert (entries["2"]["code"], entries["2"]["raw"][:7]) == ("json", "```json")
    assert "raw" not in entries["0"]
    summary = bench.stage.run(**config)
    assert (summary.done, summary.failed) == (2, 0)
    item = row(1, "[[fault:other_json*1]]")
    assert read_ledger(bench.stage.output)["1"] == told(item)


def test_a_rows_own_format_is_known_when_its_batch_is_fetched(bench: Bench) -> None:
    """`batch fetch` has neither rows nor parameters: the part's requests tell what was asked."""
    own = row("own", "[[fault:other_json]]", params={"response_format": SHAPE})
    write_rows(bench.stage.data, [own, row("free", "[[fault:other_json]] free")])
    with bench.open() as batches:
        batches.plan(bench.stage.data, Wishes())
        batches.submit()
    bench.clock.advance(100)
    with bench.open() as batches:
        batches.fetch()
    assert read_ledger(bench.stage.output) == {"own": None, "free": '["something else"]'}


def test_the_function_gets_the_row_of_an_answer_from_a_batch(bench: Bench) -> None:
    """Instruction and input as in the row, or its messages."""
    talk = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "1"}]
    talk.append({"role": "user", "content": "Two?"})
    rows: list[dict[str, Any]] = [
        row(0),
        {"index": 1, "instruction": "alone"},
        {"index": 2, "messages": talk},
    ]
    write_rows(bench.stage.data, rows)
    seen: dict[str, Record] = {}

    def post(text: str, record: Record) -> str:
        seen[record.index] = record
        return text.upper()

    bench.run(config={"post": post})
    assert read_ledger(bench.stage.output)["0"] == expected(rows[0]).upper()
    assert read_calls(bench.stage.output)["0"]["raw"] == expected(rows[0])
    assert (seen["0"].instruction, seen["0"].input) == ("Repeat.", "row 0")
    assert (seen["1"].instruction, seen["1"].input) == ("alone", "")
    assert seen["2"].messages == talk


def test_a_function_that_fails_loses_no_answer_of_a_batch(bench: Bench) -> None:
    """Whatever it raises; once it is mended, `run` takes the answers from the call log."""
    bench.rows(4, r1="raise", r2="exit", r3="none")
    batches = bench.run(config={"post": failing})
    assert (batches.summary.done, batches.summary.failed) == (1, 3)
    entries = read_calls(bench.stage.output)
    assert [entries[n]["code"] for n in "123"] == ["post"] * 3
    assert entries["1"]["message"] == "ValueError: no number in #1(…0001)"
    assert not any(key in bench.stage.output.with_suffix(".calls.jsonl").name for key in KEYS)
    live = len(bench.simulator.journal.calls)
    assert bench.stage.run(post=str.strip).done == 3
    assert len(bench.simulator.journal.calls) == live
    assert read_ledger(bench.stage.output)["1"] == expected(row(1, "raise"))


def test_a_function_that_needs_the_row_has_it_with_the_next_command(bench: Bench) -> None:
    """A batch's requests do not hold it: the answers wait in the call log until it is there."""
    write_rows(bench.stage.data, [row(n, gold=f"gold {n}") for n in range(3)])

    def post(_answer: str, record: Record) -> str:
        return str(record.row["gold"])  # type: ignore[index]

    batches = bench.run(config={"post": post})
    assert (batches.summary.done, batches.summary.failed) == (0, 3)
    batches = bench.run(config={"post": post})
    assert (batches.summary.done, len(bench.created())) == (3, 1)
    assert read_ledger(bench.stage.output) == {str(n): f"gold {n}" for n in range(3)}


def test_a_mended_function_needs_no_second_batch(bench: Bench) -> None:
    """`batch run` takes the answers from the call log, and sends only what still fails."""
    bench.rows(4, r1="raise", r2="exit", r3="none")
    bench.run(config={"post": failing})
    with bench.open(config={"post": str.strip}) as batches:
        planned = batches.plan(bench.stage.data, Wishes(dry=True))
        assert planned.rows == 3, "a dry run writes nothing"
    assert read_ledger(bench.stage.output)["1"] is None
    batches = bench.run(config={"post": lambda text: None if "none" in text else text})
    assert (batches.summary.done, batches.summary.failed) == (2, 1)
    assert [part.requests for part in bench.parts()] == [4, 1]
    assert read_ledger(bench.stage.output)["1"] == expected(row(1, "raise"))


def test_a_function_that_is_not_there_is_told_before_anything_is_sent(bench: Bench) -> None:
    """And leaves nothing locked."""
    bench.rows(1)
    with pytest.raises(ConfigError, match="there is no module nowhere"):
        bench.run(config={"post": "nowhere:clean"})
    assert not bench.created()
    assert bench.run().summary.done == 1


def test_anthropics_answers_are_checked_by_the_format_of_the_settings(
    bench: Bench,
) -> None:
    """Its requests cannot have one: the first, live one too."""
    anthropic_bench = AnthropicBench(bench.stage, bench.clock)
    rows = anthropic_bench.rows(3)
    seen: list[Record] = []

    def post(text: str, record: Record) -> str:
        seen.append(record)
        return text

    anthropic_bench.run(config={"post": post})
    anthropic_bench.check(rows)
    assert {(record.instruction, record.input) for record in seen} == {
        ("Repeat.", f"row {n}") for n in range(3)
    }
    anthropic_bench.stage.output.unlink()
    anthropic_bench.rows(3, r0="other", r1="texts", r2="here")
    batches = anthropic_bench.run(config={"params": {"response_format": SHAPE}})
    assert (batches.summary.done, batches.summary.failed) == (0, 3)
    entry = read_calls(anthropic_bench.stage.output)["0"]
    assert (entry["code"], entry["raw"]) == ("json", answer(row(0, "other")))
    assert json.loads(anthropic_bench.stage.output.read_bytes().splitlines()[0])


def test_a_plan_and_results_lose_none_of_each_others_lines(bench: Bench) -> None:
    """Both write the call log: one how rows are asked, the other, opened before, what came."""
    bench.rows(3, r1="[[fault:content_policy*1]]")
    shaped: dict[str, Any] = {"params": {"response_format": SHAPE}}
    bench.run(config=shaped)
    assert read_ledger(bench.stage.output)["1"] is None
    bench.run()  # the null is looked for in the log, and sent again; nothing is asked of it
    lines = path_for(bench.stage.output).read_bytes().splitlines()
    entries = list(map(json.loads, lines))
    asked = [entry.get("asked", "") for entry in entries if "run" in entry]
    assert asked == [digest_of(SHAPE)] * 2 + [""] * 2
    assert sorted(entry["index"] for entry in entries if "index" in entry) == ["0", "1", "1", "2"]
