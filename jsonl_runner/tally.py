"""Counting Outcomes for the views of a run: rates, latencies, what each key used, last failures.

Fed and asked by the thread that leads the run alone. An Outcome costs a fraction of a microsecond
here: latencies are sorted into bins once a second, in C.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from .snapshot import FailureView, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .keys import KeysView
    from .records import Outcome
    from .snapshot import KeyView
    from .summary import RunSummary

#: Upper ends, in seconds, of what latencies are sorted into: steps of 12 %, so that a quantile is
#: told within 6 %, from a millisecond to a quarter of an hour.
BOUNDS = tuple(float(f"{10 ** (step / 20 - 3):.3g}") for step in range(120))
#: Seconds that latencies and sparklines look back, and that the rate is taken over.
_LOOK_BACK_S, _RATE_S = 60, 10
#: Failures that are kept.
_FAILURES = 10
#: Outcomes that are counted at once: one by one it costs four times as much, and all those of a
#: second would be a second's outputs in memory.
_MAX_PENDING = 256


class _Second(NamedTuple):
    """What came in one second: rows, and latencies by their place in BOUNDS."""

    rows: int
    latencies: Counter[int]


class Tally:
    """What the views of a run want to know beside its summary.

    Args:
        data, output: what the run is about, for people.
        threads: calls that may be under way; None: as the keys allow.
    """

    def __init__(self, data: str = "", output: str = "", threads: int | None = None) -> None:
        self._data = data
        self._output = output
        self._threads = threads
        self._began = 0.0
        self._second = 0
        self._rows = 0
        self._pending: list[Outcome] = []
        self._latencies: list[float] = []
        self._seconds: deque[_Second] = deque(maxlen=_LOOK_BACK_S)
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        self._tokens: dict[str, int] = {}
        self._costs: dict[str, float] = {}
        self._failures: deque[FailureView] = deque(maxlen=_FAILURES)

    def begin(self, now: float) -> None:
        """Take note that the first row may begin; `now`: the clock's."""
        self._began = now

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Count Outcomes that are written."""
        self._pending += outcomes
        if len(self._pending) >= _MAX_PENDING:
            self._count()

    def _count(self) -> None:
        outcomes, self._pending = self._pending, []
        self._rows += len(outcomes)
        self._latencies += [o.latency_s for o in outcomes if o.attempts]
        tokens, costs = self._tokens, self._costs
        for outcome in outcomes:
            usage, key = outcome.usage, outcome.key
            if usage is not None:
                total = usage.get("total_tokens")
                if type(total) is int:
                    tokens[key] = tokens.get(key, 0) + total
            if outcome.cost is not None:
                costs[key] = costs.get(key, 0.0) + outcome.cost
            if outcome.output is None:
                self._failures.append(
                    FailureView(
                        outcome.index,
                        outcome.code,
                        outcome.message,
                        outcome.attempts,
                        outcome.ended,
                    )
                )

    def _close_seconds(self, now: float) -> None:
        """Put what has come into the seconds that are over."""
        self._count()
        second = int(now - self._began)
        if second == self._second:
            return
        found = Counter(map(bisect_left, itertools.repeat(BOUNDS), self._latencies))
        for place, count in found.items():
            self._counts[place] += count
        self._sum += sum(self._latencies)
        # Where nobody looked for a while, what has come is spread evenly over it.
        passed = second - self._second
        share, rest = divmod(self._rows, passed)
        for number in range(max(0, passed - _LOOK_BACK_S), passed):
            self._seconds.append(_Second(share + (number < rest), Counter()))
        self._seconds[-1] = _Second(self._seconds[-1].rows, found)
        self._second, self._rows, self._latencies = second, 0, []

    def snapshot(
        self,
        summary: RunSummary,
        view: KeysView,
        keys: Iterable[KeyView],
        *,
        now: float,
        wall: float,
        stopping: str = "",
    ) -> Snapshot:
        """Return how the run goes.

        Args:
            summary: its numbers so far.
            view: the keys at a glance.
            keys: each of them.
            now: the clock's, seconds.
            wall: seconds since 1970.
            stopping: why no more rows are begun.
        """
        self._close_seconds(now)
        seconds = list(self._seconds)
        elapsed_s = now - self._began
        rate = _rate([second.rows for second in seconds], self._rows, elapsed_s)
        p50, p95, p99 = _quantiles(seconds)
        return Snapshot(
            time=wall,
            elapsed_s=elapsed_s,
            data=self._data,
            output=self._output,
            unit=summary.unit,
            rows=summary.rows,
            skipped=summary.skipped,
            left_out=summary.left_out,
            done=summary.done,
            failed=summary.failed,
            cached=summary.cached,
            retried=summary.retried,
            tokens_in=summary.tokens.prompt,
            tokens_out=summary.tokens.completion,
            cost=summary.cost,
            expected_cost=summary.expected_cost,
            rate=rate,
            left_s=_left_s(summary, rate),
            p50=p50,
            p95=p95,
            p99=p99,
            rates=tuple(float(second.rows) for second in seconds),
            latencies=tuple(_quantile(second.latencies, 0.5) or 0.0 for second in seconds),
            latency_counts=tuple(self._counts),
            latency_sum=self._sum,
            waiting_for=view.waiting_for,
            trouble=view.trouble,
            stopping=stopping,
            reasons={code: failure.count for code, failure in summary.failures.items()},
            last_failures=tuple(self._failures),
            notes=tuple(summary.notes[-_FAILURES:]),
            keys=self._with_use(keys),
            threads=self._threads,
        )

    def _with_use(self, keys: Iterable[KeyView]) -> tuple[KeyView, ...]:
        """Return the keys with what the rows that they answered have used."""
        tokens, costs = self._tokens, self._costs
        return tuple(
            replace(key, tokens=tokens.get(key.label, 0), cost=costs.get(key.label)) for key in keys
        )


def _rate(rows: Sequence[int], now: int, elapsed_s: float) -> float:
    """Return rows a second over the last whole seconds, or since the beginning if there is none."""
    latest = rows[-_RATE_S:]
    if latest:
        return sum(latest) / len(latest)
    return now / elapsed_s if elapsed_s > 0 else 0.0


def _left_s(summary: RunSummary, rate: float) -> float | None:
    """Return the seconds until all rows are done that are to be tried; None when unknown."""
    if summary.left is None or not rate:
        return None
    return max(0, summary.left - summary.left_out) / rate


def _quantiles(seconds: Iterable[_Second]) -> list[float | None]:
    """Return what the table shows of the latencies of some seconds: p50, p95, p99."""
    latest: Counter[int] = Counter()
    for second in seconds:
        latest.update(second.latencies)
    return [_quantile(latest, share) for share in (0.50, 0.95, 0.99)]


def _quantile(counts: Counter[int], share: float) -> float | None:
    """Return the latency that this share of the answers stayed below, None without any."""
    total = counts.total()
    if not total:
        return None
    passed, place = 0, 0
    for place in sorted(counts):
        passed += counts[place]
        if passed >= share * total:
            break
    return BOUNDS[min(place, len(BOUNDS) - 1)]
