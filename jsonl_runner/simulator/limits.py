"""Rate limits per key: token buckets with continuous refill, and the headers that tell of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .answers import error_body
from .http import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Seconds. The rounding of float clocks must not refuse a client that waited exactly as long as it
# was told; what is missing stays owed, so the rate stays true.
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: `per_second` units flow in, at most `burst` units are kept."""

    per_second: float
    burst: int

    def part(self, share: float) -> Limit:
        """Return a part of it."""
        return Limit(self.per_second * share, max(1, int(self.burst * share)))


def go_duration(seconds: float) -> str:
    """`seconds` as OpenAI prints it: `0s`, `547ms`, `1.5s`, `6m0s`, `1h0m0s`; rounded up to ms."""
    millis = _millis(seconds)
    if millis <= 0:
        return "0s"
    if millis < 1000:
        return f"{millis}ms"
    minutes, rest = divmod(millis, 60_000)
    tail = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if minutes == 0:
        return tail
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{tail}" if hours else f"{minutes}m{tail}"


def _millis(seconds: float) -> int:
    """Milliseconds, rounded up, but not for a float's last digits (1.0000000001 s is 1000 ms)."""
    return math.ceil(seconds * 1000 - 1e-6)


class Bucket:
    """A token bucket that starts full. Times are seconds of one monotonic clock."""

    __slots__ = ("_at_s", "_level", "_limit")

    def __init__(self, limit: Limit, now_s: float) -> None:
        self._limit = limit
        self._level = float(limit.burst)
        self._at_s = now_s

    def wait_s(self, units: int, now_s: float) -> float:
        """Seconds until `units` would be admitted, 0 if now.

        More than the burst is admitted from a full bucket, which then is in debt: refusing it for
        ever would help nobody, and the debt keeps the rate true.
        """
        self._refill(now_s)
        missing = min(units, self._limit.burst) - self._level
        wait_s = missing / self._limit.per_second
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def take(self, units: int) -> None:
        """Take what `wait_s` has just admitted."""
        self._level -= units

    def headers(self, kind: str) -> tuple[tuple[str, str], ...]:
        """The three x-ratelimit headers: the full bucket, what is in it, the time until it is full.

        As OpenAI's, whose bucket holds the minute's worth that its limit names.
        """
        limit = self._limit
        remaining = int(self._level + _ROUNDING_S * limit.per_second)
        reset_s = (limit.burst - self._level) / limit.per_second
        return (
            (f"x-ratelimit-limit-{kind}", str(limit.burst)),
            (f"x-ratelimit-remaining-{kind}", str(max(0, remaining))),
            (f"x-ratelimit-reset-{kind}", go_duration(reset_s)),
        )

    def _refill(self, now_s: float) -> None:
        gained = max(0.0, now_s - self._at_s) * self._limit.per_second
        self._level = min(float(self._limit.burst), self._level + gained)
        self._at_s = now_s


class Limiter:
    """The buckets of every key. Used by the server's thread only.

    Args:
        requests, tokens: what a key may have.
        shares: key -> how much of that it has; others have all of it.
        now: where the time comes from.
    """

    def __init__(
        self,
        requests: Limit | None,
        tokens: Limit | None,
        shares: Mapping[str, float],
        now: Callable[[], float],
    ) -> None:
        self.numbers = (requests, tokens, shares)
        self._now = now
        self._buckets: dict[str, tuple[tuple[str, Bucket], ...]] = {}

    @property
    def active(self) -> bool:
        """Whether any limit is configured."""
        return self.numbers[:2] != (None, None)

    def admit(self, key: str, tokens: int) -> tuple[tuple[tuple[str, str], ...], Response | None]:
        """Admit one request of `tokens` tokens with `key`, or refuse it and take nothing.

        Returns the x-ratelimit headers and, if refused, the 429 to send with them.
        """
        now_s = self._now()
        buckets = self._buckets.get(key) or self._open(key, now_s)
        waits = [
            (bucket.wait_s(1 if kind == "requests" else tokens, now_s), kind)
            for kind, bucket in buckets
        ]
        wait_s, scarce = max(waits)
        if wait_s == 0.0:
            for kind, bucket in buckets:
                bucket.take(1 if kind == "requests" else tokens)
        headers = tuple(header for kind, bucket in buckets for header in bucket.headers(kind))
        return headers, None if wait_s == 0.0 else refusal(scarce, wait_s)

    def _open(self, key: str, now_s: float) -> tuple[tuple[str, Bucket], ...]:
        requests, tokens, shares = self.numbers
        opened = tuple(
            (kind, Bucket(limit.part(shares.get(key, 1.0)), now_s))
            for kind, limit in (("requests", requests), ("tokens", tokens))
            if limit is not None
        )
        self._buckets[key] = opened
        return opened


def refusal(scarce: str, wait_s: float) -> Response:
    """The 429 of a bucket that is empty for `wait_s` seconds; both waits are rounded up."""
    millis = _millis(wait_s)
    body = error_body(
        f"Rate limit reached on {scarce}. Please try again in {go_duration(wait_s)}.",
        type_=scarce,
        code="rate_limit_exceeded",
    )
    headers = (("retry-after", str(math.ceil(millis / 1000))), ("retry-after-ms", str(millis)))
    return Response(429, body, headers, retry_after_s=millis / 1000)
