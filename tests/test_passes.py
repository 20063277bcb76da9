"""Several answers a row: samples, the turns of conversations, and what a judge says of outputs."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import read_calls, read_ledger, told, write_rows

from jsonl_runner import passes
from jsonl_runner.clock import Stop
from jsonl_runner.dataset import Dataset
from jsonl_runner.errors import (
    BadRowsError,
    BudgetReachedError,
    ConfigError,
    InputError,
    RunInterruptedError,
)
from jsonl_runner.job import Job
from jsonl_runner.judging import Judge
from jsonl_runner.merge import merge
from jsonl_runner.reader import RowReader, open_input
from jsonl_runner.simulator.answers import answer_text
from jsonl_runner.sources.expanding import asked_at, samples, turns_of
from jsonl_runner.status import status

if TYPE_CHECKING:
    from pathlib import Path

    from support import Stage

    from jsonl_runner.summary import RunSummary

MODEL = "gpt-4.1-mini"
TALKS: list[dict[str, Any]] = [
    {"index": "a", "instruction": "Be brief.", "turns": ["one", "two", "three"]},
    {"index": "b", "turns": ["uno", "dos"]},
    {"index": "c", "instruction": "Say x."},
]


def go(
    stage: Stage, rows: Any = None, judge: Judge | None = None, job: Any = None, **of: Any
) -> RunSummary:
    """Run rows as a dataset with what `of` says of it; settings stand in `settings`."""
    settings = of.pop("settings", {})
    if rows is not None:
        write_rows(stage.data, rows)
    work = Job(Dataset(stage.data, **of), stage.output, quiet=True, **(job or {}))
    return passes.run(stage.config(**settings), work, judge=judge)


def calls(stage: Stage) -> int:
    return len(stage.simulator.journal.calls)


def conversation(*turns: str, system: str | None = None) -> list[str]:
    """Return what the simulator answers turn by turn."""
    messages = [{"role": "system", "content": system}] if system else []
    answers = []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        answers.append(answer_text({"model": MODEL, "messages": messages}))
        messages.append({"role": "assistant", "content": answers[-1]})
    return answers


def test_each_sample_is_a_row_of_its_own(stage: Stage) -> None:
    """`n` answers are paid for each row, and a rerun pays only for those that are missing."""
    rows = [{"index": i, "instruction": f"Say {i}."} for i in range(3)]
    summary = go(stage, rows, n=4)
    assert (summary.rows, summary.done, calls(stage)) == (12, 12, 12)
    assert set(read_ledger(stage.output)) == {f"{i}#{k}" for i in range(3) for k in range(4)}
    assert go(stage, n=6).done == 6
    assert calls(stage) == 18
    target = stage.folder / "merged.jsonl"
    merge(Dataset(stage.data, n=6), stage.output, target)
    merged = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [(row["index"], row["sample"]) for row in merged[:7]] == [
        *((f"0#{k}", k) for k in range(6)),
        ("1#0", 0),
    ]


def test_samples_of_a_row_do_not_share_an_answer_of_the_cache(stage: Stage) -> None:
    """The cache keeps each sample for itself: a second run of both takes no call."""
    kept = {"cache": True, "cache_directory": str(stage.folder / "kept")}
    go(stage, [{"index": 1, "instruction": "Say x."}], n=3, settings=kept)
    assert calls(stage) == 3
    stage.output.unlink()
    assert go(stage, n=3, settings=kept).cached == 3
    assert calls(stage) == 3


def test_a_bad_row_is_told_once_however_often_it_would_be_asked(stage: Stage) -> None:
    """Its line is that of the file."""
    write_rows(stage.data, [{"index": 1, "instruction": "Say x."}, {"index": 2}])
    with pytest.raises(BadRowsError) as raised:
        go(stage, n=5)
    assert [row.split(": ")[0] for row in raised.value.rows] == [f"{stage.data}:2"]
    assert calls(stage) == 0


def test_a_sample_of_the_users_own_is_kept() -> None:
    """A field that is called as ours stays under another name."""
    first, _ = samples(2)({"index": 7, "instruction": "x", "sample": "mine"})
    assert (first["index"], first["sample"], first["source_sample"]) == ("7#0", 0, "mine")


def test_turns_are_asked_one_after_the_other(stage: Stage) -> None:
    """Each with the answers before it; rows without turns are asked as ever."""
    summary = go(stage, TALKS, turns="turns")
    assert (summary.rows, summary.done, summary.failed, calls(stage)) == (6, 6, 0, 6)
    a = conversation("one", "two", "three", system="Be brief.")
    b = conversation("uno", "dos")
    assert read_ledger(stage.output) == {
        **{f"a@{number}": answer for number, answer in enumerate(a, 1)},
        **{f"b@{number}": answer for number, answer in enumerate(b, 1)},
        "c": told("Say x."),
    }
    again = go(stage, turns="turns")
    assert (again.skipped, again.done, calls(stage)) == (6, 0, 6)


def test_a_rerun_goes_on_at_the_turn_where_a_conversation_stopped(stage: Stage) -> None:
    """A turn that failed is a null; what follows it waits, and comes when it has its answer."""
    talk = {"index": "a", "turns": ["one", "[[fault:context_length*1]] two", "three"]}
    first = go(stage, [talk, *TALKS[1:]], turns="turns")
    assert (first.done, first.failed, first.exit_code) == (4, 1, 1)
    assert read_ledger(stage.output)["a@2"] is None
    seen = status(Dataset(stage.data, turns="turns"), stage.output)
    assert (seen.rows, seen.done, seen.failed, seen.left) == (6, 4, 1, 1)
    assert (first.rows, first.done, first.failed, first.left) == (6, 4, 1, 1)
    assert (seen.turns, seen.conversations) == (first.turns, first.conversations) == (5, 2)
    second = go(stage, turns="turns")
    assert (second.skipped, second.done, second.failed, second.exit_code) == (4, 2, 0, 0)
    assert calls(stage) == 7


def test_a_merged_conversation_has_all_that_was_said(stage: Stage) -> None:
    """One example for each, with its last answer as the output."""
    go(stage, TALKS, turns="turns", n=2)
    target = stage.folder / "chat.jsonl"
    merge(Dataset(stage.data, turns="turns", n=2), stage.output, target, format="openai-chat")
    chats = [json.loads(line)["messages"] for line in target.read_text("utf-8").splitlines()]
    one, two, three = conversation("one", "two", "three", system="Be brief.")
    said = ["Be brief.", "one", one, "two", two, "three", three]
    assert [message["content"] for message in chats[0]] == said
    assert [len(chat) for chat in chats] == [7, 7, 4, 4, 2, 2]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"turns": "one"}, '"turns" must be a list of texts, one for each turn of the user'),
        ({"turns": []}, '"turns" must be a list of texts, one for each turn of the user'),
        ({"turns": ["a", " "]}, '"turns": turn 2 is no text, or an empty one'),
        ({"turns": ["a"], "input": "b"}, 'it has an "input" beside "turns"; make it part'),
        ({"turns": ["a"], "image": "a.png"}, 'images do not go together with "turns"'),
        ({"turns": ["a"], "index": None}, 'it has no "index"'),
        ({"turns": ["a"], "index": 1.5}, '"index" must be a string or an integer'),
        ({"turns": ["a"], "messages": 5}, '"messages" must be a list of'),
        ({"turns": ["a"], "instruction": 5}, '"instruction" must be a text'),
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_turns_that_cannot_be_asked(stage: Stage, n: int, row: dict[str, Any], reason: str) -> None:
    """Said before anything is paid, once for the row."""
    with pytest.raises(BadRowsError) as raised:
        go(stage, [*TALKS, {"index": 9, **row}], turns="turns", n=n)
    (told_row,) = raised.value.rows
    assert told_row.startswith(f"{stage.data}:4: {reason}")
    assert calls(stage) == 0


def test_a_field_of_turns_that_no_row_has(stage: Stage) -> None:
    """A slip of the pen is told, and not paid for as rows without turns."""
    rows = [{"index": i, "instruction": "Say x.", "turns": ["one"]} for i in range(3)]
    with pytest.raises(InputError, match='--turns turn: the row has no field "turn"; did you mean'):
        go(stage, rows, turns="turn")
    assert calls(stage) == 0
    assert not stage.output.exists()
    go(stage, turns="turns")
    with pytest.raises(
        ConfigError, match=r"their turn in turns \(--turns\), and not .* in turn \("
    ):
        go(stage, turns="turn")
    # Rows that come later may all be without turns.
    assert go(stage, [{"index": 9, "instruction": "Say x."}], turns="turns").done == 1


@given(
    turns=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6),
    system=st.text(),
)
def test_for_every_conversation_each_turn_follows_what_was_said(
    turns: list[str], system: str
) -> None:
    """Users and assistants take turns, in order, and the user is the last to speak."""
    row = {"index": 1, "instruction": system, "turns": turns}
    assert turns_of(row, "turns") == turns
    answers = [f"answer {number}" for number in range(len(turns))]
    for turn in range(1, len(turns) + 1):
        messages = asked_at(row, turns, turn, answers[: turn - 1])["messages"]
        if system:
            assert messages.pop(0) == {"role": "system", "content": system}
        assert [m["role"] for m in messages] == (["user", "assistant"] * turn)[:-1]
        assert [m["content"] for m in messages[::2]] == turns[:turn]
        assert [m["content"] for m in messages[1::2]] == answers[: turn - 1]


JUDGE = Judge("Is {{ output }} a good answer to {{ instruction }}? Known: {{ reference }}")
QUESTIONS = [{"index": i, "instruction": f"Question {i}", "output": f"known {i}"} for i in range(4)]


JUDGE_OF_TALKS = Judge("{{ asked }} -> {{ output }}")


def question_of(i: int) -> str:
    return f"Is {told(f'Question {i}')} a good answer to Question {i}? Known: known {i}"


def verdicts(stage: Stage) -> dict[str, str | None]:
    return read_ledger(stage.folder / "output.judge.jsonl")


def test_a_judge_is_asked_about_each_output(stage: Stage) -> None:
    """With a ledger of its own, another model, and the resume of any run."""
    judge = Judge(JUDGE.template, model="gpt-4.1")
    summary = go(stage, QUESTIONS, judge)
    assert (summary.done, summary.exit_code) == (4, 0)
    assert summary.judged is not None
    assert summary.judged.done == 4
    assert any(line.startswith("judge: done 4") for line in summary.lines())
    assert verdicts(stage) == {str(i): told(question_of(i), model="gpt-4.1") for i in range(4)}
    again = go(stage, judge=judge)
    assert again.judged is not None
    assert (again.skipped, again.judged.skipped, calls(stage)) == (4, 4, 8)


def test_an_output_that_is_another_now_is_judged_anew(stage: Stage) -> None:
    """A verdict is on the output that stands in the ledger."""
    go(stage, QUESTIONS, JUDGE)
    with stage.output.open("a", encoding="utf-8") as ledger:
        ledger.write('{"2": "something else"}\n')
    summary = go(stage, judge=JUDGE)
    assert summary.judged is not None
    assert (summary.judged.done, calls(stage)) == (1, 9)
    question = "Is something else a good answer to Question 2? Known: known 2"
    assert verdicts(stage)["2"] == told(question)


def test_only_outputs_are_judged(stage: Stage) -> None:
    """A row that failed has none; it is judged when a rerun has brought it."""
    judge = Judge("Is this good? {{ output[:20] }}")  # the fault shall not be asked, too
    rows = [*QUESTIONS, {**QUESTIONS[0], "index": 9, "instruction": "[[fault:content_filter*1]]"}]
    first = go(stage, rows, judge)
    assert first.exit_code == 1
    assert "9" not in verdicts(stage)
    second = go(stage, judge=judge)
    assert second.judged is not None
    assert (second.done, second.judged.done, second.exit_code) == (1, 1, 0)


def test_a_judges_template_is_tried_before_an_output_is_paid(stage: Stage) -> None:
    """A field that rows do not have is found at once, with the line of row and template."""
    with pytest.raises(BadRowsError) as raised:
        go(stage, QUESTIONS, Judge("Is {{ output }} like {{ answr }}?"))
    assert str(raised.value).startswith(f'{stage.data}:1: judge:1: the row has no field "answr"')
    assert "(and so for all 4 rows)" in str(raised.value)
    assert calls(stage) == 0
    with pytest.raises(ConfigError, match="judge:1: "):
        Judge("{% if %}")
    with pytest.raises(ConfigError, match="judge: the judge's template is empty"):
        Judge(" ")
    with pytest.raises(ConfigError, match=r"takes no output; write {{ output }} for {output}$"):
        Judge("Is {output} a good answer to {{ instruction }}?")


def test_rows_that_are_skipped_are_not_judged(stage: Stage) -> None:
    """Each is told once; one that the judge alone cannot be asked about has its output."""
    unknown = {"index": 8, "instruction": "Question 8"}
    rows = [*QUESTIONS, {"index": 9}, {"instruction": "It has no index"}, unknown]
    summary = go(stage, rows, JUDGE, {"bad_rows": "skip"})
    assert summary.judged is not None
    assert (summary.done, summary.judged.done, summary.exit_code) == (5, 4, 1)
    assert [row.split(": ")[0] for row in summary.bad_rows] == [f"{stage.data}:{n}" for n in (5, 6)]
    (only,) = summary.judged.bad_rows
    assert only.startswith(f"{stage.data}:7: judge:1: ")
    with pytest.raises(BadRowsError):
        go(stage, judge=Judge("{{ output }} {{ nothing }}"), job={"bad_rows": "skip"})


def test_outputs_and_verdicts_keep_one_budget(stage: Stage) -> None:
    """What the outputs took is not there for the judge."""
    settings = {"max_tokens_total": 10_000, "params": {"max_tokens": 40}}
    go(stage, QUESTIONS, settings=settings)
    used = sum(call["usage"]["total_tokens"] for call in read_calls(stage.output).values())
    settings["max_tokens_total"] = used + 60
    with pytest.raises(BudgetReachedError, match=f"{used + 60} tokens is reached") as raised:
        go(stage, judge=JUDGE, settings=settings)
    summary = raised.value.summary
    assert summary is not None
    assert (summary.exit_code, summary.skipped) == (5, 4)


def test_later_outputs_do_not_get_what_verdicts_took(stage: Stage) -> None:
    """The limit holds for all runs on both ledgers, whichever is written next."""
    go(stage, QUESTIONS, JUDGE)
    ledgers = (stage.output, stage.folder / "output.judge.jsonl")
    entries = [entry for ledger in ledgers for entry in read_calls(ledger).values()]
    used = sum(entry["usage"]["total_tokens"] for entry in entries)
    more = [*QUESTIONS, {"index": 9, "instruction": "Question 9", "output": "known 9"}]
    settings = {"max_tokens_total": used + 1, "params": {"max_tokens": 40}}
    for judge in (JUDGE, None):
        with pytest.raises(BudgetReachedError, match=f"{used} tokens spent"):
            go(stage, more, judge, settings=settings)
    assert calls(stage) == 8


def test_merge_keeps_what_the_judge_approves(stage: Stage) -> None:
    """By a pattern in its verdict, which stands in the row."""
    go(stage, QUESTIONS, JUDGE)
    target = stage.folder / "good.json"
    (wanted,) = [v for i, v in verdicts(stage).items() if i == "3"]
    assert wanted is not None
    summary = merge(stage.data, stage.output, target, judged=wanted.split()[1])
    assert (summary.written, summary.left_out) == (1, {"judged": 3})
    (row,) = json.loads(target.read_text(encoding="utf-8"))
    assert (row["index"], row["judge"], row["reference"]) == ("3", wanted, "known 3")
    merge(stage.data, stage.output, target, judged="", fields=["index", "why=judge"])
    assert json.loads(target.read_text("utf-8"))[3] == {"index": "3", "why": wanted}
    with pytest.raises(InputError, match="would overwrite"):
        merge(stage.data, stage.output, stage.folder / "output.judge.jsonl")
    with pytest.raises(ConfigError, match="is no regular expression"):
        merge(stage.data, stage.output, target, judged="(")
    (stage.folder / "output.judge.jsonl").unlink()
    with pytest.raises(InputError, match="there are no verdicts"):
        merge(stage.data, stage.output, target, judged="x")


def test_merge_takes_no_verdict_on_an_earlier_output(stage: Stage) -> None:
    """An output that was paid anew since is not approved by what was said of the one before."""
    go(stage, QUESTIONS, JUDGE)
    changed = [{**row, "instruction": "Another"} if row["index"] == 2 else row for row in QUESTIONS]
    go(stage, changed, job={"redo_changed": True})
    target = stage.folder / "good.json"
    summary = merge(stage.data, stage.output, target, judged=".")
    assert (summary.written, summary.left_out) == (3, {"judged": 1})
    go(stage, judge=JUDGE)
    assert merge(stage.data, stage.output, target, judged=".").written == 4


def test_whole_conversations_are_judged(stage: Stage) -> None:
    """By their last answer, with all that was said before."""
    go(stage, TALKS, JUDGE_OF_TALKS, turns="turns")
    one, two = conversation("uno", "dos")
    assert verdicts(stage)["b@2"] == told(f"uno\n\n{one}\n\ndos -> {two}")
    assert set(verdicts(stage)) == {"a@3", "b@2", "c"}


def test_a_stop_ends_all_passes(stage: Stage) -> None:
    """What is wished for before the first turn holds for those after it, and for the judge."""
    stop = Stop()
    stop.request(RunInterruptedError(signal.SIGINT))
    write_rows(stage.data, TALKS)
    job = Job(Dataset(stage.data, turns="turns"), stage.output, quiet=True)
    with pytest.raises(RunInterruptedError):
        passes.run(stage.config(), job, judge=JUDGE_OF_TALKS, stop=stop)
    assert calls(stage) == 0
    again = passes.run(stage.config(), job, judge=JUDGE_OF_TALKS, stop=Stop())
    assert again.judged is not None
    assert (again.done, again.judged.done) == (6, 3)


@pytest.mark.parametrize("last", [3, 5, 6])
def test_ctrl_c_while_the_last_rows_of_a_pass_are_in_flight(stage: Stage, last: int) -> None:
    """They are written, and no other pass begins, be it of turns or of the judge."""
    written: list[Any] = []

    def settled(group: Any) -> None:
        written.extend(group)
        if len(written) == last:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(RunInterruptedError) as raised:
        go(stage, TALKS, JUDGE_OF_TALKS, {"settled": settled}, turns="turns")
    assert raised.value.summary is not None
    assert (raised.value.summary.done, calls(stage)) == (last, last)
    again = go(stage, judge=JUDGE_OF_TALKS, turns="turns")
    assert again.judged is not None
    assert (again.done, again.judged.done) == (6 - last, 3)


def test_passes_want_a_file(stage: Stage, tmp_path: Path) -> None:
    """What can be read once only cannot be gone through turn by turn; it is not even opened."""
    pipe = tmp_path / "pipe"
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes here")
    os.mkfifo(pipe)
    line = b'{"index":1,"turns":["a"]}\n'
    writer = threading.Thread(target=pipe.write_bytes, args=(line,), daemon=True)
    writer.start()  # so that an open would not wait for ever
    for there in (False, True):
        if there:
            stage.output.touch()
        with pytest.raises(InputError, match="in several passes; give a file"):
            passes.run(stage.config(), Job(Dataset(pipe, turns="turns"), stage.output, quiet=True))
    assert writer.is_alive()


def test_the_lines_of_expanded_rows_are_those_of_the_file(tmp_path: Path) -> None:
    """Blank lines and rows without turns change no number."""
    text = '{"index":1,"instruction":"x"}\n\n{"index":2}\n{"index":1,"instruction":"y"}\n'
    (tmp_path / "data.jsonl").write_text(text, encoding="utf-8")
    with open_input(Dataset(tmp_path / "data.jsonl", n=2)) as stream:
        found = [row for row in RowReader(stream, "x").rows() if not isinstance(row, dict)]
    assert [row.line for row in found] == [3, 4, 4]
