"""Looking after batches that run: one list call for all of them."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from ..limits import parse_duration
from .base import CLOCKS_S, FAILED, ProviderError
from .fileless import finish
from .parts import ENDED, LOST, REFUSED, UPLOADED, File
from .reconcile import cancel_twin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .base import RemoteBatch
    from .desk import Desk
    from .parts import Part

#: Times that a batch must be unknown to the provider, at the least, before it is given up.
_MISSES = 3
#: Seconds beyond its window in which a batch may still end by itself.
_GRACE_S = 3600.0
#: What the provider says of its limit on enqueued tokens.
_LIMIT = re.compile(r"Limit: ([0-9][0-9,]*) enqueued tokens")
#: Our estimates of tokens may be so many times too high.
_ESTIMATES_OFF = 4
#: Seconds, the longest wait for room among the enqueued tokens.
_LONGEST_ENQUEUED_S = 600.0


def remote_states(
    desk: Desk, parts: Sequence[Part], twin: Callable[[Part, RemoteBatch], None] | None = None
) -> dict[int, RemoteBatch | ProviderError]:
    """Return what the provider says of parts whose batches run, by their numbers.

    Batches that its list does not have are asked for one by one; a ProviderError stands for each
    that brings no answer.

    Args:
        desk: manifest and provider.
        parts: which.
        twin: is told of batches made from the file of a part that are not its own.

    Raises:
        ProviderError: there is no list to be had.
        ConfigError: a part's key is not there.
    """
    found: dict[int, RemoteBatch | ProviderError] = {}
    by_key: defaultdict[str, list[Part]] = defaultdict(list)
    for part in parts:
        by_key[desk.key(part)].append(part)
    for key, group in by_key.items():
        wanted = {part.batch: part for part in group}
        by_file = {part.file: part for part in group if part.file}
        since = min(part.asked for part in group) - CLOCKS_S
        for batch in desk.provider.batches(since, key):
            if batch.id in wanted:
                found[wanted[batch.id].number] = batch
            elif twin is not None and batch.input_file in by_file:
                twin(by_file[batch.input_file], batch)
        for part in group:
            if part.number not in found and not desk.stop.requested:
                try:
                    found[part.number] = desk.provider.retrieve(part.batch, key)
                except ProviderError as error:
                    found[part.number] = error
    return found


def _look_at_twin(desk: Desk, part: Part, batch: RemoteBatch) -> None:
    """A batch of the same file that is not the part's own: one too many, unless it is known."""
    if batch.state != FAILED and batch.id not in desk.manifest.batches_of(part.number):
        cancel_twin(desk, part, batch)


def poll(desk: Desk, parts: Sequence[Part]) -> bool:
    """Look after parts whose batches run; return whether anything has changed.

    Raises:
        ProviderError: there is no list to be had; nothing has changed.
        ConfigError: a part's key is not there.
        LedgerError: the manifest cannot be written.
    """
    changed = False

    def twin(part: Part, batch: RemoteBatch) -> None:
        _look_at_twin(desk, part, batch)

    for number, said in remote_states(desk, parts, twin).items():
        part = desk.manifest.part(number)
        after = _missing(desk, part, said) if isinstance(said, ProviderError) else None
        if not isinstance(said, ProviderError):
            after = _update(desk, part, said)
        changed = changed or (after is not None and after != part)
    return changed


def _update(desk: Desk, part: Part, batch: RemoteBatch) -> Part:
    counts = {"total": batch.total, "completed": batch.completed, "failed": batch.failed}
    if not batch.is_over:
        _note_late(desk, part)
        if (part.status, part.total, part.completed, part.failed) == (
            batch.status,
            *counts.values(),
        ):
            return part
        return desk.manifest.put(part, status=batch.status, looks=0, **counts)
    wall = desk.clock.wall()
    reason = desk.clean("; ".join(map(str, batch.errors[:3])))
    if batch.is_enqueued_limit and not part.cancelling:
        return _queue_again(desk, part, batch, reason)
    for result in batch.results:
        desk.manifest.put_file(part.number, File(result, "result"))
    if batch.state == FAILED and not batch.results:
        return _refused(desk, part, batch, reason)
    return desk.manifest.put(
        part, state=ENDED, status=batch.status, reason=reason, ended=wall, due=0.0, **counts
    )


def _note_late(desk: Desk, part: Part) -> None:
    """A batch that is not over in its time may be stuck; only the user knows how long to wait."""
    window_s = parse_duration(part.window)
    if window_s is not None and desk.clock.wall() - part.asked > window_s + _GRACE_S:
        desk.note(
            f"part {part.number}: batch {part.batch} should be over since its {part.window} are; "
            "batch cancel asks for its end, and what it has finished is collected then"
        )


def _refused(desk: Desk, part: Part, batch: RemoteBatch, reason: str) -> Part:
    desk.note(f"part {part.number}: the provider refused batch {batch.id}: {reason}")
    wall = desk.clock.wall()
    return desk.manifest.release(
        part, state=REFUSED, status=batch.status, reason=reason, ended=wall
    )


def _queue_again(desk: Desk, part: Part, batch: RemoteBatch, reason: str) -> Part:
    """Too many tokens were waiting: nothing was begun, so the part is sent again later."""
    limit = _LIMIT.search(reason)
    if limit is not None and int(limit[1].replace(",", "")) < part.tokens / _ESTIMATES_OFF:
        return _refused(
            desk,
            part,
            batch,
            f"{reason} (part {part.number} alone has some {part.tokens:,}: make smaller parts "
            f"with --max-enqueued-tokens {limit[1].replace(',', '')})",
        )
    wait = min(desk.pace.enqueued_s * 2 ** min(part.attempt - 1, 10), _LONGEST_ENQUEUED_S)
    desk.note(f"part {part.number}: {reason}; it is sent again when there is room")
    wall = desk.clock.wall()
    return desk.manifest.put(
        part, state=UPLOADED, batch="", status=batch.status, reason=reason, due=wall + wait
    )


def _missing(desk: Desk, part: Part, error: ProviderError) -> Part | None:
    """A batch that there is no answer about."""
    if not error.is_missing:
        desk.note(f"part {part.number}: batch {part.batch} could not be looked at ({error})")
        return None
    wall = desk.clock.wall()
    if wall - part.asked < desk.pace.missing_s or part.looks + 1 < _MISSES:
        return desk.manifest.put(part, looks=part.looks + 1)
    desk.note(
        f"part {part.number}: the provider does not know batch {part.batch} any more; its rows are "
        "let go, to be sent again"
    )
    return finish(desk, part, LOST, reason=desk.clean(f"lost: {error}"))
