"""Percentiles of millions of durations in little memory, within a stated error.

A histogram whose bands grow by 2 %: the middle of a band is at most 1 % from whatever lies in it.
"""

from __future__ import annotations

import math
from collections import Counter

from .numbers import Band, Latency

_GROWTH = 1.02
_LOG = math.log(_GROWTH)
RELATIVE_ERROR = 0.01
#: Seconds. The log tells tenths of a millisecond, and no call lasts for a year.
_SHORTEST, _LONGEST = 1e-4, 1e8
#: Bands of the distribution that is shown.
_SHOWN = 40


class Histogram:
    """Counts durations."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._sum = self._longest = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        seconds = min(max(seconds, _SHORTEST), _LONGEST)
        self._counts[math.floor(math.log(seconds) / _LOG)] += 1
        self._sum += seconds
        self._longest = max(self._longest, seconds)

    def result(self) -> Latency:
        """Return what was counted."""
        found = Latency(count=self._counts.total(), relative_error=RELATIVE_ERROR)
        if not found.count:
            return found
        found.mean = round(self._sum / found.count, 4)
        found.longest = round(self._longest, 4)
        found.p50, found.p95, found.p99 = (self._at(part) for part in (0.5, 0.95, 0.99))
        found.bands = self._bands()
        return found

    def _at(self, part: float) -> float:
        """Return what so large a part of all does not pass."""
        rank, before = math.ceil(part * self._counts.total()), 0
        for band in sorted(self._counts):
            before += self._counts[band]
            if before >= rank:
                return round(min(math.pow(_GROWTH, band + 0.5), self._longest), 4)
        raise AssertionError("a rank is at most the count")

    def _bands(self) -> list[Band]:
        low, high = min(self._counts), max(self._counts)
        step = math.ceil((high - low + 1) / _SHOWN)
        return [
            Band(
                round(_GROWTH**start, 6),
                round(_GROWTH ** (start + step), 6),
                sum(self._counts[band] for band in range(start, start + step)),
            )
            for start in range(low, high + 1, step)
        ]
