"""The first requests of a run as they would be sent. Nothing is sent, and no file is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .calllog import fingerprints
from .choice import Choice, left_rows
from .errors import InputError
from .framing import prompt_count
from .ledger import scan
from .prompts import Composer
from .reader import GroupReader, open_input
from .secret import without_login
from .survey import survey

if TYPE_CHECKING:
    from pathlib import Path

    from .config import Config
    from .indexes import IndexSet
    from .prompts import Request
    from .records import Record
    from .survey import BadRowsPolicy

CHAT_PATH = "/chat/completions"
#: Requests that are shown.
SHOWN = 3


class Preview(NamedTuple):
    """What a run would do.

    Attributes:
        rows: how many it would call.
        requests: the first of them: `index`, `url`, `body`, `input_tokens`, `max_output_tokens`.
    """

    rows: int
    requests: list[dict[str, Any]]


def preview(  # what a run goes by
    config: Config,
    data: Path,
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
    done = scan(output).done
    composer = Composer(config.model, config.params)
    with open_input(data) as stream:
        if not stream.seekable():
            raise InputError(f"{data}: --dry-run reads a file, not a pipe")
        in_batches = 0

        def count_batched(index: str) -> None:
            nonlocal in_batches
            in_batches += index in batched

        found = survey(
            stream,
            data,
            done,
            answered=lambda: fingerprints(output),
            redo_changed=redo_changed,
            each_left=count_batched if len(batched) else None,
        )
        found.check(bad_rows)
        stream.seek(0)
        left = left_rows(GroupReader(stream, str(data)).groups(), done, found.redo, batched)
        rows, requests = 0, []
        for group, which in choice.among(left, found.todo - in_batches):
            rows += 1
            if rows <= SHOWN:
                record = group.record(which)
                requests.append(_shown(record, composer.compose(record), config))
    return Preview(rows, requests)


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
