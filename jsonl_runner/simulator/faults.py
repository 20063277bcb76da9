"""The fault kinds, and how a call comes by one: for its key, by a marker in its text, by chance.

What a kind sends is in `fault_answers` (complete answers) and `breakage` (broken ones).
"""

from __future__ import annotations

import difflib
import random
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Answered with a complete error; these come at once, as a provider's own refusals do.
REFUSALS = (
    "429",
    "429_bare",
    "slow_down",
    "401",
    "deactivated",
    "insufficient_quota",
    "credit_balance_exhausted",
    "403",
    "404_model",
    "400",
    "context_length",
    "content_policy",
    "unsupported_parameter",
    "408",
    "409",
    "413",
    "422",
    "key_echo",
    "redirect",
)
# Answered completely but badly, after the latency a good answer would have had.
BAD_ANSWERS = (
    "500",
    "502_html",
    "503",
    "529",
    "empty",
    "malformed",
    "html",
    "error_in_200",
    "no_choices",
    "null_choices",
    "empty_answer",
    "null_answer",
    "content_filter",
    "length",
    "refusal",
    "tool_calls",
    "surrogate",
    "fenced_json",
    "broken_json",
    "other_json",
)
# The connection itself misbehaves; these begin at once.
BREAKAGES = ("hang", "drip", "stall", "reset", "close", "truncated", "huge", "whitespace")

# What only a line of a batch can meet; a live call pays no heed to them.
BATCH_KINDS = (
    "batch_expired",
    "batch_cancelled",
    "batch_missing",
    "batch_cut",
    "batch_not_utf8",
    "batch_string",
    "batch_status_0",
)

KINDS = REFUSALS + BAD_ANSWERS + BREAKAGES
# What a provider also says to GET /v1/models; an empty purse, for one, is no reason to refuse that.
KEY_REFUSALS = frozenset({"401", "deactivated", "403", "key_echo"})

MARKER_START = "[[fault:"
_MARKER = re.compile(r"\[\[fault:([^\]]*)\]\]")


class UnknownFaultError(ValueError):
    """A fault kind that does not exist; the message names the nearest ones."""

    def __init__(self, kind: str) -> None:
        nearest = ", ".join(difflib.get_close_matches(kind, KINDS, n=3, cutoff=0.0))
        super().__init__(f"unknown fault kind {kind!r}; the nearest are: {nearest}")


def check_kind(kind: str) -> None:
    """Raise UnknownFaultError unless `kind` exists."""
    if kind not in KINDS:
        raise UnknownFaultError(kind)


class Markers:
    """Faults asked for in the messages: `[[fault:KIND]]` always, `[[fault:KIND*N]]` N times.

    Several markers are used up in order: `[[fault:500*2]] [[fault:429*1]]` fails twice with a 500,
    then once with a 429, then is answered. Calls are counted by their whole text up to the answer,
    if there is one, whatever the key: to tell a model that its answer will not do is another call.
    """

    def __init__(self) -> None:
        self._calls_by_text: dict[str, int] = {}

    def next_fault(self, texts: Sequence[str], *, in_batch: bool = False) -> str | None:
        """The fault of this call, or None. Raises UnknownFaultError, and then counts nothing."""
        if not any(MARKER_START in text for text in texts):
            return None
        whole = "\n".join(texts)
        steps = [_parse_marker(marker) for marker in _MARKER.findall(whole)]
        if not in_batch:
            steps = [step for step in steps if step[0] not in BATCH_KINDS]
        if not steps:
            return None
        earlier = self._calls_by_text.get(whole, 0)
        self._calls_by_text[whole] = earlier + 1
        for kind, times in steps:
            if times is None or earlier < times:
                return kind
            earlier -= times
        return None


def _parse_marker(marker: str) -> tuple[str, int | None]:
    """`500*2` as ("500", 2), `500` as ("500", None). Raises UnknownFaultError."""
    kind, star, times = marker.partition("*")
    if star and not (times.isascii() and times.isdigit()):
        raise UnknownFaultError(marker)
    if kind not in BATCH_KINDS:
        check_kind(kind)
    return kind, int(times) if star else None


class Dice:
    """Chance with a seed: faults by their rates, and the spread of the latency.

    Two generators, so that a latency spread does not change which calls fail.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._faults = random.Random(seed)
        self._latency = random.Random(seed + 1)

    def fault(self, rates: Mapping[str, float]) -> str | None:
        """One draw: a kind with the probability `rates` gives it, else None."""
        if not rates:
            return None
        drawn = self._faults.random()
        for kind, rate in rates.items():
            if drawn < rate:
                return kind
            drawn -= rate
        return None

    def latency_s(self, base_s: float, spread_s: float) -> float:
        """`base_s` plus a uniform share of `spread_s`, in seconds."""
        return base_s + spread_s * self._latency.random() if spread_s else base_s
