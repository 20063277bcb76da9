"""From Records to the files of requests that providers of batches take, in parts that fit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson

from .. import jsontext
from ..indexes import IndexSet
from ..records import BadRow
from .anthropicform import params_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..prompts import Composer, Request
    from ..records import Record
    from ..sources.stream import BadRowOf
    from .profiles import Profile

#: Characters of a `custom_id`: Anthropic's limit, and the smallest that is known.
MAX_ID = 64
_LITERAL = re.compile(r"[A-Za-z0-9_-]+")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{0,24}")
#: What an index becomes that cannot stand for itself.
_HASHED = re.compile(r"h-[0-9a-f]{32}")
#: Of a file's limit in bytes, what is left free: providers do not say how they count.
_MARGIN = 0.01
#: What a token is at least, in bytes of JSON; see `prompts`.
_BYTES_PER_TOKEN = 4


def custom_id_of(index: str, prefix: str = "") -> str:
    """Return what names an index in a file of requests: at most 64 of `A-Z a-z 0-9 _ -`.

    The index itself where it fits behind the prefix, else `h-` and 128 bits of its BLAKE2b digest;
    an index that looks like such a digest is hashed too, so that none stands for another. Which
    index a digest is for only who asked knows: keep it.

    Args:
        index: a Record's.
        prefix: put before it; at most 24 of the same characters.

    Raises:
        ValueError: the prefix cannot be used.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix!r} cannot stand before a custom_id")
    if (
        len(prefix) + len(index) <= MAX_ID
        and _LITERAL.fullmatch(index)
        and not _HASHED.fullmatch(index)
    ):
        return prefix + index
    digest = blake2b(index.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{prefix}h-{digest}"


def index_in(custom_id: str, prefix: str = "") -> str | None:
    """Return the index a `custom_id` stands for; None where it is a digest, or not one of ours.

    Args:
        custom_id: made by `custom_id_of` with the same prefix.
        prefix: what stands before the index.
    """
    rest = custom_id.removeprefix(prefix)
    if not custom_id.startswith(prefix) or not rest or _HASHED.fullmatch(rest):
        return None
    return rest


@dataclass(frozen=True, slots=True)
class Line:
    r"""One request, ready to be written.

    Attributes:
        index: the Record's.
        custom_id: what names it in the file, and in the results.
        data: the line, `\n` included.
        model: whom it asks.
        tokens: its prompt's, estimated.
        row: number of the line it was made from; 0 when it came from no file.
    """

    index: str
    custom_id: str
    data: bytes
    model: str
    tokens: int
    row: int = 0


def prompt_tokens(request: Request) -> int:
    """Return how many tokens a prompt has, estimated from its bytes, rather too many than too few.

    Providers count a batch's prompts against the tokens that may be waiting.
    """
    return -(-request.weight // _BYTES_PER_TOKEN)


class RequestMaker:
    """Makes requests of Records, and refuses what a provider would.

    Args:
        profile: the provider's.
        composer: knows the model and the parameters of the run.
        prefix: put before each `custom_id`.
        url: what the requests are for; None: the provider's first endpoint.
        sampling: whether Anthropic is sent temperature, top_p and top_k, which its API of today
            refuses whatever their value is (anthropic-version 2026-10-21).
        estimate: the tokens of a prompt.
    """

    def __init__(
        self,
        profile: Profile,
        composer: Composer,
        *,
        prefix: str = "",
        url: str | None = None,
        sampling: bool = False,
        estimate: Callable[[Request], int] = prompt_tokens,
    ) -> None:
        self._profile = profile
        self._composer = composer
        self._prefix = prefix
        self._sampling = sampling
        self._estimate = estimate
        self._ids = IndexSet()
        self._limit = min(profile.max_line_bytes, usable_bytes(profile))
        shown = orjson.dumps(url or profile.endpoints[0])
        self._middle = b'","method":"POST","url":' + shown + b',"body":'
        #: What was put right or left out, for the user; each once.
        self.notes: list[str] = []

    def lines(self, rows: Iterable[Record | BadRow], bad_row: BadRowOf) -> Iterator[Line | BadRow]:
        """Yield each row as its request; as a BadRow what cannot be one. Nothing is read ahead.

        Args:
            rows: of an input.
            bad_row: makes a BadRow of a line of it, and the reason.
        """
        for row in rows:
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                yield self.line(row)
            except ValueError as error:
                yield bad_row(row.line, str(error))

    def line(self, record: Record) -> Line:
        """Return the request for a Record.

        Raises:
            ValueError: the provider would refuse it; the message says why.
        """
        request = self._composer.compose(record)
        custom_id = custom_id_of(record.index, self._prefix)
        if self._profile.dialect == "anthropic":
            params, notes = params_of(jsontext.load(request.body), sampling=self._sampling)
            self._note(notes)
            data = b'{"custom_id":"%b","params":%b}\n' % (
                custom_id.encode(),
                jsontext.dump(params),
            )
        else:
            data = b'{"custom_id":"%b%b%b}\n' % (custom_id.encode(), self._middle, request.body)
        if len(data) > self._limit:
            raise ValueError(
                f"its request has {len(data):,} bytes; {self._profile.name} takes {self._limit:,} "
                "at most: shorten or split the text"
            )
        if not self._ids.add(custom_id):
            raise ValueError(
                f"index {record.index!r} would have the custom_id {custom_id!r} of an earlier row; "
                "rename it"
            )
        return Line(
            record.index, custom_id, data, request.model, self._estimate(request), record.line
        )

    def _note(self, notes: Iterable[str]) -> None:
        for text in notes:
            if text not in self.notes:
                self.notes.append(text)


def usable_bytes(profile: Profile) -> int:
    """Return how many bytes a file may have, with a margin."""
    return int(profile.max_bytes * (1 - _MARGIN))


@dataclass(slots=True)
class Part:
    """One file of requests as it grows.

    Attributes:
        number: from 1, in the order in which parts are begun.
        model: whom all its requests ask; None where they may be mixed.
        requests, size, tokens: how many there are, their bytes, their prompts' estimated tokens.
        is_full: whether no more go in.
    """

    number: int
    model: str | None
    requests: int = 0
    size: int = 0
    tokens: int = 0
    is_full: bool = False


class Splitter:
    """Says into which part each request goes. The same requests in the same order split the same.

    One part a model is open at a time; it is full when the next request would break a limit.

    Args:
        profile: the provider's, for its limits.
        max_requests: fewer than the provider's; None: as many.
        max_bytes: the same; None: the provider's, with a margin.
        max_tokens: of the prompts of a part (a provider's limit on enqueued tokens); None: any.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        max_requests: int | None = None,
        max_bytes: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self._one_model = profile.one_model
        limit = usable_bytes(profile)
        self._max_requests = min(max_requests or profile.max_requests, profile.max_requests)
        self._max_bytes = min(max_bytes or limit, limit)
        self._max_tokens = max_tokens
        self._open: dict[str | None, Part] = {}
        #: All parts so far.
        self.parts: list[Part] = []

    def place(self, line: Line) -> Part:
        """Return the part a request goes into, counted in.

        Raises:
            ValueError: it is larger than a whole part may be.
        """
        size = len(line.data)
        if size > self._max_bytes:
            raise ValueError(f"its request has {size:,} bytes, a part {self._max_bytes:,} at most")
        if self._max_tokens is not None and line.tokens > self._max_tokens:
            raise ValueError(
                f"its prompt has some {line.tokens:,} tokens, a part {self._max_tokens:,} at most"
            )
        model = line.model if self._one_model else None
        part = self._open.get(model)
        if part is None or not self._fits(part, line):
            if part is not None:
                part.is_full = True
            part = Part(len(self.parts) + 1, model)
            self.parts.append(part)
            self._open[model] = part
        part.requests += 1
        part.size += size
        part.tokens += line.tokens
        return part

    def _fits(self, part: Part, line: Line) -> bool:
        return (
            part.requests < self._max_requests
            and part.size + len(line.data) <= self._max_bytes
            and (self._max_tokens is None or part.tokens + line.tokens <= self._max_tokens)
        )
