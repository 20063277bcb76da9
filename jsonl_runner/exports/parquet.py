"""Parquet, written by pyarrow in groups of bounded size."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from .. import jsontext
from .columns import ListOf, Struct, fitted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .columns import Columns, Kind

#: Rows of a group, and bytes of their JSON: what a reader holds at once, and so does the writer.
_GROUP_ROWS, _GROUP_BYTES = 10_000, 32 * 2**20
#: A column of nulls alone is one of texts.
_TYPES = {"bool": pa.bool_(), "int": pa.int64(), "long": pa.int64(), "float": pa.float64()}


class ParquetSink:
    """A Parquet file, the same bytes for the same rows and the same pyarrow.

    Args:
        stream: where to; it stays open.
        columns: of the table.
    """

    def __init__(self, stream: IO[bytes], columns: Columns) -> None:
        self._kinds = columns.kinds
        self._schema = pa.schema(
            [(jsontext.mended(n), _type_of(k)) for n, k in self._kinds.items()]
        )
        self._file = ParquetWriter(stream, self._schema, compression="snappy")
        self._columns: list[list[Any]] = [[] for _ in self._kinds]
        self._rows = self._size = 0

    def write(self, row: Mapping[str, Any]) -> None:
        """Take a row."""
        for column, (name, kind) in zip(self._columns, self._kinds.items(), strict=True):
            column.append(fitted(row.get(name), kind))
        self._rows += 1
        self._size += len(jsontext.dump(row))
        if self._rows >= _GROUP_ROWS or self._size >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the last group, and what a reader looks for at the end."""
        if self._rows:
            self._flush()
        self._file.close()

    def leave(self) -> None:
        """Write no more: a file that was not closed would be, when its stream is there no more."""
        self._file.is_open = False

    def _flush(self) -> None:
        arrays = [
            pa.array(column, of.type)
            for column, of in zip(self._columns, self._schema, strict=True)
        ]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self._file.write_table(table, row_group_size=self._rows)
        self._columns = [[] for _ in self._kinds]
        self._rows = self._size = 0


def _type_of(kind: Kind) -> pa.DataType:
    if isinstance(kind, ListOf):
        return pa.list_(_type_of(kind.items))
    if isinstance(kind, Struct):
        return pa.struct([(jsontext.mended(n), _type_of(of)) for n, of in kind.names.items()])
    return _TYPES.get(kind, pa.string())
