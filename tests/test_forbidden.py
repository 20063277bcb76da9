"""A 403 that does not say whose fault it is: the row's or the key's."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from support import KEYS, FakeClock, Stage, row, write_rows

from jsonl_runner.assembly import StandIn
from jsonl_runner.attempts import Kind, Verdict
from jsonl_runner.clock import Stop
from jsonl_runner.job import Job
from jsonl_runner.keys import Rotator
from jsonl_runner.retry import classify_exception
from jsonl_runner.runner import run
from jsonl_runner.secret import Secret

if TYPE_CHECKING:
    from jsonl_runner.records import Record

FORBIDDEN = Verdict(Kind.FORBIDDEN, "http_403", "HTTP 403")


class ForbiddenError(Exception):
    """As a gateway's SDK raises it, without a code."""

    status_code = 403


def test_it_is_neither_a_dead_key_nor_a_bad_row_at_once() -> None:
    """Without a code nobody knows whose fault it is."""
    assert classify_exception(ForbiddenError("moderated"), 0.0).kind is Kind.FORBIDDEN


def rotator_of(clock: FakeClock) -> Rotator:
    secrets = [Secret(KEYS[0], 1)]
    return Rotator(secrets, concurrency=4, clock=clock, rng=random.Random(1))


def call(rotator: Rotator, index: str, verdict: Verdict) -> None:
    lease = rotator.acquire(1, Stop())
    assert lease is not None
    lease.row = index
    rotator.release(lease, verdict)


def test_one_row_ruins_no_key(clock: FakeClock) -> None:
    """The same row refused again and again says nothing about the key."""
    rotator = rotator_of(clock)
    for _ in range(5):
        call(rotator, "moderated", FORBIDDEN)
    assert rotator.view().retired == 0


def test_two_rows_in_a_row_retire_the_key(clock: FakeClock) -> None:
    """A second row with no success between shows that it is the key."""
    rotator = rotator_of(clock)
    call(rotator, "1", FORBIDDEN)
    call(rotator, "2", Verdict(Kind.OK))
    call(rotator, "3", FORBIDDEN)
    assert rotator.view().retired == 0
    call(rotator, "4", FORBIDDEN)
    assert rotator.view().retired == 1


def test_a_run_goes_on_past_a_forbidden_row(stage: Stage, clock: FakeClock) -> None:
    """It is null with its reason after its retries; every other row has its output."""
    rows = [row(number) for number in range(30)]
    write_rows(stage.data, rows)

    def answer(record: Record, _key: str) -> str:
        if record.index == "7":
            raise ForbiddenError("moderated")
        return record.input

    job = Job(stage.data, stage.output, quiet=True)
    config = stage.config(max_retries=2, threads=1)
    summary = run(config, job, function=StandIn(lambda _chat: answer), clock=clock)
    assert (summary.done, summary.failed) == (29, 1)
    assert summary.failures["http_403"].example == "7"
