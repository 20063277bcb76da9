"""The openai SDK: the transport that is left without pycurl, and `client` within `generate`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import openai
import pytest
from support import expected, read_calls, read_ledger, row, write_rows

from jsonl_runner import ConfigError, OpenAIModel, ParallelToolkit, Prompt
from jsonl_runner.retry import classify_exception
from jsonl_runner.simulator import SimulatorSettings
from jsonl_runner.transport.base import TransportSettings
from jsonl_runner.transport.sdk import OpenAITransport

if TYPE_CHECKING:
    from pathlib import Path

    from support import Stage

FIVE = [f"sk-test-{letter * 16}000{number}" for number, letter in enumerate("abcde", 1)]
MODEL = "gpt-4.1-mini"


class Asking(OpenAIModel):
    """A model that calls the SDK itself."""

    def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002
        answer = self.client.chat.completions.create(
            model=self.model_name or MODEL,
            messages=[
                {"role": "system", "content": instruction},
                {"role": "user", "content": input},
            ],
        )
        return answer.choices[0].message.content or ""


def run(stage: Stage, **options: Any) -> Any:
    given = {"quiet": True, "openai_model": Asking(MODEL), "api_keys": FIVE, **options}
    return ParallelToolkit(stage.config_file(), stage.data, stage.output, **given).run()


@pytest.mark.parametrize("transport", ["curl", "openai"])
def test_a_function_calls_with_the_key_of_its_row(stage: Stage, transport: str) -> None:
    """64 threads and 5 keys: every call has the key that the row's call log names."""
    stage.simulator.settings = SimulatorSettings(latency_s=0.01)
    rows = [row(number) for number in range(300)]
    write_rows(stage.data, rows)
    assert run(stage, threads=64, transport=transport).done == 300
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}
    label_of = {key: f"#{number}(…{key[-4:]})" for number, key in enumerate(FIVE, 1)}
    asked = {call.prompt: label_of[call.key or ""] for call in stage.simulator.journal.calls}
    named = {f"row {index}": entry["key"] for index, entry in read_calls(stage.output).items()}
    assert asked == named
    assert set(asked.values()) == set(label_of.values())


def test_errors_of_the_sdk_are_the_providers(stage: Stage) -> None:
    """A 429 goes on with another key, a dead key is retired, a bad row fails; no silent retries."""
    stage.simulator.settings = SimulatorSettings(keys=tuple(FIVE[1:]))
    bad = row(8, "[[fault:context_length]]")
    write_rows(stage.data, [row(0), row(1, "[[fault:429*1]]"), row(2, "[[fault:500*1]]"), bad])
    summary = run(stage, threads=1, max_retries=1)
    assert (summary.done, list(summary.failures)) == (3, ["context_length_exceeded"])
    calls = stage.simulator.journal.calls
    assert [call.key for call in calls].count(FIVE[0]) == 1
    limited = [call.key for call in calls if "429" in call.prompt and call.key != FIVE[0]]
    assert len(limited) == 2
    assert limited[0] != limited[1]
    assert "key #1(…0001)" in str(summary.to_dict())


def test_no_server_costs_a_function_no_retry(stage: Stage) -> None:
    """What the SDK calls a connection error is told apart as with the calls of a run."""
    stage.simulator.stop()
    write_rows(stage.data, [row(0)])
    threading.Timer(0.5, stage.simulator.start).start()
    assert run(stage, max_retries=0).done == 1


def test_a_client_outside_of_a_row() -> None:
    """It has no key, and says how to come by one."""
    with pytest.raises(ConfigError, match=r"client needs a row's key: use it within generate\(\)"):
        OpenAIModel(MODEL).client  # noqa: B018


def test_a_subclass_may_have_a_client_of_its_own(stage: Stage) -> None:
    """As it could before there was ours."""

    class Own(OpenAIModel):
        def __init__(self) -> None:
            super().__init__(MODEL)
            self.client = "mine"  # type: ignore[assignment]

        def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002
            return f"{self.client} {instruction}"

    tool = ParallelToolkit(stage.config_file(), openai_model=Own(), quiet=True)
    assert tool.api(Prompt("x")) == "mine x"


def test_a_client_has_the_settings(stage: Stage) -> None:
    """Address, timeouts and no retries of its own; one client per key, whoever asks."""
    seen: list[openai.OpenAI] = []

    class Looking(OpenAIModel):
        def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002
            seen.extend((self.client, self.client))
            return "x"

    settings: dict[str, Any] = {"timeout": 7, "connect_timeout": 3, "api_keys": FIVE[:1]}
    tool = ParallelToolkit(stage.config_file(), openai_model=Looking(MODEL), quiet=True, **settings)
    tool.api(Prompt("x"))
    client = seen[0]
    assert seen[1] is client
    assert (client.max_retries, str(client.base_url)) == (0, stage.simulator.base_url + "/")
    assert isinstance(client.timeout, openai.Timeout)
    assert (client.timeout.read, client.timeout.connect) == (7, 3)
    assert FIVE[0] not in repr(client)


def test_without_pycurl(stage: Stage, tmp_path: Path) -> None:
    """The sample runs with the SDK, and it is said once."""
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "pycurl.py").write_text('raise ImportError("no libcurl here")', encoding="utf-8")
    write_rows(stage.data, [row(number) for number in range(30)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(stub), *sys.path])}
    result = stage.cli("run", stage.data, stage.output, "--simulate", env=environment)
    assert result.returncode == 0, result.stderr
    says = "pycurl cannot be imported (no libcurl here): using the openai SDK, which costs more CPU"
    assert result.stderr.count(says) == 1
    assert "pip install pycurl" in result.stderr
    assert None not in read_ledger(stage.output).values()
    assert len(read_ledger(stage.output)) == 30
    checked = stage.cli("keys", "check", "--config", stage.config_file(), env=environment)
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr.count(says) == 1


@pytest.mark.parametrize("transport", ["curl", "openai"])
def test_the_transport_is_chosen(stage: Stage, transport: str) -> None:
    """A flag, or the environment; the SDK is loaded by its own transport only."""
    write_rows(stage.data, [row(0)])
    code = (
        "import sys; from jsonl_runner.cli.main import cli\n"
        "cli(sys.argv[1:], standalone_mode=False)\n"
        "print({'openai', 'pycurl'} & set(sys.modules))"
    )
    words = ["run", str(stage.data), "out.jsonl", "--config", str(stage.config_file()), "-q"]
    for more, env in (
        (["--transport", transport], {}),
        ([], {"JSONL_RUNNER_TRANSPORT": transport}),
    ):
        (stage.folder / "out.jsonl").unlink(missing_ok=True)
        result = subprocess.run(
            [sys.executable, "-c", code, *words, *more],
            env={**os.environ, **env},
            cwd=stage.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        name = "pycurl" if transport == "curl" else "openai"
        assert result.stdout.strip() == f"{{{name!r}}}"


def test_a_socks_proxy_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install; the login is not in it."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    settings = TransportSettings("http://api.invalid", proxy="socks5://me:hunter22@127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"pip install socksio") as caught:
        OpenAITransport(settings)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:99999", "ftp://127.0.0.1", "http://"])
def test_a_proxy_that_is_none(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy is checked too."""
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ConfigError, match=r"^proxy: "):
        OpenAITransport(TransportSettings("https://api.invalid"))


def test_certificates_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are named before the first call."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"none\.pem: no certificates"):
        OpenAITransport(TransportSettings("https://api.invalid"))


def test_a_stream_of_events_may_pause() -> None:
    """A model that thinks between two words is no stalled answer, for a function that streams."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    words = [{**chunk, "choices": [{"index": 0, "delta": {"content": word}}]} for word in "ab"]

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            client.sendall(head)
            for word in words:
                client.sendall(b"data: %b\n\n" % json.dumps(word).encode())
                threading.Event().wait(0.3)
            client.sendall(b"data: [DONE]\n\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        transport = OpenAITransport(TransportSettings(address, timeout_s=5, body_timeout_s=0.1))
        stream = transport.clients.of(FIVE[0]).chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], stream=True
        )
        assert [part.choices[0].delta.content for part in stream] == ["a", "b"]
        transport.close()


def test_an_abort_ends_a_functions_calls(stage: Stage) -> None:
    """The SDK raises its own error; later calls do not begin."""
    transport = OpenAITransport(TransportSettings(stage.simulator.base_url, timeout_s=60))
    client = transport.clients.of(FIVE[0])
    caught: list[Exception] = []

    def ask() -> None:
        try:
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "[[fault:hang]]"}]
            )
        except openai.APIConnectionError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not stage.simulator.journal.count(fault="hang"):
        threading.Event().wait(0.01)
    transport.abort()
    thread.join(2)
    ask()
    codes = [classify_exception(error, 0.0).code for error in caught]
    assert codes == ["aborted", "aborted"]
    assert stage.simulator.journal.count(fault="hang") == 1
    transport.close()
