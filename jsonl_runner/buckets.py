"""Token buckets: how many requests or tokens a key may still spend, and when there will be more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .attempts import RateLimit

#: Seconds. Announced limits are per minute unless the reset says otherwise (OpenAI, Groq, Mistral).
_MINUTE_S = 60.0
#: What the rounding of floats may miss.
_EXACT = 1e-9
#: Seconds between the two answers of a measurement, at least and at most: `remaining` is a whole
#: number, so a shorter span would measure its rounding, and a longer one yesterday's limit.
_MEASURE_S, _MEASURE_ANEW_S = 1.0, 10.0
#: Share by which one answer may raise the level towards what it says; a burst of answers, whose
#: requests have overtaken each other most, no more than the seconds since the last one.
_GOOD_NEWS, _GOOD_NEWS_S = 0.2, 1.0
#: Seconds; a reset of "0s" is one that has been rounded.
_MIN_RESET_S = 0.05
#: A limit that were whole again within half a second is none: then `reset` means something else.
_PLAUSIBLE = 2.0


class Bucket:
    """A configured limit: refills steadily, and lets a cost into debt rather than starve it.

    A provider may enforce 60 requests a minute as one a second, so a bucket holds one second's
    worth (at least one request), not the whole minute's.

    Args:
        per_minute: what may be spent in a minute.
        now: the present, in seconds.
    """

    __slots__ = ("_reset_at", "capacity", "level", "rate", "stamp", "taken")

    def __init__(self, per_minute: float, now: float) -> None:
        self.rate = per_minute / _MINUTE_S
        self.capacity = max(1.0, self.rate)
        self.level = self.capacity
        self.stamp = now
        #: Everything ever taken; a lease remembers it to know what was taken after its own start.
        self.taken = 0.0
        #: When one call may go in any case, because its answer tells what there is.
        self._reset_at = math.inf

    def _refill(self, now: float) -> None:
        if now > self.stamp:
            level = self.level + self.rate * (now - self.stamp)
            self.level = min(level, self.capacity)
            self.stamp = now

    def wait_s(self, cost: float, now: float) -> float:
        """Return the seconds until `cost` may be taken, 0 when it may be now.

        A cost above the capacity waits for a full bucket: no row is too big for ever.
        """
        self._refill(now)
        if cost <= self.level:
            return 0.0
        missing = min(cost, self.capacity) - self.level
        if missing <= _EXACT:
            return 0.0
        by_rate = missing / self.rate if self.rate > 0 else math.inf
        wait_s = max(0.0, min(by_rate, self._reset_at - now))
        return wait_s if wait_s < math.inf else _MINUTE_S

    def take(self, cost: float) -> float:
        """Spend `cost`; return the reading of `taken` after it."""
        if self.level < cost:
            self._reset_at = math.inf  # the one call of this reset
        self.level -= cost
        self.taken += cost
        return self.taken

    def scale(self, factor: float) -> None:
        """Keep to another part of a limit that is shared with others."""
        self.rate *= factor
        self.capacity *= factor
        self.level *= factor

    def give_back(self, cost: float) -> None:
        """Return what was taken and not used (negative: what was used beyond it)."""
        self.level = min(self.capacity, self.level + cost)


class LearnedBucket(Bucket):
    """A limit known from the provider's headers, kept up by dead reckoning between answers.

    Providers agree on `remaining` and on little else: `reset` is the time until the limit is whole
    (OpenAI), until the window ends (Groq, Azure) or until one more request fits. So the rate is
    only guessed from `limit` and `reset` at first, and then measured: what has flowed in between
    two answers is the change of `remaining` plus what was sent in between.
    """

    __slots__ = ("_anchor", "_heard_at", "_newest")

    def __init__(self, limit: RateLimit, now: float) -> None:
        super().__init__(limit.limit, now)
        self.level = self.capacity = limit.remaining
        self.rate = _first_guess(limit)
        self._newest = -1.0
        self._heard_at = now
        #: The answer the next measurement starts from: when it was sent, `taken` then, `remaining`.
        self._anchor: tuple[float, float, float] | None = None

    def observe(self, limit: RateLimit, *, mark: float, started_s: float, now: float) -> None:
        """Correct level and rate by an answer's headers.

        The level is what the server knew when it admitted the request, plus what has flowed in
        since, less what was sent since. Answers overtake each other: one that is older than the
        last one used says nothing new. Requests overtake each other too, which makes the sum a few
        too high or too low: bad news is believed at once, good news bit by bit.

        Args:
            limit: the headers' values.
            mark: reading of `taken` when the request was sent, its own cost included.
            started_s: when it was sent.
            now: the present.
        """
        if mark < self._newest:
            return
        self._newest = mark
        self.capacity = max(self.capacity, limit.remaining + 1.0)
        self._measure(limit.remaining, mark, started_s)
        flowed_in = self.rate * max(0.0, now - started_s)
        level = min(self.capacity, limit.remaining + flowed_in - (self.taken - mark))
        self._refill(now)
        share = min(_GOOD_NEWS, (now - self._heard_at) / _GOOD_NEWS_S)
        self._heard_at = now
        self.level = min(level, self.level + share * (level - self.level))
        if limit.reset_s is not None:
            self._reset_at = now + max(limit.reset_s, _MIN_RESET_S)

    def scale(self, factor: float) -> None:
        """Keep to another part; what was measured of the last one is no measure of it."""
        super().scale(factor)
        self._anchor = None

    def refused(self) -> None:
        """Note that a call took nothing: what was sent is no measure of what flowed in."""
        self._anchor = None

    def _measure(self, remaining: float, mark: float, started_s: float) -> None:
        if self._anchor is None:
            self._anchor = (started_s, mark, remaining)
            return
        since, mark_then, remaining_then = self._anchor
        span = started_s - since
        if span < _MEASURE_S:
            return
        # Less one for the rounding: too low a rate costs nothing (what it leaves in the bucket is
        # in the next `remaining`), too high a rate costs refusals.
        measured = max(0.0, (remaining - remaining_then + mark - mark_then - 1.0) / span)
        # A bucket that is full spills: then it is at least this much.
        full = remaining + 1.0 >= self.capacity
        self.rate = max(self.rate, measured) if full else measured
        if span > _MEASURE_ANEW_S:
            self._anchor = (started_s, mark, remaining)


def _first_guess(limit: RateLimit) -> float:
    """Return a refill rate, per second, from one answer's headers."""
    used = limit.limit - limit.remaining
    if limit.reset_s and used > 0:
        rate = used / limit.reset_s
        if rate <= _PLAUSIBLE * limit.limit:
            return rate
    return limit.limit / _MINUTE_S
