"""Lines of providers' result files: every one has an outcome, the same as a live answer's."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jsonl_runner.attempts import Kind, Reply
from jsonl_runner.batch.results import Fate, read_result_line, result_lines
from jsonl_runner.retry import classify

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def completion(text: str | None = "Hi", finish: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "model": "gpt-4.1-mini-2025-04-14",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": USAGE,
    }


def line(body: Any, status: Any = 200, **more: Any) -> bytes:
    """Return a line of OpenAI's output or error file."""
    response = {"status_code": status, "request_id": "req_1", "body": body}
    whole = {"id": "batch_req_1", "custom_id": "a", "response": response, "error": None, **more}
    return json.dumps(whole, ensure_ascii=False).encode()


def anthropic(**result: Any) -> bytes:
    return json.dumps({"custom_id": "a", "result": result}).encode()


def error(code: str | None = None, type_: str | None = None, message: str = "no") -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "code": code, "param": None}}


def test_an_answer() -> None:
    """Text, model, finish reason, usage and the request's id are there."""
    found = read_result_line(line(completion()) + b"\r\n")
    assert (found.custom_id, found.status, found.request_id) == ("a", 200, "req_1")
    assert (found.fate, found.verdict.code, found.verdict.message) == (Fate.DONE, "ok", "")
    assert found.verdict.answer is not None
    assert found.verdict.answer == ("Hi", "stop", "gpt-4.1-mini-2025-04-14", USAGE)


NEVER_RAN = {"response": None, "error": {"code": "batch_expired", "message": "too late"}}


@pytest.mark.parametrize(
    ("given_line", "code", "fate"),
    [
        (line(completion("cut", "length")), "ok", Fate.DONE),
        (line(completion("", "length")), "empty_answer", Fate.LASTING),
        (line(completion("x", "content_filter")), "content_filter", Fate.LASTING),
        (line(json.dumps(completion())), "ok", Fate.DONE),
        (line(completion(), "200"), "ok", Fate.DONE),
        (line(completion(), None), "ok", Fate.DONE),
        # The error in the body, and the line's own error null.
        (line(error("context_length_exceeded"), 400), "context_length_exceeded", Fate.LASTING),
        (line(json.dumps(error("context_length_exceeded")), 400), "context_length_exceeded",
         Fate.LASTING),
        (line(error("rate_limit_exceeded"), 429), "rate_limit_exceeded", Fate.PASSING),
        (line(error("insufficient_quota"), 429), "insufficient_quota", Fate.BLOCKED),
        (line(error("model_not_found"), 404), "model_not_found", Fate.BLOCKED),
        (line(error(None, "server_error"), 500), "server_error", Fate.PASSING),
        (line("upstream timed out", 504), "http_504", Fate.PASSING),
        (line(None, 500), "http_500", Fate.PASSING),
        # Never ran.
        (line(None, **NEVER_RAN), "batch_expired", Fate.PASSING),
        (line(None, response=None, error={"code": "batch_cancelled"}), "batch_cancelled",
         Fate.PASSING),
        (line(None, response=None, error={"code": "invalid_request", "message": "x"}),
         "invalid_request", Fate.LASTING),
        (line(None, response=None, error={"code": "internal", "message": "x"}), "internal",
         Fate.PASSING),
        (line(None, response=None, error={"code": "429"}), "http_429", Fate.PASSING),
        (line(None, response=None, error="boom"), "http_500", Fate.PASSING),
        # Malformed.
        (line(None), "malformed", Fate.PASSING),
        (line(""), "malformed", Fate.PASSING),
        (line({}), "no_choices", Fate.PASSING),
        (line([]), "malformed", Fate.PASSING),
        (line({"choices": []}), "no_choices", Fate.PASSING),
        (line(None, 0), "no_status", Fate.PASSING),
        (line(None, None), "no_status", Fate.PASSING),
        (line(None, 99999999999999999999), "no_status", Fate.PASSING),
        (line(None, True), "no_status", Fate.PASSING),
        (line(None, response=None), "malformed", Fate.PASSING),
        (line(completion())[:-9], "malformed", Fate.PASSING),
        (b'{"custom_id": "a"}', "malformed", Fate.PASSING),
    ],
)  # fmt: skip
def test_every_case_has_its_outcome(given_line: bytes, code: str, fate: Fate) -> None:
    """Whatever a file was seen to hold comes out with a code, and with what to do about it."""
    found = read_result_line(given_line)
    assert (found.custom_id, found.verdict.code, found.fate) == ("a", code, fate)
    assert bool(found.verdict.message) == (found.verdict.kind is not Kind.OK) or code == "ok"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 529])
@pytest.mark.parametrize("code", [None, "insufficient_quota", "unsupported_parameter", "other"])
def test_errors_are_told_apart_as_live(status: int, code: str | None) -> None:
    """The same status and body mean the same in a file as from a connection."""
    body = error(code)
    live = classify(Reply(status, b"", json.dumps(body).encode()), 0.0)
    found = read_result_line(line(body, status)).verdict
    assert (found.kind, found.code, found.message) == (live.kind, live.code, live.message)


def test_answers_of_other_endpoints() -> None:
    """What `/v1/responses` and `/v1/completions` say is an answer too."""
    body: dict[str, Any] = {
        "object": "response",
        "error": None,
        "model": "m",
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
        ],
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 2,
            "total_tokens": 11,
        },
    }
    answer = read_result_line(line(body)).verdict.answer
    assert answer is not None
    assert (answer.text, answer.finish_reason, answer.model) == ("Hi", "stop", "m")
    assert answer.usage == {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    body["incomplete_details"] = {"reason": "max_output_tokens"}
    answer = read_result_line(line(body)).verdict.answer
    assert answer is not None
    assert answer.finish_reason == "length"
    body["error"] = {"code": "server_error", "message": "x"}
    assert read_result_line(line(body)).fate is Fate.PASSING
    old = {"choices": [{"text": "Hi", "finish_reason": "stop"}], "model": "m"}
    answer = read_result_line(line(old)).verdict.answer
    assert answer is not None
    assert answer.text == "Hi"


def test_anthropic_answers() -> None:
    """Text blocks together, their reason and usage in OpenAI's words; cached tokens are input."""
    message = {
        "model": "claude-sonnet-5",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "Good "},
            {"type": "text", "text": "day"},
        ],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 2},
    }
    found = read_result_line(anthropic(type="succeeded", message=message))
    assert (found.custom_id, found.fate, found.status) == ("a", Fate.DONE, 200)
    answer = found.verdict.answer
    assert answer is not None
    assert (answer.text, answer.finish_reason, answer.model) == (
        "Good day", "length", "claude-sonnet-5",
    )  # fmt: skip
    assert answer.usage == {
        "prompt_tokens": 105,
        "completion_tokens": 2,
        "total_tokens": 107,
        "prompt_tokens_details": {"cached_tokens": 100},
    }


def test_anthropic_tool_calls_and_refusals() -> None:
    """A tool call is the output, as live; a refusal is none, whatever text stands before it."""
    use = {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 1}}
    found = read_result_line(anthropic(type="succeeded", message={"content": [use]}))
    assert found.verdict.answer is not None
    (call,) = json.loads(found.verdict.answer.text or "")
    assert call["function"] == {"name": "add", "arguments": '{"a":1}'}
    said = {"content": [{"type": "text", "text": "I will not"}], "stop_reason": "refusal"}
    found = read_result_line(anthropic(type="succeeded", message=said))
    assert (found.fate, found.verdict.code) == (Fate.LASTING, "refusal")
    assert found.verdict.message == "I will not"


@pytest.mark.parametrize(
    ("type_", "message", "fate"),
    [
        ("invalid_request_error", "max_tokens: Field required", Fate.LASTING),
        ("invalid_request_error", "Your credit balance is too low to access", Fate.BLOCKED),
        ("authentication_error", "x", Fate.BLOCKED),
        ("not_found_error", "model: claude-0", Fate.BLOCKED),
        ("rate_limit_error", "x", Fate.PASSING),
        ("overloaded_error", "x", Fate.PASSING),
        ("api_error", "x", Fate.PASSING),
        ("new_error", "x", Fate.PASSING),
    ],
)
def test_anthropic_errors(type_: str, message: str, fate: Fate) -> None:
    """The error lies two levels deep; no credit is no fault of the request."""
    inner = {"type": type_, "message": message}
    found = read_result_line(
        anthropic(type="errored", error={"type": "error", "error": inner, "request_id": "r"})
    )
    assert (found.fate, found.verdict.code, found.request_id) == (fate, type_, "r")
    assert message in found.verdict.message


@pytest.mark.parametrize("kind", ["expired", "canceled"])
def test_anthropic_requests_that_never_ran(kind: str) -> None:
    """They may be sent again."""
    found = read_result_line(anthropic(type=kind))
    assert (found.fate, found.verdict.code) == (Fate.PASSING, f"batch_{kind}")


def test_a_byte_that_is_no_utf_8_does_not_cost_the_answer() -> None:
    """It was paid for: the byte becomes U+FFFD, and the verdict says so."""
    found = read_result_line(line(completion("caf~")).replace(b"~", b"\xe9"))
    assert found.verdict.answer is not None
    assert (found.fate, found.verdict.answer.text) == (Fate.DONE, "caf\ufffd")
    assert "not UTF-8" in found.verdict.message


def test_a_key_in_a_message_is_not_passed_on() -> None:
    """Gateways quote them."""
    secret = "sk-" + "proj-abcdefghijklmnop"
    for body in (error(message=f"bad key {secret}"), f"bad key {secret}"):
        found = read_result_line(line(body, 401))
        assert "bad key sk-…" in found.verdict.message
        assert "abcdefghijklmnop" not in found.verdict.message


def test_lines_end_at_newlines_only() -> None:
    """Other separators of Unicode are text; blank lines are none, and lines keep their numbers."""
    text = "a\u2028b\u0085c\x0cd\re"
    raw = b"\xef\xbb\xbf" + line(completion(text)).replace(b"\\f", b" ").replace(b"\\r", b" ")
    found = list(result_lines(io.BytesIO(raw + b"\n\n  \n" + line(completion("2")))))
    assert [number for number, _ in found] == [1, 4]
    texts = [item.verdict.answer.text for _, item in found if item.verdict.answer]
    assert texts == ["a\u2028b\u0085c d e", "2"]


def test_an_endless_line_is_passed_over() -> None:
    """Its request is named if it can be, and the lines behind it are read."""
    raw = b'{"custom_id": "big", "x": "' + b"y" * 2_000_000 + b'"}\n' + line(completion())
    first, second = (item for _, item in result_lines(io.BytesIO(raw), max_line_bytes=1_000_000))
    assert (first.custom_id, first.verdict.code) == ("big", "malformed")
    assert "longer than" in first.verdict.message
    assert second.fate is Fate.DONE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(
        ["succeeded", "errored", "text", "200", "length"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            ["error", "choices", "output", "incomplete_details", "message", "content", "type",
             "code", "usage", "text", "response", "status_code", "body", "stop_reason",
             "tool_calls", "refusal", "finish_reason"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.binary(max_size=60))
@example(b"[" * 100_000)
@example(b'{"custom_id":"a","x":"\\ud800",' + b'"y":[' * 900 + b"]" * 900 + b"}")
def test_any_bytes_have_an_outcome(raw: bytes) -> None:
    """For every line of bytes: a ResultLine, never an exception."""
    assert read_result_line(raw).fate in Fate


@given(st.sampled_from(["response", "error", "result"]), JSON, JSON, st.integers(0, 600))
def test_any_json_has_an_outcome(name: str, value: Any, body: Any, status: int) -> None:
    """For every JSON value in any place of a line."""
    for data in ({name: value}, {"response": {"status_code": status, "body": body}, name: value}):
        assert read_result_line(json.dumps(data).encode()).fate in Fate
