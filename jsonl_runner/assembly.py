"""Putting a worker together from the settings."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import backoff
from .callers import ChatCaller, FunctionCaller
from .config import DEFAULT_PER_KEY_CONCURRENCY, Config
from .engines.local import file_limit
from .errors import ConfigError
from .keys import Rotator
from .post import load_post
from .prompts import Composer
from .review import Review
from .secret import Redactor, Secret
from .spending import Spending
from .streaming import Streaming
from .transport.base import Transport, TransportSettings
from .transport.on_demand import ClientsOnDemand
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    import openai

    from .attempts import Answer
    from .cached import CachingCaller
    from .clock import Clock, Stop
    from .records import Record
    from .worker import Caller

    #: Takes a Record and a key, returns the output.
    Function = Callable[[Record, str], str | Answer]
    _Hire = Callable[[Stop, "StandIn | None", int | None], Worker]

#: What the books call the one key of a function that needs none.
_NO_KEY = Secret("", 1)


@dataclass(frozen=True)
class Tools:
    """What a function of the user's may call the provider with.

    Attributes:
        chat: makes the calls that it stands in for.
        client: returns the SDK's client of a key.
    """

    chat: ChatCaller
    client: Callable[[str], openai.OpenAI]


@dataclass(frozen=True)
class StandIn:
    """A function of the user's in place of the provider.

    Attributes:
        make: returns it, from what it may call the provider with.
        uses_keys: whether it calls the provider; if not, there is no key to try out first.
    """

    make: Callable[[Tools], Function]
    uses_keys: bool = True


@dataclass(frozen=True)
class Crew:
    """A worker and what it works with.

    Attributes:
        work: does one Record.
        rotator: the keys' books.
        transport: makes the calls.
        clients: the SDK's, for functions.
        threads: how many may work at the same time.
        notes: what the user should know of the choices made here.
        caching: the caller that keeps answers; None: the settings want none kept.
    """

    work: Worker
    rotator: Rotator
    transport: Transport
    clients: ClientsOnDemand
    threads: int
    notes: tuple[str, ...]
    caching: CachingCaller | None
    _hire: _Hire

    def hire(
        self, until: Stop, *, function: StandIn | None = None, max_retries: int | None = None
    ) -> Worker:
        """Return another worker on the same keys, connections and corrections.

        Args:
            until: ends its work, and its alone.
            function: stands in for the provider.
            max_retries: None: as configured.
        """
        return self._hire(until, function, max_retries)

    def close(self) -> None:
        """Close the connections and the cache."""
        self.transport.close()
        self.clients.close()
        if self.caching is not None:
            self.caching.close()


def assemble(
    config: Config,
    *,
    clock: Clock,
    stop: Stop,
    note: Callable[[str], None],
    function: StandIn | None = None,
    rows: int | None = None,
    streams: bool = False,
    spending: Spending | None = None,
) -> Crew:
    """Return everything that turns Records into Outcomes.

    Args:
        config: the settings.
        clock: where the time comes from.
        stop: ends waits; its abort ends calls.
        note: is told what the run should know.
        function: stands in for the provider.
        rows: never more threads than this; None when unknown.
        streams: whether answers may be heard while they come; see `streaming`.
        spending: what calls cost and may cost; None: the settings' limits, for these calls.

    Raises:
        ConfigError: there is no key, or no such function as `post` names.
    """
    keys = keys_of(config, function)
    threads, per_key, notes = _sizes(config, len(keys), rows)
    redact = Redactor(config.api_keys)
    review = Review(load_post(config.post), redact)
    rng = random.Random()  # spreads waits, guards nothing
    rotator = _rotator(config, keys, per_key, clock, rng, stop)
    transport = _transport(config, notes, stop, streams=streams)
    clients = ClientsOnDemand(_transport_settings(config), stop.on_abort)
    chat, caching = _callers(config, transport, clock, note)
    office = _Office(
        config,
        clock,
        note,
        Tools(chat, clients.of),
        caching,
        rotator,
        review,
        redact,
        spending or _limits(config, function, clock),
        rng,
    )
    return Crew(
        office.hire(stop, function, None),
        rotator,
        transport,
        clients,
        threads,
        tuple(notes),
        caching,
        office.hire,
    )


@dataclass(frozen=True)
class _Office:
    """What all workers of a crew share."""

    config: Config
    clock: Clock
    note: Callable[[str], None]
    tools: Tools
    caching: CachingCaller | None
    rotator: Rotator
    review: Review
    redact: Redactor
    spending: Spending | None
    rng: random.Random

    def hire(self, until: Stop, function: StandIn | None, max_retries: int | None) -> Worker:
        """Return a worker; see `Crew.hire`."""
        config = self.config
        # What a function answers may hang on more than its request: it is always called.
        known = self.caching if function is None else None
        caller: Caller = known or self.tools.chat
        if function is not None:
            shape = config.params.get("response_format")
            caller = FunctionCaller(function.make(self.tools), self.clock, shape)
        _wake(until, known, self.spending)
        return Worker(
            caller,
            self.rotator,
            self.review,
            max_retries=config.max_retries if max_retries is None else max_retries,
            schema_retries=config.schema_retries,
            waits=backoff.ROW.starting_at(config.retry_delay),
            clock=self.clock,
            stop=until,
            redact=self.redact,
            note=self.note,
            rng=self.rng,
            known=known,
            spending=self.spending,
        )


def _wake(until: Stop, *sleepers: CachingCaller | Spending | None) -> None:
    """Have those that wait for something of their own look up when the end is wished for."""
    for sleeper in sleepers:
        if sleeper is not None:
            until.on_request(sleeper.wake)


def _limits(config: Config, function: StandIn | None, clock: Clock) -> Spending | None:
    """Return the limits of the settings, None when there are none."""
    is_free = function is not None and not function.uses_keys
    if is_free or (config.max_cost is None and config.max_tokens_total is None):
        return None
    return Spending(config, clock)


def _transport(config: Config, notes: list[str], stop: Stop, *, streams: bool) -> Transport:
    transport = make_transport(config, notes.append)
    if streams:
        transport = Streaming(transport)
    stop.on_abort(transport.abort)
    return transport


def _rotator(
    config: Config,
    keys: tuple[Secret, ...],
    per_key: int,
    clock: Clock,
    rng: random.Random,
    stop: Stop,
) -> Rotator:
    rotator = Rotator(
        keys,
        concurrency=per_key,
        clock=clock,
        rng=rng,
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
    )
    stop.on_request(rotator.wake)
    return rotator


def _callers(
    config: Config, transport: Transport, clock: Clock, note: Callable[[str], None]
) -> tuple[ChatCaller, CachingCaller | None]:
    """Return who makes the calls, and who keeps their answers; both share what was learnt."""
    composer = Composer(config.model, config.params)
    chat = ChatCaller(transport, composer, clock)
    if not config.cache:
        return chat, None
    from .cache import cache_of  # noqa: PLC0415  # 50 ms that runs without it need not pay
    from .cached import CachingCaller, Hearing  # noqa: PLC0415

    hearing = Hearing(transport)
    asking = ChatCaller(hearing, composer, clock)
    cache = cache_of(config, clock=clock, note=note)
    return chat, CachingCaller(asking, hearing, cache, config.api_base, clock=clock, note=note)


def keys_of(config: Config, function: StandIn | None) -> tuple[Secret, ...]:
    """Return the keys that calls are made with; for a function that needs none, one that is none.

    Raises:
        ConfigError: there is no key.
    """
    keys = config.api_keys if function is None or function.uses_keys else ()
    if not keys and function is None:
        raise ConfigError(
            "no API key: put it into config.json (api_keys) or OPENAI_API_KEY (for a server "
            "that checks none, any word will do), or try --simulate"
        )
    return keys or (_NO_KEY,)


def make_transport(config: Config, note: Callable[[str], None]) -> Transport:
    """Return the transport the settings ask for, or the one that can be had.

    Args:
        config: the settings.
        note: is told when it is another one.

    Raises:
        ConfigError: the proxy, the certificates, http2 or the environment are of no use to it.
    """
    settings = _transport_settings(config)
    if config.transport == "curl":
        try:
            from .transport.curl import CurlTransport  # noqa: PLC0415  # may be missing
        except ImportError as error:
            note(
                f"pycurl cannot be imported ({error}): using the openai SDK, which costs more "
                "CPU; pip install pycurl"
            )
        else:
            return CurlTransport(settings)
    if config.http2:
        raise ConfigError("http2 needs the curl transport: leave it out, or install pycurl")
    from .transport.sdk import OpenAITransport  # noqa: PLC0415  # takes a second

    return OpenAITransport(settings)


def _transport_settings(config: Config) -> TransportSettings:
    return TransportSettings(
        config.api_base,
        timeout_s=config.timeout,
        connect_timeout_s=config.connect_timeout,
        body_timeout_s=config.body_timeout,
        proxy=config.proxy,
        http2=config.http2,
    )


def sizes(config: Config, keys: int, rows: int | None) -> tuple[int, int]:
    """Return the threads that are asked for, and the calls at once on one key.

    Args:
        config: the settings.
        keys: how many there are.
        rows: never more threads than this; None when unknown.
    """
    per_key = config.per_key_concurrency
    threads = config.threads
    if threads is None:
        threads = keys * per_key
    elif per_key == DEFAULT_PER_KEY_CONCURRENCY:
        per_key = max(per_key, math.ceil(threads / keys))
    threads = min(threads, max(1, rows)) if rows is not None else threads
    return threads, per_key


def _sizes(config: Config, keys: int, rows: int | None) -> tuple[int, int, list[str]]:
    """Return the same, as far as this system allows, and what to tell the user of it."""
    threads, per_key = sizes(config, keys, rows)
    limit = file_limit()
    notes = []
    if limit is not None and threads > limit:
        notes.append(
            f"{threads:,} threads would need more open files than this system allows; using "
            f"{limit:,} (raise the limit with ulimit -n)"
        )
        threads = limit
    return threads, per_key, notes
