"""What tests of the index file share: an input and a ledger, looked at as a run does."""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING, Any

from jsonl_runner.calllog import CallLog, SeenInput
from jsonl_runner.familiar import groups_left, look
from jsonl_runner.ledger import Ledger
from jsonl_runner.reader import GroupReader, open_input

if TYPE_CHECKING:
    from pathlib import Path

    from jsonl_runner.indexes import IndexSet
    from jsonl_runner.records import Outcome
    from jsonl_runner.survey import Survey

#: What a clock's tick and a late file server may hide; such a file is looked at again.
SETTLED_S = 3


class Counting(io.FileIO):
    """A file that counts the bytes that are read of it."""

    count = 0

    def readinto(self, buffer: Any) -> int | None:
        size = super().readinto(buffer)
        self.count += size or 0
        return size


class Desk:
    """An input and a ledger with an index file, looked at as a run does, without the calls."""

    def __init__(self, folder: Path) -> None:
        self.data, self.output = folder / "data.jsonl", folder / "output.jsonl"
        self.read = 0

    def visit(self, *answers: Outcome, output: Path | None = None) -> tuple[Survey, list[str]]:
        """Look at the input, take all rows that are left, and have some of them answered.

        Returns:
            What was seen, and the rows that were left.
        """
        ledger = Ledger(self.output if output is None else output, "off", indexed_from=0)
        raw = Counting(self.data)
        with io.BufferedReader(raw) as stream:
            found, kept = look(stream, self.data, ledger.path, ledger.found)
            self.read = raw.count
            calls = CallLog(
                ledger.path, SeenInput(found.size, found.digest, is_clean=found.is_clean)
            )
            if kept is None:
                rows = self.rows_left(ledger.found.done)
            else:
                ledger.know_input(kept)
                reader = GroupReader(stream, "data")
                rows = []
                for group in groups_left(reader, kept.offsets, ledger.found.done):
                    for which in ledger.found.done.lacking(group.places):
                        record = group.record(which)
                        kept.offsets.took(record.index, record.line)
                        rows.append(record.index)
        for outcome in answers:
            ledger.append([outcome])
            calls.append([outcome])
        calls.close()
        ledger.close()
        return found, rows

    def rows_left(self, done: IndexSet) -> list[str]:
        with open_input(self.data) as stream:
            groups = GroupReader(stream, "data").groups()
            return [
                group.record(which).index
                for group in groups
                for which in done.lacking(group.places)
            ]

    def settle(self) -> None:
        """Make the input a file that has been left alone for a while."""
        past = time.time_ns() - SETTLED_S * 10**9 + 1
        os.utime(self.data, ns=(past, past))

    def size(self) -> int:
        return self.data.stat().st_size
