"""An append-only file of whole lines: the ground under the ledger and the call log."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING, Literal

from .disk import sync_file, sync_folder
from .errors import LedgerError

if TYPE_CHECKING:
    from pathlib import Path

#: When what is written is also forced onto the disk: `always` before it counts as written, `group`
#: within `SYNC_EVERY_S`, `off` when the system likes. A killed process loses nothing in any case;
#: a machine that loses power loses what was not yet forced.
FsyncPolicy = Literal["always", "group", "off"]

#: Seconds between two syncs under `group`: keeps up with 90,000 rows a second where a sync a row
#: keeps up with 900 (docs/performance.md), and a power cut costs a tenth of a second of answers.
SYNC_EVERY_S = 0.1

#: How systems say that there is none. Windows knows no quotas.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


class AppendFile:
    """A file that only grows, by whole lines.

    Args:
        path: the file; made when it is not there, its folder not.
        fsync: when to force it onto the disk.

    Raises:
        LedgerError: the file cannot be opened.
    """

    def __init__(self, path: Path, fsync: FsyncPolicy) -> None:
        self.path = path
        self._fsync = fsync
        self._created = not path.exists()
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            self._file = os.open(path, flags, 0o666)
            if self._created and fsync != "off":  # else a power cut may take the name with it
                self._sync_name()
        except OSError as error:
            hint = "see to its permissions, or name another output"
            raise LedgerError(f"{path}: cannot be written ({error.strerror}); {hint}") from None
        self._end = os.lseek(self._file, 0, os.SEEK_END)
        self._failure: OSError | None = None
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._syncer: threading.Thread | None = None

    def _sync_name(self) -> None:
        try:
            # A link may lead to a file that is not there yet: its name stands elsewhere.
            sync_folder(self.path.resolve().parent)
        except OSError:
            os.close(self._file)
            self.path.unlink(missing_ok=True)
            raise

    @property
    def descriptor(self) -> int:
        """The open file's number for the system."""
        return self._file

    @property
    def is_behind(self) -> bool:
        """Whether somebody else has written behind what was written here."""
        return os.fstat(self._file).st_size != self._end

    def cut(self, size: int) -> None:
        """Shorten the file to its first `size` bytes.

        Raises:
            LedgerError: the system would not have it.
        """
        try:
            self._cut(size)
        except OSError as error:
            raise self._error(error) from None

    def _cut(self, size: int) -> None:
        os.ftruncate(self._file, size)
        self._end = os.lseek(self._file, size, os.SEEK_SET)

    def append(self, data: bytes) -> None:
        """Write whole lines at the end.

        Raises:
            LedgerError: not all of it could be written. The file is cut back to its last whole
                line; what did fit up to there stays.
        """
        if self._failure is not None:
            raise self._error(self._failure)
        # Where it is now: a batch's plan and its results write one call log in turn.
        start = self._end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            self._write(data)
        except OSError as error:
            whole = data.rfind(b"\n", 0, self._end - start) + 1
            # Where even that fails, the first error is still the one to tell; what is torn is cut
            # back when the file is opened again.
            with contextlib.suppress(OSError):
                self._cut(start + whole)
            raise self._error(error) from None
        if self._fsync == "always":
            self._sync_now()
        elif self._fsync == "group":
            self._dirty.set()
            if self._syncer is None:
                self._syncer = threading.Thread(target=self._keep_synced, daemon=True)
                self._syncer.start()

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:  # a short write is how a nearly full disk begins to refuse
            written = os.write(self._file, left)
            self._end += written
            left = left[written:]

    def _sync_now(self) -> None:
        try:
            sync_file(self._file)
        except OSError as error:
            raise self._error(error) from None

    def force(self) -> int:
        """Force all of the file onto the disk, whatever the policy; return its descriptor.

        Raises:
            LedgerError: the disk would not take it.
        """
        if self._failure is not None:
            raise self._error(self._failure)
        self._sync_now()
        return self._file

    def _keep_synced(self) -> None:
        """Force the file onto the disk apart from the writer, who must not wait for the disk."""
        while not self._closing.wait(SYNC_EVERY_S):
            if self._dirty.is_set():
                self._dirty.clear()
                try:
                    sync_file(self._file)
                except OSError as error:
                    self._failure = error  # the next append raises it
                    return

    def close(self) -> None:
        """Force what is written onto the disk (unless `off`) and close.

        A file that was made by this object and into which nothing came is removed.

        Raises:
            LedgerError: the disk would not take it.
        """
        self._closing.set()
        if self._syncer is not None:
            self._syncer.join()
        try:
            if self._failure is not None:
                raise self._error(self._failure)
            if self._fsync != "off":
                self._sync_now()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close a file without forcing it onto the disk, before anything was appended."""
        is_empty = os.fstat(self._file).st_size == 0
        os.close(self._file)
        if self._created and is_empty:
            self.path.unlink(missing_ok=True)

    def _error(self, error: OSError) -> LedgerError:
        hint = "make room" if error.errno in _NO_ROOM else "see to the disk"
        return LedgerError(
            f"{self.path}: cannot be written ({error.strerror}); {hint} and run the same command "
            "again, it goes on where it stopped"
        )
