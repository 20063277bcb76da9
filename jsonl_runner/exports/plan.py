"""What a merge writes: format, fields and parts, checked before a row is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..quality import MEANINGS as SPOILT
from ..rows import kind_of
from .alpaca import NAMES as ALPACA_NAMES
from .alpaca import shape as alpaca
from .fields import Fields
from .forms import Form, form_of, part_of
from .openai_chat import REASONS as REFUSED
from .openai_chat import shape as openai_chat
from .sharegpt import NAMES as SHAREGPT_NAMES
from .sharegpt import shape as sharegpt
from .split import Split
from .toolcalls import are_tools
from .unfit import REASONS as UNFIT
from .verdicts import MEANING as JUDGED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

#: The names that a format's examples have; other formats keep the row's own.
_NAMES = {"alpaca": ALPACA_NAMES, "sharegpt": SHAREGPT_NAMES}
#: What stands in an example that does not need a field which others of its file have.
_EMPTY: Mapping[str, Any] = {"system": "", "history": [], "images": [], "tools": ""}
#: The formats that have a place for tools.
_WITH_TOOLS = ("sharegpt", "openai-chat")
#: What counts the rows that ask and answer what an earlier one did.
REPEATED = "repeated"
#: What the words mean that count rows which are not written.
_MEANINGS = {
    **REFUSED,
    **UNFIT,
    **SPOILT,
    **JUDGED,
    REPEATED: "the same prompt and output as an earlier row",
}


@dataclass
class Plan:
    """What a merge writes.

    Attributes:
        form: format and kind of file.
        fields: the fields asked for, None for those that the format has.
        split: the parts, None for a single file.
        paths: the files, by part ("" where there are none).
        tools: what was offered to all rows that name no tools themselves.
    """

    form: Form
    fields: Fields | None
    split: Split | None
    paths: Mapping[str, Path]
    tools: list[Any] | None = None

    @property
    def needs_columns(self) -> bool:
        """Whether all rows must be seen before the first is written."""
        return self.form.container in ("csv", "parquet") or self._has_optional

    @property
    def _has_optional(self) -> bool:
        """Whether examples have fields that not all of them need."""
        return self.form.format in ("alpaca", "sharegpt")

    def shape(self, row: dict[str, Any], folder: Callable[[], Path]) -> Mapping[str, Any]:
        """Return what is written of a row.

        Args:
            row: the row with its output.
            folder: says what the paths of its images are relative to.

        Raises:
            Unfit: the format has no place for it.
        """
        if not self.form.is_example:
            return row if self.fields is None else self.fields.of(row)
        if self.form.format == "openai-chat":
            return openai_chat(row, folder, self.tools)
        example = alpaca(row) if self.form.format == "alpaca" else sharegpt(row, self.tools)
        return example if self.fields is None else {**example, **self.fields.of(row)}

    def filled(self, row: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
        """Return a row with all the fields that rows of its file have.

        Loaders take the fields of a file from its first rows.
        """
        if not self._has_optional:
            return row
        return {name: row.get(name, _EMPTY.get(name)) for name in names}


def plan_of(
    target: Path,
    name: str | None,
    fields: Sequence[str] | None,
    split: Mapping[str, float] | None,
    seed: int,
    tools: list[Any] | None = None,
) -> Plan:
    """Return the plan of a merge.

    Args:
        target: the file to write; with a split, what the parts' files are called after.
        name: the format; None: what the target's suffix says.
        fields: names of fields, `new=name` to rename one. In a format for trainers they stand
            behind its own.
        split: the share of each part.
        seed: of the split.
        tools: what was offered to all rows that name no tools themselves.

    Raises:
        ConfigError: any of it cannot be.
    """
    form = form_of(target, name)
    chosen = None
    if tools is not None:
        _check_tools(tools, form.format)
    if fields is not None:
        if form.format == "openai-chat":
            raise ConfigError("fields: openai-chat has messages and nothing else; leave them away")
        chosen = Fields(fields, taken=_NAMES.get(form.format, ()))
    if split is None:
        return Plan(form, chosen, None, {"": target}, tools)
    parts = Split(split, seed)
    paths = {part: part_of(target, part) for part in parts.names}
    return Plan(form, chosen, parts, paths, tools)


def _check_tools(tools: list[Any], name: str) -> None:
    if name not in _WITH_TOOLS:
        raise ConfigError(f"tools: {name} has no place for them; {' and '.join(_WITH_TOOLS)} have")
    if not tools or not are_tools(tools):
        raise ConfigError(
            'tools: give a list of functions as the API takes it, [{"type": "function", '
            '"function": {"name": …, "parameters": …}}]'
        )


def tools_in(file: Path) -> list[Any]:
    """Return the tools that a file holds: a list of them, JSON.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); check the path") from None
    except ValueError as error:
        raise ConfigError(f"{file}: this is no JSON ({error}); give a list of tools") from None
    if not isinstance(found, list):
        raise ConfigError(f"{file}: this is no list of tools, but {kind_of(found)}")
    return found


def reason_of(word: str) -> str:
    """Return what it means that rows were left out for a reason; the word itself if unknown."""
    return _MEANINGS.get(word, word)
