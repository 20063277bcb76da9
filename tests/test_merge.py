"""Joining input and outputs: every row its own output, in input order, or no file at all."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import row, write_rows

from jsonl_runner.errors import BadRowsError, InputError, LedgerError
from jsonl_runner.ledger import line_of
from jsonl_runner.merge import MergeSummary, merge

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ROWS = [row(3), row("a"), row(1), row("\N{SNOWMAN}")]
INDICES = ["3", "a", "1", "\N{SNOWMAN}"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


class Desk:
    """An input, a ledger and a place for the merged file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data.jsonl"
        self.ledger = folder / "output.jsonl"
        self.target = folder / "merged.json"

    def lay(self, rows: list[dict[str, Any]], outputs: Iterable[tuple[str, str | None]]) -> None:
        write_rows(self.data, rows)
        self.ledger.write_bytes(b"".join(line_of(*entry) for entry in outputs))

    def merge(self, **options: Any) -> MergeSummary:
        return merge(self.data, self.ledger, self.target, **options)

    def merged(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.target.read_text(encoding="utf-8"))
        return found

    def outputs(self) -> list[tuple[str, str | None]]:
        return [(item["index"], item["output"]) for item in self.merged()]

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One desk for all the examples of a property."""
    return Desk(tmp_path_factory.mktemp("scratch"))


def test_rows_come_in_the_order_of_the_input(desk: Desk) -> None:
    """Whatever the order of the answers; every row is whole, with its index as a string."""
    desk.lay(ROWS, [(index, f"to {index}") for index in sorted(INDICES)])
    assert desk.merge() == MergeSummary(rows=4, written=4)
    assert desk.merged() == [
        {**item, "index": index, "output": f"to {index}"}
        for index, item in zip(INDICES, ROWS, strict=True)
    ]
    assert list(desk.merged()[0]) == ["index", "instruction", "input", "output"]


def test_other_fields_are_kept_behind(desk: Desk) -> None:
    """In their order and with their values; an "output" the row had becomes "reference"."""
    extra = {"tags": ["a", {"b": None}], "score": 0.1, "output": "old", "ok": True}
    desk.lay([{**extra, **row(1)}, {"index": 2, "messages": [{"role": "user"}]}], [("1", "new")])
    desk.merge(keep_null=True)
    first, second = desk.merged()
    own = ["tags", "score", "reference", "ok"]
    assert list(first) == ["index", "instruction", "input", "output", *own]
    assert first == {**row("1"), **extra, "output": "new", "reference": "old"}
    assert (second["instruction"], second["input"]) == ("", "")
    assert second["messages"] == [{"role": "user"}]


def test_an_output_and_a_reference_of_a_rows_own(desk: Desk) -> None:
    """The reference stays; that the row's output does not is told. A null is nothing to keep."""
    rows = [row(1, output="old", reference="mine"), row(2, output=None)]
    desk.lay(rows, [("1", "new"), ("2", "new")])
    (note,) = desk.merge().notes
    assert note.startswith('1 rows have an "output" and a "reference" of their own')
    first, second = desk.merged()
    assert (first["output"], first["reference"]) == ("new", "mine")
    assert "reference" not in second


@pytest.mark.parametrize("keep_null", [True, False])
def test_rows_without_an_output(desk: Desk, *, keep_null: bool) -> None:
    """Nulls and rows never answered are counted and left out, or kept with null on request."""
    desk.lay(ROWS, [("3", "x"), ("a", None), ("elsewhere", "y")])
    summary = desk.merge(keep_null=keep_null)
    kept: list[tuple[str, str | None]] = [(index, None) for index in INDICES[1:]]
    assert desk.outputs() == [("3", "x"), *(kept if keep_null else [])]
    assert (summary.rows, summary.without_output) == (4, 3)
    assert summary.written == (4 if keep_null else 1)


def test_the_last_output_counts_and_a_null_hides_none(desk: Desk) -> None:
    """Of several outputs the last; an empty text is an output."""
    desk.lay(ROWS[:2], [("3", "old"), ("3", "new"), ("3", None), ("a", None), ("a", "")])
    desk.merge()
    assert desk.outputs() == [("3", "new"), ("a", "")]


def test_a_ledger_of_another_input(desk: Desk) -> None:
    """Not one row of this input in it: an error that says so, and nothing is written."""
    desk.lay(ROWS, [("other", "x"), ("3", None)])
    for keep_null in (False, True):
        with pytest.raises(InputError, match=r"no output for any of the 4 rows of .*; is"):
            desk.merge(keep_null=keep_null)
    assert desk.files() == {"data.jsonl", "output.jsonl"}


def test_no_ledger_at_all(desk: Desk) -> None:
    """A missing ledger is no empty one: the error says how to make it."""
    write_rows(desk.data, ROWS)
    with pytest.raises(InputError, match=r"there is no such ledger; make it with jsonl-runner run"):
        desk.merge()
    assert desk.files() == {"data.jsonl"}


@pytest.mark.parametrize("way", ["same", "link", "hard link", "dots"])
@pytest.mark.parametrize("source", ["data", "ledger"])
def test_a_target_that_is_a_source(desk: Desk, source: str, way: str) -> None:
    """Neither input nor ledger is written over, by whatever name."""
    desk.lay(ROWS, [("3", "x")])
    path: Path = getattr(desk, source)
    if way == "same":
        desk.target = path
    elif way == "link":
        desk.target.symlink_to(path)
    elif way == "hard link":
        os.link(path, desk.target)
    else:
        (desk.folder / "sub").mkdir()
        desk.target = desk.folder / "sub" / ".." / path.name
    before = path.read_bytes()
    with pytest.raises(InputError, match="the merged file would overwrite"):
        desk.merge()
    assert path.read_bytes() == before


def test_a_failure_leaves_the_old_file(desk: Desk) -> None:
    """What goes wrong on the way, or after the last row, takes nothing away and leaves nothing."""
    desk.lay(ROWS, [("3", "x")])
    desk.target.write_text("old", encoding="utf-8")
    with desk.data.open("a", encoding="utf-8") as stream:
        stream.write("{broken\n")
    with pytest.raises(BadRowsError, match="1 row cannot be used") as caught:
        desk.merge()
    assert caught.value.rows[0].startswith(f"{desk.data}:5: not JSON")
    desk.ledger.write_bytes(b'{"other":"x"}\n')
    with pytest.raises(InputError):
        desk.merge(bad_rows="skip")
    assert desk.target.read_text(encoding="utf-8") == "old"
    assert desk.files() == {"data.jsonl", "output.jsonl", "merged.json"}


def test_bad_rows_can_be_left_out(desk: Desk) -> None:
    """On request the others are merged, and each bad row is told."""
    desk.lay([*ROWS, {"index": 7}], [("3", "x")])
    summary = desk.merge(bad_rows="skip")
    (bad,) = summary.bad_rows
    assert bad.startswith(f'{desk.data}:5: it has no "instruction"')
    assert (summary.rows, desk.outputs()) == (4, [("3", "x")])


def test_damage_in_the_ledger_is_told(desk: Desk) -> None:
    """The row of a damaged line is without an output, the line is named; a torn end is no row."""
    desk.lay(ROWS, [("3", "x")])
    with desk.ledger.open("ab") as stream:
        stream.write(b'{"a":"br\n{"1":"y"}\n{"\xe2\x98\x83":"to')
    summary = desk.merge()
    (damage,) = summary.damage
    assert damage.startswith(f"{desk.ledger}:2: not JSON")
    assert desk.outputs() == [("3", "x"), ("1", "y")]


def test_merging_twice_is_merging_once(desk: Desk) -> None:
    """The second file is the first, byte for byte, and takes its place with its mode."""
    desk.lay(ROWS, [(index, "x") for index in INDICES])
    desk.merge()
    first = desk.target.read_bytes()
    desk.target.chmod(0o640)
    desk.merge()
    assert desk.target.read_bytes() == first
    assert desk.target.stat().st_mode & 0o777 == 0o640
    assert desk.files() == {"data.jsonl", "output.jsonl", "merged.json"}


@pytest.mark.parametrize(
    ("name", "says"), [("none/m.json", "folder does not exist"), (".", "a directory")]
)
def test_a_place_where_no_file_can_be(desk: Desk, name: str, says: str) -> None:
    """The target is named with what is wrong, and nothing is left behind."""
    desk.lay(ROWS, [("3", "x")])
    desk.target = desk.folder / name
    with pytest.raises(LedgerError, match=says) as caught:
        desk.merge()
    assert str(caught.value).startswith(f"{desk.target}: ")
    assert desk.files() == {"data.jsonl", "output.jsonl"}


@given(data=st.data())
@settings(deadline=None)  # disks have slow moments
def test_the_order_of_the_ledger_does_not_matter(scratch: Desk, data: st.DataObject) -> None:
    """For every permutation of a ledger, with nulls in between: the same merged file."""
    outputs = [(index, f"to {index}" * 40) for index in INDICES]
    scratch.lay(ROWS, outputs)
    scratch.merge()
    want = scratch.target.read_bytes()
    nulls: list[tuple[str, str | None]] = [(index, None) for index in (*INDICES, "elsewhere")]
    scratch.lay(ROWS, data.draw(st.permutations([*outputs, *nulls])))
    scratch.merge()
    assert scratch.target.read_bytes() == want


@given(
    pairs=st.dictionaries(TEXTS.filter(bool), st.none() | TEXTS, min_size=1, max_size=6),
    more=st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=3),
)
@settings(deadline=None)  # disks have slow moments
def test_every_text_comes_out_as_it_went_in(
    scratch: Desk, pairs: dict[str, str | None], more: dict[str, str]
) -> None:
    """For every Unicode text: each row has its own output, last line without newline included."""
    outputs: dict[str, str | None] = {**more, **pairs, "sure": "x"}
    scratch.lay([row(index) for index in outputs], outputs.items())
    scratch.ledger.write_bytes(scratch.ledger.read_bytes().removesuffix(b"\n"))
    scratch.merge(keep_null=True)
    assert scratch.outputs() == list(outputs.items())


def test_a_long_number_is_merged_as_it_is(desk: Desk) -> None:
    """Extra fields are kept, or their row is named: never another value in silence."""
    desk.lay([row(1, id=12345678901234567890123)], [("1", "x")])
    try:
        desk.merge()
    except BadRowsError:
        return
    assert desk.merged()[0]["id"] == 12345678901234567890123
    assert "12345678901234567890123" in desk.target.read_text(encoding="utf-8")


def test_a_deeply_nested_field_is_merged_or_named(desk: Desk) -> None:
    """A row that the reader takes can be written."""
    nested: list[Any] = []
    for _ in range(300):
        nested = [nested]
    desk.lay([row(1, tree=nested)], [("1", "x")])
    try:
        desk.merge()
    except BadRowsError:
        return
    assert desk.merged()[0]["tree"] == nested
