"""Rows that are in memory already, as a part of a dataset: `MemoryRows`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from os import PathLike
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..rows import load_object, reason_line
from .chunks import needed
from .features import features_readers
from .tables import rows_of_table
from .values import dumped

if TYPE_CHECKING:
    from .parts import Row

#: What messages call them.
_NAME = "the rows given"
#: Rows that are made JSON, or taken out of a table, at once.
_BATCH = 1000


def files_or_rows(given: object) -> tuple[str | PathLike[str], ...] | MemoryRows:
    """Return several files by their paths, or rows; one look at the first tells which.

    Args:
        given: an iterable of either; a table of pandas or polars, or a `Dataset` of Hugging Face.

    Raises:
        ConfigError: it is neither, or gives rows that could be read once only.
    """
    if isinstance(given, MemoryRows):
        return given
    if _is_table(given):
        return MemoryRows(given)
    if isinstance(given, Mapping):
        raise ConfigError(
            "a single mapping is no dataset: put rows into a list, and of a dataset with splits "
            "take one (dataset['train'])"
        )
    if not isinstance(given, Iterable):
        raise _neither(given)
    items = iter(given)
    first = next(items, None)
    if first is None:
        return ()
    if isinstance(first, Mapping):
        if items is given:
            raise ConfigError(
                "rows are read several times (before anything is paid, when they are asked, by "
                "merge), and these can be read once only: give list(rows)"
            )
        return MemoryRows(given)
    files = tuple(chain((first,), items))
    for file in files:
        if not isinstance(file, (str, PathLike)):
            raise _neither(file)
    return files


def _neither(found: object) -> ConfigError:
    return ConfigError(
        "a dataset is files, given by their paths, or rows, given as mappings such as "
        f'{{"index": 1, "instruction": "…"}}; {type(found).__name__} is neither'
    )


def _is_table(given: object) -> bool:
    """Return whether to iterate over this gives something else than its rows, or less of them."""
    return any(hasattr(given, name) for name in ("iterrows", "iter_rows")) or _has_features(given)


def _has_features(given: object) -> bool:
    return hasattr(given, "with_format") and bool(getattr(given, "features", None))


class MemoryRows:
    """Rows in memory; a `parts.Part`. They are JSON from here on, as if they stood in a file.

    Args:
        given: mappings, to be iterated over as often as one likes; or a table, see `files_or_rows`.
    """

    name = file = _NAME
    unit = "row"

    def __init__(self, given: Any) -> None:
        self._given = given

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the number of each row, and the row."""
        for number, line in enumerate(self._lines(), 1):
            try:
                yield number, load_object(line)
            except ValueError as error:
                yield number, str(error)

    def raw(self) -> Iterator[bytes]:
        """Return the rows as lines of JSON, in pieces."""
        return self._raw()

    def _raw(self) -> Iterator[bytes]:
        lines: list[bytes] = []
        for line in self._lines():
            lines.append(line)
            if len(lines) == _BATCH:
                yield b"".join(lines)
                lines.clear()
        yield b"".join(lines)

    def _lines(self) -> Iterator[bytes]:
        for row in self._mappings():
            if not isinstance(row, Mapping):
                yield reason_line(f"a row must be a mapping, not {type(row).__name__}")
                continue
            try:
                yield dumped(row if isinstance(row, dict) else dict(row))
            except ValueError as error:
                yield reason_line(str(error))

    def _mappings(self) -> Iterator[Any]:
        given = self._given
        if _has_features(given):  # as its files are read: classes by their names, and pictures
            readers = features_readers(given.features.to_dict())
            arrow = needed("pyarrow", _NAME, "tables")
            for table in given.with_format("arrow").iter(batch_size=_BATCH):
                yield from rows_of_table(arrow, table, readers)
        elif hasattr(given, "iter_rows"):  # of polars
            yield from given.iter_rows(named=True)
        elif hasattr(given, "iterrows"):  # of pandas, whose own iteration makes 1.0 of 1
            for start in range(0, len(given), _BATCH):
                yield from given.iloc[start : start + _BATCH].to_dict("records")
        else:
            yield from given
