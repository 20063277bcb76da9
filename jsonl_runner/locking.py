"""One writer at a time: lock files that say who holds them."""

from __future__ import annotations

import contextlib
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import filelock

from .errors import LedgerError, LedgerLockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def lock_path(path: Path) -> Path:
    """Return the lock file of a ledger; a link and the file it leads to have one lock."""
    path = path.resolve() if path.is_symlink() else path
    return path.with_name(path.name + ".lock")


def lock(path: Path, lock_file: Path | None = None) -> filelock.BaseFileLock:
    """Take the lock of a ledger or an output folder, and write into it who holds it.

    Args:
        path: what messages call it.
        lock_file: the lock; None: the file beside a ledger.

    Raises:
        LedgerLockedError: somebody else has it; the message says who.
        LedgerError: the lock file cannot be made.
    """
    lock_file = lock_path(path) if lock_file is None else lock_file

    def sign(descriptor: int) -> None:
        started = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {started}\n"
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, holder.encode())

    held = filelock.FileLock(lock_file, timeout=0, thread_local=False, on_acquired=sign)
    try:
        held.acquire()
    except filelock.Timeout:
        if not lock_file.exists():  # a folder that takes no files looks like contention to filelock
            raise LedgerError(f"{lock_file}: cannot be made; name another output") from None
        raise LedgerLockedError(
            f"{path}: another run is writing it ({_holder(lock_file)}); wait for it or stop it"
        ) from None
    except OSError as error:
        raise LedgerError(f"{lock_file}: cannot be made ({error.strerror})") from None
    return held


@contextlib.contextmanager
def locked(path: Path, lock_file: Path | None = None) -> Iterator[None]:
    """Hold a lock; see `lock`. The lock file is removed at the end."""
    held = lock(path, lock_file)
    try:
        yield
    finally:
        unlock(path, held, lock_file)


def unlock(path: Path, held: filelock.BaseFileLock, lock_file: Path | None = None) -> None:
    """Give a lock back, and remove its file."""
    # While it is still held, so that nobody else can be holding it. Windows cannot remove an open
    # file: an empty lock file stays there, which does no harm.
    with contextlib.suppress(OSError):
        (lock_path(path) if lock_file is None else lock_file).unlink()
    held.release()


def _holder(lock_file: Path) -> str:
    try:
        return lock_file.read_text(encoding="utf-8").strip() or "unknown process"
    except OSError:  # Windows keeps a locked file from being read
        return "another process"
