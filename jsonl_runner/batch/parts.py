"""The words of the manifest: parts, their rows, their files."""

from __future__ import annotations

from dataclasses import dataclass

# What a part is about. Of the first six it is still known what to do next; the last four are ends.
PLANNED = "planned"  # its file lies on our disk, the provider knows nothing
UPLOADING = "uploading"  # the upload was begun
UPLOADED = "uploaded"
CREATING = "creating"  # the creating call was begun, and its answer is not known
SUBMITTED = "submitted"  # the batch is there
ENDED = "ended"  # the batch does not change any more
FETCHED = "fetched"  # its results lie on our disk
COLLECTED = "collected"  # they are in the ledger
REFUSED = "refused"  # nothing of it was begun, and sending it again would bring the same
WITHDRAWN = "withdrawn"  # given up before a batch was created
LOST = "lost"  # the provider does not know the batch any more
FINAL = (COLLECTED, REFUSED, WITHDRAWN, LOST)

# What became of a row: waiting; an output; a null; or nothing, so that it may be sent again.
WAITING, OK, NULL, RELEASED = range(4)


@dataclass(frozen=True)
class Part:
    """Rows that are sent together.

    Attributes:
        number: from 1; never used twice.
        state: see above.
        name: `<run>-<part>`, in the names of its files and, with the attempt, in its metadata.
        path: of its requests, as seen from the folder of the ledger.
        sha256, size: of that file, which never changes.
        requests, tokens: lines, and what they are expected to weigh for the enqueued limit.
        model, endpoint, window: what was asked for.
        base_url: where to, without a login.
        key_label, key_hash: of the key that owns it.
        attempt: how often a batch was asked for.
        file, batch: ids at the provider.
        status: the provider's word.
        asked: when the last creating call was begun.
        looks: how often the batch has been looked for in vain.
        total, completed, failed: as the provider counts.
        reason: why it is refused, or what went wrong last.
        planned, ended: when.
        cleaned: whether its files are removed.
        cancelling: whether its end was asked for.
        due: nothing is to be done about it before.
    """

    number: int
    state: str
    name: str
    path: str
    sha256: str
    size: int
    requests: int
    tokens: int
    model: str
    endpoint: str
    window: str
    base_url: str
    key_label: str = ""
    key_hash: str = ""
    attempt: int = 0
    file: str = ""
    batch: str = ""
    status: str = ""
    asked: float = 0.0
    looks: int = 0
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    reason: str = ""
    planned: float = 0.0
    ended: float | None = None
    cleaned: int = 0
    cancelling: int = 0
    due: float = 0.0

    @property
    def token(self) -> str:
        """Names the present attempt."""
        return f"{self.name}-{self.attempt:02}"

    @property
    def is_live(self) -> bool:
        """Whether anything may still come of it."""
        return self.state not in FINAL

    @property
    def waits_for_room(self) -> bool:
        """Whether it was refused because too many tokens were waiting."""
        return self.state == UPLOADED and self.status == "failed"

    @property
    def is_waiting(self) -> bool:
        """Whether a batch is, or may be, at the provider and not over."""
        return self.state in {CREATING, SUBMITTED}


@dataclass(frozen=True)
class Item:
    """A row within a part.

    Attributes:
        custom_id: its name there.
        row: its index.
        fingerprint: of its content.
        state: what became of it.
    """

    custom_id: str
    row: str
    fingerprint: str
    state: int = WAITING


@dataclass(frozen=True)
class File:
    """A file at the provider, and its copy on our disk.

    Attributes:
        id: the provider's.
        kind: `input` or `result`.
        path: of the copy, as seen from the folder of the ledger; empty: there is none.
        size, sha256: of the copy.
        deleted: whether the provider's is deleted.
    """

    id: str
    kind: str
    path: str = ""
    size: int | None = None
    sha256: str = ""
    deleted: int = 0
