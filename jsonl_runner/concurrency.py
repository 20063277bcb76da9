"""How many calls one key may have in flight: grown while it goes well, halved on a refusal.

AIMD (Chiu and Jain 1989) with what TCP learnt since: slow start, one cut per episode (RFC 5681),
and a memory of the level that was refused, so that the way back is short and the next probe above
it is rare (CUBIC, RFC 9438). A key starts with one call: a dead one costs one request.
"""

from __future__ import annotations

import math

#: Rounds (windows of completed calls) to stay at a known ceiling before probing one call above it.
_FIRST_PROBE_ROUNDS = 4.0
#: Each failed probe doubles the rounds, up to this: a hard limit is tested rarely, yet a limit that
#: was lifted is found within the hour at a second a call.
_MAX_PROBE_ROUNDS = 256.0
#: Calls up to which a round doubles them; beyond that it makes four of each, for whoever allows
#: thousands: at a second a call 4,096 in flight stand after six seconds and not after twelve.
_CAREFUL, _QUICK_STEP = 64, 3
#: The first answer, which shows that the key is alive, opens this part of the maximum at once.
_FIRST_SHARE = 16

# Why an allowance moved, for people; `Concurrency.why` says it of the last move.
_OPENED, _RAISED, _PROBES = "opened: it answers", "raised: calls succeed", "probes what was refused"
_HALVED, _HALVED_TOLD = "halved: too many at once", "halved: told to wait"


class Concurrency:
    """The allowance of one key.

    Args:
        maximum: never more calls than this.
        trusted: begin with all of them: there is no key that could be dead.
    """

    __slots__ = (
        "_ceiling",
        "_credit",
        "_cut_at",
        "_probe_rounds",
        "_step",
        "limit",
        "maximum",
        "why",
    )

    def __init__(self, maximum: int, *, trusted: bool = False) -> None:
        self.maximum = maximum
        #: Calls allowed in flight now.
        self.limit = maximum if trusted else 1
        #: Why it moved last, in a few words; empty before the first time.
        self.why = ""
        self._ceiling = math.inf  # highest level not known to be refused
        self._credit = 0.0  # rounds completed at the ceiling
        self._probe_rounds = _FIRST_PROBE_ROUNDS
        self._step = 1
        self._cut_at = -1  # number of the newest call when the last cut was made

    def succeeded(self, position: int, in_flight: int = 0) -> None:
        """Note an answer to a call that was the `position`-th in flight when it was sent.

        Args:
            position: see above.
            in_flight: calls in flight when its answer came, itself included. Counts only where
                hundreds are allowed and none was ever refused: the first calls of a burst had few
                beside them when they were sent, and all of them when answered.
        """
        if self.limit >= self.maximum:
            return
        step, used = 1, position
        if self.limit >= _CAREFUL:
            step = _QUICK_STEP
            if self._cut_at < 0:
                used = max(position, in_flight)
        if (1 + step) * used < self.limit:
            return  # an allowance that is not used proves nothing
        if self.limit < self._ceiling:
            self.why = _RAISED
            if self.limit == 1 and self._cut_at < 0:
                step = max(step, self.maximum // _FIRST_SHARE)
                self.why = _OPENED
            self.limit = int(min(self.limit + step, self.maximum, self._ceiling))
            return
        if position < self.limit:
            return
        self._credit += 1 / self.limit
        if self._credit >= self._probe_rounds:
            self._credit = 0.0
            self._ceiling += self._step
            self._step *= 2  # a ceiling that gives way was not the limit: look faster
            self.limit += 1
            self.why = _PROBES

    def allow(self, maximum: int) -> None:
        """Take another maximum."""
        self.maximum = maximum
        self.limit = min(self.limit, maximum)

    def refused(self, number: int, position: int, newest: int, *, saturated: bool) -> None:
        """Note a 429.

        Args:
            number: the refused call's number, counted over all calls of the key.
            position: how many calls were in flight when it was sent, itself included.
            newest: the number of the call sent last.
            saturated: the server did not say when to come back, so it means "too many at once".
        """
        if saturated:
            known = self._ceiling if number <= self._cut_at else math.inf
            self._ceiling = max(1, min(known, position - 1))
        if number <= self._cut_at:
            return  # sent before the last cut: the same episode
        self._cut_at = newest
        self.limit = max(1, self.limit // 2)
        self.why = _HALVED if saturated else _HALVED_TOLD
        self._credit = 0.0
        if saturated:
            self._probe_rounds = min(_MAX_PROBE_ROUNDS, 2 * self._probe_rounds)
            self._step = 1
