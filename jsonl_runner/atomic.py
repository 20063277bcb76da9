"""Files that are whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import IO, TYPE_CHECKING

from .errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the place of `path` at the end.

    On any error it is removed, and what stood at `path` stays as it was.

    Raises:
        LedgerError: it cannot be written.
    """
    path = path.resolve()  # a link stays a link, and the file is replaced where it lies
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.is_dir():
            raise LedgerError(f"{path}: this is a directory; give a file name")
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise LedgerError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Force the new name onto the disk; Windows has no way to, and needs none."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
