"""One writer at a time: lock files that say who holds them.

A lock file goes by a ledger's name. A hard link is another name; so a ledger that has several is
held itself too. Only such a one: over SMB, what is locked cannot be read by anybody else. (A link
that is made while a run goes on is not seen.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import filelock

from .errors import LedgerError, LedgerLockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


#: How a file system says that it has no locks: NFS whose lock service is not there, some of FUSE's.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})

_OTHERWISE = "see to the folder, or name another output"


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
        LedgerError: the lock file cannot be made, or not be locked.
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
            raise LedgerError(f"{lock_file}: cannot be made; {_OTHERWISE}") from None
        raise LedgerLockedError(
            f"{path}: another run is writing it ({_holder(lock_file)}); wait for it or stop it"
        ) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            with contextlib.suppress(OSError):
                if not lock_file.stat().st_size:  # ours, and nobody's who has signed it
                    lock_file.unlink()
            raise _no_locks(lock_file, error) from None
        raise LedgerError(f"{lock_file}: cannot be made ({error.strerror}); {_OTHERWISE}") from None
    return held


def _no_locks(path: Path, error: OSError) -> LedgerError:
    return LedgerError(
        f"{path}: cannot be locked ({error.strerror}), and two runs on one output would pay twice: "
        "name an output on a disk of this machine, and copy it when the run is over"
    )


def hold(path: Path, descriptor: int) -> None:
    """Hold a ledger that has other names (hard links) too, until it is closed.

    Args:
        path: what messages call it; the caller has the lock that goes by its name.
        descriptor: the same, opened for writing.

    Raises:
        LedgerLockedError: a run holds it that knows it by another name.
        LedgerError: it cannot be held.
    """
    found = os.fstat(descriptor)
    if found.st_nlink < 2 or not stat.S_ISREG(found.st_mode):
        return
    if os.name == "nt":  # what is locked there cannot be read either
        raise LedgerError(
            f"{path}: this file has another name (a hard link) too, by which another run could "
            "write it: put a copy in its place"
        )
    try:
        is_held = filelock.lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        raise _no_locks(path, error) from None
    if not is_held:
        raise LedgerLockedError(
            f"{path}: another run is writing it by another name (a hard link); wait for it or stop "
            "it"
        )


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a ledger that is there while something is done; see `hold`.

    Raises:
        LedgerLockedError, LedgerError: see there.
    """
    try:
        stream = path.open("r+b")
    except OSError as error:
        raise LedgerError(f"{path}: cannot be written ({error.strerror})") from None
    with stream:
        hold(path, stream.fileno())
        if os.name == "nt":  # an open file cannot be replaced there
            stream.close()
        yield


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
