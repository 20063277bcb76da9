"""What a run may still spend, handed out to its workers in parts.

The parts together are never more than the limit. A worker that cannot pay its next call gets what
others have left and do not need: those that have no rows, or cannot pay theirs either. When there
is nothing left to give, the limit is reached.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..spending import Lack, Spending, Spent, Use

#: Of what a share is made: dollars and tokens.
_KINDS = (0, 1)
#: Of either; less than that is the rounding of sums.
_SOMETHING = 1e-9


class Grant(NamedTuple):
    """What a worker may spend in all (None: no limit), and what is known of answers' lengths."""

    cost: float | None
    tokens: float | None
    known: Spent


@dataclass
class _Share:
    """What one worker was granted and has used, in dollars and tokens."""

    granted: list[float] = field(default_factory=lambda: [0.0, 0.0])
    used: list[float] = field(default_factory=lambda: [0.0, 0.0])
    unanswered: int = 0
    lack: Lack | None = None
    has_rows: bool = False
    is_gone: bool = False

    @property
    def is_spare(self) -> bool:
        """Whether it makes no call, and will make none with what it has."""
        return not self.has_rows or self.lack is not None


class Purse:
    """The limits of a run in parts.

    Args:
        spending: the limits; it is told what is used.
        workers: how many share them.
    """

    def __init__(self, spending: Spending, workers: int) -> None:
        self._spending = spending
        left = (spending.cost.left, spending.tokens.left)
        self._is_limited = [amount != float("inf") for amount in left]
        self._left = [max(0.0, amount) if amount != float("inf") else 0.0 for amount in left]
        #: Used by workers that are gone.
        self._gone = [0.0, 0.0]
        self._shares = [_Share() for _ in range(workers)]
        self._known = spending.before
        # Until it is known how long answers are, one worker alone makes calls.
        for share in self._shares if self._has_learnt else self._shares[:1]:
            self._add(share, self._part)

    @property
    def _has_learnt(self) -> bool:
        return self._known.learnt is not None and self._known.learnt.answers > 0

    @property
    def _part(self) -> list[float]:
        return [amount / len(self._shares) for amount in self._left]

    def _free(self) -> list[float]:
        """Return what nobody was granted."""
        alive = [share for share in self._shares if not share.is_gone]
        found = []
        for kind in _KINDS:
            # What calls in flight took beyond their reservations is spent, granted or not.
            taken = sum(max(share.granted[kind], share.used[kind]) for share in alive)
            found.append(max(0.0, self._left[kind] - self._gone[kind] - taken))
        return found

    def _add(self, share: _Share, wanted: list[float]) -> None:
        for kind, free in enumerate(self._free()):
            share.granted[kind] += min(free, wanted[kind])

    def grant(self, number: int) -> Grant:
        """Return what a worker may spend."""
        share = self._shares[number]
        cost, tokens = (share.granted[k] if self._is_limited[k] else None for k in _KINDS)
        return Grant(cost, tokens, self._known)

    def gave(self, number: int) -> None:
        """Take note that a worker gets rows, and may spend all it was granted."""
        self._shares[number].has_rows = True

    def heard(self, number: int, use: Use, *, has_rows: bool) -> Lack | None:
        """Take note of what a worker has used; return why nobody can pay, None while one can."""
        share = self._shares[number]
        used = [use.spent.cost, float(use.spent.tokens)]
        more = [now - before for now, before in zip(used, share.used, strict=True)]
        self._spending.count(more[0], more[1], use.unanswered - share.unanswered)
        share.used, share.unanswered = used, use.unanswered
        # What it lacked with an older grant, it may have by now.
        is_new = use.limits == self.grant(number)[:2]
        share.lack, share.has_rows = use.lack if is_new else None, has_rows
        learnt = use.spent.learnt
        if not self._has_learnt and learnt is not None and learnt.answers:
            self._known = self._known._replace(learnt=learnt)
            for other in self._shares:
                if not any(other.granted):
                    self._add(other, self._part)
        return self._help()

    def _help(self) -> Lack | None:
        """Give one worker that cannot pay what others can spare, if that is enough for its call."""
        alive = [share for share in self._shares if not share.is_gone]
        lacks = None
        for share in alive:
            if share.lack is None or not share.has_rows:
                continue
            for other in alive:
                if other is not share and other.is_spare:
                    other.granted = list(other.used)
            kind = share.lack.option != "--max-cost"
            free = self._free()
            left = share.granted[kind] - share.used[kind] + free[kind]
            if free[kind] > _SOMETHING and left >= share.lack.next_:
                share.lack = None
                self._add(share, free)
                return None
            lacks = lacks or share.lack
        return lacks if all(share.is_spare for share in alive) else None

    def lost(self, number: int, rows: int) -> None:
        """Take note that a worker is gone: what it had in flight may be billed, and counts so."""
        share = self._shares[number]
        learnt = self._known.learnt
        likely = [0.0, 0.0]
        if learnt is not None and learnt.answers:
            tokens = (learnt.prompt + learnt.completion) / learnt.answers
            spent = self._spending.use().spent
            likely = [spent.cost / max(1, spent.tokens) * tokens * rows, tokens * rows]
        self._spending.count(likely[0], likely[1], rows)
        for kind in _KINDS:
            self._gone[kind] += share.used[kind] + likely[kind]
        self._shares[number] = _Share()
        self._add(self._shares[number], self._part)

    def ended(self, number: int) -> None:
        """Take note that a worker does no more; others may have what it has left."""
        share = self._shares[number]
        share.is_gone = True
        for kind in _KINDS:
            self._gone[kind] += share.used[kind]
