"""One worker process of a distributed engine: rows in, Outcomes out, on threads of its own.

Nothing in it knows of Ray. Whoever leads makes one call at a time, which brings rows and waits a
while for answers; the threads work on meanwhile, from rows in store.
"""

from __future__ import annotations

import pickle
import queue
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from jsonl_runner import __version__

from ..errors import ConfigError, JsonlRunnerError
from .local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Stop
    from ..records import Outcome, Record


class Duty(Protocol):
    """What a station does; made within its process.

    Attributes:
        threads: calls at the same time.
        stop: its wish to end; requested by the work too, when it can do no more rows.
    """

    threads: int
    stop: Stop

    def work(self, record: Record) -> Outcome | None:
        """Do one Record; None when it stops before there is an Outcome."""

    def hear(self, word: Any) -> None:
        """Take note of what the lead says with an order."""

    def tell(self) -> Any:
        """Return what the lead is to know; None: nothing new."""

    def close(self) -> None:
        """Let go of what is open; the process ends."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a station is to do.

    Attributes:
        rows: to be done.
        word: for its Duty.
        enough: so many Outcomes are reported at once.
        linger_s: seconds since the last report after which fewer are.
        patience_s: seconds after which there is a report in any case.
        recall: give back what is in store.
        stop, abort: as `Stop` has them.
    """

    rows: tuple[Record, ...] = ()
    word: Any = None
    enough: int = 1
    linger_s: float = 0.0
    patience_s: float = 0.0
    recall: bool = False
    stop: bool = False
    abort: bool = False


@dataclass(slots=True)
class Report:
    """What has become of a station's rows since the last report.

    Attributes:
        threads: calls that it makes at the same time.
        outcomes: rows that are done.
        back: indices of rows that were in store, and are given back.
        stored: rows that no thread has begun.
        told: what its Duty tells.
        is_over: whether it does no more rows; those it still had are given back too.
        ended: why, where that is not the lead's wish.
        defect: what was raised in it.
    """

    threads: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    stored: int = 0
    told: Any = None
    is_over: bool = False
    ended: JsonlRunnerError | None = None
    defect: str = ""


class Station:
    """Does rows, and reports; its methods are called one at a time."""

    def __init__(self) -> None:
        self._duty: Duty | None = None
        self._store: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._done: list[Outcome] = []
        #: Rows that are here, reported ones apart.
        self._held = 0
        self._is_over = False
        self._defect = ""
        self._changed = threading.Condition()
        self._reported_at = 0.0

    def open(self, version: str, make: bytes) -> Report:
        """Begin.

        Args:
            version: of this package, where the run is led.
            make: returns what to do; pickled, so that it is read after a look at the version. A
                JsonlRunnerError of it is reported as the end.
        """
        try:
            self._duty = _read(version, make)()
        except JsonlRunnerError as error:
            return Report(is_over=True, ended=error)
        threading.Thread(target=self._run, args=(self._duty,), name="station", daemon=True).start()
        return Report(self._duty.threads, told=self._duty.tell())

    def _run(self, duty: Duty) -> None:
        engine = LocalEngine(duty.work, threads=duty.threads, stop=duty.stop)
        try:
            for group in engine.outcomes(iter(self._store.get, None)):
                if group:
                    with self._changed:
                        self._done += group
                        self._changed.notify()
        except BaseException as error:  # noqa: BLE001  # raised again where the run is led
            self._defect = f"{type(error).__name__}: {error}"
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify()

    def step(self, order: Order) -> Report:
        """Take an order, wait until there is enough to report, and report it."""
        assert self._duty is not None  # noqa: S101  # tells mypy that `open` has been called
        duty, report = self._duty, Report(self._duty.threads)
        if order.word is not None:
            duty.hear(order.word)
        if order.abort:
            duty.stop.abort()
        elif order.stop:
            duty.stop.request()
        for record in order.rows:
            self._store.put(record)
        self._held += len(order.rows)
        if order.recall:
            report.back = self._emptied()
        with self._changed:
            self._await(order)
            report.outcomes, self._done = self._done, []
            report.is_over = self._is_over
        self._held -= len(report.outcomes) + len(report.back)
        if report.is_over and isinstance(duty.stop.reason, JsonlRunnerError):
            report.ended = duty.stop.reason
        report.defect = self._defect
        report.stored = self._store.qsize()
        report.told = duty.tell()
        self._reported_at = time.monotonic()
        return report

    def _emptied(self) -> list[str]:
        back: list[str] = []
        while True:
            try:
                record = self._store.get_nowait()
            except queue.Empty:
                return back
            if record is not None:
                back.append(record.index)

    def _await(self, order: Order) -> None:
        """Wait until there is enough to report, with the lock held."""
        soon = self._reported_at + order.linger_s
        late = time.monotonic() + order.patience_s
        while not self._is_over:
            count = len(self._done)
            if count and count >= min(order.enough, self._held):
                return
            wait_s = (min(soon, late) if count else late) - time.monotonic()
            if wait_s <= 0:
                return
            self._changed.wait(wait_s)

    def close(self) -> None:
        """End in order: what a Duty keeps (a cache) is whole afterwards."""
        if self._duty is not None:
            self._duty.stop.request()
            self._duty.close()


def _read(version: str, make: bytes) -> Callable[[], Duty]:
    """Return what was sent.

    Raises:
        ConfigError: this node has another version, or lacks a package.
    """
    here = socket.gethostname()
    if version != __version__:
        raise ConfigError(
            f"{here} has jsonl-runner {__version__}, and the run is led by {version}: install the "
            "same on every node"
        )
    try:
        found: Callable[[], Duty] = pickle.loads(make)  # noqa: S301  # from whoever started us
    except Exception as error:  # noqa: BLE001  # whatever the parts of a user's function raise
        raise ConfigError(
            f"{here} cannot read what it is to do ({error}): install the same packages on every "
            "node"
        ) from None
    return found
