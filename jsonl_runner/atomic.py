"""Files that are whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from typing import IO, TYPE_CHECKING

from .disk import sync_folder
from .errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the place of `path` at the end.

    On any error it is removed, and what stood at `path` stays as it was.

    Raises:
        LedgerError: it cannot be written.
    """
    with replacing_all([path]) as (stream,):
        yield stream


@contextlib.contextmanager
def replacing_all(paths: Sequence[Path]) -> Iterator[list[IO[bytes]]]:
    """Open files for writing that take the places of `paths` at the end, all or none.

    None is moved before all are on the disk. On any error they are removed, and what stood at the
    paths stays as it was.

    Raises:
        LedgerError: one of them cannot be written.
    """
    with contextlib.ExitStack() as stack:
        files = [_Beside(path) for path in paths]
        for file in files:
            stack.callback(file.discard)
            with _telling(file.path):
                file.open()
        with _telling(*(file.path for file in files)):
            yield [file.stream for file in files]
        for file in files:
            with _telling(file.path):
                file.finish()
        for file in files:
            with _telling(file.path):
                file.temporary.replace(file.path)
                sync_folder(file.path.parent)


class _Beside:
    """A file that is written beside its place."""

    stream: IO[bytes]

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # a link stays a link, and the file is replaced where it lies
        # Of nobody else: in a container, each process may have the number of one that was killed.
        self.temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(6)}.tmp")

    def open(self) -> None:
        if self.path.is_dir():
            raise LedgerError(f"{self.path}: this is a directory; give a file name")
        if not self.path.parent.is_dir():
            raise LedgerError(f"{self.path}: its folder does not exist; make it first")
        self.stream = self.temporary.open("xb")

    def finish(self) -> None:
        """Force it onto the disk, and see that it can be moved."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        if self.path.exists():
            shutil.copymode(self.path, self.temporary)
            if os.name == "nt":  # a file that another program has open cannot be replaced there
                self.path.open("r+b").close()

    def discard(self) -> None:
        if hasattr(self, "stream"):
            with contextlib.suppress(OSError):
                self.stream.close()
        # Ctrl-C may have come between the making of the file and its being known here.
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _telling(*paths: Path) -> Iterator[None]:
    """Make an error of the system one that names the files."""
    try:
        yield
    except OSError as error:
        names = ", ".join(str(path) for path in paths)
        raise LedgerError(f"{names}: cannot be written ({error.strerror or error})") from None
