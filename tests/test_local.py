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
