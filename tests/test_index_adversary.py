"""The index file against everything that may happen to four files between two runs."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_support import Desk
from support import row, write_rows

from jsonl_runner.indexfile import path_for
from jsonl_runner.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: So long a text that some rows fill a stretch of the input.
TEXT = "x" * 60_000
ROWS = 12

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no time of change that nobody can set")


class Bench(Desk):
    """A desk whose files an adversary may get at between two visits."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder)
        for path in folder.iterdir():
            path.unlink()
        self.name = name
        self.index = path_for(self.output)
        self.older: list[bytes] = []
        write_rows(self.data, [self.row(number) for number in range(ROWS)])
        self.settle()
        self._other_ledger()

    def row(self, number: int) -> dict[str, Any]:
        return row(f"{self.name}{number}", TEXT)

    def _other_ledger(self) -> None:
        """Make an index file that is whole, and of another ledger."""
        other = self.output.with_name("other.jsonl")
        self.visit(*(Outcome(f"{self.name}{n}", "y") for n in range(0, ROWS, 2)), output=other)
        self.older.append(path_for(other).read_bytes())

    def keep(self) -> None:
        """Keep the index file as it is, to be put back later."""
        if self.index.exists():
            self.older.append(self.index.read_bytes())

    def overwrite(self, path: Path, content: bytes) -> None:
        """Change a file where it stands; but for the time of change it is as it was."""
        before = path.stat()
        after_a_tick(path)
        with path.open("r+b") as stream:
            stream.write(content)
            stream.truncate()
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def truth(self) -> list[str]:
        """Return the rows without an output, by the two files alone."""
        done = set()
        lines = self.output.read_bytes().split(b"\n") if self.output.exists() else []
        for line in lines:
            try:
                ((index, output),) = json.loads(line).items()
            except ValueError:
                continue
            if output is not None:
                done.add(index)
        return [index for index in map(index_of, rows_of(self.data)) if index and index not in done]


def after_a_tick(path: Path) -> None:
    """Wait until the clock of the files has gone on since a file was changed."""
    clock = path.with_name("clock")
    while True:
        clock.write_bytes(b"")
        if clock.stat().st_ctime_ns > path.stat().st_ctime_ns:
            return
        time.sleep(0.001)


def rows_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def index_of(line: bytes) -> str | None:
    """Return the index of a row, None of one that cannot be used."""
    try:
        return str(json.loads(line)["index"])
    except ValueError:
        return None


def flipped(bench: Bench, at: int) -> None:
    if bench.index.exists():
        content = bytearray(bench.index.read_bytes())
        content[at % len(content)] ^= 1 + at % 255
        bench.index.write_bytes(content)


def torn(bench: Bench, at: int) -> None:
    if bench.index.exists():
        os.truncate(bench.index, at % (bench.index.stat().st_size + 1))


def put_back(bench: Bench, at: int) -> None:
    bench.index.write_bytes(bench.older[at % len(bench.older)])


def line_by_hand(bench: Bench, at: int) -> None:
    output = None if at % 3 == 0 else "by hand"
    with bench.output.open("ab") as stream:
        stream.write(json.dumps({f"{bench.name}{at % ROWS}": output}).encode() + b"\n")


def torn_line(bench: Bench, at: int) -> None:
    with bench.output.open("ab") as stream:
        stream.write(b'{"' + str(at).encode())


def line_gone(bench: Bench, at: int) -> None:
    if bench.output.exists() and (lines := rows_of(bench.output)):
        del lines[at % len(lines)]
        bench.overwrite(bench.output, b"".join(lines))


def output_gone_in_place(bench: Bench, at: int) -> None:
    """Make an output null, or of an index that is none, and leave size and time as they were."""
    if bench.output.exists() and (lines := rows_of(bench.output)):
        which = at % len(lines)
        lines[which] = lines[which].replace(b'"yes"', b"null ").replace(b'"t', b'"u')
        bench.overwrite(bench.output, b"".join(lines))


def ledger_of_before(bench: Bench, at: int) -> None:
    """Put a ledger back that had fewer lines, as from a backup, and go on with it by hand."""
    if bench.output.exists():
        lines = rows_of(bench.output)
        bench.output.unlink()
        bench.output.write_bytes(b"".join(lines[: at % (len(lines) + 1)]))
        if at % 2:
            line_by_hand(bench, at)


def row_changed_in_place(bench: Bench, at: int) -> None:
    lines = rows_of(bench.data)
    which = at % len(lines)
    lines[which] = lines[which].replace(b"xxxx", b"yyyy", 1)
    bench.overwrite(bench.data, b"".join(lines))


def row_spoilt_in_place(bench: Bench, at: int) -> None:
    lines = rows_of(bench.data)
    which = at % len(lines)
    lines[which] = lines[which].replace(b"}", b" ", 1)
    bench.overwrite(bench.data, b"".join(lines))


def indices_changed_in_place(bench: Bench, at: int) -> None:
    lines = rows_of(bench.data)
    which = at % len(lines)
    lines[which] = lines[which].replace(b'"index": "%s' % bench.name.encode(), b'"index": "9', 1)
    if len({index_of(line) for line in lines}) == len(lines):
        bench.overwrite(bench.data, b"".join(lines))


def row_put_between(bench: Bench, at: int) -> None:
    lines = rows_of(bench.data)
    new = ROWS + len(lines) + at
    lines.insert(at % len(lines), json.dumps(bench.row(new)).encode() + b"\n")
    if len({index_of(line) for line in lines}) == len(lines):
        bench.overwrite(bench.data, b"".join(lines))
        bench.settle()


def rows_in_another_order(bench: Bench, at: int) -> None:
    lines = rows_of(bench.data)
    other = bench.data.with_name("other-data.jsonl")
    other.write_bytes(b"".join(lines[at % len(lines) :] + lines[: at % len(lines)]))
    before = bench.data.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(bench.data)


def no_call_log(bench: Bench, _: int) -> None:
    bench.output.with_name("output.calls.jsonl").unlink(missing_ok=True)


def log_of_before(bench: Bench, at: int) -> None:
    log = bench.output.with_name("output.calls.jsonl")
    if log.exists():
        os.truncate(log, at % (log.stat().st_size + 1))


def answered(bench: Bench, at: int) -> None:
    """A run that is over, or killed: then the index file is that of before."""
    left = bench.truth()
    outcomes = [
        Outcome(index, None if (at >> number) % 5 == 0 else "yes")
        for number, index in enumerate(left)
        if (at >> number) % 2
    ]
    bench.keep()
    bench.visit(*outcomes)


STEPS: list[Callable[[Bench, int], None]] = [
    answered,
    answered,
    flipped,
    torn,
    put_back,
    line_by_hand,
    torn_line,
    line_gone,
    output_gone_in_place,
    ledger_of_before,
    row_changed_in_place,
    row_spoilt_in_place,
    indices_changed_in_place,
    row_put_between,
    rows_in_another_order,
    no_call_log,
    log_of_before,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all the examples of a property."""
    return tmp_path_factory.mktemp("bench")


@given(
    st.sampled_from(["", "t"]),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2**16)), min_size=1, max_size=8),
)
@settings(deadline=None, max_examples=400 if os.environ.get("EVERY_STEP") else 25)
def test_no_row_is_left_out_and_none_is_done_twice(
    folder: Path, name: str, steps: list[tuple[Callable[[Bench, int], None], int]]
) -> None:
    """For every history of runs, kills, copies and edits: the rows to do are those without output.

    Edits in place keep a file's size and its time: the time of change alone gives them away.
    (EVERY_STEP=1 takes many histories.)
    """
    bench = Bench(folder, name)
    answered(bench, 0b1011_0110)
    for step, at in steps:
        step(bench, at)
        want = bench.truth()
        found, left = bench.visit()
        assert left == want, step.__name__
        assert found.todo == len(want), step.__name__
