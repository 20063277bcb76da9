"""No key and no proxy password in anything a run leaves or shows, however it goes wrong."""

from __future__ import annotations

import json
import logging
import pickle
import socket
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, read_calls, row, write_rows

from jsonl_runner import ParallelToolkit, Prompt
from jsonl_runner.errors import JsonlRunnerError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support import FakeClock, Stage

PASSWORD = "pa55word-of-the-proxy"
SECRETS = (*KEYS, PASSWORD)
FAULTS = ("key_echo*1", "401*1", "500", "400", "502_html", "error_in_200", "close", "html")


def assert_clean(text: str, where: object) -> None:
    for secret in SECRETS:
        assert secret not in text, f"{where} shows {secret}"


def assert_folder_clean(folder: Path) -> None:
    """Look into every file but the configuration, which holds the keys on purpose."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "settings.json":
            assert_clean(path.read_bytes().decode("utf-8", "replace"), path)


def assert_all_clean(stage: Stage, result: subprocess.CompletedProcess[str]) -> None:
    assert_clean(result.stdout, "stdout")
    assert_clean(result.stderr, "stderr")
    assert_folder_clean(stage.folder)


LOUD = ("--debug", "-v", "--max-retries", "0", "--timeout", "5")


@pytest.mark.parametrize("words", [(), ("--json",), ("--transport", "openai")])
def test_a_run_with_all_kinds_of_failures(stage: Stage, words: tuple[str, ...]) -> None:
    """Keys echoed by the server, 500s, broken answers: nothing that is left or shown has a key."""
    rows = [row(n, f"{n} [[fault:{fault}]]") for n, fault in enumerate(FAULTS)]
    write_rows(stage.data, [row("a"), *rows, row("b")])
    more = ["sk-test-dddddddddddddddd0004", "sk-test-eeeeeeeeeeeeeeee0005"]
    result = stage.run_cli(*LOUD, *words, api_keys=[*KEYS, *more])
    assert result.returncode == 1, result.stderr
    assert_all_clean(stage, result)
    assert "http_502" in result.stdout + result.stderr


def test_every_key_echoed_back_in_the_error(stage: Stage) -> None:
    """A server that repeats keys in its errors: labels stand in the last line and the traceback."""
    echo = dict.fromkeys(KEYS, "key_echo")
    stage.simulator.settings = replace(stage.simulator.settings, key_faults=echo)
    write_rows(stage.data, [row(0)])
    result = stage.run_cli(*LOUD)
    assert result.returncode == 3
    assert "Traceback" in result.stderr, "--debug shows where the error came from"
    assert "#1(…0001) invalid_api_key" in result.stderr.splitlines()[-1]
    assert "Incorrect API key provided: #1(…0001)." in result.stderr
    assert_all_clean(stage, result)
    checked = stage.cli("keys", "check", "--config", stage.config_file(), "--json", "--debug")
    assert [item["state"] for item in json.loads(checked.stdout)] == ["finished"] * 2
    assert "#2(…0002)" in checked.stdout
    assert_all_clean(stage, checked)


def test_a_key_echoed_in_a_failed_rows_reason(stage: Stage, clock: FakeClock) -> None:
    """What a provider says of a failed row goes into the call log without the key in it."""
    bad = f"unknown model {KEYS[0]} {KEYS[1]}"
    stage.simulator.settings = replace(stage.simulator.settings, models=("gpt-4.1-mini",))
    summary = stage.run([row(0, params={"model": bad}), row(1)], clock=clock)
    assert summary.failed == 1
    message = read_calls(stage.output)["0"]["message"]
    assert "unknown model #1(…0001) #2(…0002)" in message
    assert_clean(json.dumps(summary.to_dict()), "the summary")
    assert_folder_clean_but_input(stage)


def assert_folder_clean_but_input(stage: Stage) -> None:
    stage.data.unlink()  # here the test itself wrote the keys into it
    assert_folder_clean(stage.folder)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, kept from others."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize("transport", ["curl", "openai"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_a_proxy_password_with_a_proxy_that_is_not_there(
    stage: Stage, closed_port: int, scheme: str, transport: str
) -> None:
    """The reason names the trouble with the proxy, not its login."""
    proxy = f"{scheme}://user:{PASSWORD}@127.0.0.1:{closed_port}"
    result = stage.cli(
        *("keys", "check", "--config", stage.config_file(), "--json", "--debug"),
        *("--proxy", proxy, "--transport", transport),
    )
    assert result.returncode == 3
    states = json.loads(result.stdout)
    assert {state["state"] for state in states} == {"no answer"}
    assert all(state["reason"] for state in states)
    assert_all_clean(stage, result)


@pytest.mark.parametrize(
    "proxy", [f"//user:{PASSWORD}@host", f"user:{PASSWORD}@host:1", f"ftp://user:{PASSWORD}@host"]
)
def test_a_proxy_that_is_written_wrongly(stage: Stage, proxy: str) -> None:
    """The complaint about a proxy does not repeat it."""
    write_rows(stage.data, [row(0)])
    result = stage.run_cli("--debug", "-v", "--proxy", proxy)
    assert result.returncode == 2
    assert "proxy must begin with" in result.stderr
    assert_all_clean(stage, result)


@pytest.mark.parametrize(
    "base",
    [
        f"http://user:{PASSWORD}@no-such-host.invalid/v1",
        f"user:{PASSWORD}@host/v1",
        f"ftp://user:{PASSWORD}@host/v1",
        f"http://user:{PASSWORD}@ho st/v1",
    ],
)
def test_a_password_in_the_address(stage: Stage, base: str) -> None:
    """A login in api_base is shown neither by -v nor by the error about it."""
    write_rows(stage.data, [row(0)])
    result = stage.run_cli("--debug", "-v", "--api-base", base)
    assert result.returncode == 2
    assert_all_clean(stage, result)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", f'{{"api_keys": ["{KEYS[0]}", "{KEYS[1]}" "model": 1}}'),
        ("b.json", f'{{"api_keys": ["{KEYS[0]} {KEYS[1]}"]}}'),
        ("c.json", f'{{"api_keys": {{"mine": "{KEYS[0]}"}}}}'),
        ("d.json", f'{{"api_keys": ["{KEYS[0]}"], "proxy": "user:{PASSWORD}@host"}}'),
        ("e.json", f'{{"api_keys": ["{KEYS[0]}", "{KEYS[0]}"], "threads": "x"}}'),
        pytest.param("f.yaml", f"api_keys: [{KEYS[0]}, {{{KEYS[1]}"),
        pytest.param("g.yaml", f"api_keys: {KEYS[0]}: {KEYS[1]}"),
    ],
)
def test_keys_and_passwords_in_a_broken_configuration(stage: Stage, name: str, text: str) -> None:
    """An error about the configuration names the place in it, not the key that stands there."""
    (stage.folder / name).write_text(text, encoding="utf-8")
    result = stage.cli("keys", "check", "--config", name, "--debug", "-v")
    assert result.returncode == 2
    assert name in result.stderr.splitlines()[-1]
    assert_clean(result.stdout + result.stderr, name)


def everything_of(thing: object, depth: int = 3) -> Iterator[str]:
    """Yield the representation of an object and of what its attributes lead to."""
    yield f"{thing!r} {thing!s}"
    names = {*getattr(thing, "__dict__", {}), *getattr(type(thing), "__slots__", ())}
    if depth and not isinstance(thing, (str, bytes, type)):
        # But for the places where the secrets themselves are kept.
        for name in names - {"_value", "proxy"}:
            yield from everything_of(getattr(thing, name, None), depth - 1)


def test_what_a_debugger_or_log_prints(stage: Stage) -> None:
    """`repr` and `str` of Config, ParallelToolkit and their attributes hold no key."""
    proxy = f"http://user:{PASSWORD}@127.0.0.1:9"
    config = stage.config(proxy=proxy)
    tool = ParallelToolkit(stage.config_file(proxy=proxy))
    assert config.proxy == tool.config.proxy == proxy
    for thing in (config, tool):
        for text in everything_of(thing):
            assert_clean(text, type(thing))
    assert "#1(…0001)" in repr(config)
    with pytest.raises(TypeError, match="not written into files"):
        pickle.dumps(config)


def failure_of(call: Callable[[], object]) -> JsonlRunnerError:
    with pytest.raises(JsonlRunnerError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("method", ["api", "run"])
def test_errors_and_their_tracebacks(stage: Stage, method: str) -> None:
    """An exception that a program logs, with its causes and local variables, holds no key."""
    echo = dict.fromkeys(KEYS, "key_echo")
    stage.simulator.settings = replace(stage.simulator.settings, key_faults=echo)
    write_rows(stage.data, [row(0)])
    tool = ParallelToolkit(stage.config_file(), stage.data, stage.output, quiet=True)
    error = failure_of(tool.run if method == "run" else lambda: tool.api(Prompt("Hello")))
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    text = "".join(shown.format())
    assert "self = <jsonl_runner.keys.Rotator" in text, "local variables are shown"
    assert_clean(text, "the traceback with its local variables")
    for text in everything_of(error):
        assert_clean(text, "the error")


@pytest.mark.parametrize("transport", ["curl", "openai"])
def test_log_records(stage: Stage, caplog: pytest.LogCaptureFixture, transport: str) -> None:
    """Whoever turns logging up to the full sees no key either."""
    caplog.set_level(logging.DEBUG)
    rows = [row(0, "[[fault:key_echo*1]]"), row(1, "[[fault:500]]")]
    stage.run(rows, max_retries=0, transport=transport)
    assert_clean(caplog.text, "the log")


def function_with_keys(_instruction: str, _text: str) -> str:
    raise RuntimeError(f"the gateway said: bad key {KEYS[0]} via http://u:{PASSWORD}@proxy")


def test_an_exception_of_the_users_function(stage: Stage) -> None:
    """What the user's own code says in its exceptions is cleaned before it is kept."""
    write_rows(stage.data, [row(0)])
    settings: dict[str, Any] = {"max_retries": 0, "quiet": True}
    tool = ParallelToolkit(
        stage.config_file(), stage.data, stage.output, call=function_with_keys, **settings
    )
    summary = tool.run()
    assert "the gateway said: bad key #1(…0001) via http://…@proxy" in str(summary.failures)
    assert_folder_clean(stage.folder)
