"""The ledger: opened in any state it may be left in, it keeps every whole line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import refusing
from hypothesis import given, settings
from hypothesis import strategies as st
from support import read_ledger, row, write_rows

from jsonl_runner.compact import compact
from jsonl_runner.errors import LedgerError, LedgerLockedError
from jsonl_runner.ledger import Ledger, line_of, scan
from jsonl_runner.locking import lock_path, locked
from jsonl_runner.records import Outcome

if TYPE_CHECKING:
    from support import Stage

    from jsonl_runner.indexes import IndexSet

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INDICES = st.integers(0, 9).map(str) | TEXTS
ENTRIES = st.lists(st.tuples(INDICES, st.none() | TEXTS), max_size=12)
NEW = Outcome("new", "appended")
WHOLE = b'{"whole":"line"}\n'
SAMPLE = str(Path(__file__).parent.parent / "data/samples/data.jsonl")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of one ledger for all the examples of a property."""
    return tmp_path_factory.mktemp("scratch") / "output.jsonl"


def state_of(content: bytes) -> tuple[dict[str, Any], list[int]]:
    """Return, read by Python's own json, the outputs of a ledger and its damaged lines.

    What stands behind the last newline counts if it is whole, and is no damage.
    """
    *lines, tail = content.split(b"\n")
    found: dict[str, Any] = {}
    damaged = []
    for number, line in enumerate([*lines, tail], 1):
        if not line.strip():
            continue
        try:
            entries = json.loads(line.decode("utf-8"))
            whole = isinstance(entries, dict) and len(entries) == 1
        except ValueError:
            whole = False
        if whole:
            for index, output in entries.items():
                if output is not None or index not in found:
                    found[index] = output
        elif number <= len(lines):
            damaged.append(number)
    return found, damaged


def held(indices: IndexSet, among: set[str]) -> set[str]:
    return {index for index in among if index in indices}


def check_opening(path: Path, content: bytes) -> None:
    """Open a ledger with this content: it must know just what is whole, and be whole afterwards."""
    path.write_bytes(content)
    want, damaged = state_of(content)
    ledger = Ledger(path, "off")
    try:
        done = {index for index, output in want.items() if output is not None}
        assert held(ledger.found.done, {*want, NEW.index}) == done
        assert len(ledger.found.done) == len(done)
        nulls = held(ledger.found.nulls, set(want)) - done
        assert nulls == set(want) - done
        assert [item.line for item in ledger.found.damage] == damaged
        tail = content.rpartition(b"\n")[2]
        assert len(ledger.notes) == bool(tail)
        ledger.append([NEW])
    finally:
        ledger.close()
    after, damaged_after = state_of(path.read_bytes())
    assert after == {**want, NEW.index: NEW.output}
    assert damaged_after == damaged
    assert path.read_bytes().endswith(b"\n")


@given(ENTRIES)
@settings(deadline=None)  # disks have slow moments
def test_what_is_appended_is_read_back(
    scratch: Path, entries: list[tuple[str, str | None]]
) -> None:
    """For every list of outputs: the last one that is no null counts, of any text."""
    scratch.unlink(missing_ok=True)
    ledger = Ledger(scratch, "off")
    ledger.append([Outcome(index, output) for index, output in entries[:5]])
    for index, output in entries[5:]:
        ledger.append([Outcome(index, output)])
    ledger.close()
    want: dict[str, str | None] = {}
    for index, output in entries:
        if output is not None or index not in want:
            want[index] = output
    assert (read_ledger(scratch) if entries else {}) == want
    assert scratch.exists() == bool(entries)
    found = scan(scratch)
    assert held(found.done, set(want)) == {i for i, output in want.items() if output is not None}
    assert held(found.nulls, set(want)) >= {i for i, output in want.items() if output is None}
    assert (found.damage, found.tail) == ([], b"")


def test_every_cut_of_the_last_three_lines(scratch: Path) -> None:
    """For every byte at which the end is cut off: whole lines count, and appending goes on."""
    entries: list[tuple[str, str | None]] = [
        ("0", "kept"),
        ("a\nb", 'quoted " \\ text\n\N{SNOWMAN}'),
        ("1", None),
        ("\N{GRINNING FACE}", "\u2028\N{GRINNING FACE}"),
    ]
    lines = [line_of(index, output) for index, output in entries]
    content = b"".join(lines)
    for size in range(len(lines[0]), len(content) + 1):
        check_opening(scratch, content[:size])


@given(entries=ENTRIES.filter(bool), at=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_every_flipped_byte(
    scratch: Path, entries: list[tuple[str, str | None]], at: float, byte: int
) -> None:
    """For every changed byte: the other lines count, what it breaks is named with its line."""
    content = bytearray(b"".join(line_of(index, output) for index, output in entries))
    content[int(at * len(content))] ^= byte
    check_opening(scratch, WHOLE + bytes(content))


@given(
    st.lists(
        st.sampled_from(
            [
                *(b'{"1":"a"}', b'{"1":null}', b'{"":"e"}', b'{"2":{"a":1}}'),
                *(b'{"2":"b","3":null}', b"{}", b"[]", b"null", b"7", b'"text"'),
                *(b"", b"  ", b"\t\r", b'{"1":"a"}{"2":"b"}', b'{"1":', b'{"'),
                *(b"\xff", b"\x00" * 8, b"\xef\xbb\xbf", b"my notes"),
            ]
        ),
        max_size=8,
    ),
    st.sampled_from([b"\n", b"", b"\r\n"]),
)
@settings(deadline=None)  # disks have slow moments
def test_every_mixture_of_lines(scratch: Path, lines: list[bytes], end: bytes) -> None:
    """For every mixture of good, odd and broken lines: opening succeeds and misses nothing."""
    check_opening(scratch, WHOLE + b"\n".join(lines) + end)


@pytest.mark.parametrize(
    "content", [b"my notes", b"my notes\n", b"{}\n", b'{\n  "a": 1\n}\n', b"[1]"]
)
def test_a_file_that_is_no_ledger_is_not_touched(tmp_path: Path, content: bytes) -> None:
    """Not one line in it is or was one of a ledger: an error, and nothing is cut or locked."""
    path = tmp_path / "output.jsonl"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="this file is no ledger; are input and output swapped"):
        Ledger(path)
    assert path.read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == ["output.jsonl"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b'{"', b'{"0": "to', b'{"0": "br\n{"1'])
def test_a_ledger_without_one_whole_line_is_still_one(scratch: Path, content: bytes) -> None:
    """What may be the ruins of a first line is cut back or named, and the run goes on."""
    check_opening(scratch, content)


def test_damage_is_named_with_its_line_and_what_it_means(tmp_path: Path) -> None:
    """Who reads the note finds the line in an editor."""
    path = tmp_path / "output.jsonl"
    path.write_bytes(b'{"0":"a"}\n\n{"1":"b\n["2"]\n{"3":"c"}\n')
    first, second = scan(path).damage
    assert str(first).startswith(f"{path}:3: not JSON (")
    assert str(first).endswith("; its row counts as not done")
    assert str(second).startswith(f'{path}:4: not a ledger line ({{"<index>": output}})')


def test_a_null_never_hides_an_output(tmp_path: Path) -> None:
    """Whatever the order, a row with an output is done; the nulls tell of rows without one."""
    path = tmp_path / "output.jsonl"
    path.write_bytes(b'{"1":"a"}\n{"1":null}\n{"2":null}\n{"2":"b"}\n{"3":null}\n')
    found = scan(path)
    assert held(found.done, {"1", "2", "3"}) == {"1", "2"}
    assert held(found.nulls, {"1", "2", "3"}) - {"1", "2"} == {"3"}
    assert "1" not in found.nulls


def test_a_last_line_that_only_lacks_its_newline_is_kept(tmp_path: Path) -> None:
    """It was paid for: it gets its newline, and the user is told."""
    path = tmp_path / "output.jsonl"
    path.write_bytes(b'{"0":"a"}\n{"1":"b"}')
    ledger = Ledger(path)
    assert "1" in ledger.found.done
    assert ledger.notes == [f"{path}: its last line was whole but for the newline; added"]
    ledger.close()
    assert path.read_bytes() == b'{"0":"a"}\n{"1":"b"}\n'


def test_a_torn_last_line_is_cut_back_and_told(tmp_path: Path) -> None:
    """The note says how many bytes went, and that the row is done again."""
    path = tmp_path / "output.jsonl"
    path.write_bytes(b'{"0":"a"}\n{"1":"b')
    ledger = Ledger(path)
    assert "1" not in ledger.found.done
    (note,) = ledger.notes
    assert note.startswith(f"{path}: its last line was cut off while it was written; these 7 bytes")
    ledger.close()
    assert path.read_bytes() == b'{"0":"a"}\n'


def test_a_second_opener_is_told_who_holds_it(tmp_path: Path) -> None:
    """The process, the machine and since when; the holder goes on undisturbed."""
    path = tmp_path / "output.jsonl"
    first = Ledger(path)
    with pytest.raises(LedgerLockedError) as caught:
        Ledger(path)
    assert caught.value.exit_code == 4
    says = str(caught.value)
    assert says.startswith(f"{path}: another run is writing it (process {os.getpid()} on ")
    assert says.endswith("; wait for it or stop it")
    first.append([Outcome("0", "a")])
    first.close()
    second = Ledger(path)
    assert "0" in second.found.done
    second.close()


HOLDER = """
import sys
from pathlib import Path
from jsonl_runner.ledger import Ledger

ledger = Ledger(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_holder_may_be_another_process(tmp_path: Path) -> None:
    """Its process id is named; when it is killed the lock is free, though its file is left."""
    path = tmp_path / "output.jsonl"
    words = [sys.executable, "-c", HOLDER, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(LedgerLockedError, match=rf"\(process {process.pid} on "):
                Ledger(path)
            assert lock_path(path).exists()
        finally:
            process.kill()
    Ledger(path).close()
    assert not lock_path(path).exists()


def test_a_ledger_by_another_name_is_the_same_ledger(tmp_path: Path) -> None:
    """A link to the ledger leads to the one lock."""
    path, link = tmp_path / "output.jsonl", tmp_path / "link.jsonl"
    path.write_bytes(b'{"0":"a"}\n')
    link.symlink_to(path)
    first = Ledger(path)
    try:
        with pytest.raises(LedgerLockedError):
            Ledger(link).close()
    finally:
        first.close()


@pytest.mark.skipif(os.name == "nt", reason="there, such a ledger is refused")
def test_a_ledger_by_two_names_has_one_writer(tmp_path: Path) -> None:
    """A hard link has a lock file of its own: run and compact are refused by the other name."""
    path, link = tmp_path / "output.jsonl", tmp_path / "link.jsonl"
    path.write_bytes(b'{"0":"a"}\n{"0":"b"}\n')
    link.hardlink_to(path)
    first = Ledger(path)
    try:
        for attempt in (Ledger, compact):
            with pytest.raises(LedgerLockedError, match="writing it by another name"):
                attempt(link)
        assert not lock_path(link).exists()
    finally:
        first.close()
    Ledger(link).close()
    compact(link)
    assert (link.read_bytes(), path.read_bytes()) == (b'{"0":"b"}\n', b'{"0":"a"}\n{"0":"b"}\n')


@pytest.mark.skipif(not refusing.IS_ABLE, reason="only Linux refuses on demand")
def test_a_file_system_without_locks_is_told(tmp_path: Path) -> None:
    """Before anything is paid, one line with what to do, and no lock file is left."""
    path = tmp_path / "output.jsonl"
    python = [sys.executable, refusing.__file__, "flock=ENOLCK", sys.executable]
    words = [*python, "-m", "jsonl_runner", "run", "--simulate", SAMPLE, str(path)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 4
    _, error = result.stderr.splitlines()
    assert error == (
        f"error: {lock_path(path)}: cannot be locked (No locks available), and two runs on one "
        "output would pay twice: name an output on a disk of this machine, and copy it when the "
        "run is over"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_opening_that_fails_leaves_the_lock_free(tmp_path: Path) -> None:
    """Neither a ledger that cannot be read nor an error in the block keeps it locked."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(LedgerError, match="cannot be written"):
        Ledger(folder)
    path = tmp_path / "output.jsonl"
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]


def test_a_place_where_no_lock_can_be_made(tmp_path: Path) -> None:
    """The error names the lock file."""
    path = tmp_path / "output.jsonl"
    lock_path(path).mkdir()
    with pytest.raises(LedgerError, match=r"output\.jsonl\.lock: cannot be made \("):
        Ledger(path)
    assert not path.exists()


def test_a_new_ledger_that_is_not_used_leaves_nothing(stage: Stage) -> None:
    """No output, no lock, no call log: neither when merely opened nor when a run begins nothing."""
    Ledger(stage.output).close()
    assert list(stage.folder.iterdir()) == []
    write_rows(stage.data, [row(0)])
    stage.simulator.settings = type(stage.simulator.settings)(models=())
    assert stage.run_cli("-q").returncode == 2
    assert {path.name for path in stage.folder.iterdir()} == {"data.jsonl", "settings.json"}


LIMITED = """
import resource, sys
from pathlib import Path
from jsonl_runner.errors import LedgerError
from jsonl_runner.ledger import Ledger
from jsonl_runner.records import Outcome

ledger = Ledger(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    ledger.append([Outcome(str(number), "text") for number in range(9)])
except LedgerError as error:
    print(error.exit_code, error)
ledger.close()
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize("room", [30, 31, 38, 39])
def test_no_room_leaves_whole_lines(tmp_path: Path, room: int) -> None:
    """A write that is cut short keeps what fits of whole lines; the error says how to go on."""
    path = tmp_path / "output.jsonl"
    words = [sys.executable, "-c", LIMITED, str(path), str(room)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.startswith(f"4 {path}: cannot be written (File too large); make room and")
    line = len(line_of("0", "text"))
    assert read_ledger(path) == {str(number): "text" for number in range(room // line)}
    assert not lock_path(path).exists()


def test_half_an_emoji_does_not_spoil_a_line(tmp_path: Path) -> None:
    """What UTF-8 cannot hold becomes U+FFFD; the text around it stays."""
    path = tmp_path / "output.jsonl"
    ledger = Ledger(path)
    ledger.append([Outcome("0", "a\ud83d b"), Outcome("1", "c")])
    ledger.close()
    assert read_ledger(path) == {"0": "a\ufffd b", "1": "c"}


def test_half_an_emoji_of_another_writer_is_an_output(tmp_path: Path) -> None:
    """A ledger of the older toolkit, in ASCII, counts too."""
    path = tmp_path / "output.jsonl"
    path.write_text(json.dumps({"0": "a\ud83d b"}) + "\n", encoding="ascii")
    assert "0" in scan(path).done
