"""Folders with a dataset in them: what `datasets` saves, and folders of files of one kind."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .finding import kind_by_name, sorted_by_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What a file's name has behind that of its split or set: `train-00000-of-00002.parquet`.
_NUMBER = re.compile(r"[-_.]?\d+([-_.]of[-_.]\d+)?(\.[A-Za-z0-9.]+)$")
#: What is named of many.
_NAMED = 8


def saved_files(folder: Path) -> list[Path] | None:
    """Return the Arrow files of a dataset saved by `save_to_disk`, in order; None: it is none.

    Raises:
        InputError: it has several splits, or its files are not there.
    """
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        names = _json(splits).get("splits")
        found = [str(name) for name in names] if isinstance(names, list) else []
        shown = ", ".join(found[:_NAMED]) or "none"
        example = folder / (found[0] if found else "train")
        raise InputError(f"{folder}: this dataset has splits ({shown}): name one, as {example}")
    state = folder / "state.json"
    if not state.is_file() or not (folder / "dataset_info.json").is_file():
        return None
    files = _json(state).get("_data_files")
    if not isinstance(files, list) or not files:
        raise InputError(f"{state}: it names no data files; save the dataset again")
    paths = [folder / str(file.get("filename")) for file in files if isinstance(file, dict)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: this file of the dataset is missing; save it again")
    return paths


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: this is no JSON object; save the dataset again")
    return found


def files_in(folder: Path) -> list[Path]:
    """Return the data files of a folder, and of those in it, if they belong together.

    They do when they differ in the number at the end of their names alone, as shards do.

    Raises:
        InputError: there is none, or there are several sets of them.
    """
    sets: dict[str, list[Path]] = {}
    for path in _data_files(folder):
        pattern = str(path.with_name(_NUMBER.sub(r"*\2", path.name)))
        sets.setdefault(pattern, []).append(path)
    if not sets:
        raise InputError(f"{folder}: this is a directory; give the JSONL file in it")
    if len(sets) > 1:
        shown = ", ".join(repr(pattern) for pattern in sorted(sets)[:_NAMED])
        more = ", …" if len(sets) > _NAMED else ""
        raise InputError(
            f"{folder}: this is a directory with several sets of rows: name one of {shown}{more}"
        )
    return sorted_by_name(*sets.values())


def _data_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        kind = kind_by_name(path)
        # Beside the data of a dataset lie JSON files that describe it.
        if kind is not None and not (kind == "json" and path.name.startswith("dataset_")):
            yield path
