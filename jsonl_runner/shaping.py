"""A dataset's own rows into rows as a run asks them: fields renamed, a template, a system message.

Nothing of a row is lost: what is not used stays for merge, and what is replaced stays there too, as
`source_…`.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .templates import Template, no_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: The fields that may be filled from others.
TARGETS = ("index", "instruction", "input", "messages", "params", "turns", "image", "images")
#: The fields that say what is asked; a template writes one of them and stands for all.
_ASKED = ("instruction", "input", "messages")
_OTHERS = {asked: [name for name in _ASKED if name != asked] for asked in _ASKED}
_MISSING = object()


def parse_map(words: Iterable[str]) -> dict[str, str]:
    """Return the mapping that `TARGET=SOURCE` words name, by target; no source: no such field.

    Raises:
        ConfigError: a word cannot be used.
    """
    found: dict[str, str] = {}
    for word in words:
        target, equals, source = word.partition("=")
        if not equals or not target:
            raise ConfigError(f"--map {word}: write --map FIELD=YOURS, as in instruction=question")
        if target in found:
            raise ConfigError(f"--map {word}: {target} is {found[target]} already")
        found[target] = source
    check_map(found)
    return found


def check_map(mapping: Mapping[str, str]) -> None:
    """See whether a mapping names fields that there are.

    Raises:
        ConfigError: it does not.
    """
    for target, source in mapping.items():
        if target not in TARGETS:
            near = difflib.get_close_matches(target, TARGETS, 1)
            swapped = source in TARGETS
            hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(TARGETS)}"
            if swapped:
                hint = f"write --map {source}={target}"
            raise ConfigError(f"--map {target}={source}: {target} is no field of ours; {hint}")


class Shape:
    """Makes rows; one for a dataset.

    Args:
        mapping: our fields, each with the name of the dataset's; `a.b` is `b` within `a`, and an
            empty one takes none: a row's own field of that name means something else.
        template: renders what is asked.
        system: a system message ahead of the row's own.

    Raises:
        ConfigError: the mapping names a field that there is none of.
    """

    def __init__(
        self,
        mapping: Mapping[str, str] | None = None,
        template: Template | None = None,
        system: str = "",
    ) -> None:
        check_map(mapping or {})
        self._mapping = tuple((mapping or {}).items())
        self._dropped = [target for target, source in self._mapping if not source]
        self._template = template
        self._system = system

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row's shape; the row given stays as it is.

        Raises:
            ValueError: it cannot be made; the message says why.
        """
        if self._mapping:
            row = self._mapped(row)
        if self._template is not None:
            asked = self._template.render(row)
            row = _replaced(row, asked, _OTHERS[next(iter(asked))])
        if self._system:
            row = {**row, **self._with_system(row)}
        # In front, where a reader that knows the rows already looks for it.
        return {"index": row["index"], **row} if "index" in row else row

    def _mapped(self, row: dict[str, Any]) -> dict[str, Any]:
        new: dict[str, Any] = {}
        moved = []
        for target, source in self._mapping:
            if not source:
                continue
            if source in row:  # a flat table may have dots in its columns' names
                new[target] = row[source]
                moved.append(source)
            else:
                value = _within(row, source)
                if value is _MISSING:
                    raise ValueError(f"--map {target}={source}: {no_field(source, row)}")
                new[target] = value
        left = {name: value for name, value in row.items() if name not in moved}
        return _replaced(left, new, self._dropped)

    def _with_system(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the fields in which the system message stands.

        A row keeps one system message, since many models' chat templates take no second one.
        """
        messages = row.get("messages")
        if isinstance(messages, list):
            first = messages[0] if messages and isinstance(messages[0], dict) else {}
            if first.get("role") not in {"system", "developer"}:
                return {"messages": [{"role": "system", "content": self._system}, *messages]}
            content = first.get("content")
            if isinstance(content, list):
                content = [{"type": "text", "text": self._system}, *content]
            else:
                content = _joined(self._system, content)
            return {"messages": [{**first, "content": content}, *messages[1:]]}
        instruction, text = row.get("instruction"), row.get("input")
        if text:
            return {"instruction": _joined(self._system, instruction)}
        if instruction is None:
            return {}  # no row; it will be said
        return {"instruction": self._system, "input": instruction}


def _joined(system: str, own: object) -> str:
    return f"{system}\n\n{own}" if own else system


def _within(row: dict[str, Any], source: str) -> Any:
    """Return the value at a dotted path; a number counts into a list."""
    value: Any = row
    for name in source.split("."):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return _MISSING
    return value


def _replaced(
    row: dict[str, Any], new: dict[str, Any], dropped: Iterable[str] = ()
) -> dict[str, Any]:
    """Return a row with new fields; what was there under their names is kept as `source_…`."""
    found = {**new, **row, **new}
    for name in (*new, *dropped):
        if name in row:
            if name not in new:
                del found[name]
            kept = f"source_{name}"
            if row[name] not in (None, "") and kept not in found:
                found[kept] = row[name]
    return found
