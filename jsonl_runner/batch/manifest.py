"""The manifest: what was sent, where it is, and what came back; written before and after each step.

An SQLite file beside the ledger, whose lock its one writer holds. Each change is on the disk before
the next step is taken (WAL, synchronous=FULL), so that a crash at any moment leaves either the
intent to do something or what came of it, never a batch that nobody knows of.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import uuid
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from .. import jsontext
from ..errors import LedgerError
from ..indexes import IndexSet
from .base import AUDIT
from .parts import FINAL, RELEASED, WAITING, File, Item, Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

VERSION = 1
#: Seconds that a reader waits for the writer's present change.
_BUSY_S = 30.0

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE parts (
    number INTEGER PRIMARY KEY, state TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL, requests INTEGER NOT NULL,
    tokens INTEGER NOT NULL, model TEXT NOT NULL, endpoint TEXT NOT NULL, window TEXT NOT NULL,
    base_url TEXT NOT NULL, key_label TEXT NOT NULL DEFAULT '', key_hash TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 0, file TEXT NOT NULL DEFAULT '',
    batch TEXT NOT NULL DEFAULT '', status TEXT NOT NULL DEFAULT '',
    asked REAL NOT NULL DEFAULT 0, looks INTEGER NOT NULL DEFAULT 0,
    total INTEGER, completed INTEGER, failed INTEGER, reason TEXT NOT NULL DEFAULT '',
    planned REAL NOT NULL, ended REAL, cleaned INTEGER NOT NULL DEFAULT 0,
    cancelling INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0
);
CREATE TABLE items (
    part INTEGER NOT NULL, custom_id TEXT NOT NULL, row TEXT NOT NULL,
    fingerprint TEXT NOT NULL, state INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (part, custom_id)
) WITHOUT ROWID;
CREATE TABLE files (
    part INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, path TEXT NOT NULL DEFAULT '',
    size INTEGER, sha256 TEXT NOT NULL DEFAULT '', deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (part, id)
) WITHOUT ROWID;
CREATE TABLE operations (
    number INTEGER PRIMARY KEY, part INTEGER NOT NULL, what TEXT NOT NULL, token TEXT NOT NULL,
    begun REAL NOT NULL, ended REAL, outcome TEXT NOT NULL DEFAULT '',
    batch TEXT NOT NULL DEFAULT ''
);
"""

#: Manifests that were made before it get it too. A part has what the last part before it has.
_ASKED = (
    "CREATE TABLE IF NOT EXISTS asked (part INTEGER PRIMARY KEY, response_format TEXT NOT NULL)"
)

_PART_FIELDS = tuple(field.name for field in fields(Part))
_FILE_FIELDS = tuple(field.name for field in fields(File))


def manifest_path(ledger: Path) -> Path:
    """Return `output.batches.sqlite` for `output.jsonl`, links followed."""
    ledger = ledger.resolve() if ledger.is_symlink() else ledger
    return ledger.with_name(ledger.stem + ".batches.sqlite")


def parts_folder(ledger: Path) -> Path:
    """Return `output.batches` for `output.jsonl`: where requests and results lie."""
    return manifest_path(ledger).with_suffix("")


class Manifest:
    """A manifest, opened.

    Args:
        ledger: path of the ledger it belongs to; a writer holds its lock.
        write: whether it is made where it is not there, and may be changed.

    Raises:
        LedgerError: it is damaged, of a later version, or cannot be opened; also from every method.
    """

    def __init__(self, ledger: Path, *, write: bool = True) -> None:
        self.path = manifest_path(ledger)
        with self._explained():
            mode = "rwc" if write else "rw"  # a reader of a WAL file writes its index
            address = f"{self.path.absolute().as_uri()}?mode={mode}"
            self._db = sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)
        try:
            with self._explained():
                self._open(write=write)
        except BaseException:
            self._db.close()
            raise

    def _open(self, *, write: bool) -> None:
        if write:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
        else:
            self._db.execute("PRAGMA query_only=ON")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and write:
            with self.change():
                for statement in _SCHEMA.split(";")[:-1]:
                    self._db.execute(statement)
                run = uuid.uuid4().hex[:8]
                self._db.execute("INSERT INTO meta VALUES ('run', ?)", (run,))
                self._db.execute(f"PRAGMA user_version={VERSION}")
        elif version not in {0, VERSION}:
            raise LedgerError(
                f"{self.path}: made by another version of jsonl-runner (its format is {version}, "
                f"this one knows {VERSION}); use that version"
            )
        if write:
            self._db.execute(_ASKED)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            hint = (
                "restore it from a copy; the batches themselves are safe at the provider"
                if isinstance(error, sqlite3.DatabaseError)
                and not isinstance(error, sqlite3.OperationalError)
                else "is the disk full, or the folder read-only?"
            )
            raise LedgerError(f"{self.path}: cannot be used ({error}): {hint}") from None

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Within this block all changes are made, or none."""
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            sys.audit(AUDIT, "before commit")
            self._db.execute("COMMIT")
            sys.audit(AUDIT, "after commit")

    def close(self) -> None:
        """Close the file."""
        with self._explained():
            self._db.close()

    @property
    def run(self) -> str:
        """Eight digits that no other manifest has."""
        return str(self._rows("SELECT value FROM meta WHERE name = 'run'")[0][0])

    def parts(self, *states: str, live: bool = False) -> list[Part]:
        """Return all parts, or those in some states, or those not at their end."""
        where: Sequence[str] = states
        sql = f"SELECT {', '.join(_PART_FIELDS)} FROM parts"  # noqa: S608  # our own names
        if live:
            sql += f" WHERE state NOT IN ({_marks(FINAL)})"
            where = FINAL
        elif states:
            sql += f" WHERE state IN ({_marks(states)})"
        return [Part(*row) for row in self._rows(sql + " ORDER BY number", where)]

    def part(self, number: int) -> Part:
        """Return a part as it stands now."""
        names = ", ".join(_PART_FIELDS)
        sql = f"SELECT {names} FROM parts WHERE number = ?"  # noqa: S608
        return Part(*self._rows(sql, (number,))[0])

    @property
    def has_parts(self) -> bool:
        """Whether anything was ever planned."""
        return bool(self._rows("SELECT 1 FROM parts LIMIT 1"))

    def next_number(self) -> int:
        """Return the number of the next part."""
        return int(self._rows("SELECT COALESCE(MAX(number), 0) + 1 FROM parts")[0][0])

    def add(self, part: Part, items: Iterable[Item], asked: object = None) -> None:
        """Take a part with its rows, and the `response_format` that its requests have."""
        is_news = asked != self.asked_of(part.number)
        names = ", ".join(_PART_FIELDS)
        values = [getattr(part, name) for name in _PART_FIELDS]
        with self.change():
            marks = _marks(_PART_FIELDS)
            self._db.execute(f"INSERT INTO parts ({names}) VALUES ({marks})", values)  # noqa: S608
            self._db.executemany(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?)",
                ((part.number, i.custom_id, i.row, i.fingerprint, i.state) for i in items),
            )
            if is_news:
                values = [part.number, jsontext.dump(asked).decode()]
                self._db.execute("INSERT INTO asked VALUES (?, ?)", values)

    def asked_of(self, part: int) -> Any:
        """Return the `response_format` that a part was planned with; None: there was none."""
        sql = "SELECT response_format FROM asked WHERE part <= ? ORDER BY part DESC LIMIT 1"
        found = self._rows(sql, (part,))
        return jsontext.load(found[0][0].encode()) if found else None

    def put(self, part: Part, **changes: Any) -> Part:
        """Change a part, and return it as it is then."""
        with self.change():
            self._set(part.number, changes)
        return self.part(part.number)

    def _set(self, number: int, changes: dict[str, Any]) -> None:
        if not changes:
            return
        assignments = ", ".join(f"{name} = ?" for name in changes)
        sql = f"UPDATE parts SET {assignments} WHERE number = ?"  # noqa: S608
        self._db.execute(sql, (*changes.values(), number))

    def begin(self, part: Part, what: str, wall: float, **changes: Any) -> tuple[Part, int]:
        """Note that a step is about to be taken; return the part and the operation's number."""
        with self.change():
            self._set(part.number, changes)
            changed = self.part(part.number)
            cursor = self._db.execute(
                "INSERT INTO operations (part, what, token, begun) VALUES (?, ?, ?, ?)",
                (part.number, what, changed.token, wall),
            )
        return changed, int(cursor.lastrowid or 0)

    def end(
        self, part: Part, operation: int, wall: float, outcome: str, made: str = "", **changes: Any
    ) -> Part:
        """Note what came of a step, and the batch that it made; the rest as `put`."""
        with self.change():
            self._db.execute(
                "UPDATE operations SET ended = ?, outcome = ?, batch = ? WHERE number = ?",
                (wall, outcome, made, operation),
            )
            if changes:
                self._set(part.number, changes)
        return self.part(part.number)

    def operations(self, part: int) -> list[tuple[str, str, str, str]]:
        """Return what was done about a part: what, with which token, what came of it, the batch."""
        sql = "SELECT what, token, outcome, batch FROM operations WHERE part = ? ORDER BY number"
        return self._rows(sql, (part,))

    def batches_of(self, part: int) -> set[str]:
        """Return the ids of all batches that were ever created for a part."""
        sql = "SELECT batch FROM operations WHERE part = ? AND batch != ''"
        return {row[0] for row in self._rows(sql, (part,))}

    def items(self, part: int, ids: Sequence[str]) -> dict[str, Item]:
        """Return some rows of a part, by their custom_ids."""
        found: dict[str, Item] = {}
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            sql = (
                "SELECT custom_id, row, fingerprint, state FROM items "  # noqa: S608
                f"WHERE part = ? AND custom_id IN ({_marks(some)})"
            )
            found.update({row[0]: Item(*row) for row in self._rows(sql, (part, *some))})
        return found

    def settle(self, part: int, states: Iterable[tuple[str, int]]) -> None:
        """Note what became of rows, by their custom_ids."""
        with self.change():
            self._db.executemany(
                "UPDATE items SET state = ? WHERE part = ? AND custom_id = ?",
                [(state, part, custom_id) for custom_id, state in states],
            )

    def release(self, part: Part, **changes: Any) -> Part:
        """Let go of the rows of a part that nothing came of; the rest as `put`."""
        with self.change():
            self._db.execute(
                "UPDATE items SET state = ? WHERE part = ? AND state = ?",
                (RELEASED, part.number, WAITING),
            )
            self._set(part.number, changes)
        return self.part(part.number)

    def counts(self, part: int) -> dict[int, int]:
        """Return how many rows of a part are in each state."""
        sql = "SELECT state, COUNT(*) FROM items WHERE part = ? GROUP BY state"
        return dict(self._rows(sql, (part,)))

    def waiting_rows(self) -> IndexSet:
        """Return the rows that something may still come of, from any part."""
        found = IndexSet()
        sql = (
            "SELECT row FROM items JOIN parts ON items.part = parts.number "  # noqa: S608
            f"WHERE parts.state NOT IN ({_marks(FINAL)}) AND items.state = {WAITING}"
        )
        with self._explained():
            for (row,) in self._db.execute(sql, FINAL):
                found.add(row)
        return found

    def put_file(self, part: int, file: File) -> None:
        """Note a file at the provider, or what is new about it."""
        values = [getattr(file, name) for name in _FILE_FIELDS]
        names, marks = ", ".join(_FILE_FIELDS), _marks(_FILE_FIELDS)
        with self.change():
            self._db.execute(
                f"INSERT OR REPLACE INTO files (part, {names}) VALUES (?, {marks})",  # noqa: S608
                (part, *values),
            )

    def files(self, part: int) -> list[File]:
        """Return the files of a part."""
        names = ", ".join(_FILE_FIELDS)
        sql = f"SELECT {names} FROM files WHERE part = ? ORDER BY kind, id"  # noqa: S608
        return [File(*row) for row in self._rows(sql, (part,))]

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._explained():
            return self._db.execute(sql, values).fetchall()


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def waiting_rows(ledger: Path) -> IndexSet:
    """Return the rows of a ledger that lie in a batch which is not over; see `Manifest`."""
    if not manifest_path(ledger).exists():
        return IndexSet()
    with contextlib.closing(Manifest(ledger, write=False)) as manifest:
        return manifest.waiting_rows()
