"""Keys are shown as labels, and texts from outside are cleaned of them."""

from __future__ import annotations

import copy
import json
import pickle
import traceback

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import KEYS

from jsonl_runner.secret import MIN_SECRET_LENGTH, Redactor, Secret, without_login

KEY_CHARS = "abcXYZ019-_"


def redactor_of(*keys: str) -> Redactor:
    return Redactor(Secret(key, n) for n, key in enumerate(keys, 1))


def test_a_secret_is_printed_as_its_label() -> None:
    """str, repr, f-string, a list of them: position and last four characters, nothing else."""
    secret = Secret(KEYS[0], 3)
    shown = f"{secret} {secret!r} {[secret]} { ({'key': secret}) }"
    assert shown.count("#3(…0001)") == 4
    assert KEYS[0][:-4] not in shown
    assert secret.reveal() == KEYS[0]


def test_a_traceback_with_a_secret_in_it_shows_its_label() -> None:
    """An exception that carries the object does not carry the key."""
    error = ValueError("no luck with", Secret(KEYS[0], 1))
    text = "".join(traceback.format_exception(error))
    assert "#1(…0001)" in text
    assert KEYS[0] not in text


def test_a_secret_is_not_written_into_files() -> None:
    """Pickle, copy and JSON refuse it; there are no attributes to list."""
    secret = Secret(KEYS[0], 1)
    with pytest.raises(TypeError, match="not written into files"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy([secret])
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert not hasattr(secret, "__dict__")


@given(
    keys=st.lists(st.text(KEY_CHARS, min_size=MIN_SECRET_LENGTH, max_size=14), min_size=1),
    parts=st.lists(st.text(KEY_CHARS + " :/…#()é", max_size=8)),
    picks=st.lists(st.integers(0, 99)),
)
def test_no_key_is_left_in_any_text(keys: list[str], parts: list[str], picks: list[int]) -> None:
    """For every set of keys and every text around them, none of them is left."""
    text = "".join(part + keys[pick % len(keys)] for part, pick in zip(parts, picks, strict=False))
    assume(text)
    cleaned = redactor_of(*keys)(text)
    assert not any(key in cleaned for key in keys)


@given(st.text(" abcdefg.,:", max_size=60))
def test_a_text_without_keys_stays_as_it_is(text: str) -> None:
    """For every text without a key or a login, nothing is changed."""
    assert redactor_of(*KEYS)(text) == text


def test_the_label_stands_where_the_key_was() -> None:
    """The user sees which key was meant, however often and wherever it stood."""
    clean = redactor_of(*KEYS)
    assert clean(f"{KEYS[1]}: no, Bearer {KEYS[0]}!{KEYS[0]}") == (
        "#2(…0002): no, Bearer #1(…0001)!#1(…0001)"
    )


def test_a_key_that_begins_another_leaves_no_rest_of_it() -> None:
    """The longer one is found first, whatever their order."""
    short, long = "sk-abcdefgh", "sk-abcdefgh-more-of-it"
    assert redactor_of(short, long)(f"key {long}.") == "key #2(…f-it)."
    assert redactor_of(long, short)(f"key {long}.") == "key #1(…f-it)."


def test_keys_are_no_patterns() -> None:
    """A key with characters of a regular expression is taken as it is."""
    assert redactor_of("a.c+(d)*[e]")("a.c+(d)*[e] abc+(d)*[e]") == "#1(…*[e]) abc+(d)*[e]"


def test_a_placeholder_is_no_secret() -> None:
    """`EMPTY` for a server that checks no keys does not spoil messages."""
    assert redactor_of("EMPTY", "none")("the answer is EMPTY, none came") == (
        "the answer is EMPTY, none came"
    )
    assert Redactor([])("text") == "text"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("http://me:pass@proxy:3128/x", "http://…@proxy:3128/x"),
        ("socks5h://me@h failed", "socks5h://…@h failed"),
        ("http://host/a@b", "http://host/a@b"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_logins_in_addresses_are_taken_out(text: str, cleaned: str) -> None:
    """What stands before the @ of an address is a login; other @ are not."""
    assert without_login(text) == cleaned
    assert redactor_of(*KEYS)(text) == cleaned


def test_a_password_with_an_at_sign_is_taken_out_whole() -> None:
    """A proxy may be `http://me:p@ss@proxy` to curl: the rest must not stay in a message."""
    assert "ss" not in without_login("http://me:p@ss@proxy:3128")
