"""The engine of one machine: a pool of threads."""

from __future__ import annotations

import queue
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

from .base import TICK_S

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ..clock import Stop
    from ..records import Outcome, Record

#: Bytes of stack of one thread; the system's default of 8 MiB would be reserved 4,096 times.
_STACK_BYTES = 512 * 1024
#: Threads above which Python's default switch interval of 5 ms is too short: each thread that waits
#: for the interpreter looks up that often, and thousands that do keep a core busy with just that.
_MANY_THREADS = 64
#: How many of them may look up in a second.
_LOOKS_PER_S = 4096
#: Seconds; the least interval then.
_SWITCH_INTERVAL_S = 0.05
#: For so many threads, one row more may be taken: answered rows wait some milliseconds until they
#: are written, and their threads would wait with them (at 256 calls of 50 ms, 4 % of all time).
_THREADS_A_SPARE_ROW = 8
#: Files that are not connections: the ledger, its lock, the input, libraries.
_OTHER_FILES = 64
#: Files of one thread: its connection, and two events that libcurl waits with.
_FILES_PER_THREAD = 3
#: Outcomes taken from the queue at once; a group is one write.
_MAX_GROUP = 1024
#: Seconds to wait, after an abort, for calls to notice that their sockets are shut.
_ABORT_GRACE_S = 2.0


class _Left(NamedTuple):
    """A thread has ended; `with_row` if it had a row that got no Outcome."""

    with_row: bool


def file_limit() -> int | None:
    """Raise the limit of open files as far as allowed; return how many threads fit under it.

    None where there is no such limit.
    """
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft not in (hard, resource.RLIM_INFINITY):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):
            # macOS reports an infinite hard limit and takes no more than OPEN_MAX.
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        None
        if soft == resource.RLIM_INFINITY
        else max(1, (soft - _OTHER_FILES) // _FILES_PER_THREAD)
    )


class LocalEngine:
    """Runs a worker in threads.

    Each row counts from the moment it is taken until its Outcome is settled by the consumer, and
    there are never more of them than threads (above 64 threads, an eighth more): what a killed
    process can lose is what was in flight, and what had just been answered.

    Args:
        work: makes an Outcome of a Record; None when the run stops before there is one.
        threads: how many.
        stop: ends the taking of rows; after an abort nobody is waited for any longer.
        stack_bytes: of each thread.
    """

    def __init__(
        self,
        work: Callable[[Record], Outcome | None],
        *,
        threads: int,
        stop: Stop,
        stack_bytes: int = _STACK_BYTES,
    ) -> None:
        self._work = work
        self._stack_bytes = stack_bytes
        self._threads = threads
        self._stop = stop
        self._taking = threading.Lock()
        self._gate = threading.Event()
        self._results: queue.SimpleQueue[Outcome | _Left | BaseException] = queue.SimpleQueue()
        #: Rows taken, and rows whose Outcome (or lack of one) has come back.
        self._taken = self._returned = 0
        #: One token per row that may be in flight.
        self._room: queue.SimpleQueue[bool] = queue.SimpleQueue()

    @property
    def idle(self) -> bool:
        """Whether no row is in flight."""
        return self._taken == self._returned

    @property
    def window(self) -> int:
        """How many rows may be taken and not settled at the same time."""
        return self._threads + self._spare(self._threads)

    @staticmethod
    def _spare(threads: int) -> int:
        return threads // _THREADS_A_SPARE_ROW if threads > _MANY_THREADS else 0

    def outcomes(self, records: Iterator[Record]) -> Generator[list[Outcome]]:
        """Yield Outcomes in groups as they come; see `Engine`."""
        running = self._start(records)
        failure: BaseException | None = None
        interval = sys.getswitchinterval()
        if running > _MANY_THREADS:
            sys.setswitchinterval(max(interval, _SWITCH_INTERVAL_S, running / _LOOKS_PER_S))
        try:
            self._gate.set()
            for _ in range(running + self._spare(running)):
                self._room.put(True)
            while running and not self._over():
                group, ended, error = self._collect(TICK_S)
                running -= ended
                failure = failure or error
                yield group
                for _ in group:
                    self._room.put(True)
            if self._stop.aborted:
                yield from self._last_words(running)
        finally:
            sys.setswitchinterval(interval)
            # A consumer that has had enough, or failed: nobody takes another row.
            self._stop.request()
            self._open_room()
        if failure is not None:
            raise failure

    def _over(self) -> bool:
        """Return whether nobody need be waited for, though threads may still be blocked.

        After a stop, a thread may wait for ever for a line from a pipe: it has no row in hand.
        """
        return self._stop.aborted or (self._stop.requested and self._taken == self._returned)

    def _start(self, records: Iterator[Record]) -> int:
        """Start the threads behind a gate: starting them while others work is quadratic."""
        self._stop.on_request(self._open_room)
        before = threading.stack_size(self._stack_bytes)
        started = 0
        try:
            for number in range(self._threads):
                thread = threading.Thread(
                    target=self._run, args=(records,), name=f"worker-{number}", daemon=True
                )
                thread.start()
                started += 1
        except RuntimeError:  # the system gives no more threads: go on with what there is
            if not started:
                raise
        finally:
            threading.stack_size(before)
        return started

    def _open_room(self) -> None:
        for _ in range(self._threads):
            self._room.put(False)

    def _collect(self, wait_s: float) -> tuple[list[Outcome], int, BaseException | None]:
        group: list[Outcome] = []
        ended, failure = 0, None
        try:
            item = self._results.get(timeout=wait_s)
            while True:
                if isinstance(item, _Left):
                    ended += 1
                    self._returned += item.with_row
                elif isinstance(item, BaseException):
                    failure = failure or item
                else:
                    group.append(item)
                    self._returned += 1
                if len(group) >= _MAX_GROUP:
                    break
                item = self._results.get_nowait()
        except queue.Empty:
            pass
        return group, ended, failure

    def _last_words(self, running: int) -> Iterator[list[Outcome]]:
        """Yield what is answered already after an abort; calls in flight end within moments."""
        waited_s = 0.0
        while running and waited_s < _ABORT_GRACE_S:
            group, ended, _ = self._collect(TICK_S)
            running -= ended
            waited_s += TICK_S if not group and not ended else 0.0
            yield group

    def _run(self, records: Iterator[Record]) -> None:
        self._gate.wait()
        has_row = False
        try:
            while self._room.get() and not self._stop.requested:
                with self._taking:
                    record = next(records, None)
                    if record is None:
                        break
                    self._taken += 1
                    has_row = True
                # Looked at after the row is counted: `_over` reads them the other way round, so
                # that no call begins once it has found that nothing is in flight.
                if self._stop.requested:
                    break
                outcome = self._work(record)
                if outcome is None:
                    break
                self._results.put(outcome)
                has_row = False
        except BaseException as error:  # noqa: BLE001  # raised again where the run is led
            self._stop.request()
            self._results.put(error)
        finally:
            self._results.put(_Left(has_row))
