"""Reading what providers say about waits and limits, and saying it to people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jsonl_runner.attempts import RateLimit, RateLimits, Reply
from jsonl_runner.limits import (
    MAX_WAIT_S,
    exhausted_reset,
    in_words,
    parse_wait,
    rate_limits,
    retry_after,
)
from jsonl_runner.simulator.limits import go_duration

WALL = datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC).timestamp()


def reply(**headers: str) -> Reply:
    lines = (f"{name.replace('_', '-')}: {value}" for name, value in headers.items())
    return Reply(429, "\r\n".join(["HTTP/1.1 429 X", *lines, "", ""]).encode("latin-1"), b"")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("6m0s", 360),
        ("20ms", 0.02),
        ("1s", 1),
        ("1.5s", 1.5),
        ("1h30m0s", 5400),
        ("1d", 86_400),
        ("250us", 0.00025),
        ("0s", 0),
        ("7", 7),
        ("0", 0),
        ("59.70", 59.7),
        ("2027-01-15T08:01:00Z", 60),
        ("2027-01-15T09:00:30+01:00", 30),
        ("2027-01-15T08:00:00.500Z", 0.5),
        ("2027-01-15T07:59:58Z", 0),
        ("Fri, 15 Jan 2027 08:00:41 GMT", 41),
        ("Fri, 15 Jan 2027 07:59:58 GMT", 0),
    ],
)
def test_every_form_of_a_wait_is_read(value: str, seconds: float) -> None:
    """Go durations, numbers, RFC 3339 and HTTP dates; a moment just gone means now."""
    assert parse_wait(value, WALL) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "soon",
        "-1",
        "-5s",
        "nan",
        "inf",
        "1e9",
        "5 s",
        "5sec",
        "s",
        "m5",
        "1s later",
        "1800000000",  # a time stamp
        "99d",
        "2027-01-15T08:01:00",  # no time zone
        "2027-01-15",
        "2026-01-15T08:01:00Z",  # a year ago
        "2028-01-15T08:01:00Z",  # in a year
        "Fri, 15 Jan 2027",
        "Fri, 99 Jan 2027 08:00:00 GMT",
    ],
)
def test_nonsense_is_no_wait(value: str | None) -> None:
    """What makes no sense, or would take more than a day, is not believed."""
    assert parse_wait(value, WALL) is None


@given(st.one_of(st.text(max_size=40), st.text("0123456789.-+:TZGMTJanhmsu, ", max_size=40)))
@example("Mon,")
@example("0001-01-01T00:00:00+23:59")
@example("9" * 400 + "s")
def test_no_header_breaks_the_reading(value: str) -> None:
    """For every text the answer is None or a number of seconds within a day and a bit."""
    seconds = parse_wait(value, WALL)
    assert seconds is None or 0 <= seconds <= MAX_WAIT_S


@pytest.mark.parametrize(
    "value",
    ["Mon, 01 Jan 99999999999999 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 +99999999999999"],
)
def test_a_date_out_of_all_bounds_is_no_wait(value: str) -> None:
    """A broken date is nonsense like any other."""
    assert parse_wait(value, WALL) is None


@given(st.integers(0, 86_400_000).map(lambda millis: millis / 1000))
def test_a_duration_is_read_as_it_was_meant(seconds: float) -> None:
    """For every duration up to a day, Go's way of writing it is read back to the millisecond."""
    assert parse_wait(go_duration(seconds), WALL) == pytest.approx(seconds, abs=0.0011)


@given(seconds=st.integers(0, 86_400), zone=st.integers(-12, 14))
def test_a_moment_is_read_in_any_time_zone(seconds: int, zone: int) -> None:
    """For every moment of the next day, RFC 3339 and HTTP dates give the same wait."""
    moment = datetime.fromtimestamp(WALL + seconds, timezone(timedelta(hours=zone)))
    assert parse_wait(moment.isoformat(), WALL) == seconds
    assert parse_wait(format_datetime(moment.astimezone(UTC), usegmt=True), WALL) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        ({"retry_after": "2"}, 2),
        ({"retry_after": "0"}, None),
        ({"retry_after": "-3"}, None),
        ({"retry_after_ms": "0", "retry_after": "3"}, 3),
        ({"retry_after_ms": "NaN", "retry_after": "3"}, 3),
        ({"retry_after_ms": "99999999999"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds go first; zero and less say nothing."""
    assert retry_after(reply(**headers), WALL) == seconds


def test_openai_headers() -> None:
    """Both limits are read: requests and tokens, with their resets."""
    found = rate_limits(
        reply(
            X_RateLimit_Limit_Requests="500",
            x_ratelimit_remaining_requests="499",
            x_ratelimit_reset_requests="120ms",
            x_ratelimit_limit_tokens="200000",
            x_ratelimit_remaining_tokens="199000.0",
            x_ratelimit_reset_tokens="6m0s",
        ),
        WALL,
    )
    assert found == RateLimits(RateLimit(500, 499, 0.12), RateLimit(200_000, 199_000, 360))


def test_anthropic_headers() -> None:
    """The other order of the words, and moments in place of durations."""
    found = rate_limits(
        reply(
            anthropic_ratelimit_requests_limit="50",
            anthropic_ratelimit_requests_remaining="0",
            anthropic_ratelimit_requests_reset="2027-01-15T08:00:09Z",
        ),
        WALL,
    )
    assert found == RateLimits(RateLimit(50, 0, 9), None)
    assert exhausted_reset(found) == 9


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_ratelimit_limit_requests": "500"},
        {"x_ratelimit_limit_requests": "0", "x_ratelimit_remaining_requests": "0"},
        {"x_ratelimit_limit_requests": "-1", "x_ratelimit_remaining_requests": "-1"},
        {"x_ratelimit_limit_requests": "nan", "x_ratelimit_remaining_requests": "3"},
        {"x_ratelimit_limit_requests": "many", "x_ratelimit_remaining_requests": "few"},
    ],
)
def test_half_a_limit_is_none(headers: dict[str, str]) -> None:
    """Without a limit and what remains of it there is nothing to keep to."""
    assert rate_limits(reply(**headers), WALL) is None


def test_a_limit_in_the_red_is_an_empty_one() -> None:
    """Some servers count below zero."""
    found = rate_limits(
        reply(x_ratelimit_limit_tokens="100", x_ratelimit_remaining_tokens="-40"), WALL
    )
    assert found == RateLimits(None, RateLimit(100, 0, None))
    assert exhausted_reset(found) is None


def test_only_empty_limits_make_a_wait() -> None:
    """Of two empty limits the later reset counts, of a full one none."""
    full, empty, later = RateLimit(9, 9, 50), RateLimit(9, 0, 5), RateLimit(9, 0.5, 7)
    assert exhausted_reset(None) is None
    assert exhausted_reset(RateLimits(full, None)) is None
    assert exhausted_reset(RateLimits(full, empty)) == 5
    assert exhausted_reset(RateLimits(empty, later)) == 7


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (0.44, "0.4 s"),
        (41.2, "41 s"),
        (99.4, "99 s"),
        (187, "3:07 min"),
        (3599, "59:59 min"),
        (3600, "1:00 h"),
        (18_120, "5:02 h"),
    ],
)
def test_durations_for_people(seconds: float, words: str) -> None:
    """Short, with a unit."""
    assert in_words(seconds) == words
