"""Records and what comes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from . import images, jsontext


@dataclass(slots=True)
class Record:
    """One input row.

    Attributes:
        index: the row's identity, always a string.
        instruction: what to do; may be empty when `messages` is given.
        input: what to do it with; empty when the row has none.
        messages: the whole conversation in OpenAI's chat form, instead of the two above.
        params: request parameters of this row alone.
        line: its line number in the file, from 1 (0 when it came from no file).
        images: URLs of images that go with the last user message; files as `file:` URLs.
        sample: which of several answers to the same question, from 0.
        row: all of the row, for `post`, with the fields that are no part of the question; None:
            not known, since it came from no file, or out of a batch.
    """

    index: str
    instruction: str = ""
    input: str = ""
    messages: list[dict[str, Any]] | None = None
    params: dict[str, Any] | None = None
    line: int = 0
    images: list[str] | None = None
    sample: int = 0
    row: dict[str, Any] | None = field(default=None, compare=False, repr=False)


class BadRow(NamedTuple):
    """A row that cannot be used, and why.

    Attributes:
        file: what messages call its file.
        line: its line there, from 1; where the file has none, its number among the rows.
        reason: why.
        unit: what is counted where that is not lines: `row`, `item`.
    """

    file: str
    line: int
    reason: str
    unit: str = ""

    def __str__(self) -> str:
        if self.unit:
            return f"{self.file}: {self.unit} {self.line}: {self.reason}"
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(slots=True)
class Outcome:
    """What came of a Record.

    Attributes:
        index: the Record's.
        output: the model's text, None when the row failed.
        code: `ok`, or one short word for the reason of the failure.
        message: one line on the failure, or on what is odd about an output; never holds a key.
        attempts: calls made for this row.
        model, finish_reason: as the provider gave them with the last answer.
        usage: as the provider gave it; the sum where several answers were paid for.
        latency_s: seconds the last attempt took.
        key: label of the key that served last.
        fingerprint: of the Record's content.
        started, ended: seconds since 1970.
        cost: what the provider says the calls cost; None when it says nothing.
        cached: whether the output was known before and took no call; then `usage` is None.
        batch: id of the provider's batch that it came in; empty for a call.
        cost_from: how `cost` is known where the provider does not say it: `prices`, `estimate`.
        raw: the model's last answer as it came, where it is not the output: it was not the JSON
            that was asked for, or `post` made something else of it, or nothing.
    """

    index: str
    output: str | None
    code: str = "ok"
    message: str = ""
    attempts: int = 0
    model: str | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    latency_s: float = 0.0
    key: str = ""
    fingerprint: str = ""
    started: float = 0.0
    ended: float = 0.0
    cost: float | None = None
    cached: bool = False
    batch: str = ""
    cost_from: str = ""
    raw: str | None = None


def fingerprint(record: Record) -> str:
    """Return 16 hexadecimal digits that change when the Record's content does.

    The content is what the row says (instruction, input, messages, params), not the settings of
    the run: another `--model` does not make every row a changed one. Of an image in a file, it is
    what is in the file.
    """
    messages = record.messages
    if messages is not None:
        messages = images.replaced(messages, images.digest)
    content: list[Any] = [record.instruction, record.input, messages, record.params]
    if record.images:
        content.append([images.digest(source) for source in record.images])
    return blake2b(jsontext.dump(content, sort_keys=True), digest_size=8).hexdigest()


def has_lost_images(record: Record) -> bool:
    """Return whether the file of an image is not there."""
    return any(map(images.is_lost, record.images or images.of_messages(record.messages or ())))


def fingerprint_number(text: str) -> int:
    """Return a fingerprint as an `IndexMap` can hold it; a text that is none becomes 0."""
    try:
        return int(text, 16) % (2**64 - 1)
    except ValueError:
        return 0


def images_of(row: dict[str, Any]) -> list[str]:
    """Return the images of a row that `parse_row` has passed, as it names them.

    They are those in its messages; where there are none, those of its fields.
    """
    return images.of_messages(row.get("messages") or ()) or images.of_row(row)


def to_record(row: dict[str, Any], line: int = 0, folder: Path | None = None) -> Record:
    """Return the Record of a row that `parse_row` or `plain_rows` has passed.

    Args:
        row: the row.
        line: its line number in its file.
        folder: what the paths of its images are relative to; None: the working directory.

    Raises:
        ValueError: an image of it is named by what is no URL that can be sent.
    """
    record = Record(
        str(row["index"]),
        row.get("instruction") or "",
        row.get("input") or "",
        row.get("messages"),
        row.get("params") or None,
        line,
        row=row,
    )
    if images_of(row):
        located = with_located_images(row, Path() if folder is None else folder)
        record.messages = located.get("messages")
        if not images.of_messages(record.messages or ()):
            record.images = images.of_row(located)
    sample = row.get("sample")
    if type(sample) is int and f"#{sample}" in record.index:  # else the field is the user's
        record.sample = sample
    return record


def without_row(record: Record) -> Record:
    """Return a Record whose row nobody will ask for: it need not be sent to workers elsewhere."""
    record.row = None
    return record


def with_located_images(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a row whose images are URLs, files too; the row given stays as it is.

    Raises:
        ValueError: an image is named by what is no URL that can be sent.
    """

    def located(source: str) -> str:
        return images.located(source, folder)

    found = dict(row)
    if found.get("messages"):
        found["messages"] = images.replaced(found["messages"], located)
    if found.get("image"):
        found["image"] = located(found["image"])
    if found.get("images"):
        found["images"] = list(map(located, found["images"]))
    return found
