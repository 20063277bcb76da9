"""Which files are meant: paths, patterns and folders, and what is in them by their names."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from ..errors import InputError
from ..remote import matching, url_of
from .chunks import PACKED

#: What is in a file by the end of its name.
KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_DIGITS = re.compile(r"(\d+)")


def kind_by_name(path: Path) -> str | None:
    """Return what is in a file by its name, without `.gz` and `.zst`; None: it does not say."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def is_pattern(given: str) -> bool:
    """Return whether a text stands for all files it fits, and not for one of that name."""
    if url_of(given) is not None:
        return "*" in given  # behind a question mark stands a query
    return glob.has_magic(given) and not Path(given).exists()


def paths_of(given: str) -> list[Path]:
    """Return the files that a path or a pattern stands for; numbers in names count as numbers.

    Raises:
        InputError: no file fits the pattern.
    """
    if not is_pattern(given):
        return [Path(given)]
    fitting = _fitting(given) if url_of(given) is None else matching(given)
    found = [path for path in map(Path, fitting) if not path.is_dir()]
    if not found:
        raise InputError(f"{given}: no file fits this pattern; check it")
    return sorted_by_name(found)


def sorted_by_name(paths: list[Path]) -> list[Path]:
    """Return paths in the order of their names, numbers in them counted as numbers."""
    return sorted(paths, key=_natural)


def _fitting(pattern: str) -> list[str]:
    # pathlib's takes no absolute pattern, and asks where to begin.
    return glob.glob(pattern, recursive=True)  # noqa: PTH207


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return by what a path is sorted: shard-2 comes before shard-10."""
    pieces = _DIGITS.split(str(path))
    return [(int(piece), piece) if k % 2 else (0, piece) for k, piece in enumerate(pieces)]
