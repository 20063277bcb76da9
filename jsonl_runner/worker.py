"""One Record to one Outcome: key -> attempt -> verdict -> wait -> again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from . import backoff
from .attempts import Kind, Verdict
from .costs import usage_together
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
    from .review import Review
    from .secret import Redactor
    from .spending import Spending

#: Failures that a wrong address brings at once, and a bad moment rarely.
_NO_SUCH_PLACE = frozenset({"dns", "tls_handshake", "proxy", "not_http", "not_json"})
#: So many of them before anything has succeeded show a wrong address.
_PLACE_TRIES = 3


#: Refusals of one row, while as many others succeeded, that show that it is the row: a request
#: larger than the limit of tokens a minute is answered as a rate limit, for ever.
_TOO_OFTEN = 20


#: How a cost may be known, the surest first: a sum is as sure as its least sure part.
_SOURCES = ("", "prices", "estimate")

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

    def again(self, record: Record, answer: str, reason: str) -> Record:
        """Return a Record that asks again, after an answer that will not do for this reason."""


class Known(Protocol):
    """Knows answers that need no call."""

    def known(self, request: Request, stop: Stop) -> Verdict | None:
        """Return a success, None when there is none; may wait for a row that asks the same."""

    def reject(self) -> None:
        """Take note that the last answer to this thread's row will not do: it is not kept."""

    def leave(self) -> None:
        """Take note that this thread's row is done, whatever came of it."""


@dataclass(slots=True)
class _Row:
    """A row under way.

    Attributes:
        record: as the input has it.
        asked: what the next attempt asks: the same, or with it the answers that would not do.
        outcome: what is known of its Outcome.
        successes: of the run, when it began.
        retries, refusals, mends: attempts that came to nothing, by what they cost.
        answers: how many were paid for.
    """

    record: Record
    asked: Record
    outcome: Outcome
    successes: int
    retries: int = 0
    refusals: int = 0
    mends: int = 0
    answers: int = 0


class Worker:
    """Does one Record after the other, in any number of threads.

    Args:
        caller: makes the attempts.
        rotator: gives the keys.
        review: says what becomes of an answer.
        max_retries: tries after the first for what may pass.
        schema_retries: times a row is asked again whose answer is not the JSON it asked for.
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
        review: Review,
        *,
        max_retries: int,
        schema_retries: int = 0,
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
        self._review = review
        self._schema_retries = schema_retries
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
        row = _Row(record, record, outcome, self._successes)
        try:
            return self._ask(row)
        except ImageError as error:  # it was there when the input was looked at
            return self._finish(row, Verdict(Kind.ROW_FAULT, "image", str(error)), "")

    def _ask(self, row: _Row) -> Outcome | None:
        """Call until there is an outcome."""
        outcome = row.outcome
        while True:
            request = self._caller.prepare(row.asked)
            verdict = self._attempt(row.asked, request, outcome)
            if verdict is None:
                return self._given_up(row)
            if verdict.kind is Kind.OK:
                # Threads may overwrite each other's count; it need not be exact. What was known
                # says nothing about the endpoint.
                self._successes += not outcome.cached
                verdict = self._reviewed(row, request, verdict)
                if verdict is None:
                    continue
                return self._finish(row, verdict, request.model)
            if verdict.kind is Kind.WRONG_ENDPOINT:
                self._stop.request(WrongEndpointError(f"{verdict.code}: {verdict.message}"))
                return self._given_up(row)
            if not self._goes_on(row, request, verdict):
                return self._finish(row, verdict, request.model)
            if verdict.kind in _COSTS_RETRY:
                jittered_s = self._waits.wait_s(row.retries, self._rng)
                row.retries += 1
                if self._stop.pause(max(jittered_s, verdict.retry_after_s or 0.0), self._clock):
                    return self._given_up(row)

    def _reviewed(self, row: _Row, request: Request, verdict: Verdict) -> Verdict | None:
        """Return what an answer means once it is looked at; None: the row is asked again."""
        answer, outcome = verdict.answer, row.outcome
        if answer is None or (request.shape is None and not self._review.is_always):
            return verdict
        text = answer.text or ""
        found = self._review(row.record, request.shape, answer)
        if found.output is not None:
            outcome.raw = text if found.output != text else None
            # A new one: rows that wait for the same answer review it for themselves.
            return replace(verdict, answer=answer._replace(text=found.output))
        if self._known is not None:
            self._known.reject()
        if outcome.cached:  # it cost nothing: as if there had been none
            outcome.cached = False
            return None
        outcome.raw = text
        failed = Verdict(Kind.ROW_FAULT, found.code, found.message, answer)
        if not found.can_mend or row.mends >= self._schema_retries:
            return failed
        row.mends += 1
        self._book(row, failed, request.model)
        row.asked = self._caller.again(row.asked, text, found.message)
        return None

    def _given_up(self, row: _Row) -> Outcome | None:
        """Return what came of a row when the run stops: nothing, or an answer that would not do."""
        if not row.answers:
            return None
        row.outcome.ended = self._clock.wall()
        return row.outcome

    def _goes_on(self, row: _Row, request: Request, verdict: Verdict) -> bool:
        """Return whether the row gets another attempt."""
        if verdict.kind is Kind.RATE_LIMITED:
            row.refusals += 1
            return min(row.refusals, self._successes - row.successes) < _TOO_OFTEN
        if verdict.kind is Kind.REFUSED_PARAM:
            again, news = self._caller.correct(request, verdict)
            if news is not None:
                self._note(news)
            return again
        if verdict.kind in _COSTS_RETRY:
            return row.retries < self._max_retries
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
                verdict.message = (
                    verdict.message.rstrip(".") + ": check api_base, which mostly ends in /v1"
                )
        elif verdict.code in _NO_SUCH_PLACE and not self._successes:
            self._no_place += 1
            if self._no_place >= _PLACE_TRIES:
                verdict.kind = Kind.WRONG_ENDPOINT

    def _finish(self, row: _Row, verdict: Verdict, model: str) -> Outcome:
        outcome = row.outcome
        self._book(row, verdict, model)
        outcome.ended = self._clock.wall()
        if verdict.kind is Kind.OK and verdict.answer is not None:
            outcome.output = verdict.answer.text
        return outcome

    def _book(self, row: _Row, verdict: Verdict, model: str) -> None:
        """Take down what came of an attempt, and what it cost beside those before it."""
        outcome, answer = row.outcome, verdict.answer
        outcome.code = verdict.code
        outcome.message = verdict.message
        if answer is None:
            return
        outcome.finish_reason = answer.finish_reason
        outcome.model = answer.model
        usage = answer.usage
        if self._spending is None:
            cost, source = _cost_of(usage), ""
        else:
            cost, source = self._spending.cost_of(usage, model, answer.model)
        if row.answers:  # one that is not known makes the sum unknown
            known = cost is not None and outcome.cost is not None
            cost = cost + outcome.cost if known else None  # type: ignore[operator]
            source = max(source, outcome.cost_from, key=_SOURCES.index)
            usage = usage_together(outcome.usage or {}, usage or {}) or None
        row.answers += 1
        outcome.usage, outcome.cost, outcome.cost_from = usage, cost, source


def _cost_of(usage: dict[str, object] | None) -> float | None:
    """Return what the provider says the call cost, in its currency; most say nothing."""
    cost = usage.get("cost") if usage else None
    return float(cost) if isinstance(cost, (int, float)) and not isinstance(cost, bool) else None
