"""`keys check`: what each key is worth, asked of the server itself, for one token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, Stage

from jsonl_runner.clock import SystemClock
from jsonl_runner.errors import ConfigError
from jsonl_runner.keycheck import KeyCheck, check_keys
from jsonl_runner.simulator import SimulatorSettings

if TYPE_CHECKING:
    from support import FakeClock

LABELS = ["#1(…0001)", "#2(…0002)"]


def check(stage: Stage, **settings: Any) -> list[KeyCheck]:
    return check_keys(stage.config(**settings), SystemClock())


def faulty(stage: Stage, kind: str) -> KeyCheck:
    """Return what comes of a key with a fault, beside one without."""
    stage.simulator.settings = SimulatorSettings(key_faults={KEYS[0]: kind})
    first, second = check(stage)
    assert (second.label, second.state) == (LABELS[1], "works")
    assert first.label == LABELS[0]
    return first


def test_keys_that_work(stage: Stage) -> None:
    """Each key is asked once, with the model of the settings; all come in order."""
    found = check(stage, model="gpt-4.1")
    nothing = {"request_limit": None, "requests_left": None, "token_limit": None}
    assert found == [KeyCheck(label, "works", "", **nothing, tokens_left=None) for label in LABELS]
    calls = stage.simulator.journal.calls
    assert sorted(call.key for call in calls) == sorted(KEYS)
    assert {call.model for call in calls} == {"gpt-4.1"}


@pytest.mark.parametrize(
    ("kind", "state", "reason"),
    [
        ("401", "finished", "invalid_api_key: HTTP 401: "),
        ("deactivated", "finished", "account_deactivated: HTTP 401: "),
        ("403", "finished", "HTTP 403: "),
        ("insufficient_quota", "finished", "insufficient_quota: HTTP 429: You exceeded your"),
        ("credit_balance_exhausted", "finished", "credit_balance_exhausted: HTTP 429: Your"),
        (
            "429",
            "cooling",
            "rate_limit_exceeded: HTTP 429: Rate limit reached on requests. (for 1.0 s)",
        ),
        ("429_bare", "cooling", "rate_limit_exceeded: HTTP 429: "),
        ("404_model", "no such model", "model_not_found: HTTP 404: "),
        ("500", "no answer", "HTTP 500"),
        ("close", "no answer", ""),
        ("malformed", "no answer", "malformed: HTTP 200 with a body that is not JSON"),
        ("redirect", "no answer", "set api_base to the address it stands for"),
    ],
)
def test_keys_that_do_not(stage: Stage, kind: str, state: str, reason: str) -> None:
    """The state in a word and the reason behind it; the other keys are not touched by it."""
    found = faulty(stage, kind)
    assert found.state == state
    assert found.reason
    assert reason in found.reason


@pytest.mark.parametrize("kind", ["content_policy", "empty_answer", "length", "400", "refusal"])
def test_an_answer_of_no_use_is_an_answer(stage: Stage, kind: str) -> None:
    """The key works where only the question was not liked."""
    found = faulty(stage, kind)
    assert (found.state, found.reason) == ("works", "")


def test_limits_are_shown(stage: Stage) -> None:
    """What the headers announce, after the one call."""
    stage.simulator.settings = SimulatorSettings(
        requests_per_second=0.01, requests_burst=60, tokens_per_second=0.01, tokens_burst=9000
    )
    for found in check(stage):
        assert (found.state, found.request_limit, found.requests_left) == ("works", 60, 59)
        assert found.token_limit == 9000
        assert found.tokens_left is not None
        assert 8000 < found.tokens_left < 9000


def test_a_key_that_is_used_up_cools_with_its_limits(stage: Stage) -> None:
    """Refused, it still tells its limit and for how long it is refused."""
    stage.simulator.settings = SimulatorSettings(requests_per_second=0.01, requests_burst=1)
    assert [found.state for found in check(stage)] == ["works", "works"]
    for found in check(stage):
        assert (found.state, found.request_limit, found.requests_left) == ("cooling", 1, 0)
        assert found.reason.endswith(" min)")


@pytest.mark.parametrize("refused", [("max_tokens",), ("max_tokens", "max_completion_tokens")])
def test_a_model_that_does_not_take_the_question(stage: Stage, refused: tuple[str, ...]) -> None:
    """Reasoning models know another word for max_tokens, or none: that is no fault of the key."""
    stage.simulator.settings = SimulatorSettings(unsupported_params=refused)
    assert [found.state for found in check(stage)] == ["works", "works"]


def test_nobody_there(stage: Stage) -> None:
    """Without a server no key is said to be bad."""
    stage.simulator.stop()
    for found in check(stage):
        assert found.state == "no answer"
        assert found.reason.startswith("refused: no connection to 127.0.0.1")


def test_no_key(stage: Stage) -> None:
    """Nothing to check: the error says where keys go."""
    with pytest.raises(ConfigError, match=r"^no API key: put it into config\.json"):
        check(stage, api_keys=[])


def test_many_keys_keep_their_order(stage: Stage) -> None:
    """More keys than are asked at once: one line each, as they stand in the configuration."""
    keys = [f"sk-many-keys-{number:04}" for number in range(50)]
    stage.simulator.settings = SimulatorSettings(keys=tuple(keys[::2]))
    found = check(stage, api_keys=keys)
    assert [item.state for item in found] == ["works", "finished"] * 25
    assert [item.label for item in found] == [f"#{n + 1}(…{n:04})" for n in range(50)]
    assert len(stage.simulator.journal.calls) == 50


def test_no_key_is_shown(stage: Stage, clock: FakeClock) -> None:
    """A server that repeats the key in its error does not bring it onto the screen."""
    stage.simulator.settings = SimulatorSettings(key_faults=dict.fromkeys(KEYS, "key_echo"))
    found = check_keys(stage.config(), clock)
    assert [item.state for item in found] == ["finished", "finished"]
    for item, label in zip(found, LABELS, strict=True):
        assert f"Incorrect API key provided: {label}." in item.reason
    words = ("keys", "check", "--config", stage.config_file())
    for result in (stage.cli(*words, "-v"), stage.cli(*words, "--json")):
        assert result.returncode == 3
        for key in KEYS:
            assert key not in result.stdout + result.stderr
            assert key[:-4] not in result.stdout + result.stderr


def test_the_command_line_agrees(stage: Stage) -> None:
    """One line a key and a count; exit 0 as long as one works; the same in JSON."""
    stage.simulator.settings = SimulatorSettings(key_faults={KEYS[0]: "insufficient_quota"})
    words = ("keys", "check", "--config", stage.config_file())
    result = stage.cli(*words)
    assert result.returncode == 0
    first, second = result.stdout.splitlines()
    assert first.startswith("#1(…0001)  finished  insufficient_quota: HTTP 429: ")
    assert second == "#2(…0002)  works"
    assert result.stderr.startswith("1 of 2 keys work with gpt-4.1-mini at http://127.0.0.1:")
    told = json.loads(stage.cli(*words, "--json").stdout)
    assert [item["state"] for item in told] == ["finished", "works"]


def test_large_limits_are_readable(stage: Stage) -> None:
    """Millions of tokens a minute are usual: all their digits, or at least no exponent."""
    stage.simulator.settings = SimulatorSettings(
        tokens_per_second=0.01, tokens_burst=30_000_000, requests_per_second=1, requests_burst=10
    )
    result = stage.cli("keys", "check", "--config", stage.config_file())
    assert result.returncode == 0
    assert "works" in result.stdout
    assert "e+" not in result.stdout
