"""What became of files and batches, by the server's own count: the tests' witness. Thread-safe."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Upload(NamedTuple):
    """A file that arrived, whether or not the client heard so."""

    file_id: str
    key: str
    filename: str
    size: int
    sha256: str


class CreatedBatch(NamedTuple):
    """A batch that was created, whether or not the client heard so.

    `sha256` is that of the input file; of Anthropic's batches, that of their requests.
    """

    batch_id: str
    key: str
    input_file_id: str
    sha256: str
    custom_ids: tuple[str, ...]
    metadata: Mapping[str, str]
    created_s: float


class BilledLine(NamedTuple):
    """A line of a batch that a model has answered, whether or not the client collected it."""

    batch_id: str
    custom_id: str
    model: str
    prompt: str
    input_tokens: int
    output_tokens: int


class BatchJournal:
    """Uploads, batches and billed lines in their order. With `keep=False` it stays empty."""

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._uploads: list[Upload] = []
        self._created: list[CreatedBatch] = []
        self._billed: list[BilledLine] = []

    @property
    def uploads(self) -> list[Upload]:
        """Every file that arrived."""
        with self._lock:
            return list(self._uploads)

    @property
    def created(self) -> list[CreatedBatch]:
        """Every batch that was created, those that failed in validation included."""
        with self._lock:
            return list(self._created)

    @property
    def billed(self) -> list[BilledLine]:
        """Every line that was answered."""
        with self._lock:
            return list(self._billed)

    def billed_ids(self) -> Counter[str]:
        """How often each custom_id was answered: above 1, it was paid twice."""
        with self._lock:
            return Counter(line.custom_id for line in self._billed)

    def billed_prompts(self) -> Counter[str]:
        """How often each prompt was answered."""
        with self._lock:
            return Counter(line.prompt for line in self._billed)

    def clear(self) -> None:
        """Forget all of it."""
        with self._lock:
            self._uploads.clear()
            self._created.clear()
            self._billed.clear()

    def add_upload(self, upload: Upload) -> None:
        """Write down a file."""
        with self._lock:
            self._uploads += [upload] * self._keep

    def add_created(self, batch: CreatedBatch) -> None:
        """Write down a batch."""
        with self._lock:
            self._created += [batch] * self._keep

    def add_billed(self, line: BilledLine) -> None:
        """Write down an answered line."""
        with self._lock:
            self._billed += [line] * self._keep
