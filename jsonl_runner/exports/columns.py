"""The columns of a table that rows of any fields are to be: found in a first pass over them.

A column's kind is the narrowest that holds all its values. Values that do not go together (texts
and numbers, a list and a text) make a column of JSON texts, every one of them, so that none is read
back as another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import jsontext

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Whole numbers up to this are exact as floating point numbers too.
_EXACT = 2**53
_INT64 = range(-(2**63), 2**63)
#: An object with more different names is a table of its own, and kept as JSON; so is what is
#: nested deeper than this.
_MAX_NAMES, _MAX_DEPTH = 64, 8
#: By Python's type of a value.
_PLAIN = {type(None): "null", str: "text", bool: "bool", float: "float"}


@dataclass(frozen=True)
class ListOf:
    """A list of values of one kind."""

    items: Kind


@dataclass(frozen=True)
class Struct:
    """An object of named values."""

    names: Mapping[str, Kind]


#: `null`, `bool`, `int` (exact as a float), `long`, `float`, `text`, `json`, or what holds others.
Kind: TypeAlias = str | ListOf | Struct


class Columns:
    """The columns of the rows seen so far.

    Args:
        with_kinds: whether their kinds are wanted, which takes a look at every value.
    """

    def __init__(self, *, with_kinds: bool = False) -> None:
        self._with_kinds = with_kinds
        self.kinds: dict[str, Kind] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in the order in which they were met."""
        return tuple(self.kinds)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take note of a row."""
        kinds = self.kinds
        for name, value in row.items():
            kind = kinds.get(name, "null")
            if self._with_kinds and not (kind == "text" and type(value) is str):
                kind = common(kind, kind_of(value))
            kinds[name] = kind


def kind_of(value: object, depth: int = 0) -> Kind:
    """Return the kind of one value of JSON."""
    if type(value) in _PLAIN:
        return _PLAIN[type(value)]
    if isinstance(value, int):
        if value not in _INT64:
            return "json"
        return "int" if abs(value) <= _EXACT else "long"
    if depth >= _MAX_DEPTH:
        return "json"
    if isinstance(value, list):
        items: Kind = "null"
        for item in value:
            items = common(items, kind_of(item, depth + 1))
        return ListOf(items)
    if isinstance(value, dict) and 0 < len(value) <= _MAX_NAMES:
        return Struct({name: kind_of(item, depth + 1) for name, item in value.items()})
    return "json"  # an empty object, which Parquet has no place for


def common(one: Kind, other: Kind) -> Kind:
    """Return the narrowest kind that holds the values of both."""
    if other in ("null", one):
        return one
    if one == "null":
        return other
    if isinstance(one, ListOf) and isinstance(other, ListOf):
        return ListOf(common(one.items, other.items))
    if isinstance(one, Struct) and isinstance(other, Struct):
        names = {**one.names, **other.names}
        if len(names) > _MAX_NAMES:
            return "json"
        return Struct(
            {
                name: common(one.names.get(name, "null"), other.names.get(name, "null"))
                for name in names
            }
        )
    if one in ("int", "long") and other in ("int", "long"):
        return "long"
    return "float" if one in ("int", "float") and other in ("int", "float") else "json"


def fitted(value: Any, kind: Kind) -> Any:
    """Return a value as its column's kind takes it; None stays None."""
    if value is None:
        return None
    if kind == "json":
        return jsontext.dump(value).decode()
    if isinstance(kind, ListOf):
        return [fitted(item, kind.items) for item in value]
    if isinstance(kind, Struct):
        return {jsontext.mended(n): fitted(value.get(n), of) for n, of in kind.names.items()}
    return jsontext.mended(value) if kind == "text" else value
