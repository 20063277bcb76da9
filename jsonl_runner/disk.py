"""Onto the disk: a file's bytes, and the names in a folder."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Force what is written into an open file onto the disk. macOS and Windows have no fdatasync.
sync_file: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)

#: How systems say that a folder cannot be forced at all, or not by us: some network file systems,
#: folders that we may write to and not read. PostgreSQL passes over the same ones.
_CANNOT = frozenset(
    {errno.EACCES, errno.EBADF, errno.EINVAL, errno.EISDIR, errno.ENOTSUP, errno.EOPNOTSUPP}
)


def sync_folder(folder: Path) -> None:
    """Force a new or changed name in a folder onto the disk, where the system can.

    Windows has no way to, and needs none.

    Raises:
        OSError: the disk would not take it.
    """
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
