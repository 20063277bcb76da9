"""What a run is about, and whether it can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import indexfile
from .answers import check_is_no_judges
from .calllog import path_for
from .choice import Choice
from .dataset import dataset_of
from .errors import InputError, LedgerError
from .locking import lock_path
from .remote import check_is_local
from .watching import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .appendfile import FsyncPolicy
    from .dataset import Data
    from .records import Outcome
    from .survey import BadRowsPolicy


@dataclass(frozen=True)
class Job:
    """What a run is about.

    Attributes:
        data: the input; None for standard input, as `-` is.
        output: the ledger.
        bad_rows: what to do about rows that cannot be used.
        fsync: when the ledger is forced onto the disk.
        redo_changed: whether rows whose content changed are called again.
        include_batched: whether rows in a batch that is not over are called too, and paid twice.
        choice: which of the rows without an output are done.
        name: stands before the progress bar.
        quiet: whether nothing is shown on the way.
        settled: told each group of Outcomes as soon as the ledger has it.
        views: how it is watched, beside its progress.
        beside: other ledgers whose calls are under the same limits.
        judge: the template of the judge whose questions the rows are; None: of nobody.
    """

    data: Data | None
    output: Path
    bad_rows: BadRowsPolicy = "fail"
    fsync: FsyncPolicy = "group"
    redo_changed: bool = False
    include_batched: bool = False
    choice: Choice = Choice()  # noqa: RUF009  # frozen
    name: str = "jsonl-runner"
    quiet: bool = False
    settled: Callable[[Sequence[Outcome]], None] | None = None
    views: Views = Views()  # noqa: RUF009  # frozen
    beside: Sequence[Path] = ()
    judge: str | None = None


def check_paths(job: Job) -> None:
    """Check input and output before anything is opened for writing.

    Raises:
        InputError: they are one file.
        LedgerError: the output cannot be written where it should be, or is a judge's.
    """
    output = job.output
    check_is_local(output)
    if output.is_dir():
        raise LedgerError(f"{output}: this is a directory; give a file name for the output")
    if str(output) == "-" or (output.exists() and not output.is_file()):
        raise LedgerError(f"{output}: this is no file; a rerun reads its output again: name a file")
    if not output.parent.is_dir():
        raise LedgerError(f"{output}: the folder {output.parent} does not exist; make it first")
    if job.judge is None:
        check_is_no_judges(output)
    paths = (output, path_for(output), lock_path(output), indexfile.path_for(output))
    if own := dataset_of(job.data).clash(paths):
        raise InputError(f"{own}: input and output are the same file; name another output")
