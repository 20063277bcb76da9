"""A file of entries in a library's care: by one thread, with whatever breaks costing entries only.

The library is diskcache-community: SQLite without dependencies, for many processes at once, with
expiry and a size bound, and the kept successor of diskcache, whose last release (2023) runs what
it unpickles (CVE-2025-69872). Of what else could be had, requests-cache bounds no size and waits
for ever where it cannot write, hishel keeps HTTP exchanges, and diskcache-rs is no SQLite.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from diskcache_community import Cache as Store
from diskcache_community import SafeDisk, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .clock import Clock

_T = TypeVar("_T")

#: The files of the library and SQLite in the folder.
FILES = ("cache.db", "cache.db-wal", "cache.db-shm", "cache.db-journal")
#: Seconds that SQLite waits for another process's write, that a caller waits for all of it, and
#: that the file is left alone after trouble.
_BUSY_S = 2
_PATIENCE_S, _REST_S = 5.0, 60.0
#: SQLite's primary codes for a bad moment or a bad place; all others mean that the file is damaged.
_TROUBLE = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_MODE_RAW = 1


class _DamagedError(Exception):
    """What lies in the cache's place is not what was put there."""


class _PlainDisk(SafeDisk):
    """Takes texts as keys and bytes as values, as SQLite has them: nothing is ever unpickled."""

    def put(self, key: Any) -> Any:
        if type(key) is not str:
            raise TypeError(type(key))
        return super().put(key)

    def get(self, key: Any, raw: Any) -> Any:
        if not raw or type(key) is not str:
            raise _DamagedError("a key that is no text")
        return key

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> Any:
        if mode != _MODE_RAW or filename is not None or read or type(value) is not bytes:
            raise _DamagedError("an entry of another kind")
        return value


class CacheFile:
    """Bytes by name in a folder of their own, for any number of threads and processes.

    One thread uses the library, and the others ask it: it would open a connection (three files,
    megabytes) for each of thousands of threads. Nothing here raises for the state of the file: what
    is damaged is removed and begun anew, and after other trouble it is left alone for a while.

    Args:
        folder: made, for its user alone.
        max_bytes: of the files; beyond this the oldest entries are dropped.
        clock: where the time comes from.
        note: is told, once each, what could not be done.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, clock: Clock, note: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._clock = clock
        self._note = note
        self._noted: set[str] = set()
        self._store: Store | None = None
        self._keeper = ThreadPoolExecutor(1, "jsonl-runner-cache")
        #: Until when not to read and not to write, after trouble.
        self._resting_until = {False: float("-inf"), True: float("-inf")}

    def get(self, name: str) -> bytes | None:
        """Return an entry, None where there is none."""
        return self._ask(lambda store: _value(store, name), None)

    def put(self, name: str, value: bytes, tag: str, expire_s: float) -> None:
        """Keep an entry; it may be removed `expire_s` seconds from now, by the machine's clock."""

        def keep(store: Store) -> None:
            if store.read_only:
                self._say(f"{self.folder}: cannot be written: new answers are not kept")
            else:
                store.set(name, value, expire=expire_s, tag=tag)

        self._ask(keep, None, writing=True)

    def look(self, at: Callable[[str, bytes], _T]) -> list[_T]:
        """Return what a function makes of every entry, in the keeper's thread."""
        return self._ask(
            lambda store: [at(*entry) for entry in _entries(store)], [], patience_s=None
        )

    def remove(self, which: Callable[[str, bytes], bool] | None) -> int:
        """Remove the entries a function says yes to, None: all of them; return how many."""

        def remove(store: Store) -> int:
            if which is None:
                return store.clear()
            names = [name for name, value in _entries(store) if which(name, value)]
            return sum(bool(store.delete(name)) for name in names)

        return self._ask(remove, 0, writing=True, patience_s=None)

    def size(self) -> int:
        """Return the bytes of its files."""
        return sum(_size_of(self.folder / name) for name in FILES)

    def close(self) -> None:
        """Let go of the files; later calls find nothing and keep nothing."""
        with contextlib.suppress(RuntimeError, TimeoutError):  # closed before; hangs
            self._keeper.submit(self._let_go).result(_PATIENCE_S)
        self._keeper.shutdown(wait=False)

    def _ask(
        self,
        task: Callable[[Store], _T],
        default: _T,
        *,
        writing: bool = False,
        patience_s: float | None = _PATIENCE_S,
    ) -> _T:
        """Return what the keeper's thread makes of the store; the default when it cannot."""
        if self._clock.now() < self._resting_until[writing]:
            return default
        try:
            future = self._keeper.submit(self._guarded, task, default, writing)
        except RuntimeError:  # closed
            return default
        try:
            return future.result(patience_s)
        except TimeoutError:  # a file system that hangs
            future.cancel()
            return self._rest("it does not answer", default, writing=writing)

    def _guarded(self, task: Callable[[Store], _T], default: _T, writing: bool) -> _T:  # noqa: FBT001
        """Do a task on the store; runs in the keeper's thread alone."""
        try:
            try:
                return task(self._opened())
            except Exception as error:  # whatever it finds in a damaged file
                if _is_trouble(error):
                    raise
                self._begin_anew(error)
                return task(self._opened())
        except Exception as error:  # noqa: BLE001  # costs the cache, never the run
            self._let_go()
            return self._rest(str(error) or "it is locked", default, writing=writing)

    def _opened(self) -> Store:
        if self._store is None:
            _make_private(self.folder)
            self._store = Store(
                str(self.folder),
                timeout=_BUSY_S,
                disk=_PlainDisk,
                size_limit=self._max_bytes,
                eviction_policy="least-recently-stored",
                statistics=0,
                cull_limit=10,
                disk_min_file_size=2**62,  # everything into the one database
                # A file that somebody else cuts off would kill the process that has mapped it.
                sqlite_mmap_size=0,
            )
        return self._store

    def _begin_anew(self, error: Exception) -> None:
        """Remove a damaged database, so that the next opening makes a new one."""
        self._let_go()
        if self.folder.is_dir():
            for name in FILES:
                path = self.folder / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        else:
            self.folder.unlink(missing_ok=True)
        self._say(f"{self.folder}: the cache was damaged and begins anew ({error})")

    def _let_go(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(Exception):
                store.close()

    def _rest(self, reason: str, default: _T, *, writing: bool) -> _T:
        self._resting_until[writing] = self._clock.now() + _REST_S
        what = "new answers are not kept" if writing else "no answer comes from the cache"
        self._say(f"{self.folder}: {reason}: {what} for the time being")
        return default

    def _say(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._note(text)


def _is_trouble(error: Exception) -> bool:
    """Return whether the cache may be whole: it cannot be reached or written now."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_READONLY) & 0xFF in _TROUBLE
    return isinstance(error, (OSError, Timeout))


def _make_private(folder: Path) -> None:
    """Make the folder and its database such that nobody else can read or write them.

    Raises:
        OSError: it cannot be made, or is somebody else's.
        _DamagedError: something else lies in its place.
    """
    database = folder / FILES[0]
    if folder.exists() and not folder.is_dir():
        raise _DamagedError("not a folder")
    if database.exists() and not database.is_file():
        raise _DamagedError("not a file")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name != "posix":  # other systems keep a user's folders private by themselves
        return
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise PermissionError("it belongs to another user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
    if os.access(folder, os.W_OK) and not database.is_symlink():
        # SQLite gives its other files the bits of this one.
        os.close(os.open(database, os.O_RDWR | os.O_CREAT, 0o600))
        if stat.S_IMODE(database.stat().st_mode) & 0o077:
            database.chmod(0o600)


def _value(store: Store, name: str) -> bytes | None:
    value = store.get(name)
    return value if isinstance(value, bytes) else None


def _entries(store: Store) -> Iterator[tuple[str, bytes]]:
    """Yield what there is; names first, so that what is yielded may be removed."""
    for name in list(store):
        value = _value(store, name)
        if value is not None:
            yield name, value


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
