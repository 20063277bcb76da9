"""The call log's entries, counted in one pass: what was asked, spent, and how long it took."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..pricing import Prices
from ..secret import shorten
from .latency import Histogram
from .numbers import Batch, KeyUse, Log, Spent, Work
from .timeline import Clockwork, moment_of

if TYPE_CHECKING:
    from collections.abc import Hashable

_Item = TypeVar("_Item")

#: Kinds that are told one by one; more of them are counted together: a log may hold anything.
MAX_MODELS, MAX_KEYS, MAX_BATCHES = 50, 500, 200
#: Characters of a name that comes from outside.
MAX_NAME = 100
#: What those beyond the first are counted under.
OTHERS = "(others)"
#: Higher counts are no counts but damage; sums of these stay within what JSON can tell.
_MOST: Final = 2**40
_TOO_MANY = ("HTTP 429", "HTTP 529")


def whole(value: object) -> int:
    """Return a count from outside; what is none counts nothing."""
    return value if type(value) is int and 0 <= value < _MOST else 0


def amount(value: object) -> float | None:
    """Return a number from outside that is not below zero; None when it is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _MOST:
        return float(value)
    return None


def name_of(value: object) -> str:
    """Return a name from outside, short enough to be shown."""
    return shorten(value, MAX_NAME) if isinstance(value, str) else ""


def tokens_of(usage: object) -> tuple[int, int]:
    """Return the tokens of prompt and answer, in OpenAI's words or Anthropic's."""
    if not isinstance(usage, dict):
        return 0, 0
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    return whole(prompt), whole(usage.get("completion_tokens", usage.get("output_tokens")))


def _slot(found: dict[Any, _Item], key: Hashable, others: Hashable, most: int) -> Hashable:
    return key if key in found or len(found) < most else others


class Calls:
    """Counts entries of a call log.

    Args:
        prices: the user's own, for entries that tell no cost. What nobody gives a price of has none
            here either: whoever made the call knew its address, and did not price it.
    """

    def __init__(self, prices: Prices | None = None) -> None:
        self._prices = Prices() if prices is None else prices
        self.log = Log()
        self.work = Work()
        self.total = Spent()
        self.clockwork = Clockwork()
        self.latency = Histogram()
        self.price_source = ""
        self._spent: dict[Any, Spent] = {}
        self._keys: dict[Any, KeyUse] = {}
        self._batches: dict[Any, Batch] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._timed: defaultdict[str, int] = defaultdict(int)

    def add(self, entry: dict[str, Any]) -> None:
        """Count one."""
        work, attempts = self.work, whole(entry.get("attempts"))
        is_done = entry["status"] == "ok"
        is_cached, is_batch = entry.get("cached") is True, bool(entry.get("batch"))
        self.log.entries += 1
        work.calls += attempts
        work.retries += max(0, attempts - 1)
        work.cached += is_cached
        work.batch += is_batch
        work.cut_off += is_done and entry.get("finish_reason") == "length"
        is_live = not is_cached and not is_batch
        ended, started = moment_of(entry.get("ended")), moment_of(entry.get("started"))
        if is_batch:
            self._add_batch(entry, started, ended, is_done=is_done)
        elif ended is not None:
            self.clockwork.add(ended, is_done=is_done, started=started if is_live else None)
        self._add_times(started, ended)
        seconds = amount(entry.get("latency_s")) if is_live and is_done else None
        if seconds is not None:
            self.latency.add(seconds)
        self._add_spent(entry, is_batch=is_batch)
        if not is_cached:
            self._add_key(entry, attempts, seconds, is_done=is_done)

    def _add_times(self, started: float | None, ended: float | None) -> None:
        if ended is None:
            return
        log, first = self.log, ended if started is None else started
        log.first = first if log.first is None else min(first, log.first)
        log.last = ended if log.last is None else max(ended, log.last)

    def _add_batch(
        self, entry: dict[str, Any], started: float | None, ended: float | None, *, is_done: bool
    ) -> None:
        name = str(_slot(self._batches, name_of(entry["batch"]), OTHERS, MAX_BATCHES))
        batch = self._batches.get(name)
        if batch is None:
            batch = self._batches[name] = Batch(name)
        if is_done:
            batch.done += 1
        else:
            batch.failed += 1
        if started is not None:
            batch.asked = started if batch.asked is None else min(started, batch.asked)
        if ended is not None:
            batch.ended = ended if batch.ended is None else max(ended, batch.ended)

    def _add_spent(self, entry: dict[str, Any], *, is_batch: bool) -> None:
        prompt, completion = tokens_of(entry.get("usage"))
        model = name_of(entry.get("model"))
        told, estimated = amount(entry.get("cost")), None
        if told is None and (prompt or completion):
            price = self._prices.given(model)
            if price is not None:
                cost = self._prices.cost_of(entry["usage"], model, batch=is_batch)
                if cost is not None and math.isfinite(cost.amount_usd):
                    estimated = cost.amount_usd
                    self.price_source = price.source
        key = _slot(self._spent, (model, is_batch), OTHERS, MAX_MODELS)
        if key not in self._spent:
            self._spent[key] = Spent(OTHERS) if key is OTHERS else Spent(model, is_batch)
        for spent in (self.total, self._spent[key]):
            spent.entries += 1
            spent.prompt += prompt
            spent.completion += completion
            if told is not None:
                spent.cost_told = (spent.cost_told or 0.0) + told
            elif estimated is not None:
                spent.cost_estimated = (spent.cost_estimated or 0.0) + estimated
            elif prompt or completion:
                spent.unpriced += 1

    def _add_key(
        self, entry: dict[str, Any], attempts: int, seconds: float | None, *, is_done: bool
    ) -> None:
        label = name_of(entry.get("key"))
        if not label:
            return
        label = str(_slot(self._keys, label, OTHERS, MAX_KEYS))
        use = self._keys.get(label)
        if use is None:
            use = self._keys[label] = KeyUse(label)
        use.calls += attempts
        if is_done:
            use.done += 1
        else:
            use.failed += 1
            use.refused += str(entry.get("message")).startswith(_TOO_MANY)
        if seconds is not None:
            self._seconds[label] += seconds
            self._timed[label] += 1

    def keys(self) -> list[KeyUse]:
        """Return what each key did, by its position in the settings where its label tells it."""
        for label, count in self._timed.items():
            self._keys[label].mean_s = round(self._seconds[label] / count, 4)
        return sorted(self._keys.values(), key=lambda use: (_position(use.label), use.label))

    def batches(self) -> list[Batch]:
        """Return what each batch brought, in the order in which they were asked."""
        return sorted(self._batches.values(), key=lambda batch: (batch.asked or 0.0, batch.name))

    def spent(self) -> list[Spent]:
        """Return what each model took, the dearest first."""
        return sorted(
            self._spent.values(),
            key=lambda s: (-(s.cost or 0.0), -(s.prompt + s.completion), s.model, s.batch),
        )


def _position(label: str) -> int:
    digits = label[1:].partition("(")[0]
    return int(digits) if digits.isdecimal() and digits.isascii() else len(label) + _MOST
