"""Parquet and Arrow files, by pyarrow, which is imported when one is read."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..remote import shown, url_of
from .chunks import needed
from .features import fields_read, items_read, readers_of
from .textfile import opened

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from .features import Reader
    from .parts import Row

#: Rows that are decoded at once, and their bytes: a row may hold pictures.
_BATCH, _BATCH_BYTES = 1024, 16 * 1024 * 1024
#: Bytes of a column that are read at once.
_BUFFER = 1024 * 1024
#: The kinds of files that are tables.
TABLES = ("parquet", "arrow")
#: What they begin with; Arrow streams, which have no table of contents, with something else.
MAGIC = {"parquet": b"PAR1", "arrow": b"ARROW1"}


class TablePart:
    """Parquet or Arrow files with the rows of one table; a `parts.Part`.

    Args:
        paths: the files, in order; rows are numbered from the first to the last.
        kind: `parquet` or `arrow`.
        name: what messages call them.
    """

    unit = "row"

    def __init__(self, paths: Sequence[Path], kind: str, name: str) -> None:
        self._paths = paths
        self._kind = kind
        self.name = name
        self.file = paths[0].name
        self._arrow = needed("pyarrow", name, f"{kind.capitalize()} files")

    def raw(self) -> None:
        """Return None: the rows are no JSONL yet."""

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the number of each row, and the row."""
        number = 0
        for path in self._paths:
            name = shown(path)
            batches = _slices(_parquet(path) if self._kind == "parquet" else _arrow(path))
            try:
                for rows in _decoded(self._arrow, batches, path.parent / "dataset_info.json"):
                    for row in rows:
                        number += 1
                        yield number, row
            except (self._arrow.ArrowException, ValueError, OSError) as error:
                why = " ".join(str(error).split()) or type(error).__name__
                raise InputError(
                    f"{name}: cannot be read as {self._kind.capitalize()} behind row {number:,} "
                    f"({why})"
                ) from None


def _parquet(path: Path) -> Generator[Any]:
    parquet = needed("pyarrow.parquet", shown(path), "Parquet files")
    # Buffered: else a whole column of a row group, which may be the file, is read at once.
    with (
        opened(path, shown(path)) if url_of(path) else contextlib.nullcontext(path) as source,
        parquet.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as file,
    ):
        about = file.metadata
        size = sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
        rows = _rows_at_once(size, about.num_rows)
        yield from file.iter_batches(batch_size=rows, use_threads=False)


def _arrow(path: Path) -> Generator[Any]:
    pa = needed("pyarrow", shown(path), "Arrow files")
    with contextlib.ExitStack() as stack:
        if url_of(path):
            source = pa.PythonFile(stack.enter_context(opened(path, shown(path))), "r")
        else:
            source = stack.enter_context(pa.OSFile(str(path), "rb"))
        is_file = source.read(len(MAGIC["arrow"])) == MAGIC["arrow"]
        source.seek(0)
        if is_file:
            reader = stack.enter_context(pa.ipc.open_file(source))
            batches = (reader.get_batch(k) for k in range(reader.num_record_batches))
        else:
            batches = iter(stack.enter_context(pa.ipc.open_stream(source)))
        yield from batches


def _rows_at_once(size: int, rows: int) -> int:
    return max(1, min(_BATCH, _BATCH_BYTES * rows // max(1, size)))


def _slices(batches: Generator[Any]) -> Generator[Any]:
    with contextlib.closing(batches):
        for batch in batches:
            rows = _rows_at_once(batch.nbytes, batch.num_rows)
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)


def _decoded(arrow: Any, batches: Generator[Any], beside: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of batches, all of them decoded in one thread.

    Rows are taken by whichever worker wants one, and Arrow keeps the memory of each thread that it
    has ever worked in: with 64 threads 750 MB instead of 100.
    """
    readers: dict[str, Reader] | None = None

    def decode() -> list[dict[str, Any]] | None:
        nonlocal readers
        batch = next(batches, None)
        if batch is None:
            return None
        if readers is None:
            _check_names(batch.schema.names)
            readers = readers_of(batch.schema.metadata, beside)
        return list(rows_of_table(arrow, batch, readers))

    try:
        with ThreadPoolExecutor(1, "reader") as reader:
            while (rows := reader.submit(decode).result()) is not None:
                yield rows
    finally:
        # Ctrl-C may find the thread at work, and is not to become another error.
        with contextlib.suppress(ValueError):
            batches.close()


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two columns are called {name!r}; rename one")


def rows_of_table(
    arrow: Any, batch: Any, readers: Mapping[str, Reader]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, or of a batch of one, with values that `values` can write.

    Args:
        arrow: the module pyarrow.
        batch: the table.
        readers: of those columns whose cells stand for something else; see `features`.
    """
    names = batch.schema.names
    columns = []
    for name, column in zip(names, batch.columns, strict=True):
        wanted = _known(arrow, column.type)
        same = column if wanted is column.type else column.cast(wanted, safe=False)
        cells = same.to_pylist()
        for reader in (_map_reader(arrow, wanted), readers.get(name)):
            if reader is not None:
                cells = map(reader, cells)
        columns.append(cells)
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _map_reader(arrow: Any, kind: Any) -> Reader | None:
    """Return what makes objects of the maps in a column; None: it has none."""
    types = arrow.types
    if types.is_map(kind):
        return partial(_object, _map_reader(arrow, kind.item_type))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = _map_reader(arrow, kind.value_type)
        return None if inner is None else partial(items_read, inner)
    if types.is_struct(kind):
        fields = [kind.field(k) for k in range(kind.num_fields)]
        found = {field.name: _map_reader(arrow, field.type) for field in fields}
        readers = {name: reader for name, reader in found.items() if reader is not None}
        return partial(fields_read, readers) if readers else None
    return None


def _object(reader: Reader | None, cell: Any) -> Any:
    """Return a map as an object; as the list of pairs that it is where a key stands twice."""
    if cell is None:
        return None
    pairs = [(key, value if reader is None else reader(value)) for key, value in cell]
    found = {key if isinstance(key, str) else str(key): value for key, value in pairs}
    return found if len(found) == len(pairs) else pairs


def _known(arrow: Any, kind: Any) -> Any:
    """Return a type that Python's times can hold: nanoseconds become microseconds."""
    types = arrow.types
    if types.is_timestamp(kind) and kind.unit == "ns":
        return arrow.timestamp("us", kind.tz)
    if types.is_time64(kind) and kind.unit == "ns":
        return arrow.time64("us")
    if types.is_duration(kind) and kind.unit == "ns":
        return arrow.duration("us")
    if types.is_list(kind) or types.is_large_list(kind):
        inner = _known(arrow, kind.value_type)
        whole = arrow.list_ if types.is_list(kind) else arrow.large_list
        return kind if inner is kind.value_type else whole(inner)
    if types.is_map(kind):
        inner = _known(arrow, kind.item_type)
        return kind if inner is kind.item_type else arrow.map_(kind.key_type, inner)
    if types.is_struct(kind):
        fields = [kind.field(k) for k in range(kind.num_fields)]
        inner = [_known(arrow, field.type) for field in fields]
        if all(new is field.type for new, field in zip(inner, fields, strict=True)):
            return kind
        return arrow.struct([f.with_type(new) for new, f in zip(inner, fields, strict=True)])
    return kind
