"""Whether an output is the JSON that was asked for: told by what its own run asked, afterwards too.

`status`, `report` and `merge` look at the same outputs with the same eyes: here their counts are
held together.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from batch_support import Bench, bench
from hypothesis import given, settings
from hypothesis import strategies as st
from support import read_ledger, row, write_rows
from test_batch_anthropic import AnthropicBench
from test_review import JSON_MODE, SCHEMA, SHAPE

from jsonl_runner.batch.manifest import manifest_path
from jsonl_runner.batch.plan import Wishes
from jsonl_runner.calllog import CallLog, SeenInput, digest_of, last_asked, last_input, path_for
from jsonl_runner.merge import merge
from jsonl_runner.quality import LONG_ENOUGH, REASONS
from jsonl_runner.records import Outcome
from jsonl_runner.report.gather import gather
from jsonl_runner.status import status

if TYPE_CHECKING:
    from pathlib import Path

    from support import Stage

    from jsonl_runner.quality import Quality

__all__ = ["bench"]

LISTS = {"type": "json_schema", "json_schema": {"name": "l", "schema": {"type": "array"}}}
LIST_ANSWER = "[[fault:other_json]]"


def found_by_all(data: Path, output: Path) -> Quality:
    """Return what `status` finds, once `report` and `merge` have been seen to find the same."""
    found = status(data, output)
    reported = gather(output, data)
    assert reported.quality == found.quality
    assert (reported.rows.done, reported.rows.failed) == (found.done, found.failed)
    target = output.with_name("merged.jsonl")
    for reason in REASONS:
        summary = merge(data, output, target, drop_reasons=[reason])
        expected = found.quality[reason].outputs
        assert summary.left_out == ({reason: expected} if expected else {}), reason
        assert summary.written == found.done - expected
    summary = merge(data, output, target, drop_reasons=REASONS)
    assert sum(summary.left_out.values()) == found.quality.spoilt
    assert summary.written == found.quality.outputs - found.quality.spoilt
    return found.quality


def wrong(data: Path, output: Path) -> list[str]:
    """Return the rows whose output is not the JSON that was asked for."""
    return [example.index for example in found_by_all(data, output)["schema"].examples]


# -- runs over one ledger -------------------------------------------------------------------------


def test_an_output_is_judged_by_the_run_that_answered_it(stage: Stage) -> None:
    """Two schemas over one ledger: neither condemns what the other asked for."""
    objects, lists = row("o"), row("l", LIST_ANSWER)
    stage.run([objects], params={"response_format": SHAPE})
    stage.run([objects, lists], params={"response_format": LISTS})
    assert {key: json.loads(text or "") != {} for key, text in read_ledger(stage.output).items()}
    assert wrong(stage.data, stage.output) == []
    with stage.output.open("a", encoding="utf-8") as stream:  # an output of another hand
        stream.write('{"l":"{}"}\n')
    assert wrong(stage.data, stage.output) == ["l"]


def test_what_is_older_than_the_schema_or_was_copied_in_is_judged_by_it(stage: Stage) -> None:
    """The run says that there are such outputs, although it has nothing to do; and says it once."""
    rows = [row("old"), row("copied"), row("text", params={"response_format": {"type": "text"}})]
    stage.run([rows[0]], params={"response_format": {"type": "text"}})
    stage.run([rows[0], rows[2]])
    with stage.output.open("a", encoding="utf-8") as stream:
        stream.write('{"copied":"no JSON"}\n')
    write_rows(stage.data, rows)
    assert wrong(stage.data, stage.output) == [], "nothing was asked"
    assert not stage.run(params={"response_format": {"type": "text"}}).notes
    summary = stage.run(params={"response_format": SHAPE})
    (note,) = (note for note in summary.notes if "from before this --response-format" in note)
    assert "stay as they are (3)" in note
    assert wrong(stage.data, stage.output) == ["old", "copied"]
    log = path_for(stage.output).read_bytes()
    assert not stage.run(params={"response_format": SHAPE}).notes
    assert path_for(stage.output).read_bytes() == log
    new = [*rows, row("new")]
    assert stage.run(new, params={"response_format": SHAPE}).done == 1
    assert wrong(stage.data, stage.output) == ["old", "copied"]
    assert stage.run([*new, row("free")]).done == 1, "a run that asks for nothing"
    assert wrong(stage.data, stage.output) == []


def test_what_no_schema_is_for_is_not_judged_by_one(stage: Stage) -> None:
    """What a function made of checked JSON, calls of tools, and rows with a format of their own."""
    rows = [row("tool", "[[fault:tool_calls]]")]
    rows.append(row("own", params={"response_format": {"type": "text"}}))
    stage.run(rows, params={"response_format": SHAPE})
    assert wrong(stage.data, stage.output) == []
    made = [*rows, row("made")]
    post: dict[str, Any] = {"post": lambda text: json.loads(text)["name"]}
    stage.run(made, params={"response_format": SHAPE}, **post)
    stage.run([*made, row("json")], params={"response_format": SHAPE})
    with pytest.raises(json.JSONDecodeError):
        json.loads(read_ledger(stage.output)["made"] or "")
    assert wrong(stage.data, stage.output) == []


def test_a_mended_schema_and_a_changed_row_are_judged_by_the_newer_run(stage: Stage) -> None:
    """An answer out of the call log belongs to the run that took it, one that was redone too."""
    asking: dict[str, Any] = {"schema_retries": 0}
    stage.run([row("a", LIST_ANSWER)], params={"response_format": SHAPE}, **asking)
    stage.run(params={"response_format": LISTS}, **asking)
    assert read_ledger(stage.output) == {"a": '["something else"]'}
    assert wrong(stage.data, stage.output) == []
    changed = [row("a", "something new")]
    stage.run(changed, params={"response_format": SHAPE}, job={"redo_changed": True})
    assert wrong(stage.data, stage.output) == []


def test_on_the_command_line(stage: Stage) -> None:
    """`run --response-format` after a run without: `status` names rows, `merge` leaves them out."""
    (stage.folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    write_rows(stage.data, [row(0)])
    assert stage.run_cli().returncode == 0
    done = stage.run_cli("--response-format", "schema.json")
    assert "note: outputs from before this --response-format stay as they are (1)" in done.stderr
    said = stage.cli("status", stage.data, stage.output).stdout
    assert "  schema 1: not the JSON that was asked for; e.g. 0" in said
    words = ("merge", stage.data, stage.output, "merged.jsonl", "--drop-reasons", "schema")
    done = stage.cli(*words, "--json")
    assert json.loads(done.stdout)["left_out"] == {"schema": 1}


# -- batches --------------------------------------------------------------------------------------


def test_outputs_of_batches_are_judged_by_what_their_batch_asked(bench: Bench) -> None:
    """Two batches with two formats, collected at once by a command that knows neither."""
    rows = [row("o"), row("l", LIST_ANSWER)]
    for some, shape in ((rows[:1], SHAPE), (rows, LISTS)):
        write_rows(bench.stage.data, some)
        with bench.open(config={"params": {"response_format": shape}}) as batches:
            batches.plan(bench.stage.data, Wishes())
            batches.submit()
    assert last_asked(bench.stage.output) == digest_of(LISTS)
    assert not bench.notes, "no output is there yet"
    bench.clock.advance(100)
    with bench.open() as batches:
        batches.fetch()
    data, output = bench.stage.data, bench.stage.output
    assert all(read_ledger(output).values())
    assert wrong(data, output) == []
    with output.open("a", encoding="utf-8") as stream:
        stream.write('{"o":"[]"}\n{"l":"{}"}\n')
    assert sorted(wrong(data, output)) == ["l", "o"]
    write_rows(data, [*rows, row("new")])
    bench.run(config={"params": {"response_format": SHAPE}})
    assert "stay as they are (2)" in bench.notes[0]
    bench.notes.clear()
    for _ in range(2):  # there is nothing to do
        bench.run(config={"params": {"response_format": JSON_MODE}})
    assert len(bench.notes) == 1
    assert "stay as they are (3)" in bench.notes[0]


def test_a_batch_that_cannot_say_what_it_asked_is_checked_when_it_is_fetched(bench: Bench) -> None:
    """Anthropic's requests have no format: it stands in the manifest, an older one has none."""
    ours = AnthropicBench(bench.stage, bench.clock)
    rows = ours.rows(3)
    for is_old, expected in ((False, 0), (True, 3)):
        ours.submit(config={"params": {"response_format": SHAPE}})
        if is_old:
            with contextlib.closing(sqlite3.connect(manifest_path(bench.stage.output))) as manifest:
                manifest.execute("DROP TABLE asked")
        bench.clock.advance(100)
        with ours.open() as batches:
            batches.fetch()
        outputs = read_ledger(bench.stage.output)
        assert sum(output is not None for output in outputs.values()) == expected
        assert len(outputs) == len(rows)
        for path in bench.stage.folder.glob("output*"):
            if path.is_file():
                path.unlink()


# -- the line of a run ----------------------------------------------------------------------------

SEEN = SeenInput(1, "d", is_clean=True)


def test_a_large_schema_stands_once_in_the_log(tmp_path: Path) -> None:
    """As long as runs ask the same; the input of each is found as ever."""
    large = {"type": "json_schema", "schema": {"enum": [str(n) for n in range(2000)]}}
    data = write_rows(tmp_path / "data.jsonl", [row(n) for n in range(6)])
    output = tmp_path / "output.jsonl"
    lines = []
    for number, asked in enumerate([large, large, JSON_MODE, JSON_MODE, large, None]):
        outcome = Outcome(str(number), "7" if number % 2 else '"7"')
        calls = CallLog(output, SEEN, asked)
        calls.append([outcome])
        calls.close()
        lines.append(json.dumps({outcome.index: outcome.output}) + "\n")
        assert (last_input(output), last_asked(output)) == (SEEN, digest_of(asked))
    output.write_text("".join(lines), encoding="utf-8")
    sizes = [len(line) for line in path_for(output).read_bytes().splitlines() if b'"run"' in line]
    assert [size > 4096 for size in sizes] == [True, False, False, False, True, False]
    assert wrong(data, output) == ["1"]


def test_two_who_write_a_log_in_turn_leave_each_output_with_its_run(tmp_path: Path) -> None:
    """A batch is planned while others are collected: each goes on where the other has written."""
    data = write_rows(tmp_path / "data.jsonl", [row(n) for n in range(4)])
    output = tmp_path / "output.jsonl"
    collector, planner = CallLog(output, SEEN), CallLog(output, SEEN, JSON_MODE)
    for index, text in (("0", "[0]"), ("1", "{}")):
        collector.turn_to(LISTS)
        collector.append([Outcome(index, text)])
        planner.turn_to(JSON_MODE)
        planner.append([])
        with output.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({index: text}) + "\n")
    assert wrong(data, output) == ["1"]
    lines = path_for(output).read_bytes().count(b'"run"')
    for _ in range(3):
        planner.turn_to(JSON_MODE)
        planner.append([Outcome("2", "{}")])
    assert path_for(output).read_bytes().count(b'"run"') == lines
    collector.close()
    planner.close()


@pytest.mark.parametrize(
    "damage",
    [
        b'"asked":5,"response_format":{"type":"json_object"}',
        b'"asked":"0","response_format":{"type":"json_schema","schema":{"type":"nothing"}}',
        b'"asked":"0","response_format":"json"',
        b'"asked":"0"',
        b'"asked":["0"]',
    ],
)
def test_a_line_that_cannot_be_understood_condemns_nothing(tmp_path: Path, damage: bytes) -> None:
    """Of another version, or damaged by hand."""
    data, output = write_rows(tmp_path / "data.jsonl", [row(0)]), tmp_path / "output.jsonl"
    output.write_bytes(b'{"0":"no JSON"}\n')
    path_for(output).write_bytes(b'{"run":{},%b}\n{"index":"0","status":"ok"}\n' % damage)
    assert wrong(data, output) == []


# -- for every ledger -----------------------------------------------------------------------------

OUTPUTS = ['{"name": "a", "size": 1}', "[1]", "{", " ", "plain", "x" * LONG_ENOUGH, "row 1 " * 9]
FORMATS: list[Any] = [None, SHAPE, LISTS, JSON_MODE, {"type": "text"}]


def fits(output: str, shape: Any) -> bool:
    """Return whether an output is what a format asks for, told without the program's own check."""
    if shape is None or shape["type"] == "text":
        return True
    try:
        value = json.loads(output)
    except ValueError:
        return False
    return shape == JSON_MODE or isinstance(value, list if shape == LISTS else dict)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Any], list[tuple[Any, list[tuple[Any, ...]]]]]:
    """Return the rows' own formats, and runs: what each asked, and what came of which rows."""
    own = draw(st.lists(st.sampled_from([*FORMATS, *["none"] * 6]), min_size=1, max_size=6))
    entry = st.tuples(
        st.integers(0, len(own) - 1),
        st.sampled_from([*OUTPUTS, None]),
        st.sampled_from(["stop", "length", "content_filter", "tool_calls", None]),
        st.booleans(),  # made by a function
        st.sampled_from([True, True, False]),  # in the call log
    )
    run = st.tuples(st.sampled_from(FORMATS), st.lists(entry, max_size=6))
    return own, draw(st.lists(run, max_size=4))


@given(histories())
@settings(deadline=None, max_examples=60)  # disks have slow moments
def test_for_every_history_all_agree_and_judge_by_what_was_asked(
    tmp_path_factory: pytest.TempPathFactory, history: Any
) -> None:
    """Whatever was asked when, and by whom; a dictionary says which outputs are wrong."""
    own, runs = history
    folder = tmp_path_factory.mktemp("history")
    data, output = folder / "data.jsonl", folder / "output.jsonl"
    formats = [{} if f == "none" else {"params": {"response_format": f}} for f in own]
    write_rows(data, [row(f"r{n}", f"row {n} " * 9, **formats[n]) for n in range(len(own))])
    held: dict[int, str] = {}
    told: dict[int, tuple[Any, ...]] = {}
    last = None
    for asked, entries in runs:
        calls = CallLog(output, SEEN, asked)
        calls.begin()
        last = asked
        for number, text, end, is_made, is_logged in entries:
            with output.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({f"r{number}": text}) + "\n")
            if text is not None:
                held[number] = text
            if is_logged:
                raw = "raw" if is_made else None
                calls.append([Outcome(f"r{number}", text, finish_reason=end, raw=raw)])
                if text is not None:
                    told[number] = (asked, end, is_made)
        calls.close()
    if not held:
        return
    expected: Counter[str] = Counter()
    for number, text in held.items():
        asked, end, is_made = told.get(number, (None, None, False))
        shape = (last if asked is None else asked) if own[number] == "none" else own[number]
        expected["schema"] += not (is_made or end == "tool_calls" or fits(text, shape))
        expected["length"] += end == "length"
        expected["empty"] += not text.strip()
    found = found_by_all(data, output)
    assert found.outputs == len(held)
    assert {reason: found[reason].outputs for reason in expected} == dict(expected)
