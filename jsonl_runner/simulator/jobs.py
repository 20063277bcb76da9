"""The life of batches: states that follow each other by the simulator's clock, or by a test's hand.

Nothing runs in the background: whoever looks at a batch moves it to where its time has brought it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from .faults import Markers
    from .files import Files
    from .journal_batches import BatchJournal
    from .settings import SimulatorSettings

# The share of a batch's lines answered in a time of which nobody knows how long it was.
_HALF = 0.5


@dataclass(slots=True, kw_only=True)
class Job:
    """A batch. `entered` has the time at which each state began; `stuck_in` is never left."""

    ident: str
    number: int
    key: str
    owner: str
    created_s: float
    status: str
    entered: dict[str, float] = field(default_factory=dict)
    stuck_in: str | None = None
    vanished: bool = False
    places: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def total(self) -> int:
        """How many requests it has."""
        return len(self.places)


AJob = TypeVar("AJob", bound=Job)


class Jobs(ABC, Generic[AJob]):
    """The batches of one provider. Thread-safe: what changes them holds `lock`.

    Tests move and break batches by `advance`, `stick` and `vanish`.
    """

    def __init__(
        self,
        files: Files,
        journal: BatchJournal,
        markers: Markers,
        nonce: str,
        *,
        now: Callable[[], float],
        wall: Callable[[float], int],
        settings: Callable[[], SimulatorSettings],
        lock: threading.RLock,
    ) -> None:
        self._files = files
        self._journal = journal
        self._markers = markers
        self._nonce = nonce
        self._wall = wall
        self._now = now
        self._settings = settings
        self.lock = lock
        self._jobs: dict[str, AJob] = {}

    # -- a test's hand ---------------------------------------------------------------------------

    def advance(self, batch_id: str | None = None, *, to: str | None = None) -> dict[str, str]:
        """Move one batch, or all, to the next state, or on until the state `to`.

        Also those that are stuck. `to="expired"` lets a batch in progress expire. Returns the
        states by id. Raises KeyError for an unknown id, ValueError if the one batch has come or
        comes to another end than `to`.
        """
        with self.lock:
            jobs = list(self._jobs.values()) if batch_id is None else [self._jobs[batch_id]]
            for job in jobs:
                if self._push(job, to) or batch_id is None:
                    continue
                raise ValueError(f"{job.ident} is {job.status}, it will not be {to}")
            return {job.ident: job.status for job in jobs}

    def stick(self, batch_id: str, state: str | None = "in_progress") -> None:
        """Let a batch never leave a state; None lets it go on. Raises KeyError."""
        with self.lock:
            self._jobs[batch_id].stuck_in = state

    def vanish(self, batch_id: str) -> None:
        """Let a batch be 404 and in no list from now on. Raises KeyError."""
        with self.lock:
            self._jobs[batch_id].vanished = True

    def statuses(self) -> dict[str, str]:
        """The state of each batch by its id, hidden ones included, oldest first."""
        with self.lock:
            return {job.ident: job.status for job in self._settled()}

    # -- the calls -------------------------------------------------------------------------------

    def _find(self, ident: str, owner: str) -> AJob | None:
        job = self._jobs.get(ident)
        if job is None or job.vanished or job.owner != owner:
            return None
        if self._now() < job.created_s + self._settings().batch_hidden_s:
            return None
        self._settle(job)
        return job

    def _listed(self, owner: str) -> list[AJob]:
        """The batches in the list, newest first."""
        newest_s = self._now() - self._settings().list_lag_s
        found = [
            job
            for job in self._settled()
            if job.owner == owner and not job.vanished and job.created_s <= newest_s
        ]
        return found[::-1]

    def _settled(self) -> Iterator[AJob]:
        for job in tuple(self._jobs.values()):
            self._settle(job)
            yield job

    def _settle(self, job: AJob) -> None:
        settings = self._settings()
        while not settings.batches_by_hand and job.status != job.stuck_in:
            coming = self._following(job, settings)
            if coming is None or coming[1] > self._now():
                return
            self._enter(job, *coming, settings)

    def _push(self, job: AJob, to: str | None) -> bool:
        """Move a batch a state on, or until `to`; whether it came there."""
        settings = self._settings()
        while True:
            coming = self._following(job, settings)
            if coming is None or job.status == to:
                return to in (None, job.status)
            expires = to == "expired" and job.status == "in_progress"
            self._enter(job, "expired" if expires else coming[0], self._now(), settings)
            if to is None or expires:
                return True

    # -- what a provider's class says ------------------------------------------------------------

    @abstractmethod
    def _following(self, job: AJob, settings: SimulatorSettings) -> tuple[str, float] | None:
        """The state that comes next and when; None at the end."""

    @abstractmethod
    def _enter(self, job: AJob, status: str, at_s: float, settings: SimulatorSettings) -> None:
        """Come into a state, with all that belongs to it."""


def progress(job: Job, until_s: float, settings: SimulatorSettings) -> float:
    """The share of a batch's lines that were answered until then, for one that is not finished."""
    began_s = job.entered.get("in_progress")
    if began_s is None:
        return 0.0
    if settings.batches_by_hand or settings.batch_in_progress_s <= 0:
        return _HALF
    return min(1.0, (until_s - began_s) / settings.batch_in_progress_s)


def answered(job: Job, until_s: float, settings: SimulatorSettings) -> int:
    """How many lines were answered before a batch expired or was cancelled."""
    share = settings.batch_answered_share
    if share is None or "in_progress" not in job.entered:
        share = progress(job, until_s, settings)
    return int(share * job.total)
