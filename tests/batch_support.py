"""What the tests of batches share: batches over a stage's simulator, on a clock without waiting."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from support import FakeClock

from jsonl_runner.batch.desk import Pace, Time
from jsonl_runner.batch.job import Batches, Watched
from jsonl_runner.batch.openai import OpenAIBatches
from jsonl_runner.batch.plan import Wishes
from jsonl_runner.batch.profiles import OPENAI
from jsonl_runner.clock import Stop, SystemClock
from jsonl_runner.transport.base import TransportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Stage

    from jsonl_runner.clock import Clock

#: A fast pace on the real clock.
QUICK = Pace(poll_s=0.02, longest_poll_s=0.1, settle_s=0.3, missing_s=0.5, enqueued_s=0.05)


def provider_of(stage: Stage, clock: Clock, stop: Stop, **more: Any) -> OpenAIBatches:
    """Return the provider that leads to a stage's simulator."""
    limits = {"timeout_s": 10, "connect_timeout_s": 5, "body_timeout_s": 10, **more}
    return OpenAIBatches(TransportSettings(stage.simulator.base_url, **limits), OPENAI, clock, stop)


@contextlib.contextmanager
def batches_of(
    stage: Stage,
    *,
    clock: Clock | None = None,
    pace: Pace = QUICK,
    stop: Stop | None = None,
    notes: list[str] | None = None,
    **more: Any,
) -> Iterator[Batches]:
    """Open batches over a stage's ledger."""
    clock, stop = clock or SystemClock(), stop or Stop()
    with contextlib.closing(provider_of(stage, clock, stop)) as provider:
        watched = Watched(note=(notes if notes is not None else []).append)
        with Batches(
            stage.config(),
            stage.output,
            provider,
            Time(clock, stop, pace),
            watched=watched,
            **more,
        ) as batches:
            yield batches


__all__ = ["QUICK", "FakeClock", "Wishes", "batches_of", "provider_of"]
