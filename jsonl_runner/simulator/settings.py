"""What the simulator does; every field can be changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .faults import check_kind
from .limits import Limit

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_MODELS = ("gpt-4.1-mini", "gpt-4.1")


@dataclass(frozen=True, kw_only=True)
class SimulatorSettings:
    """The simulator's behaviour. Raises ValueError for numbers or fault kinds that make no sense.

    keys: accepted keys, None for any (but some key must be sent); others get 401 invalid_api_key.
    models: known models, None for any; others get 404 model_not_found.
    latency_s, latency_spread_s: time to an answer, plus a seeded uniform share of the spread.
    requests_per_second, requests_burst, tokens_per_second, tokens_burst: buckets of each key; a
        burst is by default one second's worth, at least 1.
    max_in_flight: calls in the whole server above which 429 is sent at once, without Retry-After.
    fault_rates: fault kind -> probability; together at most 1.
    key_faults: key -> the fault it always has.
    unsupported_params: body fields refused with 400.
    streams: whether `stream` is heeded; if not, every answer comes in one piece.
    record_bodies: whether the journal keeps each call's last user text.
    """

    keys: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    latency_s: float = 0.0
    latency_spread_s: float = 0.0
    requests_per_second: float | None = None
    requests_burst: int | None = None
    tokens_per_second: float | None = None
    tokens_burst: int | None = None
    max_in_flight: int | None = None
    fault_rates: Mapping[str, float] = field(default_factory=dict)
    key_faults: Mapping[str, str] = field(default_factory=dict)
    unsupported_params: tuple[str, ...] = ()
    streams: bool = True
    seed: int = 0
    record_bodies: bool = True

    def __post_init__(self) -> None:
        for kind in (*self.fault_rates, *self.key_faults.values()):
            check_kind(kind)
        if any(not 0 <= rate <= 1 for rate in self.fault_rates.values()):
            raise ValueError("a fault rate is a probability from 0 to 1")
        # A little more than 1 is the rounding of floats such as 0.1 + 0.2 + 0.7.
        if sum(self.fault_rates.values()) > 1 + 1e-9:
            raise ValueError("the fault rates add up to more than 1")
        if self.latency_s < 0 or self.latency_spread_s < 0:
            raise ValueError("a latency is not negative")
        for name in ("requests_per_second", "tokens_per_second"):
            rate = getattr(self, name)
            if rate is not None and rate <= 0:
                raise ValueError(f"{name} must be above 0")
        for name in ("requests_burst", "tokens_burst", "max_in_flight"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1")

    def requests_limit(self) -> Limit | None:
        """The limit on requests of each key, if any."""
        return _limit(self.requests_per_second, self.requests_burst)

    def tokens_limit(self) -> Limit | None:
        """The limit on tokens of each key, if any."""
        return _limit(self.tokens_per_second, self.tokens_burst)


def _limit(per_second: float | None, burst: int | None) -> Limit | None:
    if per_second is None:
        return None
    return Limit(per_second, burst if burst is not None else max(1, int(per_second)))
