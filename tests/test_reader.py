"""Rows read many at a time: what `RowReader` finds one by one, `GroupReader` finds too."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from jsonl_runner.indexes import Place, place_of
from jsonl_runner.reader import Group, GroupReader, RowReader, digest_of
from jsonl_runner.records import Record

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
INDICES = st.integers(-3, 12) | st.sampled_from(["0", "07", "a", "é", 'q"', "\\", "", 2**70, "1 "])
#: Rows of every sort: plain, with fields that need a look, and such as cannot be used.
ROWS = st.fixed_dictionaries(
    {"index": INDICES, "instruction": TEXTS},
    optional={
        "input": TEXTS | st.none() | st.just(5),
        "messages": st.none() | st.just([{"role": "user", "content": "x"}]),
        "params": st.just({"temperature": 0}),
        "tag": TEXTS | st.floats(0, 1) | st.just(10**20) | st.just(["x", {"index": 1}]),
        '"index"': st.just(1),
    },
)
LINES = st.lists(
    ROWS.map(lambda row: json.dumps(row).encode())
    | ROWS.map(lambda row: json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode())
    | st.sampled_from([b"", b" ", b"{", b"[]", b"\xff", b"null", b"x" * 130, b"\xef\xbb\xbf{}"]),
    max_size=12,
)
ENDS = st.sampled_from([b"", b"\n", b"\r\n"])
LONGEST = 120


class Dripping(io.BytesIO):
    """A file that gives a few bytes at a time, so that blocks end anywhere."""

    def __init__(self, content: bytes, step: int) -> None:
        super().__init__(content)
        self._step = step

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._step if size is None or size < 0 else min(size, self._step))


def groups_of(content: bytes, step: int = 10**6, **options: Any) -> list[Group]:
    return list(GroupReader(Dripping(content, step), "d", **options).groups())


def places_in(groups: list[Group]) -> list[Place]:
    return [place for group in groups for place in group.places]


def records_in(groups: list[Group]) -> list[Record]:
    return [group.record(which) for group in groups for which in range(len(group.places))]


@given(LINES, ENDS, st.integers(1, 400))
@example([b"x" * 500, b'{"index": 1, "instruction": "a"}'], b"", 7)
@example([b'{"index": 1, "instruction": "a"}'] * 2, b"\n", 400)
def test_many_at_a_time_is_one_by_one(lines: list[bytes], end: bytes, step: int) -> None:
    """For every file, in whatever blocks it comes: the same records and bad rows, with line."""
    content = b"\n".join(lines) + end
    rows = list(RowReader(io.BytesIO(content), "d", max_row_bytes=LONGEST).records())
    records = [row for row in rows if isinstance(row, Record)]
    groups = groups_of(content, step, max_row_bytes=LONGEST)
    assert [row for group in groups for row in group.bad] == [r for r in rows if r not in records]
    assert places_in(groups) == [place_of(record.index) for record in records]
    assert records_in(groups) == records


@given(LINES, ENDS, st.integers(1, 400))
def test_every_row_can_be_gone_to(lines: list[bytes], end: bytes, step: int) -> None:
    """For every row of every file: from its position on, the same rows come, and their lines."""
    content = b"\n".join(lines) + end
    groups = groups_of(content, step, max_row_bytes=LONGEST)
    records = records_in(groups)
    positions = [group.position(n) for group in groups for n in range(len(group.places))]
    for number, position in enumerate(positions):
        reader = GroupReader(Dripping(content, step), "d", max_row_bytes=LONGEST)
        reader.start_at(*position)
        left = records_in(list(reader.groups()))
        assert left[0] == records[number]
        assert [record for record in left if record in records] == records[number:]


@given(st.lists(ROWS, max_size=12), st.lists(ROWS, max_size=4), st.integers(1, 400))
@example([{"index": 1, "instruction": 'an "index" in a text'}], [], 400)
def test_known_rows_are_the_same_rows(
    rows: list[dict[str, Any]], more: list[dict[str, Any]], step: int
) -> None:
    """For every file that was good before, and may have grown: the same indices, and no other."""

    def lines_of(some: list[dict[str, Any]]) -> bytes:
        return b"".join(json.dumps(row).encode() + b"\n" for row in some)

    seen: set[str] = set()
    good = []
    for row in rows:
        if not groups_of(lines_of([row]))[0].bad and str(row["index"]) not in seen:
            seen.add(str(row["index"]))
            good.append(row)
    content = lines_of(good) + lines_of(more)
    told = groups_of(content, step, known=len(lines_of(good)))
    assert places_in(told) == places_in(groups_of(content))
    assert [str(b) for g in told for b in g.bad] == [
        str(b) for g in groups_of(content) for b in g.bad
    ]


@given(st.binary(max_size=50), st.integers(0, 60), st.integers(1, 20))
def test_the_digest_tells_whether_a_file_is_the_same(content: bytes, size: int, step: int) -> None:
    """For every file: that of its first bytes, and None when it is shorter; it is gone back to."""
    stream = Dripping(content, step)
    want = hashlib.sha256(content[:size]).hexdigest() if size <= len(content) else None
    assert digest_of(stream, size) == want
    assert stream.tell() == 0
    reader = GroupReader(stream, "d")
    assert list(reader.groups()) is not None
    assert (reader.size, reader.digest.hexdigest()) == (
        len(content),
        hashlib.sha256(content).hexdigest(),
    )
