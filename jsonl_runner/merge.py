"""Joining input and outputs into training data."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import jsontext
from .atomic import replacing
from .calllog import path_for
from .errors import InputError
from .indexes import IndexMap
from .ledger import Damage, entries_of, parse_line
from .lines import LineReader
from .reader import RowReader, open_input
from .records import BadRow
from .survey import bad_rows_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .survey import BadRowsPolicy


@dataclass
class MergeSummary:
    """What a merge did.

    Attributes:
        rows: rows of the input that can be used.
        written: rows in the merged file.
        without_output: rows that have no output; left out, or written with null.
        bad_rows: rows that cannot be used, a line of text each.
        damage: ledger lines that cannot be read.
    """

    rows: int = 0
    written: int = 0
    without_output: int = 0
    bad_rows: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


def merge(
    data: Path,
    ledger: Path,
    target: Path,
    *,
    keep_null: bool = False,
    bad_rows: BadRowsPolicy = "fail",
) -> MergeSummary:
    """Write a JSON array of `{"index", "instruction", "input", "output"}` in input order.

    Extra fields of a row follow behind. Memory does not grow with the outputs: they are read from
    the ledger one by one.

    Args:
        data: the input.
        ledger: its ledger.
        target: the file to write; it is whole or not there.
        keep_null: whether rows without an output are written, with `null`.
        bad_rows: what to do about rows that cannot be used.

    Raises:
        InputError: a file is missing, or the ledger holds no row of this input.
        LedgerError: a file cannot be read or written.
    """
    for source in (data, ledger, path_for(ledger)):
        if target.exists() and source.exists() and target.samefile(source):
            raise InputError(f"{target}: the merged file would overwrite {source}; name another")
    if not ledger.is_file():
        raise InputError(f"{ledger}: there is no such ledger; make it with jsonl-runner run")
    damage: list[Damage] = []
    outputs = last_outputs(ledger, damage)
    summary = MergeSummary(damage=[str(item) for item in damage])
    with contextlib.ExitStack() as stack:
        reader = RowReader(stack.enter_context(open_input(data)), str(data))
        lines = LineReader(ledger)
        stack.callback(lines.close)
        merged = stack.enter_context(replacing(target))
        bad: list[BadRow] = []
        merged.write(b"[")
        for row in _joined(reader, lines, outputs, summary, bad):
            if row["output"] is None and not keep_null:
                continue
            merged.write(b",\n" if summary.written else b"\n")
            merged.write(jsontext.dump(row))
            summary.written += 1
        merged.write(b"\n]\n")
        if bad_rows == "fail" and bad:
            raise bad_rows_error(bad)
        summary.bad_rows = [str(row) for row in bad]
        if summary.rows == summary.without_output:
            raise InputError(
                f"{ledger}: it holds no output for any of the {summary.rows:,} rows of {data}; is "
                "it the ledger of this input?"
            )
    return summary


def last_outputs(ledger: Path, damage: list[Damage]) -> IndexMap:
    """Return, for each index with an output, the byte at which its last output's line begins."""
    outputs = IndexMap()
    for entries in entries_of(ledger, damage):
        for place, offset, has_output in entries:
            if has_output:
                outputs.put(place, offset)
    return outputs


def _joined(
    reader: RowReader,
    lines: LineReader,
    outputs: IndexMap,
    summary: MergeSummary,
    bad: list[BadRow],
) -> Iterator[dict[str, Any]]:
    for row in reader.rows():
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        index = row["index"]
        offset = outputs.get(index)
        output = None if offset is None else parse_line(lines.line_at(offset))[1]
        summary.rows += 1
        summary.without_output += output is None
        joined = {
            "index": index,
            "instruction": row.get("instruction") or "",
            "input": row.get("input") or "",
            "output": output,
        }
        yield {**joined, **{name: row[name] for name in row if name not in joined}}
