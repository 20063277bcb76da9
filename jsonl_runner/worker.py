"""One Record to one Outcome: key -> attempt -> verdict -> wait -> again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from . import backoff
from .attempts import Kind, Verdict
from .errors import RunStoppedError, WrongEndpointError
from .images import ImageError
from .records import Outcome, fingerprint
from .secret import MAX_CODE, MAX_MESSAGE, shorten

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from .clock import Clock, Stop
    from .keys import Rotator
    from .prompts import Request
    from .records import Record
    from .secret import Redactor
    from .spending import Spending

#: Failures that a wrong address brings at once, and a bad moment rarely.
_NO_SUCH_PLACE = frozenset({"dns", "tls_handshake", "proxy", "not_http", "not_json"})
#: So many of them before anything has succeeded show a wrong address.
_PLACE_TRIES = 3


#: Refusals of one row, while as many others succeeded, that show that it is the row: a request
#: larger than the limit of tokens a minute is answered as a rate limit, for ever.
_TOO_OFTEN = 20


#: What costs the row a retry, after a wait.
_COSTS_RETRY = frozenset({Kind.TRANSIENT, Kind.FORBIDDEN})


class Caller(Protocol):
    """Makes one attempt for a Record."""

    def prepare(self, record: Record) -> Request:
        """Return the request for a Record, with the corrections of the run."""

    def attempt(self, record: Record, request: Request, key: str) -> Verdict:
        """Make one call; whatever comes of it is a Verdict."""

    def correct(self, request: Request, verdict: Verdict) -> tuple[bool, str | None]:
        """Take note of a refused parameter; see `Composer.correct`."""


class Known(Protocol):
    """Knows answers that need no call."""

    def known(self, request: Request, stop: Stop) -> Verdict | None:
        """Return a success, None when there is none; may wait for a row that asks the same."""

    def leave(self) -> None:
        """Take note that this thread's row is done, whatever came of it."""


class Worker:
    """Does one Record after the other, in any number of threads.

    Args:
        caller: makes the attempts.
        rotator: gives the keys.
        max_retries: tries after the first for what may pass.
        waits: how long before each of them.
        clock: where the time comes from.
        stop: ends the work, and is told when nobody can succeed.
        redact: takes keys out of messages.
        note: is told once what the run should know (a corrected parameter).
        known: is asked before a key is; None: every row makes its call.
        spending: knows what calls cost, and whether the next may be paid; None: nobody asks.
        rng: source of jitter.
    """

    def __init__(  # noqa: PLR0913  # who works with it, and how
        self,
        caller: Caller,
        rotator: Rotator,
        *,
        max_retries: int,
        waits: backoff.Backoff = backoff.ROW,
        clock: Clock,
        stop: Stop,
        redact: Redactor,
        note: Callable[[str], None],
        rng: random.Random,
        known: Known | None = None,
        spending: Spending | None = None,
    ) -> None:
        self._caller = caller
        self._rotator = rotator
        self._max_retries = max_retries
        self._waits = waits
        self._clock = clock
        self._stop = stop
        self._redact = redact
        self._note = note
        self._rng = rng
        self._known = known
        self._spending = spending
        is_limited = spending is not None and spending.is_limited
        self._budget = spending if is_limited else None
        self._successes = 0
        self._no_place = 0

    def __call__(self, record: Record) -> Outcome | None:
        """Return what came of a Record; None when the run stops before it is known."""
        if self._known is None:
            return self._do(record)
        try:
            return self._do(record)
        finally:
            self._known.leave()

    def _do(self, record: Record) -> Outcome | None:
        outcome = Outcome(record.index, None, fingerprint=fingerprint(record))
        outcome.started = self._clock.wall()
        try:
            return self._ask(record, outcome)
        except ImageError as error:  # it was there when the input was looked at
            return self._finish(outcome, Verdict(Kind.ROW_FAULT, "image", str(error)), "")

    def _ask(self, record: Record, outcome: Outcome) -> Outcome | None:
        """Call until there is an outcome."""
        retries = refusals = 0
        successes = self._successes
        while True:
            request = self._caller.prepare(record)
            verdict = self._attempt(record, request, outcome)
            if verdict is None:
                return None
            if verdict.kind is Kind.OK:
                # Threads may overwrite each other's count; it need not be exact. What was known
                # says nothing about the endpoint.
                self._successes += not outcome.cached
                return self._finish(outcome, verdict, request.model)
            if verdict.kind is Kind.WRONG_ENDPOINT:
                self._stop.request(WrongEndpointError(f"{verdict.code}: {verdict.message}"))
                return None
            if verdict.kind is Kind.RATE_LIMITED:
                refusals += 1
                if min(refusals, self._successes - successes) >= _TOO_OFTEN:
                    return self._finish(outcome, verdict, request.model)
            elif not self._goes_on(request, verdict, retries):
                return self._finish(outcome, verdict, request.model)
            if verdict.kind in _COSTS_RETRY:
                wait_s = max(self._waits.wait_s(retries, self._rng), verdict.retry_after_s or 0.0)
                retries += 1
                if self._stop.pause(wait_s, self._clock):
                    return None

    def _goes_on(self, request: Request, verdict: Verdict, retries: int) -> bool:
        """Return whether the row gets another attempt."""
        if verdict.kind is Kind.REFUSED_PARAM:
            again, news = self._caller.correct(request, verdict)
            if news is not None:
                self._note(news)
            return again
        if verdict.kind in _COSTS_RETRY:
            return retries < self._max_retries
        return verdict.kind is not Kind.ROW_FAULT

    def _attempt(self, record: Record, request: Request, outcome: Outcome) -> Verdict | None:
        """Make one call with the next key, or none if the answer is known; None: the run stops."""
        if self._known is not None:
            found = self._known.known(request, self._stop)
            if found is not None:
                outcome.cached = True
                return found
        if self._budget is not None:
            return self._within(self._budget, record, request, outcome)
        return self._call(record, request, outcome)

    def _within(
        self, budget: Spending, record: Record, request: Request, outcome: Outcome
    ) -> Verdict | None:
        """Make one call if what it is expected to take may still be spent."""
        try:
            hold = budget.reserve(request, self._stop)
        except RunStoppedError as error:
            self._stop.request(error)
            return None
        if hold is None:
            return None
        verdict = None
        try:
            verdict = self._call(record, request, outcome)
        finally:
            budget.settle(hold, request, verdict)
        return verdict

    def _call(self, record: Record, request: Request, outcome: Outcome) -> Verdict | None:
        """Make one call with the next key; None: the run stops."""
        try:
            lease = self._rotator.acquire(request.tokens, self._stop)
        except RunStoppedError as error:
            self._stop.request(error)
            return None
        if lease is None:
            return None
        lease.row = record.index
        outcome.key = lease.label
        outcome.attempts += 1
        try:
            verdict = self._caller.attempt(record, request, lease.secret)
        except BaseException:
            self._rotator.give_back(lease)
            raise
        outcome.latency_s = self._clock.now() - lease.started_s
        if verdict.kind is not Kind.OK:
            if self._stop.aborted:
                self._rotator.give_back(lease)
                return None  # the abort broke the call, not the provider
            # What is OK has no words but our own.
            verdict.code = shorten(self._redact(verdict.code), MAX_CODE)
            verdict.message = shorten(self._redact(verdict.message), MAX_MESSAGE)
            self._reconsider(record, verdict)
        self._rotator.release(lease, verdict)
        return verdict

    def _reconsider(self, record: Record, verdict: Verdict) -> None:
        """Change a verdict by what is known of the run beside the one attempt."""
        if verdict.kind is Kind.NO_MODEL:
            if record.params and "model" in record.params:
                verdict.kind = Kind.ROW_FAULT  # a model of its own: says nothing about the key
        elif verdict.kind is Kind.WRONG_ENDPOINT:
            if self._successes:  # it worked before: a bad moment, not a wrong address
                verdict.kind = Kind.TRANSIENT
            elif verdict.code.startswith("http_") or verdict.code == "unknown_url":
                verdict.message += ": check api_base"
        elif verdict.code in _NO_SUCH_PLACE and not self._successes:
            self._no_place += 1
            if self._no_place >= _PLACE_TRIES:
                verdict.kind = Kind.WRONG_ENDPOINT

    def _finish(self, outcome: Outcome, verdict: Verdict, model: str) -> Outcome:
        outcome.code = verdict.code
        outcome.message = verdict.message
        outcome.ended = self._clock.wall()
        answer = verdict.answer
        if answer is not None:
            outcome.finish_reason = answer.finish_reason
            outcome.model = answer.model
            outcome.usage = answer.usage
            if self._spending is None:
                outcome.cost = _cost_of(answer.usage)
            else:
                spent = self._spending.cost_of(answer.usage, model, answer.model)
                outcome.cost, outcome.cost_from = spent
            if verdict.kind is Kind.OK:
                outcome.output = answer.text
        return outcome


def _cost_of(usage: dict[str, object] | None) -> float | None:
    """Return what the provider says the call cost, in its currency; most say nothing."""
    cost = usage.get("cost") if usage else None
    return float(cost) if isinstance(cost, (int, float)) and not isinstance(cost, bool) else None
