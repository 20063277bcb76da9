"""The engine of many machines: workers on a Ray cluster, each with threads of its own.

Every worker has one call outstanding, which gives it rows and waits for answers. A row belongs to
its worker until its Outcome is here; when the worker dies, its rows go to others. Nothing is ever
sent again by Ray itself: what is paid twice is decided here alone.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import JsonlRunnerError, RunStoppedError
from .base import TICK_S
from .blame import Blame
from .cluster import WorkerLostError
from .feed import Feed
from .slot import Slot, store_of
from .station import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from concurrent.futures import Future

    from ..clock import Stop
    from ..records import Outcome, Record
    from .cluster import Cluster
    from .station import Duty, Report

#: Workers in a row that could not begin, after which no more are tried in their place.
_MAX_FAILURES = 3
#: Reports a second that one driver takes from all workers together: half a millisecond each.
_REPORTS_PER_S = 500.0
#: Seconds to the next report where some rows are answered; where none is; and where a worker has
#: too few rows and more may come.
_LINGER_S, _PATIENCE_S, _HUNGRY_S = 0.1, 0.5, 0.05
#: A report is due when one of so many of a worker's threads has answered.
_ENOUGH = 4
#: At the end of the input, a worker that does rows at less than this share of the pace of one with
#: nothing to do begins no more: its key's limit is low, and its rows would wait for it.
_SLOW = 0.5
#: Seconds to wait at the end for workers to close what is open, and after an abort for answers.
_GRACE_S = 2.0


class Lead(Protocol):
    """What is said to the workers beside their rows, and heard from them."""

    @property
    def threads(self) -> Sequence[int]:
        """Calls at the same time of each worker."""

    def duty(self, number: int) -> Callable[[], Duty]:
        """Return what a worker is to do; it is sent there, and holds no key."""

    def word(self, number: int) -> Any:
        """Return what a worker is to know with its next order; None: nothing."""

    def heard(self, number: int, told: Any, *, has_rows: bool) -> None:
        """Take note of what a worker tells, and whether it still has rows."""

    def is_stuck(self, number: int) -> bool:
        """Return whether a worker can do nothing for a while, though others may."""

    def lost(self, number: int, rows: int, why: str) -> None:
        """Take note that a worker is gone, with so many rows that are done again."""

    def ended(self, number: int, why: JsonlRunnerError, *, is_last: bool) -> None:
        """Take note that a worker can do no more; `is_last`: there is no other."""


class RayEngine:
    """Has Records done by workers on a cluster; see `Engine`.

    Args:
        cluster: where they are.
        lead: what they do.
        stop: ends the taking of rows; after an abort nobody is waited for any longer.
    """

    def __init__(self, cluster: Cluster, lead: Lead, *, stop: Stop) -> None:
        self._cluster = cluster
        self._lead = lead
        self._stop = stop
        self._slots = [Slot(number, threads) for number, threads in enumerate(lead.threads)]
        #: Rows that are read before anybody wants them.
        self._ahead = sum(store_of(threads) for threads in lead.threads)
        self._pace_s = len(self._slots) / _REPORTS_PER_S
        self._events: queue.SimpleQueue[tuple[Slot, Future[Report]] | None] = queue.SimpleQueue()
        #: Workers without a call, in the order in which they came free.
        self._free: dict[Slot, None] = {}
        #: Rows that have come back undone; those that workers died with are under suspicion.
        self._again: deque[Record] = deque()
        self._blame = Blame()
        self._taken = self._returned = 0
        self._defect: BaseException | None = None

    @property
    def idle(self) -> bool:
        """Whether no row is in flight."""
        return self._taken == self._returned

    @property
    def window(self) -> int:
        """How many rows may be taken and not settled: in workers' threads and stores, and here."""
        return self._ahead + sum(threads + store_of(threads) for threads in self._lead.threads)

    def outcomes(self, records: Iterator[Record]) -> Generator[list[Outcome]]:
        """Yield Outcomes in groups as they come; see `Engine`."""
        feed = Feed(records, lambda: self._events.put(None))
        try:
            for slot in self._slots:
                self._hire(slot)
            while not self._is_over(feed):
                group = self._collect(TICK_S)
                yield group
                self._cluster.check(self._stop)
                self._give(feed)
            if self._stop.aborted:
                yield from self._last_words()
            else:
                self._close()
        finally:
            self._stop.request()
            feed.close()
            for slot in self._slots:
                self._dismiss(slot)
        failure = self._defect or feed.failure
        if failure is not None:
            raise failure

    def _is_over(self, feed: Feed) -> bool:
        if self._stop.aborted:
            return True
        if feed.failure is not None or self._defect is not None:
            self._stop.request()
        if self._stop.requested:
            self._drop(self._again)
            self._drop(self._blame.suspects)
            return not any(slot.held for slot in self._slots)
        return feed.is_finished and not len(feed) and self.idle

    def _drop(self, rows: deque[Record]) -> None:
        """Leave rows unwritten that are not begun when the run stops."""
        self._returned += len(rows)
        rows.clear()

    # -- hearing ---------------------------------------------------------------------------------

    def _collect(self, wait_s: float) -> list[Outcome]:
        """Return the Outcomes that have come, after a wait for the first."""
        group: list[Outcome] = []
        with contextlib.suppress(queue.Empty):
            event = self._events.get(timeout=wait_s)
            while True:
                if event is not None and event[0].call is event[1]:
                    self._hear(*event, group)
                event = self._events.get_nowait()
        self._returned += len(group)
        return group

    def _hear(self, slot: Slot, call: Future[Report], group: list[Outcome]) -> None:
        slot.call = None
        try:
            report = self._cluster.report_of(call)
        except WorkerLostError as error:
            self._mourn(slot, str(error), group)
            return
        except RunStoppedError as error:
            self._stop.request(error)
            self._end(slot)
            return
        except RuntimeError as error:
            self._defect = error
            self._end(slot)
            return
        for outcome in report.outcomes:
            if slot.held.pop(outcome.index, None) is not None:
                self._blame.clear(outcome.index)
                group.append(outcome)
        self._again.extend(slot.held.pop(index) for index in report.back)
        if not slot.is_open:
            slot.done, slot.since = 0, time.monotonic()
        slot.is_open, slot.failures = True, 0
        slot.done += len(report.outcomes)
        slot.threads, slot.stored = report.threads, report.stored
        if report.told is not None:
            self._lead.heard(slot.number, report.told, has_rows=bool(slot.held))
        if report.defect:
            self._defect = RuntimeError(f"a worker failed: {report.defect}")
        if report.is_over:
            self._end(slot, report.ended)
        else:
            self._free[slot] = None

    def _end(self, slot: Slot, why: JsonlRunnerError | None = None) -> None:
        """Take note that a worker does no more rows; others do those it had."""
        self._again.extend(slot.held.values())
        slot.held, slot.is_closed, slot.is_alone = {}, True, False
        self._dismiss(slot)
        if self._stop.requested:
            return
        if why is None and slot.is_resting:
            self._wake_the_resting()
            return
        slot.is_resting = False
        is_last = all(other.is_closed and not other.is_resting for other in self._slots)
        if why is not None:
            self._lead.ended(slot.number, why, is_last=is_last)
        if is_last:
            self._stop.request(why)
        else:
            self._wake_the_resting()

    def _wake_the_resting(self) -> None:
        """Have a worker that rests go on, if there is no other."""
        resting = [slot for slot in self._slots if slot.is_resting]
        if resting and all(slot.is_closed for slot in self._slots):
            slot = resting[0]
            slot.is_closed = slot.is_resting = slot.is_open = False
            self._hire(slot)

    def _mourn(self, slot: Slot, why: str, group: list[Outcome]) -> None:
        """Take note of a worker's death; give its rows to others, and its place to another."""
        rows, slot.held, slot.is_resting = slot.held, {}, False
        self._lead.lost(slot.number, len(rows), why)
        was_open, was_alone, slot.is_open, slot.is_alone = slot.is_open, slot.is_alone, False, False
        again, failed = self._blame.died(rows.values(), was_alone=was_alone)
        self._again.extend(again)
        group.extend(failed)
        slot.failures = 0 if was_open else slot.failures + 1
        if self._stop.requested or slot.failures >= _MAX_FAILURES:
            self._end(slot, RunStoppedError(f"no worker can be started: {why}"))
        else:
            self._dismiss(slot)
            self._hire(slot)

    # -- giving ----------------------------------------------------------------------------------

    def _hire(self, slot: Slot) -> None:
        slot.worker, slot.stored = self._cluster.hire(), 0
        self._send(slot, self._cluster.open(slot.worker, self._lead.duty(slot.number)))

    def _send(self, slot: Slot, call: Future[Report]) -> None:
        slot.call = call
        self._free.pop(slot, None)
        call.add_done_callback(lambda done: self._events.put((slot, done)))

    def _give(self, feed: Feed) -> None:
        """Give the workers that have reported their next orders."""
        if self._stop.requested:
            self._have_stopped()
            return
        # At the end of the input nothing is kept in store, and nothing left with a worker that can
        # do nothing for a while, or little: it would lie there while another has nothing to do.
        is_dry = feed.is_finished and not len(feed)
        self._choose_one_for_suspects()
        free = sorted(self._free, key=lambda slot: len(slot.held))
        stuck = {slot for slot in free if is_dry and self._lead.is_stuck(slot.number)}
        room = {slot: self._room(slot, is_dry=is_dry) for slot in free}
        wanting = [slot for slot in free if room[slot] and slot not in stuck and not slot.is_alone]
        if wanting and is_dry:
            best = max(slot.pace for slot in wanting)
            stuck.update(slot for slot in free if slot.held and slot.pace < best * _SLOW)
            for slot in stuck:
                slot.is_resting = not slot.is_alone
                room[slot] = room[slot] if slot.is_alone else 0
        feed.ask(sum(room.values()) - len(self._again) + self._ahead)
        for slot in free:
            rows = self._rows_for(slot, room[slot], feed)
            if rows or slot.held or slot.is_resting:
                recall = slot.stored > 0 and (slot.is_alone or (is_dry and bool(wanting)))
                is_hungry = len(rows) < room[slot] and not is_dry
                self._order(slot, tuple(rows), recall=recall, is_hungry=is_hungry)

    def _order(
        self, slot: Slot, rows: tuple[Record, ...], *, recall: bool, is_hungry: bool
    ) -> None:
        order = Order(
            rows,
            self._lead.word(slot.number),
            enough=max(1, slot.threads // _ENOUGH),
            linger_s=max(_LINGER_S, self._pace_s),
            patience_s=max(_HUNGRY_S if is_hungry else _PATIENCE_S, self._pace_s),
            recall=recall,
            stop=slot.is_resting,
        )
        self._send(slot, self._cluster.step(slot.worker, order))

    def _room(self, slot: Slot, *, is_dry: bool) -> int:
        if slot.is_resting:
            return 0
        if slot.is_alone:
            return 0 if slot.held or not self._blame.suspects else 1
        store = 0 if is_dry else store_of(slot.threads)
        return max(0, slot.threads + store - len(slot.held))

    def _rows_for(self, slot: Slot, count: int, feed: Feed) -> list[Record]:
        if slot.is_alone:
            rows = [self._blame.suspects.popleft() for _ in range(count)]
        else:
            rows = [self._again.popleft() for _ in range(min(count, len(self._again)))]
            taken = feed.take(count - len(rows))
            self._taken += len(taken)
            rows += taken
        slot.held.update((record.index, record) for record in rows)
        return rows

    def _choose_one_for_suspects(self) -> None:
        """See to it that one worker, and one alone, does the rows that others died with."""
        chosen = next((slot for slot in self._slots if slot.is_alone), None)
        if chosen is None and self._blame.suspects and self._free:
            min(self._free, key=lambda slot: len(slot.held)).is_alone = True
        elif chosen is not None and not self._blame.suspects and not chosen.held:
            chosen.is_alone = False

    def _have_stopped(self) -> None:
        """Tell workers with rows to begin no more."""
        for slot in list(self._free):
            if slot.held:
                order = Order(
                    enough=max(1, slot.threads // _ENOUGH),
                    linger_s=_LINGER_S,
                    patience_s=0.0 if self._stop.aborted else _PATIENCE_S,
                    recall=True,
                    stop=True,
                    abort=self._stop.aborted,
                )
                self._send(slot, self._cluster.step(slot.worker, order))

    # -- ending ----------------------------------------------------------------------------------

    def _last_words(self) -> Iterator[list[Outcome]]:
        """Yield what is answered already after an abort; calls in flight end within moments."""
        deadline = time.monotonic() + _GRACE_S
        while any(slot.held for slot in self._slots) and time.monotonic() < deadline:
            self._have_stopped()
            yield self._collect(TICK_S)

    def _close(self) -> None:
        """Let the workers close what they have open."""
        with contextlib.suppress(Exception):  # they may be gone: then all is said
            calls = [self._cluster.close_worker(slot.worker) for slot in self._free]
            wait(calls, _GRACE_S)

    def _dismiss(self, slot: Slot) -> None:
        self._free.pop(slot, None)
        slot.call = None
        if slot.worker is not None:
            self._cluster.dismiss(slot.worker)
            slot.worker = None
