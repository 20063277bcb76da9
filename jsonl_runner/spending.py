"""What calls cost, and whether the next one may still be paid.

A limit holds for a ledger: what earlier runs spent by its call log counts. It is kept by reserving
before a call what the call is expected to take, and settling it with what it took (`budget`). Until
an answer has told how long answers are, and no `max_tokens` does, one call is made at a time. When
the next call does not fit, its row waits for calls in flight to take less than they reserved; when
there are none, the limit is reached.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from . import calllog
from .attempts import Kind
from .budget import Budget
from .costs import Costs
from .errors import BudgetReachedError, ConfigError
from .settings.price import prices_of
from .summary import dollars, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from .attempts import Verdict
    from .clock import Clock, Stop
    from .config import Config
    from .prompts import Request

#: Bytes of a request for each token of its prompt, before an answer has told better.
_BYTES_PER_TOKEN = 4
#: An answer is expected to take the mean of those so far and so many standard deviations.
_DEVIATIONS = 2.0
#: Answers with an error's status are not billed. What came to nothing otherwise may be.
_REFUSED = re.compile(r"HTTP [345]\d\d")


class _Learnt:
    """What a model's answers have told: how long prompts and answers are."""

    __slots__ = ("answers", "bytes", "completion", "prompt", "squares")

    def __init__(self) -> None:
        self.answers = self.bytes = self.prompt = self.completion = self.squares = 0

    def add(self, size: int, prompt: int, completion: int) -> None:
        self.answers += 1
        self.bytes += size
        self.prompt += prompt
        self.completion += completion
        self.squares += completion * completion

    def answer_tokens(self) -> float:
        """Return what the next answer is expected to take at the most.

        The spread of a few answers tells little: it is taken for no less than the mean's own doubt.
        """
        mean = self.completion / self.answers
        spread = math.sqrt(max(0.0, self.squares / self.answers - mean * mean))
        return mean + _DEVIATIONS * max(spread, mean / math.sqrt(self.answers))


class Spent(NamedTuple):
    """What was spent.

    Attributes:
        cost: US dollars.
        tokens: prompts and answers.
        unpriced: answers whose cost is not known.
        learnt: how long answers were.
    """

    cost: float = 0.0
    tokens: int = 0
    unpriced: int = 0
    learnt: _Learnt | None = None


class Lack(NamedTuple):
    """Why a call cannot be paid: the limit's option, and what the call may take."""

    option: str
    next_: float


class Use(NamedTuple):
    """What a process has used of its part of the limits.

    Attributes:
        spent: without what was spent before it began.
        unanswered: calls whose answer never came, and that may be billed.
        lack: why it cannot go on; None: it can.
        limits: of dollars and of tokens, as it was granted them last.
    """

    spent: Spent
    unanswered: int
    lack: Lack | None
    limits: tuple[float | None, float | None]


class Hold(NamedTuple):
    """What is set aside for a call.

    Attributes:
        cost, tokens: as the two budgets hold it.
        likely_cost, likely_tokens: what it takes if nobody ever tells.
    """

    cost: float
    tokens: float
    likely_cost: float
    likely_tokens: float


class Spending:
    """Prices of a run's calls, and its limits; for any number of threads.

    Args:
        config: the settings.
        clock: what rows wait by, and what prices change with.
        before: what earlier runs on the ledger spent.
        is_part: whether the limits are a part of somebody else's, who may `grant` more: then a
            row waits for that where it could not be paid.

    Raises:
        ConfigError: there is a limit on cost, and the model has no price.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        before: Spent = Spent(),  # noqa: B008  # it cannot be changed
        *,
        is_part: bool = False,
    ) -> None:
        self._model = config.model
        self._clock = clock
        costs = Costs(prices_of(config.prices), config.api_base, clock)
        #: What calls cost: see `Costs`.
        self.cost_of, self.has_price = costs.cost_of, costs.has_price
        self.before = before
        self.cost = Budget(config.max_cost, before.cost)
        self.tokens = Budget(config.max_tokens_total, float(before.tokens))
        #: Calls whose answer never came, and that may be billed.
        self.unanswered = 0
        self._is_part = is_part
        self._lack: Lack | None = None
        self._learnt: dict[str, _Learnt] = {}
        self._turn = threading.Lock()
        # Reentrant: a signal handler that wakes the waiter may interrupt a holder.
        self._changed = threading.Condition(threading.RLock())
        if config.max_cost is not None:
            self.check([config.model])

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.cost.limit is not None or self.tokens.limit is not None

    def check(self, models: Iterable[str]) -> None:
        """Check that a limit on cost can be kept.

        Raises:
            ConfigError: a model has no price.
        """
        missing = [model for model in models if not self.has_price(model)]
        if self.cost.limit is not None and missing:
            raise ConfigError(
                f"--max-cost cannot be kept: no price is known for {', '.join(missing)} at "
                f"this address; give it with --price input=…,output=… (dollars a million tokens)"
            )

    def view(self) -> dict[str, float | None]:
        """Return the limits and what is spent of them, for `--json`."""
        return {
            "max_cost": self.cost.limit,
            "cost_spent": self.cost.spent if self.cost.limit is not None else None,
            "cost_before": self.before.cost if self.cost.limit is not None else None,
            "max_tokens_total": self.tokens.limit,
            "tokens_spent": self.tokens.spent,
            "tokens_before": self.before.tokens,
            "calls_unanswered": self.unanswered,
        }

    # -- limits ----------------------------------------------------------------------------------

    def reserve(self, request: Request, stop: Stop) -> Hold | None:
        """Set aside what a call is expected to take; wait for calls in flight if it does not fit.

        Args:
            request: what will be sent.
            stop: ends the wait; its wish must come to `wake` too.

        Returns:
            What must go back through `settle`; None: the run is to stop.

        Raises:
            BudgetReachedError: it does not fit, and no call is in flight.
        """
        with self._turn, self._changed:  # one waits, the others stand behind it
            while not stop.requested:
                found = self._fit(request)
                if isinstance(found, Hold):
                    return found
                if self.cost.in_flight == 0:
                    if not self._is_part:
                        raise self.reached(found)
                    self._lack = found
                self._clock.wait(self._changed, None)
        return None

    def wake(self) -> None:
        """Make the waiting row look again, at its `stop` too."""
        with self._changed:
            self._changed.notify_all()

    def settle(self, hold: Hold, request: Request, verdict: Verdict | None) -> None:
        """Replace what was set aside for a call by what it took.

        Args:
            hold: as `reserve` returned it.
            request: what was sent.
            verdict: what came of it; None: it was not made, or the run was aborted.
        """
        cost, tokens = 0.0, 0.0
        answer = None if verdict is None else verdict.answer
        used = None if answer is None else _used(answer.usage or {})
        with self._changed:
            if answer is not None and used is not None:
                name = request.model or self._model
                learnt = self._learnt.setdefault(name, _Learnt())
                learnt.add(_size_of(request), *used)
                amount, _ = self.cost_of(answer.usage, name, answer.model)
                cost, tokens = amount or 0.0, float(sum(used))
            elif verdict is not None and _may_be_billed(verdict):
                self.unanswered += 1
                cost, tokens = hold.likely_cost, hold.likely_tokens
            self.cost.settle(hold.cost, cost)
            self.tokens.settle(hold.tokens, tokens)
            self._changed.notify()

    def grant(self, cost: float | None, tokens: float | None, known: Spent) -> None:
        """Take other limits, and what others have learnt of how long answers are."""
        with self._changed:
            if (cost, tokens) != (self.cost.limit, self.tokens.limit):
                self._lack = None
            self.cost.allow(cost)
            self.tokens.allow(tokens)
            self.before = self.before._replace(learnt=known.learnt)
            self._changed.notify_all()

    def use(self) -> Use:
        """Return what was used so far."""
        with self._changed:
            learnt = next(iter(self._learnt.values()), self.before.learnt)
            cost = self.cost.spent - self.before.cost
            tokens = int(self.tokens.spent) - self.before.tokens
            limits = (self.cost.limit, self.tokens.limit)
            return Use(Spent(cost, tokens, 0, learnt), self.unanswered, self._lack, limits)

    def count(self, cost: float, tokens: float, unanswered: int) -> None:
        """Count what others have used."""
        self.cost.add(cost)
        self.tokens.add(tokens)
        self.unanswered += unanswered

    def _fit(self, request: Request) -> Hold | Lack:
        """Reserve for a call if it fits; else return why it does not."""
        prompt, completion = self._expected(request)
        likely = prompt + (completion or 0.0)
        cost = self._price(request, prompt, completion or 0.0)
        is_known = completion is not None
        if cost > self.cost.left or likely > self.tokens.left:  # perhaps by its prompt alone
            is_known = True
        held = self.cost.reserve(cost if is_known else None)
        if held is None:
            return Lack("--max-cost", cost)
        tokens = self.tokens.reserve(likely if is_known else None)
        if tokens is None:
            self.cost.settle(held, 0.0)
            return Lack("--max-tokens-total", likely)
        return Hold(held, tokens, cost, likely)

    def _expected(self, request: Request) -> tuple[float, float | None]:
        """Return the tokens that prompt and answer are expected to take; None: not known."""
        size = _size_of(request)
        limit = max(0, request.size - request.weight // _BYTES_PER_TOKEN) if request.body else 0
        learnt = self._learnt.get(request.model or self._model) or self.before.learnt
        if learnt is None or not learnt.answers:
            return size / _BYTES_PER_TOKEN, float(limit) or None
        expected = learnt.answer_tokens()
        prompt = size * learnt.prompt / max(1, learnt.bytes)
        return prompt, min(expected, limit) if limit else expected

    def _price(self, request: Request, prompt: float, completion: float) -> float:
        if self.cost.limit is None:
            return 0.0
        usage = {"prompt_tokens": math.ceil(prompt), "completion_tokens": math.ceil(completion)}
        return self.cost_of(usage, request.model or self._model)[0] or 0.0

    def reached(self, lack: Lack) -> BudgetReachedError:
        """Return the error that says what is spent."""
        budget, before, show = self.tokens, float(self.before.tokens), whole
        if lack.option == "--max-cost":
            budget, before, show = self.cost, self.before.cost, dollars
        earlier = f", {show(before)} of it by earlier runs" if before else ""
        return BudgetReachedError(
            f"{lack.option} {show(budget.limit or 0.0)} is reached: {show(budget.spent)} spent"
            f"{earlier}, and the next call may take {show(lack.next_)}; the rows left are "
            f"unwritten, go on with a higher {lack.option}"
        )


def spending_of(
    config: Config,
    clock: Clock,
    ledgers: Iterable[Path],
    models: Iterable[str],
    note: Callable[[str], None],
) -> Spending:
    """Return what the calls of a run cost and may cost.

    Args:
        config: the settings.
        clock: the run's.
        ledgers: earlier runs on them count.
        models: those that rows name for themselves.
        note: is told what cannot be counted.

    Raises:
        ConfigError: there is a limit on cost, and a model has no price.
        LedgerError: a ledger's call log cannot be read.
    """
    spending = Spending(config, clock)
    if not spending.is_limited:
        return spending
    spending.check(models)
    before = spent_before(ledgers, spending.cost_of)
    if before.unpriced and config.max_cost is not None:
        note(f"--max-cost: {before.unpriced:,} earlier answers have no known cost")
    return Spending(config, clock, before)


def spent_before(
    ledgers: Iterable[Path],
    cost_of: Callable[[Mapping[str, Any] | None, str], tuple[float | None, str]],
) -> Spent:
    """Return what the runs so far spent, by the ledgers' call logs.

    Calls that a killed process never wrote down are not in it.

    Args:
        ledgers: whose they are.
        cost_of: returns the cost of a usage and a model where the log has none.

    Raises:
        LedgerError: a log is there and cannot be read.
    """
    cost, tokens, unpriced, learnt = 0.0, 0, 0, _Learnt()
    for entry in itertools.chain.from_iterable(map(calllog.read, ledgers)):
        usage, told = entry.get("usage"), entry.get("cost")
        if not isinstance(usage, dict) and not isinstance(told, (int, float)):
            continue
        used = _used(usage if isinstance(usage, dict) else {})
        if used is not None:
            tokens += sum(used)
            learnt.add(used[0] * _BYTES_PER_TOKEN, *used)
        if not isinstance(told, (int, float)):
            told = cost_of(usage, str(entry.get("model") or ""))[0]
        if told is None:
            unpriced += 1
        else:
            cost += told
    return Spent(cost, tokens, unpriced, learnt)


def _size_of(request: Request) -> int:
    return request.weight or request.tokens * _BYTES_PER_TOKEN


def _used(usage: Mapping[str, Any]) -> tuple[int, int] | None:
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(prompt) is int and type(completion) is int and prompt >= 0 and completion >= 0:
        return prompt, completion
    return None


def _may_be_billed(verdict: Verdict) -> bool:
    if verdict.kind is Kind.OK or verdict.answer is not None:
        return True  # it answered, and did not say what that took
    return verdict.kind is Kind.TRANSIENT and _REFUSED.match(verdict.message) is None
