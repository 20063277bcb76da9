"""What a merge writes: format, fields and parts, checked before a row is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..quality import MEANINGS as SPOILT
from .alpaca import NAMES as ALPACA_NAMES
from .alpaca import shape as alpaca
from .conversation import REASONS as UNFIT
from .fields import Fields
from .forms import Form, form_of, part_of
from .openai_chat import REASONS as REFUSED
from .openai_chat import shape as openai_chat
from .sharegpt import NAMES as SHAREGPT_NAMES
from .sharegpt import shape as sharegpt
from .split import Split
from .verdicts import MEANING as JUDGED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

#: What makes an example of a row, and the names it gives; other formats keep the row's own.
_EXAMPLES = {
    "alpaca": (alpaca, ALPACA_NAMES),
    "sharegpt": (sharegpt, SHAREGPT_NAMES),
}
#: What stands in an example that does not need a field which others of its file have.
_EMPTY: Mapping[str, Any] = {"system": "", "history": [], "images": []}
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
    """

    form: Form
    fields: Fields | None
    split: Split | None
    paths: Mapping[str, Path]

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
            return openai_chat(row, folder)
        example = _EXAMPLES[self.form.format][0](row)
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
) -> Plan:
    """Return the plan of a merge.

    Args:
        target: the file to write; with a split, what the parts' files are called after.
        name: the format; None: what the target's suffix says.
        fields: names of fields, `new=name` to rename one. In a format for trainers they stand
            behind its own.
        split: the share of each part.
        seed: of the split.

    Raises:
        ConfigError: any of it cannot be.
    """
    form = form_of(target, name)
    chosen = None
    if fields is not None:
        if form.format == "openai-chat":
            raise ConfigError("fields: openai-chat has messages and nothing else; leave them away")
        chosen = Fields(fields, taken=_EXAMPLES[form.format][1] if form.is_example else ())
    if split is None:
        return Plan(form, chosen, None, {"": target})
    parts = Split(split, seed)
    return Plan(form, chosen, parts, {part: part_of(target, part) for part in parts.names})


def reason_of(word: str) -> str:
    """Return what it means that rows were left out for a reason; the word itself if unknown."""
    return _MEANINGS.get(word, word)
