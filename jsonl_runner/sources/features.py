"""What `datasets` knows of a table's columns: names of classes, pictures, and JSON.

It stands as JSON in the schema of each Arrow and Parquet file that it writes (`huggingface`), and
beside a saved dataset in `dataset_info.json`. A class is a number there, a picture its bytes with
the name of its file, and what is of many types its JSON.
"""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from ..images import media_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: Makes of a cell what it stands for.
Reader: TypeAlias = "Callable[[Any], Any]"

_KEY = b"huggingface"
#: The names of features that are lists, of three generations of `datasets`.
_LISTS = ("Sequence", "List", "LargeList")
#: What is said of bytes that are none of the pictures that providers take.
_UNKNOWN = "application/octet-stream"


def readers_of(metadata: Mapping[bytes, bytes] | None, beside: Path | None) -> dict[str, Reader]:
    """Return what reads the cells of those columns that are not what they stand for.

    Args:
        metadata: of the table's schema.
        beside: the file that tells of the columns where the schema does not; None: there is none.
    """
    info = _object((metadata or {}).get(_KEY)).get("info")
    features = info.get("features") if isinstance(info, dict) else None
    if features is None and beside is not None and beside.is_file():
        features = _object(beside.read_bytes()).get("features")
    return features_readers(features) if isinstance(features, dict) else {}


def _object(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}  # somebody else's, and no reason not to read the table
    return found if isinstance(found, dict) else {}


def features_readers(features: Mapping[str, Any]) -> dict[str, Reader]:
    """Return what reads the cells of a table's columns; see `readers_of`.

    Args:
        features: of each column, as JSON.
    """
    found = {name: _reader(feature) for name, feature in features.items()}
    return {name: reader for name, reader in found.items() if reader is not None}


def _reader(feature: object) -> Reader | None:
    if isinstance(feature, list):  # as lists were written before they had a name
        return _each(_reader(feature[0])) if len(feature) == 1 else None
    if not isinstance(feature, dict):
        return None
    kind = feature.get("_type")
    if kind == "ClassLabel":
        names = feature.get("names")
        return partial(_name, names) if isinstance(names, list) else None
    if kind == "Image":
        return _picture
    if kind == "Json" and feature.get("decode") is not False:
        return _value
    if kind in _LISTS:
        return _list_reader(feature.get("feature"))
    if isinstance(kind, str):
        return None
    inner = features_readers(feature)
    return partial(fields_read, inner) if inner else None


def _list_reader(feature: object) -> Reader | None:
    """A list of objects was kept as an object of lists, and may be."""
    reader = _reader(feature)
    if reader is None or not isinstance(feature, dict) or isinstance(feature.get("_type"), str):
        return _each(reader)
    inner = {
        name: partial(items_read, reader) for name, reader in features_readers(feature).items()
    }
    return lambda cell: (
        fields_read(inner, cell) if isinstance(cell, dict) else items_read(reader, cell)
    )


def _each(reader: Reader | None) -> Reader | None:
    return None if reader is None else partial(items_read, reader)


def _name(names: list[Any], cell: Any) -> Any:
    """Return a class's name; -1, which stands for none, is null; what has no name stays."""
    if type(cell) is not int:
        return cell
    if cell == -1:
        return None
    return names[cell] if 0 <= cell < len(names) else cell


def _value(cell: Any) -> Any:
    """Return what is kept as its JSON, such as messages of which each has other keys."""
    try:
        return json.loads(cell) if isinstance(cell, str) else cell
    except (ValueError, RecursionError):
        return cell


def _picture(cell: Any) -> Any:
    """Return a picture as it can be sent: its bytes, or else the path of its file."""
    if not isinstance(cell, dict):
        return cell
    data = cell.get("bytes")
    if not data:
        return cell.get("path")
    kind = media_type(data[:16]) or _UNKNOWN
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def items_read(reader: Reader, cell: Any) -> Any:
    """Return a list with each of its items read; what is none as it is."""
    return [reader(item) for item in cell] if isinstance(cell, list) else cell


def fields_read(readers: Mapping[str, Reader], cell: Any) -> Any:
    """Return an object with those of its fields read that have a reader; what is none as it is."""
    if not isinstance(cell, dict):
        return cell
    return {name: readers[name](v) if name in readers else v for name, v in cell.items()}
