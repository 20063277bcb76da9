"""The cache on disk: what it gives again, and that whatever is wrong with it costs nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, FakeClock

from jsonl_runner import cachefile
from jsonl_runner.cache import Cache, folder_in, key_of
from jsonl_runner.cachefile import FILES
from jsonl_runner.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support import Stage

    Opening = Callable[..., Cache]

BASE = "https://api.example.com/v1"
EXPIRY_S = 1000.0
MODEL = "gpt-4.1-mini"


def request(**fields: Any) -> bytes:
    """Return a request's body, the fields in the order given."""
    return json.dumps({"model": MODEL, "messages": [], **fields}).encode()


def response(text: str = "Oui.", finish: str | None = "stop", **more: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return json.dumps({"model": MODEL, "choices": [choice], "usage": usage, **more}).encode()


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def opening(tmp_path: Path, clock: FakeClock, notes: list[str]) -> Iterator[Opening]:
    """Return a function that opens the test's cache, as often as wished."""
    with contextlib.ExitStack() as ends:

        def make(**more: Any) -> Cache:
            given = {"expiry_s": EXPIRY_S, "max_bytes": 2**24, **more}
            cache = Cache(tmp_path / "kept", clock=clock, note=notes.append, **given)
            ends.callback(cache.close)
            return cache

        yield make


def text_of(cache: Cache, key: str) -> str | None:
    found = cache.get(key)
    return found and found.verdict.answer and found.verdict.answer.text


def test_an_answer_comes_back_whole(opening: Opening, clock: FakeClock) -> None:
    """Of another opening too: the response byte for byte, and what it means."""
    body, key = response("Ça va 😀", finish="length"), key_of(BASE, request())
    cache = opening()
    assert cache.get(key) is None
    cache.put(key, MODEL, body)
    stored_at = clock.wall()
    clock.advance(5)
    found = opening().get(key)
    assert found is not None
    assert (found.body, found.model, found.stored_at) == (body, MODEL, stored_at)
    answer = found.verdict.answer
    assert answer is not None
    assert (answer.text, answer.finish_reason) == ("Ça va 😀", "length")
    assert answer.usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert found.verdict.message == "cut off at max_tokens"


@pytest.mark.parametrize(
    ("base", "body"),
    [
        (BASE, request(temperature=0.5)),
        (BASE, request(model="gpt-4.1")),
        (BASE, request(messages=[{"role": "user", "content": "x"}])),
        ("https://other.example.com/v1", request()),
        (BASE + "/tenant", request()),
        ("http://api.example.com/v1", request()),
    ],
)
def test_what_makes_another_request(base: str, body: bytes) -> None:
    """Another model, parameter, message or place."""
    assert key_of(base, body) != key_of(BASE, request())


def test_long_numbers_are_told_apart() -> None:
    """A seed above 64 bits is not rounded to its neighbour."""
    assert key_of(BASE, request(seed=2**70)) != key_of(BASE, request(seed=2**70 + 1))


@pytest.mark.parametrize(
    ("base", "body"),
    [
        (BASE, b'{"messages": [], "model": "gpt-4.1-mini"}'),
        (BASE, request(stream=True, stream_options={"include_usage": True})),
        ("https://me:secret@API.example.com/v1/", request()),
    ],
)
def test_what_makes_no_other_request(base: str, body: bytes) -> None:
    """The order of the fields, how the answer is sent, a login, a slash."""
    assert key_of(base, body) == key_of(BASE, request())


@pytest.mark.parametrize(
    "body",
    [
        response(finish="content_filter"),
        response(""),
        b'{"error": {"message": "overloaded"}}',
        b'{"choices": []}',
        b"[1]",
        b"<html>",
        b"",
    ],
)
def test_no_failure_is_kept(opening: Opening, body: bytes) -> None:
    """Whatever is no success leaves nothing behind."""
    cache = opening()
    cache.put("k", MODEL, body)
    assert cache.get("k") is None
    assert cache._file.look(lambda name, _value: name) == []


@pytest.mark.parametrize("how", ["{}", "\\u0073{}"], ids=["plain", "escaped"])
def test_no_response_with_a_key_is_kept(opening: Opening, tmp_path: Path, how: str) -> None:
    """Neither in an answer nor in escapes of JSON does a key reach the disk."""
    cache = opening(secrets=[Secret(KEYS[0], 1), Secret("EMPTY", 2)])
    text = f"key: {KEYS[0]}" if how == "{}" else "key: \\u0073" + KEYS[0][1:]
    cache.put("k", MODEL, response("TEXT").replace(b"TEXT", text.encode()))
    cache.put("l", MODEL, response("EMPTY"))
    assert cache.get("k") is None
    assert text_of(cache, "l") == "EMPTY"  # no key, but the word for none
    cache.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"EMPTY" in kept
    assert KEYS[0][1:].encode() not in kept


def test_answers_expire_by_the_clock(opening: Opening, clock: FakeClock) -> None:
    """Given again until the last moment and not beyond; nor if they come from the far future."""
    cache = opening()
    cache.put("k", MODEL, response())
    clock.advance(EXPIRY_S - 1)
    assert text_of(cache, "k") == "Oui."
    clock.advance(1)
    assert cache.get("k") is None
    assert cache.stats().entries == 0
    cache.put("k", MODEL, response("Non."))
    assert text_of(cache, "k") == "Non."
    clock.advance(-EXPIRY_S)
    assert cache.get("k") is None


def test_the_oldest_go_when_it_is_full(opening: Opening, tmp_path: Path) -> None:
    """The files stay within the bound, and the newest answers stay in them."""
    bound = 512 * 1024
    cache = opening(max_bytes=bound)
    for number in range(300):
        cache.put(f"k{number}", MODEL, response("x" * 4000))
    assert cache.get("k299") is not None
    assert cache.get("k250") is not None
    assert cache.get("k0") is None
    cache.close()
    assert sum(path.stat().st_size for path in folder_in(tmp_path / "kept").iterdir()) < bound * 1.2


def test_many_threads(opening: Opening, notes: list[str]) -> None:
    """64 threads at once: every answer is found, and no file is open for each of them."""
    cache = opening()

    def work(thread: int) -> int:
        for number in range(20):
            cache.put(f"{thread}-{number}", MODEL, response(f"{thread}-{number}"))
        return sum(text_of(cache, f"{thread}-{n}") == f"{thread}-{n}" for n in range(20))

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(work, range(64))) == [20] * 64
    assert cache.stats().entries == 64 * 20
    assert notes == []
    if Path("/proc/self/fd").exists():
        opened = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        assert sum("cache.db" in name for name in opened) <= 3


PROCESS = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from jsonl_runner.cache import Cache
from jsonl_runner.clock import SystemClock

name, notes = sys.argv[2], []
cache = Cache(Path(sys.argv[1]), expiry_s=9e4, max_bytes=2**24, clock=SystemClock(),
    note=notes.append)
body = lambda text: json.dumps({"choices": [{"message": {"content": text}}]}).encode()

def work(thread):
    for number in range(10):
        cache.put(f"{name}-{thread}-{number}", "m", body(name))
        cache.put(f"shared-{number}", "m", body("same"))
        assert cache.get(f"shared-{number}").body == body("same")
        assert cache.get(f"{name}-{thread}-{number}").body == body(name)

with ThreadPoolExecutor(16) as pool:
    list(pool.map(work, range(16)))
cache.close()
print(notes)
"""


def test_many_processes(tmp_path: Path, notes: list[str]) -> None:
    """Four processes of 16 threads write and read at once: nothing is lost, nobody complains."""
    words = [sys.executable, "-c", PROCESS, str(tmp_path / "kept")]
    running = [
        subprocess.Popen([*words, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in "abcd"
    ]
    for process in running:
        told, errors = process.communicate(timeout=60)
        assert (told.strip(), errors, process.returncode) == ("[]", "", 0)
    from jsonl_runner.clock import SystemClock  # noqa: PLC0415

    cache = Cache(
        tmp_path / "kept", expiry_s=9e4, max_bytes=2**24, clock=SystemClock(), note=notes.append
    )
    assert cache.stats().entries == 4 * 16 * 10 + 10
    cache.close()


def _garbage(folder: Path) -> None:
    (folder / "cache.db").write_bytes(b"no database at all " * 1000)


def _truncated(folder: Path) -> None:
    with (folder / "cache.db").open("r+b") as file:
        file.truncate(5000)


def _holes(folder: Path) -> None:
    data = bytearray((folder / "cache.db").read_bytes())
    data[4096:] = b"\xaa" * (len(data) - 4096)
    (folder / "cache.db").write_bytes(data)


def _empty(folder: Path) -> None:
    (folder / "cache.db").write_bytes(b"")


def _directory(folder: Path) -> None:
    (folder / "cache.db").unlink()
    (folder / "cache.db").mkdir()
    (folder / "cache.db" / "file").touch()


def _file_for_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_bytes(b"a file")


def _foreign(folder: Path) -> None:
    (folder / "cache.db").unlink()
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection:
        connection.executescript(
            "CREATE TABLE Cache (other); CREATE TABLE Settings (key UNIQUE, v);"
        )


def _odd_settings(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection:
        connection.execute("INSERT INTO Settings VALUES ('disk_nonsense', 1)")
        connection.commit()


@pytest.mark.parametrize(
    ("damage", "is_told"),
    [
        (_garbage, True),
        (_truncated, True),
        (_holes, True),
        (_empty, False),
        (_directory, True),
        (_file_for_folder, True),
        (_foreign, True),
        (_odd_settings, True),
    ],
)
def test_damage_costs_the_cache_only(
    opening: Opening,
    tmp_path: Path,
    notes: list[str],
    damage: Callable[[Path], None],
    is_told: bool,  # noqa: FBT001
) -> None:
    """A file that is no cache is replaced, said once, and answers are kept from then on."""
    cache = opening()
    for number in range(20):
        cache.put(f"k{number}", MODEL, response("x" * 1000))
    cache.close()
    damage(folder_in(tmp_path / "kept"))
    cache = opening()
    assert cache.get("k3") is None
    cache.put("k3", MODEL, response("again"))
    assert text_of(cache, "k3") == "again"
    assert [("was damaged and begins anew" in note) for note in notes] == [True] * is_told
    assert text_of(opening(), "k3") == "again"


def test_damage_while_it_is_open(opening: Opening, tmp_path: Path) -> None:
    """A file cut off under a process that has it open does not end that process."""
    cache = opening()
    for number in range(200):
        cache.put(f"k{number}", MODEL, response("x" * 4000))
    opening().close()
    for name in ("cache.db", "cache.db-wal"):
        with (
            contextlib.suppress(FileNotFoundError),
            (folder_in(tmp_path / "kept") / name).open("r+b") as file,
        ):
            file.truncate(4096)
    for number in range(200):
        cache.get(f"k{number}")
        cache.put(f"n{number}", MODEL, response())
    assert text_of(cache, "n199") == "Oui."


def test_a_changed_answer_is_none(opening: Opening, tmp_path: Path, notes: list[str]) -> None:
    """An entry whose bytes are not those that were stored, or stand in another's place."""
    cache = opening()
    cache.put("a", MODEL, response("alpha"))
    cache.put("b", MODEL, response("beta"))
    cache.close()
    with contextlib.closing(sqlite3.connect(folder_in(tmp_path / "kept") / "cache.db")) as file:
        ((value,),) = file.execute("SELECT value FROM Cache WHERE key = 'a'").fetchall()
        file.execute("UPDATE Cache SET value = ? WHERE key = 'b'", (value,))
        file.execute("UPDATE Cache SET value = ? WHERE key = 'a'", (value[:-9] + b"!" * 9,))
        file.commit()
    cache = opening()
    assert (cache.get("a"), cache.get("b"), notes) == (None, None, [])
    cache.put("a", MODEL, response("new"))
    assert text_of(cache, "a") == "new"


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE Cache SET mode = 4, value = ?",
        "UPDATE Cache SET mode = 4, value = NULL, filename = 'evil.val', tag = ?",
        "UPDATE Cache SET raw = 0, key = ?",
    ],
)
def test_nothing_in_the_file_is_run(opening: Opening, tmp_path: Path, statement: str) -> None:
    """Who can write the file can make no code run: neither by a value nor by a name."""
    cache = opening()
    cache.put("k", MODEL, response())
    cache.close()
    evil = pickle.dumps(_Evil(tmp_path / "ran"))
    folder = folder_in(tmp_path / "kept")
    (folder / "evil.val").write_bytes(evil)
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as file:
        file.execute(statement, (evil,))
        file.commit()
    cache = opening()
    assert cache.get("k") is None
    assert cache.stats().entries == 0
    assert cache.clear() >= 0
    cache.put("k", MODEL, response())
    assert text_of(cache, "k") == "Oui."
    assert not (tmp_path / "ran").exists()


def test_a_locked_file_is_left_alone_for_a_while(
    opening: Opening,
    tmp_path: Path,
    notes: list[str],
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New answers are not kept, those there are still given; a minute later all is well."""
    monkeypatch.setattr(cachefile, "_BUSY_S", 0)
    cache = opening()
    cache.put("a", MODEL, response())
    with contextlib.closing(sqlite3.connect(folder_in(tmp_path / "kept") / "cache.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        cache.put("b", MODEL, response())
        cache.put("b", MODEL, response())
        assert text_of(cache, "a") == "Oui."
    assert [note.rpartition(": ")[2] for note in notes] == [
        "new answers are not kept for the time being"
    ]
    cache.put("b", MODEL, response())
    assert cache.get("b") is None
    clock.advance(61)
    cache.put("b", MODEL, response())
    assert text_of(cache, "b") == "Oui."


def test_a_file_system_that_hangs(
    opening: Opening, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows go on without the cache."""
    monkeypatch.setattr(cachefile, "_PATIENCE_S", 0.01)
    cache = opening()
    hanging = threading.Event()
    cache._file._keeper.submit(hanging.wait)
    try:
        assert cache.get("k") is None
        cache.put("k", MODEL, response())
        assert len(notes) == 2
        assert "does not answer" in notes[0]
    finally:
        hanging.set()


def test_a_read_only_cache_still_answers(
    opening: Opening, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once that nothing new is kept."""
    cache = opening()
    cache.put("a", MODEL, response())
    cache.close()
    # root may write everywhere, so the permissions alone would prove nothing
    monkeypatch.setattr(os, "access", lambda *_args, **_more: False)
    cache = opening()
    assert text_of(cache, "a") == "Oui."
    cache.put("b", MODEL, response())
    cache.put("c", MODEL, response())
    assert text_of(cache, "a") == "Oui."
    assert [note.partition(": ")[2] for note in notes] == [
        "cannot be written: new answers are not kept"
    ]


def test_a_place_where_no_folder_can_be_made(clock: FakeClock, tmp_path: Path) -> None:
    """Nothing is kept, and it is said once for reading and once for writing."""
    (tmp_path / "file").touch()
    notes: list[str] = []
    cache = Cache(
        tmp_path / "file" / "x", expiry_s=9, max_bytes=2**20, clock=clock, note=notes.append
    )
    for _ in range(3):
        cache.put("a", MODEL, response())
        assert cache.get("a") is None
    assert len(notes) == 2
    assert cache.stats().entries == 0
    cache.close()
    cache.put("a", MODEL, response())
    assert cache.get("a") is None


FULL = """
import json, resource, sys
from pathlib import Path
from jsonl_runner.cache import Cache
from jsonl_runner.clock import SystemClock

notes = []
cache = Cache(Path(sys.argv[1]), expiry_s=9e4, max_bytes=2**24, clock=SystemClock(),
    note=notes.append)
body = json.dumps({"choices": [{"message": {"content": "x" * 4000}}]}).encode()
cache.put("first", "m", body)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for number in range(100):
    cache.put(str(number), "m", body)
assert cache.get("first").body == body
print(len(notes), notes[0].rpartition(": ")[2])
cache.close()
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_no_room_costs_new_answers_only(tmp_path: Path) -> None:
    """A full disk: what is there is still given."""
    words = [sys.executable, "-c", FULL, str(tmp_path / "kept")]
    result = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout == "1 new answers are not kept for the time being\n"
    assert result.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_nobody_else_can_read_it(opening: Opening, tmp_path: Path) -> None:
    """Folder and files are the user's alone, also where they were not before."""
    before = os.umask(0)
    try:
        folder = folder_in(tmp_path / "kept")
        folder.mkdir(parents=True, mode=0o777)
        (folder / "cache.db").touch(0o666)
        opening().put("k", MODEL, response())
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.name for path in folder.iterdir()} <= set(FILES)
        for path in folder.iterdir():
            assert path.stat().st_mode & 0o777 == 0o600, path
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="POSIX owners")
def test_a_folder_of_somebody_else_is_not_used(
    opening: Opening, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could put answers into our mouth."""
    opening().put("k", MODEL, response())
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert opening().get("k") is None
    assert "belongs to another user" in notes[0]


def test_stats_and_clear(opening: Opening, clock: FakeClock) -> None:
    """By age, by model, by both, and all."""
    cache = opening()
    for number, (model, age) in enumerate([("a", 500), ("a", 10), ("b", 500), ("b", 10)]):
        clock.advance(-age)
        cache.put(f"k{number}", model, response())
        clock.advance(age)
    found = cache.stats()
    assert (found.entries, found.max_bytes, found.expiry_s) == (4, 2**24, EXPIRY_S)
    assert found.oldest == clock.wall() - 500
    assert found.newest == clock.wall() - 10
    size = len(response())
    assert {model: (s.entries, s.bytes) for model, s in found.models.items()} == {
        "a": (2, 2 * size),
        "b": (2, 2 * size),
    }
    assert found.bytes > 4 * size
    assert cache.clear(older_than_s=100, model="a") == 1
    assert [cache.get(f"k{n}") is not None for n in range(4)] == [False, True, True, True]
    assert cache.clear(older_than_s=100) == 1
    assert [cache.get(f"k{n}") is not None for n in range(4)] == [False, True, False, True]
    assert cache.clear(model="b") == 1
    assert cache.clear() == 1
    assert cache.clear() == 0
    assert cache.stats().oldest is None


def filled(stage: Stage) -> Path:
    """Return a configuration with a cache of three answers, kept in the real present."""
    from jsonl_runner.clock import SystemClock  # noqa: PLC0415

    place = stage.folder / "kept"
    cache = Cache(place, expiry_s=9e5, max_bytes=2**24, clock=SystemClock(), note=print)
    for number, model in enumerate(("gpt-4.1", "gpt-4.1", "other")):
        cache.put(f"k{number}", model, response())
    cache.close()
    return stage.config_file(cache_directory=str(place))


def test_the_command_tells_what_is_kept(stage: Stage) -> None:
    """For people and for programs; `clear` asks unless told not to."""
    config = filled(stage)
    told = stage.cli("cache", "stats", "--config", config)
    assert told.returncode == 0
    first, second, *models = told.stdout.splitlines()
    assert first.startswith(f"{stage.folder / 'kept'}")
    assert "3 answers in" in first
    assert second.startswith("stored between ")
    size = len(response())
    assert models == [f"gpt-4.1: 2 answers, {2 * size} bytes", f"other: 1 answer, {size} bytes"]
    data = json.loads(stage.cli("cache", "stats", "--json", "--config", config).stdout)
    assert (data["entries"], data["models"]["other"]["entries"]) == (3, 1)
    asked = stage.cli("cache", "clear", "--model", "other", "--config", config, input="n\n")
    assert (asked.returncode, "nothing removed" in asked.stderr) == (0, True)
    for words, removed in (
        (("--older-than", "1h"), 0),
        (("--model", "other"), 1),
        ((), 2),
        ((), 0),
    ):
        done = stage.cli("cache", "clear", *words, "--yes", "--config", config)
        assert (done.returncode, done.stderr) == (
            0,
            f"{folder_in(stage.folder / 'kept')}: {removed} answers removed\n".replace(
                " 1 answers", " 1 answer"
            ),
        )


def test_no_cache_is_no_error(stage: Stage) -> None:
    """`stats` and `clear` say so, and make none."""
    config = stage.config_file(cache_directory=str(stage.folder / "kept"))
    for words in (("stats",), ("clear", "--yes")):
        told = stage.cli("cache", *words, "--config", config)
        assert told.returncode == 0
        assert "no answers are kept" in told.stdout + told.stderr
    data = json.loads(stage.cli("cache", "stats", "--json", "--config", config).stdout)
    assert (data["entries"], data["oldest"]) == (0, None)
    assert not (stage.folder / "kept").exists()


@pytest.mark.parametrize("age", ["soon", "-3d", "7 days", "7", ""])
def test_an_age_that_is_none(stage: Stage, age: str) -> None:
    """Usage, with what one looks like."""
    told = stage.cli("cache", "clear", f"--older-than={age}", "--yes")
    assert told.returncode == 2
    assert "is no age; give 7d, 12h or 30m" in told.stderr
