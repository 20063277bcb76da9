"""Many questions: read, answered in order on a bounded window, kept in a ledger."""

from __future__ import annotations

import io
import itertools
import json
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support import read_calls, read_ledger, told, until

from jsonl_runner import InputError, LedgerError, NoUsableKeyError, RunStoppedError
from jsonl_runner.clock import Stop
from jsonl_runner.merge import merge
from jsonl_runner.questions import (
    Question,
    QuestionsJob,
    answers_in_order,
    count_questions,
    index_of,
    open_questions,
    questions_path,
    read_questions,
    record_of,
    run_questions,
    window_of,
)
from jsonl_runner.records import Record
from jsonl_runner.rows import MAX_ROW_BYTES
from jsonl_runner.session import Session
from jsonl_runner.simulator import SimulatorSettings
from jsonl_runner.status import status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from support import Stage

    from jsonl_runner.records import Outcome
    from jsonl_runner.summary import RunSummary


def records(count: int, first: str = "question 0") -> Iterator[Record]:
    yield Record("0", first)
    for number in range(1, count):
        yield Record(str(number), f"question {number}")


def take(answers: Iterator[tuple[Record, Outcome]], into: list[str]) -> None:
    """Put the index of each answer into a list, which stays when it ends early."""
    for record, _ in answers:
        into.append(record.index)


@pytest.fixture
def session(stage: Stage) -> Iterator[Session]:
    """A session of two keys and eight calls at a time on the simulator."""
    opened = Session(stage.config(threads=8))
    yield opened
    opened.close()


def test_lines_are_questions() -> None:
    r"""A byte order mark, \r\n and blanks around are no part of one; U+2028 ends no line."""
    data = "\ufeffOne?\r\n\r\n \t\n  Zwölf, drei\u2028zehn?  \n\n[1] last".encode()
    assert list(read_questions(io.BytesIO(data), "q.txt")) == [
        Question(1, "One?"),
        Question(4, "Zwölf, drei\u2028zehn?"),
        Question(6, "[1] last"),
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "q.txt: there is no question in it; write one a line"),
        (b"\n  \r\n", "q.txt: there is no question in it; write one a line"),
        (b"One?\n\xff\xfe?\n", r"q.txt:2: this is no UTF-8 text; convert the file \(iconv"),
        (b"One?\n" + b"x" * (MAX_ROW_BYTES + 1), "q.txt:2: the line is longer than 16 MiB"),
    ],
)
def test_bad_lines_are_named(data: bytes, said: str) -> None:
    """File, line, and what to do."""
    with pytest.raises(InputError, match=said):
        list(read_questions(io.BytesIO(data), "q.txt"))


def test_a_file_is_looked_at_before_anything_is_paid(tmp_path: Path) -> None:
    """And read from where it stood; a pipe cannot be."""
    path = tmp_path / "q.txt"
    path.write_bytes(b"no question\nOne?\nTwo?\n")
    with open_questions(path) as stream:
        stream.readline()
        assert count_questions(stream, "q.txt") == 2
        assert [question.text for question in read_questions(stream, "q.txt")] == ["One?", "Two?"]
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert count_questions(pipe, "pipe") is None
    for missing in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match=str(missing)), open_questions(missing):
            pass


def test_order_is_kept_whatever_the_latency(stage: Stage, session: Session) -> None:
    """Each answer is its own question's, in the order of the questions."""
    stage.simulator.settings = SimulatorSettings(latency_spread_s=0.05)
    pairs = list(answers_in_order(session, records(300)))
    assert [record.index for record, _ in pairs] == [str(number) for number in range(300)]
    assert all(
        (outcome.index, outcome.output) == (record.index, told(record.instruction))
        for record, outcome in pairs
    )
    assert stage.simulator.journal.max_in_flight <= 8


@pytest.mark.parametrize(("threads", "window"), [(2, None), (8, 20), (4, 1)])
def test_the_window_is_bounded_while_the_first_question_hangs(
    stage: Stage, threads: int, window: int | None
) -> None:
    """So many are asked and no more, however many there are; nothing is yielded ahead."""
    session = Session(stage.config(threads=threads))
    size = window_of(threads) if window is None else window
    taken: list[str] = []
    yielded: list[str] = []

    def counted() -> Iterator[Record]:
        for record in records(1000, "[[fault:hang]]"):
            taken.append(record.index)
            yield record

    def read() -> None:
        with pytest.raises(RunStoppedError):
            take(answers_in_order(session, counted(), window=window), yielded)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    journal = stage.simulator.journal
    until(lambda: len(journal.calls) == size and (size == 1 or journal.in_flight() == 1))
    time.sleep(0.2)
    assert len(journal.calls) == size
    assert len(taken) <= size + 1  # one in hand, which waits for room
    assert yielded == []
    session.close()
    reader.join(5)
    assert not reader.is_alive()


def test_an_answer_does_not_wait_for_the_next_question(session: Session) -> None:
    """Where the source is a person or a program that waits for the answer first."""
    answered = threading.Semaphore(1)

    def source() -> Iterator[Record]:
        for number in range(5):
            assert answered.acquire(timeout=10)
            yield Record(str(number), f"question {number}")

    outputs = []
    for _, outcome in answers_in_order(session, source()):
        outputs.append(outcome.output)
        answered.release()
    assert outputs == [told(f"question {number}") for number in range(5)]


def test_a_failed_question_keeps_its_place(session: Session) -> None:
    """It is an Outcome like any other."""
    pairs = list(answers_in_order(session, records(3, "[[fault:context_length]]")))
    assert [outcome.code for _, outcome in pairs] == ["context_length_exceeded", "ok", "ok"]


def test_what_the_source_raises_comes_behind_the_answers_before_it(session: Session) -> None:
    """A bad line at the end of a pipe costs none of the answers that are paid."""

    def source() -> Iterator[Record]:
        yield from records(5)
        raise InputError("line 6 is bad")

    found: list[str] = []
    with pytest.raises(InputError, match="line 6 is bad"):
        take(answers_in_order(session, source()), found)
    assert found == ["0", "1", "2", "3", "4"]


def test_leaving_gives_up_what_is_under_way(stage: Stage, session: Session) -> None:
    """Connections end, nobody asks on, and the session is of use to others."""
    answers = answers_in_order(session, itertools.chain(records(1), records(500, "[[fault:hang]]")))
    next(answers)
    journal = stage.simulator.journal
    until(lambda: journal.count(fault="hang") == 1)
    answers.close()
    until(lambda: journal.in_flight() == 0)
    time.sleep(0.1)
    made = len(journal.calls)
    assert session.ask(Record("0", "hello")).output == told("hello")
    assert len(journal.calls) == made + 1


def test_no_key_ends_it_with_that_reason(stage: Stage, session: Session) -> None:
    """Not with a silence."""
    stage.simulator.settings = SimulatorSettings(keys=())
    with pytest.raises(NoUsableKeyError):
        list(answers_in_order(session, records(100)))


def test_a_stop_ends_it_though_the_source_hangs(stage: Stage) -> None:
    """What was answered in order has been yielded; the reason is the stop's."""
    stop = Stop()
    session = Session(stage.config(), stop=stop)
    never = threading.Event()

    def source() -> Iterator[Record]:
        yield from records(3)
        never.wait(20)

    looks = []

    def waiting() -> None:
        looks.append(1)
        if len(looks) == 2:
            stop.request(RunStoppedError("enough"))

    found: list[str] = []
    with pytest.raises(RunStoppedError, match="enough"):
        take(answers_in_order(session, source(), waiting=waiting), found)
    assert found == ["0", "1", "2"]
    never.set()
    session.close()


def test_an_index_is_the_question_where_one_can_read_it() -> None:
    """And no two questions ever have one index, however they are written."""
    assert index_of("What is the capital of Japan?", 1) == "What is the capital of Japan?"
    long = index_of("x" * 81, 1)
    assert long.startswith("x" * 60 + "… #1@")
    assert len(long) < 100
    assert index_of("x" * 80, 1) == "x" * 80
    assert index_of("a\x1bb", 1).startswith("a b #1@")
    texts = ["One?", "One", "x" * 81, "x" * 82, "a\x1bb", "a b"]
    texts += [index_of(text, repeat) for text in texts for repeat in (1, 2)]
    indices = [index_of(text, repeat) for text in set(texts) for repeat in (1, 2, 3)]
    assert len(set(indices)) == len(indices)


class Kept:
    """A questions file and its ledger on a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.source = stage.folder / "queries.txt"
        self.output = stage.folder / "answers.jsonl"
        self.data = questions_path(self.output)

    def run(self, *questions: str, system: str | None = None, **more: Any) -> RunSummary:
        self.source.write_text("".join(f"{question}\n" for question in questions), encoding="utf-8")
        job = QuestionsJob(self.source, self.output, system=system, quiet=True, **more)
        return run_questions(self.stage.config(), job)

    def asked(self) -> list[str]:
        return [call.prompt for call in self.stage.simulator.journal.calls]


@pytest.fixture
def kept(stage: Stage) -> Kept:
    return Kept(stage)


def test_a_ledger_of_questions(kept: Kept) -> None:
    """It can be read, and status and merge work on it."""
    summary = kept.run("One?", "", "Two?", "One?")
    assert (summary.done, summary.exit_code) == (3, 0)
    twice = index_of("One?", 2)
    assert read_ledger(kept.output) == {
        "One?": told("One?"),
        "Two?": told("Two?"),
        twice: told("One?"),
    }
    assert set(read_calls(kept.output)) == {"One?", "Two?", twice}
    found = status(kept.data, kept.output)
    assert (found.rows, found.done, found.changed) == (3, 3, 0)
    merged = kept.stage.folder / "merged.json"
    merge(kept.data, kept.output, merged)
    rows = json.loads(merged.read_text(encoding="utf-8"))
    assert [(row["line"], row["instruction"], row["output"]) for row in rows] == [
        (1, "One?", told("One?")),
        (3, "Two?", told("Two?")),
        (4, "One?", told("One?")),
    ]
    assert sorted(path.name for path in kept.stage.folder.iterdir()) == [
        "answers.calls.jsonl",
        "answers.jsonl",
        "answers.questions.jsonl",
        "merged.json",
        "queries.txt",
    ]


def test_an_edited_file_asks_what_is_new_and_nothing_else(kept: Kept) -> None:
    """Another order, a new question, one that was mended, one taken out: no answer is another's."""
    kept.run("One?", "Two?", "Thre?", "Four?")
    summary = kept.run("Zero?", "Four?", "Two?", "Three?", "One?")
    assert (summary.skipped, summary.done) == (3, 2)
    assert sorted(kept.asked()[4:]) == ["Three?", "Zero?"]
    merged = kept.stage.folder / "merged.json"
    merge(kept.data, kept.output, merged)
    rows = json.loads(merged.read_text(encoding="utf-8"))
    asked = ["Zero?", "Four?", "Two?", "Three?", "One?"]
    assert [row["output"] for row in rows] == [told(question) for question in asked]


def test_another_system_message_makes_changed_questions(kept: Kept) -> None:
    """They are told, and asked again only when that is wished."""
    kept.run("One?", "Two?", system="Be brief.")
    assert read_ledger(kept.output)["One?"] == told("One?", "Be brief.")
    summary = kept.run("One?", "Two?", system="Be long.")
    assert (summary.skipped, summary.done, summary.changed.count) == (2, 0, 2)
    assert kept.run("One?", "Two?", system="Be long.", redo_changed=True).done == 2
    last = [json.loads(line) for line in kept.output.read_text(encoding="utf-8").splitlines()][-2:]
    assert {"One?": told("One?", "Be long.")} in last


def test_nulls_are_asked_again(kept: Kept) -> None:
    """As in every run."""
    assert kept.run("One?", "Two? [[fault:context_length*1]]").exit_code == 1
    assert kept.run("One?", "Two? [[fault:context_length*1]]").exit_code == 0
    assert len(kept.asked()) == 3


def test_questions_from_a_pipe(kept: Kept) -> None:
    """Are read to the end first."""
    job = QuestionsJob(None, kept.output, quiet=True)
    summary = run_questions(kept.stage.config(), job, stdin=io.BytesIO(b"One?\nTwo?"))
    assert (summary.done, set(read_ledger(kept.output))) == (2, {"One?", "Two?"})


def test_a_file_of_somebody_elses_is_left_alone(kept: Kept) -> None:
    """Neither the questions nor anything but our own rows are written over."""
    kept.data.write_text("my notes\n")
    with pytest.raises(InputError, match=r"answers\.questions\.jsonl: .* holds something else"):
        kept.run("One?")
    assert kept.data.read_text() == "my notes\n"
    kept.source = kept.data
    with pytest.raises(InputError, match="name another output"):
        kept.run("One?")
    assert kept.data.read_text() == "One?\n"
    kept.source = kept.output
    with pytest.raises(InputError, match="same file"):
        kept.run("One?")
    assert kept.asked() == []


def test_a_bad_line_leaves_everything_as_it_was(kept: Kept) -> None:
    """Nothing is asked, and the rows of the last run stay."""
    kept.run("One?")
    before = kept.data.read_bytes()
    kept.source.write_bytes(b"One?\nTwo?\n\xff\n")
    with pytest.raises(InputError, match=r"queries\.txt:3: this is no UTF-8"):
        run_questions(kept.stage.config(), QuestionsJob(kept.source, kept.output, quiet=True))
    assert kept.data.read_bytes() == before
    assert kept.asked() == ["One?"]
    kept.output = kept.stage.folder / "missing" / "answers.jsonl"
    with pytest.raises(LedgerError, match="does not exist; make it first"):
        kept.run("One?")


def test_two_runs_at_once(kept: Kept) -> None:
    """The second leaves the first one's rows alone."""
    other = replace(kept.stage.config(), threads=1)
    kept.source.write_text("[[fault:hang*1]]\n")
    stop = Stop()
    job = QuestionsJob(kept.source, kept.output, quiet=True)

    def first() -> None:
        with pytest.raises(RunStoppedError):
            run_questions(other, job, stop=stop)

    runner = threading.Thread(target=first)
    runner.start()
    until(lambda: kept.stage.simulator.journal.count(fault="hang") == 1)
    before = kept.data.read_bytes()
    with pytest.raises(LedgerError, match="another run is writing it"):
        kept.run("Other?")
    assert kept.data.read_bytes() == before
    stop.request(RunStoppedError("enough"))
    stop.abort()
    runner.join(10)
    assert not runner.is_alive()


def test_a_question_with_and_without_a_system_message() -> None:
    """As `query` asks a single one."""
    assert record_of(Question(3, "One?"), None) == Record("3", "One?", line=3)
    assert record_of(Question(3, "One?"), "Be brief.") == Record("3", "Be brief.", "One?", line=3)
