"""Answers heard while they come, through a session, over both transports."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from jsonl_runner import OpenAIModel, RunStoppedError
from jsonl_runner.attempts import Reply
from jsonl_runner.errors import TransportError
from jsonl_runner.models import Prompt, record_of, stand_in_of
from jsonl_runner.records import Record
from jsonl_runner.session import Session
from jsonl_runner.simulator import SimulatorSettings, answer_text
from jsonl_runner.streaming import Listener, Streaming, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support import Stage


@pytest.fixture(params=["curl", "openai"])
def session(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Session]:
    """A session of two keys on the simulator, over each transport."""
    opened = Session(stage.config(transport=request.param))
    yield opened
    opened.close()


class Ear:
    """What was heard, piece by piece; None where the answer began anew."""

    def __init__(self) -> None:
        self.heard: list[str | None] = []
        self.times: list[float] = []
        self.threads: set[int] = set()

    def text(self, piece: str) -> None:
        self.heard.append(piece)
        self.times.append(time.monotonic())
        self.threads.add(threading.get_ident())

    def restart(self) -> None:
        self.heard.append(None)

    @property
    def last(self) -> str:
        """All since the answer began anew."""
        last = [*self.heard]
        while None in last:
            del last[: last.index(None) + 1]
        return "".join(piece for piece in last if piece is not None)


def ask(session: Session, text: str, **more: Any) -> tuple[Ear, Any]:
    ear = Ear()
    outcome = session.ask(Record("0", text, **more), on_text=ear.text, on_restart=ear.restart)
    return ear, outcome


def test_the_pieces_come_one_by_one(stage: Stage, session: Session) -> None:
    """Early, in the asking thread; the Outcome is that of an answer in one piece."""
    stage.simulator.settings = SimulatorSettings(latency_s=0.4)
    before = time.monotonic()
    ear, outcome = ask(session, "Tell me, ünïcode 🙂")
    assert ear.times[0] - before < 0.25
    assert ear.times[-1] - ear.times[0] > 0.2
    assert ear.threads == {threading.get_ident()}
    assert len(ear.heard) > 5
    plain = session.ask(Record("0", "Tell me, ünïcode 🙂"))
    assert ear.last == outcome.output == plain.output
    found = (outcome.usage, outcome.model, outcome.finish_reason, outcome.attempts)
    assert found == (plain.usage, plain.model, plain.finish_reason, 1)


@pytest.mark.parametrize("fault", ["truncated", "error_in_200"])
def test_an_answer_that_breaks_off_begins_anew(stage: Stage, session: Session, fault: str) -> None:
    """Who listens is told, and hears the whole of the second one."""
    ear, outcome = ask(session, f"[[fault:{fault}*1]] hello")
    assert outcome.output is not None
    assert (ear.heard.count(None), outcome.attempts) == (1, 2)
    assert ear.heard[0] is not None
    assert ear.last == outcome.output


def test_a_stream_that_stalls_is_tried_again(stage: Stage) -> None:
    """After body_timeout."""
    session = Session(stage.config(body_timeout=0.4))
    ear, outcome = ask(session, "[[fault:stall*1]] hello")
    assert (ear.last, ear.heard.count(None)) == (outcome.output, 1)
    session.close()


@pytest.mark.parametrize("fault", ["429", "500", "503", "empty", "malformed", "no_choices"])
def test_nothing_heard_is_nothing_to_begin_anew(stage: Stage, session: Session, fault: str) -> None:
    """Failures before the text, tried again as ever."""
    ear, outcome = ask(session, f"[[fault:{fault}*1]] hello")
    assert (ear.last, ear.heard.count(None)) == (outcome.output, 0)
    assert outcome.attempts == 2


@pytest.mark.parametrize(
    ("fault", "code"),
    [("refusal", "refusal"), ("content_filter", "content_filter"), ("context_length", None)],
)
def test_what_fails_fails_as_without_streaming(
    stage: Stage, session: Session, fault: str, code: str | None
) -> None:
    """Same code, same words, nothing heard."""
    ear, outcome = ask(session, f"[[fault:{fault}]]")
    plain = session.ask(Record("0", f"[[fault:{fault}]]"))
    assert (outcome.output, ear.heard) == (None, [])
    assert (outcome.code, outcome.message) == (plain.code, plain.message)
    assert code in {None, outcome.code}


def test_a_server_that_does_not_stream(stage: Stage, session: Session) -> None:
    """It ignores `stream`: the text is heard once, whole. So is a tool's call."""
    stage.simulator.settings = SimulatorSettings(streams=False)
    ear, outcome = ask(session, "hello")
    assert ear.heard == [outcome.output]
    stage.simulator.settings = SimulatorSettings()
    ear, outcome = ask(session, "[[fault:tool_calls]]")
    assert ear.heard == [outcome.output]


@pytest.mark.parametrize("refused", ["stream_options", "stream"])
def test_a_server_that_refuses_to(stage: Stage, session: Session, refused: str) -> None:
    """It is asked again without, once for the model; the answer is heard all the same."""
    stage.simulator.settings = SimulatorSettings(unsupported_params=(refused,))
    for number in range(3):
        ear, outcome = ask(session, f"hello {number}")
        assert ear.last == outcome.output
        assert outcome.attempts == 1
        assert (len(ear.heard) > 1) is (refused == "stream_options")
    # stream_options is refused beside stream, so both go one after the other.
    assert stage.simulator.journal.count(status=400) == 1


def test_another_parameter_is_corrected_as_ever(stage: Stage) -> None:
    """Streaming does not stand in the way."""
    stage.simulator.settings = SimulatorSettings(unsupported_params=("max_tokens",))
    session = Session(stage.config(params={"max_tokens": 50}))
    ear, outcome = ask(session, "hello")
    assert ear.last == outcome.output
    session.close()


def test_ctrl_c_ends_the_answer(stage: Stage, session: Session) -> None:
    """What the listener raises comes out of `ask`, the call ends, and the session goes on."""
    stage.simulator.settings = SimulatorSettings(latency_s=30)

    def stop(_piece: str) -> None:
        raise KeyboardInterrupt

    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.ask(Record("0", "x" * 400), on_text=stop)
    while stage.simulator.journal.in_flight():
        assert time.monotonic() - before < 10
        time.sleep(0.01)
    stage.simulator.settings = SimulatorSettings()
    assert ask(session, "hello")[1].output is not None


def test_a_function_is_heard_once(stage: Stage) -> None:
    """What it makes of the provider's answer counts, not what it was given."""

    class Loud(OpenAIModel):
        def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002
            return super().generate(instruction, input).upper()

    model = Loud()
    session = Session(stage.config(), function=stand_in_of(model))
    ear = Ear()
    outcome = session.ask(record_of(Prompt("hello"), model=model), on_text=ear.text)
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
    assert ear.heard == [outcome.output] == [answer_text(body).upper()]
    session.close()


def test_who_does_not_listen_is_not_streamed_to(stage: Stage, session: Session) -> None:
    """Calls at the same time are told apart."""
    stage.simulator.settings = SimulatorSettings(unsupported_params=("stream",), latency_s=0.05)
    calls = [session.submit(Record("0", f"plain {number}")) for number in range(20)]
    ask(session, "hello")
    assert {call.answered.result(10).code for call in calls} == {"ok"}
    assert stage.simulator.journal.count(status=400) == 1


def test_the_end_of_a_session_ends_who_listens(stage: Stage, session: Session) -> None:
    """`close` from another thread."""
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=30)
    threading.Timer(0.3, session.close).start()
    with pytest.raises(RunStoppedError):
        ask(session, "x" * 400)


def test_a_cached_answer_is_heard_whole(stage: Stage) -> None:
    """The second time nothing is called, and the text comes once."""
    session = Session(stage.config(cache=True, cache_directory=str(stage.folder / "cache")))
    first, kept = ask(session, "hello")
    second, found = ask(session, "hello")
    assert first.last == kept.output == found.output
    assert second.heard == [found.output]
    assert len(stage.simulator.journal.calls) == 1
    session.close()


class Scripted:
    """A transport with answers that no well-behaved server gives."""

    def __init__(self, *answers: Reply | list[bytes]) -> None:
        self._answers = [*answers]
        self.bodies: list[dict[str, Any]] = []

    def post(
        self,
        path: str,
        body: bytes,
        key: str,
        *,
        with_head: bool = True,
        on_chunk: Callable[[bytes], None] | None = None,
    ) -> Reply:
        self.bodies.append(json.loads(body))
        answer = self._answers.pop(0)
        if isinstance(answer, Reply):
            return answer
        assert on_chunk is not None
        for chunk in answer:
            on_chunk(chunk)
        raise TransportError("reset", "the connection broke", connected=True)

    def get(self, path: str, key: str) -> Reply:
        raise NotImplementedError

    def abort(self) -> None: ...

    def hang_up(self, thread: int) -> None: ...

    def close(self) -> None: ...


@contextlib.contextmanager
def heard_by(ear: Ear) -> Iterator[None]:
    token = listening.set(Listener(ear.text, ear.restart))
    try:
        yield
    finally:
        listening.reset(token)


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


REFUSED = [
    b'{"error": {"message": "Unknown name stream_options", "code": 400}}',
    b'{"detail": [{"loc": ["body", "stream_options"], "msg": "extra inputs"}]}',
    b"stream_options?",
]


@pytest.mark.parametrize("body", REFUSED)
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_in_other_words(status: int, body: bytes) -> None:
    """The parameter is left out where the message alone names it; other models keep it."""
    inner = Scripted(*[Reply(status, b"", body), Reply(200, b"", b"{}"), Reply(200, b"", b"{}")])
    streaming = Streaming(inner)
    with heard_by(Ear()):
        for model in ("m", "other"):
            question = json.dumps({"model": model}).encode()
            assert streaming.post("/", question, "").status == 200
    assert [sorted(body) for body in inner.bodies] == [
        ["model", "stream", "stream_options"],
        ["model", "stream"],
        ["model", "stream", "stream_options"],
    ]


def test_a_refusal_of_something_else_is_handed_on() -> None:
    """Once, as it is."""
    for body in (b"", b"[]", b'{"error": "no"}', b'{"error": {"param": "top_p"}}'):
        inner = Scripted(Reply(400, b"", body))
        with heard_by(Ear()):
            assert Streaming(inner).post("/", b"{}", "").body == body


def test_a_whole_answer_whose_connection_breaks() -> None:
    """Nothing of it is missing, so it is not paid for again; half of one is."""
    ear = Ear()
    with heard_by(ear):
        reply = Streaming(Scripted([event("hel"), event("lo", "stop")])).post("/", b"{}", "")
        assert json.loads(reply.body)["choices"][0]["message"]["content"] == "hello"
        assert (reply.status, ear.heard) == (200, ["hel", "lo"])
        with pytest.raises(TransportError):
            Streaming(Scripted([event("hel")])).post("/", b"{}", "")
    assert ear.heard == ["hel", "lo", None, "hel"]
