"""Reads a `multipart/form-data` body that lies on disk: small fields, and where its file is."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass, field
from typing import IO

_NAME = re.compile(r'[; ]name="([^"]*)"')
_FILENAME = re.compile(r'filename="((?:[^"\\]|\\.)*)"')
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')


@dataclass(slots=True)
class Form:
    """The fields of a form; of its file, the name and the first and last byte in the body."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    start: int = 0
    end: int = 0


def read_form(content_type: str, body: IO[bytes]) -> Form | None:
    """Read a form; None if it is none. A file's bytes are looked through, but never copied."""
    found = _BOUNDARY.search(content_type)
    if found is None or body.seek(0, 2) == 0:
        return None
    with mmap.mmap(body.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _parts(data, b"--" + found[1].encode("latin-1"))


def _parts(data: mmap.mmap, mark: bytes) -> Form | None:
    form = Form()
    at = data.find(mark)
    while at >= 0:
        at += len(mark)
        if data[at : at + 2] == b"--":
            return form
        head_end = data.find(b"\r\n\r\n", at)
        end = data.find(b"\r\n" + mark, head_end)
        if head_end < 0 or end < 0:
            return None
        start = head_end + 4
        # An empty part: its line break is the one of its head.
        end = max(end, start)
        head = data[at:head_end].decode("utf-8", "replace")
        name, filename = _NAME.search(head), _FILENAME.search(head)
        if filename is not None:
            form.filename, form.start, form.end = filename[1], start, end
        elif name is not None:
            form.fields[name[1]] = data[start:end].decode("utf-8", "replace")
        at = data.find(mark, end)
    return None
