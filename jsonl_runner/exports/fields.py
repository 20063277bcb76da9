"""Which fields of a row are written, in which order, and under which names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Fields:
    """A choice of fields.

    Args:
        texts: a field's name each, or `new=name` for one that shall be called otherwise.
        taken: names that the format has itself.

    Raises:
        ConfigError: a name is empty, or stands for two fields.
    """

    def __init__(self, texts: Iterable[str], taken: Iterable[str] = ()) -> None:
        self._source_of: dict[str, str] = {}
        for text in texts:
            name, is_renamed, source = (part.strip() for part in text.partition("="))
            if not name or (is_renamed and not source):
                raise ConfigError(f"fields: {text!r} is no field; give a name, or new=name")
            if name in self._source_of or name in taken:
                raise ConfigError(f"fields: {name!r} would be written twice; rename one: new=name")
            self._source_of[name] = source or name
        if not self._source_of:
            raise ConfigError("fields: there is none; give at least one name")
        self._unseen = set(self._source_of.values())

    def note(self, row: Mapping[str, Any]) -> None:
        """Take note of which fields a row has."""
        if self._unseen:
            self._unseen.difference_update(row)

    def of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the chosen fields of a row; null for one it does not have."""
        return {name: row.get(source) for name, source in self._source_of.items()}

    @property
    def unseen(self) -> list[str]:
        """The fields that no row had of those noted."""
        return sorted(self._unseen)
