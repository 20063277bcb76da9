"""Which rows of an input are to be sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..answers import check_is_no_judges
from ..calllog import fingerprints
from ..dataset import dataset_of
from ..errors import ConfigError, InputError
from ..locking import lock_path
from ..reader import GroupReader, open_input
from ..recipes import check_indices, remember, seen_of, tells_of_older
from ..sources.stream import bad_rows_of
from ..survey import Survey, survey
from .manifest import manifest_path
from .plan import Planned, Planner, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..dataset import Data, Dataset
    from ..indexes import IndexSet
    from ..prompts import Composer
    from ..records import Record
    from .desk import Desk
    from .plan import Wishes


@dataclass(frozen=True)
class Rows:
    """The rows of an input.

    Attributes:
        data: the input.
        output: the ledger.
        done: rows with an output.
        taken: others that are not to be sent.
        earlier: returns the Records of those that no answer in the call log does for; None: none
            is looked for.
        asked: what their outputs are to be; see `recipes.asked_of`.
    """

    data: Data
    output: Path
    done: IndexSet
    taken: tuple[IndexSet, ...] = ()
    earlier: Callable[[Iterator[Record]], Iterator[Record]] | None = None
    asked: object = None


def plan_rows(
    desk: Desk,
    rows: Rows,
    composer: Composer,
    wishes: Wishes,
    check: Callable[[Planned], None] | None = None,
) -> tuple[Survey, Planned]:
    """Make parts of the rows that have no output.

    Args:
        desk: the manifest and the provider.
        rows: see there.
        composer: knows the model and the parameters.
        wishes: how they are to be sent.
        check: is shown the plan before any of it can be sent, and raises where it is too dear.

    Raises:
        InputError: the input, or some of its rows, cannot be used.
        LedgerError: the parts cannot be written.
    """
    data = dataset_of(rows.data)
    _check_apart(data, rows.output)
    if data.turns is not None:
        raise ConfigError(
            "--turns: a turn is asked with the answer to the one before it, which a batch has not "
            "yet; use jsonl-runner run"
        )
    check_indices(data, rows.output)
    with open_input(data) as stream:
        if not stream.seekable():
            raise InputError(f"{data}: a batch is read twice, so it cannot come from a pipe")
        found = survey(stream, data, rows.done, answered=lambda: fingerprints(rows.output))
        found.check(wishes.bad_rows, data)
        if found.rows == 0:
            raise InputError(f"{data}: no row in it can be used")
        stream.seek(0)
        reader = GroupReader(stream, str(data))
        if found.start is not None:
            reader.start_at(found.start, found.lines_before)
        planner = Planner(desk, rows.output, composer, bad_rows_of(stream, str(data)), wishes)
        left = iter(()) if found.start is None else _left(reader, rows)
        planned = planner.plan(left if rows.earlier is None else rows.earlier(left))
    try:
        if check is not None:
            check(planned)
        is_new = not wishes.dry and tells_of_older(
            rows.output, rows.asked, len(rows.done), desk.note
        )
        if is_new or (planned.parts and not wishes.dry):
            # Of the input itself nothing is said: a later run would take its rows as looked at.
            seen = seen_of(data, None, wishes.bad_rows if found.bad else "fail")
            remember(data, rows.output, rows.asked, seen)
    except BaseException:
        withdraw(desk, planned.parts)
        raise
    return found, planned


def _left(reader: GroupReader, rows: Rows) -> Iterator[Record]:
    """Yield the Records to send."""
    for group in reader.groups():
        left = set(rows.done.lacking(group.places))
        for taken in rows.taken:
            left.intersection_update(taken.lacking(group.places))
        for which in sorted(left):
            yield group.record(which)


def _check_apart(data: Dataset, output: Path) -> None:
    """Check that the input is none of the files that are written, and these are nobody else's.

    Raises:
        InputError: it is.
        LedgerError: the ledger is a judge's.
    """
    check_is_no_judges(output)
    own = data.clash((output, lock_path(output), manifest_path(output)))
    if own is not None:
        raise InputError(f"{own}: input and output are the same file; name another output")
