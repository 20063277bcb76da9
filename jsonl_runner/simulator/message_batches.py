"""Anthropic's `/v1/messages/batches`: no files, no metadata, no counts before the end."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from .batch_lines import Answered, Worker
from .calls import Asked, Download, refused
from .faults import Dice
from .jobs import Job, Jobs, answered
from .journal_batches import CreatedBatch
from .message_lines import answer_message_line, store_requests, undone_message_line
from .messages import iso
from .results import shuffled, write_results
from .routes import MESSAGE_BATCHES

if TYPE_CHECKING:
    from pathlib import Path

    from .settings import SimulatorSettings

# Seconds after its creation at which a batch's results are gone: 29 days.
ARCHIVED_S = 29 * 86_400


@dataclass(slots=True, kw_only=True)
class MessageBatch(Job):
    """A batch of Anthropic. `version` is the API's that it was created under."""

    source: Path
    version: str
    window_s: float
    results: Path | None = None
    lines: Counter[str] | None = None


class MessageBatches(Jobs[MessageBatch]):
    """The batches of all keys."""

    # A number is not given twice, though batches can be deleted.
    _last_number = 0

    # -- the calls -------------------------------------------------------------------------------

    def create(self, asked: Asked) -> dict[str, Any]:
        """POST /v1/messages/batches. Raises RefusedError."""
        now_s = self._now()
        batch = MessageBatch(
            ident=f"msgbatch_sim{self._nonce}{self._last_number + 1:06}",
            number=self._last_number + 1,
            key=asked.key,
            owner=asked.owner,
            created_s=now_s,
            status="in_progress",
            entered={"in_progress": now_s},
            source=self._files.new_path(),
            version=_version(asked),
            window_s=asked.settings.batch_window_s,
        )
        custom_ids = store_requests(asked.json(), batch.source, batch.places)
        self._last_number += 1
        stuck = Dice(asked.settings.seed + batch.number)
        if stuck.fault({"stuck": asked.settings.stuck_batches}) is not None:
            batch.stuck_in = "in_progress"
        self._jobs[batch.ident] = batch
        with batch.source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._journal.add_created(
            CreatedBatch(batch.ident, asked.key, "", digest, tuple(custom_ids), {}, now_s)
        )
        return self._shown(batch, asked)

    def retrieve(self, asked: Asked) -> dict[str, Any]:
        """GET /v1/messages/batches/{id}. Raises RefusedError."""
        return self._shown(self._found(asked), asked)

    def listing(self, asked: Asked) -> dict[str, Any]:
        """GET /v1/messages/batches. Raises RefusedError."""
        _version(asked)
        limit = asked.limit(20, 1000)
        shown = [self._shown(batch, asked) for batch in self._listed(asked.owner)]
        start, end = _place(shown, asked, limit)
        data = shown[start:end]
        is_backwards = "before_id" in asked.query()
        return {
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": start > 0 if is_backwards else end < len(shown),
        }

    def results(self, asked: Asked) -> Download:
        """GET /v1/messages/batches/{id}/results. Raises RefusedError."""
        batch = self._found(asked)
        if batch.results is None:
            raise refused(404, f"Batch {batch.ident} has no results yet.")
        if self._is_archived(batch):
            raise refused(404, f"The results of batch {batch.ident} are no longer available.")
        return Download(batch.results, batch.results.stat().st_size, "application/x-jsonl")

    def cancel(self, asked: Asked) -> dict[str, Any]:
        """POST /v1/messages/batches/{id}/cancel. Raises RefusedError."""
        batch = self._found(asked)
        if batch.status == "ended":
            raise refused(400, f"Batch {batch.ident} has already ended.")
        if batch.status == "in_progress":
            batch.status = "canceling"
            batch.entered["canceling"] = self._now()
        return self._shown(batch, asked)

    def delete(self, asked: Asked) -> dict[str, Any]:
        """DELETE /v1/messages/batches/{id}. Raises RefusedError."""
        batch = self._found(asked)
        if batch.status != "ended":
            raise refused(400, f"Batch {batch.ident} cannot be deleted while it is processing.")
        del self._jobs[batch.ident]
        if batch.results is not None:
            batch.results.unlink(missing_ok=True)
        return {"id": batch.ident, "type": "message_batch_deleted"}

    def _found(self, asked: Asked) -> MessageBatch:
        _version(asked)
        batch = self._find(asked.ident, asked.owner)
        if batch is None:
            raise refused(404, f"Message Batch {asked.ident} not found.")
        return batch

    # -- the states ------------------------------------------------------------------------------

    def _following(
        self, job: MessageBatch, settings: SimulatorSettings
    ) -> tuple[str, float] | None:
        since_s = job.entered[job.status]
        if job.status == "in_progress":
            done_s = since_s + settings.batch_in_progress_s
            expires_s = job.created_s + job.window_s
            if expires_s < done_s and not settings.batches_by_hand:
                return "expired", expires_s
            return "ended", done_s
        if job.status == "canceling":
            return "ended", since_s + settings.batch_cancelling_s
        return None

    def _enter(
        self, job: MessageBatch, status: str, at_s: float, settings: SimulatorSettings
    ) -> None:
        """End a batch; `expired` is not a state but a way to end."""
        order = shuffled(job, settings.seed)
        reached = len(order)
        if status == "expired" or job.status == "canceling":
            reached = answered(job, job.entered.get("canceling", at_s), settings)
        fate = "expired" if status == "expired" else "canceled"
        done = set(order[:reached])
        worker = Worker(
            job.ident,
            job.key,
            settings,
            self._markers,
            Dice(settings.seed + job.number),
            self._journal.add_billed,
        )

        def answer(raw: bytes, number: int) -> Answered:
            if number % 1_000_000 in done:
                return answer_message_line(raw, number, worker, job.version)
            return undone_message_line(orjson.loads(raw)["custom_id"], fate)

        job.results = self._files.new_path()
        job.lines = write_results(job.source, job, order, answer, {"output": job.results}).lines
        job.source.unlink(missing_ok=True)
        job.status = "ended"
        job.entered["ended"] = at_s

    # -- how it is shown -------------------------------------------------------------------------

    def _is_archived(self, batch: MessageBatch) -> bool:
        return self._now() >= batch.created_s + ARCHIVED_S

    def _shown(self, batch: MessageBatch, asked: Asked) -> dict[str, Any]:
        def time(state: str) -> str | None:
            return iso(self._wall(batch.entered[state])) if state in batch.entered else None

        lines = batch.lines or Counter()
        counts = {"processing": batch.total if batch.lines is None else 0}
        counts |= {name: lines[name] for name in ("succeeded", "errored", "canceled", "expired")}
        archived_at = iso(self._wall(batch.created_s + ARCHIVED_S))
        host = asked.request.headers.get("host", "")
        url = f"http://{host}{MESSAGE_BATCHES}/{batch.ident}/results"
        is_archived = self._is_archived(batch)
        return {
            "id": batch.ident,
            "type": "message_batch",
            "processing_status": batch.status,
            "request_counts": counts,
            "created_at": iso(self._wall(batch.created_s)),
            "expires_at": iso(self._wall(batch.created_s + batch.window_s)),
            "cancel_initiated_at": time("canceling"),
            "ended_at": time("ended"),
            "archived_at": archived_at if is_archived else None,
            "results_url": url if batch.results is not None and not is_archived else None,
        }


def _version(asked: Asked) -> str:
    """The API's version that a call names. Raises RefusedError if it names none."""
    version = asked.request.headers.get("anthropic-version", "")
    if not version:
        raise refused(400, "anthropic-version: header is required")
    return version


def _place(shown: list[dict[str, Any]], asked: Asked, limit: int) -> tuple[int, int]:
    """Where a page of the list begins and ends. Raises RefusedError for ids not in it."""
    query = asked.query()
    ids = [item["id"] for item in shown]
    for name in ("after_id", "before_id"):
        if name in query and query[name] not in ids:
            raise refused(400, f"{name}: there is no {query[name]}")
    if asked.settings.endless_lists or not {"after_id", "before_id"} & query.keys():
        return 0, limit
    if "before_id" in query:
        end = ids.index(query["before_id"])
        return max(0, end - limit), end
    start = ids.index(query["after_id"]) + 1
    return start, start + limit
