"""A cluster's head that falls silent, without Ray: a socket, and a clock of our own."""

from __future__ import annotations

import socket

import pytest
from support import FakeClock

from jsonl_runner.clock import Stop
from jsonl_runner.engines.head import HeadWatch, answers
from jsonl_runner.errors import RunStoppedError


def test_a_silent_head_ends_the_run_and_a_short_silence_does_not() -> None:
    """At half of Ray's patience no row is begun any more, at three quarters none waited for."""
    clock, stop = FakeClock(), Stop()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    head = HeadWatch(f"127.0.0.1:{port}", 60.0, clock)
    clock.advance(3600)  # a computer that slept: nobody looked, and nothing is known
    head.check(stop)
    head.look()
    head.check(stop)
    listening.close()
    head.look()
    clock.advance(29)
    head.look()
    head.check(stop)
    with socket.create_server(("127.0.0.1", port)):
        head.look()
    head.look()
    clock.advance(29)
    head.check(stop)
    assert not stop.requested, "it answered in between"
    clock.advance(1)
    head.check(stop)
    assert (stop.requested, stop.aborted) == (True, False)
    assert isinstance(stop.reason, RunStoppedError)
    assert f"127.0.0.1:{port}) has not answered for 30 s" in str(stop.reason)
    clock.advance(15)
    head.check(stop)
    assert stop.aborted


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "a..b:1", "::1"])
def test_nobody_answers_at_what_is_no_address(address: str) -> None:
    """Told as an address where nobody is, and no defect."""
    assert not answers(address)
