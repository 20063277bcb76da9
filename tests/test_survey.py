"""One pass over the input before anything is paid: what is done, what is left, what is wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import row

from jsonl_runner.errors import BadRowsError
from jsonl_runner.indexes import IndexMap, IndexSet
from jsonl_runner.reader import GroupReader
from jsonl_runner.records import fingerprint, fingerprint_number, to_record
from jsonl_runner.rows import parse_row
from jsonl_runner.summary import LISTED
from jsonl_runner.survey import Survey, survey

PATH = Path("d.jsonl")
BROKEN = "{broken"


def lines_of(*rows: dict[str, Any] | str) -> bytes:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows).encode()


def index_set(*indices: str) -> IndexSet:
    found = IndexSet()
    for index in indices:
        found.add(index)
    return found


def look(content: bytes, *done: str, answered: IndexMap | None = None, **options: Any) -> Survey:
    return survey(
        io.BytesIO(content),
        PATH,
        index_set(*done),
        answered=None if answered is None else lambda: answered,
        **options,
    )


def left_of(content: bytes, *done: str) -> list[str]:
    found: list[str] = []
    look(content, *done, each=lambda group, left: found.extend(map(group.index, left)))
    return found


def answered(*rows: dict[str, Any]) -> IndexMap:
    found = IndexMap()
    for item in rows:
        record = to_record(parse_row(json.dumps(item).encode()))
        found.set(record.index, fingerprint_number(fingerprint(record)))
    return found


def test_rows_done_and_to_do_are_counted() -> None:
    """A row is done if its index is, whether it is written as a string or as an integer."""
    found = look(lines_of(row(0), row("1"), row("a"), row(3)), "0", "1", "a", "elsewhere")
    assert (found.rows, found.skipped, found.todo) == (4, 3, 1)
    assert (found.bad.count, found.changed.count) == (0, 0)


def test_a_new_input_has_all_to_do() -> None:
    """Without a ledger every row is to do, from the first line."""
    found = survey(io.BytesIO(lines_of(row(0), row(1))), PATH)
    assert (found.rows, found.todo, found.start, found.lines_before) == (2, 2, 0, 0)


def test_rows_without_an_output_are_told_one_by_one() -> None:
    """In the order of the file, as strings; those that are done are not among them."""
    assert left_of(lines_of(row(3), row("a"), row(2), row(0)), "2") == ["3", "a", "0"]


def test_a_row_that_has_changed_is_named() -> None:
    """It keeps its output unless it is to be called again; a row of unknown content is taken so."""
    rows = [row(0), row(1), row(2)]
    content = lines_of(rows[0], row(1, "new"), rows[2])
    known = answered(rows[0], rows[1])
    kept = look(content, "0", "1", "2", answered=known)
    assert (kept.changed.examples, kept.skipped, kept.todo, kept.start) == (["1"], 3, 0, None)
    assert "1" not in kept.redo
    redone = look(content, "0", "1", "2", answered=known, redo_changed=True)
    assert (redone.changed.examples, redone.skipped, redone.todo) == (["1"], 2, 1)
    assert (len(redone.redo), "1" in redone.redo, redone.lines_before) == (1, True, 1)


def test_other_fields_and_the_order_of_fields_are_no_change() -> None:
    """Only what is sent counts as content: a tag more changes no row."""
    old = row(0, params={"a": 1, "b": 2})
    new = {"tag": 1, **dict(reversed(row("0", params={"b": 2, "a": 1}).items())), "more": None}
    found = look(lines_of(new), "0", answered=answered(old))
    assert found.changed.count == 0


def test_a_changed_row_that_is_not_done_is_merely_to_do() -> None:
    """Without an output there is nothing to be out of date."""
    found = look(lines_of(row(0, "new")), answered=answered(row(0)), redo_changed=True)
    assert (found.changed.count, found.todo) == (0, 1)


def test_bad_rows_are_no_rows() -> None:
    """They are listed in the order of the file and counted nowhere else."""
    content = lines_of(BROKEN, row(0), row(0), "", {"index": 1}, row(2))
    found = look(content, "0")
    assert (found.rows, found.skipped, found.todo) == (2, 1, 1)
    assert [(bad.file, bad.line) for bad in found.bad.first] == [("d.jsonl", n) for n in (1, 3, 5)]


def test_the_first_row_to_do_can_be_gone_to() -> None:
    """The byte and the line in front of it lead a reader to that row, past what is done."""
    content = b"\xef\xbb\xbf" + lines_of(row(0), "", BROKEN, row(1, "\N{SNOWMAN}"), row(2), row(3))
    found = look(content, "0", "1", "3")
    assert found.start is not None
    assert found.lines_before == 4
    reader = GroupReader(io.BytesIO(content), "d.jsonl")
    reader.start_at(found.start, found.lines_before)
    first = next(reader.groups()).record(0)
    assert (first.index, first.line) == ("2", 5)


def test_bad_rows_end_it_unless_they_are_to_be_left_out() -> None:
    """The first 20 are named with their line, the others counted; one is a row, not rows."""
    found = look(lines_of(row(0), *[BROKEN] * (LISTED + 2)))
    found.check("skip")
    with pytest.raises(BadRowsError, match=r"^d\.jsonl: 22 rows cannot be used; mend them") as many:
        found.check("fail")
    assert (many.value.count, many.value.exit_code) == (22, 2)
    assert [line.partition(": ")[0] for line in many.value.rows] == [
        *(f"d.jsonl:{number}" for number in range(2, 22)),
        "… and 2 more",
    ]
    with pytest.raises(BadRowsError, match=r"^d\.jsonl: 1 row cannot be used") as one:
        look(lines_of(BROKEN)).check("fail")
    assert len(one.value.rows) == 1
    look(lines_of(row(0))).check("fail")


@given(
    st.lists(st.integers(0, 12) | st.none(), max_size=20),
    st.sets(st.integers(0, 12)),
)
def test_the_numbers_add_up(indices: list[int | None], done: set[int]) -> None:
    """For every input and ledger: done and left are the rows, each row once."""
    content = lines_of(*(BROKEN if index is None else row(index) for index in indices))
    found = look(content, *map(str, done))
    rows = list(dict.fromkeys(index for index in indices if index is not None))
    assert found.rows == len(rows)
    assert found.rows + len(found.bad) == len(indices)
    assert found.skipped == len(done.intersection(rows))
    left = [index for index in rows if index not in done]
    assert left_of(content, *map(str, done)) == list(map(str, left))
    assert found.todo == len(left)
    assert (found.start is None) == (not left)
    if left:
        assert found.lines_before == indices.index(left[0])


def test_one_mistake_is_said_once() -> None:
    """Where all rows fail for one reason, it is the file's or the command's, and one line tells."""
    with pytest.raises(BadRowsError) as caught:
        look(lines_of(*({"index": k, "question": "x"} for k in range(30)))).check("fail")
    assert str(caught.value).startswith(
        'd.jsonl:1: it has no "instruction"; its fields are question'
    )
    assert str(caught.value).endswith("(and so for all 30 rows)")
    assert (caught.value.rows, caught.value.count) == ((), 30)
    for more, listed in ((BROKEN, 3), (row(9), 2)):
        with pytest.raises(BadRowsError) as caught:
            look(lines_of({"index": 0}, {"index": 1}, more)).check("fail")
        assert len(caught.value.rows) == listed, "of several mistakes, and beside good rows, each"
