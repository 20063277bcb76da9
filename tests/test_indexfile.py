"""The index file: a rerun reads neither ledger nor input again, and misses nothing for it."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_support import Desk
from support import read_ledger, row, write_rows

from jsonl_runner.compact import compact
from jsonl_runner.errors import LedgerError
from jsonl_runner.indexfile import SEGMENT, forget, load, path_for
from jsonl_runner.ledger import Ledger, Scan, scan
from jsonl_runner.records import Outcome
from jsonl_runner.status import status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support import Stage


#: Small integers and texts; of each kind so few that they come again.
INDICES = st.integers(0, 9).map(str) | st.sampled_from(["a", "b", "07", "ä", "\u2028"])
OUTCOMES = st.lists(st.builds(Outcome, INDICES, st.none() | st.sampled_from(["yes", ""])))
DAMAGED = st.sampled_from([b'{"torn\n', b"\0\0\0\n", b"\n", b'{"0":"by hand"}\n', b'{"x":null}\n'])


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of one ledger for all the examples of a property."""
    return tmp_path_factory.mktemp("scratch") / "output.jsonl"


def said(found: Scan) -> dict[str, Any]:
    """Return what a scan tells, whichever way it was come by."""
    asked = [*map(str, range(10)), "a", "b", "07", "ä", "\u2028", "x", "new"]
    return {
        "done": [index for index in asked if index in found.done],
        "nulls": [index for index in asked if index in found.nulls],
        "counts": (len(found.done), len(found.nulls), found.lines, found.end, found.tail),
        "damage": found.damage,
        "digests": found.segments.digests(),
    }


def read_anew(ledger: Path) -> Scan:
    """Return what a ledger holds without its index file."""
    index = path_for(ledger)
    aside = index.with_name("aside")
    index.replace(aside)
    try:
        return scan(ledger)
    finally:
        aside.replace(index)


@given(st.lists(st.tuples(OUTCOMES, st.lists(DAMAGED, max_size=2)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)  # disks have slow moments
def test_with_or_without_an_index_file_a_ledger_holds_the_same(
    scratch: Path, runs: list[tuple[list[Outcome], list[bytes]]]
) -> None:
    """For every row of runs, with lines of others behind some of them."""
    scratch.unlink(missing_ok=True)
    forget(scratch)
    scratch.write_bytes(b'{"new":"first"}\n')
    for outcomes, others in runs:
        ledger = Ledger(scratch, "off", indexed_from=0)
        for outcome in outcomes:
            ledger.append([outcome])
        held = said(ledger.found)
        ledger.close()
        assert load(scratch) is not None
        assert said(scan(scratch)) == held | {
            "counts": (*held["counts"][:3], size_of(scratch), b"")
        }
        with scratch.open("ab") as stream:
            stream.writelines(others)
        assert load(scratch) is not None  # it has grown, and begins with what it was
        assert said(scan(scratch)) == said(read_anew(scratch))


def size_of(path: Path) -> int:
    return path.stat().st_size


def write_large(ledger: Path, rows: int = 44) -> None:
    """Write a ledger of more than two segments, a megabyte a row, and its index file."""
    text = "x" * (1024 * 1024)
    assert rows * len(text) > 2.5 * SEGMENT
    with ledger.open("w", encoding="utf-8") as stream:
        stream.writelines(f'{{"{number}":"{text}"}}\n' for number in range(rows))
    Ledger(ledger, "off").close()
    assert load(ledger) is not None


def overwrite(ledger: Path, old: bytes, new: bytes) -> None:
    """Change some bytes where they stand; the file says that it was never touched."""
    before = ledger.stat()
    with ledger.open("r+b") as stream:
        content = stream.read()
        stream.seek(content.index(old))
        stream.write(new)
    os.utime(ledger, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(old) == len(new)


def without_a_line(ledger: Path) -> None:
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:20] + lines[21:]))


def replaced(ledger: Path) -> None:
    before = ledger.stat()
    other = ledger.with_name("other")
    other.write_bytes(ledger.read_bytes().replace(b'{"20":', b'{"xx":'))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(ledger)


def cut(ledger: Path) -> None:
    os.truncate(ledger, size_of(ledger) - 2 * 1024 * 1024)


def zeroed(ledger: Path) -> None:
    """Leave what a power cut leaves of lines that were not on the disk."""
    with ledger.open("r+b") as stream:
        stream.seek(-2 * 1024 * 1024, os.SEEK_END)
        stream.write(bytes(2 * 1024 * 1024))


def emptied_of_an_output(ledger: Path) -> None:
    """Change neither size nor time, far from beginning and end."""
    overwrite(ledger, b'{"20":"xxxxxx', b'{"xx":"xxxxxx')


def compacted(ledger: Path) -> None:
    overwrite(ledger, b'{"7":"', b'{"8":"')
    compact(ledger)


def cut_and_grown(ledger: Path) -> None:
    cut(ledger)
    with ledger.open("ab") as stream:
        stream.write(b'xx"}\n{"new":"' + b"y" * (3 * 1024 * 1024) + b'"}\n')


TAMPERINGS: dict[str, Callable[[Path], object]] = {
    "a line less": without_a_line,
    "another file of its size and time": replaced,
    "cut": cut,
    "zeros": zeroed,
    "an output less, in place": emptied_of_an_output,
    "empty": lambda ledger: ledger.write_bytes(b""),
    "shorter, then longer": cut_and_grown,
    "compacted": compacted,
}


@pytest.mark.parametrize("tampering", TAMPERINGS.values(), ids=TAMPERINGS)
@pytest.mark.skipif(os.name == "nt", reason="there is no time of change that nobody can set")
def test_a_ledger_that_was_changed_is_read_anew(
    tmp_path: Path, tampering: Callable[[Path], object]
) -> None:
    """Whatever is done to a ledger between two runs: it counts as what it is now."""
    ledger = tmp_path / "output.jsonl"
    write_large(ledger)
    tampering(ledger)
    assert load(ledger) is None
    found = scan(ledger)
    path_for(ledger).unlink(missing_ok=True)
    assert said(found) == said(scan(ledger))


@pytest.mark.parametrize("change", ["touched", "copied", "grown"])
def test_a_ledger_that_is_the_same_by_its_digest_is_not_scanned(
    tmp_path: Path, change: str
) -> None:
    """A copy, a new time of change, lines of a killed run: what is known stays known."""
    ledger = tmp_path / "output.jsonl"
    write_large(ledger)
    if change == "touched":
        os.utime(ledger)
    elif change == "copied":
        copy = tmp_path / "copy.jsonl"
        shutil.copy(ledger, copy)
        shutil.copy(path_for(ledger), path_for(copy))
        ledger = copy
    else:
        with ledger.open("ab") as stream:
            stream.write(b'{"new":null}\n{"torn')
    kept = load(ledger)
    assert kept is not None
    assert (len(kept.done), kept.is_current) == (44, False)
    assert said(scan(ledger)) == said(read_anew(ledger))


@given(st.data())
@settings(deadline=None)
def test_a_damaged_index_file_is_as_none(scratch: Path, data: st.DataObject) -> None:
    """For every byte that is another, and every end that is missing: the ledger is read."""
    scratch.write_bytes(b'{"0":"yes"}\n{"a":null}\n{"b":"no"}\n')
    forget(scratch)
    Ledger(scratch, "off", indexed_from=0).close()
    content = bytearray(path_for(scratch).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    path_for(scratch).write_bytes(content)
    assert load(scratch) is None
    assert said(scan(scratch))["done"] == ["0", "b"]


@pytest.mark.parametrize("foreign", [b"", b"jsonl-runner index file 0\n", b'{"0":"yes"}\n', None])
def test_an_index_file_of_something_else_is_replaced(tmp_path: Path, foreign: bytes | None) -> None:
    """A file of another version or program is written over; a folder in its place is no harm."""
    ledger = tmp_path / "output.jsonl"
    if foreign is None:
        path_for(ledger).mkdir()
    else:
        path_for(ledger).write_bytes(foreign)
    ledger.write_bytes(b'{"0":"yes"}\n')
    opened = Ledger(ledger, "off", indexed_from=0)
    opened.append([Outcome("1", "yes")])
    opened.close()
    assert read_ledger(ledger) == {"0": "yes", "1": "yes"}
    assert (load(ledger) is None) == (foreign is None)


def test_an_index_file_of_another_ledger_is_none(tmp_path: Path) -> None:
    """Two ledgers whose index files changed places are both read."""
    for name, index in (("a", "0"), ("b", "1")):
        (tmp_path / name).write_bytes(b'{"%s":"yes"}\n' % index.encode())
        Ledger(tmp_path / name, "off", indexed_from=0).close()
    path_for(tmp_path / "a").replace(path_for(tmp_path / "b"))
    assert load(tmp_path / "b") is None


def test_a_small_ledger_has_none(stage: Stage) -> None:
    """Beside a small ledger there is no file more than ever."""
    stage.run([row(number) for number in range(10)])
    assert not path_for(stage.output).exists()


def test_who_only_looks_writes_none(stage: Stage) -> None:
    """Only who holds the lock writes it."""
    stage.run([row(0)])
    stage.output.write_bytes(b'{"0":"%s"}\n' % (b"x" * SEGMENT))
    status(stage.data, stage.output)
    assert not path_for(stage.output).exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_after_a_full_disk_no_index_file_tells_of_half_a_group(tmp_path: Path) -> None:
    """Of a group that was written in part, the rows that stand in the ledger are done."""
    import resource  # noqa: PLC0415  # POSIX only
    import signal  # noqa: PLC0415

    ledger = tmp_path / "output.jsonl"
    opened = Ledger(ledger, "off", indexed_from=0)
    opened.append([Outcome("0", "yes")])
    opened.keep()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
        with pytest.raises(LedgerError):
            opened.append([Outcome(str(number), "yes") for number in range(1, 9)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    opened.close()
    assert sorted(read_ledger(ledger)) == ["0", "1", "2"]
    assert said(scan(ledger))["done"] == ["0", "1", "2"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def many(prefix: str, count: int = 9000) -> list[dict[str, Any]]:
    return [row(f"{prefix}{number}", f"question {number:100}") for number in range(count)]


def answer(rows: list[dict[str, Any]], which: range) -> list[Outcome]:
    return [Outcome(str(rows[number]["index"]), "yes") for number in which]


@pytest.mark.parametrize("prefix", ["", "text-"])
def test_a_rerun_reads_what_is_left_alone(desk: Desk, prefix: str) -> None:
    """An input that is what it was is not read to begin with, then only where rows are left."""
    rows = many(prefix)
    write_rows(desk.data, rows)
    desk.settle()
    _, left = desk.visit(*answer(rows, range(8000)), Outcome(f"{prefix}8500", None))
    assert len(left) == 9000
    assert desk.read >= desk.size()
    found, left = desk.visit(*answer(rows, range(8000, 8990)))
    assert desk.read == 0
    assert (found.rows, found.skipped, found.todo) == (9000, 8000, 1000)
    assert left == [f"{prefix}{number}" for number in range(8000, 9000)]
    found, left = desk.visit()
    assert (desk.read, found.todo) == (0, 10)
    assert left == [f"{prefix}{number}" for number in range(8990, 9000)]
    assert found.start is not None
    assert found.start > desk.size() / 2


@pytest.mark.parametrize("prefix", ["", "text-"])
def test_after_a_kill_what_came_last_is_counted(desk: Desk, prefix: str) -> None:
    """Lines behind what the index file covers are read, and their rows are done."""
    rows = many(prefix)
    write_rows(desk.data, rows)
    desk.settle()
    desk.visit(*answer(rows, range(5000)))
    kept = path_for(desk.output).read_bytes()
    desk.visit(*answer(rows, range(5000, 7000)), Outcome(f"{prefix}8000", "yes"))
    path_for(desk.output).write_bytes(kept)
    found, left = desk.visit()
    assert (found.rows, found.todo) == (9000, 1999)
    assert left == [f"{prefix}{n}" for n in range(7000, 9000) if n != 8000]
    assert desk.read < desk.size() * 0.7
    assert desk.visit()[0].todo == 1999
    assert desk.read == 0


def edited(desk: Desk) -> None:
    before = desk.data.stat()
    with desk.data.open("r+b") as stream:
        at = stream.read().index(b"question", desk.size() // 2)
        stream.seek(at)
        stream.write(b"QUESTION")
    os.utime(desk.data, ns=(before.st_atime_ns, before.st_mtime_ns))


def swapped(desk: Desk) -> None:
    other = desk.data.with_name("other.jsonl")
    write_rows(other, reversed(many("text-")))
    other.replace(desk.data)


def lengthened(desk: Desk) -> None:
    with desk.data.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(item) + "\n" for item in [row("new"), row("text-3")])


INPUT_CHANGES: dict[str, Callable[[Desk], object]] = {
    "edited in place": edited,
    "other rows of its size": swapped,
    "longer": lengthened,
    "shorter": lambda desk: os.truncate(desk.data, desk.size() // 2),
    "no row at all": lambda desk: desk.data.write_bytes(b"\n"),
    "touched": lambda desk: os.utime(desk.data),
    "the call log gone": lambda desk: desk.output.with_name("output.calls.jsonl").unlink(),
}


@pytest.mark.parametrize("change", INPUT_CHANGES.values(), ids=INPUT_CHANGES)
@pytest.mark.skipif(os.name == "nt", reason="there is no time of change that nobody can set")
def test_another_input_is_looked_at(desk: Desk, change: Callable[[Desk], object]) -> None:
    """Whatever is done to the input: a run sees what it would see without an index file."""
    rows = many("text-", 5000)
    write_rows(desk.data, rows)
    desk.settle()
    desk.visit(*answer(rows, range(4000)))
    change(desk)
    content = desk.output.read_bytes()
    without = desk.output.with_name("without.jsonl")
    without.write_bytes(content)
    log = desk.output.with_name("output.calls.jsonl")
    if log.exists():
        shutil.copy(log, without.with_name("without.calls.jsonl"))
    found, left = desk.visit()
    want, want_left = desk.visit(output=without)
    assert left == want_left
    assert (found.rows, found.skipped, found.changed, found.bad) == (
        want.rows,
        want.skipped,
        want.changed,
        want.bad,
    )
    assert (found.size, found.digest) == (want.size, want.digest)


def test_rows_answered_for_another_input_are_noticed(desk: Desk) -> None:
    """Between two runs over one input, another one of the same indices was run: rows changed."""
    rows = many("text-", 3000)
    write_rows(desk.data, rows)
    desk.settle()
    desk.visit(*answer(rows, range(2000)))
    before = path_for(desk.output).read_bytes()
    own = desk.data
    desk.data = own.with_name("other.jsonl")
    write_rows(desk.data, [item | {"input": "another"} for item in rows])
    desk.visit(Outcome("text-2500", "yes", fingerprint="1" * 16))
    desk.data = own
    path_for(desk.output).write_bytes(before)  # a version that knows of no index file ran it
    found, _ = desk.visit()
    assert found.changed.examples == ["text-2500"]


@given(
    st.lists(st.integers(0, 400), unique=True, min_size=1, max_size=60) | st.just(list(range(60))),
    st.sets(st.integers(0, 400)),
    st.sampled_from(["", "t"]),
)
@settings(deadline=None, max_examples=40)
def test_rows_by_offsets_are_the_rows(
    scratch: Path, numbers: list[int], done: set[int], name: str
) -> None:
    """For every input and everything that is done: what is left is the same, in its order."""
    desk = Desk(scratch.parent)
    write_rows(desk.data, [row(f"{name}{number}") for number in numbers])
    desk.output.unlink(missing_ok=True)
    forget(desk.output)
    desk.output.with_name("output.calls.jsonl").unlink(missing_ok=True)
    desk.settle()
    desk.visit(*(Outcome(f"{name}{number}", "yes") for number in sorted(done)))
    found, left = desk.visit()
    assert left == [f"{name}{number}" for number in numbers if number not in done]
    assert (found.rows, found.todo) == (len(numbers), len(left))


def test_a_run_goes_on_by_its_index_file(stage: Stage) -> None:
    """Through the socket: by four runs nothing is paid twice, and nothing is left out."""
    rows = [row(number) for number in range(300)]
    stage.output.write_bytes(b'{"7":"%s"}\n' % (b"x" * SEGMENT))
    first = stage.run(rows, job={"choice": choice(100)})
    assert path_for(stage.output).exists()
    second = stage.run(job={"choice": choice(100)})
    stage.simulator.journal.clear()
    third = stage.run()
    assert (first.skipped, second.skipped, third.skipped) == (1, 101, 201)
    assert [run.done for run in (first, second, third)] == [100, 100, 99]
    assert len(stage.simulator.journal.calls) == 99
    assert len(read_ledger(stage.output)) == 300
    fourth = stage.run()
    assert (fourth.rows, fourth.skipped, fourth.exit_code) == (300, 300, 0)


def choice(limit: int) -> Any:
    from jsonl_runner.choice import Choice  # noqa: PLC0415

    return Choice(limit=limit)


def test_paid_answers_are_found_behind_what_was_read_before(stage: Stage) -> None:
    """The call log is read from where its answers may be of use, and none of these is missed."""

    def fails(text: str) -> str:
        raise ValueError("not yet")

    rows = [row(number) for number in range(20)]
    rows[3] = row(3, "row 3 [[fault:context_length*1]]")
    stage.output.write_bytes(b'{"19":"%s"}\n' % (b"x" * SEGMENT))
    log = stage.output.with_name("output.calls.jsonl")
    first = stage.run(rows, job={"choice": choice(10)})
    assert (first.done, first.failed) == (9, 1)
    read_before = size_of(log)
    second = stage.run(job={"choice": choice(5)}, post=fails)  # a null and four more
    assert second.failed == 5
    kept = load(stage.output)
    assert kept is not None
    assert kept.input is not None
    assert kept.input.recall_from == read_before
    stage.simulator.journal.clear()
    third = stage.run(post=str.upper)
    assert (third.done, third.failed, third.exit_code) == (10, 0, 0)
    assert len(stage.simulator.journal.calls) == 5, "five of the ten were paid for before"
    fourth = load(stage.output)
    assert fourth is not None
    assert fourth.input is not None
    assert fourth.input.recall_from > read_before
