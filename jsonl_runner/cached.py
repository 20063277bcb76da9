"""Answers that need no call: kept in the cache, or on their way to an identical row.

A hit costs no key, no place in a rate limit and no money. Of identical rows that are under way at
the same time, the first asks and the others wait for it; if it comes to nothing, the next one asks.
A row waits without a key and behind a row that has a thread, so that none waits for ever. Of
several processes one claims the request, and the others look for its answer.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .attempts import Kind, Verdict
from .cache import key_of
from .claims import Claim, claim

if TYPE_CHECKING:
    from collections.abc import Callable

    from .attempts import Reply
    from .cache import Cache
    from .clock import Clock, Stop
    from .prompts import Request
    from .records import Record
    from .transport.base import Transport
    from .worker import Caller


#: Seconds between two looks at what another process is asking.
_LOOK_S = 0.05


class _Hit(NamedTuple):
    """A success of this row's call, to be kept when its key is given back."""

    verdict: Verdict
    model: str
    body: bytes


class _Flight:
    """A request that one row is asking; others may wait for what comes of it."""

    __slots__ = ("over", "verdict")

    def __init__(self, lock: threading.RLock) -> None:
        self.over = threading.Condition(lock)
        self.verdict: Verdict | None = None


class _Row(threading.local):
    """What the row of a thread is asking."""

    key: str | None = None
    #: Of the request whose kept answer would not do: it is not looked for again.
    rejected: str | None = None
    #: Of the last request, whatever became of it.
    asked: str | None = None
    claim: Claim | None = None
    hit: _Hit | None = None


class Hearing:
    """A transport that remembers the body of each thread's last answer, if it was a 200.

    Args:
        inner: makes the calls.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._heard = threading.local()

    def post(self, path: str, body: bytes, key: str, **how: Any) -> Reply:
        """Send JSON; see `Transport`."""
        reply = self._inner.post(path, body, key, **how)
        self._heard.body = reply.body if reply.status == 200 else None
        return reply

    def take(self) -> bytes | None:
        """Return the body this thread's last call brought, and forget it."""
        body: bytes | None = getattr(self._heard, "body", None)
        self._heard.body = None
        return body

    def get(self, path: str, key: str) -> Reply:
        """Fetch; see `Transport`."""
        return self._inner.get(path, key)

    def abort(self) -> None:
        """End every call; see `Transport`."""
        self._inner.abort()

    def hang_up(self, thread: int) -> None:
        """End a thread's call; see `Transport`."""
        self._inner.hang_up(thread)

    def close(self) -> None:
        """Let go of what is shared; see `Transport`."""
        self._inner.close()


class CachingCaller:
    """A caller whose answers are kept, and who knows those that are; a `Caller` and a `Known`.

    Args:
        inner: makes the attempts, through `hearing`.
        hearing: its transport.
        cache: keeps the answers.
        base_url: where the requests go.
        clock: what rows wait by.
        note: is told once that answers from the cache repeat.
    """

    def __init__(
        self,
        inner: Caller,
        hearing: Hearing,
        cache: Cache,
        base_url: str,
        *,
        clock: Clock,
        note: Callable[[str], None],
    ) -> None:
        self._inner = inner
        self._hearing = hearing
        self._cache = cache
        self._base_url = base_url
        self._clock = clock
        self._note = note
        self._told = False
        # Reentrant: a signal handler may ask for the end while its own thread holds it.
        self._lock = threading.RLock()
        self._flights: dict[str, _Flight] = {}
        self._row = _Row()

    def prepare(self, record: Record) -> Request:
        """Return the request for a Record."""
        return self._inner.prepare(record)

    def known(self, request: Request, stop: Stop) -> Verdict | None:
        """Return the answer to a request without a call; None: the row has to ask, or is to stop.

        Waits while an identical row asks. After None, `leave` must be called when the row is done.

        Args:
            request: of this thread's row.
            stop: ends the wait.
        """
        key = self._row.asked = key_of(self._base_url, request.body, request.sample)
        if self._row.key == key:
            return None  # this row is asking it
        self._put_down()  # a correction, or what was wrong with an answer, has changed the request
        found = self._board(key, stop)
        if found is None and self._row.key is not None and self._row.rejected != key:
            found = self._look_up(key, stop)
            if found is None:
                return None
            self._land(found)
        if found is None or found.answer is None:
            return None
        self._tell(request)
        # What it used was used, and paid, the first time.
        return Verdict(Kind.OK, message=found.message, answer=found.answer._replace(usage=None))

    def attempt(self, record: Record, request: Request, key: str) -> Verdict:
        """Make one call."""
        verdict = self._inner.attempt(record, request, key)
        body = self._hearing.take()
        if verdict.kind is Kind.OK and body is not None:
            self._row.hit = _Hit(verdict, request.model, body)
        return verdict

    def correct(self, request: Request, verdict: Verdict) -> tuple[bool, str | None]:
        """Leave out or rename a parameter the model refuses."""
        return self._inner.correct(request, verdict)

    def again(self, record: Record, answer: str, reason: str) -> Record:
        """Return the Record with the answer and what is wrong with it."""
        return self._inner.again(record, answer, reason)

    def reject(self) -> None:
        """Take note that the last answer to this thread's row will not do.

        It is not kept. One that was kept is asked for anew, and the new one takes its place.
        """
        self._row.hit = None
        if self._row.key is None:
            self._row.rejected = self._row.asked

    def leave(self) -> None:
        """Keep what came of this thread's row, and let those that wait for it go on."""
        self._row.rejected = None
        self._put_down()

    def _put_down(self) -> None:
        hit, self._row.hit = self._row.hit, None
        try:
            if hit is not None and self._row.key is not None:
                self._cache.put(self._row.key, hit.model, hit.body)
        finally:
            self._land(None if hit is None else hit.verdict)

    def wake(self) -> None:
        """Make the waiting rows look again, at their `stop` too."""
        with self._lock:
            for flight in list(self._flights.values()):
                flight.over.notify_all()

    def close(self) -> None:
        """Let go of the cache."""
        self._cache.close()

    def _board(self, key: str, stop: Stop) -> Verdict | None:
        """Return what an identical row brings; None when this one asks from now on, or is to stop.

        In the first case the row has the key from then on.
        """
        with self._lock:
            while (flight := self._flights.get(key)) is not None:
                if stop.requested:
                    return None
                self._clock.wait(flight.over, None)
                if flight.verdict is not None:
                    return flight.verdict
            self._flights[key] = _Flight(self._lock)
            self._row.key = key
            return None

    def _look_up(self, key: str, stop: Stop) -> Verdict | None:
        """Return what the cache has; None when this row asks, for all processes, or is to stop."""
        answer = self._cache.get(key)
        while answer is None and not stop.requested:
            self._row.claim = claim(self._cache.claims, key)
            answer = self._cache.get(key)  # another process may just have brought it
            if self._row.claim is not None or stop.pause(_LOOK_S, self._clock):
                break
        return None if answer is None else answer.verdict

    def _land(self, verdict: Verdict | None) -> None:
        """End the flight of this thread's row, if it has one."""
        key, self._row.key = self._row.key, None
        if key is None:
            return
        claimed, self._row.claim = self._row.claim, None
        if claimed is not None:
            claimed.drop()
        with self._lock:
            flight = self._flights.pop(key)
            flight.verdict = verdict
            flight.over.notify_all()

    def _tell(self, request: Request) -> None:
        """Tell once that answers repeat, where the model was meant to vary them."""
        if self._told:
            return
        temperature = orjson.loads(request.body).get("temperature", 1)
        if temperature != 0:
            self._told = True
            self._note(
                f"cached answers repeat: with temperature {temperature!r} the model would vary "
                "them, the cache does not (turn it off to have each asked anew)"
            )
