"""The openai SDK as a batch provider: what it reads, what its errors mean, files of any length."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from batch_support import Bench, bench
from support import KEYS, FakeClock

from jsonl_runner.batch.base import ProviderError, moment, read_batch
from jsonl_runner.batch.openai import OpenAIBatches
from jsonl_runner.batch.profiles import OPENAI
from jsonl_runner.batch.providers import provider_of
from jsonl_runner.clock import Stop
from jsonl_runner.config import load
from jsonl_runner.errors import ConfigError
from jsonl_runner.transport.base import MAX_REPLY_BYTES, TransportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["bench"]


@contextlib.contextmanager
def provider(address: str, **more: Any) -> Iterator[OpenAIBatches]:
    limits = {"timeout_s": 5, "connect_timeout_s": 2, "body_timeout_s": 5, **more}
    settings = TransportSettings(address, **limits)
    with contextlib.closing(OpenAIBatches(settings, OPENAI, FakeClock(), Stop())) as found:
        yield found


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("validating", "running"),
        ("in_progress", "running"),
        ("cancelling", "running"),
        ("QUEUED", "running"),
        ("something new", "running"),
        ("", "running"),
        ("COMPLETED", "completed"),
        ("SUCCESS", "completed"),
        ("ended", "completed"),
        ("failed", "failed"),
        ("TIMEOUT_EXCEEDED", "expired"),
        ("canceled", "cancelled"),
    ],
)
def test_a_state_that_is_not_an_end_is_running(status: str, state: str) -> None:
    """Whatever a provider calls it: only a known end is one."""
    assert read_batch({"id": "b", "status": status}).state == state


def test_a_batch_with_next_to_nothing_in_it_is_read() -> None:
    """Null counts, blank file ids, times as texts, errors without fields."""
    found = read_batch(
        {
            "id": "b",
            "status": "failed",
            "request_counts": {"total": "7", "completed": None, "failed": True},
            "output_file_id": "",
            "error_file_id": None,
            "created_at": "1752600000",
            "metadata": None,
            "errors": {"data": [{"message": "no\n code"}, None, {"code": "x", "line": 3}]},
        }
    )
    assert (found.total, found.completed, found.failed, found.results) == (None, None, None, ())
    assert found.created == 1752600000.0
    assert [str(error) for error in found.errors] == ["failed: no code", "x:  (line 3)"]
    assert read_batch({}).id == ""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1700000000, 1.7e9),
        ("1700000000", 1.7e9),
        ("2023-11-14T22:13:20Z", 1.7e9),
        ("2023-11-14T22:13:20", 1.7e9),
        (None, None),
        (True, None),
        ("soon", None),
        (float("nan"), None),
        ("nan", None),
    ],
)
def test_times_come_in_three_spellings(value: object, seconds: float | None) -> None:
    """Numbers, texts, ISO 8601; what is none of them is not known."""
    assert moment(value) == seconds


def test_a_server_that_is_not_there_has_done_nothing(tmp_path: Path) -> None:
    """A refused connection says for certain that no batch was created."""
    with provider("http://127.0.0.1:9/v1") as found, pytest.raises(ProviderError) as caught:
        found.retrieve("b", KEYS[0])
    assert not caught.value.may_be_done
    assert caught.value.may_pass
    assert caught.value.status == 0


@pytest.mark.parametrize(
    ("kind", "may_be_done", "may_pass", "of_key"),
    [
        ("500", True, True, False),
        ("429", False, True, False),
        ("401", False, False, True),
        ("insufficient_quota", False, False, True),
        ("400", False, False, False),
        ("close", True, True, False),
        ("html", True, True, False),
    ],
)
def test_what_an_error_means_for_the_creating_call(
    bench: Bench, kind: str, *, may_be_done: bool, may_pass: bool, of_key: bool
) -> None:
    """4xx: certainly not created. 5xx, a lost answer, a 200 that is no batch: nobody knows."""
    bench.simulator.fail_next("GET /v1/batches/{id}", kind)
    with provider(bench.simulator.base_url) as found, pytest.raises(ProviderError) as caught:
        found.retrieve("b", KEYS[0])
    error = caught.value
    assert (error.may_be_done, error.may_pass, error.is_of_key) == (may_be_done, may_pass, of_key)
    assert KEYS[0] not in str(error)


def test_files_beyond_all_answers_go_up_and_down_in_little_memory(
    bench: Bench, tmp_path: Path
) -> None:
    """70 MiB: more than an answer may have; never whole in memory."""
    line = b'{"custom_id":"%d","method":"POST","url":"/v1/x","body":{}}'.ljust(2**20 - 1) + b"\n"
    path = tmp_path / "large.jsonl"
    with path.open("wb") as stream:
        for _ in range(70):
            stream.write(line)
    size = path.stat().st_size
    assert size > MAX_REPLY_BYTES

    class Counting(io.BytesIO):
        total = 0

        def write(self, data: Any) -> int:
            self.total += len(data)
            return len(data)

    with provider(bench.simulator.base_url, timeout_s=60) as found:
        tracemalloc.start()
        file = found.upload(path, "large.jsonl", KEYS[0])
        target = Counting()
        found.download(file, target, KEYS[0])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.size_of(file, KEYS[0]) == target.total == size
        assert found.find_upload("large.jsonl", size, KEYS[0]) == file
        assert found.find_upload("large.jsonl", size + 1, KEYS[0]) is None
        found.delete_file(file, KEYS[0])
        found.delete_file(file, KEYS[0])
    assert peak < 20 * 2**20


def test_a_provider_of_another_kind_is_refused_in_words() -> None:
    """No guess at Anthropic's API; an unknown name lists the known ones."""
    config = load(None, {"api_keys": ["sk-any-key-0001"]}, {})
    with pytest.raises(ConfigError, match="known are openai, anthropic"):
        provider_of(config, "acme", clock=FakeClock(), stop=Stop())
