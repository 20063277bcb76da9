"""The engine on Ray: workers that die, rows that kill them, and how the rows are shared out."""

from __future__ import annotations

import importlib
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from engine_support import begun, indices, numbers, rows
from ray_support import BrokenLead, PlainLead
from support import until

from jsonl_runner.clock import Stop
from jsonl_runner.engines.ray import RayEngine
from jsonl_runner.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from jsonl_runner.engines.cluster import Cluster
    from jsonl_runner.records import Outcome

pytestmark = pytest.mark.ray


def test_a_row_that_kills_its_worker_is_null_after_three_deaths(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The third death is the row's alone; its neighbours succeed, and nobody else is to blame."""
    lead = PlainLead(2, 2)
    found: list[Outcome] = []
    for group in RayEngine(cluster, lead, stop=Stop()).outcomes(rows(tmp_path, 40, {7: "die"})):
        found += group
    failed = [outcome for outcome in found if outcome.output is None]
    assert [(outcome.index, outcome.code) for outcome in failed] == [("7", "worker_died")]
    assert failed[0].message == "3 workers died with this row, the last with it alone"
    assert indices([found]) == numbers(40)
    assert begun(tmp_path).count("7") == 3
    assert len(lead.losses) == 3
    assert lead.losses[-1][1] == 1, "the last time it was alone"


def test_a_killed_worker_costs_what_it_had_in_flight(cluster: Cluster, tmp_path: Path) -> None:
    """Every row comes back once; only what the worker had may begin twice."""
    gate = tmp_path / "gate"
    lead = PlainLead(4, 4)
    waiting = dict.fromkeys(range(20, 28), f"wait {gate}")
    found: list[Outcome] = []
    for group in RayEngine(cluster, lead, stop=Stop()).outcomes(rows(tmp_path, 100, waiting)):
        found += group
        pids = list(tmp_path.glob("pid-*"))
        if not gate.exists() and pids and set(map(str, waiting)) & set(begun(tmp_path)):
            os.kill(int(pids[0].name.removeprefix("pid-")), signal.SIGKILL)
            gate.touch()
    assert indices([found]) == numbers(100)
    again = [index for index, count in Counter(begun(tmp_path)).items() if count > 1]
    assert len(lead.losses) == 1
    assert 1 <= len(again) <= lead.losses[0][1] <= 8


def test_after_a_stop_a_dead_workers_rows_are_left(cluster: Cluster, tmp_path: Path) -> None:
    """They are not begun again, neither there nor elsewhere; those of the other come back."""
    gate, stop = tmp_path / "gate", Stop()
    waiting = dict.fromkeys(range(100), f"wait {gate}")
    groups = RayEngine(cluster, PlainLead(2, 2), stop=stop).outcomes(rows(tmp_path, 100, waiting))
    while len(begun(tmp_path)) < 4:
        assert next(groups) == []
    stop.request()
    killed = next(tmp_path.glob("pid-*"))
    os.kill(int(killed.name.removeprefix("pid-")), signal.SIGKILL)
    gate.touch()
    found = indices(groups)
    assert 2 <= len(found) < len(begun(tmp_path)) < 100
    assert set(found) < set(begun(tmp_path))
    assert len(begun(tmp_path)) == len(set(begun(tmp_path)))


def test_rows_in_store_go_to_who_has_nothing_to_do(cluster: Cluster, tmp_path: Path) -> None:
    """At the end of the input a slow worker keeps its calls alone, not what it has in store."""
    gate = tmp_path / "gate"
    slow = dict.fromkeys(range(2), f"wait {gate}")
    found: list[Outcome] = []
    for group in RayEngine(cluster, PlainLead(1, 1, 1), stop=Stop()).outcomes(
        rows(tmp_path, 12, slow)
    ):
        found += group
        if len(found) == 10:
            gate.touch()
    assert {outcome.index for outcome in found[-2:]} == {"0", "1"}


def test_workers_that_cannot_begin_end_the_run_with_their_reason(
    cluster: Cluster, tmp_path: Path
) -> None:
    """What each node lacks is said of each, and the last one's is the run's."""
    stop, lead = Stop(), BrokenLead(1, 1)
    assert indices(RayEngine(cluster, lead, stop=stop).outcomes(rows(tmp_path, 3))) == []
    assert isinstance(stop.reason, ConfigError)
    assert str(stop.reason) == "this node lacks a key"
    assert sorted(number for number, _, _ in lead.ends) == [0, 1]
    assert [is_last for _, _, is_last in lead.ends] == [False, True]
    until(lambda: not begun(tmp_path))


def test_a_node_without_our_package_is_named_by_what_it_lacks(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot even be made there ends that worker with one line, as a lack of keys does."""
    import ray  # noqa: PLC0415

    (tmp_path / "lacking.py").write_text("class Thing:\n    pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    thing = ray.remote(importlib.import_module("lacking").Thing).remote()
    report = cluster.report_of(thing.__ray_ready__.remote().future())
    assert report.is_over
    assert isinstance(report.ended, ConfigError)
    assert "has no Python module lacking: install the same packages" in str(report.ended)
