"""A call of files or batches on its way: what was asked, and the kinds of answer it can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from .fault_answers import refuse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .http import Request, Response
    from .settings import SimulatorSettings


class RefusedError(Exception):
    """The call ends with this answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def refused(status: int, message: str, *, param: str | None = None) -> RefusedError:
    """An exception that answers with an error in OpenAI's shape."""
    return RefusedError(refuse(status, message, param=param))


@dataclass(frozen=True, slots=True)
class Asked:
    """A call: its key, the id in its path, its request, the settings in force."""

    key: str
    ident: str
    request: Request
    settings: SimulatorSettings

    @property
    def owner(self) -> str:
        """Whose files and batches it may see."""
        return self.key if self.settings.separate_keys else ""

    def query(self) -> dict[str, str]:
        """What stands behind the question mark."""
        return dict(parse_qsl(self.request.query))

    def json(self) -> dict[str, Any]:
        """The body. Raises RefusedError if it is no JSON object."""
        try:
            body = orjson.loads(self.request.body)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            raise refused(400, "We could not parse the JSON body of your request.")
        return body

    def limit(self, default: int, most: int) -> int:
        """How many items a list may have. Raises RefusedError for what is no such number."""
        text = self.query().get("limit", str(default))
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
            raise refused(400, f"Invalid 'limit': it must be from 1 to {most}.", param="limit")
        return int(text)


@dataclass(frozen=True, slots=True)
class Download:
    """An answer that is a file of `size` bytes."""

    path: Path
    size: int
    content_type: str = "application/octet-stream"


def page(items: Sequence[Mapping[str, Any]], asked: Asked, limit: int) -> dict[str, Any]:
    """A page of a list in OpenAI's shape: the items behind the one named `after`."""
    if asked.settings.endless_lists:
        return {"object": "list", "data": list(items[:limit])}
    after = asked.query().get("after")
    start = 0
    if after:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise refused(400, f"Invalid 'after': there is no {after}.", param="after")
        start = ids.index(after) + 1
    shown = list(items[start : start + limit])
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": start + limit < len(items),
    }
