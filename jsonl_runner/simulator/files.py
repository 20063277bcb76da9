"""OpenAI's `/v1/files`: kept on disk, in a folder that goes with the simulator."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .calls import Asked, Download, page, refused
from .journal_batches import BatchJournal, Upload
from .multipart import Form, read_form

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds a batch's input stays by default, as OpenAI has it: 30 days.
EXPIRES_AFTER_S = 2_592_000
_SHORTEST_S = 3600
_COPY_BYTES = 1024 * 1024


@dataclass(slots=True)
class StoredFile:
    """A file. Times are seconds of the simulator's clock; `users` are batches yet to read it."""

    ident: str
    owner: str
    filename: str
    purpose: str
    size: int
    sha256: str
    path: Path
    created_s: float
    ready_s: float
    expires_s: float | None
    users: int = 0
    deleted: bool = False


class Files:
    """The files of all keys. The caller sees to it that one thread at a time uses it."""

    def __init__(
        self, now: Callable[[], float], wall: Callable[[float], int], journal: BatchJournal
    ) -> None:
        self._now = now
        self._wall = wall
        self._journal = journal
        self._files: dict[str, StoredFile] = {}
        self._folder: Path | None = None
        self._count = 0

    def new_path(self) -> Path:
        """A name for a new file in the simulator's folder, which is removed with the simulator."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="jsonl-runner-simulator-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._count += 1
        return self._folder / str(self._count)

    def add(
        self,
        path: Path,
        filename: str,
        purpose: str,
        *,
        owner: str,
        nonce: str,
        ready_after_s: float = 0.0,
        expires_after_s: float | None = None,
    ) -> StoredFile:
        """Take in what lies at `path`, which came from `new_path`."""
        now_s = self._now()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        stored = StoredFile(
            f"file-sim{nonce}{path.name:0>6}",
            owner,
            filename,
            purpose,
            path.stat().st_size,
            digest,
            path,
            now_s,
            now_s + ready_after_s,
            None if expires_after_s is None else now_s + expires_after_s,
        )
        self._files[stored.ident] = stored
        return stored

    def find(self, ident: str, owner: str) -> StoredFile | None:
        """The file of that id, if it is there for that key."""
        stored = self._files.get(ident)
        if stored is None or stored.owner != owner:
            return None
        if stored.expires_s is not None and self._now() >= stored.expires_s:
            self._drop(stored)
            return None
        return stored

    def is_ready(self, stored: StoredFile) -> bool:
        """Whether a file has been processed."""
        return self._now() >= stored.ready_s

    def release(self, stored: StoredFile) -> None:
        """A batch has done with a file."""
        stored.users -= 1
        self._sweep(stored)

    # -- the calls -----------------------------------------------------------------------------

    def upload(self, asked: Asked, nonce: str) -> dict[str, Any]:
        """POST /v1/files. Raises RefusedError."""
        body = asked.request.upload
        form = None
        if body is not None:
            form = read_form(asked.request.headers.get("content-type", ""), body)
        if form is None or body is None or form.filename is None:
            raise refused(400, "'file' is a required property", param="file")
        expires_after_s = _check_form(form, asked)
        path = self.new_path()
        _copy(body, path, form.start, form.end)
        stored = self.add(
            path,
            form.filename,
            form.fields["purpose"],
            owner=asked.owner,
            nonce=nonce,
            ready_after_s=asked.settings.file_ready_s,
            expires_after_s=expires_after_s,
        )
        self._journal.add_upload(
            Upload(stored.ident, asked.key, stored.filename, stored.size, stored.sha256)
        )
        return self._shown(stored)

    def listing(self, asked: Asked) -> dict[str, Any]:
        """GET /v1/files. Raises RefusedError."""
        query = asked.query()
        limit = asked.limit(10_000, 10_000)
        found = [self.find(ident, asked.owner) for ident in tuple(self._files)]
        shown = [
            self._shown(stored)
            for stored in found
            if stored is not None and query.get("purpose", stored.purpose) == stored.purpose
        ]
        if query.get("order", "desc") == "desc":
            shown.reverse()
        return page(shown, asked, limit)

    def retrieve(self, asked: Asked) -> dict[str, Any]:
        """GET /v1/files/{id}. Raises RefusedError."""
        return self._shown(self._found(asked))

    def content(self, asked: Asked) -> Download:
        """GET /v1/files/{id}/content. Raises RefusedError."""
        stored = self._found(asked)
        if not self.is_ready(stored):
            raise refused(400, f"File {stored.ident} is still being processed.")
        return Download(stored.path, stored.size)

    def delete(self, asked: Asked) -> dict[str, Any]:
        """DELETE /v1/files/{id}. Raises RefusedError."""
        stored = self._found(asked)
        self._drop(stored)
        return {"id": stored.ident, "object": "file", "deleted": True}

    def _found(self, asked: Asked) -> StoredFile:
        stored = self.find(asked.ident, asked.owner)
        if stored is None:
            raise refused(404, f"No such File object: {asked.ident}", param="id")
        return stored

    def _shown(self, stored: StoredFile) -> dict[str, Any]:
        expires_s = stored.expires_s
        return {
            "id": stored.ident,
            "object": "file",
            "bytes": stored.size,
            "created_at": self._wall(stored.created_s),
            "expires_at": None if expires_s is None else self._wall(expires_s),
            "filename": stored.filename,
            "purpose": stored.purpose,
            "status": "processed" if self.is_ready(stored) else "uploaded",
            "status_details": None,
        }

    def _drop(self, stored: StoredFile) -> None:
        del self._files[stored.ident]
        stored.deleted = True
        self._sweep(stored)

    def _sweep(self, stored: StoredFile) -> None:
        if stored.deleted and stored.users == 0:
            stored.path.unlink(missing_ok=True)


def expiry_s(given: object) -> float:
    """The seconds of an `expires_after`. Raises RefusedError for what is none."""
    seconds = given.get("seconds") if isinstance(given, dict) else None
    anchor = given.get("anchor") if isinstance(given, dict) else None
    if anchor != "created_at" or not isinstance(seconds, int):
        raise refused(400, "Invalid 'expires_after': give an anchor and seconds.")
    if not _SHORTEST_S <= seconds <= EXPIRES_AFTER_S:
        raise refused(
            400, f"Invalid 'expires_after.seconds': from {_SHORTEST_S} to {EXPIRES_AFTER_S}."
        )
    return float(seconds)


def _check_form(form: Form, asked: Asked) -> float | None:
    """The seconds until a file expires. Raises RefusedError for a file that no batch can take."""
    if form.fields.get("purpose") != "batch":
        message = f"'{form.fields.get('purpose')}' is not one of ['batch'] - 'purpose'"
        raise refused(400, message, param="purpose")
    if not (form.filename or "").endswith(".jsonl"):
        raise refused(400, "Invalid file format for Batch API. Must be .jsonl", param="file")
    most = asked.settings.max_batch_bytes
    if form.end - form.start > most:
        raise refused(400, f"File is too large. Maximum for a batch is {most} bytes.")
    anchor, seconds = (form.fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return EXPIRES_AFTER_S
    number = int(seconds) if seconds and seconds.isascii() and seconds.isdigit() else None
    return expiry_s({"anchor": anchor, "seconds": number})


def _copy(source: IO[bytes], path: Path, start: int, end: int) -> None:
    source.seek(start)
    missing = end - start
    with path.open("wb") as target:
        while missing > 0:
            block = source.read(min(_COPY_BYTES, missing))
            target.write(block)
            missing -= len(block)
