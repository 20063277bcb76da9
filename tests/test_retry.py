"""What an answer means: DESIGN section 4, row by row, from status, code, type and headers."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner import backoff, jsontext
from jsonl_runner.attempts import AttemptError, Kind, Reply, Verdict
from jsonl_runner.errors import TransportError
from jsonl_runner.retry import classify, classify_exception, classify_failure

if TYPE_CHECKING:
    from jsonl_runner.simulator import Simulator

WALL = 1_800_000_000.0


def reply(status: int, body: object = b"", **headers: str) -> Reply:
    """An answer; header names are given with underscores."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", *lines, "", ""]).encode()
    return Reply(status, head, body if isinstance(body, bytes) else json.dumps(body).encode())


def refused(status: int, **error: Any) -> Verdict:
    return classify(reply(status, {"error": {"message": "words", **error}}), WALL)


def answered(message: object, **more: Any) -> Verdict:
    return classify(reply(200, {"choices": [{"message": message, **more}]}), WALL)


@pytest.mark.parametrize(
    ("status", "error", "kind", "code"),
    [
        (429, {"code": "rate_limit_exceeded"}, Kind.RATE_LIMITED, "rate_limit_exceeded"),
        (429, {}, Kind.RATE_LIMITED, "http_429"),
        (503, {"code": "slow_down"}, Kind.RATE_LIMITED, "slow_down"),
        (529, {"type": "overloaded_error"}, Kind.RATE_LIMITED, "overloaded_error"),
        (401, {}, Kind.KEY_FINISHED, "http_401"),
        (402, {}, Kind.KEY_FINISHED, "http_402"),
        (403, {"code": "access_terminated"}, Kind.KEY_FINISHED, "access_terminated"),
        (429, {"code": "insufficient_quota"}, Kind.KEY_FINISHED, "insufficient_quota"),
        (429, {"type": "insufficient_quota"}, Kind.KEY_FINISHED, "insufficient_quota"),
        (429, {"code": "credit_balance_exhausted"}, Kind.KEY_FINISHED, "credit_balance_exhausted"),
        (429, {"code": "org_spend_limit_hit"}, Kind.KEY_FINISHED, "org_spend_limit_hit"),
        (400, {"code": "api_usage_limit_hit"}, Kind.KEY_FINISHED, "api_usage_limit_hit"),
        (408, {}, Kind.TRANSIENT, "http_408"),
        (409, {}, Kind.TRANSIENT, "http_409"),
        (425, {}, Kind.TRANSIENT, "http_425"),
        (500, {"type": "server_error"}, Kind.TRANSIENT, "server_error"),
        (502, {}, Kind.TRANSIENT, "http_502"),
        (504, {}, Kind.TRANSIENT, "http_504"),
        (204, {}, Kind.TRANSIENT, "http_204"),
        (400, {"code": "context_length_exceeded"}, Kind.ROW_FAULT, "context_length_exceeded"),
        (413, {}, Kind.ROW_FAULT, "http_413"),
        (422, {}, Kind.ROW_FAULT, "http_422"),
        (404, {"code": "model_not_found"}, Kind.NO_MODEL, "model_not_found"),
        (404, {"code": "unknown_url"}, Kind.WRONG_ENDPOINT, "unknown_url"),
        (404, {}, Kind.WRONG_ENDPOINT, "http_404"),
        (405, {}, Kind.WRONG_ENDPOINT, "http_405"),
        (407, {}, Kind.WRONG_ENDPOINT, "http_407"),
    ],
)
def test_every_class_of_error(status: int, error: dict[str, str], kind: Kind, code: str) -> None:
    """Each row of the table, and the code that the call log will show."""
    verdict = refused(status, **error)
    assert (verdict.kind, verdict.code) == (kind, code)
    assert verdict.message == f"HTTP {status}: words"


def test_a_message_alone_decides_nothing() -> None:
    """A 400 whose text speaks of rate limits and quotas is still the row's own fault."""
    verdict = refused(400, message="Rate limit: insufficient_quota, invalid_api_key, 429")
    assert verdict.kind is Kind.ROW_FAULT


@pytest.mark.parametrize("code", ["unsupported_parameter", "unsupported_value"])
def test_a_refused_parameter_is_named(code: str) -> None:
    """A 400 about a parameter says which; without a name it is the row's own fault."""
    verdict = refused(400, code=code, param="temperature")
    assert (verdict.kind, verdict.param) == (Kind.REFUSED_PARAM, "temperature")
    assert refused(400, code=code).kind is Kind.ROW_FAULT
    assert refused(400, code=code, param=7).kind is Kind.ROW_FAULT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after": "7"}, 7),
        ({"Retry_After": "1.5"}, 1.5),
        ({"retry_after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30),
        ({"retry_after_ms": "-1", "retry_after": "soon"}, None),
        ({"retry_after": "0"}, None),
        (
            {
                "x_ratelimit_limit_requests": "60",
                "x_ratelimit_remaining_requests": "0",
                "x_ratelimit_reset_requests": "6m0s",
                "x_ratelimit_limit_tokens": "1000",
                "x_ratelimit_remaining_tokens": "900",
                "x_ratelimit_reset_tokens": "2h",
            },
            360,
        ),
        (
            {
                "anthropic_ratelimit_requests_limit": "50",
                "anthropic_ratelimit_requests_remaining": "0",
                "anthropic_ratelimit_requests_reset": "2027-01-15T08:01:00Z",
            },
            60,
        ),
        ({}, None),
    ],
)
def test_how_long_a_refusal_lasts(headers: dict[str, str], seconds: float | None) -> None:
    """retry-after-ms goes before Retry-After, and both before the reset of an empty limit."""
    verdict = classify(reply(429, {"error": {}}, **headers), WALL)
    assert verdict.retry_after_s == (None if seconds is None else pytest.approx(seconds))


def test_a_503_may_ask_for_time_and_an_answer_may_not() -> None:
    """Retry-After counts on what is tried again and on nothing else."""
    assert classify(reply(503, retry_after="4"), WALL).retry_after_s == 4
    assert classify(reply(400, retry_after="4"), WALL).retry_after_s is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed"),
        (b"   ", "malformed"),
        (b'{"choices": [{"mess', "malformed"),
        (b"[]", "malformed"),
        (b"null", "malformed"),
        (b"\xff\xfe\x00", "malformed"),
        (b"<!DOCTYPE html><p>Sign in", "not_json"),
        (b"{}", "no_choices"),
        (b'{"choices": []}', "no_choices"),
        (b'{"choices": null}', "no_choices"),
        (b'{"choices": {"0": 1}}', "no_choices"),
        (b'{"choices": [7]}', "no_choices"),
        (b'{"choices": [{"message": null}]}', "no_choices"),
        (b'{"choices": [{"message": "text"}]}', "no_choices"),
        (b'{"error": {"message": "upstream", "code": 502}}', "http_502"),
        (b'{"error": {"message": "x", "code": "upstream_error"}}', "upstream_error"),
        (b'{"error": "a text"}', "http_500"),
        (b'{"error": {"message": "x", "code": 404}}', "http_404"),
    ],
)
def test_a_200_that_is_no_answer_is_tried_again(body: bytes, code: str) -> None:
    """Success is a choice with a message in it, nothing less."""
    verdict = classify(reply(200, body), WALL)
    assert (verdict.kind, verdict.code) == (Kind.TRANSIENT, code)
    assert verdict.message


def test_an_error_in_a_200_means_what_its_code_says() -> None:
    """A gateway's 200 with an upstream's 429 cools the key, with a 401 retires it."""

    def inside(code: object) -> Kind:
        return classify(reply(200, {"error": {"code": code, "message": "x"}}), WALL).kind

    assert inside(429) is Kind.RATE_LIMITED
    assert inside("401") is Kind.KEY_FINISHED
    assert inside("insufficient_quota") is Kind.KEY_FINISHED
    assert inside(413) is Kind.ROW_FAULT
    assert inside(200) is Kind.TRANSIENT


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "hello"}, "hello"),
        ({"content": " kept as it is \n"}, " kept as it is \n"),
        ({"content": [{"type": "text", "text": "a"}, {"text": "b"}, {"x": 1}, 5]}, "ab"),
        ({"content": None, "tool_calls": [{"id": "c"}]}, '[{"id":"c"}]'),
        ({"content": "", "tool_calls": [{"id": "c"}]}, '[{"id":"c"}]'),
        (
            {"content": "hm", "tool_calls": [{"id": "c"}]},
            '{"content":"hm","tool_calls":[{"id":"c"}]}',
        ),
        ({"content": "hello", "tool_calls": []}, "hello"),
    ],
)
def test_the_text_of_an_answer(message: dict[str, Any], text: str) -> None:
    """Content, its text parts, or the tool calls as JSON: of what was said with them, too."""
    verdict = answered(message, finish_reason="stop")
    assert verdict.kind is Kind.OK
    assert verdict.answer is not None
    assert verdict.answer.text == text


@pytest.mark.parametrize(
    ("message", "finish", "code"),
    [
        ({"content": ""}, "stop", "empty_answer"),
        ({"content": " \n"}, "stop", "empty_answer"),
        ({"content": None}, "stop", "empty_answer"),
        ({}, None, "empty_answer"),
        ({"content": ["text"]}, "stop", "empty_answer"),
        ({"content": None, "refusal": "No."}, "stop", "refusal"),
        ({"content": "half"}, "content_filter", "content_filter"),
    ],
)
def test_an_answer_of_no_use_is_the_rows_fault(
    message: dict[str, Any], finish: str | None, code: str
) -> None:
    """It was billed, so it is null with its reason, and its answer is kept for the books."""
    verdict = answered(message, finish_reason=finish)
    assert (verdict.kind, verdict.code) == (Kind.ROW_FAULT, code)
    assert verdict.answer is not None


def test_an_answer_cut_off_is_kept_and_marked() -> None:
    """finish_reason length: the text is an output; with no text at all, the reason is said."""
    verdict = answered({"content": "half"}, finish_reason="length")
    assert (verdict.kind, verdict.message) == (Kind.OK, "cut off at max_tokens")
    empty = answered({"content": ""}, finish_reason="length")
    assert empty.kind is Kind.ROW_FAULT
    assert "raise it" in empty.message


def test_a_lone_surrogate_spoils_no_answer() -> None:
    """Half an emoji becomes U+FFFD; whole ones, escaped or not, stay."""
    verdict = classify(
        reply(200, b'{"choices":[{"message":{"content":"a\\ud83d b\\ud83d\\ude00"}}]}'), WALL
    )
    assert verdict.answer is not None
    assert verdict.answer.text == "a\ufffd b\U0001f600"


@given(st.recursive(st.none() | st.booleans() | st.integers(0, 2**60) | st.text(), st.lists))
def test_reading_json_gives_back_every_value(value: object) -> None:
    """For every JSON value, reading what was written gives the same."""
    assert jsontext.load(json.dumps(value).encode()) == value


@given(st.text(st.characters(categories=["L", "N", "Cs"]), max_size=20))
def test_every_text_read_can_be_written(text: str) -> None:
    """For every text, lone surrogates too, what is read fits into UTF-8."""
    found = jsontext.load(json.dumps({text: [text]}).encode())
    assert json.dumps(found, ensure_ascii=False).encode("utf-8")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "choices", "message", "content", "code", "type", "param", "usage"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    status=st.sampled_from([200, 204, 307, 400, 401, 404, 429, 500, 529]),
    body=st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()),
    head=st.binary(max_size=60),
)
def test_classify_has_a_verdict_on_everything(status: int, body: bytes, head: bytes) -> None:
    """For every answer a server may send there is a verdict on one line, never an exception."""
    verdict = classify(Reply(status, head, body), WALL)
    assert "\n" not in verdict.message
    assert (verdict.kind is Kind.OK) <= (status == 200)


DEEP = b'{"choices": [{"message": {"tool_calls": ' + b"[" * 400 + b"]" * 400 + b"}}]}"
BIG = b'{"choices": [{"message": {"tool_calls": [[18446744073709551616, "\\ud83d"]]}}]}'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="nested too deep"),
        pytest.param(b'{"\\ud83d": ' * 100_000, id="half an emoji, nested too deep"),
        pytest.param('{"error": {"code": "²"}}'.encode(), id="no number"),
        pytest.param(b'{"error": {"code": "' + b"4" * 5000 + b'"}}', id="endless"),
        pytest.param(DEEP, id="deep tool calls"),
        pytest.param(BIG, id="big number beside half an emoji"),
    ],
)
def test_hostile_bodies_have_a_verdict(body: bytes) -> None:
    """Bodies made to break a parser are an answer like any other."""
    assert classify(reply(200, body), WALL).kind in Kind


def test_an_html_error_page_does_not_fill_the_log() -> None:
    """A proxy's page becomes half a line."""
    page = classify(reply(502, b"<html>" + b"x" * 9000), WALL)
    assert page.message == "HTTP 502: an HTML page, not the API's JSON"


def test_a_redirect_is_named_without_its_query() -> None:
    """A redirect stops the run and says where to; what follows `?` may hold a secret."""
    verdict = classify(reply(307, location="https://other.example/v1?token=secret"), WALL)
    assert verdict.kind is Kind.WRONG_ENDPOINT
    assert "https://other.example/v1:" in verdict.message
    assert "secret" not in verdict.message


def test_the_headers_of_a_proxy_are_not_the_servers() -> None:
    """Of several header blocks (CONNECT, 100 Continue) the last one counts."""
    head = b"HTTP/1.1 200 OK\r\nRetry-After: 9\r\n\r\nHTTP/1.1 429 X\r\nretry-after: 2\r\n\r\n"
    assert classify(Reply(429, head, b""), WALL).retry_after_s == 2


@pytest.mark.parametrize(
    ("code", "connected", "kind"),
    [
        ("refused", False, Kind.UNREACHABLE),
        ("dns", False, Kind.UNREACHABLE),
        ("timeout", True, Kind.TRANSIENT),
        ("reset", True, Kind.TRANSIENT),
        ("tls", False, Kind.WRONG_ENDPOINT),
        ("url", False, Kind.WRONG_ENDPOINT),
    ],
)
def test_attempts_without_an_answer(code: str, connected: bool, kind: Kind) -> None:  # noqa: FBT001
    """Before a connection the row loses nothing; after it, a retry; a wrong address ends all."""
    verdict = classify_failure(TransportError(code, "words", connected=connected))
    assert (verdict.kind, verdict.code, verdict.message) == (kind, code, "words")


@pytest.mark.parametrize(
    ("fault", "kind", "wait_s"),
    [
        ("429", Kind.RATE_LIMITED, 1),
        ("insufficient_quota", Kind.KEY_FINISHED, None),
        ("401", Kind.KEY_FINISHED, None),
        ("context_length", Kind.ROW_FAULT, None),
        ("500", Kind.TRANSIENT, None),
        ("close", Kind.TRANSIENT, None),
    ],
)
def test_exceptions_of_the_openai_sdk_mean_what_their_answer_means(
    simulator: Simulator, fault: str, kind: Kind, wait_s: float | None
) -> None:
    """A user's function may raise the SDK's own errors: same classes, same waits."""
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-one", max_retries=0) as client:
        with pytest.raises(openai.APIError) as caught:
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": f"[[fault:{fault}]]"}]
            )
        verdict = classify_exception(caught.value, WALL)
    assert (verdict.kind, verdict.retry_after_s) == (kind, wait_s)


def test_exceptions_of_any_kind_may_be_tried_again() -> None:
    """What nobody knows is transient and names its type; an AttemptError brings its verdict."""
    verdict = classify_exception(ValueError("two\nlines"), WALL)
    assert (verdict.kind, verdict.code) == (Kind.TRANSIENT, "ValueError")
    assert verdict.message == "ValueError: two lines"
    known = Verdict(Kind.ROW_FAULT, "refusal", "No.")
    assert classify_exception(AttemptError(known), WALL) is known


@given(
    base_s=st.floats(0.001, 10),
    cap_s=st.floats(0.001, 100),
    tries=st.integers(0, 5000),
    seed=st.integers(0, 99),
)
def test_full_jitter_stays_within_its_bounds(
    base_s: float, cap_s: float, tries: int, seed: int
) -> None:
    """For every try, the wait lies between 0 and min(cap, base x 2^tries)."""
    wait_s = backoff.Backoff(base_s, cap_s).wait_s(tries, random.Random(seed))
    assert 0 <= wait_s <= min(cap_s, base_s * 2.0 ** min(tries, 60))


def test_full_jitter_uses_its_whole_range() -> None:
    """A crowd is spread from zero to the end, not around a middle."""
    rng = random.Random(1)
    waits = [backoff.ROW.wait_s(9, rng) for _ in range(1000)]
    assert min(waits) < 1
    assert max(waits) > 29
    assert 13 < sum(waits) / 1000 < 17
