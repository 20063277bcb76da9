"""Files that are given, made into the parts of a dataset: each by what it is."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..errors import InputError
from ..remote import shown, url_of
from .chunks import PACKED, packing_of
from .finding import is_pattern, kind_by_name, paths_of
from .folders import files_in, saved_files
from .foreign import HEAD, check_head
from .tables import MAGIC, TABLES, TablePart
from .textfile import TextPart, is_json_lines, opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .parts import Part

_STDIN = "standard input"


def is_pipe(path: Path) -> bool:
    """Return whether a path leads to what can be read once only."""
    return path.exists() and not path.is_dir() and not path.is_file()


def from_stdin(stream: IO[bytes], kind: str | None) -> Part:
    """Return the rows that come through standard input.

    Raises:
        InputError: they cannot, since they are in a table.
    """
    if kind in TABLES:
        raise InputError(f"{_STDIN}: {kind} cannot be read from a pipe; give the file")
    return TextPart(stream, kind or "jsonl", _STDIN)


def parts_of(given: Sequence[str], kind: str | None) -> list[Part]:
    """Return the files that paths, patterns and folders stand for, in order.

    Args:
        given: see `Dataset`.
        kind: what is in all of them; None: by their names.

    Raises:
        InputError: one is missing, not readable, or given twice, or a package to read it is.
    """
    parts: list[Part] = []
    seen: set[Path] = set()
    for path in (path for one in given for path in paths_of(one)):
        if path.resolve() in seen:
            raise InputError(f"{path}: this file is given twice")
        seen.add(path.resolve())
        parts += _parts_of(path, kind)
    return parts


def _parts_of(path: Path, kind: str | None) -> Iterator[Part]:
    if not path.is_dir():
        yield _part(path, kind)
    elif saved := saved_files(path):
        yield TablePart(saved, "arrow", str(path))
    else:
        for file in files_in(path):
            yield _part(file, kind)


def _part(path: Path, kind: str | None) -> Part:
    name = shown(path)
    found = kind or kind_by_name(path) or "jsonl"
    if not is_pipe(path):  # what is read of a pipe is gone
        with opened(path, name) as stream:
            head = stream.peek(HEAD)[:HEAD]
            check_head(head, name)
            if kind is None:  # as in a cache, where names say nothing
                found = _table_of(head) or found
    return TablePart([path], found, name) if found in TABLES else TextPart(path, found, name)


def _table_of(head: bytes) -> str | None:
    """Return which kind of table begins so; None: it is none."""
    return next((kind for kind, magic in MAGIC.items() if head.startswith(magic)), None)


def has_file_names(given: Sequence[str]) -> bool:
    """Return whether there may be several files, so that a line alone is no index.

    It hangs on what is given, not on how many files a pattern fits today.
    """
    return len(given) > 1 or is_pattern(given[0]) or _is_folder_of_text(Path(given[0]))


def _is_folder_of_text(path: Path) -> bool:
    return path.is_dir() and saved_files(path) is None


def check_names(parts: Sequence[Part]) -> None:
    """Check that files can give their rows their names.

    Raises:
        InputError: two have the same.
    """
    seen: dict[str, str] = {}
    for part in parts:
        if part.file in seen:
            raise InputError(
                f"{part.name}: its rows would be called as those of {seen[part.file]}, by the "
                "file's name and the line; take --auto-index content, or --index-field NAME"
            )
        seen[part.file] = part.name


def plain_file(path: Path) -> IO[bytes] | None:
    """Return a file that is JSONL, opened; None: it is something else.

    Raises:
        InputError: it is missing, empty, not readable, or a JSON array by another name.
    """
    kind = None if path.is_dir() else kind_by_name(path) or "jsonl"
    if kind == "json" and path.is_file() and is_json_lines(path, shown(path)):
        kind = "jsonl"
    if kind != "jsonl" or path.suffix.lower() in PACKED:
        return None
    stream = opened(path, shown(path))
    if not stream.seekable() and url_of(path) is not None:
        stream.close()
        return None  # opened anew where a pipe would be at its end
    beginning = stream.peek(HEAD)[:HEAD]
    if packing_of(beginning[:4]) or _table_of(beginning):
        stream.close()
        return None
    try:
        check_head(beginning, shown(path))
    except InputError:
        stream.close()
        raise
    if beginning[:1] == b"[" and beginning[1:].lstrip()[:1] in (b"{", b""):
        stream.close()
        raise InputError(
            f"{path}: this is a JSON array, not JSONL; say so (--input-format json), or write one "
            f"object a line (jq -c '.[]' {path})"
        )
    if not beginning:
        stream.close()
        raise InputError(f"{path}: the file is empty; it needs one JSON object a line")
    return stream
