"""What a merged file is: which format its rows have, and what kind of file holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

#: The kinds of files each format can be written as, the first where the name tells nothing.
#: OpenAI takes fine-tuning data as lines alone.
_CONTAINERS = {
    "json": ("array",),
    "jsonl": ("lines",),
    "csv": ("csv",),
    "parquet": ("parquet",),
    "alpaca": ("array", "lines", "parquet", "csv"),
    "sharegpt": ("array", "lines", "parquet"),
    "openai-chat": ("lines",),
}
FORMATS = tuple(_CONTAINERS)
_SUFFIXES = {
    ".json": "array",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".csv": "csv",
    ".parquet": "parquet",
}
#: The format of a file whose name alone says it.
_OF_CONTAINER = {"array": "json", "lines": "jsonl", "csv": "csv", "parquet": "parquet"}
#: What is some other kind of file, as everybody knows: JSON in it would be found out late.
_OTHERS = (
    *(".xlsx", ".xls", ".ods", ".tsv", ".arrow", ".feather"),
    *(".yaml", ".yml", ".db", ".sqlite", ".zip", ".bz2", ".xz"),
)
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True)
class Form:
    """A format in a kind of file.

    Attributes:
        format: one of FORMATS.
        container: `array` (JSON), `lines` (JSONL), `csv` or `parquet`.
        compression: `gzip`, `zstd`, or empty for none.
    """

    format: str
    container: str
    compression: str = ""

    @property
    def is_example(self) -> bool:
        """Whether a row becomes an example as a trainer wants it, and is the input's no more."""
        return self.format in ("alpaca", "sharegpt", "openai-chat")


def form_of(target: Path, name: str | None) -> Form:
    """Return what a merged file shall be.

    Args:
        target: the file; its suffix says what kind it is, behind `.gz` or `.zst` too. A suffix
            that says nothing stands for a JSON array, or for what the format is commonly kept in.
        name: one of FORMATS; None: what the suffix says.

    Raises:
        ConfigError: there is no such format, or the file's name says something else.
    """
    is_packed = target.suffix.lower() in _COMPRESSIONS
    ending = (target.with_suffix("") if is_packed else target).suffix.lower()
    if ending in _OTHERS or target.name == "-":  # only the command writes to standard output
        raise ConfigError(
            f"{target}: {ending or 'standard output'} is not written; name a file that ends in "
            f"{', '.join(kind for kind in _SUFFIXES if kind != '.ndjson')}"
        )
    _, suffix, compression = _parts_of(target)
    container = _SUFFIXES.get(suffix.lower())
    packed = _COMPRESSIONS.get(compression, "")
    if name is None:
        name = _OF_CONTAINER[container or "array"]
    elif name not in _CONTAINERS:
        raise ConfigError(f"format: there is no {name!r}; there are {', '.join(FORMATS)}")
    possible = _CONTAINERS[name]
    if container is not None and container not in possible:
        kinds = [kind for kind, of in _SUFFIXES.items() if of in possible and kind != ".ndjson"]
        raise ConfigError(
            f"{target}: {name} is not written into a {suffix} file; name it {' or '.join(kinds)}, "
            "or choose another format"
        )
    container = container or possible[0]
    if packed and container == "parquet":
        raise ConfigError(
            f"{target}: a Parquet file is compressed inside; leave {compression} away"
        )
    return Form(name, container, packed)


def part_of(target: Path, part: str) -> Path:
    """Return the file of a part of a split: `merged.train.jsonl` for `merged.jsonl`."""
    stem, suffix, compression = _parts_of(target)
    return target.with_name(f"{stem}.{part}{suffix}{compression}")


def _parts_of(target: Path) -> tuple[str, str, str]:
    """Return a file's name in three parts: its stem, its suffix, and `.gz` or `.zst` if it ends so.

    A suffix that is none of ours is part of the stem.
    """
    name, compression = target.name, ""
    if target.suffix.lower() in _COMPRESSIONS:
        name, compression = target.stem, target.suffix
    stem, dot, suffix = name.rpartition(".")
    if stem and f"{dot}{suffix}".lower() in _SUFFIXES:
        return stem, f"{dot}{suffix}", compression.lower()
    return name, "", compression.lower()
