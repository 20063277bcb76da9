"""Which process is asking what: so that several do not pay for the same request at the same time.

A claim is a lock file that the system lets go of with its process, however that ends.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import filelock


class Claim(NamedTuple):
    """The right of this process to ask a request; without a lock where no file can be made."""

    lock: filelock.BaseFileLock | None

    def drop(self) -> None:
        """Let others ask; what was to be kept has been kept."""
        if self.lock is None:
            return
        # The file goes while it is held: who makes it anew looks into the cache before asking.
        # Windows removes no open file; there it stays, and is used again.
        with contextlib.suppress(OSError):
            Path(self.lock.lock_file).unlink(missing_ok=True)
        self.lock.release()


def claim(folder: Path, name: str) -> Claim | None:
    """Claim a request; None when another process is asking it.

    Args:
        folder: where claims lie; made when it is not there.
        name: of the request, fit for a file.
    """
    lock = filelock.FileLock(folder / f"{name}.lock", timeout=0, thread_local=False)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        # A folder that takes no files looks like contention to filelock.
        return None if Path(lock.lock_file).exists() else Claim(None)
    except (OSError, NotImplementedError):  # a full disk, a file system without locks
        return Claim(None)
    return Claim(lock)
