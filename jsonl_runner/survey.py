"""One pass over the input before anything is paid: what is there, what is done, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Literal

from .errors import BadRowsError
from .indexes import IndexMap, IndexSet
from .records import BadRow, RowReader, fingerprint, fingerprint_number, to_record

if TYPE_CHECKING:
    from pathlib import Path

#: What to do about rows that cannot be used.
BadRowsPolicy = Literal["fail", "skip"]

#: Bad rows and changed rows that are listed one by one; the rest are counted.
LISTED = 20


@dataclass
class Survey:
    """What an input holds.

    Attributes:
        rows: rows that can be used.
        skipped: those of them with an output.
        nulls: indices of those with a null and no output.
        bad: rows that cannot be used.
        changed: indices with an output whose content is another now.
        start, lines_before: byte and line where the first row to do begins.
    """

    rows: int = 0
    skipped: int = 0
    nulls: list[str] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    start: int | None = None
    lines_before: int = 0

    @property
    def todo(self) -> int:
        """Rows that have no output."""
        return self.rows - self.skipped

    def check(self, policy: BadRowsPolicy) -> None:
        """Raise what is wrong with the rows, unless they are to be skipped.

        Raises:
            BadRowsError: some rows cannot be used; names the first 20.
        """
        if policy == "fail" and self.bad:
            raise bad_rows_error(self.bad)


def bad_rows_error(bad: list[BadRow]) -> BadRowsError:
    """Return the error that names bad rows."""
    rows = [str(row) for row in bad[:LISTED]]
    if len(bad) > LISTED:
        rows.append(f"… and {len(bad) - LISTED:,} more")
    plural = "row" if len(bad) == 1 else "rows"
    return BadRowsError(
        f"{bad[0].file}: {len(bad):,} {plural} cannot be used; mend them, or leave them out with "
        "--bad-rows skip",
        rows,
        len(bad),
    )


def survey(
    stream: IO[bytes],
    path: Path,
    done: IndexSet | None = None,
    *,
    nulls: IndexSet | None = None,
    answered: IndexMap | None = None,
    redo_changed: bool = False,
) -> Survey:
    """Read an input from start to end.

    Args:
        stream: the input, opened for reading bytes.
        path: what messages call it.
        done: indices with an output.
        nulls: indices with a null and no output.
        answered: fingerprints of what was answered (see `calllog.fingerprints`).
        redo_changed: whether a changed row counts as not done.
    """
    found = Survey()
    done = IndexSet() if done is None else done
    reader = RowReader(stream, str(path))
    for row in reader.rows():
        if isinstance(row, BadRow):
            found.bad.append(row)
            continue
        found.rows += 1
        index: str = row["index"]
        if index in done:
            known = answered.get(index) if answered is not None and len(answered) else None
            if known is None or known == fingerprint_number(fingerprint(to_record(row))):
                found.skipped += 1
                continue
            found.changed.append(index)
            if not redo_changed:
                found.skipped += 1
                continue
        elif nulls is not None and index in nulls:
            found.nulls.append(index)
        if found.start is None:
            found.start, found.lines_before = reader.start, reader.line - 1
    return found
