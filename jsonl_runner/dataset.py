"""What a user points to as the input, and how rows are made of it: `Dataset`."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

from .errors import ConfigError, InputError
from .sources import finding, indexing
from .sources.chunks import packing_of
from .sources.finding import KINDS
from .sources.stream import Recipe, RowStream
from .sources.textfile import TextPart, opened

if TYPE_CHECKING:
    from .sources.parts import Part

#: How rows may be numbered that have no index.
AutoIndex = Literal["line", "content"]
#: What makes a row with `instruction` or `messages` of a row of another form.
Shape: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

FORMATS = tuple(dict.fromkeys(KINDS.values()))
AUTO_INDICES = ("line", "content")
STDIN = "-"


@dataclass(frozen=True)
class Dataset:
    """The rows of files of any kind, as the rows of a run.

    Args:
        files: a path, a pattern (`shards/*.jsonl.gz`), a folder with a dataset in it, `-` for
            standard input, or several of them. Files of a pattern come in the order of their
            names, numbers in them counted as numbers.
        format: `jsonl`, `json`, `csv`, `tsv`, `parquet` or `arrow`; None: by the files' names.
            Whether they are packed with gzip or zstd is seen in any case.
        index_field: the field that is a row's index (`a.b`: b in the object a); None: `index`.
        auto_index: what makes an index instead: `line`, the row's line (its number where there
            are no lines), behind its file's name where there are several files; `content`, a
            digest of the row, which stays the same in whatever order rows come.
        map: fields of a run's rows, each with the field it is taken from, `{"instruction":
            "question"}`; see `shaping`.
        template: a Jinja2 template that renders what is asked; a Path: a file that holds it. See
            `templates`.
        system: a system message ahead of each row's own; a Path: a file that holds it.
        template_name: what messages call the template; empty: as its file is called.

    Raises:
        ConfigError: these cannot be meant, or a file is not there.
    """

    files: str | Path | Sequence[str | Path]
    format: str | None = None
    index_field: str | None = None
    auto_index: AutoIndex | None = None
    map: Mapping[str, str] | None = field(default=None, hash=False)
    template: str | Path | None = None
    system: str | Path | None = None
    template_name: str = ""
    #: The files as texts, as they were given.
    given: tuple[str, ...] = field(init=False, repr=False)
    _shape: Shape | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        files = [self.files] if isinstance(self.files, (str, Path)) else self.files
        given = tuple(os.fspath(file) for file in files)
        object.__setattr__(self, "given", given)
        if not given:
            raise ConfigError("a dataset needs a file")
        if self.format is not None and self.format not in FORMATS:
            raise ConfigError(f"format {self.format!r} is not known; say {', '.join(FORMATS)}")
        if self.auto_index is not None and self.auto_index not in AUTO_INDICES:
            raise ConfigError(f"auto_index must be line or content, not {self.auto_index!r}")
        if self.index_field is not None and self.auto_index is not None:
            raise ConfigError("index_field and auto_index both give rows their index: give one")
        if STDIN in given and len(given) > 1:
            raise ConfigError("- (standard input) is read alone, without other files")
        if "index" in (self.map or ()) and (self.index_field or self.auto_index):
            raise ConfigError("a map onto index and index_field or auto_index: give one of them")
        if isinstance(self.template, Path):
            object.__setattr__(self, "template_name", self.template_name or str(self.template))
        for name in ("template", "system"):
            object.__setattr__(self, name, _text_of(getattr(self, name), name))
        object.__setattr__(self, "_shape", self._new_shape())

    def __str__(self) -> str:
        first = "standard input" if self.is_stdin else self.given[0]
        more = len(self.given) - 1
        return first if not more else f"{first} and {more} other file{'s' if more > 1 else ''}"

    @property
    def is_stdin(self) -> bool:
        """Whether rows come from standard input."""
        return self.given == (STDIN,)

    @property
    def is_plain(self) -> bool:
        """Whether rows are taken as they are, with the index they have."""
        return not self.recipe()

    def recipe(self) -> dict[str, Any]:
        """Return what makes rows of the files, as JSON: what was said, without the files."""
        entries = {
            "format": self.format,
            "index_field": None if self.index_field == "index" else self.index_field,
            "auto_index": self.auto_index,
            "map": dict(self.map) if self.map else None,
            "template": self.template or None,
            "template_name": self.template_name if self.template else None,
            "system": self.system or None,
        }
        return {name: value for name, value in entries.items() if value not in (None, "")}

    def shape(self) -> Shape | None:
        """Return what gives rows their form; None: they have it."""
        return self._shape

    def _new_shape(self) -> Shape | None:
        if not (self.map or self.template or self.system):
            return None
        from .shaping import Shape  # noqa: PLC0415  # most runs need no templates
        from .templates import Template  # noqa: PLC0415

        template = None
        if self.template:
            template = Template(str(self.template), self.template_name or "template")
        return Shape(self.map, template, str(self.system or ""))

    def is_one_of(self, path: Path) -> bool:
        """Return whether a path leads to one of the files."""
        if self.is_stdin or not path.exists():
            return False
        return any(file.exists() and file.samefile(path) for file in self.paths())

    def paths(self) -> list[Path]:
        """Return the files, patterns resolved; folders as they are.

        Raises:
            InputError: no file fits a pattern.
        """
        return [path for given in self.given for path in finding.paths_of(given)]

    def open(self, stdin: IO[bytes] | None = None) -> IO[bytes]:
        """Return the rows as a stream of JSONL.

        It can be read twice (`seekable`) unless it is a pipe. A file that is JSONL and is wanted
        as it is, is opened as it is.

        Args:
            stdin: standard input; None: the process's own.

        Raises:
            InputError: a file is missing, empty, not readable, or of another kind.
        """
        if self.is_stdin:
            # Not sys.stdin: a thread that waits in it for ever would make Python abort at its end.
            stream = stdin or open(0, "rb", closefd=False)  # noqa: SIM115
            if self.is_plain:
                return stream
            part = TextPart(stream, self._kind(None), "standard input")
            return self._stream([part], with_file=False, live=True)
        paths = self.paths()
        if len(paths) == 1 and self.is_plain and not finding.is_pattern(self.given[0]):
            plain = _plain_file(paths[0])
            if plain is not None:
                return plain
        parts: list[Part] = [self._part(path) for path in paths]
        with_file = len(paths) > 1 or finding.is_pattern(self.given[0])
        live = any(path.exists() and not stat.S_ISREG(path.stat().st_mode) for path in paths)
        return self._stream(parts, with_file=with_file, live=live)

    def _part(self, path: Path) -> Part:
        opened(path, str(path)).close()
        return TextPart(path, self._kind(path), str(path))

    def _kind(self, path: Path | None) -> str:
        return self.format or (None if path is None else finding.kind_by_name(path)) or "jsonl"

    def _stream(self, parts: list[Part], *, with_file: bool, live: bool) -> RowStream:
        new_indexer: Callable[[], indexing.Indexer] | None = None
        if self.auto_index == "content":
            new_indexer = indexing.by_content
        elif self.auto_index == "line":
            by_line = indexing.by_line(with_file=with_file)
            new_indexer = lambda: by_line  # noqa: E731
        elif self.index_field not in (None, "index"):
            by_field = indexing.by_field(self.index_field)
            new_indexer = lambda: by_field  # noqa: E731
        recipe = Recipe(new_indexer, self.shape(), self.auto_index == "content")
        return RowStream(parts, recipe, live=live)


#: What the functions of this package take for an input.
Data: TypeAlias = "Path | str | Dataset"


def dataset_of(data: Data) -> Dataset:
    """Return an input as a Dataset."""
    return data if isinstance(data, Dataset) else Dataset(data)


def _text_of(given: str | Path | None, what: str) -> str | None:
    """Return a text that was given, or stands in the file that was."""
    if not isinstance(given, Path):
        return given
    try:
        data = given.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{what} {given}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} {given}: byte {error.start} is not UTF-8; save it so") from None
    if not text.strip():
        raise ConfigError(f"{what} {given}: the file is empty")
    return text.replace("\r\n", "\n").removesuffix("\n")


def _plain_file(path: Path) -> IO[bytes] | None:
    """Return a file that is JSONL, opened; None: it is something else."""
    if path.is_dir():
        raise InputError(f"{path}: this is a directory; give the JSONL file in it")
    if finding.kind_by_name(path) not in (None, "jsonl"):
        return None
    stream = opened(path, str(path))
    beginning = stream.peek(64)
    if packing_of(beginning[:4]):
        stream.close()
        return None
    if beginning[:1] == b"[" and beginning[1:].lstrip()[:1] in (b"{", b""):
        stream.close()
        raise InputError(
            f"{path}: this is a JSON array, not JSONL; write one object a line (jq -c '.[]' {path})"
        )
    if not beginning:
        stream.close()
        raise InputError(f"{path}: the file is empty; it needs one JSON object a line")
    return stream
