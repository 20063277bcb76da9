"""How a run goes, at one moment: what every view of it shows, on this terminal or another.

Plain data that can be written as JSON and read again. It holds labels of keys, never a key.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_View = TypeVar("_View")


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as people see it.

    Attributes:
        label: its name.
        state: ready, cooling or retired.
        reason: why it is not ready; empty when it is.
        calls: made so far.
        limit: calls that it may have in flight now.
        requests_per_minute, tokens_per_minute: limits as learnt; None: none.
        in_flight: calls under way.
        why: why `limit` moved last; empty before the first time.
        requests_left, tokens_left: what it may spend of its limits now; None: no limit is known.
        cooldown_s: seconds until it is ready again.
        errors: calls that failed, neither for being too many nor for their row.
        refused: calls that were too many (429).
        tokens: used by the rows it answered.
        cost: of these rows; None when unknown.
    """

    label: str
    state: str = "ready"
    reason: str = ""
    calls: int = 0
    limit: int = 0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    in_flight: int = 0
    why: str = ""
    requests_left: float | None = None
    tokens_left: float | None = None
    cooldown_s: float = 0.0
    errors: int = 0
    refused: int = 0
    tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class FailureView:
    """A row that failed: its index, the reason, calls made, and when (seconds since 1970)."""

    index: str
    code: str
    message: str
    attempts: int = 0
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        time: seconds since 1970.
        elapsed_s: seconds since its first row.
        data, output: what it is about.
        unit: what is counted.
        rows: of the input; None while a stream has not ended.
        skipped: had their output before.
        left_out: that the run is not to try (`--limit`, `--sample`).
        done, failed: of this run.
        cached: of those done, the ones that took no call.
        retried: attempts beyond the first of each row.
        tokens_in, tokens_out: used.
        cost: so far; None when unknown.
        expected_cost: at the end, as it goes now; None when unknown.
        rate: rows a second over the last seconds.
        left_s: seconds to the end at this rate; None when unknown.
        p50, p95, p99: latency over the last minute, seconds; None: no answer in it.
        rates: rows in each of the last seconds, the newest last.
        latencies: median latency of each of them; 0 where no answer came.
        latency_counts: answers by `tally.BOUNDS`, since the beginning.
        latency_sum: seconds of all of them.
        waiting_for: why nothing moves; empty when something does.
        trouble: what is wrong with the server; empty when nothing is.
        stopping: why no more rows are begun; empty while they are.
        reasons: failed rows by reason.
        last_failures: the newest last.
        notes: what was said last.
        keys: all of them.
        threads: calls that all of them together may have under way; None: as the keys allow.
    """

    time: float
    elapsed_s: float = 0.0
    data: str = ""
    output: str = ""
    unit: str = "rows"
    rows: int | None = None
    skipped: int = 0
    left_out: int = 0
    done: int = 0
    failed: int = 0
    cached: int = 0
    retried: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None
    expected_cost: float | None = None
    rate: float = 0.0
    left_s: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    rates: tuple[float, ...] = ()
    latencies: tuple[float, ...] = ()
    latency_counts: tuple[int, ...] = ()
    latency_sum: float = 0.0
    waiting_for: str = ""
    trouble: str = ""
    stopping: str = ""
    reasons: dict[str, int] | None = None
    last_failures: tuple[FailureView, ...] = ()
    notes: tuple[str, ...] = ()
    keys: tuple[KeyView, ...] = ()
    threads: int | None = None

    @property
    def finished(self) -> int:
        """Rows of this run that have an output or a null."""
        return self.done + self.failed

    @property
    def goal(self) -> int | None:
        """Rows that have their outcome when the run is over, those of earlier runs among them."""
        return None if self.rows is None else self.rows - self.left_out

    @property
    def left(self) -> int | None:
        """Rows the run has still to do; None while unknown."""
        return None if self.goal is None else max(0, self.goal - self.skipped - self.finished)

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return sum(key.in_flight for key in self.keys)

    @property
    def allowed(self) -> int:
        """Calls that may be under way: what threads and the keys that are not retired allow."""
        of_keys = sum(key.limit for key in self.keys if key.state != "retired")
        return of_keys if self.threads is None else min(of_keys, self.threads)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def money(amount: float) -> str:
    """Return a cost for people, in whatever currency the provider counts."""
    return f"{amount:,.2f}" if amount >= 100 else f"{amount:.4f}"


def from_dict(data: object) -> Snapshot:
    """Return the Snapshot that `to_dict` made into this, whatever version of this package did.

    Raises:
        ValueError: it is none.
    """
    return _read(Snapshot, data)


def _read(kind: type[_View], data: object) -> _View:
    if not isinstance(data, dict):
        raise ValueError(f"{kind.__name__} must be an object")
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # it is a dataclass
    try:
        return kind(**{name: _value(hints[name], data[name]) for name in data if name in known})
    except TypeError as error:
        raise ValueError(str(error)) from None


def _value(hint: Any, value: object) -> object:
    """Return a value as its field has it.

    Raises:
        ValueError: it is of another type.
    """
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError("a list was expected")
        item = get_args(hint)[0]
        return tuple(_value(item, one) for one in value)
    if hint in (KeyView, FailureView):
        return _read(hint, value)
    if dict[str, int] in get_args(hint):
        return None if value is None else _counts(value)
    kinds = get_args(hint) or (hint,)
    if value is None and type(None) in kinds:
        return None
    if float in kinds and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError("a number was expected, of no special type")
        return float(value)
    if type(value) not in kinds:
        raise ValueError(f"{value!r:.40} is of another type")
    return value


def _counts(value: object) -> dict[str, int]:
    if not isinstance(value, dict) or {type(count) for count in value.values()} - {int}:
        raise ValueError("an object of whole numbers was expected")
    return {str(name): count for name, count in value.items()}
