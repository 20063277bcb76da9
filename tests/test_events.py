"""Events put together: however they are cut, they make the completion they stand for."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner.attempts import Kind
from jsonl_runner.errors import TransportError
from jsonl_runner.events import EventParser, StreamedCompletion
from jsonl_runner.retry import read_completion
from jsonl_runner.simulator.answers import completion
from jsonl_runner.simulator.events import events_of


def parsed(*chunks: bytes) -> list[bytes]:
    parser = EventParser()
    found = [data for chunk in chunks for data in parser.feed(chunk)]
    return found + list(parser.finish())


def told(*chunks: bytes) -> tuple[dict[str, Any], list[str]]:
    texts: list[str] = []
    stream = StreamedCompletion(texts.append)
    for chunk in chunks:
        stream.feed(chunk)
    return stream.result(), texts


def event(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return f"data: {json.dumps({'model': 'm', 'choices': [choice], **more})}\n\n".encode()


DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata:b\r\n\r\n", [b"a", b"b"]),
        (b": ping\n\n: ping\n\ndata: a\n: ping\ndata:  b\n\n", [b"a\n b"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\nevent: y\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\ndata: b", [b"a", b"b"]),
        (b"\n\n\ndata: a\n\n\n", [b"a"]),
        (b'{"choices":\n "data: x"}', []),
        (b"", []),
    ],
)
def test_what_an_event_is(body: bytes, data: list[bytes]) -> None:
    """Lines end with either; comments and other fields are left out; the last may lack its end."""
    assert parsed(body) == data
    assert parsed(*(body[at : at + 1] for at in range(len(body)))) == data


@given(st.text(max_size=40), st.data())
def test_cut_anywhere_it_is_the_same(text: str, data: st.DataObject) -> None:
    """In the middle of a line, of an escape, of a character."""
    whole = completion({"model": "m", "messages": []}, 1, content=text or "x")
    body = b"".join(events_of(whole, with_usage=True))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    edges = [0, *cuts, len(body)]
    found, texts = told(*(body[a:b] for a, b in itertools.pairwise(edges)))
    assert "".join(texts) == (text or "x")
    assert found["choices"][0]["message"]["content"] == (text or "x")
    assert (found["usage"], found["model"]) == (whole["usage"], "m")
    assert found["choices"][0]["finish_reason"] == "stop"


def test_tools_and_refusals_come_in_pieces_too() -> None:
    """Arguments and refusals are put together; they are no text to be heard."""
    wanted = [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Rome"}'}},
        {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    whole = completion({"model": "m"}, 1, content=None, refusal="no, thanks", tool_calls=wanted)
    found, texts = told(b"".join(events_of(whole, with_usage=False)))
    message = found["choices"][0]["message"]
    assert (message["tool_calls"], message["refusal"]) == (wanted, "no, thanks")
    assert (message["content"], texts) == (None, [])


def test_half_an_emoji_in_each_of_two_pieces() -> None:
    """They are joined, in what is heard as well; one that stays alone is mended."""
    halves = event({"content": "a\ud83d"}), event({"content": "\ude42b"}, "stop")
    found, texts = told(*halves, DONE)
    assert (found["choices"][0]["message"]["content"], "".join(texts)) == ("a🙂b", "a🙂b")
    found, texts = told(halves[0], event(finish="stop"))
    assert (found["choices"][0]["message"]["content"], "".join(texts)) == ("a\ufffd", "a\ufffd")


def test_an_error_among_the_events() -> None:
    """It is the answer, whatever came before; it is judged as one inside an HTTP 200."""
    error = b'data: {"error": {"message": "overloaded", "code": "upstream_error"}}\n\n'
    found, texts = told(event({"content": "half"}), error, event({"content": "more"}), DONE)
    verdict = read_completion(found)
    assert (verdict.kind, verdict.code, texts) == (Kind.TRANSIENT, "upstream_error", ["half"])
    spent = b'data: {"error": {"message": "x", "code": "insufficient_quota"}}\n\n'
    assert read_completion(told(spent)[0]).kind is Kind.KEY_FINISHED


@pytest.mark.parametrize(
    ("chunks", "code"),
    [
        ((event({"content": "half"}),), "cut_off"),
        ((event({"content": "half"}), b'data: {"choices"'), "malformed"),
        ((event({"content": "half"}), b"data: [1]\n\n"), "malformed"),
        ((b": ping\n\n",), "cut_off"),
    ],
)
def test_a_stream_that_is_not_whole(chunks: tuple[bytes, ...], code: str) -> None:
    """No end, no JSON: the attempt failed, and the server may have billed it."""
    with pytest.raises(TransportError) as caught:
        told(*chunks)
    assert (caught.value.code, caught.value.connected) == (code, True)


@pytest.mark.parametrize("end", [(event(finish="stop"),), (DONE,), (event(finish="stop"), DONE)])
def test_either_end_will_do(end: tuple[bytes, ...]) -> None:
    """Some servers leave out [DONE], some the reason."""
    found, texts = told(event({"role": "assistant", "content": "hi"}), *end)
    assert (read_completion(found).kind, texts) == (Kind.OK, ["hi"])


def test_other_choices_are_not_heard() -> None:
    """With n above one, the first counts; what makes no sense is left out."""
    other = json.dumps({"choices": [{"index": 1, "delta": {"content": "no"}}, None]}).encode()
    odd = b'data: {"choices": null}\n\ndata: {"choices": [{"delta": null}]}\n\n'
    found, texts = told(b"data: " + other + b"\n\n", odd, event({"content": "yes"}, "stop"))
    assert (len(found["choices"]), texts) == (1, ["yes"])
    assert read_completion(told(DONE)[0]).code == "no_choices"
