"""Files that hold no rows that can be read here, told by their first bytes, and what to do."""

from __future__ import annotations

from ..encodings import looks_like, wrong_encoding
from ..errors import InputError

#: Bytes that are looked at: a tar archive says so behind its first 257.
HEAD = 512
_WORKBOOK = ("an Excel workbook", "save the sheet as CSV UTF-8")
_ALONE = "name the data alone; a pattern such as *.jsonl* takes in what runs wrote, too"
_ZIP = b"PK\x03\x04"
#: What they begin with, what that is, and what is to be done.
_FOREIGN = (
    (b"BZh", "packed with bzip2", "unpack it first (bunzip2 FILE)"),
    (b"\xfd7zXZ\x00", "packed with xz", "unpack it first (unxz FILE)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it, and give the file in it"),
    (b"\xd0\xcf\x11\xe0", *_WORKBOOK),
    (b"SQLite format 3\x00", "an SQLite database", "write its table as CSV first"),
    (b"%PDF-", "a PDF document", "give a file with rows"),
    (
        b"version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS, and not the file",
        "get it (git lfs pull)",
    ),
    (b'{"run":{"size":', "the call log of a run", _ALONE),
    (b"jsonl-runner index file", "the index file of an output", _ALONE),
    (_ZIP, "a ZIP archive", "unpack it (unzip FILE), and give the file in it"),
)
_TAR = b"ustar"
_WIDE = ("UTF-16", "UTF-16LE", "UTF-16BE")


def check_head(head: bytes, name: str) -> None:
    """Refuse a file that is something else altogether.

    Args:
        head: its first bytes, HEAD of them if there are so many.
        name: what messages call it.

    Raises:
        InputError: it is.
    """
    if head[257:262] == _TAR:
        raise _foreign(name, "a tar archive", "unpack it (tar -xf FILE), and give the file in it")
    if head.startswith(_ZIP) and (b"xl/" in head or name.lower().endswith(".xlsx")):
        raise _foreign(name, *_WORKBOOK)
    for beginning, what, advice in _FOREIGN:
        if head.startswith(beginning):
            raise _foreign(name, what, advice)
    if looks_like(head) in _WIDE:
        raise wrong_encoding(name, head)


def _foreign(name: str, what: str, advice: str) -> InputError:
    return InputError(f"{name}: this is {what}: {advice}")
