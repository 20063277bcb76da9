"""The health of the server behind all keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import backoff
from .attempts import Kind
from .limits import in_words

if TYPE_CHECKING:
    import random

    from .attempts import Verdict

#: Calls in a row, over all keys, that must fail before the endpoint rests: fewer could be one
#: row's bad luck, more would be spent on a server that is down.
_STREAK = 5


class Breaker:
    """Rests after several failures in a row, over all keys.

    After a rest one call goes ahead of all others; what it brings opens the way or prolongs the
    rest (a half-open circuit breaker: Nygard, "Release It!").
    """

    def __init__(self) -> None:
        #: Whether nothing has failed since the last answer: then a call need neither ask nor tell.
        self.calm = True
        self._until = 0.0
        self._failures = 0  # in a row, since the last answer
        self._rests = 0
        self._probing = False
        self._in_flight_probe = False
        self._code = self._trouble = ""

    def wait_s(self, now: float) -> float | None:
        """Return the seconds until a call may go; None while a probe is under way."""
        if self._until > now:
            return self._until - now
        return None if self._in_flight_probe else 0.0

    def admitted(self) -> None:
        """Note that a call goes out."""
        self._in_flight_probe = self._probing

    def answered(self) -> None:
        """Note that the server is alive."""
        self._failures = self._rests = 0
        self._probing = self._in_flight_probe = False
        self._until = 0.0
        self.calm = True

    def given_back(self) -> None:
        """Note that a call was not made."""
        self._in_flight_probe = False

    def failed(self, verdict: Verdict, rng: random.Random, now: float) -> None:
        """Note a failure; several in a row, or no connection at all, make a rest."""
        self.calm = False
        self._code, self._trouble = verdict.code, verdict.message
        if self._until > now:
            return  # sent before the rest: the same episode
        self._failures += 1
        was_probe, self._in_flight_probe = self._in_flight_probe, False
        unreachable = verdict.kind is Kind.UNREACHABLE
        if was_probe or unreachable or self._failures >= _STREAK:
            wait_s = backoff.ENDPOINT.wait_s(self._rests, rng)
            self._until = now + max(wait_s, verdict.retry_after_s or 0.0)
            self._rests += 1
            self._probing = True

    def waiting_for(self, now: float) -> str:
        """Return why nobody may call, in a few words; empty when everybody may."""
        if self._until > now:
            wait = in_words(self._until - now)
            return f"waiting for the server ({self._code}), next try in {wait}"
        return f"trying the server again ({self._code})" if self._in_flight_probe else ""

    @property
    def trouble(self) -> str:
        """What broke last, in a sentence; empty when the server has answered since."""
        return self._trouble if self._probing else ""
