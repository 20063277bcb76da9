"""Ending batches, and removing what is left of those that are merged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .base import ProviderError
from .fileless import finish, is_unsure
from .parts import COLLECTED, CREATING, LOST, SUBMITTED, WITHDRAWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .desk import Desk
    from .manifest import Manifest
    from .parts import File, Part


def named(parts: Sequence[Part], name: str) -> list[Part]:
    """Return the parts that a batch's id, a part's number or its name is for.

    Raises:
        ConfigError: there is none.
    """
    found = [part for part in parts if name in {part.batch, part.name, str(part.number)}]
    if not found:
        raise ConfigError(f"no batch {name!r} was made for this output; see batch list")
    return found


def cancel(desk: Desk, name: str | None = None, *, forget: bool = False) -> list[Part]:
    """Ask for the end of batches, and give up parts of which none was created.

    What a batch has finished by then is still billed, and collected by the next fetch.

    Args:
        desk: manifest and provider.
        name: which; None: all.
        forget: whether batches are given up that nobody can be asked about any more; their rows may
            then be paid for a second time.

    Returns:
        The parts that it was about, as they are then.

    Raises:
        ConfigError: there is no such batch, or its key is not there.
    """
    live = desk.manifest.parts(live=True)
    after = []
    for part in live if name is None else named(live, name):
        if not forget and part.state == SUBMITTED:
            after.append(_cancel_batch(desk, part))
        elif forget or (part.state != CREATING and not part.batch):
            why = "forgotten" if forget else "given up before it was sent"
            after.append(finish(desk, part, WITHDRAWN, reason=why))
        else:
            desk.note(
                f"part {part.number}: whether its batch was created is not known yet; batch fetch "
                "finds out, then it can be cancelled"
                if part.state == CREATING
                else f"part {part.number}: its batch is over: batch fetch collects it"
            )
            after.append(part)
    return after


def _cancel_batch(desk: Desk, part: Part) -> Part:
    if is_unsure(desk.manifest, part):
        desk.note(
            f"part {part.number}: batch {part.batch} was taken for its own by its size alone, so "
            "it is not cancelled here; its results will tell"
        )
        return part
    try:
        desk.provider.cancel(part.batch, desk.key(part))
    except ProviderError as error:
        if error.status != 409:  # it is over already
            desk.note(f"part {part.number}: batch {part.batch} was not cancelled: {error}")
            return part
    return desk.manifest.put(part, cancelling=1)


@dataclass(frozen=True)
class Cleaning:
    """What is to be removed of a part: its files at the provider."""

    part: Part
    files: tuple[File, ...]


def to_clean(
    manifest: Manifest, name: str | None, *, limit: int | None = None, before: float | None = None
) -> list[Cleaning]:
    """Return what may be removed: of parts that are over, and whose results are in the ledger.

    Args:
        manifest: opened.
        name: a batch; None: all.
        limit: parts at the most.
        before: only what was over before, in seconds since 1970.

    Raises:
        ConfigError: there is no such batch, or it is not merged.
    """
    parts = manifest.parts()
    if name is not None:
        parts = named(parts, name)
        for part in parts:
            if part.is_live:
                raise ConfigError(
                    f"batch {name} is not merged ({part.state}): batch fetch collects what came of "
                    "it, or batch cancel gives it up"
                )
    found = []
    for part in parts:
        if part.is_live or (before is not None and (part.ended or part.planned) >= before):
            continue
        files = tuple(file for file in manifest.files(part.number) if not file.deleted)
        if files and part.state != LOST:
            found.append(Cleaning(part, files))
    return found[:limit]


def clean(desk: Desk, cleaning: Cleaning, *, local: bool = False) -> int:
    """Remove a part's files; return how many are left that could not be.

    Args:
        desk: manifest and provider.
        cleaning: from `to_clean`.
        local: whether those on our disk go too.

    Raises:
        ConfigError: the part's key is not there.
    """
    part, left = cleaning.part, 0
    key = desk.key(part)
    # First: where there are no files, it is the batch that holds the results.
    if part.batch and part.state == COLLECTED and not is_unsure(desk.manifest, part):
        try:
            desk.provider.delete_batch(part.batch, key)
        except ProviderError as error:
            desk.note(f"batch {part.batch} was not deleted: {error}")
            return len(cleaning.files)
    for file in cleaning.files:
        try:
            desk.provider.delete_file(file.id, key)
        except ProviderError as error:
            desk.note(f"file {file.id} was not deleted: {error}")
            left += 1
            continue
        if local and file.path:
            (desk.folder / file.path).unlink(missing_ok=True)
        gone = replace(file, deleted=1, path="" if local else file.path)
        desk.manifest.put_file(part.number, gone)
    if not left:
        desk.manifest.put(part, cleaned=1)
    return left
