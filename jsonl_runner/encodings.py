"""Text that is not UTF-8: what it looks like, and how it is converted."""

from __future__ import annotations

import itertools

from .errors import InputError

#: Bytes that are looked at.
_SAMPLE = 64 * 1024
_BOMS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def looks_like(data: bytes) -> str | None:
    """Return the encoding that bytes look to be in; None: UTF-8.

    A guess: of the encodings that are common in data files, the first that fits.
    """
    sample = data[:_SAMPLE]
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return name
    zeros = (sample[::2].count(0), sample[1::2].count(0))
    if sum(zeros) * 4 > len(sample) and min(zeros) * 8 < max(zeros):
        return "UTF-16LE" if zeros[1] > zeros[0] else "UTF-16BE"
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(sample) - error.start < 4 and len(sample) < len(data):
            return None  # a character that the sample cuts in two
    else:
        return None
    return "GB18030" if _is_chinese(sample) else "Windows-1252"


def _is_chinese(sample: bytes) -> bool:
    """Return whether most of what is not ASCII makes Chinese characters in GB18030."""
    text = sample.decode("gb18030", "replace")
    foreign = [letter for letter in text if letter > "\x7f"]
    chinese = sum("\u4e00" <= letter <= "\u9fff" or "\u3000" <= letter <= "\u303f" or
                  "\uff00" <= letter <= "\uffef" for letter in foreign)  # fmt: skip
    # Western text has single letters above ASCII, and hardly two in a row.
    pairs = sum(a > 0x7F and b > 0x7F for a, b in itertools.pairwise(sample))
    return chinese * 5 > len(foreign) * 4 and pairs * 2 >= sum(byte > 0x7F for byte in sample) - 1


def wrong_encoding(name: str, data: bytes, line: int | None = None) -> InputError:
    """Return the error for text that is not UTF-8.

    Args:
        name: what messages call its file.
        data: the text, or the line that is not.
        line: its number.
    """
    where = name if line is None else f"{name}:{line}"
    return InputError(f"{where}: {not_utf8(looks_like(data) or 'Windows-1252')}")


def not_utf8(encoding: str) -> str:
    """Return what is to be said of text in another encoding."""
    return (
        f"not UTF-8; it looks like {encoding}: convert the file first "
        f"(iconv -f {encoding} -t UTF-8 FILE > NEW)"
    )
