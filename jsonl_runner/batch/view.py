"""How batches stand: for people and for programs. Changes nothing, so it needs no lock."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..calllog import read
from ..limits import in_words
from .base import RemoteBatch
from .parts import CREATING, NULL, OK, RELEASED, SUBMITTED, WAITING
from .watch import remote_states

if TYPE_CHECKING:
    from pathlib import Path

    from .desk import Desk
    from .manifest import Manifest
    from .parts import Part


@dataclass(frozen=True)
class View:
    """How a part stands.

    Attributes:
        part: as the manifest has it.
        remote: as the provider has it now; None: it was not asked, or did not say.
        rows: how many have an output, a null, are let go, or are waiting.
        cost: dollars, of what is in the ledger; None: not known.
        age_s: seconds since its batch was asked for, or it was planned.
    """

    part: Part
    remote: RemoteBatch | None
    rows: dict[str, int]
    cost: float | None
    age_s: float

    @property
    def status(self) -> str:
        """What its batch is said to be."""
        if self.remote is not None:
            return self.remote.status
        return self.part.status if self.part.state == SUBMITTED else self.part.state

    @property
    def counts(self) -> tuple[int | None, int | None, int | None]:
        """Requests in all, completed and failed, as the provider counts."""
        source = self.remote or self.part
        return source.total, source.completed, source.failed

    def line(self) -> str:
        """Return it for people."""
        part = self.part
        total, completed, failed = self.counts
        parts = [
            f"part {part.number}: {self.status}",
            part.batch or "no batch yet",
            f"{part.requests:,} rows",
            part.model,
        ]
        if part.state == CREATING:
            parts[0] += " (whether its batch was created is not known yet)"
        if part.is_live and completed is not None:
            parts.append(f"{completed:,} of {total or part.requests:,} done")
        if failed:
            parts.append(f"{failed:,} failed")
        if not part.is_live:
            parts += [f"{count:,} {what}" for what, count in self.rows.items() if count]
        parts.append(in_words(self.age_s) + " old")
        if self.cost is not None:
            parts.append(f"cost {self.cost:.4f}")
        if part.reason:
            parts.append(part.reason)
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        part = self.part
        total, completed, failed = self.counts
        return {
            "part": part.number,
            "state": part.state,
            "batch": part.batch or None,
            "status": self.status,
            "model": part.model,
            "requests": part.requests,
            "bytes": part.size,
            "total": total,
            "completed": completed,
            "failed": failed,
            "rows": self.rows,
            "cost": self.cost,
            "age_s": round(self.age_s, 1),
            "key": part.key_label or None,
            "base_url": part.base_url,
            "file": part.file or None,
            "path": part.path,
            "sha256": part.sha256,
            "attempt": part.attempt,
            "reason": part.reason or None,
            "cleaned": bool(part.cleaned),
        }


_ROWS = {OK: "ok", NULL: "null", RELEASED: "let go", WAITING: "waiting"}


def views(manifest: Manifest, output: Path, wall: float, desk: Desk | None = None) -> list[View]:
    """Return how all parts stand.

    Args:
        manifest: opened, for reading at least.
        output: the ledger, whose call log knows the costs.
        wall: the present, in seconds since 1970.
        desk: asks the provider about what runs; None: nobody is asked.

    Raises:
        ProviderError: the provider has no answer.
        ConfigError: a part's key is not there.
        LedgerError: the call log cannot be read.
    """
    parts = manifest.parts()
    running = [part for part in parts if part.state == SUBMITTED]
    said = remote_states(desk, running) if desk is not None and running else {}
    costs = _costs(output)
    found = []
    for part in parts:
        remote = said.get(part.number)
        counts = manifest.counts(part.number)
        found.append(
            View(
                part,
                remote if isinstance(remote, RemoteBatch) else None,
                {name: counts.get(state, 0) for state, name in _ROWS.items()},
                costs.get(part.batch) if part.batch else None,
                max(0.0, wall - (part.asked or part.planned)),
            )
        )
    return found


def _costs(output: Path) -> dict[str, float]:
    found: defaultdict[str, float] = defaultdict(float)
    for entry in read(output):
        batch, cost = entry.get("batch"), entry.get("cost")
        if isinstance(batch, str) and isinstance(cost, int | float):
            found[batch] += cost
    return dict(found)
