"""What every engine promises (`engines.base`), asked of each of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from engine_support import PATIENCE_S, begun, indices, numbers, rows, work
from ray_support import PlainLead
from support import until

from jsonl_runner.clock import Stop
from jsonl_runner.engines.local import LocalEngine
from jsonl_runner.engines.ray import RayEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jsonl_runner.engines.base import Engine
    from jsonl_runner.records import Outcome, Record

    Make = Callable[[Stop], Engine]

#: Calls at the same time.
THREADS = 4


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def make(request: pytest.FixtureRequest) -> Make:
    """Return what makes an engine of a few threads; Ray's on two workers."""
    if request.param == "local":
        return lambda stop: LocalEngine(work, threads=THREADS, stop=stop)
    cluster = request.getfixturevalue("cluster")
    lead = PlainLead(THREADS // 2, THREADS // 2)
    return lambda stop: RayEngine(cluster, lead, stop=stop)


def test_every_record_comes_back_once(make: Make, tmp_path: Path) -> None:
    """For every row there is one Outcome, and one beginning."""
    engine = make(Stop())
    assert indices(engine.outcomes(rows(tmp_path, 300))) == numbers(300)
    assert sorted(begun(tmp_path), key=int) == numbers(300)
    assert engine.idle


def test_no_records_are_no_outcomes(make: Make) -> None:
    """An input without rows ends at once."""
    assert indices(make(Stop()).outcomes(iter(()))) == []


def test_rows_are_taken_as_there_is_room_and_a_group_counts_until_the_next_is_asked_for(
    make: Make, tmp_path: Path
) -> None:
    """While the writer is slow, no more rows are taken than the window has room for."""
    taken = settled = 0

    def counted() -> Iterator[Record]:
        nonlocal taken
        for record in rows(tmp_path, 200):
            taken += 1
            yield record

    engine = make(Stop())
    for group in engine.outcomes(counted()):
        assert taken - settled <= engine.window
        settled += len(group)
    assert settled == 200


def test_a_slow_row_holds_up_no_other(make: Make, tmp_path: Path) -> None:
    """Answers come in any order: all others are there before the slow one."""
    gate = tmp_path / "gate"
    found: list[str] = []
    for group in make(Stop()).outcomes(rows(tmp_path, 50, {0: f"wait {gate}"})):
        found += [outcome.index for outcome in group]
        if len(found) == 49:
            assert "0" not in found
            gate.touch()
    assert found[-1] == "0"


def test_after_a_stop_nothing_begins_and_what_is_in_flight_comes_back(
    make: Make, tmp_path: Path
) -> None:
    """What was begun is just what comes back: a Ctrl-C loses no paid answer."""
    gate, stop = tmp_path / "gate", Stop()
    groups = make(stop).outcomes(rows(tmp_path, 100, dict.fromkeys(range(100), f"wait {gate}")))
    while len(begun(tmp_path)) < THREADS:
        assert next(groups) == []
    stop.request()
    gate.touch()
    assert indices(groups) == sorted(begun(tmp_path), key=int)
    assert len(begun(tmp_path)) < 100


def test_after_an_abort_nobody_is_waited_for(make: Make, tmp_path: Path) -> None:
    """A call that never comes back does not hold up the second Ctrl-C."""
    gate, stop = tmp_path / "gate", Stop()
    found: list[str] = []
    for group in make(stop).outcomes(rows(tmp_path, 10, {0: f"wait {gate}"})):
        found += [outcome.index for outcome in group]
        if len(found) == 9:
            stop.abort()
    gate.touch()
    assert sorted(found, key=int) == numbers(10)[1:]


def test_a_reader_that_blocks_holds_up_no_stop(make: Make, tmp_path: Path) -> None:
    """A pipe without an end: once nothing is in flight, the run is over."""
    never, stop = threading.Event(), Stop()

    def endless() -> Iterator[Record]:
        yield from rows(tmp_path, 3)
        never.wait(PATIENCE_S)

    found = 0
    for group in make(stop).outcomes(endless()):
        found += len(group)
        if found == 3:
            stop.request()
    assert found == 3
    never.set()


def test_rows_that_are_there_do_not_wait_for_those_that_are_not(make: Make, tmp_path: Path) -> None:
    """A pipe that gives one row and then nothing for a while has that row's answer at once."""
    more = threading.Event()

    def slowly() -> Iterator[Record]:
        for number, record in enumerate(rows(tmp_path, 3)):
            assert number == 0 or more.wait(PATIENCE_S)
            yield record

    found = 0
    for group in make(Stop()).outcomes(slowly()):
        found += len(group)
        if found == 1:
            more.set()
    assert found == 3


@pytest.mark.parametrize("place", ["reader", "worker"])
def test_a_defect_ends_the_run_with_its_own_words(make: Make, tmp_path: Path, place: str) -> None:
    """What reading or working raises is raised to whoever leads the run, after what was done."""
    stop = Stop()

    def broken() -> Iterator[Record]:
        yield from rows(tmp_path, 2)
        until(lambda: len(begun(tmp_path)) == 2, PATIENCE_S)
        if place == "reader":
            raise OSError("the disk is gone")
        yield from rows(tmp_path, 1, {0: "raise"})

    found: list[Outcome] = []

    def consume() -> None:
        for group in make(stop).outcomes(broken()):
            found.extend(group)

    with pytest.raises(Exception, match="the disk is gone"):
        consume()
    assert sorted(outcome.index for outcome in found) == ["0", "1"]


def test_a_consumer_that_has_had_enough_leaves_nobody_at_work(make: Make, tmp_path: Path) -> None:
    """Closing the groups ends the taking of rows."""
    stop = Stop()
    groups = make(stop).outcomes(rows(tmp_path, 10_000))
    while not next(groups):
        pass
    groups.close()
    assert stop.requested
