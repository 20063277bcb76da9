"""The key rotator: which key may make the next call, and when.

Pure bookkeeping under one lock. `acquire` and `release` are the only doors; between them, while the
call is made, no lock is held. One thread at a time waits for a key (the others queue behind it on
a plain lock), so a cooldown's end wakes one thread and not four thousand.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from . import backoff
from .attempts import Kind, Verdict
from .breaker import Breaker
from .buckets import Bucket
from .concurrency import Concurrency
from .errors import NoUsableKeyError, RunStoppedError, WrongEndpointError
from .key import Key, Lease
from .limits import in_words

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from .clock import Clock, Stop
    from .secret import Secret
    from .snapshot import KeyView

    #: Of a heap: what it is ordered by, a number to decide ties, the key's version then, the key.
    _Entry = tuple[float, int, int, Key]


#: The key can do no more; the server has not spoken.
_OF_KEY = frozenset({Kind.KEY_FINISHED, Kind.NO_MODEL})
_NO_ANSWER = frozenset({Kind.TRANSIENT, Kind.UNREACHABLE})
#: What says something against the key or the server.
_TELLING = _OF_KEY | _NO_ANSWER | {Kind.RATE_LIMITED, Kind.FORBIDDEN}
#: What lets a key rest.
_COOLS = frozenset({Kind.RATE_LIMITED, Kind.FORBIDDEN})
#: Seconds without any answer after which that is said.
_QUIET_S = 10.0
#: Seconds a key rests after its first 403.
_SUSPECT_S = 1.0
#: Seconds. A shorter wait is how a paced run goes, no news.
_WORTH_SAYING_S = 1.0


@dataclass(frozen=True, slots=True)
class KeysView:
    """All keys at a glance, and why nothing moves if nothing does."""

    ready: int
    cooling: int
    retired: int
    in_flight: int
    calls: int
    #: Why no call can be made now, in a few words; empty when calls can.
    waiting_for: str
    #: What is wrong with the server, in a sentence; empty when nothing is.
    trouble: str
    #: The keys that are retired, and why, a line each.
    losses: tuple[str, ...] = ()


class Books(Protocol):
    """What is known of a run's keys, wherever they are used."""

    def view(self) -> KeysView:
        """Return the state of all keys, for the progress line."""

    def keys(self) -> list[KeyView]:
        """Return every key as people see it."""


class Rotator:
    """Hands out the ready key with the most room.

    Args:
        secrets: the keys.
        concurrency: calls at the same time on one key, at the most.
        requests_per_minute, tokens_per_minute: limits of one key, None to learn them.
        clock: where the time comes from.
        rng: source of jitter.
    """

    def __init__(
        self,
        secrets: Sequence[Secret],
        *,
        concurrency: int,
        clock: Clock,
        rng: random.Random,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        self._clock = clock
        self._rng = rng
        now = clock.now()
        self._keys = [
            Key(
                secret,
                Concurrency(concurrency, trusted=not secret.reveal()),
                (
                    Bucket(requests_per_minute, now) if requests_per_minute else None,
                    Bucket(tokens_per_minute, now) if tokens_per_minute else None,
                ),
            )
            for secret in secrets
        ]
        self._turn = threading.Lock()
        # Reentrant: a signal handler that wakes the waiter may interrupt a holder of this lock.
        # Held by its own name: to enter it through the condition is two calls of Python more.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        #: Whether a thread waits on `_changed`.
        self._is_awaited = False
        self._numbers = itertools.count()
        self._ready: list[_Entry] = []  # ordered by -room
        self._resting: list[_Entry] = []  # ordered by when the rest ends
        self._endpoint = Breaker()
        #: Keys that are not retired.
        self._usable = len(self._keys)
        self._lack_model = 0
        #: Whether any call has succeeded.
        self._worked = False
        #: When an answer came last.
        self._released_at = now
        for key in self._keys:
            self._file(key, now)

    def acquire(self, tokens: int, stop: Stop) -> Lease | None:
        """Wait for a key that may make a call, and book the call.

        Args:
            tokens: what the call is expected to use of the token limits.
            stop: ends the wait.

        Returns:
            The lease, which must go back through `release`; None when a stop was requested.

        Raises:
            NoUsableKeyError: every key is retired.
            WrongEndpointError: every key is, for not knowing the model.
        """
        with self._turn, self._lock:
            while not stop.requested:
                if self._usable == 0:
                    raise self._all_retired()
                now = self._clock.now()
                wait_s = 0.0 if self._endpoint.calm else self._endpoint.wait_s(now)
                if wait_s == 0:
                    lease = self._take(tokens, now)
                    if lease is not None:
                        return lease
                    wait_s = self._resting[0][0] - now if self._resting else None
                self._is_awaited = True
                try:
                    self._clock.wait(self._changed, wait_s)
                finally:
                    self._is_awaited = False
        return None

    def wake(self) -> None:
        """Make the waiting thread look again, at its `stop` too."""
        with self._lock:
            self._changed.notify_all()

    def _take(self, tokens: int, now: float) -> Lease | None:
        while self._resting and self._resting[0][0] <= now:
            _, _, version, key = heapq.heappop(self._resting)
            if version == key.version:
                self._file(key, now)
        while self._ready:
            _, _, version, key = self._ready[0]
            if version != key.version:
                heapq.heappop(self._ready)
                continue
            wait_s = key.wait_s(tokens, now) if key.is_bounded else 0.0
            if wait_s:
                heapq.heappop(self._ready)
                self._rest(key, now + wait_s)
                continue
            lease = key.take(tokens, now)
            if not self._endpoint.calm:
                self._endpoint.admitted()
            self._file(key, now)
            return lease
        return None

    def _file(self, key: Key, now: float) -> None:
        """Put a key where `_take` finds it: among the ready, the resting, or nowhere."""
        key.version += 1
        if key.retired is not None:
            return
        if key.cooling_until > now:
            self._rest(key, key.cooling_until)
            return
        room = key.concurrency.limit - key.in_flight
        if room > 0:
            entry = (-room, next(self._numbers), key.version, key)
            if self._ready and self._ready[0][3] is key:
                heapq.heapreplace(self._ready, entry)  # most often: what stands there is stale now
            else:
                self._push(self._ready, entry)

    def _rest(self, key: Key, until: float) -> None:
        key.version += 1
        self._push(self._resting, (until, next(self._numbers), key.version, key))

    def _push(self, heap: list[_Entry], entry: _Entry) -> None:
        heapq.heappush(heap, entry)
        if len(heap) > 4 * len(self._keys) + 64:  # mostly stale entries: drop them
            heap[:] = [entry for entry in heap if entry[2] == entry[3].version]
            heapq.heapify(heap)

    def release(self, lease: Lease, verdict: Verdict) -> None:
        """Take a lease back and learn from what its call brought."""
        with self._lock:
            now = self._clock.now()
            self._released_at = now
            key, in_flight = lease.key, lease.key.in_flight
            key.in_flight = in_flight - 1
            if verdict.limits is not None:
                key.learn(lease, verdict.limits, now)
            if key.configured[1] is not None:
                self._settle_tokens(key.configured[1], lease, verdict)
            if verdict.kind in _TELLING:
                self._take_trouble(lease, verdict, now)
            else:
                self._worked = self._worked or verdict.kind is Kind.OK
                key.forbidden_row = None
                if lease.number > key.rested_number:
                    key.refusals = 0
                key.concurrency.succeeded(lease.position, in_flight)
            if not self._endpoint.calm and verdict.kind not in _NO_ANSWER:
                self._endpoint.answered()
            self._file(key, now)
            if self._is_awaited:
                self._changed.notify()

    def _take_trouble(self, lease: Lease, verdict: Verdict, now: float) -> None:
        """Learn from a call that says something against its key or the server."""
        key = lease.key
        if verdict.kind in _COOLS:
            key.trouble = f"{verdict.code}: {verdict.message}"
        if verdict.kind is Kind.RATE_LIMITED:
            key.refused += 1
            self._cool(lease, verdict, now)
            return
        key.errors += 1
        if verdict.kind in _OF_KEY:
            self._retire(key, verdict)
        elif verdict.kind is Kind.FORBIDDEN:
            if key.forbids(lease.row):
                self._retire(key, verdict)
            else:  # its row shall go to another key, and another row come to this one
                key.cooling_until = max(key.cooling_until, now + _SUSPECT_S)
        elif verdict.of_server:
            self._endpoint.failed(verdict, self._rng, now)

    def give_back(self, lease: Lease) -> None:
        """Take back a lease whose call was not made, or was cut off by an abort."""
        with self._lock:
            lease.key.in_flight -= 1
            self._endpoint.given_back()
            self._file(lease.key, self._clock.now())
            self._changed.notify()

    def _retire(self, key: Key, verdict: Verdict) -> None:
        self._usable -= key.retired is None
        self._lack_model += key.retired is None and verdict.kind is Kind.NO_MODEL
        key.retired = f"{verdict.code}: {verdict.message}"

    def _settle_tokens(self, bucket: Bucket, lease: Lease, verdict: Verdict) -> None:
        """Replace a call's estimate by what it used, where the provider does not tell the rest."""
        usage = (verdict.answer and verdict.answer.usage) or {}
        used = usage.get("total_tokens")
        if isinstance(used, int) and not isinstance(used, bool):
            bucket.give_back(lease.tokens - used)
        elif verdict.kind is Kind.RATE_LIMITED:
            bucket.give_back(lease.tokens)

    def _cool(self, lease: Lease, verdict: Verdict, now: float) -> None:
        key = lease.key
        saturated = verdict.retry_after_s is None
        for bucket in key.learned:
            if bucket is not None:
                bucket.refused()
        key.concurrency.refused(lease.number, lease.position, key.calls, saturated=saturated)
        if verdict.retry_after_s is not None:
            until = now + verdict.retry_after_s
        elif lease.number <= key.rested_number:
            return  # sent before the cooldown that is on or over: the same refusal again
        else:
            until = now + backoff.KEY.wait_s(key.refusals, self._rng)
            key.refusals += 1
        key.rested_number = key.calls
        key.cooling_until = max(key.cooling_until, until)

    def _all_retired(self) -> RunStoppedError:
        if self._lack_model == len(self._keys) and not self._worked:
            return WrongEndpointError(f"{self._keys[0].retired}: check model (--model)")
        return NoUsableKeyError.of([(key.secret.label, key.retired or "") for key in self._keys])

    def share(self, part: float, calls: int) -> None:
        """Keep to a part of what each key may do: other processes have the rest.

        Args:
            part: of its limits on requests and tokens.
            calls: at the same time on one key, at the most.
        """
        with self._lock:
            now = self._clock.now()
            for key in self._keys:
                key.share(part, calls)
                self._file(key, now)
            self._changed.notify_all()

    def learn(self, label: str, *, retired: str = "", cooldown_s: float = 0.0, why: str) -> None:
        """Take note of what others, who use the same key, have been told of it.

        Args:
            label: the key's; one that is not here is none of ours.
            retired: why it is of no more use; empty: it is.
            cooldown_s: seconds that it is to rest.
            why: what was said when it was told to.
        """
        with self._lock:
            now = self._clock.now()
            for key in self._keys:
                if key.secret.label != label or key.retired is not None:
                    continue
                if retired:
                    self._usable -= 1
                    key.retired = retired
                elif cooldown_s:
                    key.cooling_until = max(key.cooling_until, now + cooldown_s)
                    key.trouble = why
                self._file(key, now)
            self._changed.notify_all()

    def view(self) -> KeysView:
        """Return the state of all keys, for the progress line."""
        with self._lock:
            now = self._clock.now()
            states = [self._state(key, now) for key in self._keys]
            ready = states.count("ready")
            cooling = states.count("cooling")
            waiting_for = self._endpoint.waiting_for(now)
            resting = [until for until, _, version, key in self._resting if version == key.version]
            if not waiting_for and self._usable and len(resting) == self._usable:
                wait_s = min(resting) - now
                if wait_s >= _WORTH_SAYING_S:
                    what = "at their limit" if ready else "cooling"
                    waiting_for = (
                        f"all {self._usable} keys are {what}, next ready in {in_words(wait_s)}"
                    )
            in_flight = sum(key.in_flight for key in self._keys)
            quiet_s = now - self._released_at
            if not waiting_for and in_flight and quiet_s >= _QUIET_S:
                waiting_for = f"waiting for {in_flight} answers, none for {in_words(quiet_s)}"
            return KeysView(
                ready,
                cooling,
                states.count("retired"),
                in_flight=in_flight,
                calls=sum(key.calls for key in self._keys),
                waiting_for=waiting_for,
                trouble=self._endpoint.trouble,
                losses=tuple(
                    f"key {key.secret.label} is retired: {key.retired}"
                    for key in self._keys
                    if key.retired is not None
                ),
            )

    def keys(self) -> list[KeyView]:
        """Return every key as people see it."""
        with self._lock:
            now = self._clock.now()
            return [key.view(now) for key in self._keys]

    def _state(self, key: Key, now: float) -> str:
        if key.retired is not None:
            return "retired"
        return "cooling" if key.cooling_until > now else "ready"
