"""Files that somebody takes for a ledger, and which hold something else: a dataset, for example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import jsontext
from .errors import LedgerError

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes by which a ledger is told from other files.
_HEAD = 64 * 1024
#: What every line of a ledger begins with.
_BEGINNING = b'{"'
#: The one field that rows of a dataset may have; no index is called so.
_FIELDS = frozenset(
    (
        *("text", "content", "messages", "conversation", "conversations", "dialog"),
        *("prompt", "question", "query", "instruction", "input"),
        *("sentence", "document", "article", "title"),
    )
)


def may_be_ledger(path: Path) -> bool:
    """Return whether a file is a ledger, or none yet, by its first lines.

    A dataset whose rows have one field looks much like one, but for the name of that field.

    Raises:
        LedgerError: it cannot be read.
    """
    try:
        if not path.is_file():
            return True
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error.strerror})") from None
    *lines, cut_off = head.split(b"\n")
    indices: list[str] = []
    is_foreign = False
    for line in filter(bytes.strip, (*lines, cut_off)):
        index = _index_of(line)
        if index is not None:
            indices.append(index)
        elif not may_be_damaged(line):
            is_foreign = True
    if indices and {*indices} <= _FIELDS:
        return False
    return bool(indices) or not is_foreign


def _index_of(line: bytes) -> str | None:
    """Return the index of a line that is a ledger's entry."""
    try:
        entry = jsontext.load(line)
    except ValueError:
        return None
    return next(iter(entry)) if isinstance(entry, dict) and len(entry) == 1 else None


def may_be_damaged(line: bytes) -> bool:
    """Return whether a line that cannot be read may once have been a ledger's.

    Zeros are what a power cut leaves of lines that were not yet on the disk.
    """
    if not line.strip(b"\0\n"):
        return True
    try:
        jsontext.load(line)
    except ValueError:
        return line.startswith(_BEGINNING[: len(line)])
    return False
