"""Where rows are written to: each kind of file, the same bytes for the same rows."""

from __future__ import annotations

import contextlib
import csv
import gzip
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from .. import jsontext
from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .columns import Columns
    from .forms import Form
    from .parquet import ParquetSink

#: What the csv module ends lines with. It quotes cells that hold one of these two characters, and
#: before Python 3.13 no others: a lone `\r` would end a line for many readers.
_CSV_END = "\r\n"


class Sink(Protocol):
    """Takes rows into a file, which stays open."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Take a row."""

    def close(self) -> None:
        """Write what is still to be written."""


@contextlib.contextmanager
def sink_into(stream: IO[bytes], form: Form, columns: Columns | None) -> Iterator[Sink]:
    """Open a file for rows.

    Args:
        stream: the file.
        form: what it shall be.
        columns: of a table; JSON needs none.

    Raises:
        ConfigError: a package that it takes is not installed.
    """
    with contextlib.ExitStack() as stack:
        if form.compression:
            stream = stack.enter_context(_compressed(stream, form.compression))
        sink: Sink
        if columns is not None and form.container == "parquet":
            parquet = _parquet(stream, columns)
            stack.callback(parquet.leave)
            sink = parquet
        elif columns is not None and form.container == "csv":
            sink = _Csv(stream, columns)
        else:
            sink = _Array(stream) if form.container == "array" else _Lines(stream)
        yield sink
        sink.close()


def _compressed(
    stream: IO[bytes], compression: str
) -> contextlib.AbstractContextManager[IO[bytes]]:
    if compression == "gzip":
        # Neither name nor time: they would make other bytes of the same rows.
        packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0)
        return cast("contextlib.AbstractContextManager[IO[bytes]]", packed)
    try:
        import zstandard  # noqa: PLC0415  # an extra, and few need it
    except ImportError:
        raise ConfigError(_missing("zstandard", ".zst files")) from None
    writer = zstandard.ZstdCompressor().stream_writer(stream, closefd=False)
    return cast("contextlib.AbstractContextManager[IO[bytes]]", writer)


def _parquet(stream: IO[bytes], columns: Columns) -> ParquetSink:
    try:
        from .parquet import ParquetSink  # noqa: PLC0415  # an extra, and dear to import
    except ImportError:
        raise ConfigError(_missing("pyarrow", "Parquet files")) from None
    return ParquetSink(stream, columns)


def _missing(package: str, what: str) -> str:
    return (
        f"{what} need the package {package}, which is not installed; "
        "pip install 'jsonl-runner[data]'"
    )


class _Array:
    """A JSON array with a row a line."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._out = stream.write
        self._before = b"\n"
        self._out(b"[")

    def write(self, row: Mapping[str, Any]) -> None:
        self._out(self._before)
        self._out(jsontext.dump(row))
        self._before = b",\n"

    def close(self) -> None:
        self._out(b"\n]\n")


class _Lines:
    """A row a line, and nothing else."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._out = stream.write

    def write(self, row: Mapping[str, Any]) -> None:
        self._out(jsontext.dump(row) + b"\n")

    def close(self) -> None:
        pass


class _Csv:
    r"""CSV with a line of names: UTF-8, `,` and `"`, and lines that end with `\n`.

    Texts stand as they are (a spreadsheet takes one that begins with `=` for a formula), null is
    nothing at all, and everything else is its JSON.
    """

    def __init__(self, stream: IO[bytes], columns: Columns) -> None:
        self._names = columns.names
        self._table = csv.writer(_Cut(stream), lineterminator=_CSV_END)
        self._table.writerow([jsontext.mended(name) for name in self._names])

    def write(self, row: Mapping[str, Any]) -> None:
        self._table.writerow([_cell(row.get(name)) for name in self._names])

    def close(self) -> None:
        pass


class _Cut:
    r"""Takes the lines of the csv module, and ends them with `\n`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._out = stream.write

    def write(self, line: str) -> None:
        self._out(line.removesuffix(_CSV_END).encode() + b"\n")


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return str(jsontext.mended(value))
    return "" if value is None else jsontext.dump(value).decode()
