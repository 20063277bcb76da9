"""What every provider of batches promises, and the words for what it answers.

A provider makes one call for each method and waits for nothing; what is to be done about an
answer is decided by `reconcile`, `watch` and `collect`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

from ..attempts import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ..attempts import Verdict
    from .profiles import Profile

#: The audit event (sys.audit) of every step at which a crash leaves another state behind.
AUDIT = "jsonl_runner.batch"
RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
EXPIRED, CANCELLED = "expired", "cancelled"

#: A provider's words for the end of a batch; whatever else it says, the batch is still running.
_ENDS = {
    "completed": COMPLETED,
    "complete": COMPLETED,
    "succeeded": COMPLETED,
    "success": COMPLETED,
    "ended": COMPLETED,
    "failed": FAILED,
    "expired": EXPIRED,
    "timeout_exceeded": EXPIRED,
    "cancelled": CANCELLED,
    "canceled": CANCELLED,
}
#: What a batch's errors say when too many tokens were waiting already. Nothing was begun or billed.
ENQUEUED_LIMIT = "token_limit_exceeded"
#: Seconds. Clocks differ: batches are looked for from so long before the call.
CLOCKS_S = 600.0
#: Statuses after which a call may still have been carried out.
_DOUBTFUL = frozenset({408, 409})


class ProviderError(Exception):
    """A call did not succeed.

    Attributes:
        status: of the answer; 0: none came.
        verdict: what it means for a request of its kind.
        connected: whether any of the request was sent.
    """

    def __init__(self, status: int, verdict: Verdict, *, connected: bool = True) -> None:
        super().__init__(f"{verdict.code}: {verdict.message}")
        self.status = status
        self.verdict = verdict
        self.connected = connected

    @property
    def may_be_done(self) -> bool:
        """Whether the server may have done what it was asked to."""
        if not self.connected:
            return False
        return self.status < 400 or self.status >= 500 or self.status in _DOUBTFUL

    @property
    def is_missing(self) -> bool:
        """Whether the server does not know what was asked for."""
        return self.status in {404, 410}

    @property
    def is_of_key(self) -> bool:
        """Whether it is about the key, and another may do."""
        return self.verdict.kind in {Kind.KEY_FINISHED, Kind.FORBIDDEN, Kind.NO_MODEL}

    @property
    def may_pass(self) -> bool:
        """Whether the same call may succeed later."""
        return self.may_be_done or not self.connected or self.verdict.kind is Kind.RATE_LIMITED


class BatchError(NamedTuple):
    """Why a batch was refused: a code, a sentence, the line of its input if it is about one."""

    code: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = "" if self.line is None else f" (line {self.line})"
        return f"{self.code}: {self.message}{where}"


@dataclass(frozen=True)
class RemoteBatch:
    """A batch as the provider has it.

    Attributes:
        id: the provider's.
        state: `running`, `completed`, `failed`, `expired` or `cancelled`.
        status: the same in the provider's word.
        input_file: id of the file it was made from; empty where there is none.
        results: ids of the files with what came of it, in the order they are to be read.
        total, completed, failed: requests; None where it does not say.
        created: seconds since 1970; None where it does not say.
        metadata: what we gave it.
        errors: why it was refused.
    """

    id: str
    state: str
    status: str
    input_file: str = ""
    results: tuple[str, ...] = ()
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    created: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[BatchError, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether it does not change any more."""
        return self.state != RUNNING

    @property
    def is_enqueued_limit(self) -> bool:
        """Whether it was refused because too much was waiting, and may be sent again later."""
        return self.state == FAILED and any(error.code == ENQUEUED_LIMIT for error in self.errors)


@dataclass(frozen=True)
class Order:
    """A batch to be created.

    Attributes:
        path: its requests, a line each.
        file: id of its upload; empty where the provider takes no files.
        token: names this attempt, in the metadata.
        name: names the part.
        requests: how many.
        endpoint: what each request is for, such as `/v1/chat/completions`.
        window: how long it may take, such as `24h`.
        left_out: custom_ids of requests that are not to be in it.
    """

    path: Path
    file: str
    token: str
    name: str
    requests: int
    endpoint: str
    window: str
    left_out: frozenset[str] = frozenset()


class BatchProvider(Protocol):
    """Makes the calls of a Batch API, each once.

    Every method raises ProviderError where the call does not succeed.

    Attributes:
        profile: what it takes.
        uses_files: whether requests are uploaded before a batch is created from them. Where they
            are not, each custom_id begins with a token of ours, since nothing else says whose a
            batch is; then `is_of` may be true of several, and the user is asked.
    """

    profile: Profile
    uses_files: bool

    def upload(self, path: Path, name: str, key: str) -> str:
        """Upload a part under a name and return the file's id."""

    def find_upload(self, name: str, size: int, key: str) -> str | None:
        """Return the id of a file uploaded before, None when there is none."""

    def create(self, order: Order, key: str) -> RemoteBatch:
        """Create a batch: the one call that costs money; never repeated by itself."""

    def is_of(self, batch: RemoteBatch, order: Order) -> bool:
        """Return whether a batch may be what came of an order."""

    def batches(self, since: float, key: str) -> Iterator[RemoteBatch]:
        """Yield the batches created since a time, each once; older ones may be among them."""

    def retrieve(self, batch: str, key: str) -> RemoteBatch:
        """Return a batch."""

    def cancel(self, batch: str, key: str) -> None:
        """Ask for a batch's end; what is finished then is still billed."""

    def size_of(self, result: str, key: str) -> int | None:
        """Return the bytes of a result file, None where it is not known."""

    def download(self, result: str, stream: IO[bytes], key: str) -> None:
        """Write a result file's bytes as they come."""

    def delete_file(self, file: str, key: str) -> None:
        """Delete a file; one that is not there is no error."""

    def delete_batch(self, batch: str, key: str) -> None:
        """Delete a batch that is over, where the provider can; elsewhere do nothing."""

    def close(self) -> None:
        """Close the connections."""


def read_batch(data: Mapping[str, Any]) -> RemoteBatch:
    """Return a batch from a provider's JSON, whatever of it is missing or spelt otherwise."""
    status = str(data.get("status") or "")
    counts = data.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    metadata = data.get("metadata")
    results = [_text(data.get("output_file_id")), _text(data.get("error_file_id"))]
    return RemoteBatch(
        _text(data.get("id")),
        _ENDS.get(status.lower(), RUNNING),
        status.lower() or "unknown",
        _text(data.get("input_file_id")),
        tuple(result for result in results if result),
        _count(counts.get("total")),
        _count(counts.get("completed")),
        _count(counts.get("failed")),
        moment(data.get("created_at")),
        metadata if isinstance(metadata, dict) else {},
        _errors(data.get("errors")),
    )


def moment(value: object) -> float | None:
    """Return a time as seconds since 1970, from a number, its text, or an ISO time."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    try:
        return float(value) if math.isfinite(float(value)) else None
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if type(value) is int else None  # not isinstance: True is an int to Python


def _errors(value: object) -> tuple[BatchError, ...]:
    data = value.get("data") if isinstance(value, dict) else value
    found = []
    for error in data if isinstance(data, list) else ():
        if isinstance(error, dict):
            message = " ".join(str(error.get("message") or "").split())
            found.append(
                BatchError(str(error.get("code") or "failed"), message, _count(error.get("line")))
            )
    return tuple(found)
