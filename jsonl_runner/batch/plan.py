"""From rows to parts: files of requests on our disk that never change, each known to the manifest.

A part is whole on the disk before the manifest knows of it: a crash between the two costs that file
alone, and the next plan writes over it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from ..errors import LedgerError
from ..records import fingerprint
from ..survey import BadRows
from .fileless import UnevenSplitter
from .manifest import parts_folder
from .parts import PLANNED, WITHDRAWN, Item, Part
from .requests import RequestMaker, Splitter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ..prompts import Composer
    from ..records import Record
    from ..sources.stream import BadRowOf
    from ..survey import BadRowsPolicy
    from .desk import Desk
    from .requests import Line


@dataclass(frozen=True)
class Wishes:
    """How rows are to be sent.

    Attributes:
        window: how long a batch may take; None: the provider's usual one.
        max_requests: in a part; None: as many as the provider takes.
        max_tokens: of the prompts of a part; None: any.
        bad_rows: what to do about rows that the provider would refuse.
        sampling: whether Anthropic is sent temperature, top_p and top_k.
        dry: whether nothing is written.
    """

    window: str | None = None
    max_requests: int | None = None
    max_tokens: int | None = None
    bad_rows: BadRowsPolicy = "fail"
    dry: bool = False
    sampling: bool = False


@dataclass
class Planned:
    """What was planned.

    Attributes:
        parts: made, or in a dry run: what they would be.
        notes: what was left out or put right.
        bad: rows that cannot be sent.
    """

    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bad: BadRows = field(default_factory=BadRows)

    @property
    def rows(self) -> int:
        """How many there are in all parts."""
        return sum(part.requests for part in self.parts)

    @property
    def tokens(self) -> int:
        """What all prompts together are expected to have."""
        return sum(part.tokens for part in self.parts)


class _Growing:
    """A part that is being written."""

    def __init__(self, path: Path, number: int, name: str, model: str, *, dry: bool) -> None:
        self.path, self.number, self.name, self.model = path, number, name, model
        self.temporary = path.with_suffix(".part")
        self._stream: IO[bytes] | None = None if dry else self.temporary.open("wb")
        self.digest = hashlib.sha256()
        self.items: list[Item] = []
        self.requests = self.size = self.tokens = 0

    def put(self, line: Line, content: str) -> None:
        self.requests += 1
        self.size += len(line.data)
        self.tokens += line.tokens
        if self._stream is not None:
            self._stream.write(line.data)
            self.digest.update(line.data)
            self.items.append(Item(line.custom_id, line.index, content))

    def finish(self) -> None:
        """Bring the file to its place, whole."""
        if self._stream is None:
            return
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self.temporary.replace(self.path)
        if os.name == "posix":  # Windows has no way to, and needs none
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self.temporary.unlink(missing_ok=True)


def withdraw(desk: Desk, parts: Iterable[Part]) -> None:
    """Undo a plan of which nothing was sent."""
    for part in parts:
        if part.sha256:
            desk.manifest.release(part, state=WITHDRAWN, cleaned=1)
            (desk.folder / part.path).unlink(missing_ok=True)


class Planner:
    """Writes parts; see above.

    Args:
        desk: the manifest and the provider.
        ledger: whose rows they are.
        composer: knows the model and the parameters.
        bad_row: makes a BadRow of a line of the source, and the reason.
        wishes: see there.
    """

    def __init__(
        self, desk: Desk, ledger: Path, composer: Composer, bad_row: BadRowOf, wishes: Wishes
    ) -> None:
        self._desk = desk
        self._bad_row = bad_row
        self._folder = parts_folder(ledger)
        self._wishes = wishes
        self._profile = desk.provider.profile
        self._first = desk.manifest.next_number()
        self._run = desk.manifest.run
        # Where nothing else says whose a batch is, each of its requests does.
        prefix = "" if desk.provider.uses_files else f"{self._run}-{self._first:04}_"
        self._asked = composer.shape
        self._maker = RequestMaker(self._profile, composer, prefix=prefix, sampling=wishes.sampling)

    def plan(self, records: Iterable[Record]) -> Planned:
        """Make parts of Records.

        Raises:
            BadRowsError: the provider would refuse some; then nothing is planned.
            LedgerError: they cannot be written.
        """
        planned = Planned()
        try:
            if not self._wishes.dry:
                self._folder.mkdir(exist_ok=True)
            for part in self._parts(records, planned.bad):
                planned.parts.append(part)
            self._check(planned)
        except OSError as error:
            withdraw(self._desk, planned.parts)
            why = error.strerror or error
            raise LedgerError(f"{self._folder}: cannot be written ({why})") from None
        except BaseException:
            withdraw(self._desk, planned.parts)
            raise
        planned.notes = self._maker.notes
        return planned

    def _check(self, planned: Planned) -> None:
        if planned.bad and self._wishes.bad_rows == "fail":
            raise planned.bad.error()

    def _parts(self, records: Iterable[Record], bad: BadRows) -> Iterator[Part]:
        limits = {
            "max_requests": self._wishes.max_requests,
            "max_tokens": self._wishes.max_tokens,
        }
        splitter = Splitter(self._profile, **limits)
        if not self._desk.provider.uses_files:
            splitter = UnevenSplitter(self._profile, self._first, **limits)
        growing: dict[int, _Growing] = {}
        try:
            for record in records:
                try:
                    line = self._maker.line(record)
                    place = splitter.place(line)
                except ValueError as error:
                    bad.append(self._bad_row(record.line, str(error)))
                    continue
                if place.number not in growing:
                    for full in [p for p in splitter.parts if p.is_full and p.number in growing]:
                        yield self._finish(growing.pop(full.number))
                    growing[place.number] = self._begin(place.number, line.model)
                growing[place.number].put(line, fingerprint(record))
            for number in sorted(growing):
                yield self._finish(growing.pop(number))
        finally:
            for part in growing.values():
                part.drop()

    def _begin(self, place: int, model: str) -> _Growing:
        number = self._first + place - 1
        name = f"{self._run}-{number:04}"
        return _Growing(self._folder / f"{name}.jsonl", number, name, model, dry=self._wishes.dry)

    def _finish(self, growing: _Growing) -> Part:
        growing.finish()
        part = Part(
            growing.number,
            PLANNED,
            growing.name,
            growing.path.relative_to(self._desk.folder).as_posix(),
            "" if self._wishes.dry else growing.digest.hexdigest(),
            growing.size,
            growing.requests,
            growing.tokens,
            growing.model,
            self._profile.endpoints[0],
            self._wishes.window or next(iter(self._profile.windows), ""),
            self._desk.base_url,
            planned=self._desk.clock.wall(),
        )
        if not self._wishes.dry:
            self._desk.manifest.add(part, growing.items, self._asked)
        return part
