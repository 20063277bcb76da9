"""Rewriting a ledger without what is superseded."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .atomic import replacing
from .errors import InputError
from .indexes import IndexMap, IndexSet
from .indexfile import forget
from .ledger import Damage, entries_of, line_of, parse_line
from .lines import LineReader, read_lines, torn_tail
from .locking import held, locked
from .reader import RowReader, open_input
from .recipes import dataset_for
from .records import BadRow
from .turns import in_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .dataset import Data


@dataclass
class CompactSummary:
    """What a compaction did.

    Attributes:
        entries_before, entries_after: entries of the ledger.
        bytes_before, bytes_after: its size.
        damage: lines that could not be read, and are kept in `<ledger>.damaged`.
    """

    entries_before: int = 0
    entries_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    damage: list[str] = field(default_factory=list)


def compact(ledger: Path, order: Data | None = None) -> CompactSummary:
    """Rewrite a ledger: one line an index, its last output, or a null if it has none.

    Lines that cannot be read are moved to `<ledger>.damaged`. The ledger is replaced in one step;
    whatever goes wrong, the old one stays.

    Args:
        ledger: the ledger; its lock is taken.
        order: an input whose order the lines shall have (indices it does not have come last);
            None keeps the order in which the rows were answered.

    Raises:
        InputError: there is no such ledger or input.
        LedgerLockedError: a run is writing the ledger.
        LedgerError: a file cannot be read or written.
    """
    if not ledger.is_file():
        raise InputError(f"{ledger}: there is no such ledger")
    with locked(ledger), held(ledger):
        summary = CompactSummary(bytes_before=ledger.stat().st_size)
        damage: list[Damage] = []
        winners = _winners(ledger, damage, summary)
        summary.damage = [str(item) for item in damage]
        forget(ledger)
        with replacing(ledger) as stream:
            for line in _ordered(ledger, winners, order):
                stream.write(line)
                summary.entries_after += 1
            # Last, when nothing else can fail, and before the old ledger goes.
            _keep_damaged(ledger, {item.line for item in damage}, summary)
        summary.bytes_after = ledger.stat().st_size
    return summary


def _winners(ledger: Path, damage: list[Damage], summary: CompactSummary) -> IndexMap:
    """Return where each index's last output stands, or its last null: 2 x offset + has_output."""
    winners = IndexMap()
    for entries in entries_of(ledger, damage):
        summary.entries_before += len(entries.indices)
        for place, offset, has_output in entries:
            if has_output or not (winners.at(place) or 0) & 1:
                winners.put(place, 2 * offset + has_output)
    return winners


def _keep_damaged(ledger: Path, numbers: set[int], summary: CompactSummary) -> None:
    """Append the lines that cannot be read, a torn last one too, to a file of their own."""
    tail = torn_tail(ledger)[1]
    if tail and _is_torn(tail):
        summary.damage.append(f"{ledger}: its last line was cut off while it was written")
    elif not numbers:
        return
    with ledger.with_name(ledger.name + ".damaged").open("ab") as stream:
        for number, (_, line) in enumerate(read_lines(ledger), 1):
            if number in numbers or (not line.endswith(b"\n") and _is_torn(line)):
                stream.write(line.rstrip(b"\n") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def _is_torn(line: bytes) -> bool:
    try:
        parse_line(line)
    except ValueError:
        return True
    return False


def _ordered(ledger: Path, winners: IndexMap, order: Data | None) -> Iterator[bytes]:
    written = IndexSet()
    if order is not None:
        order = in_order(dataset_for(order, ledger))
        lines = LineReader(ledger)
        with contextlib.closing(lines), open_input(order) as stream:
            for row in RowReader(stream, str(order), checks_images=False).rows():
                if isinstance(row, BadRow):
                    continue
                place = winners.get(row["index"])
                if place is not None and written.add(row["index"]):
                    yield line_of(*parse_line(lines.line_at(place >> 1)))
    for offset, line in read_lines(ledger):
        try:
            index, output = parse_line(line)
        except ValueError:
            continue  # kept beside
        place = winners.get(index)
        if place is not None and place >> 1 == offset and index not in written:
            yield line_of(index, output)
