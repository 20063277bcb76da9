"""Answers that were paid for and came to nothing, looked at again before another is paid for.

The call log keeps the answer of a row that is null because it was not the JSON that was asked for,
or because the user's function made nothing of it. Who has mended the schema or the function runs
the same command again, and has these rows for nothing; what still will not do is asked for anew, as
any null is.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .attempts import Answer
from .calllog import entry_at, path_for, raws
from .lines import LineReader
from .post import load_post
from .prompts import shape_of
from .records import Outcome, fingerprint
from .review import Review
from .secret import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .clock import Clock
    from .config import Config
    from .indexes import IndexSet
    from .ledger import Scan
    from .records import Record

#: What the call log says of such an output.
_FROM_LOG = "made of the answer in the call log, without a call"


class Recall:
    """See above; its Records are taken by one thread at a time.

    Args:
        config: the settings.
        ledger: whose call log it is.
        nulls: rows of the ledger that have a null.
        clock: where the time comes from.
        since: byte of the call log before which there is no answer that is of use.

    Attributes:
        begins: the same for the next run.

    Raises:
        ConfigError: there is no such function as `post` names.
        LedgerError: the call log cannot be read.
    """

    def __init__(
        self, config: Config, ledger: Path, nulls: IndexSet, clock: Clock, since: int = 0
    ) -> None:
        self._review = Review(load_post(config.post), Redactor(config.api_keys))
        self._shape = config.params.get("response_format")
        self._clock = clock
        self._places, self.begins = raws(ledger, nulls, since)
        self._lines = LineReader(path_for(ledger)) if len(self._places) else None
        self._lock = threading.Lock()
        self._taken: list[Outcome] = []

    def left(self, records: Iterator[Record]) -> Iterator[Record]:
        """Yield the Records that no earlier answer does for; what they do waits in `taken`."""
        if self._lines is None:
            yield from records
            return
        for record in records:
            outcome = self.outcome(record)
            if outcome is None:
                yield record
            else:
                with self._lock:
                    self._taken.append(outcome)

    def taken(self) -> list[Outcome]:
        """Return the Outcomes since the last time."""
        if not self._taken:
            return []
        with self._lock:
            taken, self._taken = self._taken, []
        return taken

    def outcome(self, record: Record) -> Outcome | None:
        """Return what an earlier answer comes to now; None: there is none that will do."""
        place = self._places.get(record.index)
        if place is None or self._lines is None:
            return None
        entry = entry_at(self._lines, place)
        content = fingerprint(record)
        if entry is None or entry.get("fingerprint") != content:
            return None
        text, finish, model = (entry.get(name) for name in ("raw", "finish_reason", "model"))
        if not isinstance(text, str):
            return None
        finish = finish if isinstance(finish, str) else None
        model = model if isinstance(model, str) else None
        shape, answer = shape_of(record, self._shape), Answer(text, finish, model, None)
        if not self._review.fits(shape, answer):
            return None
        found = self._review(record, shape, answer)
        if found.output is None:
            return None
        return Outcome(
            record.index,
            found.output,
            message=_FROM_LOG,
            model=model,
            finish_reason=finish,
            fingerprint=content,
            started=self._clock.wall(),
            ended=self._clock.wall(),
            raw=text if found.output != text else None,
        )

    def close(self) -> None:
        """Close the call log."""
        if self._lines is not None:
            self._lines.close()


def recall_of(config: Config, ledger: Path, held: Scan, clock: Clock) -> Recall:
    """Return the Recall of a run, and keep with what is known of its input where the next begins.

    Args:
        config: the settings.
        ledger: whose call log it is.
        held: what the ledger holds.
        clock: where the time comes from.

    Raises:
        ConfigError: there is no such function as `post` names.
        LedgerError: the call log cannot be read.
    """
    since = 0 if held.input is None else held.input.recall_from
    found = Recall(config, ledger, held.nulls, clock, since)
    if held.input is not None:
        held.input.recall_from = found.begins
    return found
