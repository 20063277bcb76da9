r"""Reading the input: a JSONL file streamed into Records, with every bad row named.

A line ends at `\n` and nowhere else (U+2028, U+0085 and a lone `\r` are text); `\r\n` and a
UTF-8 byte order mark are taken as they come. Blank lines are allowed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import orjson

from . import jsontext
from .errors import InputError
from .indexes import IndexSet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Bytes. A longer line is a bad row: no provider takes a request body of this size, and a file
#: that is not JSONL at all (one endless line) must not fill the memory.
MAX_ROW_BYTES = 16 * 1024 * 1024
#: Bytes read at once when what is left of a line that is too long is passed over.
_SKIP_BYTES = 1024 * 1024
#: Characters of a row that are shown in a message.
_SHOWN = 60

#: Levels of lists and objects in a row; orjson writes 254, and nobody means more.
MAX_DEPTH = 200
_LONG_NUMBER = re.compile(rb"[0-9]{19}")

#: The fields with a meaning of ours; all others are kept for merge.
FIELDS = ("index", "instruction", "input", "messages", "params")
_ROLES_HINT = 'a list of {"role": "…", "content": …}'


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
    """

    index: str
    instruction: str = ""
    input: str = ""
    messages: list[dict[str, Any]] | None = None
    params: dict[str, Any] | None = None
    line: int = 0


class BadRow(NamedTuple):
    """A row that cannot be used, and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
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
        model, finish_reason, usage: as the provider gave them.
        latency_s: seconds the last attempt took.
        key: label of the key that served last.
        fingerprint: of the Record's content.
        started, ended: seconds since 1970.
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


def fingerprint(record: Record) -> str:
    """Return 16 hexadecimal digits that change when the Record's content does.

    The content is what the row says (instruction, input, messages, params), not the settings of
    the run: another `--model` does not make every row a changed one.
    """
    content = jsontext.dump(
        [record.instruction, record.input, record.messages, record.params], sort_keys=True
    )
    return blake2b(content, digest_size=8).hexdigest()


def fingerprint_number(text: str) -> int:
    """Return a fingerprint as an `IndexMap` can hold it; a text that is none becomes 0."""
    try:
        return int(text, 16) % (2**64 - 1)
    except ValueError:
        return 0


def parse_row(line: bytes) -> dict[str, Any]:
    """Return a line's JSON object with `index` as its string.

    Raises:
        ValueError: the row cannot be used; the message says why.
    """
    try:
        # orjson would make a float of a whole number above 64 bits, and change it.
        row = json.loads(line) if _LONG_NUMBER.search(line) else orjson.loads(line)
    except ValueError as error:
        shown = line[:_SHOWN].decode("utf-8", "replace")
        raise ValueError(f"not JSON ({error}): {shown}") from None
    if not isinstance(row, dict):
        raise ValueError(f"not a JSON object but {_kind(row)}")
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(row) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    _check_index(row)
    messages, params = row.get("messages"), row.get("params")
    if messages is not None:
        _check_messages(messages)
    _check_texts(row, has_messages=messages is not None)
    if params is not None:
        try:
            check_params(params)
        except ValueError as error:
            raise ValueError(f'"params" {error}') from None
    return row


def _check_texts(row: dict[str, Any], *, has_messages: bool) -> None:
    instruction, text = row.get("instruction"), row.get("input")
    if not isinstance(instruction, str):
        if instruction is not None:
            raise ValueError(f'"instruction" must be a text, not {_kind(instruction)}')
        if not has_messages:
            raise ValueError('it has no "instruction"' + _nearby_fields(row))
    elif not instruction.strip() and not has_messages and not text:
        raise ValueError('"instruction" is empty and there is no "input"')
    if text is not None and not isinstance(text, str):
        raise ValueError(f'"input" must be a text, not {_kind(text)}')


def _depth(value: object) -> int:
    """Return how many levels of lists and objects a value has."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
    return depth


def _check_index(row: dict[str, Any]) -> None:
    index = row.get("index")
    if type(index) is int:  # not isinstance: True is an int to Python
        row["index"] = str(index)
    elif not isinstance(index, str):
        if index is None:
            raise ValueError('it has no "index" (a string or an integer that names the row)')
        raise ValueError(f'"index" must be a string or an integer, not {_kind(index)}')
    elif not index:
        raise ValueError('"index" is empty')


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise ValueError(f'"messages" must be {_ROLES_HINT}, not {_kind(messages)}')
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError(f'"messages"[{number}] has no "role": it must be {_ROLES_HINT}')


def check_params(params: object) -> None:
    """Check request parameters.

    Raises:
        ValueError: they cannot be used; the message goes behind their name.
    """
    if not isinstance(params, dict):
        raise ValueError(f"must be an object, not {_kind(params)}")
    if params.get("stream"):
        raise ValueError("cannot hold stream: the ledger takes whole answers")
    if not isinstance(params.get("model", ""), str):
        raise ValueError(f"cannot hold a model that is {_kind(params['model'])}")
    if params.get("n") not in (None, 1):
        raise ValueError("cannot hold n above 1: it would pay for answers the ledger cannot hold")
    if "messages" in params:
        raise ValueError("cannot hold messages: they have a field of their own in the row")


def _nearby_fields(row: dict[str, Any]) -> str:
    others = [name for name in row if name not in FIELDS]
    if not others:
        return ""
    shown = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
    return f'; its fields are {shown}: rename the one with the prompt to "instruction"'


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), f"the number {value}") if value != [] else "an empty list"


def to_record(row: dict[str, Any], line: int = 0) -> Record:
    """Return the Record of a row that `parse_row` has passed."""
    return Record(
        row["index"],
        row.get("instruction") or "",
        row.get("input") or "",
        row.get("messages"),
        row.get("params") or None,
        line,
    )


class RowReader:
    """Streams the rows of one input; a row that cannot be used comes as a `BadRow`.

    Args:
        stream: opened for reading bytes.
        name: what messages call the file.
        max_row_bytes: longer lines are bad rows.
        check_duplicates: whether a second row with the same index is a bad row; off on a second
            pass over a file that a first one has checked.
    """

    def __init__(
        self,
        stream: IO[bytes],
        name: str,
        *,
        max_row_bytes: int = MAX_ROW_BYTES,
        check_duplicates: bool = True,
    ) -> None:
        self._stream = stream
        self._name = name
        self._max = max_row_bytes
        self._seen = IndexSet() if check_duplicates else None
        #: Number of the line read last, from 1.
        self.line = 0
        #: Byte at which the line read last begins, and the one after its end.
        self.start = self.end = 0

    def start_at(self, offset: int, lines_before: int) -> None:
        """Go to the line that begins at byte `offset`, with `lines_before` lines ahead of it."""
        self._stream.seek(offset)
        self.line, self.start, self.end = lines_before, offset, offset

    def rows(self) -> Iterator[dict[str, Any] | BadRow]:
        """Yield each row as its JSON object, or as a BadRow."""
        for line in self._lines():
            if line is None:
                limit = self._max / (1024 * 1024)
                yield self._bad(f"the line is longer than {limit:g} MiB")
                continue
            content = line.strip(b" \t\r\n")
            if self.line == 1:
                content = content.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t")
            if not content:
                continue
            try:
                row = parse_row(content)
            except ValueError as error:
                yield self._bad(str(error))
                continue
            if self._seen is not None and not self._seen.add(row["index"]):
                yield self._bad(f"index {row['index']!r} stands in an earlier line already")
                continue
            yield row

    def records(self) -> Iterator[Record | BadRow]:
        """Yield each row as a Record, or as a BadRow."""
        for row in self.rows():
            yield row if isinstance(row, BadRow) else to_record(row, self.line)

    def _bad(self, reason: str) -> BadRow:
        return BadRow(self._name, self.line, reason)

    def _lines(self) -> Iterator[bytes | None]:
        """Yield each line; None for one that is too long, which is passed over unread."""
        limit = self._max + 2  # room for the line end
        while line := self._stream.readline(limit):
            self.line += 1
            self.start, self.end = self.end, self.end + len(line)
            if len(line) < limit or line.endswith(b"\n"):
                yield line
                continue
            while rest := self._stream.readline(_SKIP_BYTES):
                self.end += len(rest)
                if rest.endswith(b"\n"):
                    break
            yield None


def open_input(path: Path) -> IO[bytes]:
    """Open an input file for reading.

    Raises:
        InputError: it is missing, a directory, empty or not readable.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: this is a directory; give the JSONL file in it")
        stream = path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    beginning = stream.peek(64)
    if beginning[:1] == b"[" and beginning[1:].lstrip()[:1] in (b"{", b""):
        stream.close()
        raise InputError(
            f"{path}: this is a JSON array, not JSONL; write one object a line (jq -c '.[]' {path})"
        )
    if not beginning:
        stream.close()
        raise InputError(f"{path}: the file is empty; it needs one JSON object a line")
    return stream
