"""Request bodies: the conversation, the parameters, and what a model refuses of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner.prompts import Composer, Request, messages_of, texts_of
from jsonl_runner.records import Record

TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "two"},
]


def body_of(request: Request) -> dict[str, Any]:
    found = json.loads(request.body)
    assert isinstance(found, dict)
    return found


def test_instruction_and_input_are_system_and_user() -> None:
    """The order in which every chat model expects them."""
    assert messages_of(Record("1", "Translate.", "Hallo")) == [
        {"role": "system", "content": "Translate."},
        {"role": "user", "content": "Hallo"},
    ]


def test_one_text_alone_is_the_users() -> None:
    """A chat without a user's message is refused by some servers."""
    assert messages_of(Record("1", "Why?")) == [{"role": "user", "content": "Why?"}]
    assert messages_of(Record("1", "", "Why?")) == [{"role": "user", "content": "Why?"}]


def test_a_rows_own_conversation_goes_as_it_is() -> None:
    """Messages are not touched, and instruction and input do not mix into them."""
    assert messages_of(Record("1", "not this", "nor this", TALK)) == TALK


def test_what_a_table_filled_in_is_not_sent() -> None:
    """A column of objects has every key in every row; APIs refuse most of them as null."""
    called = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    filled: list[dict[str, Any]] = [
        {"role": "user", "content": "a", "name": None, "tool_calls": None, "tool_call_id": None},
        {"role": "user", "content": [{"type": "text", "text": "b", "image_url": None}, "c"]},
        {"role": "assistant", "content": None, "tool_calls": called, "weight": 0},
        {"role": "assistant", "content": "d", "tool_calls": []},
    ]
    record = Record("1", messages=filled)
    assert body_of(Composer("m", {}).compose(record))["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}, "c"]},
        {"role": "assistant", "content": None, "tool_calls": called, "weight": 0},
        {"role": "assistant", "content": "d"},
    ]
    assert filled[0]["name"] is None
    assert filled[3]["tool_calls"] == []


def test_two_texts_of_a_conversation() -> None:
    """A function that takes two texts gets the system message and the last user message."""
    assert texts_of(Record("1", "", "", TALK)) == ("be brief", "two")
    assert texts_of(Record("1", "a", "b")) == ("a", "b")
    image = [{"role": "user", "content": [{"type": "image_url"}]}]
    assert texts_of(Record("1", "", "", image)) == ("", "")


def test_a_rows_params_go_before_the_runs() -> None:
    """Model and parameters of a row count for that row alone."""
    composer = Composer("m", {"temperature": 1, "seed": 5})
    request = composer.compose(Record("1", "a", params={"temperature": 0, "model": "other"}))
    body = body_of(request)
    assert (body["temperature"], body["seed"], body["model"]) == (0, 5, "other")
    assert request.model == "other"
    after = body_of(composer.compose(Record("2", "a")))
    assert (after["temperature"], after["model"]) == (1, "m")


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_every_text_arrives_as_it_was(instruction: str, text: str) -> None:
    """For every two texts, the body is JSON that holds exactly them."""
    sent = body_of(Composer("m", {}).compose(Record("1", instruction, text)))["messages"]
    assert [message["content"] for message in sent] == [
        part for part in (instruction, text) if part
    ] or not (instruction or text)


def test_a_size_grows_with_the_text_and_the_answer_asked_for() -> None:
    """The estimate spreads calls over token limits; it is never zero."""
    composer = Composer("m", {})

    def tokens(text: str, **params: Any) -> int:
        return composer.compose(Record("1", text, params=params)).tokens

    assert 1 <= tokens("a") < 50
    assert 950 < tokens("word " * 800) < 1150
    assert tokens("a", max_tokens=5000) >= 5000
    assert tokens("a", max_completion_tokens=700) >= 700
    assert tokens("a", max_tokens="many") < 50


def test_a_renamed_parameter_is_renamed_for_that_model_only() -> None:
    """After one refusal every later body has the new word, with the same value."""
    composer = Composer("m", {"max_tokens": 9})
    again, news = composer.correct(composer.compose(Record("1", "a")), "max_tokens")
    assert again
    assert news == "m does not take max_tokens: sent as max_completion_tokens instead"
    body = body_of(composer.compose(Record("2", "a")))
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 9
    other = body_of(composer.compose(Record("3", "a", params={"model": "n"})))
    assert (other["max_tokens"], "max_completion_tokens" in other) == (9, False)


def test_the_older_word_where_the_newer_is_refused() -> None:
    """Compatible servers that know max_tokens only get that."""
    composer = Composer("m", {"max_completion_tokens": 9})
    assert composer.correct(composer.compose(Record("1", "a")), "max_completion_tokens")[0]
    assert body_of(composer.compose(Record("2", "a")))["max_tokens"] == 9


def test_a_value_of_the_right_word_is_not_overwritten() -> None:
    """A row that gives both words keeps the one that the model takes."""
    composer = Composer("m", {"max_tokens": 9})
    composer.correct(composer.compose(Record("1", "a")), "max_tokens")
    body = body_of(composer.compose(Record("2", "a", params={"max_completion_tokens": 5})))
    assert body["max_completion_tokens"] == 5


@pytest.mark.parametrize("param", ["temperature", "top_p", "presence_penalty", "frequency_penalty"])
def test_what_only_colours_an_answer_is_left_out(param: str) -> None:
    """Said once, however many rows meet the refusal."""
    composer = Composer("m", {param: 0.5})
    early = [composer.compose(Record(str(n), "a")) for n in range(3)]
    told = [composer.correct(request, param) for request in early]
    assert told == [
        (True, f"m does not take {param}: left out for the whole run"),
        (True, None),
        (True, None),
    ]
    assert param not in body_of(composer.compose(Record("9", "a")))


@pytest.mark.parametrize(
    "param", ["response_format", "messages", "model", "tools", "", "max_tokens"]
)
def test_nothing_else_is_corrected(param: str) -> None:
    """A parameter that changes what an answer is, or that was not sent, is the row's fault."""
    composer = Composer("m", {"response_format": {"type": "json_object"}, "tools": []})
    request = composer.compose(Record("1", "a"))
    assert composer.correct(request, param) == (False, None)
    assert composer.compose(Record("1", "a")) == request


def test_both_words_refused_leaves_nothing_to_try() -> None:
    """The second refusal is final: no dance between two words."""
    composer = Composer("m", {"max_tokens": 9})
    composer.correct(composer.compose(Record("1", "a")), "max_tokens")
    second = composer.compose(Record("1", "a"))
    assert composer.correct(second, "max_completion_tokens") == (False, None)
