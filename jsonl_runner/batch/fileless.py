"""What is done otherwise where a provider takes no files and looks at parameters late: Anthropic.

Two things follow from an API that creates a batch by one call with all requests in it.

*A first request.* Parameters are looked at when the batch runs, so one of a part's requests is made
live before. Its answer is a real one: it is kept as a result file of the part, and the batch is
made of the others.

*Doubt.* After a creating call without an answer, all that a batch in the list says of itself is how
many requests it has, until it is over and its results name rows. So one with the same number is the
part's until then, and parts differ in their numbers.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .. import jsontext
from ..attempts import Kind
from ..errors import ConfigError, LedgerError, RunStoppedError
from .base import ProviderError
from .parts import CREATING, ENDED, FETCHED, PLANNED, REFUSED, WITHDRAWN, File
from .requests import Splitter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .base import RemoteBatch
    from .desk import Desk
    from .manifest import Manifest
    from .parts import Part
    from .profiles import Profile
    from .requests import Line

#: What came of looking whether a batch is a part's, in the manifest's operations.
UNSURE, CONFIRMED, REFUTED = "unsure", "confirmed", "not its own"
CONTESTED = "contested"
_FIRST = "first"
#: First requests of a part whose answers were lost, after which none is made any more.
_MOST_LOST = 3
_LOST = "unknown: "
#: By how many requests parts differ at the most; then the numbers begin anew.
_SPREAD = 64
#: Rows of a part that must be refused before it is not the row's fault.
_TRIED = 3


@runtime_checkable
class TakesNoFiles(Protocol):
    """What a provider without files can do besides."""

    def message(self, request: bytes, key: str) -> bytes:
        """Make one request of a part by itself, and return the answer's JSON."""

    def first_id(self, batch: str, key: str) -> str | None:
        """Return a custom_id of the results of a batch that is over; None: they have none."""


class UnevenSplitter(Splitter):
    """Makes parts of different numbers of requests, so that batches can be told apart.

    Args:
        profile: the provider's.
        first: number of the first part.
        max_requests, max_tokens: as of `Splitter`.
    """

    def __init__(
        self, profile: Profile, first: int, *, max_requests: int | None, max_tokens: int | None
    ) -> None:
        super().__init__(profile, max_requests=max_requests, max_tokens=max_tokens)
        self._one_model = True  # the first request of a part stands for the others
        self._first = first
        self._most = self._max_requests
        self._spread = max(1, min(_SPREAD, self._most // 2))

    def place(self, line: Line) -> Any:
        """Return the part a request goes into; see `Splitter.place`."""
        part = self._open.get(line.model)
        number = len(self.parts) + 1 if part is None else part.number
        self._max_requests = self._most - (self._first + number - 2) % self._spread
        return super().place(line)


# -- the first request ---------------------------------------------------------------------------


def try_first(desk: Desk, part: Part) -> Part | None:
    """Make one of a part's requests live, unless that is done.

    Returns:
        None: its batch may be created. The part: it was made just now; a part of one row has no
        batch then.

    Raises:
        ProviderError: it had no answer.
        ConfigError: it was refused as the others would be; the part, and all parts like it, are
            given up, so that they can be made with other parameters.
        LedgerError: the answer cannot be kept.
    """
    provider, manifest = desk.provider, desk.manifest
    if not isinstance(provider, TakesNoFiles):
        return None
    if not _has_first(desk, part) and not _keep_found(desk, part):
        lost = [o for what, _, o, _ in manifest.operations(part.number) if what == _FIRST]
        if sum(outcome == "" or outcome.startswith(_LOST) for outcome in lost) >= _MOST_LOST:
            desk.note(
                f"part {part.number}: a first request had no answer {_MOST_LOST} times, so its "
                "batch is created without"
            )
            return None
        _ask(desk, part, provider)
        if _has_first(desk, part) and part.requests > 1:
            return part  # a step of its own, after which the user may have stopped
    if part.requests == 1 and _has_first(desk, part):
        return finish(desk, part, ENDED, reason="")
    return None


def _ask(desk: Desk, part: Part, provider: TakesNoFiles) -> None:
    refused: list[ProviderError] = []
    key = desk.key(part)
    for line in _some_requests(desk.folder / part.path, part.requests):
        _, operation = desk.manifest.begin(part, _FIRST, desk.clock.wall())
        outcome = f"{_LOST}interrupted"
        try:
            answer = provider.message(line, key)
        except ProviderError as error:
            is_lost = error.connected and error.status in {0, 200}
            outcome = desk.clean(f"{_LOST if is_lost else ''}{error}")
            if error.verdict.kind not in {Kind.ROW_FAULT, Kind.REFUSED_PARAM}:
                raise
            refused.append(error)
        else:
            outcome = "answered"
            _keep(desk, part, line, answer)
            return
        finally:
            desk.manifest.end(part, operation, desk.clock.wall(), outcome)
    if part.requests <= _TRIED and _is_proven(desk, part):
        return  # these rows are at fault; the batch, where that costs nothing, says so of each
    _give_up(desk, part, refused[0])


def _some_requests(path: Path, count: int) -> Iterator[bytes]:
    """Yield a part's first request, the one in its middle and the last.

    They come one by one: where the first is answered, no more is read.
    """
    wanted = {0, count // 2, count - 1}
    with path.open("rb") as stream:
        for number, line in enumerate(stream):
            if number in wanted:
                yield line


def _is_proven(desk: Desk, part: Part) -> bool:
    """Whether the model has answered a first request of another part."""
    return any(
        _has_first(desk, other) for other in desk.manifest.parts() if other.model == part.model
    )


def _give_up(desk: Desk, part: Part, error: ProviderError) -> None:
    """Let go of all parts whose requests would be refused like this one's.

    Raises:
        ConfigError: always; it has the provider's words.
    """
    wall, why = desk.clock.wall(), desk.clean(f"a first request was refused: {error}")
    desk.manifest.release(part, state=REFUSED, reason=why, ended=wall)
    for other in desk.manifest.parts(PLANNED):
        if other.model == part.model and not _has_first(desk, other):
            desk.manifest.release(other, state=WITHDRAWN, reason=why, ended=wall, cleaned=1)
            (desk.folder / other.path).unlink(missing_ok=True)
    raise ConfigError(
        f"{desk.provider.profile.name} refuses the requests of {part.model}, so no batch of them "
        f"was created: {desk.clean(error)}"
    )


def is_first(part: Part, file: File) -> bool:
    """Return whether a result file is the answer to a part's first request."""
    return file.id == _first_id(part)


def _first_id(part: Part) -> str:
    return f"{part.name}-first"


def _has_first(desk: Desk, part: Part) -> bool:
    return any(is_first(part, file) for file in desk.manifest.files(part.number))


def _first_path(desk: Desk, part: Part) -> Path:
    return (desk.folder / part.path).with_name(f"{_first_id(part)}.jsonl")


def _keep(desk: Desk, part: Part, request: bytes, answer: bytes) -> None:
    """Write an answer down as the results of a batch have it."""
    custom_id, message = jsontext.load(request)["custom_id"], jsontext.load(answer)
    result = {"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}
    path = _first_path(desk, part)
    temporary = path.with_suffix(".part")
    try:
        with temporary.open("wb") as stream:
            stream.write(jsontext.dump(result) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise LedgerError(f"{path}: cannot be written ({error.strerror or error})") from None
    _keep_found(desk, part)


def _keep_found(desk: Desk, part: Part) -> bool:
    """Take an answer that lies on our disk into the manifest; whether there is one."""
    path = _first_path(desk, part)
    if not path.is_file():
        return False
    data = path.read_bytes()
    place = path.relative_to(desk.folder).as_posix()
    digest = hashlib.sha256(data).hexdigest()
    file = File(_first_id(part), "result", place, len(data), digest)
    desk.manifest.put_file(part.number, file)
    return True


def first_answered(desk: Desk, part: Part) -> str | None:
    """Return the custom_id of the request that was made live; None: none was.

    Raises:
        LedgerError: its answer is not there any more.
    """
    for file in desk.manifest.files(part.number):
        if is_first(part, file):
            path = desk.folder / (file.path or _first_path(desk, part).name)
            try:
                return str(jsontext.load(path.read_bytes())["custom_id"])
            except (OSError, ValueError) as error:
                raise LedgerError(
                    f"{path}: cannot be read ({error}); it holds a paid answer: restore it, or "
                    "give the part up with batch cancel --forget"
                ) from None
    return None


def finish(desk: Desk, part: Part, state: str, **changes: Any) -> Part:
    """End a part that has no batch, its rows let go; a first answer is collected before.

    Args:
        desk: the manifest.
        part: which.
        state: the end.
        changes: of the part.
    """
    changes = {"ended": desk.clock.wall(), "due": 0.0, **changes}
    if _has_first(desk, part) and not (part.batch and part.state in {ENDED, FETCHED}):
        return desk.manifest.put(part, state=ENDED, batch="", **changes)
    return desk.manifest.release(part, state=state, **changes)


# -- doubt ---------------------------------------------------------------------------------------


def is_unsure(manifest: Manifest, part: Part) -> bool:
    """Whether the batch of a part was taken for its own by its size alone."""
    return _said(manifest, part).get(part.batch) == UNSURE


def _said(manifest: Manifest, part: Part) -> dict[str, str]:
    """Return what was last said of each batch that was ever taken for a part's."""
    return {batch: outcome for _, _, outcome, batch in manifest.operations(part.number) if batch}


def candidates(
    desk: Desk, part: Part, found: Sequence[RemoteBatch]
) -> tuple[list[RemoteBatch], str]:
    """Return which of the batches of a part's size may be its own, and how sure that is.

    Args:
        desk: manifest and provider.
        part: its creating call had no answer.
        found: what the list has of its size.

    Returns:
        One batch at the most, and what is to be noted of it. `CONTESTED` without one: another part
        has taken the only one there is, and may not keep it.

    Raises:
        ProviderError: a batch that is over could not be looked into.
        RunStoppedError: several run that may be it.
    """
    others = {
        batch: (outcome, other)
        for other in desk.manifest.parts()
        if other.number != part.number
        for batch, outcome in _said(desk.manifest, other).items()
        if outcome != REFUTED
    }
    left, is_contested = [], False
    for batch in found:
        outcome, other = others.get(batch.id, ("", part))
        if outcome not in {"", UNSURE}:
            continue
        if batch.is_over and not batch.results:  # they are gone after weeks
            continue
        belongs = _belongs(desk, part, batch.id) if batch.is_over else None
        if belongs:
            return [batch], CONFIRMED
        if belongs is None:
            if outcome == UNSURE and other.is_live and other.batch == batch.id:
                is_contested = True
            else:
                left.append(batch)
    if len(left) > 1:
        ids = ", ".join(batch.id for batch in left)
        raise RunStoppedError(
            f"part {part.number}: whether its batch was created is not known, and each of {ids}, "
            "of as many requests, may be it: once they are over, their results tell, and the same "
            "command goes on; those that are nobody's can be cancelled at the provider"
        )
    return left, CONTESTED if is_contested and not left else UNSURE


def _belongs(desk: Desk, part: Part, batch: str) -> bool | None:
    """Return whether a batch's results name a row of a part; None: they name none at all."""
    provider = desk.provider
    if not isinstance(provider, TakesNoFiles):
        return None
    found = provider.first_id(batch, desk.key(part))
    return None if found is None else bool(desk.manifest.items(part.number, [found]))


def confirm(desk: Desk, part: Part) -> Part | None:
    """Look whether a batch that is over is the part's; None: it is, as far as can be known.

    A part whose batch it is not is in doubt again, and looked for anew.

    Raises:
        ProviderError: it could not be looked into.
    """
    if desk.provider.uses_files or not part.batch or not is_unsure(desk.manifest, part):
        return None
    belongs = _belongs(desk, part, part.batch)
    if belongs is None:
        return None
    wall, batch = desk.clock.wall(), part.batch
    part, operation = desk.manifest.begin(part, "confirm", wall)
    if belongs:
        desk.manifest.end(part, operation, wall, CONFIRMED, batch)
        return None
    desk.note(f"part {part.number}: batch {batch} is not its own, which is looked for again")
    desk.manifest.put_file(part.number, File(batch, "foreign", deleted=1))
    return desk.manifest.end(
        part,
        operation,
        wall,
        REFUTED,
        batch,
        state=CREATING,
        batch="",
        status="",
        total=None,
        completed=None,
        failed=None,
        looks=0,
        ended=None,
        due=0.0,
    )
