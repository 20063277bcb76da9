"""A client killed at every step, beside a server that loses calls: every row once, paid once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from jsonl_runner.simulator import Simulator, SimulatorSettings

pytestmark = pytest.mark.skipif(os.name == "nt", reason="it forks")

#: Each of these calls is lost on its way, or its answer is, so often.
LOST = 0.05
ROUTES = (
    "POST /v1/files",
    "GET /v1/files",
    "GET /v1/files/{id}",
    "GET /v1/files/{id}/content",
    "POST /v1/batches",
    "GET /v1/batches",
    "GET /v1/batches/{id}",
)
PARTS = 4
#: Processes that crash side by side.
SHARDS = 4


@pytest.mark.parametrize(("rows", "size", "distance"), [(40, 10, 4), (3000, 750, 20)])
def test_killed_at_every_step_every_row_ends_with_its_output_and_is_paid_once(
    tmp_path: Path, rows: int, size: int, distance: int
) -> None:
    """Before and after each HTTP call, commit and file: some 220 steps, 4 batches, no twin.

    All of them take minutes, so here every fourth is taken (EVERY_STEP=1 takes all).
    """
    if os.environ.get("EVERY_STEP"):
        distance = 1
    rates = dict.fromkeys(ROUTES, LOST)
    settings = SimulatorSettings(
        batch_in_progress_s=0.03, list_lag_s=0.1, lost_requests=rates, lost_answers=rates
    )
    program = Path(__file__).with_name("batch_crashes.py")
    with Simulator(settings) as simulator:
        words = [sys.executable, str(program)]
        shards = [  # they mostly wait
            subprocess.Popen(
                [*words, str(tmp_path / str(shard)), simulator.base_url]
                + [str(n) for n in (rows, size, 1 + shard * distance, SHARDS * distance)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for shard in range(SHARDS)
        ]
        told = [shard.communicate(timeout=300)[0] for shard in shards]
        assert [shard.returncode for shard in shards] == [0] * SHARDS
        journal = simulator.journal.batches
        created, billed = Counter(b.sha256 for b in journal.created), journal.billed_prompts()
    at = sum((Counter(json.loads(text)["at"]) for text in told), Counter[str]())
    runs = at.total() + SHARDS
    assert runs > 150 // distance
    assert len(created) == PARTS * runs, "each part of each run, by its content"
    assert set(created.values()) == {1}, "no batch was created twice"
    assert len(billed) == rows * runs
    assert set(billed.values()) == {1}, "no row was paid twice"
    if distance == 1:
        steps = {"upload", "create", "list", "download", "commit"}
        wanted = {f"{when} {step}" for when in ("before", "after") for step in steps}
        assert wanted <= at.keys()
