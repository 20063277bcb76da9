"""`batch_crashes` with Anthropic's batches; each run has a key of its own, and so a list."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import batch_crashes

from jsonl_runner import config as settings
from jsonl_runner.batch.anthropic import AnthropicBatches
from jsonl_runner.batch.desk import Time
from jsonl_runner.batch.job import Batches
from jsonl_runner.batch.plan import Wishes
from jsonl_runner.batch.profiles import ANTHROPIC
from jsonl_runner.clock import Stop, SystemClock
from jsonl_runner.transport.base import TransportSettings

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, address: str, size: int) -> None:
    """Do the rows of a folder."""
    key = f"sk-ant-{folder.parent.name}-{folder.name}-0001"
    given = {"api_base": address, "api_keys": [key], "proxy": "", "model": "claude-haiku-4-5"}
    config = settings.load(None, given, {})
    clock, stop = SystemClock(), Stop()
    limits = TransportSettings(address, timeout_s=20, connect_timeout_s=5, body_timeout_s=20)
    with contextlib.closing(AnthropicBatches(limits, ANTHROPIC, clock, stop)) as provider:
        time = Time(clock, stop, batch_crashes.PACE)
        with Batches(config, folder / "output.jsonl", provider, time) as batches:
            batches.run(folder / "data.jsonl", Wishes(max_requests=size))


if __name__ == "__main__":
    batch_crashes.run = run
    batch_crashes.main(*sys.argv[1:])
