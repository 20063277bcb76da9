"""The look at an input that an earlier run looked at: which of it need not be read again."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, NamedTuple

from .calllog import SeenInput, fingerprints, last_input, path_for
from .indexfile import KeptInput, mark_of
from .reader import GroupReader, digest_of
from .survey import Survey, own_models, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .indexes import IndexSet
    from .indexfile import Mark
    from .ledger import Scan
    from .offsets import Offsets
    from .reader import Group


class Familiar(NamedTuple):
    """What is known of an input.

    Attributes:
        size: so many bytes of it hold good rows only, and none that changed since it was answered.
        digest: of them.
        offsets: of all its rows; None when it has to be read.
        is_counted: whether the offsets have been told of every output.
        mark: of the file as it is now; None when the file may change without changing it.
    """

    size: int = 0
    digest: str = ""
    offsets: Offsets | None = None
    is_counted: bool = False
    mark: Mark | None = None


def recognise(stream: IO[bytes], output: Path, found: Scan) -> Familiar:
    """Return what is known of an input from earlier runs.

    An input whose file is to the system what it was is not read; of any other, the digest is taken.

    Args:
        stream: the input.
        output: the ledger.
        found: what it holds.
    """
    mark, kept = _mark_of(stream), found.input
    if mark is None:
        return Familiar()  # its digest would cost as much as a look at each row
    settled = mark if mark.is_settled else None
    if kept is None:
        return _known(stream, last_input(output))._replace(mark=settled)
    if _size_of(path_for(output)) < kept.log_size:
        return _known(stream, None)._replace(mark=settled)
    seen = SeenInput(kept.offsets.size, kept.digest, is_clean=True)
    later = last_input(output, since=kept.log_size)
    if later not in (None, seen):
        return _known(stream, later)._replace(mark=settled)
    same = Familiar(seen.size, seen.digest, mark=settled)
    if settled is None or settled != kept.mark:
        same = _known(stream, seen)._replace(mark=settled)
    if mark.size != same.size:
        return same
    is_counted = kept.ledger_end == found.segments.size
    return same._replace(offsets=kept.offsets, is_counted=is_counted)


def _known(stream: IO[bytes], seen: SeenInput | None) -> Familiar:
    """Return what is known of a file that may be the one that a run saw, or begin with it."""
    if seen is None or not seen.is_clean or digest_of(stream, seen.size) != seen.digest:
        return Familiar()
    return Familiar(seen.size, seen.digest)


def _size_of(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _mark_of(stream: IO[bytes]) -> Mark | None:
    """Return the mark of a stream that gives a file's bytes as they are, None of any other."""
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO):
        return mark_of(stream.fileno())
    return None


def look(
    stream: IO[bytes],
    name: object,
    output: Path,
    found: Scan,
    *,
    redo_changed: bool = False,
    each: Callable[[Group, Sequence[int]], None] | None = None,
    models: set[str] | None = None,
) -> tuple[Survey, KeptInput | None]:
    """Look at an input before anything is paid; read no more of it than has to be.

    Args:
        stream: the input, opened for reading bytes.
        name: what messages call it.
        output: its ledger.
        found: what that holds.
        redo_changed: see `survey.survey`.
        each: the same; told of groups that hold rows without an output, and perhaps of others.
        models: the same.

    Returns:
        What it holds, and what the next run may know of it: None if that has to look at each row.
    """
    familiar = recognise(stream, output, found)
    if familiar.offsets is not None:
        seen = _by_offsets(stream, name, found.done, familiar, each=each, models=models)
    else:
        seen = survey(
            stream,
            name,
            found.done,
            known=familiar.size,
            answered=lambda: fingerprints(output),
            redo_changed=redo_changed,
            each=each,
            models=models,
        )
    mark = _mark_of(stream)
    if mark is None or mark.size != seen.size or not seen.is_clean:
        return seen, None
    # A file that has been written to while it was read is not what was read.
    before = familiar.mark if mark == familiar.mark else None
    log = path_for(output)
    known = KeptInput(seen.digest, before, seen.offsets, log)
    if found.input is not None and _size_of(log) >= found.input.log_size:
        known.recall_from = found.input.recall_from
    return seen, known


def _by_offsets(
    stream: IO[bytes],
    name: object,
    done: IndexSet,
    familiar: Familiar,
    *,
    each: Callable[[Group, Sequence[int]], None] | None,
    models: set[str] | None,
) -> Survey:
    """Return what `survey.survey` would of an input whose offsets are known.

    It reads those stretches only of which they do not tell enough. For the arguments see there.
    """
    offsets = familiar.offsets
    assert offsets is not None  # noqa: S101  # tells mypy what the caller has asked
    found = Survey(size=familiar.size, digest=familiar.digest, offsets=offsets)
    reader = GroupReader(stream, str(name), known=familiar.size)
    for stretch in offsets.stretches():
        found.rows += stretch.rows
        left = offsets.left(stretch, done)
        is_told = familiar.is_counted or not offsets.is_counted(stretch)
        if left and not (is_told and each is None and models is None):
            group = reader.group_at(stretch.start, stretch.end, stretch.lines_before)
            lacking = done.lacking(group.places)
            left = len(lacking)
            offsets.set_left(stretch, left)
            if each is not None:
                each(group, lacking)
            if models is not None:
                models.update(own_models(group, lacking))
        found.skipped += stretch.rows - left
        if left and found.start is None:
            found.start, found.lines_before = stretch.start, stretch.lines_before
    return found


def groups_left(reader: GroupReader, offsets: Offsets, done: IndexSet) -> Iterator[Group]:
    """Yield the rows of the stretches in which some are without an output."""
    for stretch in offsets.stretches():
        if offsets.left(stretch, done):
            yield reader.group_at(stretch.start, stretch.end, stretch.lines_before)
