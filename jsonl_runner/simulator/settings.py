"""What the simulator does; every field can be changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .faults import BATCH_KINDS, check_kind
from .limits import Limit
from .routes import check_route

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_MODELS = ("gpt-4.1-mini", "gpt-4.1")


@dataclass(frozen=True, kw_only=True)
class SimulatorSettings:
    """The simulator's behaviour. Raises ValueError for numbers or fault kinds that make no sense.

    keys: accepted keys, None for any (but some key must be sent); others get 401 invalid_api_key.
    models: known models, None for any; others get 404 model_not_found.
    latency_s, latency_spread_s: time to an answer, plus a seeded uniform share of the spread.
    requests_per_second, requests_burst, tokens_per_second, tokens_burst: buckets of each key; a
        burst is by default one second's worth, at least 1.
    key_shares: key -> the share of these limits that it has, above 0; others have all of them.
    max_in_flight: calls in the whole server above which 429 is sent at once, without Retry-After.
    fault_rates: fault kind -> probability; together at most 1.
    key_faults: key -> the fault it always has.
    unsupported_params: body fields refused with 400.
    streams: whether `stream` is heeded; if not, every answer comes in one piece.
    tokenizer: returns a text's tokens: what calls use is counted with it, and with what OpenAI puts
        around messages. None: a quarter of the characters, as for batches always.
    record_bodies: whether the journal keeps each call's last user text.

    Of files and batches, in seconds of the simulator's clock:
    batch_validating_s, batch_in_progress_s, batch_finalizing_s, batch_cancelling_s: how long a
        batch stays in each state. Anthropic's know the second and the last.
    batch_window_s: after which a batch that is still in progress expires.
    batch_answered_share: share of a batch's lines answered before it expires or is cancelled; None
        is as many as its time allowed (a half, if no time was given).
    batches_by_hand: time moves no batch, only `simulator.batches.advance()` does.
    stuck_batches: share of the batches that stay in progress for ever.
    batch_hidden_s, list_lag_s: for how long after its creation a batch is 404, and not in the list.
    file_ready_s: for how long a file is not processed yet after its upload.
    max_enqueued_tokens: model -> prompt tokens that its unfinished batches may have together.
    max_batch_requests, max_batch_bytes: limits of an input file.
    line_faults: fault kind -> share of the lines that meet it; kinds of batches may be among them.
    batch_counts: `odd` calls every line of a completed batch completed and none ever failed, `null`
        knows no numbers.
    absent_files: how a batch names a file that it has not: null, "", not at all, or an empty file.
    loud_batches: states in capitals with a single l, times and counts as texts, as some compatible
        providers have them.
    endless_lists: lists do not know `after` and `has_more`.
    separate_keys: files and batches are there for the key only that made them.
    lost_requests, lost_answers: route (`POST /v1/batches`) -> probability that its connection is
        cut before anything is done, or after all is done.
    management_faults: fault kind -> probability that a call of files or batches meets it, undone.
    """

    keys: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    latency_s: float = 0.0
    latency_spread_s: float = 0.0
    requests_per_second: float | None = None
    requests_burst: int | None = None
    tokens_per_second: float | None = None
    tokens_burst: int | None = None
    key_shares: Mapping[str, float] = field(default_factory=dict)
    max_in_flight: int | None = None
    fault_rates: Mapping[str, float] = field(default_factory=dict)
    key_faults: Mapping[str, str] = field(default_factory=dict)
    unsupported_params: tuple[str, ...] = ()
    streams: bool = True
    seed: int = 0
    tokenizer: Callable[[str], int] | None = None
    record_bodies: bool = True
    batch_validating_s: float = 0.0
    batch_in_progress_s: float = 0.0
    batch_finalizing_s: float = 0.0
    batch_cancelling_s: float = 0.0
    batch_window_s: float = 86_400.0
    batch_answered_share: float | None = None
    batches_by_hand: bool = False
    stuck_batches: float = 0.0
    batch_hidden_s: float = 0.0
    list_lag_s: float = 0.0
    file_ready_s: float = 0.0
    max_enqueued_tokens: Mapping[str, int] = field(default_factory=dict)
    max_batch_requests: int = 50_000
    max_batch_bytes: int = 200 * 1024 * 1024
    line_faults: Mapping[str, float] = field(default_factory=dict)
    batch_counts: Literal["true", "odd", "null"] = "true"
    absent_files: Literal["null", "blank", "missing", "empty_file"] = "null"
    loud_batches: bool = False
    endless_lists: bool = False
    separate_keys: bool = False
    lost_requests: Mapping[str, float] = field(default_factory=dict)
    lost_answers: Mapping[str, float] = field(default_factory=dict)
    management_faults: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in (*self.fault_rates, *self.key_faults.values(), *self.management_faults):
            check_kind(kind)
        for kind in self.line_faults.keys() - set(BATCH_KINDS):
            check_kind(kind)
        for route in (*self.lost_requests, *self.lost_answers):
            check_route(route)
        self._check_rates()
        self._check_batches()
        if self.latency_s < 0 or self.latency_spread_s < 0:
            raise ValueError("a latency is not negative")
        for name in ("requests_per_second", "tokens_per_second"):
            rate = getattr(self, name)
            if rate is not None and rate <= 0:
                raise ValueError(f"{name} must be above 0")
        if any(share <= 0 for share in self.key_shares.values()):
            raise ValueError("a key's share must be above 0")
        for name in ("requests_burst", "tokens_burst", "max_in_flight"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1")

    def _check_rates(self) -> None:
        shares = [self.stuck_batches, self.batch_answered_share or 0.0]
        shares += [*self.lost_requests.values(), *self.lost_answers.values()]
        for rates in (self.fault_rates, self.line_faults, self.management_faults):
            shares += rates.values()
            # A little more than 1 is the rounding of floats such as 0.1 + 0.2 + 0.7.
            if sum(rates.values()) > 1 + 1e-9:
                raise ValueError("the fault rates add up to more than 1")
        if any(not 0 <= share <= 1 for share in shares):
            raise ValueError("a fault rate is a probability from 0 to 1")

    def _check_batches(self) -> None:
        states = ("validating", "in_progress", "finalizing", "cancelling", "window", "hidden")
        names = [f"batch_{state}_s" for state in states]
        for name in (*names, "list_lag_s", "file_ready_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is not negative")
        if self.max_batch_requests < 1 or self.max_batch_bytes < 1:
            raise ValueError("a batch has room for one request at least")

    def limits(self) -> tuple[Limit | None, Limit | None, Mapping[str, float]]:
        """The limits on requests and tokens of each key, if any, and the shares of some keys."""
        return (
            _limit(self.requests_per_second, self.requests_burst),
            _limit(self.tokens_per_second, self.tokens_burst),
            self.key_shares,
        )


def _limit(per_second: float | None, burst: int | None) -> Limit | None:
    if per_second is None:
        return None
    return Limit(per_second, burst if burst is not None else max(1, int(per_second)))
