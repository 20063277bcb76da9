"""The call log: what each Outcome cost and why it failed; never needed for a result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import expected, read_calls, read_ledger, row

from jsonl_runner.calllog import CallLog, SeenInput, fingerprints, last_input, path_for, read
from jsonl_runner.errors import LedgerError
from jsonl_runner.records import Outcome, fingerprint_number

if TYPE_CHECKING:
    from support import Stage

FIELDS = [
    *("index", "status", "fingerprint", "code", "message", "attempts", "model", "finish_reason"),
    *("usage", "cost", "latency_s", "key", "started", "ended"),
]
OUTCOME = Outcome(
    "a",
    "text",
    attempts=3,
    model="m",
    finish_reason="stop",
    usage={"prompt_tokens": 1},
    latency_s=0.123456,
    key="#1(…0001)",
    fingerprint="00000000000000ff",
    started=1.23456,
    ended=2.0,
    cost=0.5,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "output.jsonl"


def log(ledger: Path, *outcomes: Outcome) -> None:
    calls = CallLog(ledger)
    calls.append(outcomes)
    calls.close()


def indices(ledger: Path) -> list[str]:
    return [entry["index"] for entry in read(ledger)]


@pytest.mark.parametrize(
    ("name", "log_name"),
    [("o.jsonl", "o.calls.jsonl"), ("a.b.jsonl", "a.b.calls.jsonl"), ("out", "out.calls")],
)
def test_it_lies_beside_the_ledger(name: str, log_name: str) -> None:
    """`output.calls.jsonl` for `output.jsonl`, in the same folder."""
    assert path_for(Path("folder") / name) == Path("folder") / log_name


def test_an_entry_tells_all_of_an_outcome(ledger: Path) -> None:
    """One line an Outcome, with every field under its name, times rounded; no output text."""
    log(ledger, OUTCOME, Outcome("b", None, code="empty_answer", message="nothing came"))
    first, second = read(ledger)
    assert list(first) == list(second) == FIELDS
    assert first == {
        "index": "a",
        "status": "ok",
        "fingerprint": "00000000000000ff",
        "code": "ok",
        "message": "",
        "attempts": 3,
        "model": "m",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 1},
        "cost": 0.5,
        "latency_s": 0.1235,
        "key": "#1(…0001)",
        "started": 1.235,
        "ended": 2.0,
    }
    told = (second["status"], second["code"], second["message"])
    assert told == ("failed", "empty_answer", "nothing came")


def test_runs_append_to_it(ledger: Path) -> None:
    """Each run's entries stand behind those of the runs before."""
    log(ledger, Outcome("1", "x"))
    log(ledger, Outcome("1", None), Outcome("2", "x"))
    assert indices(ledger) == ["1", "1", "2"]


def test_one_that_is_not_used_is_not_there(ledger: Path) -> None:
    """To open and close it leaves no file; to read none brings no entries."""
    CallLog(ledger).close()
    assert not path_for(ledger).exists()
    assert indices(ledger) == []
    assert len(fingerprints(ledger)) == 0


def test_every_torn_tail_is_cut_off(ledger: Path) -> None:
    """For every byte at which the last line is cut off: the lines before and after it are whole."""
    log(ledger, Outcome("1", "x"), Outcome("\N{SNOWMAN}", "x"))
    content = path_for(ledger).read_bytes()
    first = content.index(b"\n") + 1
    for size in range(first, len(content)):
        path_for(ledger).write_bytes(content[:size])
        log(ledger, Outcome("3", "x"))
        assert indices(ledger) == ["1", "3"]
        assert path_for(ledger).read_bytes().startswith(content[:first])


@given(st.lists(st.binary(max_size=20), max_size=3))
@settings(deadline=None)  # disks have slow moments
def test_damaged_lines_are_passed_over(
    tmp_path_factory: pytest.TempPathFactory, rubbish: list[bytes]
) -> None:
    """For every rubbish between its lines: the entries that are whole are read."""
    ledger = tmp_path_factory.getbasetemp() / "rubbish.jsonl"
    good = b'{"index": "good"}'
    odd = [b"{}", b'{"index": 1}', b"[]", b'"index"', *rubbish]
    path_for(ledger).write_bytes(b"\n".join([good, *odd, good]))
    assert [index for index in indices(ledger) if index == "good"] == ["good", "good"]


def test_fingerprints_are_those_of_the_last_output(ledger: Path) -> None:
    """A failed call answers nothing; an entry without a fingerprint tells nothing."""
    answer_1 = Outcome("1", "x", fingerprint="0000000000000001")
    answer_2 = Outcome("1", "x", fingerprint="00000000000000ff")
    failed = Outcome("1", None, fingerprint="00000000000000aa")
    log(ledger, answer_1, answer_2, failed, Outcome("2", None, fingerprint="01"), Outcome("3", "x"))
    found = fingerprints(ledger)
    assert [found.get(index) for index in "123"] == [fingerprint_number("ff"), None, None]


INDICES = st.text(max_size=4) | st.integers(0, 30).map(str)
PRINTS = st.integers(0, 3).map("{:016x}".format) | st.sampled_from(["", "xyz"])


@given(
    st.lists(
        st.tuples(INDICES, st.booleans(), PRINTS, st.sampled_from([b"", b"{}\n", b"rubbish\n"])),
        max_size=12,
    )
)
@settings(deadline=None)  # disks have slow moments
def test_fingerprints_are_what_reading_each_entry_tells(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, bool, str, bytes]]
) -> None:
    """For every call log, lines of others among ours: the quick way tells the same."""
    ledger = tmp_path_factory.getbasetemp() / "prints.jsonl"
    path_for(ledger).unlink(missing_ok=True)
    want: dict[str, int] = {}
    for index, is_ok, print_, between in entries:
        log(ledger, Outcome(index, "x" if is_ok else None, fingerprint=print_))
        with path_for(ledger).open("ab") as stream:
            stream.write(between)
    for entry in read(ledger):
        number = fingerprint_number(entry["fingerprint"])
        if entry["status"] == "ok" and number:
            want[entry["index"]] = number
    found = fingerprints(ledger)
    assert len(found) == len(want)
    assert {index: found.get(index) for index in want} == want


def test_the_input_of_the_last_run_is_found(ledger: Path) -> None:
    """Its line stands ahead of the run's first entry; a run that brought nothing left none."""
    assert last_input(ledger) is None
    for size, is_clean in ((10, True), (20, False)):
        calls = CallLog(ledger, SeenInput(size, f"d{size}", is_clean))
        calls.append([Outcome(f"{size}", "x")])
        calls.append([Outcome(f"{size + 1}", "x")])
        calls.close()
        assert last_input(ledger) == SeenInput(size, f"d{size}", is_clean)
    CallLog(ledger, SeenInput(30, "d30", is_clean=True)).close()
    assert last_input(ledger) == SeenInput(20, "d20", is_clean=False)
    assert indices(ledger) == ["10", "11", "20", "21"]
    assert path_for(ledger).read_bytes().count(b'{"run"') == 2


@pytest.mark.parametrize("line", ['{"run":', '{"run":5}', '{"run":{"size":1}}', '{"run":{"x":1}}'])
def test_an_input_that_cannot_be_read_is_none(ledger: Path, line: str) -> None:
    """Damage, or another version's words: the rows are looked at one by one instead."""
    path_for(ledger).write_text(line + "\n", encoding="utf-8")
    assert last_input(ledger) is None


def test_a_folder_in_its_place_is_an_error(ledger: Path) -> None:
    """The error names the path."""
    path_for(ledger).mkdir()
    with pytest.raises(LedgerError, match=r"output\.calls\.jsonl: cannot be read"):
        list(read(ledger))


def test_without_it_no_result_is_lost(stage: Stage) -> None:
    """After it is deleted a rerun calls no row again, and merge needs it not."""
    rows = [row(0), row(1), row(2, "[[fault:content_policy*1]]")]
    stage.run(rows)
    path_for(stage.output).unlink()
    stage.simulator.journal.clear()
    summary = stage.run()
    assert (summary.skipped, summary.done, summary.changed.count) == (2, 1, 0)
    assert len(stage.simulator.journal.calls) == 1
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}
    assert list(read_calls(stage.output)) == ["2"]


def test_one_in_ruins_loses_no_result(stage: Stage) -> None:
    """Rubbish in it stops no run and changes no row."""
    stage.run([row(0), row(1)])
    path_for(stage.output).write_bytes(b'\xff\x00{"index": 5}\n{"index": "0", "status": "ok"}\n[')
    stage.simulator.journal.clear()
    assert stage.run([row(0), row(1), row(2)]).skipped == 2
    assert len(stage.simulator.journal.calls) == 1
    assert indices(stage.output) == ["0", "2"]


def test_a_key_is_told_by_its_label_only(stage: Stage) -> None:
    """Position and last four characters, as the configuration numbers them."""
    stage.run([row(number) for number in range(9)])
    labels = {json.dumps(entry["key"], ensure_ascii=False) for entry in read(stage.output)}
    assert labels <= {'"#1(…0001)"', '"#2(…0002)"'}
    assert "sk-test" not in path_for(stage.output).read_text(encoding="utf-8")
