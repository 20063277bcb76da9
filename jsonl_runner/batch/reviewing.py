"""Answers of batches looked at as live ones are: the JSON they should be, then the user's function.

What was asked stands in the part's own file of requests. Nothing is asked again here: an answer
that will not do is a null with its reason, which `run` or the next batch does anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import jsontext
from ..lines import LineReader, read_lines
from ..post import load_post
from ..recall import Recall
from ..recipes import asked_of
from ..records import Record
from ..review import Review, Reviewed
from ..secret import Redactor

if TYPE_CHECKING:
    from pathlib import Path

    from ..attempts import Answer
    from ..clock import Clock
    from ..config import Config
    from ..indexes import IndexSet
    from .parts import Item

_SHAPE = b'"response_format"'


class Reviews:
    """What becomes of the answers of a ledger's batches.

    Args:
        config: the settings; their `response_format` holds for the requests of a part that was
            planned without one.

    Raises:
        ConfigError: there is no such function as `post` names.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._post = load_post(config.post)
        self._review = Review(self._post, Redactor(config.api_keys))
        self._shape = config.params.get("response_format")

    def recall(self, ledger: Path, nulls: IndexSet, clock: Clock) -> Recall:
        """Return what looks again at answers in a ledger's call log."""
        return Recall(self._config, ledger, nulls, clock)

    def asked(self, planned: object = None) -> object:
        """Return the `response_format` that outputs are to have; None: any text will do.

        Args:
            planned: that of their part's requests; None: it has none.
        """
        return asked_of(self._config, planned)

    def of_part(self, path: Path, planned: object) -> PartReview | None:
        """Return what reviews the answers of a part; None: they are taken as they come.

        Args:
            path: of the part's requests.
            planned: the `response_format` that they were planned with, which Anthropic's requests
                cannot have.

        Raises:
            LedgerError: the file cannot be read.
        """
        shape = self._shape if planned is None else planned
        is_always = shape is not None or self._post is not None
        places = {
            jsontext.load(line)["custom_id"]: start
            for start, line in read_lines(path)
            if is_always or _SHAPE in line
        }
        if not places and not is_always:
            return None
        return PartReview(self._review, shape, path, places)


class PartReview:
    """Reviews the answers of a part.

    Args:
        review: says what becomes of an answer.
        shape: the `response_format` of requests that have none.
        path: of the part's requests.
        places: where those begin that matter, by their custom_ids.
    """

    def __init__(self, review: Review, shape: object, path: Path, places: dict[str, int]) -> None:
        self._review = review
        self._shape = shape
        self._places = places
        self._lines = LineReader(path) if places else None

    def __call__(self, item: Item, answer: Answer) -> Reviewed:
        """Return what comes of an answer.

        Args:
            item: whose it is.
            answer: with a text.
        """
        place = self._places.get(item.custom_id)
        body: dict[str, Any] = {}
        if place is not None and self._lines is not None:
            line = jsontext.load(self._lines.line_at(place))
            body = line.get("body") or line.get("params") or {}
        shape = body.get("response_format", self._shape)
        return self._review(_record_of(item.row, body), shape, answer)

    def close(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.close()


def _record_of(index: str, body: dict[str, Any]) -> Record:
    """Return the Record a request was made of, as far as the request tells.

    A row that had `instruction` and `input` has them again; one that had `messages` of the same
    form cannot be told from it.
    """
    messages = body.get("messages") or []
    system = body.get("system")  # Anthropic's has a field of its own
    if isinstance(system, str):
        messages = [{"role": "system", "content": system}, *messages]
    texts = [message.get("content") for message in messages]
    roles = [message.get("role") for message in messages]
    if roles == ["user"] and isinstance(texts[0], str):
        return Record(index, texts[0])
    if roles == ["system", "user"] and all(isinstance(text, str) for text in texts):
        return Record(index, texts[0], texts[1])
    return Record(index, messages=messages)
