"""`--metrics-port`: the numbers of a run as Prometheus reads them."""

from __future__ import annotations

import builtins
import socket
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import KEYS, row, write_rows

from jsonl_runner import watching
from jsonl_runner.errors import ConfigError
from jsonl_runner.metrics import Metrics
from jsonl_runner.snapshot import KeyView, Snapshot
from jsonl_runner.watching import Views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Stage

KEY = KeyView(
    "#1(…0001)", "cooling", "busy", 9, 8, in_flight=3, cooldown_s=2.5, requests_left=7.0,
    errors=1, refused=2, tokens=30, cost=0.5,
)  # fmt: skip
COUNTS = tuple(5 if place == 60 else 0 for place in range(121))  # five answers of a second
NOW = Snapshot(
    1e9, 2.5, rows=10, skipped=1, done=5, failed=2, cached=1, retried=3, tokens_in=7, tokens_out=8,
    cost=0.5, expected_cost=0.75, reasons={"timeout": 2}, keys=(KEY,),
    latency_counts=COUNTS, latency_sum=5.0,
)  # fmt: skip


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    served = Metrics(0)
    yield served
    served.close()


def text_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return each sample by its name and the values of its labels."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_numbers_of_a_run_and_its_keys(metrics: Metrics) -> None:
    """Counters end in _total, units are in the names, a key is a label."""
    metrics.look(NOW)
    found = samples(text_of(metrics.url))
    name, key = "jsonl_runner_", "#1(…0001)"
    for sample, value in {
        ("rows_done_total",): 5,
        ("rows_failed_total", "timeout"): 2,
        ("rows_cached_total",): 1,
        ("rows",): 10,
        ("rows_skipped",): 1,
        ("rows_left",): 2,
        ("attempts_total",): 9,
        ("retries_total",): 3,
        ("tokens_input_total",): 7,
        ("tokens_output_total",): 8,
        ("cost_total",): 0.5,
        ("expected_cost",): 0.75,
        ("calls_in_flight",): 3,
        ("calls_allowed",): 8,
        ("elapsed_seconds",): 2.5,
        ("snapshot_timestamp_seconds",): 1e9,
        ("key_state", key, "cooling"): 1,
        ("key_state", key, "ready"): 0,
        ("key_state", key, "retired"): 0,
        ("key_in_flight", key): 3,
        ("key_allowed", key): 8,
        ("key_cooldown_seconds", key): 2.5,
        ("key_requests_left", key): 7,
        ("key_attempts_total", key): 9,
        ("key_errors_total", key): 1,
        ("key_refused_total", key): 2,
        ("key_tokens_total", key): 30,
        ("key_cost_total", key): 0.5,
        ("attempt_duration_seconds_count",): 5,
        ("attempt_duration_seconds_sum",): 5,
        ("attempt_duration_seconds_bucket", "0.562"): 0,
        ("attempt_duration_seconds_bucket", "1"): 5,
        ("attempt_duration_seconds_bucket", "316"): 5,
        ("attempt_duration_seconds_bucket", "+Inf"): 5,
    }.items():
        assert found.pop((name + sample[0], *sample[1:])) == value, sample
    assert {sample[0] for sample in found} == {name + "attempt_duration_seconds_bucket"}


def test_what_is_unknown_is_left_out(metrics: Metrics) -> None:
    """Before the first look there is nothing; no cost, no rows of a stream, no limits."""
    assert text_of(metrics.url) == ""
    metrics.look(Snapshot(1e9, keys=(KeyView("#1"),)))
    found = {sample[0] for sample in samples(text_of(metrics.url))}
    assert "jsonl_runner_rows_done_total" in found
    for absent in ("cost_total", "expected_cost", "rows", "rows_left", "key_requests_left"):
        assert f"jsonl_runner_{absent}" not in found


def test_it_ends_with_the_run(metrics: Metrics) -> None:
    """The port is free again."""
    other = Metrics(0)
    port = int(other.url.rsplit(":", 1)[1].split("/")[0])
    other.close()
    Metrics(port).close()


def test_a_run_is_served_while_it_runs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine only, and no key is in it."""
    seen: list[str] = []

    def settled(_group: Any) -> None:
        if not seen or "rows_done" not in seen[-1]:
            seen.append(text_of(urls[0]))

    urls: list[str] = []
    made = Metrics.__init__

    def init(self: Metrics, port: int, host: str = "127.0.0.1") -> None:
        made(self, port, host)
        urls.append(self.url)

    monkeypatch.setattr(Metrics, "__init__", init)
    monkeypatch.setattr(watching, "LOOK_EVERY_S", 0.0)
    stage.simulator.settings = type(stage.simulator.settings)(latency_s=0.1)
    rows = [row(n) for n in range(40)]
    stage.run(rows, threads=2, job={"settled": settled, "views": Views(metrics_port=0)})
    assert urls[0].startswith("http://127.0.0.1:")
    assert "jsonl_runner_rows_done_total" in seen[-1]
    assert not any(key in text for key in KEYS for text in seen)
    with pytest.raises(OSError, match="refused"):
        text_of(urls[0])


@pytest.mark.parametrize(("port", "why"), [(None, "in use"), (65536, "from 0 to 65535")])
def test_a_port_that_cannot_be_had(stage: Stage, port: int | None, why: str) -> None:
    """One clear error, before anything is paid."""
    write_rows(stage.data, [row(0)])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = taken.getsockname()[1] if port is None else port
        done = stage.run_cli("--metrics-port", str(given))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --metrics-port: 127.0.0.1:{given} cannot be had (")
    assert why in done.stderr
    assert stage.simulator.journal.calls == []


def test_without_the_extra_it_says_what_to_install(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with the command."""
    whole = builtins.__import__

    def without(name: str, *more: Any, **others: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ImportError(name)
        return whole(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'jsonl-runner\[metrics\]'"):
        stage.run([row(0)], job={"views": Views(metrics_port=0)})
