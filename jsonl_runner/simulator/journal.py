"""What the simulator was asked and what it answered: the tests' witness. Thread-safe."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .journal_batches import BatchJournal
from .routes import MESSAGES_PATH, route_of

if TYPE_CHECKING:
    from collections.abc import Callable

CHAT_PATH = "/v1/chat/completions"
_ANSWERING = (CHAT_PATH, MESSAGES_PATH)


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call. Times are seconds of the simulator's `now` clock.

    `status` is None while the call is in flight, and for ever if no complete answer was sent (hang,
    stall, drip, truncated, reset, close, or the client left). A call is in flight from the complete
    arrival of its request until its answer is handed to the socket. `in_flight` counts the calls
    in flight in the whole server, this one included, as it arrived.
    """

    number: int
    key: str
    method: str
    path: str
    model: str
    prompt: str
    status: int | None
    fault: str | None
    started_s: float
    finished_s: float | None
    in_flight: int
    retry_after_s: float | None


class Entry:
    """A call being written down; only the journal and the server's thread change it."""

    __slots__ = (
        "fault",
        "finished_s",
        "in_flight",
        "key",
        "method",
        "model",
        "number",
        "path",
        "prompt",
        "retry_after_s",
        "started_s",
        "status",
    )

    def __init__(
        self,
        *,
        number: int,
        key: str,
        method: str,
        path: str,
        model: str,
        prompt: str,
        started_s: float,
        in_flight: int,
    ) -> None:
        self.number = number
        self.key = key
        self.method = method
        self.path = path
        self.model = model
        self.prompt = prompt
        self.status: int | None = None
        self.fault: str | None = None
        self.started_s = started_s
        self.finished_s: float | None = None
        self.in_flight = in_flight
        self.retry_after_s: float | None = None

    def snapshot(self) -> Call:
        """The entry as it is now."""
        return Call(
            number=self.number,
            key=self.key,
            method=self.method,
            path=self.path,
            model=self.model,
            prompt=self.prompt,
            status=self.status,
            fault=self.fault,
            started_s=self.started_s,
            finished_s=self.finished_s,
            in_flight=self.in_flight,
            retry_after_s=self.retry_after_s,
        )


class Journal:
    """All calls in order of arrival. With `keep=False` only the in-flight numbers are kept.

    `batches` holds what became of files and batches.
    """

    def __init__(self, *, now: Callable[[], float], keep: bool = True) -> None:
        self._now = now
        self._keep = keep
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._last_number = 0
        self._in_flight = 0
        self._max_in_flight = 0
        self.batches = BatchJournal(keep=keep)

    @property
    def calls(self) -> list[Call]:
        """A snapshot of every call since the start or the last `clear`, in order of arrival."""
        with self._lock:
            return [entry.snapshot() for entry in self._entries]

    @property
    def max_in_flight(self) -> int:
        """The most calls that were in flight at once since the start or the last `clear`."""
        with self._lock:
            return self._max_in_flight

    def in_flight(self) -> int:
        """How many calls are in flight now."""
        with self._lock:
            return self._in_flight

    def count(
        self, status: int | None = None, key: str | None = None, fault: str | None = None
    ) -> int:
        """How many calls match all that is given; None matches everything."""
        with self._lock:
            return sum(
                (status is None or entry.status == status)
                and (key is None or entry.key == key)
                and (fault is None or entry.fault == fault)
                for entry in self._entries
            )

    def prompts(self) -> Counter[str]:
        """How often each prompt was answered with status 200: what a provider would bill."""
        with self._lock:
            return Counter(
                entry.prompt
                for entry in self._entries
                if entry.status == 200 and entry.path in _ANSWERING
            )

    def routes(self) -> Counter[str]:
        """How many calls each route had, such as `GET /v1/batches/{id}`."""
        with self._lock:
            return Counter(route_of(entry.method, entry.path) for entry in self._entries)

    def clear(self) -> None:
        """Forget the calls so far; numbers go on, calls in flight stay counted as such."""
        with self._lock:
            self._entries.clear()
            self._max_in_flight = self._in_flight
        self.batches.clear()

    def begin(self, *, key: str, method: str, path: str, model: str, prompt: str) -> Entry:
        """Write down that a request has arrived completely (server's thread)."""
        with self._lock:
            self._last_number += 1
            self._in_flight += 1
            self._max_in_flight = max(self._max_in_flight, self._in_flight)
            entry = Entry(
                number=self._last_number,
                key=key,
                method=method,
                path=path,
                model=model,
                prompt=prompt,
                started_s=self._now(),
                in_flight=self._in_flight,
            )
            if self._keep:
                self._entries.append(entry)
            return entry

    def finish(self, entry: Entry, status: int | None, retry_after_s: float | None = None) -> None:
        """Write down how a call ended (server's thread); a second time changes nothing."""
        with self._lock:
            if entry.finished_s is not None:
                return
            entry.finished_s = self._now()
            entry.status = status
            entry.retry_after_s = retry_after_s
            self._in_flight -= 1
