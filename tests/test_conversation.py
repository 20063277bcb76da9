"""A conversation remembers what was answered, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support import KEYS

from jsonl_runner.conversation import Conversation
from jsonl_runner.errors import LedgerError, NoUsableKeyError
from jsonl_runner.rows import parse_row
from jsonl_runner.simulator import SimulatorSettings, answer_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Stage


@pytest.fixture
def talk(stage: Stage) -> Iterator[Conversation]:
    opened = Conversation(stage.config(), system="Be brief.")
    yield opened
    opened.close()


def test_each_turn_knows_those_before(talk: Conversation) -> None:
    """The answer is a digest of all messages: it shows what was sent."""
    heard: list[str] = []
    for text in ("My name is Ann.", "Who am I?"):
        messages = [*talk.messages, {"role": "user", "content": text}]
        outcome = talk.say(text, heard.append)
        assert outcome.output == answer_text({"model": "gpt-4.1-mini", "messages": messages})
    roles = [message["role"] for message in talk.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert "".join(heard) == talk.messages[2]["content"] + talk.messages[4]["content"]
    assert talk.turns == 2


def test_what_failed_or_was_stopped_is_forgotten(talk: Conversation) -> None:
    """Question and all: the next one is asked as if it had never been."""
    talk.say("one")
    before = talk.messages
    outcome = talk.say("[[fault:context_length]]")
    assert (outcome.output, outcome.code) == (None, "context_length_exceeded")

    def stop(_piece: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        talk.say("two", stop)
    assert talk.messages == before
    assert talk.say("three").output is not None


def test_model_and_system_may_change(stage: Stage, talk: Conversation) -> None:
    """From the next turn on; a model that is unknown costs the keys nothing."""
    talk.model = "gpt-4.1"
    assert talk.say("one").model == "gpt-4.1"
    stage.simulator.settings = SimulatorSettings(models=("gpt-4.1",))
    talk.model = "gpt-5000"
    assert talk.say("two").code == "model_not_found"
    talk.model, talk.system = "gpt-4.1", ""
    assert talk.say("three").output is not None
    assert talk.messages[0]["role"] == "user"
    talk.clear()
    assert (talk.messages, talk.turns, talk.model) == ([], 0, "gpt-4.1")


def test_after_the_last_key_a_new_one_may_come(stage: Stage, talk: Conversation) -> None:
    """Somebody pays the bill: the next question is asked again, with what was said before."""
    talk.say("one")
    good = stage.simulator.settings
    spent = dict.fromkeys(KEYS, "insufficient_quota")
    stage.simulator.settings = replace(good, key_faults=spent)
    with pytest.raises(NoUsableKeyError):
        talk.say("two")
    stage.simulator.settings = good
    assert talk.say("two").output is not None
    assert talk.turns == 2


def test_saved_as_a_row(stage: Stage, talk: Conversation) -> None:
    """`run` takes it; what is there is not written over unasked."""
    path = stage.folder / "ünï.jsonl"
    with pytest.raises(LedgerError, match="nothing has been said"):
        talk.save(path)
    talk.say("one 🙂")
    talk.save(path)
    (line,) = path.read_bytes().splitlines()
    assert parse_row(line) == {"index": "ünï", "messages": talk.messages}
    talk.say("two")
    with pytest.raises(LedgerError, match=r"ünï\.jsonl: is there already"):
        talk.save(path)
    assert path.read_bytes() == line + b"\n"
    talk.save(path, overwrite=True)
    assert len(json.loads(path.read_bytes())["messages"]) == 5
    with pytest.raises(LedgerError, match="its folder does not exist; make it first"):
        talk.save(stage.folder / "none" / "x.jsonl")
