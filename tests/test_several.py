"""Several answers a row, counted alike by all commands, and kept apart from other rows' answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import read_ledger, row, write_rows

from jsonl_runner import passes
from jsonl_runner.answers import verdicts_on
from jsonl_runner.bill import Amount
from jsonl_runner.calllog import path_for
from jsonl_runner.choice import Choice
from jsonl_runner.compact import compact
from jsonl_runner.dataset import Dataset
from jsonl_runner.errors import BadRowsError, LedgerError
from jsonl_runner.estimate import estimate
from jsonl_runner.framing import prompt_count
from jsonl_runner.job import Job
from jsonl_runner.judging import Judge
from jsonl_runner.merge import MergeSummary, merge
from jsonl_runner.report.gather import gather
from jsonl_runner.runner import run
from jsonl_runner.sources.expanding import asked_at, samples, without_turns
from jsonl_runner.status import status

if TYPE_CHECKING:
    from support import Stage

    from jsonl_runner.summary import RunSummary

#: Five turns of two conversations, and a row without turns.
TALKS: list[dict[str, Any]] = [
    {"index": "a", "instruction": "Be brief.", "turns": ["one", "two", "three"]},
    {"index": "b", "turns": ["uno", "dos"]},
    {"index": "c", "instruction": "Say x."},
]
JUDGE = Judge("Is {{ output }} a good answer to {{ instruction }}?")


def talk(stage: Stage, rows: Any = None, judge: Judge | None = None, **of: Any) -> RunSummary:
    if rows is not None:
        write_rows(stage.data, rows)
    job = Job(Dataset(stage.data, **of), stage.output, quiet=True)
    return passes.run(stage.config(), job, judge=judge)


@pytest.mark.parametrize("command", ["validate", "render", "estimate", "dry", "run"])
def test_a_slip_in_the_name_of_the_turns_is_told_by_all(stage: Stage, command: str) -> None:
    """In the same words, before anything is paid; a bad row ahead hides nothing."""
    write_rows(stage.data, [{"instruction": "no index"}, *TALKS])
    words: list[Any] = [command, stage.data]
    if command in {"run", "dry"}:
        words = ["run", stage.data, stage.output, *["--dry-run"] * (command == "dry")]
    skip: list[Any] = ["--bad-rows", "skip", "--config", stage.config_file()]
    if command == "validate":
        skip = []
    done = stage.cli(*words, "--turns", "turn", *skip)
    assert done.returncode == 2
    line = f'error: {stage.data}: --turns turn: the row has no field "turn"; did you mean "turns"?'
    assert line in done.stderr
    assert "(and so for all rows)" in done.stderr
    assert not stage.simulator.journal.calls
    assert not stage.output.exists()


@pytest.mark.parametrize("command", ["validate", "dry"])
def test_turns_that_are_no_texts_are_told_by_all(stage: Stage, command: str) -> None:
    """Row by row, since others may be good."""
    write_rows(stage.data, [*TALKS, {"index": 9, "turns": "one"}])
    words: list[Any] = [command, stage.data]
    if command == "dry":
        words = ["run", stage.data, stage.output, "--dry-run", "--config", stage.config_file()]
    done = stage.cli(*words, "--turns", "turns")
    assert done.returncode == 2
    assert '"turns" must be a list of texts, one for each turn' in done.stdout + done.stderr


def test_a_row_that_is_called_as_a_turn(stage: Stage) -> None:
    """Its answer would stand in for that turn's; alone it may be called as it likes."""
    rows = [*TALKS, {"index": "a@2", "instruction": "Say y."}]
    with pytest.raises(BadRowsError) as raised:
        talk(stage, rows, turns="turns")
    (line,) = raised.value.rows
    assert line.startswith(f"{stage.data}:4: index 'a@2' of a row without turns is what a turn")
    assert not stage.simulator.journal.calls
    plain = [{"index": name, "instruction": "Say y."} for name in ("a@2", "a#0", "a")]
    assert talk(stage, plain).done == 3


@given(
    rows=st.lists(
        st.tuples(st.from_regex(r"[ab]([#@][0-3]){0,3}", fullmatch=True), st.integers(0, 3)),
        unique_by=lambda row: row[0],
    ),
    n=st.integers(1, 3),
)
def test_for_every_dataset_no_two_rows_meet(rows: list[tuple[str, int]], n: int) -> None:
    """Whatever rows are called: of samples and turns, each has a line of its own in the ledger."""
    made: list[str] = []
    for index, count in rows:
        turns = [f"turn {number}" for number in range(count)]
        row = {"index": index, "instruction": "x", **({"turns": turns} if turns else {})}
        for one in [row] if n == 1 else samples(n, "turns")(row):
            numbers = range(1, count + 1)
            try:
                asked = [asked_at(one, turns, turn, ()) for turn in numbers] or [without_turns(one)]
            except ValueError:
                assert n == 1  # samples meet nobody
                continue
            made += [row["index"] for row in asked]
    assert len(made) == len(set(made))


def test_the_ledger_of_a_judge_takes_no_other_rows(stage: Stage) -> None:
    """Whoever runs or sends a batch is told to name another output; the judge himself is not."""
    rows = [{"index": 1, "instruction": "Say x."}]
    assert talk(stage, rows, JUDGE).judged is not None
    verdicts = verdicts_on(stage.output)
    before = verdicts.read_bytes()
    said = "a judge's verdicts on the outputs in output.jsonl stand; name another output"
    with pytest.raises(LedgerError, match=said):
        run(stage.config(), Job(stage.data, verdicts, quiet=True))
    batch = stage.cli("batch", "submit", stage.data, verdicts, "--config", stage.config_file())
    assert said in batch.stderr
    assert verdicts.read_bytes() == before
    bare = verdicts_on(stage.folder / "bare")
    with pytest.raises(LedgerError, match="outputs in bare stand"):
        run(stage.config(), Job(stage.data, bare, quiet=True))


def test_each_turn_counts_as_a_row(stage: Stage) -> None:
    """To the run, its status, its report and the look before it."""
    rows = [{**TALKS[0], "turns": ["one", "[[fault:context_length*9]] two", "three"]}, *TALKS[1:]]
    done = talk(stage, rows, turns="turns")
    assert (done.rows, done.done, done.failed, done.left) == (6, 4, 1, 1)
    line = "5 of the 6 rows are turns of 2 conversations"
    assert line in done.lines()
    assert line in stage.cli("status", stage.data, stage.output).stdout
    validated = stage.cli("validate", stage.data, "--turns", "turns").stdout
    assert f"6 rows can be used, 0 cannot\n{line}\n" in validated
    found = gather(stage.output, stage.data)
    assert (found.rows.total, found.rows.left, found.rows.foreign) == (6, 1, 0)
    assert any(line in note for note in found.notes)
    assert {row.index for row in found.sample if row.input or row.instruction} == {
        "a@1",
        "a@2",
        "b@1",
        "b@2",
        "c",
    }


def test_of_samples_each_has_its_conversation(stage: Stage) -> None:
    """Both together are counted as they are asked."""
    done = talk(stage, TALKS, turns="turns", n=2)
    seen = status(stage.data, stage.output)
    assert (done.rows, done.done, done.turns, done.conversations) == (12, 12, 10, 4)
    assert (seen.rows, seen.done, seen.turns, seen.conversations) == (12, 12, 10, 4)
    assert seen.quality.outputs == 12


def test_a_turn_that_was_edited_is_a_changed_row(stage: Stage) -> None:
    """And so is what was said after it, once it is answered anew."""
    talk(stage, TALKS, turns="turns")
    edited = [{**TALKS[0], "turns": ["one", "zwei", "three"]}, *TALKS[1:]]
    write_rows(stage.data, edited)
    assert status(stage.data, stage.output).changed == 2
    job = Job(Dataset(stage.data, turns="turns"), stage.output, redo_changed=True, quiet=True)
    assert passes.run(stage.config(), job).done == 2
    assert status(stage.data, stage.output).changed == 0


def test_a_bad_row_of_conversations_is_told_once(stage: Stage) -> None:
    """Although their input is read turn by turn."""
    write_rows(stage.data, [*TALKS, {"index": "d", "turns": [5]}])
    seen = status(Dataset(stage.data, turns="turns"), stage.output)
    assert (seen.rows, seen.left, len(seen.bad_rows)) == (6, 6, 1)


def test_a_ledger_in_the_order_of_its_conversations(stage: Stage) -> None:
    """Each turn behind the one before it."""
    talk(stage, TALKS, turns="turns")
    compact(stage.output, stage.data)
    assert list(read_ledger(stage.output)) == ["a@1", "a@2", "a@3", "b@1", "b@2", "c"]


def judged(stage: Stage) -> MergeSummary:
    return merge(stage.data, stage.output, stage.folder / "merged.jsonl", judged=".")


def test_a_verdict_is_on_the_output_that_stands_there_now(stage: Stage) -> None:
    """Whoever changed it, and whatever was asked: a row, a hand, or the judge's question."""
    rows = [{"index": i, "instruction": f"Question {i}"} for i in range(3)]
    talk(stage, rows, JUDGE)
    assert judged(stage).written == 3
    with stage.output.open("a", encoding="utf-8") as ledger:
        ledger.write('{"1":"by hand"}\n')
    assert judged(stage).left_out == {"judged": 1}
    assert merge(stage.data, stage.output, stage.folder / "all.jsonl").written == 3
    talk(stage, judge=JUDGE)
    assert judged(stage).written == 3
    write_rows(stage.data, [{**rows[0], "instruction": "Another"}, *rows[1:]])
    assert judged(stage).left_out == {"judged": 1}
    path_for(verdicts_on(stage.output)).unlink()
    found = judged(stage)
    assert found.written == 3
    assert "its call log does not tell what was asked" in found.notes[0]


#: As many tokens as an answer is told to have, to any tokenizer.
ANSWER = 12


def prompts(*conversations: list[str]) -> int:
    """Return the tokens of conversations, user and assistant by turns; `system:` begins one."""
    total = 0
    for said in conversations:
        messages: list[dict[str, Any]] = []
        for text in said:
            role = "assistant" if len(messages) % 2 else "user"
            messages.append({"role": role, "content": text})
        total += prompt_count(messages, "gpt-4.1-mini").tokens
    return total


def test_the_estimate_of_conversations_counts_every_turn(stage: Stage) -> None:
    """Each with all that is said before it: answers as they are, or as long as is expected."""
    write_rows(stage.data, [{"index": 1, "turns": ["one", "two", "three"]}])
    data, config, answer = Dataset(stage.data, turns="turns"), stage.config(), " a" * ANSWER
    found = estimate(config, data, output_tokens=ANSWER)
    first, second = ["one"], ["one", answer, "two"]
    expected = prompts(first, second, [*second, answer, "three"])
    assert (found.rows, found.to_do, found.input_tokens.expected) == (3, 3, expected)
    assert found.output_tokens == Amount(*[3 * ANSWER] * 3)
    assert "all 3 rows are turns of 1 conversation; each is asked with all" in found.notes[0]
    stage.output.write_text('{"1@1":"an answer of its own"}\n', encoding="utf-8")
    found = estimate(config, data, stage.output, output_tokens=ANSWER)
    second = ["one", "an answer of its own", "two"]
    assert (found.rows, found.to_do) == (3, 2)
    assert found.input_tokens.expected == prompts(second, [*second, answer, "three"])
    assert "whose length is not known" in estimate(config, data).notes[0]
    assert estimate(config, data, stage.output, output_tokens=1e12).to_do == 2


def test_the_estimate_of_samples_and_verdicts(stage: Stage) -> None:
    """Prompts are paid for each sample, and each output is judged, those to come too."""
    write_rows(stage.data, [{"index": i, "instruction": f"Question {i}"} for i in range(3)])
    data, judge = Dataset(stage.data, n=4), Judge("Right? {{ output }}", model="gpt-4.1")
    found = estimate(stage.config(), data, output_tokens=ANSWER, judge=judge, verdict_tokens=5)
    once = sum(prompts([f"Question {i}"]) for i in range(3))
    assert (found.rows, found.input_tokens.expected) == (12, 4 * once)
    assert found.notes == ["each row is asked 4 times, and its prompt paid as often"]
    verdicts = found.judge
    assert verdicts is not None
    assert (verdicts.to_do, verdicts.output_tokens.expected) == (12, 60)
    assert verdicts.input_tokens.expected == 12 * prompts(["Right?" + " a" * (ANSWER + 1)])
    assert [cost.model for cost in verdicts.costs] == ["gpt-4.1"]
    talk(stage, judge=judge, n=4)
    with stage.output.open("a", encoding="utf-8") as ledger:
        ledger.write('{"1#2":"another"}\n')
    again = estimate(stage.config(), stage.data, stage.output, judge=judge)
    assert again.judge is not None
    assert (again.to_do, again.judge.to_do, again.judge.output_from) == (0, 1, "call log")


def test_an_estimate_with_a_judge_for_people(stage: Stage) -> None:
    """Both bills, and what they come to."""
    write_rows(stage.data, [{"index": i, "instruction": f"Question {i}"} for i in range(3)])
    (stage.folder / "judge.j2").write_text("Right? {{ output }}", encoding="utf-8")
    words = ("--output-tokens", "9", "--verdict-tokens", "3", "--model", "gpt-4.1")
    said = stage.cli("estimate", stage.data, "--n", "2", "--judge", "judge.j2", *words).stdout
    assert "note: each row is asked 2 times" in said
    assert "judge: 6 verdicts, each on one output; on those to come as expected" in said
    assert "judge: tokens out: 18 (3.0 a row; --verdict-tokens)" in said
    assert "outputs and verdicts together, live: $0.0" in said


def test_a_dry_run_shows_the_turns_that_can_be_asked_now(stage: Stage) -> None:
    """Later ones wait; the first that waits no more is shown with what was said before it."""
    write_rows(stage.data, [{**TALKS[0], "turns": ["one"]}])
    talk(stage, turns="turns")
    write_rows(stage.data, TALKS)
    words = ("run", stage.data, stage.output, "--turns", "turns", "--dry-run")
    done = stage.cli(*words, "--config", stage.config_file())
    indices = [request["index"] for request in json.loads(done.stdout)]
    assert indices == ["b@1", "c", "a@2"]
    assert "dry run: 3 requests as they would be sent" in done.stderr
    assert "2 turns wait for the answer to the one before them" in done.stderr


def test_turns_that_follow_what_is_not_to_be_tried(stage: Stage) -> None:
    """They are left out with it."""
    write_rows(stage.data, TALKS)
    job = Job(Dataset(stage.data, turns="turns"), stage.output, quiet=True, choice=Choice(limit=1))
    done = passes.run(stage.config(), job)
    assert (done.rows, done.done, done.left, done.left_out) == (6, 3, 3, 3)


def test_the_status_of_a_judge(stage: Stage) -> None:
    """It is asked about outputs: a verdict on an earlier one is a changed row, no other is."""
    rows = [{"index": i, "instruction": f"Question {i}"} for i in range(3)]
    talk(stage, rows, JUDGE)
    verdicts = verdicts_on(stage.output)
    seen = status(stage.data, verdicts)
    assert (seen.rows, seen.done, seen.changed) == (3, 3, 0)
    with stage.output.open("a", encoding="utf-8") as ledger:
        ledger.write('{"1":"by hand"}\n')
    assert status(stage.data, verdicts).changed == 1
    found = gather(verdicts, stage.data)
    assert (found.rows.total, found.rows.foreign) == (3, 0)


def test_fewer_samples_than_before(stage: Stage) -> None:
    """What was paid stays, and how to merge it is said; with nothing to do nothing is said."""
    rows = [{"index": i, "instruction": f"Say {i}."} for i in range(2)]
    talk(stage, rows, n=3)
    assert talk(stage, n=2).notes == []
    (note,) = talk(stage, [*rows, {"index": 9, "instruction": "Say 9."}], n=2).notes
    assert note.startswith("earlier runs asked each row 3 times (--n): answers beyond 2 stay in")
    target = stage.folder / "merged.jsonl"
    assert merge(stage.data, stage.output, target).written == 6
    assert merge(Dataset(stage.data, n=3), stage.output, target).written == 8


def test_an_estimate_tells_no_batch_price_of_verdicts(stage: Stage) -> None:
    """A judge is asked live; only the outputs may come from batches."""
    write_rows(stage.data, [row(1), row(2)])
    (stage.folder / "judge.j2").write_text("Right? {{ output }}", encoding="utf-8")
    told = stage.cli(
        *("estimate", stage.data, "--judge", "judge.j2", "--api-base", "https://api.openai.com/v1"),
        *("--output-tokens", "10", "--verdict-tokens", "5"),
    ).stdout.splitlines()
    heads = [line for line in told if line.removeprefix("judge: ").startswith("cost ")]
    assert ["in batches" in head for head in heads] == [True, False]
    (verdicts,) = [line for line in told if line.startswith("judge: gpt-4.1-mini ")]
    assert verdicts.count("$") == 1
