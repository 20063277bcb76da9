"""From a provider's result files into the ledger and the call log.

First the files are fetched whole, then they are read line by line. An answer is written before its
row is marked as done, and a row that is marked is passed over, so that a crash at any point costs
nothing but the reading.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, cast

from ..errors import LedgerError
from ..indexes import IndexSet
from ..records import Outcome
from ..review import Reviewed
from ..secret import MAX_CODE, shorten
from .base import ProviderError
from .fileless import confirm, is_first
from .parts import COLLECTED, FETCHED, NULL, OK, WAITING, File
from .reconcile import check_file
from .results import Fate, result_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..calllog import CallLog
    from ..ledger import Ledger
    from ..records import Record
    from ..summary import RunSummary
    from .desk import Desk
    from .parts import Item, Part
    from .results import ResultLine
    from .reviewing import PartReview, Reviews

    #: Says what an answer cost, in dollars, and how that is known: its model, usage, and moment,
    #: and whether it came in a batch.
    CostOf = Callable[[str, dict[str, Any], float, bool], tuple[float | None, str]]

#: Lines that are written together.
_GROUP = 500
#: Bytes that stay free on the disk.
_SPARE = 64 * 1024 * 1024


def fetch(desk: Desk, part: Part) -> Part:
    """Fetch the result files of a part, and return it as it is then.

    Raises:
        LedgerError: the disk cannot take them.
    """
    try:
        if (doubted := confirm(desk, part)) is not None:
            return doubted
    except ProviderError as error:
        reason = desk.clean(f"batch {part.batch} could not be looked into: {error}")
        desk.note(f"part {part.number}: {reason}; it is tried again")
        due = desk.clock.wall() + desk.wait_s(part, error)
        return desk.manifest.put(part, reason=reason, due=due)
    for file in desk.manifest.files(part.number):
        if file.kind != "result" or file.path:
            continue
        try:
            _fetch_file(desk, part, file)
        except ProviderError as error:
            desk.check_key(error)
            wall = desk.clock.wall()
            if error.is_missing and wall - (part.ended or wall) > desk.pace.missing_s:
                desk.note(f"part {part.number}: its file {file.id} is not there any more")
                continue
            reason = desk.clean(f"file {file.id} could not be fetched: {error}")
            desk.note(f"part {part.number}: {reason}; it is tried again")
            return desk.manifest.put(part, reason=reason, due=wall + desk.wait_s(part, error))
    desk.went_well(part)
    return desk.manifest.put(part, state=FETCHED, due=0.0)


def _fetch_file(desk: Desk, part: Part, file: File) -> None:
    key = desk.key(part)
    folder = (desk.folder / part.path).parent
    place = folder / f"{part.name}-{_safe(file.id)}.jsonl"
    size = desk.provider.size_of(file.id, key)
    free = shutil.disk_usage(folder).free
    if free < (size or 0) + _SPARE:
        raise LedgerError(
            f"{place}: cannot be written: it needs {size or 0:,} bytes and {_SPARE:,} to spare, "
            f"and {free:,} are free; the results stay at the provider: make room and fetch again"
        )
    partial = place.with_suffix(".part")
    try:
        with partial.open("wb") as stream:
            hashing = _Hashing(stream)
            desk.provider.download(file.id, cast("IO[bytes]", hashing), key)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(place)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise LedgerError(f"{place}: cannot be written ({error.strerror or error})") from None
    path = place.relative_to(desk.folder).as_posix()
    digest = hashing.digest.hexdigest()
    desk.manifest.put_file(part.number, File(file.id, "result", path, hashing.size, digest))


def _safe(name: str) -> str:
    """Return a provider's id as it may stand in a file's name."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:80]


class _Hashing:
    """A file to write into that counts and hashes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write."""
        self._stream.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)


@dataclass
class Collected:
    """What came of a part.

    Attributes:
        done, failed: rows with an output, and with a null.
        released: rows that may be sent again, by their reasons.
        examples: of each reason, a message.
        foreign: lines that name no row of the part.
    """

    done: int = 0
    failed: int = 0
    released: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    foreign: int = 0


class Collector:
    """Writes the results of parts; see above.

    Args:
        desk: manifest and voice.
        ledger, calllog: opened; the ledger forces each group onto the disk.
        summary: counts what is written.
        reviews: says what becomes of answers.
        cost_of: says what an answer cost.
    """

    def __init__(
        self,
        desk: Desk,
        ledger: Ledger,
        calllog: CallLog,
        summary: RunSummary,
        reviews: Reviews,
        cost_of: CostOf | None = None,
    ) -> None:
        self._desk = desk
        self._ledger = ledger
        self._calllog = calllog
        self._summary = summary
        self._reviews = reviews
        self._cost_of = cost_of
        self._review: PartReview | None = None
        #: Rows that became null here.
        self.nulls = IndexSet()

    def recalled(self, records: Iterator[Record]) -> Iterator[Record]:
        """Yield the Records that no answer in the call log does for; see `recall`.

        What comes of the others is written.

        Raises:
            LedgerError: a file cannot be read or written.
        """
        found = self._ledger.found
        outcomes: list[Outcome] = []
        self._calllog.turn_to(self._reviews.asked())
        recall = self._reviews.recall(self._ledger.path, found.nulls, self._desk.clock)
        with contextlib.closing(recall):
            for record in records:
                outcome = recall.outcome(record)
                if outcome is None:
                    yield record
                    continue
                outcomes.append(outcome)
                if len(outcomes) == _GROUP:
                    self._write(outcomes)
                    outcomes = []
            self._write(outcomes)

    def collect(self, part: Part) -> tuple[Part, Collected]:
        """Write what came of a fetched part; return it as it is then, and what that was.

        Raises:
            LedgerError: a file cannot be read or written.
        """
        found = Collected()
        passing: dict[str, str] = {}
        planned = self._desk.manifest.asked_of(part.number)
        self._calllog.turn_to(self._reviews.asked(planned))
        self._review = self._reviews.of_part(self._desk.folder / part.path, planned)
        with contextlib.ExitStack() as stack:
            if self._review is not None:
                stack.callback(self._review.close)
            self._read(part, found, passing)
        manifest = self._desk.manifest
        missing = manifest.counts(part.number).get(WAITING, 0) - len(passing)
        found.released = Counter(passing.values())
        if missing > 0:
            found.released["missing"] = missing
            found.examples["missing"] = "it stands in no result file"
        self._tell(part, found)
        return manifest.release(part, state=COLLECTED, due=0.0), found

    def _read(self, part: Part, found: Collected, passing: dict[str, str]) -> None:
        """Take the lines of all result files of a part."""
        for file in self._desk.manifest.files(part.number):
            if file.kind != "result" or not file.path:
                continue
            path = self._desk.folder / file.path
            check_file(path, file.sha256)
            of = replace(part, batch="") if is_first(part, file) else part  # a call, and its price
            with path.open("rb") as stream:
                for group in _groups(stream):
                    self._take(of, group, found, passing)

    def _take(
        self,
        part: Part,
        group: list[ResultLine],
        found: Collected,
        passing: dict[str, str],
    ) -> None:
        """Take some lines: write first, then mark."""
        manifest = self._desk.manifest
        items = manifest.items(part.number, [line.custom_id or "" for line in group])
        outcomes: list[Outcome] = []
        states: dict[str, int] = {}
        for line in group:
            item = items.get(line.custom_id or "")
            if item is None:
                found.foreign += 1
                continue
            before = states.get(item.custom_id, item.state)
            if before == OK or (before == NULL and line.fate is not Fate.DONE):
                continue
            if line.fate in {Fate.PASSING, Fate.BLOCKED}:
                passing[item.custom_id] = line.verdict.code
                message = self._desk.clean(line.verdict.message)
                found.examples.setdefault(line.verdict.code, message)
                continue
            passing.pop(item.custom_id, None)
            outcome = self._outcome(part, item, line)
            states[item.custom_id] = NULL if outcome.output is None else OK
            if item.row not in self._ledger.found.done:
                outcomes.append(outcome)
        self._write(outcomes)
        manifest.settle(part.number, states.items())
        found.done += sum(state == OK for state in states.values())
        found.failed += sum(state == NULL for state in states.values())

    def _write(self, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return
        self._ledger.append(outcomes)
        self._calllog.append(outcomes)
        self._summary.add(outcomes)
        for outcome in outcomes:
            if outcome.output is None:
                self.nulls.add(outcome.index)

    def _outcome(self, part: Part, item: Item, line: ResultLine) -> Outcome:
        verdict, answer = line.verdict, line.verdict.answer
        model = (answer.model if answer else None) or part.model
        usage = answer.usage if answer else None
        ended = part.ended or self._desk.clock.wall()
        cost, cost_from = None, ""
        if self._cost_of is not None and usage:
            cost, cost_from = self._cost_of(model, usage, ended, bool(part.batch))
        text = answer.text if answer is not None and line.fate is Fate.DONE else None
        reviewed = Reviewed(text, verdict.code, verdict.message)
        if text is not None and answer is not None and self._review is not None:
            found = self._review(item, answer)
            reviewed = reviewed._replace(output=found.output) if found.output else found
        return Outcome(
            item.row,
            reviewed.output,
            shorten(self._desk.clean(reviewed.code), MAX_CODE),
            self._desk.clean(reviewed.message),
            1,
            model,
            answer.finish_reason if answer else None,
            usage,
            key=part.key_label,
            fingerprint=item.fingerprint,
            started=part.asked,
            ended=ended,
            cost=cost,
            batch=part.batch,
            cost_from=cost_from,
            raw=text if reviewed.output != text else None,
        )

    def _tell(self, part: Part, found: Collected) -> None:
        if found.foreign:
            self._desk.note(f"part {part.number}: {found.foreign:,} result lines name no row of it")
        for code, count in found.released.items():
            why = found.examples.get(code, "")
            self._desk.note(
                f"part {part.number}: {count:,} rows are left to be sent again, {code}: {why}"
            )


def _groups(stream: IO[bytes]) -> Iterator[list[ResultLine]]:
    group: list[ResultLine] = []
    for _, line in result_lines(stream):
        group.append(line)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group
