"""Files of whole lines: grown, cut, read back, whatever the disk does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import refusing
from hypothesis import given, settings
from hypothesis import strategies as st

from jsonl_runner.appendfile import SYNC_EVERY_S, AppendFile, FsyncPolicy
from jsonl_runner.atomic import replacing
from jsonl_runner.errors import LedgerError
from jsonl_runner.lines import LineReader, last_line, read_lines, torn_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

POLICIES: Sequence[FsyncPolicy] = ("always", "group", "off")
#: Longer than a block and a window of the readers.
LONG = b"x" * (2 * 1024 * 1024 + 7)
LINES = st.lists(
    st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")) | st.just(b"y" * 70_000),
    max_size=8,
)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_appended_is_there_at_once(tmp_path: Path, policy: FsyncPolicy) -> None:
    """Another reader sees each group of lines as soon as it is appended, behind the old ones."""
    path = tmp_path / "f"
    path.write_bytes(b"old\n")
    file = AppendFile(path, policy)
    for number in range(3):
        file.append(b"a%d\nb\n" % number)
        assert path.read_bytes() == b"old\n" + b"".join(b"a%d\nb\n" % n for n in range(number + 1))
    file.close()
    assert path.read_bytes().count(b"\n") == 7


def test_two_who_write_in_turn_lose_nothing(tmp_path: Path) -> None:
    """As a batch's plan and its results write a call log: each goes on behind the other."""
    path = tmp_path / "f"
    first, second = AppendFile(path, "off"), AppendFile(path, "off")
    for file, line in ((second, b"planned\n"), (first, b"1\n"), (first, b"2\n"), (second, b"3\n")):
        assert not file.is_behind or line in {b"1\n", b"3\n"}
        file.append(line)
    assert path.read_bytes() == b"planned\n1\n2\n3\n"
    assert (first.is_behind, second.is_behind) == (True, False)
    second.close()
    first.close()


def test_a_file_that_somebody_else_has_filled_is_left(tmp_path: Path) -> None:
    """Who made it and appended nothing does not take what others wrote."""
    path = tmp_path / "f"
    first = AppendFile(path, "off")
    second = AppendFile(path, "off")
    second.append(b"1\n")
    second.close()
    first.close()
    assert path.read_bytes() == b"1\n"


def test_cut_shortens_and_appending_goes_on_there(tmp_path: Path) -> None:
    """After a cut the next line stands behind what was kept."""
    path = tmp_path / "f"
    path.write_bytes(b"one\ntwo\nthr")
    file = AppendFile(path, "off")
    file.cut(4)
    file.append(b"2\n")
    file.close()
    assert path.read_bytes() == b"one\n2\n"


def test_a_file_into_which_nothing_came_is_not_left(tmp_path: Path) -> None:
    """A file it has made is removed again when it is empty; one that was there stays."""
    (tmp_path / "old").touch()
    for name in ("new", "old"):
        AppendFile(tmp_path / name, "group").close()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("folder", "Is a directory"), ("none/f", "No such file or directory"), ("f/x", "Not a")],
)
def test_a_place_where_no_file_can_be(tmp_path: Path, name: str, says: str) -> None:
    """The error names the path and the system's reason."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "f").touch()
    with pytest.raises(LedgerError, match=says) as caught:
        AppendFile(tmp_path / name, "off")
    assert str(caught.value).startswith(f"{tmp_path / name}: cannot be written (")
    assert caught.value.exit_code == 4


LIMITED = """
import resource, sys
from pathlib import Path
from jsonl_runner.appendfile import AppendFile
from jsonl_runner.errors import LedgerError

file = AppendFile(Path(sys.argv[1]), sys.argv[2])
file.append(b"first\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    file.append(b"second\\nthird\\nfourth\\n")
except LedgerError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.append(b"last\\n")
file.close()
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize(
    ("room", "kept"),
    [(6, b"first\n"), (8, b"first\n"), (13, b"first\nsecond\n"), (24, b"first\nsecond\nthird\n")],
)
def test_a_short_write_leaves_whole_lines(tmp_path: Path, room: int, kept: bytes) -> None:
    """What fits stays up to its last whole line; the error says what to do; it can go on."""
    path = tmp_path / "f"
    words = [sys.executable, "-c", LIMITED, str(path), "group", str(room)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.startswith(f"{path}: cannot be written (File too large); make room and")
    assert path.read_bytes() == kept + b"last\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_disk_without_any_room() -> None:
    """The first write that fails is an error at once."""
    file = AppendFile(Path("/dev/full"), "off")
    with pytest.raises(LedgerError, match="No space left on device"):
        file.append(b"line\n")


#: Prints how often the system was asked to force the file onto the disk; a profiler watches.
COUNTING = """
import sys, threading, time
from pathlib import Path
from jsonl_runner.appendfile import AppendFile

calls = []

def watch(_frame, event, called):
    if event == "c_call" and called.__name__ in ("fdatasync", "fsync"):
        calls.append(called)

threading.setprofile(watch)
sys.setprofile(watch)
file = AppendFile(Path(sys.argv[1]), sys.argv[2])
for number in range(20):
    file.append(b"line\\n")
before = len(calls)
time.sleep(float(sys.argv[3]))
later = len(calls)
file.close()
print(before, later, len(calls))
"""


def syncs(path: Path, policy: str, wait_s: float = 0.0) -> list[int]:
    """Return the calls of fdatasync after 20 appends, after a wait, and after the end."""
    words = [sys.executable, "-c", COUNTING, str(path), policy, str(wait_s)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    return [int(number) for number in result.stdout.split()]


def test_when_it_is_forced_onto_the_disk(tmp_path: Path) -> None:
    """`always` with each group, `group` within a tenth of a second and at the end, `off` never."""
    for name in ("always", "group", "off"):
        (tmp_path / name).touch()
    always, off = (syncs(tmp_path / name, name) for name in ("always", "off"))
    assert always == [20, 20, 21]
    assert off == [0, 0, 0]
    appended, later, closed = syncs(tmp_path / "group", "group", 3 * SYNC_EVERY_S)
    assert appended <= 1
    assert later == 1
    assert closed == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no way to")
def test_the_name_of_a_new_file_is_forced_onto_the_disk(tmp_path: Path) -> None:
    """Else its lines may be there after a power cut, and no file that they are in."""
    assert syncs(tmp_path / "always", "always") == [21, 21, 22]
    assert syncs(tmp_path / "off", "off") == [0, 0, 0]


WRITING = """
import sys
from pathlib import Path
from jsonl_runner.appendfile import AppendFile
from jsonl_runner.atomic import replacing
from jsonl_runner.errors import LedgerError

folder = Path(sys.argv[1])
try:
    with replacing(folder / "whole") as stream:
        stream.write(b"whole\\n")
    file = AppendFile(folder / "lines", "group")
    file.append(b"line\\n")
    file.close()
except LedgerError as error:
    print(error)
"""


def test_what_a_killed_process_of_our_number_has_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container each run may be process 1, and so may the one that was killed."""
    (tmp_path / f".whole.{os.getpid()}.tmp").write_bytes(b"ha")
    with replacing(tmp_path / "whole") as stream:
        stream.write(b"whole\n")
    assert (tmp_path / "whole").read_bytes() == b"whole\n"


@pytest.mark.skipif(not refusing.IS_ABLE, reason="only Linux refuses on demand")
@pytest.mark.parametrize("code", ["EINVAL", "EOPNOTSUPP"])
def test_a_folder_that_cannot_be_forced_is_passed_over(tmp_path: Path, code: str) -> None:
    """Some network file systems force files, and no folders."""
    # The line's file is forced by fdatasync.
    words = [sys.executable, refusing.__file__, f"fsync={code}", sys.executable, "-c"]
    writing = WRITING.partition("    with replacing")[0] + WRITING[WRITING.index("    file =") :]
    result = subprocess.run(
        [*words, writing, str(tmp_path)], capture_output=True, text=True, timeout=30, check=True
    )
    assert result.stdout + result.stderr == ""
    assert (tmp_path / "lines").read_bytes() == b"line\n"


@pytest.mark.skipif(not refusing.IS_ABLE, reason="only Linux refuses on demand")
@pytest.mark.parametrize("call", ["fsync=EIO", "fdatasync=EIO"])
def test_a_disk_that_fails_is_told(tmp_path: Path, call: str) -> None:
    """One line, and no half-made file."""
    words = [sys.executable, refusing.__file__, call, sys.executable, "-c", WRITING]
    result = subprocess.run(
        [*words, str(tmp_path)], capture_output=True, text=True, timeout=30, check=True
    )
    named = "whole" if call.startswith("fsync") else "lines"
    assert result.stdout.startswith(f"{tmp_path / named}: cannot be written (Input/output error)")
    assert result.stderr == ""
    assert not any(path.suffix == ".tmp" for path in tmp_path.iterdir())


def test_the_thread_that_forces_ends_with_the_file(tmp_path: Path) -> None:
    """It is there after the first line, not before, and gone at once after the end."""
    before = threading.active_count()
    file = AppendFile(tmp_path / "f", "group")
    assert threading.active_count() == before
    file.append(b"x\n")
    assert threading.active_count() == before + 1
    file.close()
    assert threading.active_count() == before


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of one file for all the examples of a property."""
    return tmp_path_factory.mktemp("scratch") / "f"


def lines_by_hand(content: bytes) -> list[tuple[int, bytes]]:
    found, start = [], 0
    while start < len(content):
        end = content.find(b"\n", start) + 1 or len(content)
        found.append((start, content[start:end]))
        start = end
    return found


@given(lines=LINES, end=st.sampled_from([b"", b"\n"]))
@settings(deadline=None)  # disks have slow moments
def test_every_line_is_found_with_its_place(scratch: Path, lines: list[bytes], end: bytes) -> None:
    """For every file: its lines and where they begin, by reading on and by going to each."""
    content = b"\n".join(lines) + end
    path = scratch
    path.write_bytes(content)
    want = lines_by_hand(content)
    assert list(read_lines(path)) == want
    reader = LineReader(path)
    for start, line in [*want, *reversed(want), *want[::2]]:
        assert reader.line_at(start) == line.removesuffix(b"\n")
    reader.close()
    for start, _ in want[::3]:
        assert list(read_lines(path, start)) == [item for item in want if item[0] >= start]


@given(lines=LINES, tail=st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")))
@settings(deadline=None)  # disks have slow moments
def test_the_torn_tail_is_what_stands_behind_the_last_newline(
    scratch: Path, lines: list[bytes], tail: bytes
) -> None:
    """For every file: the byte after the last newline, and the rest."""
    whole = b"".join(line + b"\n" for line in lines)
    scratch.write_bytes(whole + tail)
    assert torn_tail(scratch) == (len(whole), tail)


def test_lines_longer_than_a_block(tmp_path: Path) -> None:
    """A line of megabytes is read whole, in order, at random and as a tail."""
    path = tmp_path / "f"
    path.write_bytes(b"a\n" + LONG + b"\nb\n" + LONG)
    places = [(0, b"a\n"), (2, LONG + b"\n"), (len(LONG) + 3, b"b\n"), (len(LONG) + 5, LONG)]
    assert list(read_lines(path)) == places
    reader = LineReader(path)
    for start, line in (places[3], places[0], places[2], places[1], places[2]):
        assert reader.line_at(start) == line.rstrip(b"\n")
    reader.close()
    assert torn_tail(path) == (len(LONG) + 5, LONG)


@given(lines=LINES, places=st.sets(st.integers(0, 9)), end=st.sampled_from([b"", b"\n"]))
@settings(deadline=None, max_examples=15)  # three files of megabytes each
def test_the_last_line_with_a_beginning(
    scratch: Path, lines: list[bytes], places: set[int], end: bytes
) -> None:
    """For every file: the last of the lines that begin so, wherever blocks of reading end."""
    marked = [b"@{%d" % n + line if n in places else line for n, line in enumerate(lines)]
    for filler in (b"", b"f" * (1024 * 1024 - 3) + b"\n", LONG + b"\n"):
        scratch.write_bytes(b"\n".join(marked) + end + b"\n" + filler)
        found = last_line(scratch, b"@{")
        want = [line for line in marked if line.startswith(b"@{")]
        assert found is None if not want else found == want[-1] + b"\n"
        start = 0
        for number, line in enumerate(marked):  # of those that begin later alone
            later = [other for other in marked[number:] if other.startswith(b"@{")]
            found = last_line(scratch, b"@{", start)
            assert found is None if not later else found == later[-1] + b"\n"
            start += len(line) + 1


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    """To read lines of nothing brings none; to read single ones is an error."""
    missing = tmp_path / "none"
    assert list(read_lines(missing)) == []
    assert torn_tail(missing) == (0, b"")
    assert last_line(missing, b"x") is None
    with pytest.raises(LedgerError, match="none: cannot be read"):
        LineReader(missing)


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(LedgerError, match="cannot be read"):
        list(read_lines(tmp_path))


def test_a_tail_that_cannot_be_read(tmp_path: Path) -> None:
    """It is a LedgerError like all others."""
    with pytest.raises(LedgerError):
        torn_tail(tmp_path)
    with pytest.raises(LedgerError):
        last_line(tmp_path, b"x")
