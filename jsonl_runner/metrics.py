"""The numbers of a run for Prometheus, made of its latest Snapshot when they are asked for.

Needs the package prometheus-client (`pip install 'jsonl-runner[metrics]'`), which is asked for when
somebody wants metrics and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .tally import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.core import Metric

    from .snapshot import Snapshot

_NAME = "jsonl_runner_"
#: Every so many of BOUNDS is the upper end of a bucket, from 10 ms to 300 s.
_EVERY, _FIRST, _LAST = 5, 20, 111
_STATES = ("ready", "cooling", "retired")


class Metrics:
    """Serves the numbers on an address of this machine.

    Args:
        port: 0 takes a free one.
        host: the address; others than 127.0.0.1 let other machines look.

    Raises:
        ConfigError: the address cannot be had, or prometheus-client is not there.

    Attributes:
        url: where they are.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415
        except ImportError:
            raise ConfigError(
                "--metrics-port needs prometheus-client: pip install 'jsonl-runner[metrics]'"
            ) from None
        self._snapshot: Snapshot | None = None
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        try:
            served: tuple[WSGIServer, Thread] = start_http_server(port, host, registry)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or "it must be from 0 to 65535"
            raise ConfigError(
                f"--metrics-port: {host}:{port} cannot be had ({why}); name another one, or 0"
            ) from None
        self._server, self._thread = served
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"

    def look(self, snapshot: Snapshot) -> None:
        """Take the latest numbers."""
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers; called by prometheus-client, in a thread of its own."""
        snapshot = self._snapshot
        if snapshot is not None:
            yield from _of_run(snapshot)
            yield from _of_keys(snapshot)
            yield _latency(snapshot)

    def close(self) -> None:
        """End the service."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=1)


def _of_run(now: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
    )

    calls = sum(key.calls for key in now.keys)
    counters: list[tuple[str, str, Any]] = [
        ("rows_done", "Rows of this run with an output.", now.done),
        ("rows_cached", "Rows of this run that took no call.", now.cached),
        ("attempts", "Calls to the provider.", calls),
        ("retries", "Calls beyond the first of each row.", now.retried),
        ("tokens_input", "Tokens sent, as the provider counts.", now.tokens_in),
        ("tokens_output", "Tokens answered, as the provider counts.", now.tokens_out),
    ]
    if now.cost is not None:
        counters.append(("cost", "What it cost, in the provider's currency.", now.cost))
    for name, text, value in counters:
        yield CounterMetricFamily(_NAME + name, text, value)
    failed = CounterMetricFamily(
        _NAME + "rows_failed", "Rows of this run with null.", labels=["code"]
    )
    for code, count in (now.reasons or {}).items():
        failed.add_metric([code], count)
    yield failed
    gauges: list[tuple[str, str, Any]] = [
        ("rows", "Rows of the input.", now.rows),
        ("rows_skipped", "Rows that had their output before.", now.skipped),
        ("rows_left", "Rows still to do.", now.left),
        ("calls_in_flight", "Calls under way.", now.in_flight),
        ("calls_allowed", "Calls that may be under way.", now.allowed),
        ("elapsed_seconds", "Seconds since the first row.", now.elapsed_s),
        ("snapshot_timestamp_seconds", "When these numbers were taken.", now.time),
        ("expected_cost", "What it costs in the end, as it goes now.", now.expected_cost),
    ]
    for name, text, value in gauges:
        if value is not None:
            yield GaugeMetricFamily(_NAME + name, text, value)


def _of_keys(now: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
    )

    state = GaugeMetricFamily(
        _NAME + "key_state", "1 for the state that a key is in.", labels=["key", "state"]
    )
    for key in now.keys:
        for name in _STATES:
            state.add_metric([key.label, name], float(key.state == name))
    yield state
    kinds: list[tuple[Any, str, str, str]] = [
        (GaugeMetricFamily, "in_flight", "Calls of the key under way.", "in_flight"),
        (GaugeMetricFamily, "allowed", "Calls that it may have under way.", "limit"),
        (GaugeMetricFamily, "cooldown_seconds", "Seconds until it is ready.", "cooldown_s"),
        (GaugeMetricFamily, "requests_left", "Calls left of its limit.", "requests_left"),
        (GaugeMetricFamily, "tokens_left", "Tokens left of its limit.", "tokens_left"),
        (CounterMetricFamily, "attempts", "Calls of the key.", "calls"),
        (CounterMetricFamily, "errors", "Failed calls, no 429 and no row's fault.", "errors"),
        (CounterMetricFamily, "refused", "Calls that were too many (429).", "refused"),
        (CounterMetricFamily, "tokens", "Tokens of the rows it answered.", "tokens"),
        (CounterMetricFamily, "cost", "Cost of the rows it answered.", "cost"),
    ]
    for kind, name, text, field in kinds:
        family = kind(f"{_NAME}key_{name}", text, labels=["key"])
        for key in now.keys:
            value = getattr(key, field)
            if value is not None:
                family.add_metric([key.label], value)
        if family.samples:
            yield family


def _latency(now: Snapshot) -> Metric:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

    counts = now.latency_counts
    buckets: list[tuple[str, float]] = [
        (f"{BOUNDS[place]:g}", float(sum(counts[: place + 1])))
        for place in range(_FIRST, _LAST, _EVERY)
    ]
    buckets.append(("+Inf", float(sum(counts))))
    family = HistogramMetricFamily(
        _NAME + "attempt_duration_seconds", "How long the last call of each row took."
    )
    family.add_metric([], buckets, now.latency_sum)
    return family
