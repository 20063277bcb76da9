"""What every transport promises (`transport.base`), on real sockets."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS

from jsonl_runner.assembly import make_transport
from jsonl_runner.config import load
from jsonl_runner.errors import ConfigError, TransportError
from jsonl_runner.simulator import Simulator, SimulatorSettings, answer_text
from jsonl_runner.transport.base import MAX_REPLY_BYTES, TransportSettings
from jsonl_runner.transport.curl import CurlTransport
from jsonl_runner.transport.sdk import OpenAITransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jsonl_runner.transport.base import Transport

    Open = Callable[..., Transport]

CHAT = "/chat/completions"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Host:
    """A server of one canned answer (None: it never answers); keeps what it was sent."""

    def __init__(self, answer: bytes | None = OK) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connections = self.ended = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while data := client.recv(65536):
                self.requests.append(data)
                if self.answer is not None:
                    client.sendall(self.answer)
            self.ended += 1

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def host() -> Iterator[Host]:
    found = Host()
    yield found
    found.close()


KINDS: dict[str, Callable[[TransportSettings], Transport]] = {
    "curl": CurlTransport,
    "openai": OpenAITransport,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every promise is kept by every transport."""
    return str(request.param)


@pytest.fixture
def dial(kind: str) -> Iterator[Open]:
    """Return a function that makes a transport."""
    with contextlib.ExitStack() as ends:

        def make(base_url: str, **settings: Any) -> Transport:
            given = TransportSettings(base_url, **{"timeout_s": 5, **settings})
            transport: Transport = KINDS[kind](given)
            ends.callback(transport.close)
            return transport

        yield make


def body(text: str) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()


def failure(transport: Transport, text: str = "hello") -> TransportError:
    with pytest.raises(TransportError) as caught:
        transport.post(CHAT, body(text), KEYS[0])
    return caught.value


def test_a_call_brings_status_headers_and_body(dial: Open, simulator: Simulator) -> None:
    """Headers are found by their lower-case name; errors are answers like any other."""
    transport = dial(simulator.base_url)
    reply = transport.post(CHAT, body("hello"), KEYS[0])
    assert reply.status == 200
    assert (reply.header("x-request-id") or "").startswith("req_sim_")
    assert reply.header("x-nothing") is None
    text = json.loads(reply.body)["choices"][0]["message"]["content"]
    assert text == answer_text(json.loads(body("hello")))
    refused = transport.post(CHAT, body("[[fault:429]]"), KEYS[0])
    assert (refused.status, refused.header("retry-after")) == (429, "1")
    assert simulator.journal.calls[0].key == KEYS[0]


def test_an_answer_whose_head_is_not_wanted(dial: Open, simulator: Simulator) -> None:
    """Status and body are there, and how long to wait; the next call may want all of it again."""
    transport = dial(simulator.base_url)
    plain = transport.post(CHAT, body("hello"), KEYS[0], with_head=False)
    assert (plain.status, plain.header("retry-after")) == (200, None)
    assert json.loads(plain.body)["choices"]
    refused = transport.post(CHAT, body("[[fault:429]]"), KEYS[0], with_head=False)
    assert (refused.status, refused.header("retry-after")) == (429, "1")
    whole = transport.post(CHAT, body("hello"), KEYS[0])
    assert (whole.header("x-request-id") or "").startswith("req_sim_")


def test_post_and_get_take_turns_on_one_connection(dial: Open, simulator: Simulator) -> None:
    """What one call sets does not leak into the next."""
    transport = dial(simulator.base_url)
    for _ in range(2):
        assert transport.post(CHAT, body("hello"), KEYS[0]).status == 200
        models = transport.get("/models", KEYS[1])
        assert models.status == 200
        assert json.loads(models.body)["object"] == "list"
    methods = [(call.method, call.key) for call in simulator.journal.calls]
    assert methods == [("POST", KEYS[0]), ("GET", KEYS[1])] * 2


def test_without_a_key_no_authorization_is_sent(dial: Open, host: Host) -> None:
    """A server that checks no key gets none; the body is said to be JSON."""
    dial(host.address).post(CHAT, b"{}", "")
    head = host.requests[0].lower()
    assert b"authorization" not in head
    assert b"content-type: application/json" in head


def test_a_long_body_asks_for_no_permission(dial: Open, host: Host) -> None:
    """No `Expect: 100-continue`: servers that do not know it cost a second a call."""
    host.answer = None
    with pytest.raises(TransportError):
        dial(host.address, timeout_s=0.3).post(CHAT, b"x" * 2_000_000, KEYS[0])
    assert b"expect:" not in b"".join(host.requests).lower()
    assert sum(map(len, host.requests)) > 2_000_000


def test_a_connection_is_kept_for_the_next_call(dial: Open, host: Host) -> None:
    """Twenty calls of one thread, with different keys, need one connection."""
    transport = dial(host.address)
    for number in range(20):
        transport.post(CHAT, b"{}", KEYS[number % 2])
    assert (len(host.requests), host.connections) == (20, 1)


def test_threads_do_not_share_a_connection(dial: Open, simulator: Simulator) -> None:
    """Eight threads at once: every call gets its own answer."""
    simulator.settings = replace(simulator.settings, latency_s=0.02)
    transport = dial(simulator.base_url)

    def ask(number: int) -> bool:
        asked = body(f"row {number}")
        reply = transport.post(CHAT, asked, KEYS[0])
        text = json.loads(reply.body)["choices"][0]["message"]["content"]
        return bool(text == answer_text(json.loads(asked)))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(64)))
    assert simulator.journal.max_in_flight == 8


def test_a_connection_closes_with_its_thread(dial: Open, host: Host) -> None:
    """Threads come and go; what they opened does not pile up."""
    transport = dial(host.address)
    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(transport.post, CHAT, b"{}", KEYS[0]).result().status == 200
    before = time.monotonic()
    while host.ended < 3:
        assert time.monotonic() - before < 5
        time.sleep(0.01)


def test_a_connection_that_died_while_idle_costs_nothing(dial: Open, simulator: Simulator) -> None:
    """The server was restarted between two calls: the second one does not notice."""
    transport = dial(simulator.base_url)
    transport.post(CHAT, body("one"), KEYS[0])
    simulator.stop()
    simulator.start()
    time.sleep(0.15)  # a connection in steady use is not looked at before each call
    assert transport.post(CHAT, body("two"), KEYS[0]).status == 200


@pytest.mark.parametrize("fault", ["close", "reset"])
def test_one_post_is_one_request(dial: Open, simulator: Simulator, fault: str) -> None:
    """A request that the server has read and dropped is not sent again behind our back."""
    transport = dial(simulator.base_url)
    transport.post(CHAT, body("warm up"), KEYS[0])
    simulator.journal.clear()
    with contextlib.suppress(TransportError):
        transport.post(CHAT, body(f"[[fault:{fault}*1]]"), KEYS[0])
    assert len(simulator.journal.calls) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_never_followed(
    dial: Open, host: Host, simulator: Simulator, status: int
) -> None:
    """The key goes to the configured address and nowhere else."""
    target = f"location: {simulator.base_url}{CHAT}"
    host.answer = f"HTTP/1.1 {status} X\r\n{target}\r\ncontent-length: 0\r\n\r\n".encode()
    reply = dial(host.address).post(CHAT, body("hello"), KEYS[0])
    assert reply.status == status
    assert simulator.journal.calls == []


def test_an_endless_answer_is_cut_off(dial: Open, simulator: Simulator) -> None:
    """80 MB of text: refused at the bound, and the next call is fine."""
    transport = dial(simulator.base_url)
    error = failure(transport, "[[fault:huge]]")
    assert (error.code, error.connected) == ("too_large", True)
    assert f"{MAX_REPLY_BYTES // 2**20} MiB" in str(error)
    assert transport.post(CHAT, body("hello"), KEYS[0]).status == 200


@pytest.mark.parametrize("fault", ["stall", "drip"])
def test_an_answer_that_does_not_go_on_is_ended(
    dial: Open, simulator: Simulator, fault: str
) -> None:
    """Half an answer, or a byte now and then: ended after body_timeout, not after timeout."""
    transport, before = dial(simulator.base_url, body_timeout_s=0.3), time.monotonic()
    error = failure(transport, f"[[fault:{fault}]]")
    assert (error.code, error.connected) == ("stalled", True)
    assert 0.2 < time.monotonic() - before < 2
    assert transport.post(CHAT, body("hello"), KEYS[0]).status == 200


def streamed(text: str) -> bytes:
    return json.dumps({**json.loads(body(text)), "stream": True}).encode()


def test_a_body_is_handed_over_as_it_comes(dial: Open, simulator: Simulator) -> None:
    """In parts, in this thread; the reply holds the whole; the next call is as ever."""
    simulator.settings = replace(simulator.settings, latency_s=0.4)
    transport = dial(simulator.base_url)
    parts: list[tuple[float, int, bytes]] = []
    before = time.monotonic()

    def take(chunk: bytes) -> None:
        parts.append((time.monotonic() - before, threading.get_ident(), chunk))

    reply = transport.post(CHAT, streamed("hello"), KEYS[0], with_head=False, on_chunk=take)
    assert reply.status == 200
    assert (reply.header("content-type") or "").startswith("text/event-stream")
    assert b"".join(part for _, _, part in parts) == reply.body
    assert {thread for _, thread, _ in parts} == {threading.get_ident()}
    assert len(parts) > 5
    assert parts[0][0] < 0.2 < 0.35 < parts[-1][0]
    seen = len(parts)
    assert json.loads(transport.post(CHAT, body("hello"), KEYS[0]).body)["choices"]
    assert len(parts) == seen


def test_an_error_is_not_handed_over(dial: Open, simulator: Simulator) -> None:
    """Only what is an answer; the error is in the reply."""
    transport = dial(simulator.base_url)
    parts: list[bytes] = []
    for fault, status in (("429", 429), ("503", 503), ("redirect", 307)):
        asked = streamed(f"[[fault:{fault}]]")
        assert transport.post(CHAT, asked, KEYS[0], on_chunk=parts.append).status == status
    assert parts == []


@pytest.mark.parametrize("raised", [ValueError("enough"), KeyboardInterrupt()])
def test_who_listens_may_end_the_call(
    dial: Open, simulator: Simulator, raised: BaseException
) -> None:
    """What it raises comes out as itself; the connection goes, and the thread may call again."""
    simulator.settings = replace(simulator.settings, latency_s=5)
    transport, before = dial(simulator.base_url, timeout_s=20), time.monotonic()

    def take(_chunk: bytes) -> None:
        raise raised

    with pytest.raises(type(raised)) as caught:
        transport.post(CHAT, streamed("hello"), KEYS[0], on_chunk=take)
    assert caught.value is raised
    assert time.monotonic() - before < 2
    simulator.settings = replace(simulator.settings, latency_s=0)
    assert transport.post(CHAT, streamed("hello"), KEYS[0]).status == 200


def test_any_byte_counts_for_a_stream(dial: Open, simulator: Simulator) -> None:
    """Small events that still come are no stall, but `timeout` bounds them; silence is one."""
    transport = dial(simulator.base_url, body_timeout_s=0.5, timeout_s=1.5)

    def end_of(text: str) -> tuple[str, float]:
        before = time.monotonic()
        with pytest.raises(TransportError) as caught:
            transport.post(CHAT, streamed(text), KEYS[0], on_chunk=lambda _: None)
        return caught.value.code, time.monotonic() - before

    code, after = end_of("[[fault:drip]]")
    assert (code, after > 1.4) == ("timeout", True)
    code, after = end_of("[[fault:stall]]")
    assert code == "stalled"
    assert after < 1.4
    assert failure(transport, "[[fault:drip]]").code == "stalled"  # without a listener as ever


@pytest.mark.parametrize(("fault", "code"), [("truncated", "cut_off"), ("reset", "reset")])
def test_what_breaks_in_a_stream(dial: Open, simulator: Simulator, fault: str, code: str) -> None:
    """What came until then was handed over."""
    parts: list[bytes] = []
    with pytest.raises(TransportError) as caught:
        dial(simulator.base_url).post(
            CHAT, streamed(f"[[fault:{fault}]]"), KEYS[0], on_chunk=parts.append
        )
    assert (caught.value.code, caught.value.connected) == (code, True)
    assert (b"[sim" in b"".join(parts)) is (fault == "truncated")


def test_a_listener_is_no_way_around_the_bound(dial: Open, simulator: Simulator) -> None:
    """An endless stream is cut off as any answer."""
    with pytest.raises(TransportError) as caught:
        dial(simulator.base_url).post(
            CHAT, streamed("[[fault:huge]]"), KEYS[0], on_chunk=lambda _: None
        )
    assert caught.value.code == "too_large"


def test_blanks_are_a_sign_of_life_and_no_beginning(dial: Open, simulator: Simulator) -> None:
    """A second of newlines before the answer is no stall, however short body_timeout is."""
    reply = dial(simulator.base_url, body_timeout_s=0.3).post(
        CHAT, body("[[fault:whitespace]]"), KEYS[0]
    )
    assert reply.status == 200
    assert json.loads(reply.body)["choices"]


def test_a_slow_model_is_not_a_stall(dial: Open, simulator: Simulator) -> None:
    """The time until an answer begins is no business of body_timeout."""
    simulator.settings = replace(simulator.settings, latency_s=0.6)
    transport = dial(simulator.base_url, body_timeout_s=0.1)
    assert transport.post(CHAT, body("hello"), KEYS[0]).status == 200


@pytest.mark.parametrize(
    ("fault", "code"),
    [("hang", "timeout"), ("close", "cut_off"), ("truncated", "cut_off"), ("reset", "reset")],
)
def test_what_breaks_after_the_request_was_sent(
    dial: Open, simulator: Simulator, fault: str, code: str
) -> None:
    """The server may have billed it: `connected` says so."""
    transport, before = dial(simulator.base_url, timeout_s=0.3), time.monotonic()
    error = failure(transport, f"[[fault:{fault}]]")
    assert (error.code, error.connected) == (code, True)
    assert str(error)
    assert time.monotonic() - before < 1


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def deaf_port() -> Iterator[str]:
    """A port whose queue is full: connections to it hang (Linux drops what does not fit)."""
    with contextlib.ExitStack() as ends:
        listener = ends.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = ends.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_no_connection_says_so(dial: Open) -> None:
    """Refused, unresolvable, no answer to a SYN: `connected` is false, the code tells which."""
    with deaf_port() as deaf:
        found = []
        # Only the deaf one runs into its limit: a slow resolver must not reach the others'.
        for address, limit_s in ((closed_port(), 10), ("http://api.invalid", 10), (deaf, 0.2)):
            error = failure(dial(address, connect_timeout_s=limit_s))
            found.append((error.code, error.connected))
    assert found == [("refused", False), ("dns", False), ("connect_timeout", False)]


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        (closed_port(), "refused", "127.0.0.1"),
        ("http://api.invalid/v1", "dns", "api.invalid cannot be resolved"),
        ("nonsense://host/v1", "url", "check api_base"),
    ],
    ids=["closed", "no-name", "no-scheme"],  # not by a port that is another in each process
)
def test_why_there_is_no_connection(dial: Open, address: str, code: str, words: str) -> None:
    """The code is for programs, the message says where it was tried and what to check."""
    error = failure(dial(address))
    assert error.code == code
    assert words in str(error)
    assert KEYS[0] not in str(error)


@pytest.mark.parametrize("warm", [False, True], ids=["new connection", "kept connection"])
def test_an_abort_ends_hanging_calls(dial: Open, simulator: Simulator, *, warm: bool) -> None:
    """Eight calls that would hang for minutes end at once, and later ones do not begin."""
    transport = dial(simulator.base_url, timeout_s=60)
    together = threading.Barrier(8)

    def hang(_: int) -> str:
        if warm:
            transport.post(CHAT, body("hello"), KEYS[0])
        together.wait(5)
        return failure(transport, "[[fault:hang]]").code

    with ThreadPoolExecutor(8) as pool:
        calls = pool.map(hang, range(8))
        while simulator.journal.count(fault="hang") < 8:
            time.sleep(0.01)
        asked = time.monotonic()
        transport.abort()
        assert list(calls) == ["aborted"] * 8
        assert time.monotonic() - asked < 1
    assert failure(transport).code == "aborted"
    assert simulator.journal.count(fault="hang") == 8


def test_one_threads_call_is_ended(dial: Open, simulator: Simulator) -> None:
    """The others' go on, and the thread itself may call again."""
    transport = dial(simulator.base_url, timeout_s=5)
    idents: list[int] = []

    def hang() -> str:
        idents.append(threading.get_ident())
        found = failure(transport, "[[fault:hang]]").code
        assert transport.post(CHAT, body("hello"), KEYS[0]).status == 200
        return found

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        ended = one.submit(hang)
        while simulator.journal.count(fault="hang") < 1:
            time.sleep(0.01)
        simulator.settings = SimulatorSettings(latency_s=0.3)
        goes_on = other.submit(transport.post, CHAT, body("slow"), KEYS[0])
        while simulator.journal.max_in_flight < 2:
            time.sleep(0.01)
        asked = time.monotonic()
        transport.hang_up(idents[0])
        transport.hang_up(threading.get_ident())
        assert ended.result(5) != "timeout"
        assert time.monotonic() - asked < 1
        assert goes_on.result(5).status == 200


def test_an_abort_ends_a_call_that_is_still_connecting(dial: Open) -> None:
    """A firewall that swallows the SYN does not hold up the second Ctrl-C."""
    with deaf_port() as deaf, ThreadPoolExecutor(1) as pool:
        transport = dial(deaf, timeout_s=60, connect_timeout_s=60)
        call = pool.submit(failure, transport)
        time.sleep(0.1)
        assert not call.done()
        asked = time.monotonic()
        transport.abort()
        assert call.result(5).code == "aborted"
        assert time.monotonic() - asked < 1


def test_a_configured_proxy_is_used(dial: Open, host: Host) -> None:
    """The call goes to the proxy, which is told the whole address."""
    transport = dial("http://api.invalid/v1", proxy=host.address)
    assert transport.post(CHAT, b"{}", KEYS[0]).status == 200
    assert host.requests[0].startswith(b"POST http://api.invalid/v1/chat/completions HTTP/1.1")


def test_a_configured_proxy_serves_loopback_too(dial: Open, host: Host) -> None:
    """Who names a proxy means it, even for 127.0.0.1."""
    dial(closed_port(), proxy=host.address).post(CHAT, b"{}", KEYS[0])
    assert host.requests[0].startswith(b"POST http://127.0.0.1:")


def test_the_proxy_of_the_environment(
    dial: Open, host: Host, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used for the world and not for this machine."""
    monkeypatch.setenv("http_proxy", host.address)
    assert dial(simulator.base_url).post(CHAT, body("hello"), KEYS[0]).status == 200
    assert host.requests == []
    dial("http://api.invalid/v1").post(CHAT, b"{}", KEYS[0])
    assert host.requests[0].startswith(b"POST http://api.invalid/v1/chat/completions")


def test_a_proxy_that_does_not_exist_is_named_without_its_password(dial: Open) -> None:
    """The fault is the proxy's, not the API's; its login stays secret."""
    error = failure(dial("http://api.example/v1", proxy="http://me:hunter22@proxy.invalid:3128"))
    assert error.code == "proxy"
    assert "proxy.invalid" in str(error)
    assert "hunter22" not in str(error)
    assert "hunter22" not in repr(TransportSettings("x", proxy="http://me:hunter22@p"))


@pytest.mark.parametrize("exempt", ["api.invalid", ".invalid", "x, invalid", "*", "127.0.0.0/8"])
def test_what_the_environment_exempts_from_its_proxy(
    dial: Open, host: Host, monkeypatch: pytest.MonkeyPatch, exempt: str
) -> None:
    """`no_proxy` names hosts, domains and networks; what it names is called without a proxy."""
    monkeypatch.setenv("http_proxy", host.address)
    monkeypatch.setenv("no_proxy", exempt)
    if "/" in exempt:  # this machine, but not by a name that no proxy can mean
        place, code = closed_port().replace("127.0.0.1", "127.0.0.2"), "refused"
    else:
        place, code = "http://api.invalid/v1", "dns"
    assert failure(dial(place)).code == code
    assert host.requests == []
    if exempt != "*":
        assert dial("http://api.other/v1").post(CHAT, b"{}", KEYS[0]).status == 200


@pytest.mark.parametrize("name", ["all_proxy", "ALL_PROXY", "HTTP_PROXY"])
def test_other_variables_for_a_proxy(
    dial: Open, host: Host, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """`all_proxy` counts in either case; HTTP_PROXY does not, since web servers set it."""
    monkeypatch.setenv(name, host.address.removeprefix("http://"))
    transport = dial("http://api.invalid/v1")
    if name == "HTTP_PROXY":
        assert failure(transport).code == "dns"
    else:
        assert transport.post(CHAT, b"{}", KEYS[0]).status == 200


def test_a_proxy_that_lets_nobody_through(dial: Open, host: Host) -> None:
    """The server was never reached."""
    host.answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"
    error = failure(dial("https://api.example/v1", proxy=host.address))
    assert (error.code, error.connected) == ("proxy", False)
    assert host.requests[0].startswith(b"CONNECT api.example:443 HTTP/1.1")
    assert KEYS[0].encode() not in host.requests[0]


def test_a_login_for_the_proxy(dial: Open, host: Host) -> None:
    """It is told to the proxy, percent signs resolved."""
    proxy = host.address.replace("//", "//me:hunter%40@")
    dial("http://api.invalid/v1", proxy=proxy).post(CHAT, b"{}", KEYS[0])
    assert b"Proxy-Authorization: Basic bWU6aHVudGVyQA==" in host.requests[0]


class Socks(Host):
    """A SOCKS 5 proxy that answers by itself whatever is asked of the server behind it."""

    def _serve(self, client: socket.socket) -> None:
        with client:
            self.requests.append(client.recv(65536))
            client.sendall(b"\x05\x00")
            self.requests.append(client.recv(65536))
            client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            self.requests.append(client.recv(65536))
            client.sendall(OK)


def test_a_socks_proxy(dial: Open) -> None:
    """The proxy resolves the server's name (socks5h) and carries the call."""
    proxy = Socks()
    address = proxy.address.replace("http", "socks5h")
    assert dial("http://api.invalid/v1", proxy=address).post(CHAT, b"{}", KEYS[0]).status == 200
    assert b"api.invalid" in proxy.requests[1]
    assert proxy.requests[2].startswith(b"POST /v1/chat/completions HTTP/1.1")
    proxy.close()


ACCOUNT = {"OPENAI_ORG_ID": " org-1 ", "OPENAI_PROJECT_ID": "proj-1"}


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("api.openai.com", True),
        ("eu.api.openai.com", True),
        ("myapi.openai.com", False),
        ("api.openai.com.example", False),
        ("api.example", False),
    ],
)
def test_who_is_told_the_account(
    dial: Open, host: Host, monkeypatch: pytest.MonkeyPatch, place: str, *, told: bool
) -> None:
    """Organization and project of the environment are sent to OpenAI, and to nobody else."""
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    dial(f"http://{place}/v1", proxy=host.address).post(CHAT, b"{}", KEYS[0])
    head = host.requests[0].decode().lower().split("\r\n")
    assert ("openai-organization: org-1" in head) is told
    assert ("openai-project: proj-1" in head) is told
    assert told or not any("organization" in line or "project" in line for line in head)


def test_an_account_that_no_header_can_hold(dial: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before anything is sent."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org\nX-Other: 1")
    with pytest.raises(ConfigError, match="OPENAI_ORG_ID must be printable"):
        dial("https://api.openai.com/v1")


def test_nothing_else_comes_from_the_environment(
    dial: Open, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the SDK would take from there, the settings alone decide."""
    for name, value in {
        "OPENAI_BASE_URL": "http://127.0.0.1:9",
        "OPENAI_API_KEY": "sk-other",
        "OPENAI_ADMIN_KEY": "sk-other",
        "OPENAI_CUSTOM_HEADERS": "X-Other: 1\nauthorization: sk-other\nContent-type: x/other",
    }.items():
        monkeypatch.setenv(name, value)
    transport = dial(host.address)
    for key in (KEYS[0], ""):
        transport.post(CHAT, b"{}", key)
    first, second = (request.lower() for request in host.requests)
    assert b"other" not in first + second
    assert f"authorization: bearer {KEYS[0]}".encode() in first
    assert b"authorization" not in second
    assert b"content-type: application/json" in first
    assert b"user-agent: jsonl-runner" in first


def test_a_cookie_is_not_kept(dial: Open, host: Host) -> None:
    """What a server hands to one key is not shown to it by the next."""
    host.answer = OK.replace(b"\r\n\r\n", b"\r\nset-cookie: a=b; path=/\r\n\r\n")
    transport = dial(host.address)
    for key in KEYS:
        assert transport.post(CHAT, b"{}", key).header("set-cookie") == "a=b; path=/"
    assert b"cookie" not in host.requests[1].lower()


def test_a_login_in_the_address_gives_way_to_the_key(dial: Open, host: Host) -> None:
    """Where there is a key, it is what is sent."""
    base = host.address.replace("//", "//me:hunter22@")
    dial(base).post(CHAT, b"{}", KEYS[0])
    assert f"authorization: bearer {KEYS[0]}".encode() in host.requests[0].lower()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        # With an empty line: the SDK's parser waits for it, libcurl knows from the first.
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "not_http"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "reset"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "timeout"),
    ],
    ids=["no HTTP", "a broken chunk", "half a head"],
)
def test_a_server_that_speaks_something_else(
    dial: Open, host: Host, answer: bytes, code: str
) -> None:
    """Each has its code, and the request was sent."""
    host.answer = answer
    error = failure(dial(host.address, timeout_s=0.3))
    assert (error.code, error.connected) == (code, True)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody trusts, with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    words = ("req", "-x509", *kind, "-nodes", "-days", "2")
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the openssl command")
    place = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    both = ("-keyout", str(path), "-out", str(path.with_name("cert.pem")))
    subprocess.run([program, *words, *place, *both], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_name("cert.pem").read_bytes())
    return path


class TlsHost(Host):
    """A server behind TLS."""

    def __init__(self, certificate: Path, offers: list[str] | None = None) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate)
        if offers is not None:
            self._context.set_alpn_protocols(offers)
        #: The protocol of each connection, where there was a choice.
        self.agreed: list[str | None] = []
        super().__init__()
        self.address = self.address.replace("http:", "https:")

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            secure = self._context.wrap_socket(client, server_side=True)
            self.agreed.append(secure.selected_alpn_protocol())
            super()._serve(secure)


def test_whom_tls_trusts(dial: Open, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's certificate ends it before the key is sent; SSL_CERT_FILE can vouch for it."""
    server = TlsHost(certificate)
    error = failure(dial(server.address))
    assert (error.code, error.connected, server.requests) == ("tls", False, [])
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    transport = dial(server.address)
    assert [transport.post(CHAT, body("x"), KEYS[0]).status for _ in range(3)] == [200] * 3
    server.close()


@pytest.mark.parametrize(("asked", "agreed"), [({}, "http/1.1"), ({"http2": True}, "h2")])
def test_http_2_is_spoken_only_when_asked_for(
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    agreed: str,
) -> None:
    """What libcurl offers in the handshake."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = TlsHost(certificate, offers=["h2", "http/1.1"])
    transport = CurlTransport(TransportSettings(server.address, timeout_s=5, **asked))
    with contextlib.suppress(TransportError):  # the server cannot really speak HTTP/2
        transport.post(CHAT, b"{}", KEYS[0])
    assert server.agreed == [agreed]
    transport.close()
    server.close()


def test_the_openai_transport_has_no_http_2() -> None:
    """It is told before anything is sent."""
    config = load(None, {"transport": "openai", "http2": True}, {})
    with pytest.raises(ConfigError, match="http2 needs the curl transport"):
        make_transport(config, lambda _: None)


def test_a_server_without_tls(dial: Open, host: Host) -> None:
    """It answers the handshake with something else."""
    host.answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    error = failure(dial(host.address.replace("http", "https")))
    assert (error.code, error.connected) == ("tls_handshake", False)


def test_a_handshake_that_hangs(dial: Open, host: Host) -> None:
    """It counts as connecting, and an abort ends it."""
    host.answer = None
    place = host.address.replace("http", "https")
    error = failure(dial(place, connect_timeout_s=0.2))
    assert (error.code, error.connected) == ("connect_timeout", False)
    transport = dial(place, timeout_s=60, connect_timeout_s=60)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(failure, transport)
        while len(host.requests) < 2:
            time.sleep(0.01)
        transport.abort()
        assert call.result(1).code == "aborted"
