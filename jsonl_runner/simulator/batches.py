"""OpenAI's `/v1/batches`: created whatever is in the file, validated later, answered in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from .batch_lines import Answered, Scan, Worker, answer_line, scan, undone_line
from .calls import Asked, page, refused
from .faults import Dice
from .files import EXPIRES_AFTER_S, StoredFile, expiry_s
from .jobs import Job, Jobs, answered, progress
from .journal_batches import CreatedBatch
from .messages import iso
from .results import Tally, shuffled, write_results

if TYPE_CHECKING:
    from .settings import SimulatorSettings

# Of OpenAI's endpoints the one that is simulated, and its name at Azure.
ENDPOINTS = ("/v1/chat/completions", "/chat/completions")
_MOST_PAIRS, _MOST_NAME, _MOST_VALUE = 16, 64, 512
_ENDS = ("failed", "completed", "expired", "cancelled")
_UNDONE = {"expired": "batch_expired", "cancelled": "batch_cancelled"}


@dataclass(slots=True, kw_only=True)
class Batch(Job):
    """A batch of OpenAI."""

    source: StoredFile
    scan: Scan
    endpoint: str
    metadata: dict[str, str] | None
    results_expire_s: float
    window_s: float
    tally: Tally | None = None
    output: StoredFile | None = None
    errors: StoredFile | None = None
    findings: list[dict[str, Any]] = field(default_factory=list)


class Batches(Jobs[Batch]):
    """The batches of all keys."""

    # -- the calls -------------------------------------------------------------------------------

    def create(self, asked: Asked) -> dict[str, Any]:
        """POST /v1/batches. Raises RefusedError."""
        body = asked.json()
        source = self._input(body, asked)
        metadata = _metadata(body.get("metadata"))
        given = body.get("output_expires_after")
        number, now_s = len(self._jobs) + 1, self._now()
        found = scan(source.path, body["endpoint"], asked.settings)
        batch = Batch(
            ident=f"batch_sim{self._nonce}{number:06}",
            number=number,
            key=asked.key,
            owner=asked.owner,
            created_s=now_s,
            status="validating",
            entered={"validating": now_s},
            places=found.places,
            source=source,
            scan=found,
            endpoint=body["endpoint"],
            metadata=metadata,
            results_expire_s=EXPIRES_AFTER_S if given is None else expiry_s(given),
            window_s=asked.settings.batch_window_s,
        )
        stuck = Dice(asked.settings.seed + number).fault({"stuck": asked.settings.stuck_batches})
        if stuck is not None:
            batch.stuck_in = "in_progress"
        source.users += 1
        self._jobs[batch.ident] = batch
        self._journal.add_created(
            CreatedBatch(
                batch.ident,
                batch.key,
                source.ident,
                source.sha256,
                tuple(found.custom_ids),
                dict(metadata or {}),
                now_s,
            )
        )
        found.custom_ids.clear()
        return self._shown(batch)

    def retrieve(self, asked: Asked) -> dict[str, Any]:
        """GET /v1/batches/{id}. Raises RefusedError."""
        return self._shown(self._found(asked))

    def listing(self, asked: Asked) -> dict[str, Any]:
        """GET /v1/batches. Raises RefusedError."""
        limit = asked.limit(20, 100)
        return page([self._shown(batch) for batch in self._listed(asked.owner)], asked, limit)

    def cancel(self, asked: Asked) -> dict[str, Any]:
        """POST /v1/batches/{id}/cancel. Raises RefusedError."""
        batch = self._found(asked)
        if batch.status in _ENDS:
            raise refused(409, f"Cannot cancel a batch with status '{batch.status}'.")
        if batch.status != "cancelling":
            batch.status = "cancelling"
            batch.entered["cancelling"] = self._now()
        return self._shown(batch)

    def _found(self, asked: Asked) -> Batch:
        batch = self._find(asked.ident, asked.owner)
        if batch is None:
            raise refused(404, f"No batch found with id '{asked.ident}'.", param="batch_id")
        return batch

    def _input(self, body: dict[str, Any], asked: Asked) -> StoredFile:
        """The input file of a batch to be created. Raises RefusedError."""
        if body.get("endpoint") not in ENDPOINTS:
            message = f"Invalid value: '{body.get('endpoint')}'. Supported values are: {ENDPOINTS}."
            raise refused(400, message, param="endpoint")
        if body.get("completion_window") != "24h":
            message = f"Invalid value: '{body.get('completion_window')}'. Value must be '24h'."
            raise refused(400, message, param="completion_window")
        ident = body.get("input_file_id")
        source = self._files.find(ident, asked.owner) if isinstance(ident, str) else None
        if source is None:
            raise refused(400, f"No such File object: {ident}", param="input_file_id")
        if source.purpose != "batch":
            message = f"Invalid file purpose: '{source.purpose}', must be 'batch'."
            raise refused(400, message, param="input_file_id")
        if not self._files.is_ready(source):
            raise refused(
                400, f"File {ident} is still being processed. Try again.", param="input_file_id"
            )
        return source

    # -- the states ------------------------------------------------------------------------------

    def _following(self, job: Batch, settings: SimulatorSettings) -> tuple[str, float] | None:
        since_s = job.entered[job.status]
        if job.status == "validating":
            coming = "failed" if job.scan.findings else "in_progress"
            return coming, since_s + settings.batch_validating_s
        if job.status == "in_progress":
            done_s = since_s + settings.batch_in_progress_s
            expires_s = job.created_s + job.window_s
            if expires_s < done_s and not settings.batches_by_hand:
                return "expired", expires_s
            return "finalizing", done_s
        if job.status == "finalizing":
            return "completed", since_s + settings.batch_finalizing_s
        if job.status == "cancelling":
            return "cancelled", since_s + settings.batch_cancelling_s
        return None

    def _enter(self, job: Batch, status: str, at_s: float, settings: SimulatorSettings) -> None:
        if status == "in_progress" and self._is_too_much(job, at_s, settings):
            status = "failed"
        if status == "failed":
            job.findings = job.findings or job.scan.findings
        elif status in _ENDS:
            self._finish(job, status, at_s, settings)
        job.status = status
        job.entered[status] = at_s
        if status in _ENDS:
            self._files.release(job.source)

    def _is_too_much(self, job: Batch, at_s: float, settings: SimulatorSettings) -> bool:
        """Whether a model would have more tokens enqueued than it may; then says so."""
        model = job.scan.model
        most = settings.max_enqueued_tokens.get(model)
        enqueued = sum(
            other.scan.tokens
            for other in self._jobs.values()
            if other.owner == job.owner and other.scan.model == model and _is_under_way(other, at_s)
        )
        if most is None or enqueued + job.scan.tokens <= most:
            return False
        message = (
            f"Enqueued token limit reached for {model} in organization org-simulated. Limit: "
            f"{most:,} enqueued tokens. Please try again once some in_progress batches have been "
            "completed."
        )
        finding = {"code": "token_limit_exceeded", "message": message, "param": None, "line": None}
        job.findings = [finding]
        return True

    def _finish(self, job: Batch, status: str, at_s: float, settings: SimulatorSettings) -> None:
        """Answer the lines that were reached, and write both files."""
        order = [] if job.scan.findings else shuffled(job, settings.seed)
        reached = len(order)
        if status != "completed":
            reached = min(reached, answered(job, job.entered.get("cancelling", at_s), settings))
        worker = Worker(
            job.ident,
            job.key,
            settings,
            self._markers,
            Dice(settings.seed + job.number),
            self._journal.add_billed,
        )
        done = set(order[:reached])

        def answer(raw: bytes, number: int) -> Answered:
            if number % 1_000_000 in done:
                return answer_line(raw, number, worker)
            custom_id = orjson.loads(raw)["custom_id"]
            return Answered("error", undone_line(custom_id, number, _UNDONE[status]))

        targets = {name: self._files.new_path() for name in ("output", "error")}
        job.tally = write_results(job.source.path, job, order, answer, targets)
        kept = {}
        for name, path in targets.items():
            if job.tally.lines[name] or settings.absent_files == "empty_file":
                kept[name] = self._files.add(
                    path,
                    f"{job.ident}_{name}.jsonl",
                    "batch_output",
                    owner=job.owner,
                    nonce=self._nonce,
                    expires_after_s=job.results_expire_s,
                )
            else:
                path.unlink()
        job.output, job.errors = kept.get("output"), kept.get("error")

    # -- how it is shown -------------------------------------------------------------------------

    def _shown(self, batch: Batch) -> dict[str, Any]:
        settings = self._settings()
        times = {
            f"{state}_at": self._wall(batch.entered[state]) if state in batch.entered else None
            for state in ("in_progress", "finalizing", "cancelling", *_ENDS)
        }
        findings = {"object": "list", "data": batch.findings} if batch.findings else None
        shown = {
            "id": batch.ident,
            "object": "batch",
            "endpoint": batch.endpoint,
            "model": batch.scan.model or None,
            "errors": findings,
            "input_file_id": batch.source.ident,
            "completion_window": "24h",
            "status": batch.status,
            **_file_ids(batch, settings),
            "created_at": self._wall(batch.created_s),
            "expires_at": self._wall(batch.created_s + batch.window_s),
            **times,
            "request_counts": self._counts(batch, settings),
            "metadata": batch.metadata,
        }
        if batch.tally is not None:
            shown["usage"] = _usage(batch.tally)
        return _loud(shown) if settings.loud_batches else shown

    def _counts(self, batch: Batch, settings: SimulatorSettings) -> dict[str, int | None]:
        total, completed, failed = batch.total, 0, 0
        if batch.status in ("validating", "failed"):
            total = 0
        elif batch.tally is not None:
            completed, failed = batch.tally.lines["output"], batch.tally.lines["error"]
        else:
            at_s = batch.entered.get("cancelling", self._now())
            completed = int(progress(batch, at_s, settings) * total)
        if settings.batch_counts == "null":
            return {"total": total, "completed": None, "failed": None}
        if settings.batch_counts == "odd":
            completed, failed = total if batch.status == "completed" else completed, 0
        return {"total": total, "completed": completed, "failed": failed}


def _is_under_way(batch: Batch, at_s: float) -> bool:
    """Whether a batch's tokens were enqueued at that time."""
    began_s = batch.entered.get("in_progress")
    if began_s is None or began_s > at_s:
        return False
    return all(batch.entered[end] > at_s for end in _ENDS if end in batch.entered)


def _metadata(given: object) -> dict[str, str] | None:
    """The metadata of a batch to be created. Raises RefusedError for what is too much of it."""
    if given is None:
        return None
    if not isinstance(given, dict) or len(given) > _MOST_PAIRS:
        raise refused(400, f"Invalid 'metadata': at most {_MOST_PAIRS} pairs.", param="metadata")
    for name, value in given.items():
        if not isinstance(value, str) or len(name) > _MOST_NAME or len(value) > _MOST_VALUE:
            message = f"Invalid 'metadata': texts of at most {_MOST_NAME} and {_MOST_VALUE}."
            raise refused(400, message, param="metadata")
    return given


def _file_ids(batch: Batch, settings: SimulatorSettings) -> dict[str, str | None]:
    """Both ids, as this provider names a file that there is not."""
    found = {"output_file_id": batch.output, "error_file_id": batch.errors}
    absent = "" if settings.absent_files == "blank" else None
    return {
        name: absent if stored is None else stored.ident
        for name, stored in found.items()
        if stored is not None or settings.absent_files != "missing"
    }


def _loud(shown: dict[str, Any]) -> dict[str, Any]:
    """A batch as providers show it that are compatible, but not quite."""
    times = {
        name: str(value) if name == "created_at" else iso(value)
        for name, value in shown.items()
        if name.endswith("_at") and value is not None
    }
    return {
        **shown,
        **times,
        "status": shown["status"].replace("ll", "l").upper(),
        "request_counts": {name: str(count) for name, count in shown["request_counts"].items()},
    }


def _usage(tally: Tally) -> dict[str, Any]:
    return {
        "input_tokens": tally.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tally.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tally.input_tokens + tally.output_tokens,
    }
