"""How long to wait when nobody says: exponential backoff with full jitter."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random


class Backoff(NamedTuple):
    """A rule for waits that double.

    Attributes:
        base_s: seconds, the upper end of the first wait.
        cap_s: seconds, the upper end of the longest.
    """

    base_s: float
    cap_s: float

    def wait_s(self, tries: int, rng: random.Random) -> float:
        """Return the seconds to wait after `tries` waits before this one.

        Uniform from 0 to min(cap, base x 2^tries): spreading over the whole range empties a crowd
        fastest (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
        """
        return rng.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(tries, 60)))

    def starting_at(self, base_s: float) -> Backoff:
        """Return the same rule from another first wait, which may be longer than its longest."""
        return Backoff(base_s, max(base_s, self.cap_s))


#: A row before its next retry; `retry_delay` takes the place of its base.
ROW = Backoff(0.5, 30.0)
#: A key that was refused without being told when to come back. Short at first: its allowance was
#: halved too, which is the true answer to "too many at once".
KEY = Backoff(0.25, 60.0)
#: The whole endpoint, when several calls in a row have failed. One call probes at its end, so an
#: outage costs four calls a minute, and its end is noticed within half a minute.
ENDPOINT = Backoff(1.0, 30.0)
