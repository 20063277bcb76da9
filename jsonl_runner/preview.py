"""The first requests of a run as they would be sent. Nothing is sent, and no file is touched.

`preview` looks at all rows and the ledger, as a run does; `render` at no more rows than it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from . import images
from .calllog import fingerprints
from .choice import Choice, left_rows
from .dataset import dataset_of
from .errors import InputError
from .framing import prompt_count
from .ledger import scan
from .prompts import Composer, messages_of, readable
from .reader import GroupReader, RowReader, open_input
from .records import BadRow
from .secret import without_login
from .survey import bad_row_error, survey
from .turns import TurnCount, askable, check_turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .config import Config
    from .dataset import Data
    from .indexes import IndexSet
    from .prompts import Request
    from .reader import Group
    from .records import Record
    from .survey import BadRowsPolicy

CHAT_PATH = "/chat/completions"
#: Requests that are shown.
SHOWN = 3


class Preview(NamedTuple):
    """What a run would do.

    Attributes:
        rows: how many it would call.
        waiting: turns of conversations that it cannot ask yet: the one before has no answer.
        requests: the first of them: `index`, `url`, `body`, `input_tokens`, `max_output_tokens`;
            images cut short.
    """

    rows: int
    requests: list[dict[str, Any]]
    waiting: int = 0


def preview(  # what a run goes by
    config: Config,
    data: Data,
    output: Path,
    choice: Choice,
    *,
    batched: IndexSet,
    bad_rows: BadRowsPolicy = "fail",
    redo_changed: bool = False,
) -> Preview:
    """Return what a run would send first.

    Args:
        config: the settings; needs no key.
        data: the input.
        output: the ledger; need not be there.
        choice: which of the rows without an output.
        batched: rows that lie in a batch, and are left to it.
        bad_rows: as of the run.
        redo_changed: as of the run.

    Raises:
        InputError: the input cannot be read, or rows in it cannot be used.
        LedgerError: the ledger cannot be read.
    """
    dataset, done = dataset_of(data), scan(output).done
    composer, count = Composer(config.model, config.params), TurnCount(dataset)
    shown: list[dict[str, Any]] = []
    rows = seen = in_batches = 0

    def look(group: Group, left: Sequence[int]) -> None:
        nonlocal in_batches
        in_batches += sum(group.index(which) in batched for which in left)
        if not seen:
            count.see(group)

    for part in askable(dataset, output):
        with open_input(part) as stream:
            if not stream.seekable():
                raise InputError(f"{data}: --dry-run reads a file, not a pipe")
            in_batches = 0
            found = survey(
                stream,
                part,
                done,
                answered=lambda: fingerprints(output),
                redo_changed=redo_changed,
                each=look if len(batched) or dataset.turns is not None else None,
            )
            if not seen:
                found.check(bad_rows, part)
            seen += found.rows
            stream.seek(0)
            left = left_rows(GroupReader(stream, str(data)).groups(), done, found.redo, batched)
            for group, which in choice.among(left, found.todo - in_batches):
                rows += 1
                if rows <= SHOWN:
                    shown.append(_request(group.record(which), composer, config))
    return Preview(rows, shown, max(0, count.rows - seen))


def _request(record: Record, composer: Composer, config: Config) -> dict[str, Any]:
    """Return a request as it is shown: images cut short."""
    request = _shown(record, composer.compose(record), config)
    body = request["body"]
    body["messages"] = images.replaced(body["messages"], images.shortened)
    return request


@dataclass(frozen=True)
class Rendered:
    """A row as it would be asked.

    Attributes:
        index: the row's.
        where: its file and line.
        messages: the conversation, to be read: role and text of each message.
        request: `index`, `method`, `url`, `body`, `input_tokens`, `max_output_tokens`.
    """

    index: str
    where: str
    messages: list[tuple[str, str]]
    request: dict[str, Any]


def render(
    config: Config,
    data: Data,
    *,
    limit: int = SHOWN,
    bad_rows: BadRowsPolicy = "fail",
    bad: list[BadRow] | None = None,
) -> Iterator[Rendered]:
    """Yield the first rows of a dataset as they would be asked.

    Args:
        config: the settings; needs no key.
        data: the input.
        limit: rows to show.
        bad_rows: what to do about rows that cannot be used: raise, or leave them out.
        bad: gets those that are left out.

    Raises:
        InputError: the input cannot be read; BadRowsError: or a row cannot be used.
    """
    composer = Composer(config.model, config.params)
    dataset = dataset_of(data)
    check_turns(dataset)
    with dataset.open() as stream:
        reader, begun = RowReader(stream, str(dataset)), False
        records = reader.records()
        while limit > 0 and (record := next(records, None)) is not None:
            if not isinstance(record, BadRow):
                limit -= 1
                begun = True
                yield _rendered(record, reader.where(), composer, config)
            elif bad_rows == "fail":
                raise bad_row_error(record, None if begun else dataset)
            elif bad is not None:
                bad.append(record)


def _rendered(record: Record, where: str, composer: Composer, config: Config) -> Rendered:
    messages = [(str(message["role"]), readable(message)) for message in messages_of(record)]
    request = _shown(record, composer.compose(record), config)
    return Rendered(record.index, where, messages, request)


def _shown(record: Record, request: Request, config: Config) -> dict[str, Any]:
    body = orjson.loads(request.body)
    return {
        "index": record.index,
        "method": "POST",
        "url": without_login(config.api_base) + CHAT_PATH,
        "body": body,
        "input_tokens": prompt_count(body["messages"], request.model, body).tokens,
        "max_output_tokens": body.get("max_completion_tokens") or body.get("max_tokens"),
    }
