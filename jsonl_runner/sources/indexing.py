"""The index of each row: a field of its own choice, its line, or its content."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeAlias

from ..indexes import IndexMap, IndexSet
from ..rows import kind_of
from .values import dumped

#: Gives a row of a file, by its name there, and a line its index.
Indexer: TypeAlias = Callable[[str, int, dict[str, Any]], int | str]

#: Bytes of a content's digest; among ten million rows two meet with a chance of 3e-6, and then they
#: are told apart as equal rows are.
_DIGEST = 8
#: Under what name a row keeps an "index" of its own when it gets another.
KEPT = "source_index"


def by_field(field: str) -> Indexer:
    """Return what takes a field of each row; `a.b` is the field b of a, if no field is so called.

    The Indexer raises ValueError where there is none, or where it cannot be an index.
    """
    path = field.split(".")

    def index_of(_file: str, _line: int, row: dict[str, Any]) -> int | str:
        value: Any = row.get(field)
        if value is None and len(path) > 1:
            value = row
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str) or type(value) is int:
            if value == "":
                raise ValueError(f'its "{field}" is empty, and cannot be its index')
            return value
        if value is None:
            names = ", ".join(list(row)[:8])
            raise ValueError(f'it has no "{field}" to be its index; its fields are {names}')
        raise ValueError(f'its "{field}" must be a string or an integer, not {kind_of(value)}')

    return index_of


def by_line(*, with_file: bool) -> Indexer:
    """Return what takes the line, behind the file's name where there may be several files."""

    def index_of(file: str, line: int, _row: dict[str, Any]) -> int | str:
        return f"{file}:{line}" if with_file else line

    return index_of


def by_content() -> Indexer:
    """Return what takes a digest of the row; the second of two equal rows has `-2` behind it."""
    seen, more = IndexSet(), IndexMap()

    def index_of(_file: str, _line: int, row: dict[str, Any]) -> str:
        digest = blake2b(dumped(row, sort_keys=True), digest_size=_DIGEST).digest()
        index = digest.hex()
        if seen.put(digest * 2):  # as long as a place has to be
            return index
        count = (more.get(index) or 1) + 1
        more.set(index, count)
        return f"{index}-{count}"

    return index_of


def with_index(row: dict[str, Any], index: int | str) -> dict[str, Any]:
    """Return a row with another index; one of its own is kept under another name."""
    if "index" in row and row["index"] != index:
        return {KEPT: row["index"], **row, "index": index}
    return {**row, "index": index}
