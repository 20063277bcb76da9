"""One pass over the input before anything is paid: what is there, what is done, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Literal

from .errors import BadRowsError
from .fitting import what_is_missing
from .indexes import IndexSet
from .offsets import Offsets
from .reader import GroupReader
from .records import BadRow, fingerprint, fingerprint_number, has_lost_images
from .summary import LISTED, Named, first_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .dataset import Dataset
    from .indexes import IndexMap
    from .reader import Group

#: What to do about rows that cannot be used.
BadRowsPolicy = Literal["fail", "skip"]


@dataclass
class BadRows:
    """Rows that cannot be used: how many (`len`), the first of them, what they have in common.

    Attributes:
        count: of all of them.
        first: the first.
        files: what messages call the files that they stand in.
        kind: why they cannot be used, without what it tells of the single row; None where there is
            more than one such reason.
    """

    count: int = 0
    first: list[BadRow] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    kind: str | None = None

    def append(self, row: BadRow) -> None:
        """Count a row."""
        kind = row.reason.split(";", 1)[0]
        self.kind = kind if not self.count or kind == self.kind else None
        self.count += 1
        self.files.add(row.file)
        if self.count <= LISTED:
            self.first.append(row)

    def __len__(self) -> int:
        return self.count

    def lines(self) -> list[str]:
        """Return them for people, a line each; of many the first, and how many more there are."""
        return first_of(self.first, self.count)

    def error(self) -> BadRowsError:
        """Return the error that names them."""
        plural = "row" if self.count == 1 else "rows"
        others = len(self.files) - 1
        more = f" and {others:,} other file{'s' if others > 1 else ''}" if others else ""
        return BadRowsError(
            f"{self.first[0].file}{more}: {self.count:,} {plural} cannot be used; mend them, or "
            "leave them out with --bad-rows skip",
            self.lines(),
            self.count,
        )


@dataclass
class Survey:
    """What an input holds.

    Attributes:
        rows: rows that can be used.
        skipped: those of them with an output.
        bad: rows that cannot be used.
        changed: rows with an output whose content is another now.
        redo: the places of those of them that are to be called again.
        start, lines_before: byte and line where the first row to do begins.
        size, digest: of the whole file.
        offsets: where its rows stand, if all of them can be used.
    """

    rows: int = 0
    skipped: int = 0
    bad: BadRows = field(default_factory=BadRows)
    changed: Named = field(default_factory=Named)
    redo: IndexSet = field(default_factory=IndexSet)
    start: int | None = None
    lines_before: int = 0
    size: int = 0
    digest: str = ""
    offsets: Offsets = field(default_factory=Offsets)

    @property
    def is_clean(self) -> bool:
        """Whether no row is bad, and none changed."""
        return not self.bad and not self.changed.count

    @property
    def todo(self) -> int:
        """Rows that have no output."""
        return self.rows - self.skipped

    def check(self, policy: BadRowsPolicy, dataset: Dataset | None = None) -> None:
        """Raise what is wrong with the rows, unless they are to be skipped.

        Args:
            policy: whether they are.
            dataset: the input, which is looked at again where no row of it can be used; None: what
                is said of the first row has to do.

        Raises:
            BadRowsError: some rows cannot be used; names the first 20, or the one reason that there
                is for all rows: a field that no row has is one mistake.
        """
        if policy != "fail" or not self.bad:
            return
        if self.rows or self.bad.kind is None:
            raise self.bad.error()
        first, count = self.bad.first[0], self.bad.count
        lack = None if dataset is None else what_is_missing(dataset)
        if lack is not None:
            first = first._replace(reason=lack)
        elif count == 1:
            raise self.bad.error()
        so_for_all = f" (and so for all {count:,} rows)" if count > 1 else ""
        raise BadRowsError(f"{first}{so_for_all}", [], count)


def bad_row_error(row: BadRow, dataset: Dataset | None = None) -> BadRowsError:
    """Return the error that names a single bad row.

    Args:
        row: the row.
        dataset: the input, of which there was no good row yet; see `Survey.check`.
    """
    lack = None if dataset is None else what_is_missing(dataset)
    if lack is not None:
        return BadRowsError(str(row._replace(reason=lack)), [], 1)
    bad = BadRows()
    bad.append(row)
    return bad.error()


def survey(  # noqa: PLR0913  # what a look goes by
    stream: IO[bytes],
    name: object,
    done: IndexSet | None = None,
    *,
    known: int = 0,
    answered: Callable[[], IndexMap] | None = None,
    redo_changed: bool = False,
    each: Callable[[Group, Sequence[int]], None] | None = None,
    models: set[str] | None = None,
    checks_images: bool = True,
) -> Survey:
    """Read an input from start to end.

    Args:
        stream: the input, opened for reading bytes.
        name: what messages call it.
        done: indices with an output.
        known: so many bytes of it hold good rows only, and none that changed since it was answered.
        answered: returns the fingerprints of what was answered (see `calllog.fingerprints`); asked
            when a row beyond the known bytes is done.
        redo_changed: whether a changed row counts as not done.
        each: told all rows, a group at a time, and which of the group have no output.
        models: gets the models that rows to do name for themselves.
        checks_images: see `reader.GroupReader`.
    """
    found = Survey()
    done = IndexSet() if done is None else done
    fingerprints: IndexMap | None = None
    reader = GroupReader(stream, str(name), known=known, checks_images=checks_images)
    for group in reader.groups():
        for row in group.bad:
            found.bad.append(row)
        found.rows += len(group.places)
        left = done.lacking(group.places)
        if not group.bad:
            found.offsets.add(group.start, group.lines_before, group.places, len(left))
        if each is not None:
            each(group, left)
        if not group.is_known and answered is not None and len(left) < len(group.places):
            fingerprints = answered() if fingerprints is None else fingerprints
            again = _changed(found, group, set(left), fingerprints)
            if redo_changed:
                found.redo.put_all([group.places[which] for which in again])
                left = sorted({*left, *again})
        if models is not None:
            models.update(own_models(group, left))
        found.skipped += len(group.places) - len(left)
        if left and found.start is None:
            found.start, found.lines_before = group.position(left[0])
    found.size, found.digest = reader.size, reader.digest.hexdigest()
    found.offsets.size = found.size
    return found


def own_models(group: Group, which: Iterable[int]) -> set[str]:
    """Return the models that some rows of a group name for themselves."""
    own = [group.row(one).get("params") or {} for one in which]
    return {params["model"] for params in own if "model" in params}


def _changed(found: Survey, group: Group, left: set[int], answered: IndexMap) -> list[int]:
    """Return which of a group's rows have an output for another content; count them."""
    changed = []
    for which, number in enumerate(answered.all_at(group.places)):
        if number is None or which in left:
            continue
        record = group.record(which)
        differs = number != fingerprint_number(fingerprint(record))
        if differs and not has_lost_images(record):  # what is gone says nothing of the row
            changed.append(which)
            found.changed.add(record.index)
    return changed
