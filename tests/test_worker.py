"""One row to its end, through the real transport and the simulator's real socket."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, FakeClock, Stage

from jsonl_runner.assembly import Crew, assemble
from jsonl_runner.clock import Stop, SystemClock
from jsonl_runner.errors import NoUsableKeyError, WrongEndpointError
from jsonl_runner.records import Outcome, Record
from jsonl_runner.simulator import FAULT_KINDS, Simulator, answer_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jsonl_runner.clock import Clock

    Hire = Callable[..., "Bench"]

MODEL = "gpt-4.1-mini"
RETRIES = 2


@dataclass
class Bench:
    """A worker at the simulator, and what it said."""

    crew: Crew
    stop: Stop
    clock: Clock
    notes: list[str] = field(default_factory=list)

    def work(self, text: str, **more: Any) -> Outcome | None:
        """Do one row; it must end by itself."""
        return self.crew.work(Record("1", "Repeat.", text, **more))

    def done(self, text: str, **more: Any) -> Outcome:
        outcome = self.work(text, **more)
        assert outcome is not None
        return outcome


@pytest.fixture
def hire(stage: Stage, clock: FakeClock) -> Iterator[Hire]:
    """Return a function that puts a worker together from settings."""
    with contextlib.ExitStack() as ends:

        def make(**settings: Any) -> Bench:
            time_: Clock = settings.pop("clock", clock)
            settings = {"max_retries": RETRIES, "timeout": 10, "body_timeout": 10, **settings}
            stop, notes = Stop(), list[str]()
            crew = assemble(stage.config(**settings), clock=time_, stop=stop, note=notes.append)
            ends.callback(crew.close)
            return Bench(crew, stop, time_, notes)

        yield make


def echo(text: str, model: str = MODEL) -> str:
    messages = [{"role": "system", "content": "Repeat."}, {"role": "user", "content": text}]
    return answer_text({"model": model, "messages": messages})


def marked(kind: str) -> str:
    return f"[[fault:{kind}]] please"


ROW_FAULTS = {
    "400": "invalid_request_error",
    "context_length": "context_length_exceeded",
    "content_policy": "content_policy_violation",
    "unsupported_parameter": "unsupported_parameter",
    "413": "request_too_large",
    "422": "invalid_request_error",
    "content_filter": "content_filter",
    "refusal": "refusal",
    "empty_answer": "empty_answer",
    "null_answer": "empty_answer",
}
TRANSIENT = {
    "408": "timeout",
    "409": "invalid_request_error",
    "500": "server_error",
    "502_html": "http_502",
    "503": "server_is_overloaded",
    "empty": "malformed",
    "malformed": "malformed",
    "html": "not_json",
    "error_in_200": "upstream_error",
    "no_choices": "no_choices",
    "null_choices": "no_choices",
    "reset": "reset",
    "close": "cut_off",
    "truncated": "cut_off",
    "hang": "timeout",
    "stall": "stalled",
    "drip": "stalled",
    "huge": "too_large",
}
RATE_LIMITS = ("429", "429_bare", "slow_down", "529")
KEY_DEATHS = {
    "401": "invalid_api_key",
    "deactivated": "account_deactivated",
    "insufficient_quota": "insufficient_quota",
    "credit_balance_exhausted": "credit_balance_exhausted",
    "403": "unsupported_country_region_territory",
    "key_echo": "invalid_api_key",
}
STOPS = {"404_model": "model_not_found", "redirect": "redirect"}
ANSWERS = ("length", "tool_calls", "surrogate", "whitespace")
#: What is wrong only where JSON is asked for: see test_review.
NO_JSON = ("fenced_json", "broken_json", "other_json")
LIMITS = {"hang": {"timeout": 0.3}, "stall": {"body_timeout": 0.3}, "drip": {"body_timeout": 0.3}}


def test_every_fault_the_simulator_knows_is_tested_here() -> None:
    """A new kind of fault needs a row in one of these tables."""
    tables = (ROW_FAULTS, TRANSIENT, RATE_LIMITS, KEY_DEATHS, STOPS, ANSWERS, NO_JSON)
    assert sorted(kind for table in tables for kind in table) == sorted(FAULT_KINDS)


@pytest.mark.parametrize("kind", ROW_FAULTS)
def test_a_rows_own_fault_is_null_at_once(hire: Hire, simulator: Simulator, kind: str) -> None:
    """One call, null, its reason; the key and the run go on."""
    bench = hire()
    outcome = bench.done(marked(kind))
    assert (outcome.output, outcome.code, outcome.attempts) == (None, ROW_FAULTS[kind], 1)
    assert outcome.message
    assert len(simulator.journal.calls) == 1
    assert bench.done("next").output == echo("next")
    assert not bench.stop.requested


@pytest.mark.parametrize("kind", TRANSIENT)
def test_what_may_pass_is_tried_again_and_then_null(hire: Hire, kind: str) -> None:
    """1 + max_retries calls, then null with the last reason; a fault that passes costs nothing."""
    retries = 0 if kind == "huge" else RETRIES
    bench = hire(max_retries=retries, **LIMITS.get(kind, {}))
    bench.done("the address is right")
    outcome = bench.done(marked(kind))
    assert (outcome.output, outcome.code, outcome.attempts) == (None, TRANSIENT[kind], 1 + retries)
    assert outcome.message
    if kind != "huge":
        passing = marked(f"{kind}*1")
        outcome = bench.done(passing)
        assert (outcome.output, outcome.attempts, outcome.code) == (echo(passing), 2, "ok")


@pytest.mark.parametrize("kind", RATE_LIMITS)
def test_a_rate_limit_costs_no_retry(hire: Hire, clock: FakeClock, kind: str) -> None:
    """With no retries left, twenty refusals later the row still gets its output."""
    bench = hire(max_retries=0)
    text = marked(f"{kind}*20")
    outcome = bench.done(text)
    assert (outcome.output, outcome.attempts) == (echo(text), 21)
    assert clock.waits
    assert bench.crew.rotator.view().retired == 0


def test_a_web_page_in_place_of_the_api_stops_the_run(hire: Hire, simulator: Simulator) -> None:
    """Three pages before anything has succeeded show that the address is wrong."""
    bench = hire(max_retries=5)
    assert bench.work(marked("html")) is None
    assert isinstance(bench.stop.reason, WrongEndpointError)
    assert "check api_base" in str(bench.stop.reason)
    assert len(simulator.journal.calls) == 3


def test_a_row_that_is_always_refused_does_not_circle_for_ever(hire: Hire) -> None:
    """A request beyond the tokens a minute: null once twenty others went through meanwhile."""
    bench = hire(max_retries=0)
    with ThreadPoolExecutor(2) as pool:
        refused = pool.submit(bench.done, marked("429_bare"))
        while not refused.done():
            bench.done("another")
    outcome = refused.result()
    assert outcome.output is None
    assert outcome.code == "rate_limit_exceeded"
    assert outcome.attempts >= 20


@pytest.mark.parametrize("kind", KEY_DEATHS)
def test_a_dead_key_costs_one_call(hire: Hire, simulator: Simulator, kind: str) -> None:
    """Eight threads, a dead key and a good one: one call with the dead one, every row answered."""
    simulator.settings = replace(simulator.settings, key_faults={KEYS[0]: kind})
    bench = hire(max_retries=0)
    texts = [f"row {n}" for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(bench.done, texts))
    assert [outcome.output for outcome in outcomes] == [echo(text) for text in texts]
    assert simulator.journal.count(key=KEYS[0]) == 1
    books = bench.crew.rotator.keys()
    (dead,) = [view for view in books if view.state == "retired"]
    assert dead.label == "#1(…0001)"
    assert dead.reason.startswith(KEY_DEATHS[kind])


@pytest.mark.parametrize("kind", KEY_DEATHS)
def test_all_keys_dead_stops_the_run(hire: Hire, simulator: Simulator, kind: str) -> None:
    """The row stays unwritten; the error names the labels and never a key, echoed or not."""
    simulator.settings = replace(simulator.settings, key_faults=dict.fromkeys(KEYS, kind))
    bench = hire()
    assert bench.work("row") is None
    assert isinstance(bench.stop.reason, NoUsableKeyError)
    text = str(bench.stop.reason)
    assert "#1(…0001)" in text
    assert "#2(…0002)" in text
    assert not any(key in text for key in KEYS)
    assert len(simulator.journal.calls) == 2


@pytest.mark.parametrize("kind", STOPS)
def test_what_nobody_can_succeed_with_stops_the_run(
    hire: Hire, simulator: Simulator, kind: str
) -> None:
    """A call a key shows that the model is wrong, or one the address; the row is unwritten."""
    bench = hire()
    assert bench.work(marked(kind)) is None
    assert isinstance(bench.stop.reason, WrongEndpointError)
    assert str(bench.stop.reason).startswith(STOPS[kind])
    assert len(simulator.journal.calls) == (2 if kind == "404_model" else 1)


@pytest.mark.parametrize("kind", ANSWERS)
def test_odd_answers_are_answers(hire: Hire, kind: str) -> None:
    """Cut off, tool calls, half an emoji, newlines before the text: kept, in one call."""
    outcome = hire(body_timeout=0.3).done(marked(kind))
    assert (outcome.attempts, outcome.code) == (1, "ok")
    assert outcome.output
    whole = echo(marked(kind))
    assert {
        "length": outcome.finish_reason == "length" and whole.startswith(outcome.output),
        "tool_calls": '"look_up"' in outcome.output,
        "surrogate": outcome.output == whole + "\ufffd",
        "whitespace": outcome.output == whole,
    }[kind]


def test_an_outcome_tells_what_it_cost(hire: Hire) -> None:
    """Model, usage, finish reason, key label, times and fingerprint stand in it; no key does."""
    outcome = hire(api_keys=[KEYS[0]]).done("row")
    assert outcome.model == MODEL
    assert outcome.usage is not None
    assert outcome.usage["total_tokens"] > 0
    assert (outcome.finish_reason, outcome.key) == ("stop", "#1(…0001)")
    assert len(outcome.fingerprint) == 16
    assert outcome.started <= outcome.ended
    assert KEYS[0] not in repr(outcome)


def test_a_wrong_path_stops_the_run_and_says_what_to_check(
    hire: Hire, simulator: Simulator
) -> None:
    """A 404 of the path itself: the base address is wrong."""
    bench = hire(api_base=simulator.base_url + "/wrong")
    assert bench.work("row") is None
    assert "check api_base" in str(bench.stop.reason)


def test_a_404_after_a_success_is_a_bad_moment(hire: Hire, simulator: Simulator) -> None:
    """A key that stops knowing the model is left out; the run goes on with the others."""
    bench = hire()
    assert bench.done("first").output
    simulator.settings = replace(simulator.settings, key_faults={KEYS[0]: "404_model"})
    assert all(bench.done(f"row {n}").output == echo(f"row {n}") for n in range(6))
    assert bench.crew.rotator.view().retired == 1
    passing = marked("redirect*1")
    assert bench.done(passing).output == echo(passing)


def test_a_rows_own_wrong_model_is_its_own_fault(hire: Hire, simulator: Simulator) -> None:
    """A model named in the row that does not exist nulls that row and harms no key."""
    simulator.settings = replace(simulator.settings, models=(MODEL,))
    bench = hire()
    outcome = bench.done("row", params={"model": "nope"})
    assert (outcome.output, outcome.code) == (None, "model_not_found")
    assert bench.done("next").output == echo("next")
    assert bench.crew.rotator.view().retired == 0


def test_a_name_that_does_not_exist_stops_the_run(hire: Hire) -> None:
    """An address that cannot be resolved three times in a row is a wrong one."""
    bench = hire(api_base="http://api.invalid/v1")
    assert bench.work("row") is None
    assert isinstance(bench.stop.reason, WrongEndpointError)
    assert "api.invalid cannot be resolved" in str(bench.stop.reason)


class Outage(FakeClock):
    """A clock on which a server that is down comes back during the tenth wait."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self._simulator = simulator

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        super().wait(condition, seconds)
        if len(self.waits) == 10:
            self._simulator.start()


def test_a_server_out_of_reach_costs_no_retry(hire: Hire, simulator: Simulator) -> None:
    """The row waits for the server to come back, with no retries to spend, and is answered."""
    bench = hire(max_retries=0, clock=Outage(simulator))
    simulator.stop()
    outcome = bench.done("row")
    assert outcome.output == echo("row")
    assert 5 < outcome.attempts < 20


def test_a_refused_parameter_is_renamed_once_for_the_whole_run(
    hire: Hire, simulator: Simulator
) -> None:
    """max_tokens becomes max_completion_tokens after one refusal, said once, at no retry."""
    simulator.settings = replace(simulator.settings, unsupported_params=("max_tokens",))
    bench = hire(max_retries=0, params={"max_tokens": 50})
    assert [bench.done(f"row {n}").attempts for n in range(4)] == [2, 1, 1, 1]
    assert bench.notes == [
        f"{MODEL} does not take max_tokens: sent as max_completion_tokens instead"
    ]


def test_a_refused_temperature_is_left_out_and_said_once(hire: Hire, simulator: Simulator) -> None:
    """Many threads meet the refusal together; the user hears of it once."""
    simulator.settings = replace(simulator.settings, unsupported_params=("temperature", "top_p"))
    bench = hire(max_retries=0, params={"temperature": 0.1, "top_p": 0.5})
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(bench.done, [f"row {n}" for n in range(24)]))
    assert all(outcome.output for outcome in outcomes)
    assert sorted(bench.notes) == [
        f"{MODEL} does not take temperature: left out for the whole run",
        f"{MODEL} does not take top_p: left out for the whole run",
    ]


def test_both_words_refused_is_the_rows_fault(hire: Hire, simulator: Simulator) -> None:
    """A model that takes neither word for the limit gets two calls, not an endless dance."""
    both = ("max_tokens", "max_completion_tokens")
    simulator.settings = replace(simulator.settings, unsupported_params=both)
    outcome = hire(params={"max_tokens": 50}).done("row")
    assert (outcome.output, outcome.code) == (None, "unsupported_parameter")
    assert outcome.attempts == 2


def test_an_abort_ends_a_hanging_call(hire: Hire, simulator: Simulator) -> None:
    """The second Ctrl-C ends a call without an answer; its row stays unwritten, not null."""
    bench, found = hire(clock=SystemClock()), list[Outcome | None]()
    thread = threading.Thread(target=lambda: found.append(bench.work(marked("hang"))))
    thread.start()
    while not simulator.journal.in_flight():
        time.sleep(0.01)
    asked = time.monotonic()
    bench.stop.abort()
    thread.join(5)
    assert time.monotonic() - asked < 1
    assert found == [None]
    assert bench.crew.rotator.view().in_flight == 0
