"""From a part on our disk to a batch at the provider: once, whatever is lost on the way.

Uploads cost nothing, the creating call does. So before an upload is repeated it is looked for; and
once a creating call was begun (the intent is on the disk before it), nothing is created again until
the provider's list has been looked at for long enough to know that there is no batch.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..errors import ConfigError, LedgerError
from .base import CLOCKS_S, FAILED, ProviderError
from .desk import key_hash
from .fileless import CONTESTED, candidates, finish, try_first
from .parts import CREATING, PLANNED, REFUSED, SUBMITTED, UPLOADED, UPLOADING, File

if TYPE_CHECKING:
    from pathlib import Path

    from .base import RemoteBatch
    from .desk import Desk
    from .parts import Part

_BLOCK = 1024 * 1024


def send(desk: Desk, part: Part) -> Part:
    """Take the next step towards a batch, and return the part after it.

    Raises:
        LedgerError: the part's file is not what it was, or the manifest cannot be written.
        NoUsableKeyError: every key was refused.
        ConfigError: the part's key is not there, or its requests are refused before a batch is
            made of them.
        RunStoppedError: its batch cannot be told from others.
    """
    if part.state == PLANNED:
        return _upload(desk, _begin_upload(desk, part))
    if part.state == UPLOADING:
        return _find_upload(desk, part) or _upload(desk, part)
    if part.state == UPLOADED:
        if part.attempt:  # an earlier call may have made one after all
            found = _look(desk, part)
            if found is None or found.state == SUBMITTED:
                return found or desk.manifest.part(part.number)
        if not desk.provider.uses_files and (over := _try_first(desk, part)) is not None:
            return over
        return _create(desk, part)
    return _settle(desk, part)


def _try_first(desk: Desk, part: Part) -> Part | None:
    """Make a first request of a part, whose file is what is sent; see `fileless`."""
    check_file(desk.folder / part.path, part.sha256)
    try:
        return try_first(desk, part)
    except ProviderError as error:
        return _not_done(desk, part, "a first request had no answer", error)


def upload_name(part: Part) -> str:
    """Return the name under which a part is uploaded: by it, it is found again."""
    return f"jsonl-runner-{part.name}.jsonl"


def _begin_upload(desk: Desk, part: Part) -> Part:
    secret = desk.keys.first()
    return desk.manifest.put(
        part,
        state=UPLOADING if desk.provider.uses_files else UPLOADED,
        key_label=secret.label,
        key_hash=key_hash(secret.reveal()),
        base_url=desk.base_url,
    )


def _find_upload(desk: Desk, part: Part) -> Part | None:
    """Look for an upload that was begun; None: there is none."""
    try:
        file = desk.provider.find_upload(upload_name(part), part.size, desk.key(part))
    except ProviderError as error:
        return _try_again(desk, part, "files could not be listed", error)
    return None if file is None else _uploaded(desk, part, file)


def _upload(desk: Desk, part: Part) -> Part:
    path = desk.folder / part.path
    check_file(path, part.sha256)
    if part.state == UPLOADED:  # a provider without files
        return part
    try:
        file = desk.provider.upload(path, upload_name(part), desk.key(part))
    except ProviderError as error:
        return _not_done(desk, part, "the upload did not succeed", error)
    return _uploaded(desk, part, file)


def check_file(path: Path, sha256: str) -> None:
    """Check that a file is as it was when it was written.

    Raises:
        LedgerError: it is not.
    """
    found = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
    except OSError as error:
        raise LedgerError(
            f"{path}: cannot be read ({error.strerror}); without it its rows cannot be sent: "
            "restore it, or give them up with batch cancel"
        ) from None
    if found.hexdigest() != sha256:
        raise LedgerError(
            f"{path}: it was changed since it was written, so nobody knows any more what was sent: "
            "restore it, or give its rows up with batch cancel"
        )


def _uploaded(desk: Desk, part: Part, file: str) -> Part:
    desk.went_well(part)
    desk.manifest.put_file(part.number, File(file, "input", part.path, part.size, part.sha256))
    return desk.manifest.put(part, state=UPLOADED, file=file, reason="", due=0.0)


def _create(desk: Desk, part: Part) -> Part:
    manifest, clock = desk.manifest, desk.clock
    key, asked = desk.key(part), clock.wall()
    part, operation = manifest.begin(
        part, "create", asked, state=CREATING, attempt=part.attempt + 1, asked=asked, looks=0
    )
    try:
        batch = desk.provider.create(desk.order(part), key)
    except ProviderError as error:
        outcome = desk.clean(error)
        if not error.may_be_done:
            part = manifest.end(part, operation, clock.wall(), f"not created: {outcome}")
            return _not_done(desk, part, "the batch was not created", error)
        return _in_doubt(desk, part, operation, outcome)
    if not batch.id:
        return _in_doubt(desk, part, operation, "the answer names no batch")
    return _adopt(desk, part, batch, operation)


def _in_doubt(desk: Desk, part: Part, operation: int, outcome: str) -> Part:
    due = desk.clock.wall() + _look_every_s(desk)
    desk.note(
        f"part {part.number}: whether its batch was created is not known ({outcome}); it is looked "
        f"for over {desk.pace.settle_s:g} s before anything is created again"
    )
    wall = desk.clock.wall()
    return desk.manifest.end(part, operation, wall, f"unknown: {outcome}", due=due, reason=outcome)


def _look_every_s(desk: Desk) -> float:
    return min(desk.pace.settle_s / 8, 60.0)


def _settle(desk: Desk, part: Part) -> Part:
    """Look for the batch of a creating call whose answer is not known."""
    found = _look(desk, part)
    if found is None or found.state == SUBMITTED:
        return found or desk.manifest.part(part.number)
    desk.went_well(part)
    wall = desk.clock.wall()
    looks = part.looks + 1
    # A clock set back must not make the wait longer than it is meant to be.
    waited = wall - part.asked if wall >= part.asked else desk.pace.settle_s
    if waited >= desk.pace.settle_s and looks >= desk.pace.looks:
        desk.note(f"part {part.number}: no batch was created; it is created now")
        return desk.manifest.put(part, state=UPLOADED, looks=0, due=0.0)
    left = desk.pace.settle_s - waited
    pause = min(_look_every_s(desk), left) if left > 0 else _look_every_s(desk)
    return desk.manifest.put(part, looks=looks, due=wall + pause)


def _look(desk: Desk, part: Part) -> Part | None:
    """Look into the provider's list for a part's batch.

    Returns:
        The part: submitted if the batch was found, else as it was. None: the list was not to be
        had, and the part is due later.
    """
    known = desk.manifest.batches_of(part.number)
    order = desk.order(part)
    try:
        since = part.asked - CLOCKS_S
        listed = list(desk.provider.batches(since, desk.key(part)))
    except ProviderError as error:
        _try_again(desk, part, "batches could not be listed", error)
        return None
    mine = [b for b in listed if desk.provider.is_of(b, order) and b.id not in known]
    sure = "created"
    if not desk.provider.uses_files:  # then they are told apart by their sizes
        try:
            mine, sure = candidates(desk, part, mine)
        except ProviderError as error:
            _try_again(desk, part, "a batch could not be looked into", error)
            return None
        if sure == CONTESTED:
            desk.manifest.put(part, due=desk.clock.wall() + _look_every_s(desk))
            return None
    if not mine:
        return part
    # The oldest that runs; of those that were refused, any.
    mine.sort(key=lambda batch: (batch.state == FAILED, batch.created or 0.0))
    for extra in mine[1:]:
        if extra.state != FAILED:
            cancel_twin(desk, part, extra)
    desk.note(f"part {part.number}: its batch is there after all: {mine[0].id}")
    return _adopt(desk, part, mine[0], None, sure)


def cancel_twin(desk: Desk, part: Part, batch: RemoteBatch) -> None:
    """End a second batch of a part, which its provider showed too late.

    It is noted, so that it is not taken for a new one again.
    """
    wall = desk.clock.wall()
    part, operation = desk.manifest.begin(part, "twin", wall)
    outcome = "over already"
    if not batch.is_over:
        try:
            desk.provider.cancel(batch.id, desk.key(part))
            outcome = "cancelled"
        except ProviderError as error:
            outcome = f"not cancelled: {desk.clean(error)}"
    desk.manifest.end(part, operation, desk.clock.wall(), outcome, batch.id)
    desk.note(
        f"part {part.number}: batch {batch.id} was created beside {part.batch or 'its own'} and "
        f"showed only now ({outcome}); the provider's list is slower than --settle-seconds"
    )


def _adopt(
    desk: Desk, part: Part, batch: RemoteBatch, operation: int | None, sure: str = "created"
) -> Part:
    desk.went_well(part)
    wall = desk.clock.wall()
    if operation is None:
        part, operation = desk.manifest.begin(part, "adopt", wall)
    return desk.manifest.end(
        part,
        operation,
        wall,
        sure,
        batch.id,
        state=SUBMITTED,
        batch=batch.id,
        status=batch.status,
        total=batch.total,
        completed=batch.completed,
        failed=batch.failed,
        reason="",
        looks=0,
        due=0.0,
    )


def _not_done(desk: Desk, part: Part, what: str, error: ProviderError) -> Part:
    """Say what to do about a step that certainly, or harmlessly, did not come about."""
    if error.is_of_key:
        desk.keys.retire(part, error)
        _forget_upload(desk, part)
        return desk.manifest.put(part, state=PLANNED, file="", due=0.0)
    before = UPLOADED if part.state == CREATING else part.state
    of_file = error.is_missing or error.verdict.param == "input_file_id"
    if desk.provider.uses_files and of_file and part.state == CREATING and not _is_old(desk, part):
        # A file is not known everywhere, and not ready, at once after its upload.
        return _try_again(desk, part, what, error, state=UPLOADED)
    if error.may_pass:
        return _try_again(desk, part, what, error, state=before)
    reason = desk.clean(f"{what}: {error}")
    desk.note(f"part {part.number}: {reason}")
    after = finish(desk, part, REFUSED, reason=reason)
    if after.state != REFUSED:  # or each try would cost a first request
        raise ConfigError(f"part {part.number}: {reason}")
    return after


def _is_old(desk: Desk, part: Part) -> bool:
    return part.attempt > 20 or desk.clock.wall() - part.planned > desk.pace.missing_s


def _forget_upload(desk: Desk, part: Part) -> None:
    """Delete a file that only the key before could see; that it stays there costs nothing."""
    if part.file:
        try:
            desk.provider.delete_file(part.file, desk.key(part))
        except ProviderError as error:
            desk.note(f"file {part.file} was not deleted: {error}")


def _try_again(desk: Desk, part: Part, what: str, error: ProviderError, state: str = "") -> Part:
    wait = desk.wait_s(part, error)
    reason = desk.clean(f"{what}: {error}")
    desk.note(f"part {part.number}: {reason}; it is tried again")
    return desk.manifest.put(
        part, state=state or part.state, reason=reason, due=desk.clock.wall() + wait
    )
