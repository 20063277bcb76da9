"""The simulator through real sockets: what a client of it sees, and what its journal tells."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from jsonl_runner.schemas import check_of_schema
from jsonl_runner.simulator import (
    FAULT_KINDS,
    Simulator,
    SimulatorSettings,
    UnknownFaultError,
    answer_text,
)
from jsonl_runner.simulator.limits import go_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODEL = "gpt-4.1-mini"
CHAT = "/v1/chat/completions"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def choice(self) -> Any:
        return self.json["choices"][0]

    @property
    def content(self) -> Any:
        return self.choice["message"]["content"]


def address(sim: Simulator) -> tuple[str, int]:
    host, port = sim.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    return host, int(port)


def connect(sim: Simulator) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(*address(sim), timeout=5)


def chat_body(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def send(
    client: http.client.HTTPConnection, body: object, *, key: str = "sk-one", path: str = CHAT
) -> Reply:
    """A POST of `body`, or a GET if it is None."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    method, content = ("GET", None) if body is None else ("POST", data)
    client.request(method, path, content, headers)
    with client.getresponse() as answer:
        pairs = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, pairs, answer.read())


def call(sim: Simulator, body: object = None, *, key: str = "sk-one", path: str = CHAT) -> Reply:
    with closing(connect(sim)) as client:
        return send(client, body, key=key, path=path)


def ask(sim: Simulator, text: str, *, key: str = "sk-one", **fields: Any) -> Reply:
    return call(sim, chat_body(text, **fields), key=key)


def wire(text: str, extra: str = "", **fields: Any) -> bytes:
    body = json.dumps(chat_body(text, **fields)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-raw\r\n{extra}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def open_call(sim: Simulator, data: bytes) -> socket.socket:
    """A raw connection on which `data` has been sent."""
    client = socket.create_connection(address(sim), timeout=5)
    client.sendall(data)
    return client


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what the server's thread is about to do; 5 s is for very slow machines."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


class Clock:
    """A clock that stands still until it is moved."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def test_answer_has_openais_shape(sim: Simulator) -> None:
    """A good answer is a chat.completion with text, usage, finish reason and a request id."""
    reply = ask(sim, "Hello there, simulator")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert (reply.json["id"], reply.json["object"]) == ("chatcmpl-sim-1", "chat.completion")
    assert (reply.json["model"], reply.choice["finish_reason"]) == (MODEL, "stop")
    prompt, answer = len("Hello there, simulator") // 4, len(reply.content) // 4
    assert reply.json["usage"]["total_tokens"] == prompt + answer
    assert reply.json["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert reply.headers["x-request-id"]
    assert reply.headers["openai-processing-ms"].isdigit()


def test_answer_is_a_function_of_messages_and_model(sim: Simulator) -> None:
    """Equal requests get equal texts, which `answer_text` computes; other fields do not matter."""
    body = chat_body("ünïcode 🙂 text")
    texts = {call(sim, body | extra).content for extra in ({}, {"temperature": 0.3}, {"user": "u"})}
    assert texts == {answer_text(body)}
    assert answer_text(body).endswith("ünïcode 🙂 text")
    assert answer_text(body) != answer_text(body | {"model": "gpt-4.1"})
    one, two = answer_text(chat_body("x" * 500 + "1")), answer_text(chat_body("x" * 500 + "2"))
    assert one != two
    assert len(one) < 250
    parts = [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]
    assert call(sim, chat_body("") | {"messages": [{"role": "user", "content": parts}]}).status
    assert sim.journal.prompts()["in parts"] == 1


def test_latency_is_kept(sim: Simulator) -> None:
    """An answer takes its latency, and many calls wait at the same time."""
    sim.settings = SimulatorSettings(latency_s=0.1, latency_spread_s=0.05)
    started = time.monotonic()
    with ExitStack() as stack:
        for client in [stack.enter_context(open_call(sim, wire(f"{i}"))) for i in range(100)]:
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert 0.1 <= time.monotonic() - started < 3
    assert sim.journal.max_in_flight == 100
    assert all((c.finished_s or 0) - c.started_s >= 0.099 for c in sim.journal.calls)


def test_keys_models_and_paths(sim: Simulator) -> None:
    """Unknown keys are 401 and not repeated, models and paths 404; /v1/models lists the known."""
    assert [m["id"] for m in call(sim, path="/v1/models").json["data"]] == [MODEL, "gpt-4.1"]
    sim.settings = SimulatorSettings(keys=("sk-one",), models=("m1",))
    assert [m["id"] for m in call(sim, path="/v1/models").json["data"]] == ["m1"]
    assert call(sim, path="/v1/models", key="sk-two").status == 401
    assert ask(sim, "x", model="m1").status == 200
    assert ask(sim, "x", key="", model="m1").status == 401
    refused = ask(sim, "x", key="sk-bad-0123456789")
    assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
    assert "sk-bad-0123456789" not in refused.error["message"]
    assert ask(sim, "x").error["code"] == "model_not_found"
    assert call(sim, {}, path="/v1/nothing").error["code"] == "unknown_url"
    assert call(sim, path=CHAT).status == 404


@pytest.mark.parametrize("body", [b"{", b"[]", {"model": MODEL}, {"messages": []}])
def test_bad_body(sim: Simulator, body: object) -> None:
    """A body that is no chat request is 400 invalid_request_error."""
    reply = call(sim, body)
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")


def test_unsupported_params(sim: Simulator) -> None:
    """Refused parameters are named in `param`; only requests that send them are refused."""
    sim.settings = SimulatorSettings(unsupported_params=("max_tokens", "temperature"))
    refused = ask(sim, "x", max_tokens=5).error
    assert (refused["code"], refused["param"]) == ("unsupported_parameter", "max_tokens")
    assert "max_completion_tokens" in refused["message"]
    refused = ask(sim, "x", temperature=0.1).error
    assert (refused["code"], refused["param"]) == ("unsupported_value", "temperature")
    assert ask(sim, "x", max_completion_tokens=5).status == 200


def events(reply: Reply) -> list[Any]:
    """The JSON of each event of a stream that has come to its end."""
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    *found, done, rest = reply.body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in found]


def text_of(found: list[Any]) -> str:
    deltas = [choice["delta"] for event in found for choice in event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_an_answer_in_pieces(sim: Simulator) -> None:
    """Events as OpenAI sends them: role, pieces, reason, usage if asked for; the same text."""
    plain = ask(sim, "Hello there, ünïcode 🙂")
    found = events(ask(sim, "Hello there, ünïcode 🙂", stream=True))
    assert text_of(found) == plain.content
    assert {event["object"] for event in found} == {"chat.completion.chunk"}
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert max(len(event["choices"][0]["delta"].get("content", "")) for event in found) == 4
    reasons = [event["choices"][0]["finish_reason"] for event in found]
    assert reasons == [None] * (len(found) - 1) + ["stop"]
    assert not any("usage" in event for event in found)
    *others, last = events(ask(sim, "hi", stream=True, stream_options={"include_usage": True}))
    assert (last["choices"], {event["usage"] for event in others}) == ([], {None})
    assert last["usage"] == ask(sim, "hi").json["usage"]
    sim.settings = SimulatorSettings(streams=False)
    assert ask(sim, "hi", stream=True).content == ask(sim, "hi").content


def test_the_pieces_are_spread_over_the_latency(sim: Simulator) -> None:
    """The first comes early, the last when an answer in one piece would have come."""
    sim.settings = SimulatorSettings(latency_s=0.5)
    started = time.monotonic()
    times = []
    with open_call(sim, wire("x" * 200, stream=True)) as client:
        while not (data := client.recv(65536)).endswith(b"\r\n0\r\n\r\n"):
            assert data
            times.append(time.monotonic() - started)
    assert len(times) > 20
    assert times[1] < 0.2
    assert time.monotonic() - started >= 0.49
    assert sim.journal.calls[0].status == 200


def test_faults_in_the_middle_of_a_stream(sim: Simulator) -> None:
    """Half of the text and then the end, an error, or nothing; refusals come as ever."""
    with closing(connect(sim)) as client, pytest.raises(http.client.IncompleteRead) as caught:
        send(client, chat_body("[[fault:truncated]]", stream=True))
    assert b"[sim" in caught.value.partial
    assert b"[DONE]" not in caught.value.partial
    assert sim.journal.calls[0].status is None
    answer = ask(sim, "[[fault:error_in_200]]", stream=True)
    *half, error, _ = answer.body.split(b"\n\n")
    assert b"[sim" in b"".join(half)
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "upstream_error"
    with open_call(sim, wire("[[fault:stall]]", stream=True)) as stalled:
        seen = b""
        while b"[sim" not in seen:
            seen += stalled.recv(65536)
        assert b"[DONE]" not in seen
    assert ask(sim, "[[fault:429]]", stream=True).status == 429
    assert ask(sim, "[[fault:503]]", stream=True).error["code"] == "server_is_overloaded"
    assert ask(sim, "[[fault:null_choices]]", stream=True).body == b"data: [DONE]\n\n"
    calls = [
        call
        for event in events(ask(sim, "[[fault:tool_calls]]", stream=True))
        for call in event["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert "".join(call["function"]["arguments"] for call in calls) == "{}"


def test_request_bucket() -> None:
    """A burst is admitted, then a 429 tells the true wait, and exactly then one more passes."""
    clock = Clock()
    settings = SimulatorSettings(requests_per_second=0.8, requests_burst=2)
    with Simulator(settings, now=clock) as sim:
        first = ask(sim, "a")
        seen = [first.headers[f"x-ratelimit-{n}-requests"] for n in ("limit", "remaining", "reset")]
        assert seen == ["2", "1", "1.25s"]
        assert ask(sim, "b").status == 200
        refused = ask(sim, "c")
        assert (refused.status, refused.error["type"]) == (429, "requests")
        assert refused.error["code"] == "rate_limit_exceeded"
        assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("2", "1250")
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert ask(sim, "c", key="sk-two").status == 200, "each key has its own bucket"
        clock.now_s += 1.249
        assert ask(sim, "c").status == 429
        clock.now_s += 0.001
        assert ask(sim, "c").status == 200
        assert [c.retry_after_s for c in sim.journal.calls][:3] == [None, None, 1.25]


def test_a_key_may_have_a_share_of_the_limits() -> None:
    """Its bucket is smaller and fills more slowly; others have the whole."""
    clock = Clock()
    settings = SimulatorSettings(
        requests_per_second=4, requests_burst=8, key_shares={"sk-slow": 0.25}
    )
    with Simulator(settings, now=clock) as sim:
        seen = [ask(sim, "a", key=key).headers for key in ("sk-slow", "sk-two")]
        assert [headers["x-ratelimit-limit-requests"] for headers in seen] == ["2", "8"]
        assert ask(sim, "b", key="sk-slow").status == 200
        assert ask(sim, "c", key="sk-slow").headers["retry-after-ms"] == "1000"
        sim.settings = replace(settings, key_shares={})
        assert ask(sim, "c", key="sk-slow").status == 200
    with pytest.raises(ValueError, match="a key's share must be above 0"):
        SimulatorSettings(requests_per_second=4, key_shares={"sk-slow": 0.0})


def test_token_bucket() -> None:
    """Tokens are counted per key; a request above the burst passes a full bucket and is owed."""
    clock = Clock()
    with Simulator(SimulatorSettings(tokens_per_second=10), now=clock) as sim:
        large = ask(sim, "x" * 400)
        spent = large.json["usage"]["total_tokens"]
        assert large.headers["x-ratelimit-remaining-tokens"] == "0"
        refused = ask(sim, "y" * 400)
        assert (refused.status, refused.error["type"]) == (429, "tokens")
        assert int(refused.headers["retry-after-ms"]) == spent * 100 > 1000
        clock.now_s += spent / 10
        assert ask(sim, "y" * 400).status == 200


def test_durations_are_written_as_openai_does() -> None:
    """Reset headers are Go durations."""
    texts = {0: "0s", 0.547: "547ms", 1.5: "1.5s", 20: "20s", 179.56: "2m59.56s", 360: "6m0s"}
    assert {seconds: go_duration(seconds) for seconds in texts} == texts
    assert go_duration(3600) == "1h0m0s"


def test_max_in_flight(sim: Simulator) -> None:
    """Above max_in_flight a call is refused at once, with no hint how long to wait."""
    sim.settings = SimulatorSettings(max_in_flight=2)
    with open_call(sim, wire("[[fault:hang]]")), open_call(sim, wire("[[fault:hang]] 2")):
        wait_until(lambda: sim.journal.in_flight() == 2)
        refused = ask(sim, "x")
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert "retry-after" not in refused.headers
    wait_until(lambda: sim.journal.in_flight() == 0)
    assert ask(sim, "x").status == 200


ERRORS = {
    "429": (429, "requests", "rate_limit_exceeded"),
    "429_bare": (429, "requests", "rate_limit_exceeded"),
    "slow_down": (429, "rate_limit_error", "slow_down"),
    "401": (401, "invalid_request_error", "invalid_api_key"),
    "key_echo": (401, "invalid_request_error", "invalid_api_key"),
    "deactivated": (401, "invalid_request_error", "account_deactivated"),
    "insufficient_quota": (429, "insufficient_quota", "insufficient_quota"),
    "credit_balance_exhausted": (429, "insufficient_quota", "credit_balance_exhausted"),
    "403": (403, "request_forbidden", "unsupported_country_region_territory"),
    "404_model": (404, "invalid_request_error", "model_not_found"),
    "400": (400, "invalid_request_error", None),
    "context_length": (400, "invalid_request_error", "context_length_exceeded"),
    "content_policy": (400, "invalid_request_error", "content_policy_violation"),
    "unsupported_parameter": (400, "invalid_request_error", "unsupported_parameter"),
    "408": (408, "timeout", None),
    "409": (409, "invalid_request_error", None),
    "413": (413, "invalid_request_error", "request_too_large"),
    "422": (422, "invalid_request_error", None),
    "500": (500, "server_error", None),
    "503": (503, "service_unavailable_error", "server_is_overloaded"),
    "529": (529, "overloaded_error", None),
    "error_in_200": (200, "server_error", "upstream_error"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_error_faults(sim: Simulator, kind: str) -> None:
    """Each error fault has its status, type and code; only the plain 429 says when to retry."""
    reply = ask(sim, f"[[fault:{kind}]]", key="sk-secret-123456")
    assert (reply.status, reply.error["type"], reply.error["code"]) == ERRORS[kind]
    assert reply.headers.get("retry-after") == ("1" if kind == "429" else None)
    assert ("sk-secret-123456" in reply.error["message"]) == (kind == "key_echo")
    assert sim.journal.count(status=ERRORS[kind][0], fault=kind) == 1


SPOILED: dict[str, Callable[[Reply], bool]] = {
    "empty": lambda r: r.body == b"" and r.headers["content-length"] == "0",
    "html": lambda r: r.headers["content-type"].startswith("text/html"),
    "no_choices": lambda r: r.json["choices"] == [],
    "null_choices": lambda r: r.json["choices"] is None,
    "empty_answer": lambda r: r.content == "",
    "null_answer": lambda r: r.content is None and r.choice["finish_reason"] == "stop",
    "content_filter": lambda r: r.content is None and r.choice["finish_reason"] == "content_filter",
    "refusal": lambda r: r.content is None and r.choice["message"]["refusal"] != "",
    "tool_calls": lambda r: r.content is None and len(r.choice["message"]["tool_calls"]) == 1,
    "surrogate": lambda r: rb'\ud83d"' in r.body and r.content.endswith("\ud83d"),
    "whitespace": lambda r: r.body.startswith(b"\n\n\n") and "[[fault:wh" in r.content,
    "huge": lambda r: len(r.content) > 80_000_000 and r.content.endswith("xxx"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_faults_inside_a_200(sim: Simulator, kind: str) -> None:
    """A spoiled 200 is spoiled in the way its name says, and is journalled as a 200."""
    reply = ask(sim, f"[[fault:{kind}]]")
    assert reply.status == 200
    assert SPOILED[kind](reply)
    assert sim.journal.count(status=200, fault=kind) == 1


def test_malformed_html_and_redirect(sim: Simulator) -> None:
    """Broken JSON comes with a 200; a gateway's 502 is HTML; a redirect names another port."""
    broken = ask(sim, "[[fault:malformed]]")
    assert (broken.status, broken.headers["content-type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken.body)
    gateway = ask(sim, "[[fault:502_html]]")
    assert (gateway.status, gateway.body[:6]) == (502, b"<html>")
    redirect = ask(sim, "[[fault:redirect]]")
    assert (redirect.status, redirect.headers["location"]) == (307, "http://127.0.0.1:9/")


def test_json_is_answered_where_it_is_asked_for(sim: Simulator) -> None:
    """It fits the schema and holds the text; three kinds of fault spoil it, in a 200."""
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 11},
            "kind": {"enum": ["a", "b"]},
            "size": {"type": ["integer", "null"], "minimum": 3},
            "parts": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/part"}},
        },
        "$defs": {"part": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
    }
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    good = ask(sim, "Hi!", response_format=shape).content
    parsed = json.loads(good)
    assert check_of_schema(schema).problem(good) is None
    assert parsed["name"] == "[simulated]"
    assert (parsed["kind"], parsed["size"], len(parsed["parts"])) == ("a", 3, 2)
    mode = {"type": "json_object"}
    assert "Hi!" in json.loads(ask(sim, "Hi!", response_format=mode).content)["answer"]
    for kind, said in (("fenced_json", "fence"), ("broken_json", "not JSON"), ("other_json", "at")):
        reply = ask(sim, f"[[fault:{kind}]]", response_format=shape)
        problem = check_of_schema(schema).problem(reply.content)
        assert problem is not None
        assert said in problem.reason
        assert reply.choice["finish_reason"] == "stop"


def test_length_fault_cuts_the_text(sim: Simulator) -> None:
    """`length` is half of the full text, or what max_tokens allows; otherwise nothing is cut."""
    text = "[[fault:length]] and a text that is long enough to be cut"
    full = answer_text(chat_body(text))
    reply = ask(sim, text)
    assert (reply.content, reply.choice["finish_reason"]) == (full[: len(full) // 2], "length")
    assert ask(sim, text, max_tokens=3).content == full[:12]
    assert ask(sim, "a long text without a fault", max_tokens=1).content.endswith("without a fault")


def test_connection_faults(sim: Simulator) -> None:
    """Closed, reset and truncated answers end the connection and count as no answer."""
    with pytest.raises(http.client.RemoteDisconnected):
        ask(sim, "[[fault:close]]")
    with open_call(sim, wire("[[fault:reset]]")) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(http.client.IncompleteRead):
        ask(sim, "[[fault:truncated]]")
    found = [(c.status, c.fault) for c in sim.journal.calls]
    assert found == [(None, "close"), (None, "reset"), (None, "truncated")]
    assert sim.journal.in_flight() == 0


@pytest.mark.parametrize("kind", ["stall", "drip"])
def test_answers_that_never_end(sim: Simulator, kind: str) -> None:
    """A 200's head and some of its body are sent; the call lasts until the client leaves."""
    with open_call(sim, wire(f"[[fault:{kind}]]")) as client:
        seen = b""
        while b"\r\n\r\n{" not in seen:
            seen += client.recv(65536)
        assert seen.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (sim.journal.in_flight(), sim.journal.count(fault=kind)) == (1, 1)
    wait_until(lambda: sim.journal.in_flight() == 0)
    assert sim.journal.calls[0].status is None


def test_every_fault_kind_has_a_test() -> None:
    """No kind is left without one of the tests above."""
    named = {"malformed", "502_html", "redirect", "length", "hang"}
    broken = {"close", "reset", "truncated", "stall", "drip"}
    json_ = {"fenced_json", "broken_json", "other_json"}
    assert set(FAULT_KINDS) == ERRORS.keys() | SPOILED.keys() | named | broken | json_


def test_markers(sim: Simulator) -> None:
    """`*N` fails the first N calls of one text, then the next marker; unknown kinds are refused."""
    text = "[[fault:500*2]] hello [[fault:slow_down*1]]"
    assert [ask(sim, text, key=f"k{i}").status for i in range(4)] == [500, 500, 429, 200]
    assert [ask(sim, text + " other").status for _ in range(3)] == [500, 500, 429]
    for marker in ("[[fault:50x]]", "[[fault:500*many]]", "[[fault:]]"):
        reply = ask(sim, marker)
        assert (reply.status, "unknown fault kind" in reply.error["message"]) == (400, True)


def test_faults_in_settings(sim: Simulator) -> None:
    """A key's fault holds for all its calls; a misspelt one is refused, naming the nearest."""
    sim.settings = SimulatorSettings(key_faults={"dead": "deactivated", "poor": "429_bare"})
    keys = ("dead", "poor", "good")
    assert [ask(sim, "x", key=key).status for key in keys] == [401, 429, 200]
    assert [call(sim, path="/v1/models", key=key).status for key in keys] == [401, 200, 200]
    with pytest.raises(UnknownFaultError, match="insufficient_quota"):
        SimulatorSettings(key_faults={"k": "insuficient_quota"})
    with pytest.raises(ValueError, match="more than 1"):
        SimulatorSettings(fault_rates={"500": 0.6, "503": 0.6})


def test_fault_rates_are_seeded() -> None:
    """The same seed fails the same calls, another seed others, about as many as the rate says."""

    def statuses(seed: int) -> list[int]:
        settings = SimulatorSettings(fault_rates={"500": 0.2, "429": 0.1}, seed=seed)
        with Simulator(settings) as sim, closing(connect(sim)) as client:
            return [send(client, chat_body(f"row {i}")).status for i in range(200)]

    first = statuses(1)
    assert statuses(1) == first != statuses(2)
    assert 20 <= first.count(500) <= 60
    assert 8 <= first.count(429) <= 35


def test_keep_alive(sim: Simulator) -> None:
    """One connection serves many calls, also after errors; `Connection: close` ends it."""
    with closing(connect(sim)) as client:
        client.connect()
        port = client.sock.getsockname()[1]
        texts = ["a", "[[fault:500]]", "[[fault:empty]]", "[[fault:429]]", "b"]
        assert [send(client, chat_body(t)).status for t in texts] == [200, 500, 200, 429, 200]
        assert client.sock.getsockname()[1] == port
    with open_call(sim, wire("x", "Connection: close\r\n")) as raw, raw.makefile("rb") as stream:
        assert b"connection: close" in stream.read()


def test_pipelined_and_split_requests(sim: Simulator) -> None:
    """Requests that arrive glued together or byte by byte are answered one by one, in order."""
    with open_call(sim, wire("one") + wire("two") + wire("three")) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in wire("four", "Connection: close\r\n"):
            client.sendall(bytes([byte]))
        with client.makefile("rb") as stream:
            assert stream.read().count(b"HTTP/1.1 200 OK") == 4
    assert [c.prompt for c in sim.journal.calls] == ["one", "two", "three", "four"]


def test_expect_continue(sim: Simulator) -> None:
    """A client that asks before sending its body is told to go on."""
    head, _, body = wire("x", "Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    with open_call(sim, head + b"\r\n\r\n") as client:
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")


UNREADABLE = {
    b"nonsense\r\n\r\n": b"400",
    b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n": b"400",
    b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n": b"413",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n": b"411",
    b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000: b"431",
}


def test_unreadable_requests(sim: Simulator) -> None:
    """What is not a request it can read is refused with a status, and the server lives on."""
    for request, status in UNREADABLE.items():
        with open_call(sim, request) as client:
            assert client.recv(1000).startswith(b"HTTP/1.1 " + status)
    assert ask(sim, "x").status == 200


def test_journal_tells_who_called_what_and_when() -> None:
    """A call holds its key, prompt, model, times by the given clock, status and fault."""
    clock = Clock()
    with Simulator(now=clock) as sim:
        ask(sim, "first", key="k1")
        clock.now_s += 5
        ask(sim, "[[fault:500]]", key="k2")
        ask(sim, "first", key="k2")
        one, two, _ = sim.journal.calls
        assert (one.number, one.key, one.prompt, one.model) == (1, "k1", "first", MODEL)
        assert (one.status, one.fault, one.started_s, one.in_flight) == (200, None, 1000.0, 1)
        assert (two.status, two.fault, two.finished_s) == (500, "500", 1005.0)
        counts = sim.journal.count(), sim.journal.count(key="k2"), sim.journal.count(200, "k2")
        assert counts == (3, 2, 1)
        assert sim.journal.prompts() == Counter({"first": 2})
        sim.journal.clear()
        assert sim.journal.calls == []
        sim.settings = SimulatorSettings(record_bodies=False)
        assert ask(sim, "private").json["id"] == "chatcmpl-sim-4"
        assert sim.journal.calls[0].prompt == ""
    with Simulator(keep_journal=False) as sim:
        assert ask(sim, "x").status == 200
        assert (sim.journal.calls, sim.journal.max_in_flight) == ([], 1)


def test_client_that_leaves_gets_no_answer(sim: Simulator) -> None:
    """A client that hangs up in mid-latency is journalled without a status, and not billed."""
    sim.settings = SimulatorSettings(latency_s=60)
    with open_call(sim, wire("x")):
        wait_until(lambda: sim.journal.in_flight() == 1)
    wait_until(lambda: sim.journal.in_flight() == 0)
    assert sim.journal.calls[0].status is None
    assert sim.journal.calls[0].finished_s is not None
    assert sim.journal.prompts() == Counter()


def test_settings_change_for_new_requests() -> None:
    """New settings hold for the next request; buckets start anew only if their numbers changed."""
    limited = SimulatorSettings(requests_per_second=1)
    with Simulator(limited, now=Clock()) as sim:
        assert [ask(sim, "x").status for _ in range(2)] == [200, 429]
        sim.settings = replace(limited, latency_s=0.001)
        assert ask(sim, "x").status == 429
        sim.settings = replace(limited, requests_per_second=2)
        assert [ask(sim, "x").status for _ in range(3)] == [200, 200, 429]
        sim.settings = SimulatorSettings(key_faults={"sk-one": "503"})
        assert ask(sim, "x").status == 503


def test_stop_ends_hanging_calls_at_once() -> None:
    """Calls of every endless kind are dropped quickly; no thread and no listener stays behind."""
    threads = threading.active_count()
    sim = Simulator(SimulatorSettings(latency_s=60)).start()
    kinds = [f"[[fault:{kind}]]" for kind in ("hang", "drip", "stall", "whitespace")] + ["slow"]
    with ExitStack() as stack:
        for text in kinds * 9:
            stack.enter_context(open_call(sim, wire(text)))
        wait_until(lambda: sim.journal.in_flight() == 45)
        started = time.monotonic()
        sim.stop()
        sim.stop()
        assert time.monotonic() - started < 1
    assert threading.active_count() == threads
    assert {(c.status, c.finished_s is None) for c in sim.journal.calls} == {(None, False)}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address(sim), timeout=5).close()


def test_restart_keeps_the_address() -> None:
    """A simulator may be stopped and started again, as a server that was down for a while."""
    sim = Simulator()
    with pytest.raises(RuntimeError, match="start it first"):
        _ = sim.base_url
    for _ in range(2):
        with sim:
            assert ask(sim, "x").status == 200
            with pytest.raises(RuntimeError, match="already running"):
                sim.start()
            with pytest.raises(OSError):  # noqa: PT011 - its text differs by system
                Simulator(port=address(sim)[1]).start()
    assert {c.status for c in sim.journal.calls} == {200}
    assert len(sim.journal.calls) == 2
