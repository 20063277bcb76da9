"""Compacting: fewer lines, the same results, whatever goes wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import read_ledger, row, write_rows

from jsonl_runner.compact import compact
from jsonl_runner.errors import InputError, LedgerError, LedgerLockedError
from jsonl_runner.ledger import Ledger, line_of
from jsonl_runner.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
ENTRIES = st.lists(st.tuples(st.integers(0, 5).map(str) | TEXTS, st.none() | TEXTS), max_size=15)
Entry = tuple[str, str | None]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "output.jsonl"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of one ledger for all the examples of a property."""
    return tmp_path_factory.mktemp("scratch") / "output.jsonl"


def write(path: Path, entries: Iterable[Entry]) -> bytes:
    content = b"".join(line_of(*entry) for entry in entries)
    path.write_bytes(content)
    return content


def lines(path: Path) -> list[Entry]:
    """Return the entries of a ledger in its order, one a line."""
    found: list[Any] = []
    for line in path.read_bytes().splitlines():
        found += json.loads(line).items()
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@given(entries=ENTRIES)
@settings(deadline=None)  # disks have slow moments
def test_results_are_kept(scratch: Path, entries: list[Entry]) -> None:
    """For every ledger: one line an index, its last output or a null; again changes nothing."""
    content = write(scratch, entries)
    before = read_ledger(scratch)
    summary = compact(scratch)
    assert read_ledger(scratch) == before
    assert len(lines(scratch)) == len(before)
    assert (summary.entries_before, summary.entries_after) == (len(entries), len(before))
    assert (summary.bytes_before, summary.bytes_after) == (len(content), scratch.stat().st_size)
    once = scratch.read_bytes()
    compact(scratch)
    assert scratch.read_bytes() == once
    assert names(scratch.parent) <= {scratch.name, "data.jsonl"}


@given(entries=ENTRIES, order=st.lists(st.integers(0, 7), unique=True))
@settings(deadline=None)  # disks have slow moments
def test_an_order_that_is_asked_for(scratch: Path, entries: list[Entry], order: list[int]) -> None:
    """For every ledger and input: the input's rows in its order, then the others; none lost."""
    write(scratch, entries)
    before = read_ledger(scratch)
    data = write_rows(scratch.parent / "data.jsonl", [row(99), *map(row, order)])
    compact(scratch, data)
    assert read_ledger(scratch) == before
    found = [index for index, _ in lines(scratch)]
    first = [str(index) for index in order if str(index) in before]
    assert found[: len(first)] == first
    assert set(found[len(first) :]) == set(before) - set(first)


def test_without_an_order_the_answers_keep_theirs(ledger: Path) -> None:
    """Each index stands where its last output stood, or its last null."""
    entries: list[Entry] = [("b", "1"), ("c", None), ("a", "2"), ("b", "3"), ("a", None)]
    entries.append(("c", None))
    write(ledger, entries)
    compact(ledger)
    assert lines(ledger) == [("a", "2"), ("b", "3"), ("c", None)]


def test_damaged_lines_are_moved_aside(ledger: Path) -> None:
    """They are named, kept byte for byte in a file of their own, and gone from the ledger."""
    ledger.write_bytes(b'{"0":"a"}\n{"1":"br\n\n\xff\n{"2":"c"}\n')
    summary = compact(ledger)
    first, second = summary.damage
    assert first.startswith(f"{ledger}:2: not JSON")
    assert second.startswith(f"{ledger}:4: not JSON")
    assert ledger.read_bytes() == b'{"0":"a"}\n{"2":"c"}\n'
    assert ledger.with_name("output.jsonl.damaged").read_bytes() == b'{"1":"br\n\xff\n'
    ledger.write_bytes(b'{"0":"a"}\n{"3":"br\n')
    compact(ledger)
    assert ledger.with_name("output.jsonl.damaged").read_bytes() == b'{"1":"br\n\xff\n{"3":"br\n'


def test_a_last_line_that_lacks_its_newline_gets_it(ledger: Path) -> None:
    """It is whole, so it counts."""
    ledger.write_bytes(b'{"0":"a"}\n{"1":"b"}')
    compact(ledger)
    assert ledger.read_bytes() == b'{"0":"a"}\n{"1":"b"}\n'


def test_a_torn_last_line_is_told(ledger: Path) -> None:
    """Nothing goes without a word."""
    ledger.write_bytes(b'{"0":"a"}\n{"1":"to')
    assert compact(ledger).damage != []


def test_a_ledger_that_is_being_written_is_left_alone(ledger: Path) -> None:
    """While a run holds it: an error, and not a byte is changed."""
    content = write(ledger, [("0", None), ("0", "a")])
    run = Ledger(ledger)
    try:
        with pytest.raises(LedgerLockedError, match="another run is writing it"):
            compact(ledger)
        assert ledger.read_bytes() == content
        run.append([Outcome("1", "b")])
    finally:
        run.close()
    assert compact(ledger).entries_after == 2
    assert names(ledger.parent) == {"output.jsonl"}


def test_a_run_can_go_on_with_it(ledger: Path) -> None:
    """A compacted ledger opens without a note and is appended to."""
    write(ledger, [("0", None), ("0", "a"), ("1", None)])
    compact(ledger)
    run = Ledger(ledger)
    assert (run.notes, len(run.found.done), len(run.found.nulls)) == ([], 1, 1)
    run.append([Outcome("1", "b")])
    run.close()
    assert read_ledger(ledger) == {"0": "a", "1": "b"}


def test_its_mode_is_preserved(ledger: Path) -> None:
    """A ledger that only its owner may read stays so."""
    write(ledger, [("0", "a")])
    ledger.chmod(0o600)
    compact(ledger)
    assert ledger.stat().st_mode & 0o777 == 0o600


def test_what_is_not_there(ledger: Path) -> None:
    """No ledger, or no input for the order: an error, the old ledger and no other file."""
    with pytest.raises(InputError, match="there is no such ledger"):
        compact(ledger)
    assert names(ledger.parent) == set()
    content = write(ledger, [("0", None), ("0", "a")])
    with pytest.raises(InputError, match="there is no such file"):
        compact(ledger, ledger.with_name("none"))
    assert ledger.read_bytes() == content
    assert names(ledger.parent) == {"output.jsonl"}


def test_a_file_that_is_no_ledger_is_not_rewritten(ledger: Path) -> None:
    """Notes given by mistake stay as they are."""
    ledger.write_text("my notes\n", encoding="utf-8")
    with pytest.raises(LedgerError, match="this file is no ledger"):
        compact(ledger)
    assert ledger.read_text(encoding="utf-8") == "my notes\n"
    assert names(ledger.parent) == {"output.jsonl"}


def test_bad_rows_of_the_order_are_passed_over(ledger: Path) -> None:
    """An order is only an order: rows that cannot be used, or stand twice, hinder nothing."""
    write(ledger, [("0", "a"), ("1", "b"), ("2", "c")])
    data = ledger.with_name("data.jsonl")
    data.write_text('{broken\n{"index": 2, "instruction": "x"}\n{"index": 2}\n', encoding="utf-8")
    compact(ledger, data)
    assert [index for index, _ in lines(ledger)] == ["2", "0", "1"]


def test_a_failure_copies_no_damage(ledger: Path) -> None:
    """Where the old ledger stays, its damaged lines are still in it, and nowhere else."""
    ledger.write_bytes(b'{"0":"a"}\n{"1":"br\n')
    with pytest.raises(InputError):
        compact(ledger, ledger.with_name("none"))
    assert names(ledger.parent) == {"output.jsonl"}


def test_a_place_for_damage_that_cannot_be_written(ledger: Path) -> None:
    """It is a LedgerError, and the old ledger stays."""
    ledger.write_bytes(b'{"0":"a"}\n{"1":"br\n')
    ledger.with_name("output.jsonl.damaged").mkdir()
    with pytest.raises(LedgerError):
        compact(ledger)


def test_a_link_to_a_ledger_stays_a_link(ledger: Path) -> None:
    """The ledger that the link leads to is compacted."""
    real = ledger.with_name("real.jsonl")
    write(real, [("0", None), ("0", "a")])
    ledger.symlink_to(real)
    compact(ledger)
    assert ledger.is_symlink()
    assert lines(real) == [("0", "a")]
