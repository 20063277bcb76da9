"""The pool of threads: how many rows are in flight, and how it ends."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from jsonl_runner.clock import Stop
from jsonl_runner.engines.local import LocalEngine, file_limit
from jsonl_runner.records import Outcome, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds after which a test that hangs fails instead.
PATIENCE_S = 10.0


def records(count: int) -> Iterator[Record]:
    return (Record(str(number)) for number in range(count))


def done(record: Record) -> Outcome:
    return Outcome(record.index, "done")


def test_every_record_comes_back_once() -> None:
    """For every Record there is one Outcome, whatever the number of threads."""
    for threads in (1, 3, 64):
        engine = LocalEngine(done, threads=threads, stop=Stop())
        found = [outcome.index for group in engine.outcomes(records(500)) for outcome in group]
        assert sorted(found, key=int) == [str(number) for number in range(500)]


def test_no_more_rows_are_in_flight_than_threads() -> None:
    """A row counts until its Outcome is settled: while the writer is slow, no row is taken."""
    taken = 0

    def counted() -> Iterator[Record]:
        nonlocal taken
        for record in records(200):
            taken += 1
            yield record

    settled = 0
    engine = LocalEngine(done, threads=4, stop=Stop())
    for group in engine.outcomes(counted()):
        # This group is not settled until the next is asked for: the rows in it are in flight.
        assert taken - settled <= 4
        settled += len(group)
    assert settled == 200


def test_a_stop_takes_no_more_rows_and_waits_for_those_in_flight() -> None:
    """After a stop the calls in flight come back; nothing new begins."""
    stop, release, begun = Stop(), threading.Event(), threading.Semaphore(0)

    def work(record: Record) -> Outcome:
        begun.release()
        release.wait(PATIENCE_S)
        return done(record)

    engine = LocalEngine(work, threads=3, stop=stop)
    groups = engine.outcomes(records(100))
    assert next(groups) == []
    for _ in range(3):
        assert begun.acquire(timeout=PATIENCE_S)
    stop.request()
    release.set()
    assert sum(len(group) for group in groups) == 3


def test_after_an_abort_nobody_is_waited_for() -> None:
    """A call that never comes back does not hold up the second Ctrl-C."""
    stop, release = Stop(), threading.Event()

    def work(record: Record) -> Outcome:
        if record.index == "0":
            release.wait(PATIENCE_S)
        return done(record)

    engine = LocalEngine(work, threads=2, stop=stop)
    found = []
    for group in engine.outcomes(records(10)):
        found += [outcome.index for outcome in group]
        if len(found) == 9:
            stop.abort()
    release.set()
    assert sorted(found, key=int) == [str(number) for number in range(1, 10)]


def test_a_reader_that_blocks_does_not_hold_up_a_stop() -> None:
    """A pipe without an end: once nothing is in flight, the run is over."""
    stop, never = Stop(), threading.Event()

    def endless() -> Iterator[Record]:
        yield from records(3)
        never.wait(PATIENCE_S)

    engine = LocalEngine(done, threads=2, stop=stop)
    found = 0
    for group in engine.outcomes(endless()):
        found += len(group)
        if found == 3:
            stop.request()
    assert found == 3
    never.set()


@pytest.mark.parametrize("place", ["reader", "worker"])
def test_what_a_thread_raises_is_raised_to_the_caller(place: str) -> None:
    """A defect in a thread ends the run with its own exception, after what was done."""

    def broken() -> Iterator[Record]:
        yield from records(2)
        if place == "reader":
            raise OSError("the disk is gone")
        yield Record("bad")

    def work(record: Record) -> Outcome:
        if record.index == "bad":
            raise OSError("the disk is gone")
        return done(record)

    engine = LocalEngine(work, threads=1, stop=Stop())
    found: list[Outcome] = []

    def consume() -> None:
        for group in engine.outcomes(broken()):
            found.extend(group)

    with pytest.raises(OSError, match="the disk is gone"):
        consume()
    assert [outcome.index for outcome in found] == ["0", "1"]


def test_four_thousand_slow_calls_are_in_flight_at_once() -> None:
    """4,096 threads start on small stacks and really are all at work at the same time."""
    barrier = threading.Barrier(4096)

    def work(record: Record) -> Outcome:
        barrier.wait(60)
        return done(record)

    engine = LocalEngine(work, threads=4096, stop=Stop())
    assert sum(len(group) for group in engine.outcomes(records(4096))) == 4096


def test_the_file_limit_leaves_room_for_other_files() -> None:
    """Where the system limits open files, the limit is raised and something is kept back."""
    resource = pytest.importorskip("resource")
    limit = file_limit()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limit is None or limit < soft <= hard


@pytest.mark.parametrize(("threads", "taken"), [(1, 1), (64, 64), (80, 90)])
def test_no_more_rows_are_taken_than_threads_and_a_few(threads: int, taken: int) -> None:
    """Rows that are answered and not settled yet count; above 64 threads, an eighth may wait."""
    stop, begun = Stop(), itertools.count(1)
    done = threading.Semaphore(0)

    def work(record: Record) -> Outcome:
        done.release()
        return Outcome(record.index, "")

    engine = LocalEngine(work, threads=threads, stop=stop)
    groups = engine.outcomes(Record(str(number)) for number in begun)
    found = 0
    while found == 0:
        found = len(next(groups))
    for _ in range(taken):
        assert done.acquire(timeout=5)
    assert not done.acquire(timeout=0.1)
    groups.close()
