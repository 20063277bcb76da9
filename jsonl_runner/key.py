"""One key's books, and the right to make one call with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .buckets import Bucket, LearnedBucket
from .snapshot import KeyView

if TYPE_CHECKING:
    from .attempts import RateLimits
    from .concurrency import Concurrency
    from .secret import Secret


class Lease:
    """The right to make one call with one key.

    Attributes:
        key: the key's books; to be changed by the rotator alone.
    """

    __slots__ = ("key", "marks", "number", "position", "row", "started_s", "tokens")

    def __init__(self, key: Key, tokens: int, started_s: float) -> None:
        self.key = key
        self.tokens = tokens
        #: Index of the row the call is for; set by who makes it.
        self.row = ""
        self.started_s = started_s
        self.number = key.calls
        self.position = key.in_flight
        #: Readings of the buckets' `taken`, in the order requests, tokens.
        self.marks: tuple[float, float] = (0.0, 0.0)

    @property
    def secret(self) -> str:
        """The key itself: for an Authorization header and nothing else."""
        return self.key.secret.reveal()

    @property
    def label(self) -> str:
        """The key's name for people."""
        return self.key.secret.label


class Key:
    """The books of one key."""

    __slots__ = (
        "_by_request",
        "_by_token",
        "calls",
        "concurrency",
        "configured",
        "cooling_until",
        "errors",
        "forbidden_row",
        "in_flight",
        "is_bounded",
        "learned",
        "part",
        "refusals",
        "refused",
        "rested_number",
        "retired",
        "secret",
        "trouble",
        "version",
    )

    def __init__(
        self,
        secret: Secret,
        concurrency: Concurrency,
        configured: tuple[Bucket | None, Bucket | None] = (None, None),
    ) -> None:
        self.secret = secret
        self.concurrency = concurrency
        self.in_flight = 0
        self.calls = 0
        #: Calls that were refused for being too many, and that failed otherwise, the rows' own
        #: faults apart.
        self.refused = self.errors = 0
        #: What was said when it was last to rest.
        self.trouble = ""
        self.cooling_until = 0.0
        self.retired: str | None = None
        #: The row that was forbidden last, with no success since.
        self.forbidden_row: str | None = None
        #: Refusals in a row without a word on when to come back.
        self.refusals = 0
        #: Number of the first call after the last cooldown: older ones tell nothing new.
        self.rested_number = 0
        #: Buckets for requests and tokens: from the configuration, and from the headers.
        self.configured = configured
        self.learned: list[LearnedBucket | None] = [None, None]
        #: The part of its limits that is ours; others have the rest.
        self.part = 1.0
        #: Counts changes, so that the rotator knows a stale heap entry.
        self.version = 0
        self._sort_buckets()

    def _sort_buckets(self) -> None:
        """Put together what each call asks: the buckets that count calls, and those of tokens."""
        by_request, by_token = zip(self.configured, self.learned, strict=True)
        self._by_request: list[Bucket] = [bucket for bucket in by_request if bucket is not None]
        self._by_token: list[Bucket] = [bucket for bucket in by_token if bucket is not None]
        #: Whether there is any bucket.
        self.is_bounded = bool(self._by_request or self._by_token)

    def share(self, part: float, calls: int) -> None:
        """Keep to a part of its limits, and to so many calls at the same time."""
        factor, self.part = part / self.part, part
        for bucket in (*self.configured, *self.learned):
            if bucket is not None:
                bucket.scale(factor)
        self.concurrency.allow(calls)

    def wait_s(self, tokens: int, now: float) -> float:
        """Return the seconds until every bucket has room for a call of this size."""
        longest = 0.0
        for bucket in self._by_request:
            longest = max(longest, bucket.wait_s(1.0, now))
        for bucket in self._by_token:
            longest = max(longest, bucket.wait_s(tokens, now))
        return longest

    def forbids(self, row: str) -> bool:
        """Note a 403; return whether it is the second row in a row, so that the key is at fault."""
        before, self.forbidden_row = self.forbidden_row, row
        return before is not None and before != row

    def take(self, tokens: int, now: float) -> Lease:
        """Book a call on all of its buckets."""
        self.calls += 1
        self.in_flight += 1
        lease = Lease(self, tokens, now)
        if self.is_bounded:
            for bucket in self._by_request:
                bucket.take(1.0)
            for bucket in self._by_token:
                bucket.take(tokens)
            requests, spent = self.learned
            lease.marks = (requests.taken if requests else 0.0, spent.taken if spent else 0.0)
        return lease

    def learn(self, lease: Lease, limits: RateLimits, now: float) -> None:
        """Correct the learned buckets by an answer's headers."""
        for number, limit in enumerate(limits):
            bucket = self.learned[number]
            if limit is None:
                continue
            if self.part != 1.0:
                limit = limit._replace(  # noqa: PLW2901  # the same limit, as far as it is ours
                    limit=limit.limit * self.part, remaining=limit.remaining * self.part
                )
            if bucket is None:
                bucket = self.learned[number] = LearnedBucket(limit, now)
                self._sort_buckets()
            mark = lease.marks[number]
            bucket.observe(limit, mark=mark, started_s=lease.started_s, now=now)

    def view(self, now: float) -> KeyView:
        """Return the key as people see it."""
        cooldown_s = 0.0 if self.retired is not None else max(0.0, self.cooling_until - now)
        state, reason = "ready", ""
        if self.retired is not None:
            state, reason = "retired", self.retired
        elif cooldown_s:
            state, reason = "cooling", self.trouble
        learned, configured = self.learned, self.configured
        left = [_left(learned[kind] or configured[kind], now) for kind in range(2)]
        return KeyView(
            label=self.secret.label,
            state=state,
            reason=reason,
            calls=self.calls,
            limit=self.concurrency.limit,
            requests_per_minute=learned[0].rate * 60 if learned[0] else None,
            tokens_per_minute=learned[1].rate * 60 if learned[1] else None,
            in_flight=self.in_flight,
            why=self.concurrency.why,
            requests_left=left[0],
            tokens_left=left[1],
            cooldown_s=cooldown_s,
            errors=self.errors,
            refused=self.refused,
        )


def _left(bucket: Bucket | None, now: float) -> float | None:
    """Return what may still be spent of a limit, None where none is known; changes nothing."""
    if bucket is None:
        return None
    flowed_in = bucket.rate * max(0.0, now - bucket.stamp)
    return max(0.0, min(bucket.capacity, bucket.level + flowed_in))
