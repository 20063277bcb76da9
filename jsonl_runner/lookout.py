"""Looking at a run from another process: by its state file, else by how its call log grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

from . import calllog, statefile
from .errors import LedgerError
from .keys import KeysView
from .limits import in_words
from .locking import lock_path
from .records import Outcome
from .snapshot import KeyView
from .status import status
from .summary import RunSummary
from .tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .clock import Clock
    from .dataset import Data
    from .snapshot import Snapshot

#: Seconds without a new state after which that is said.
_OLD_S = 5.0
#: Bytes of the call log that are read at once.
_BLOCK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Sight:
    """What there is to see.

    Attributes:
        snapshot: how the run goes.
        run: `running`; `ended`; `gone`, its process is; `calls`, a run tells nothing of itself, and
            this is what its call log says; `none`, there is none.
        word: the same for people; empty while all is well.
    """

    snapshot: Snapshot
    run: Literal["running", "ended", "gone", "calls", "none"]
    word: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be seen."""
        return self.run in {"ended", "gone"}

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {"run": self.run, "word": self.word, "snapshot": self.snapshot.to_dict()}


class Lookout:
    """Looks at a run whenever it is asked.

    Args:
        data: the input.
        ledger: its ledger.
        clock: where the time comes from.
    """

    def __init__(self, data: Data, ledger: Path, clock: Clock) -> None:
        self._data = data
        self._ledger = ledger
        self._clock = clock
        self._last: Snapshot | None = None
        self._calls: _Calls | None = None

    def look(self) -> Sight:
        """Return what there is to see now.

        Raises:
            InputError: the input cannot be read.
            LedgerError: the ledger or its call log cannot be read.
        """
        state = statefile.read(self._ledger)
        if state is None and self._last is not None:
            return Sight(self._last, "ended", "ended")
        if state is None:
            return self._look_at_calls()
        self._last, snapshot = state.snapshot, state.snapshot
        age_s = max(0.0, self._clock.wall() - snapshot.time)
        if state.ended:
            return Sight(snapshot, "ended", f"ended {in_words(age_s)} ago: {state.ended}")
        if state.fate == "gone":
            word = f"its process is gone without a word (killed?), {in_words(age_s)} ago"
            return Sight(snapshot, "gone", word)
        where = f" from process {state.pid} on {state.host}" if age_s > _OLD_S else ""
        return Sight(snapshot, "running", f"no news{where} for {in_words(age_s)}" if where else "")

    def _look_at_calls(self) -> Sight:
        if self._calls is None:
            self._calls = _Calls(self._data, self._ledger, self._clock)
        snapshot = self._calls.look()
        if lock_path(self._ledger).exists():
            return Sight(snapshot, "calls", "by its call log")
        if snapshot.left == 0:
            return Sight(snapshot, "ended", "complete")
        return Sight(snapshot, "none", "no run is writing it; waiting for one")


class _Calls:
    """What a call log says of a run that tells nothing of itself, from now on."""

    def __init__(self, data: Data, ledger: Path, clock: Clock) -> None:
        self._path = calllog.path_for(ledger)
        self._clock = clock
        self._end = self._size()
        found = status(data, ledger)
        # Nulls are tried again: to a run that begins they are left.
        self._summary = RunSummary(rows=found.rows, skipped=found.done)
        self._tally = Tally(str(data), str(ledger))
        self._tally.begin(clock.now())
        self._calls: dict[str, int] = {}

    def look(self) -> Snapshot:
        outcomes = [_outcome_of(entry) for entry in self._new()]
        self._summary.add(outcomes)
        self._tally.add(outcomes)
        for outcome in outcomes:
            self._calls[outcome.key] = self._calls.get(outcome.key, 0) + outcome.attempts
        keys = [KeyView(label, "", calls=calls) for label, calls in self._calls.items() if label]
        nothing = KeysView(0, 0, 0, in_flight=0, calls=0, waiting_for="", trouble="")
        return self._tally.snapshot(
            self._summary, nothing, keys, now=self._clock.now(), wall=self._clock.wall()
        )

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def _new(self) -> Iterator[dict[str, Any]]:
        """Yield the entries of whole lines that have come since the last look."""
        if self._size() < self._end:  # another log than before
            self._end = 0
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._end)
                while lines := stream.readlines(_BLOCK):
                    for line in lines:
                        if not line.endswith(b"\n"):
                            return
                        self._end += len(line)
                        try:
                            entry = orjson.loads(line)
                        except orjson.JSONDecodeError:
                            continue
                        if isinstance(entry, dict) and isinstance(entry.get("index"), str):
                            yield entry
        except FileNotFoundError:
            return
        except OSError as error:
            raise LedgerError(f"{self._path}: cannot be read ({error.strerror})") from None


def _outcome_of(entry: dict[str, Any]) -> Outcome:
    """Return the Outcome that an entry tells of; of its output only whether there is one."""
    attempts, latency_s = entry.get("attempts"), entry.get("latency_s")
    usage, cost, ended = entry.get("usage"), entry.get("cost"), entry.get("ended")
    return Outcome(
        entry["index"],
        "" if entry.get("status") == "ok" else None,
        code=str(entry.get("code")),
        message=str(entry.get("message")),
        attempts=attempts if type(attempts) is int else 0,
        usage=usage if isinstance(usage, dict) else None,
        latency_s=float(latency_s) if isinstance(latency_s, (int, float)) else 0.0,
        key=str(entry.get("key") or ""),
        ended=float(ended) if isinstance(ended, (int, float)) else 0.0,
        cost=float(cost) if isinstance(cost, (int, float)) else None,
        cached=entry.get("cached") is True,
    )
