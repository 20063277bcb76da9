"""What each request gets: the order of the checks, then a fault, a wait and an answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from .answers import answer_text, last_user_text, texts_before_answer, usage_of
from .breakage import BREAK, Stage
from .events import EVENTS_TYPE, broken_off, play, streamed, wants_events
from .fault_answers import (
    FaultyCall,
    bare_rate_limit,
    faulty_response,
    good_body,
    invalid_key,
    refuse,
    unknown_model,
    unsupported_parameter,
)
from .faults import (
    BREAKAGES,
    KEY_REFUSALS,
    MARKER_START,
    REFUSALS,
    Dice,
    Markers,
    UnknownFaultError,
)
from .http import JSON_TYPE, Connection, Request, Response
from .journal import CHAT_PATH, Entry, Journal
from .limits import Limiter
from .management import Management, key_of
from .messages import headers_of, problem, translated
from .routes import MESSAGES_PATH, is_managed
from .settings import DEFAULT_MODELS, SimulatorSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

MODELS_PATH = "/v1/models"


@dataclass(slots=True)
class _Exchange:
    """One request on its way to its answer. `body` is None if it was no JSON object."""

    connection: Connection
    entry: Entry
    key: str
    body: dict[str, Any] | None
    settings: SimulatorSettings
    arrived_s: float
    limit_headers: tuple[tuple[str, str], ...] = ()
    # Of Anthropic's API, None for OpenAI's.
    version: str | None = None

    @property
    def in_events(self) -> bool:
        """Whether its answer comes in pieces."""
        return self.settings.streams and self.version is None and wants_events(self.body or {})

    def problem(self) -> Response | None:
        """The refusal that its body earns by itself."""
        if self.version is None:
            return _body_problem(self.body, self.settings)
        return problem(self.body, self.version, self.settings)

    def in_words(self, response: Response) -> Response:
        """An answer in the words of the API that was asked."""
        if self.version is None:
            return response
        return translated(response, self.entry.number, self.body)

    def faulty(self) -> FaultyCall:
        tokenizer = self.settings.tokenizer
        return FaultyCall(self.entry.number, self.key, self.body or {}, tokenizer)


class Endpoints:
    """Answers requests by the present settings. All but `settings` belongs to the loop's thread."""

    def __init__(
        self, settings: SimulatorSettings, journal: Journal, now: Callable[[], float]
    ) -> None:
        self.settings = settings
        self._journal = journal
        self._now = now
        self._seen = settings
        self._limiter = Limiter(*settings.limits(), now)
        self._dice = Dice(settings.seed)
        self._markers = Markers()
        self.management = Management(journal, self._markers, now, lambda: self.settings)

    def handle(self, connection: Connection, request: Request) -> None:
        """Write the request down and see to it that it ends, now or later."""
        settings = self._current_settings()
        if is_managed(request.path):
            self.management.handle(connection, request, settings)
            return
        if request.upload is not None:
            request.upload.close()
        key = key_of(request)
        body = _json_object(request.body) if request.method == "POST" else None
        model = body.get("model") if body else None
        entry = self._journal.begin(
            key=key,
            method=request.method,
            path=request.path,
            model=model if isinstance(model, str) else "",
            prompt=last_user_text(body) if body and settings.record_bodies else "",
        )
        exchange = _Exchange(connection, entry, key, body, settings, time.monotonic())
        route = (request.method, request.path)
        if route == ("POST", MESSAGES_PATH):
            exchange.version = request.headers.get("anthropic-version", "")
            self._chat(exchange)
        elif route == ("POST", CHAT_PATH):
            self._chat(exchange)
        elif route == ("GET", MODELS_PATH):
            self._models(exchange)
        else:
            message = f"Unknown request URL: {request.method} {request.path}."
            self._send(exchange, refuse(404, message, code="unknown_url"))

    def _current_settings(self) -> SimulatorSettings:
        settings = self.settings
        if settings is not self._seen:
            self._seen = settings
            numbers = settings.limits()
            if numbers != self._limiter.numbers:
                self._limiter = Limiter(*numbers, self._now)
            if settings.seed != self._dice.seed:
                self._dice = Dice(settings.seed)
        return settings

    def _models(self, exchange: _Exchange) -> None:
        settings = exchange.settings
        fault = settings.key_faults.get(exchange.key)
        if not _accepted(exchange):
            self._send(exchange, invalid_key(exchange.key))
        elif fault in KEY_REFUSALS:
            self._misbehave(exchange, fault)
        else:
            names = DEFAULT_MODELS if settings.models is None else settings.models
            listed = [
                {"id": name, "object": "model", "created": 0, "owned_by": "simulator"}
                for name in names
            ]
            self._send(exchange, Response(200, orjson.dumps({"object": "list", "data": listed})))

    def _chat(self, exchange: _Exchange) -> None:
        """The checks in their order; the first that bites answers."""
        settings = exchange.settings
        if not _accepted(exchange):
            self._send(exchange, invalid_key(exchange.key))
            return
        fault = settings.key_faults.get(exchange.key)
        if fault is not None:
            self._misbehave(exchange, fault)
            return
        refused = exchange.problem()
        if refused is not None:
            self._send(exchange, refused)
            return
        body = exchange.body or {}
        try:
            fault = self._markers.next_fault(texts_before_answer(body, MARKER_START))
        except UnknownFaultError as error:
            self._send(exchange, refuse(400, str(error)))
            return
        if fault is not None:
            self._misbehave(exchange, fault)
            return
        if settings.max_in_flight is not None and exchange.entry.in_flight > settings.max_in_flight:
            self._send(exchange, bare_rate_limit())
            return
        if self._limiter.active:
            tokens: int = usage_of(body, answer_text(body), settings.tokenizer)["total_tokens"]
            exchange.limit_headers, refused = self._limiter.admit(exchange.key, tokens)
            if refused is not None:
                self._send(exchange, refused)
                return
        fault = self._dice.fault(settings.fault_rates)
        if fault is not None:
            self._misbehave(exchange, fault)
            return
        self._answer(exchange, lambda late: _good_response(late.faulty()))

    def _answer(self, exchange: _Exchange, make: Callable[[_Exchange], Response]) -> None:
        """Send an answer after the latency, or its events spread over it."""
        if not exchange.in_events:
            self._later(exchange, lambda late: self._send(late, make(late)))
            return
        response, body = make(exchange), exchange.body or {}
        events = streamed(response, body)
        if exchange.entry.fault == "error_in_200":
            good = streamed(_good_response(exchange.faulty()), body)
            events = broken_off(good or [], response)
        if events is None:
            self._later(exchange, lambda late: self._send(late, response))
            return
        journal, entry, settings = self._journal, exchange.entry, exchange.settings
        latency_s = self._dice.latency_s(settings.latency_s, settings.latency_spread_s)
        self._play(
            exchange,
            play(
                exchange.connection,
                _headers(exchange),
                events,
                latency_s,
                lambda: journal.finish(entry, 200),
            ),
        )

    def _misbehave(self, exchange: _Exchange, kind: str) -> None:
        """Refusals and breakages begin at once, bad answers take as long as good ones."""
        exchange.entry.fault = kind
        if kind in BREAKAGES:
            self._break(exchange, kind)
        elif kind in REFUSALS:
            self._send(exchange, faulty_response(kind, exchange.faulty()))
        else:
            self._answer(exchange, lambda late: faulty_response(kind, late.faulty()))

    def _break(self, exchange: _Exchange, kind: str) -> None:
        journal, entry = self._journal, exchange.entry
        good = exchange.in_words(_good_response(exchange.faulty()))
        events = streamed(good, exchange.body or {}) if exchange.in_events else None
        stage = Stage(
            exchange.connection,
            good.body if events is None else b"".join(events),
            _headers(exchange),
            lambda status: journal.finish(entry, status),
            JSON_TYPE if events is None else EVENTS_TYPE,
        )
        self._play(exchange, BREAK[kind](stage))

    def _play(self, exchange: _Exchange, scene: Coroutine[None, None, None]) -> None:
        """Run what sends an answer bit by bit, until the client leaves."""
        journal, entry = self._journal, exchange.entry
        task = asyncio.get_running_loop().create_task(scene)

        def gone() -> None:
            task.cancel()
            journal.finish(entry, None)

        exchange.connection.on_gone = gone

    def _later(self, exchange: _Exchange, then: Callable[[_Exchange], None]) -> None:
        """Do `then` after the latency, unless the client leaves before."""
        settings = exchange.settings
        latency_s = self._dice.latency_s(settings.latency_s, settings.latency_spread_s)
        if latency_s == 0.0:
            then(exchange)
            return
        timer = asyncio.get_running_loop().call_later(latency_s, then, exchange)
        journal, entry = self._journal, exchange.entry

        def gone() -> None:
            timer.cancel()
            journal.finish(entry, None)

        exchange.connection.on_gone = gone

    def _send(self, exchange: _Exchange, response: Response) -> None:
        response = exchange.in_words(response)
        response.headers = _headers(exchange) + response.headers
        # Written down before the bytes go out: who has the answer finds it in the journal.
        status = response.status if exchange.connection.is_open else None
        self._journal.finish(exchange.entry, status, response.retry_after_s)
        exchange.connection.respond(response)


def _headers(exchange: _Exchange) -> tuple[tuple[str, str], ...]:
    elapsed_ms = int((time.monotonic() - exchange.arrived_s) * 1000)
    if exchange.version is not None:
        limits = headers_of(exchange.limit_headers, datetime.now(UTC))
        return (("request-id", f"req_sim_{exchange.entry.number}"), *limits)
    return (
        ("x-request-id", f"req_sim_{exchange.entry.number}"),
        ("openai-processing-ms", str(elapsed_ms)),
        *exchange.limit_headers,
    )


def _good_response(call: FaultyCall) -> Response:
    return Response(200, good_body(call))


def _accepted(exchange: _Exchange) -> bool:
    keys = exchange.settings.keys
    return exchange.key != "" and (keys is None or exchange.key in keys)


def _json_object(raw: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None  # the caller answers 400: bad JSON is an expected request here
    return body if isinstance(body, dict) else None


def _body_problem(body: dict[str, Any] | None, settings: SimulatorSettings) -> Response | None:
    """The refusal a body earns by itself: no JSON, no model or messages, or a refused field."""
    if body is None:
        return refuse(400, "We could not parse the JSON body of your request.")
    for name, kind in (("model", str), ("messages", list)):
        if not isinstance(body.get(name), kind):
            message = f"Missing or invalid required parameter: '{name}'."
            return refuse(400, message, code="missing_required_parameter", param=name)
    if settings.models is not None and body["model"] not in settings.models:
        return unknown_model(body["model"])
    for name in settings.unsupported_params:
        if name in body:
            return unsupported_parameter(name, body[name])
    return None
