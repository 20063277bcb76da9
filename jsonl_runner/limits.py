"""Reading what providers say about their limits: durations and rate limit headers.

Formats in the wild: Go durations (`6m0s`, `20ms`; OpenAI, Groq, Mistral), plain numbers of seconds
(Azure), RFC 3339 times (Anthropic), HTTP dates in Retry-After (RFC 9110, section 10.2.3).
"""

from __future__ import annotations

import functools
import math
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .attempts import RateLimit, RateLimits

if TYPE_CHECKING:
    from .attempts import Reply

#: Seconds. Longest wait a header is believed about: a daily limit resets within a day, anything
#: longer is a time stamp or a mistake.
MAX_WAIT_S = 86_400.0 * 1.1

_UNIT_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns|[dhms])")
#: `x-ratelimit-limit-requests` (OpenAI and most), `anthropic-ratelimit-requests-limit`, in lower
#: case, with the value in ASCII.
_HEADERS = re.compile(
    rb"\n(?:x-ratelimit-(limit|remaining|reset)-(requests|tokens)"
    rb"|anthropic-ratelimit-(requests|tokens)-(limit|remaining|reset))"
    rb":[ \t]*([!-~]*)"
)


def parse_wait(value: str | None, wall: float) -> float | None:
    """Return the seconds a header value asks to wait; None for what makes no sense.

    Args:
        value: a number of seconds, a Go duration, an RFC 3339 time or an HTTP date.
        wall: the present, in seconds since 1970 (for the two forms that name a moment).
    """
    if not value:
        return None
    seconds = parse_duration(value)
    if seconds is None:
        seconds = _moment(value, wall)
    return seconds if seconds is not None and 0 <= seconds <= MAX_WAIT_S else None


@functools.lru_cache(maxsize=1024)  # the same few come with every answer
def parse_duration(value: str) -> float | None:
    """Return a number of seconds, or a duration such as `7d` or `1h30m`, in seconds; else None."""
    number = _number(value)
    if number is not None:
        return number
    parts = _DURATION.findall(value)
    if parts and "".join(amount + unit for amount, unit in parts) == value:
        return sum(float(amount) * _UNIT_S[unit] for amount, unit in parts)
    return None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _moment(value: str, wall: float) -> float | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        from email.utils import parsedate_to_datetime  # noqa: PLC0415  # 15 ms, rarely needed

        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
    if moment.tzinfo is None:
        return None
    # Clocks differ by a second or so: a moment just gone means "now", not nonsense.
    return max(0.0, moment.timestamp() - wall) if moment.timestamp() > wall - 5 else None


def retry_after(reply: Reply, wall: float) -> float | None:
    """Return the seconds the server asks to wait before the next call, None if it does not say.

    `retry-after-ms` is more exact than `Retry-After` and goes first. Zero and negative values
    (seen from Azure) say nothing.
    """
    milliseconds = _number(reply.header("retry-after-ms") or "")
    if milliseconds is not None and 0 < milliseconds <= MAX_WAIT_S * 1000:
        return milliseconds / 1000
    return parse_wait(reply.header("retry-after"), wall) or None


def rate_limits(reply: Reply, wall: float) -> RateLimits | None:
    """Return what the headers say of the key's limits, None when they say nothing."""
    raw = reply.raw_headers
    lower = raw.lower()
    if b"ratelimit-" not in lower:
        return None
    # Picked out of the raw headers: to parse all of them costs as much as the call.
    found = {
        (match[1] or match[4], match[2] or match[3]): raw[match.start(5) : match.end(5)].decode()
        for match in _HEADERS.finditer(lower)
    }
    requests = _limit_of(found, b"requests", wall)
    tokens = _limit_of(found, b"tokens", wall)
    return RateLimits(requests, tokens) if requests or tokens else None


def _limit_of(found: dict[tuple[bytes, bytes], str], kind: bytes, wall: float) -> RateLimit | None:
    limit = _number(found.get((b"limit", kind), ""))
    remaining = _number(found.get((b"remaining", kind), ""))
    if limit is None or remaining is None or limit <= 0:
        return None
    reset_s = parse_wait(found.get((b"reset", kind)), wall)
    return RateLimit(limit, max(0.0, remaining), reset_s)


def exhausted_reset(limits: RateLimits | None) -> float | None:
    """Return the seconds until the longest exhausted limit is whole again, None if none is."""
    waits = [
        limit.reset_s for limit in limits or () if limit and limit.remaining < 1 and limit.reset_s
    ]
    return max(waits, default=None)


def in_words(seconds: float) -> str:
    """Return a duration for people: `0.4 s`, `41 s`, `3:07 min`, `5:02 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = timedelta(seconds=round(seconds))
    total = int(whole.total_seconds())
    if total < 100:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60}:{total % 60:02} min"
    return f"{total // 3600}:{total // 60 % 60:02} h"
