"""Single calls on one rotator: from any thread, given up, ended, stalled."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support import KEYS, FakeClock

from jsonl_runner import NoUsableKeyError, RunStoppedError
from jsonl_runner.clock import Stop
from jsonl_runner.records import Record
from jsonl_runner.session import Session
from jsonl_runner.simulator import SimulatorSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Stage

    from jsonl_runner.session import Call


def question(text: str) -> Record:
    return Record("0", text)


@pytest.fixture
def session(stage: Stage) -> Iterator[Session]:
    """A session of two keys on the simulator."""
    opened = Session(stage.config())
    yield opened
    opened.close()


def hanging(session: Session, stage: Stage, calls: int = 1) -> list[Call]:
    """Return calls that the simulator has got and will never answer."""
    made = [session.submit(question("[[fault:hang]]")) for _ in range(calls)]
    limit = time.monotonic() + 10
    while stage.simulator.journal.count(fault="hang") < calls:
        assert time.monotonic() < limit
        threading.Event().wait(0.01)
    return made


def test_calls_of_many_threads_share_what_is_known_of_the_keys(stage: Stage) -> None:
    """A dead key costs one call, whoever makes the others; each gets its own answer."""
    stage.simulator.settings = SimulatorSettings(keys=KEYS[1:])
    told: list[str] = []
    session = Session(stage.config(), note=told.append)
    with ThreadPoolExecutor(64) as pool:
        texts = [f"question {number}" for number in range(300)]
        outcomes = list(pool.map(lambda text: session.ask(question(text)), texts))
    assert [str(outcome.output).split(maxsplit=2)[2] for outcome in outcomes] == texts
    keys = [call.key for call in stage.simulator.journal.calls]
    assert (keys.count(KEYS[0]), keys.count(KEYS[1])) == (1, 300)
    assert session.summary.done == 300
    session.close()
    assert sum("key #1(…0001) is retired" in note for note in told) <= 1


def test_no_more_calls_at_once_than_a_run_would_make(stage: Stage) -> None:
    """`threads` bounds them however many ask."""
    stage.simulator.settings = SimulatorSettings(latency_s=0.02)
    session = Session(stage.config(threads=5))
    calls = [session.submit(question(f"question {number}")) for number in range(60)]
    assert {call.answered.result(10).code for call in calls} == {"ok"}
    assert stage.simulator.journal.max_in_flight <= 5
    assert session.threads == 5
    session.close()


def test_a_call_that_is_given_up_ends_its_connection(stage: Stage, session: Session) -> None:
    """And no other: those under way and those to come are answered."""
    hung, other = hanging(session, stage, 2)
    hung.end()
    with pytest.raises(RunStoppedError, match="given up"):
        hung.answered.result(2)
    assert not other.answered.done()
    assert session.ask(question("hello")).output is not None
    assert not session.is_over
    hung.end()  # a second time: nothing happens


def test_a_call_that_is_given_up_tries_no_more(stage: Stage) -> None:
    """The wait for the next try ends at once, and there is no next try."""
    session = Session(stage.config(max_retries=50))
    call = session.submit(question("[[fault:500]]"))
    limit = time.monotonic() + 10
    while not stage.simulator.journal.calls:
        assert time.monotonic() < limit
        threading.Event().wait(0.01)
    call.end()
    with pytest.raises(RunStoppedError):
        call.answered.result(2)
    made = len(stage.simulator.journal.calls)
    assert session.ask(question("hello")).output is not None
    assert len(stage.simulator.journal.calls) == made + 1
    session.close()


def test_the_end_of_all_keys_is_the_end_of_the_session(stage: Stage) -> None:
    """Every waiting call says so, and later ones are not even tried."""
    stage.simulator.settings = SimulatorSettings(keys=())
    session = Session(stage.config(threads=2))
    calls = [session.submit(question("hello")) for _ in range(20)]
    for call in calls:
        assert isinstance(call.answered.exception(5), NoUsableKeyError)
    assert session.is_over
    made = len(stage.simulator.journal.calls)
    with pytest.raises(NoUsableKeyError):
        session.ask(question("hello"))
    assert len(stage.simulator.journal.calls) == made == 2


def test_somebody_elses_stop_ends_it(stage: Stage) -> None:
    """A folder's run that is stopped lets calls under way finish; aborted, it ends them."""
    stop = Stop()
    session = Session(stage.config(), stop=stop)
    (hung,) = hanging(session, stage)
    stop.request(RunStoppedError("enough"))
    with pytest.raises(RunStoppedError, match="enough"):
        session.ask(question("hello"))
    assert not hung.answered.done()
    stop.abort()
    with pytest.raises(RunStoppedError, match="enough"):
        hung.answered.result(2)


def test_it_does_not_wait_for_ever(stage: Stage) -> None:
    """Where nothing succeeds for `stall_timeout`, calls end with that reason."""
    stage.simulator.settings = SimulatorSettings(fault_rates={"429_bare": 1.0})
    session = Session(stage.config(stall_timeout=120, timeout=5), clock=FakeClock())
    with pytest.raises(RunStoppedError, match="stall_timeout"):
        session.ask(question("hello"))


def test_closing_ends_what_is_under_way(stage: Stage) -> None:
    """Nobody is left waiting."""
    session = Session(stage.config())
    (hung,) = hanging(session, stage)
    session.close()
    with pytest.raises(RunStoppedError):
        hung.answered.result(2)
    with pytest.raises(RunStoppedError):
        session.ask(question("hello"))
