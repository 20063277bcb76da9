"""What a call cost: as the provider says, else by prices; looked up once for each model."""

from __future__ import annotations

import ipaddress
import math
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .clock import Clock
    from .pricing import Prices, Rates

#: Seconds for which a price holds: some change with the time of day, at full or half hours.
_PRICE_HOLDS_S = 600.0
#: A prompt beyond every length at which a model's rates change.
_ENDLESS = 10**9


class Costs:
    """Prices of calls to one address; for any number of threads.

    Args:
        prices: the user's own, and the library's.
        api_base: where the calls go. The library's prices hold for addresses that it knows.
        clock: what prices change with.
    """

    def __init__(self, prices: Prices, api_base: str, clock: Clock) -> None:
        self._prices = prices
        self._provider = api_base
        self._clock = clock
        # Half a second of imports that a server of one's own is not to pay for.
        self._has_list = not is_own_server(api_base)
        self._names: dict[tuple[str, str], str | None] = {}
        self._rates: dict[str, Rates | None] = {}
        self._rates_of = -1.0

    def has_price(self, model: str) -> bool:
        """Return whether it is known what a model costs."""
        return self._name_of(model, None) is not None

    def cost_of(
        self, usage: Mapping[str, Any] | None, asked: str, answered: str | None = None
    ) -> tuple[float | None, str]:
        """Return what a call cost in US dollars (None: unknown), and how that is known.

        Args:
            usage: of its answer.
            asked: the model that was asked for.
            answered: the model that answered, by its own name.

        Returns:
            With it nothing where the provider says it (in its currency), `prices`, or `estimate`.
        """
        if usage is None:
            return None, ""
        told = usage.get("cost")
        if _is_number(told):
            return float(told), ""
        name = self._name_of(asked, answered)
        if name is None:
            return None, ""
        rates = self._flat_rates(name)
        if rates is not None:
            amount = _plain_cost(usage, rates)
            if amount is not None:
                return amount, "prices"
        cost = self._prices.cost_of(usage, name, provider=self._provider)
        if cost is None:
            return None, ""
        return cost.amount_usd, "estimate" if cost.estimated else "prices"

    def _name_of(self, asked: str, answered: str | None) -> str | None:
        """Return the name by which a price is known; the user's own go before the library's."""
        names = (asked, answered or asked)
        try:
            return self._names[names]
        except KeyError:
            found = None
            own = [name for name in names if self._is_own(name)]
            if own:
                found = own[0]
            elif self._has_list:
                known = (n for n in (names[1], asked) if self._listed(n))
                found = next(known, None)
            self._names[names] = found
            return found

    def _is_own(self, name: str) -> bool:
        return any(name == own or fnmatchcase(name, own) for own in self._prices.own)

    def _listed(self, name: str) -> bool:
        return self._prices.price_of(name, self._provider) is not None

    def _flat_rates(self, name: str) -> Rates | None:
        """Return rates that hold for prompts of every length, None where they do not."""
        period = self._clock.wall() // _PRICE_HOLDS_S
        if period != self._rates_of:
            self._rates, self._rates_of = {}, period
        try:
            return self._rates[name]
        except KeyError:
            price = self._prices.price_of(name, self._provider)
            endless = {"prompt_tokens": _ENDLESS, "completion_tokens": 0}
            cost = self._prices.cost_of(endless, name, provider=self._provider)
            is_flat = (
                price is not None
                and cost is not None
                and math.isclose(cost.amount_usd, price.live.input * _ENDLESS / 1e6)
            )
            self._rates[name] = price.live if price is not None and is_flat else None
            return self._rates[name]


def usage_together(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two calls used: numbers are added, else the second's word counts."""
    total = dict(first)
    for name, value in second.items():
        before = total.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            total[name] = usage_together(before, value)
        elif _is_number(value) and _is_number(before):
            total[name] = before + value
        elif value is not None:
            total[name] = value
    return total


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_own_server(api_base: str) -> bool:
    """Return whether an address is no provider's: an IP address, or a host without a domain."""
    host = urlsplit(api_base).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal"))
    return True


def _plain_cost(usage: Mapping[str, Any], rates: Rates) -> float | None:
    """Return the cost by flat rates of a usage in the commonest form, None for any other.

    The same steps in the same order as `pricing` takes them, for the same digits, at a tenth of
    the time: every answer comes through here.
    """
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    details = usage.get("prompt_tokens_details")
    cached = 0
    if details is not None:
        if type(details) is not dict or details.get("audio_tokens"):
            return None
        cached = details.get("cached_tokens") or 0
    if (
        type(prompt) is not int
        or type(completion) is not int
        or type(cached) is not int
        or not 0 <= cached <= prompt
        or completion < 0
        or "cache_creation_input_tokens" in usage
    ):
        return None
    dollars_m = (prompt - cached) * rates.input + cached * rates.cached + completion * rates.output
    return dollars_m / 1_000_000
