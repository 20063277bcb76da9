"""What a user points to as the input, and how rows are made of it: `Dataset`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

from .errors import ConfigError
from .remote import shown
from .sources import expanding, finding, indexing, opening
from .sources.finding import KINDS
from .sources.memory import MemoryRows, files_or_rows
from .sources.stream import Recipe, RowStream

if TYPE_CHECKING:
    from .sources.expanding import Expand
    from .sources.parts import Part

#: How rows may be numbered that have no index.
AutoIndex = Literal["line", "content"]
#: What makes a row with `instruction` or `messages` of a row of another form.
Shape: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

FORMATS = tuple(dict.fromkeys(KINDS.values()))
AUTO_INDICES = ("line", "content")
STDIN = "-"
#: Of a recipe: that the rows were in memory. It says nothing of how they are made.
_MEMORY = "memory"
#: What says together how rows are named.
_INDEXING = ("index_field", "auto_index", "name_files")
#: Answers to one row; more are a mistake for the number of something else.
MAX_SAMPLES = 10_000


@dataclass(frozen=True)
class Dataset:
    """The rows of files of any kind, or rows in memory, as the rows of a run.

    Args:
        files: a path, a pattern (`shards/*.jsonl.gz`), a folder with a dataset in it, `-` for
            standard input, or several of them. Files of a pattern come in the order of their
            names, numbers in them counted as numbers. Or rows: mappings, in a list or in whatever
            else can be iterated over several times; a table of pandas or polars, or a `Dataset`
            of Hugging Face. Their values are taken as those of Parquet files are.
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
        name_files: whether `line` puts the file's name before the line; None: where several files
            are given, or a pattern, or a folder.
        n: how often each row is asked; above 1 its answers have the indices `7#0`, `7#1`, ….
        turns: the field that holds what the user says turn by turn, a list of texts. Each turn
            is asked with the answers before it; their indices are `7@1`, `7@2`, ….
        then: makes the rows that are asked of each row, in place of the first turn; for what
            has answers already (see `turns`, `judging`).

    Raises:
        ConfigError: these cannot be meant, or a file is not there.
    """

    files: str | Path | Iterable[str | Path] | Iterable[Mapping[str, Any]] | MemoryRows
    format: str | None = None
    index_field: str | None = None
    auto_index: AutoIndex | None = None
    map: Mapping[str, str] | None = field(default=None, hash=False)
    template: str | Path | None = None
    system: str | Path | None = None
    template_name: str = ""
    name_files: bool | None = None
    n: int = 1
    turns: str | None = None
    then: Expand | None = field(default=None, repr=False)
    #: The files as texts, as they were given; none where there are rows.
    given: tuple[str, ...] = field(init=False, repr=False)
    _shape: Shape | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        files = (self.files,) if isinstance(self.files, (str, Path)) else files_or_rows(self.files)
        if not isinstance(self.files, (str, Path)):
            object.__setattr__(self, "files", files)  # an iterator of paths is at its end by now
        given = () if isinstance(files, MemoryRows) else tuple(os.fspath(file) for file in files)
        object.__setattr__(self, "given", given)
        if "turns" in (self.map or ()) and self.turns is None:
            object.__setattr__(self, "turns", "turns")
        self._check()
        if isinstance(self.template, Path):
            object.__setattr__(self, "template_name", self.template_name or str(self.template))
        for name in ("template", "system"):
            object.__setattr__(self, name, text_of(getattr(self, name), name))
        object.__setattr__(self, "_shape", self._new_shape())

    def _check(self) -> None:
        """Refuse what cannot be meant."""
        if not self.given and self._rows is None:
            raise ConfigError("a dataset needs a file, or rows")
        if self.format is not None and self._rows is not None:
            raise ConfigError("format says what is in files; rows in memory have none")
        if self.format is not None and self.format not in FORMATS:
            raise ConfigError(f"format {self.format!r} is not known; say {', '.join(FORMATS)}")
        if self.auto_index is not None and self.auto_index not in AUTO_INDICES:
            raise ConfigError(f"auto_index must be line or content, not {self.auto_index!r}")
        if self.index_field is not None and self.auto_index is not None:
            raise ConfigError("index_field and auto_index both give rows their index: give one")
        if not 1 <= self.n <= MAX_SAMPLES:
            raise ConfigError(f"n must be from 1 to {MAX_SAMPLES:,}, not {self.n}")
        if STDIN in self.given and len(self.given) > 1:
            raise ConfigError("- (standard input) is read alone, without other files")
        if "index" in (self.map or ()) and (self.index_field or self.auto_index):
            raise ConfigError("a map onto index and index_field or auto_index: give one of them")

    def __str__(self) -> str:
        if self._rows is not None:
            return self._rows.name
        first = "standard input" if self.is_stdin else shown(self.given[0])
        more = len(self.given) - 1
        return first if not more else f"{first} and {more} other file{'s' if more > 1 else ''}"

    @property
    def name(self) -> str:
        """What it is called where there is no room for a path."""
        return str(self) if len(self.given) != 1 or self.is_stdin else Path(self.given[0]).name

    @property
    def _rows(self) -> MemoryRows | None:
        """The rows in memory; None: there are files."""
        return self.files if isinstance(self.files, MemoryRows) else None

    @property
    def is_stdin(self) -> bool:
        """Whether rows come from standard input."""
        return self.given == (STDIN,)

    @property
    def is_plain(self) -> bool:
        """Whether rows are taken as they are, with the index they have."""
        return not self._said() and self.then is None

    def recipe(self) -> dict[str, Any]:
        """Return what makes rows of the files, as JSON: what was said, without the files.

        `with_recipe` applies it to other files.
        """
        said = self._said()
        if "auto_index" in said:
            said["name_files"] = self._names_files()
        return said if self._rows is None else {**said, _MEMORY: True}

    def with_recipe(self, recipe: Mapping[str, Any]) -> Dataset:
        """Return the same files, or rows, with a recipe; what they say themselves holds.

        Raises:
            ConfigError: it is none.
        """
        recipe = {name: value for name, value in recipe.items() if name != _MEMORY}
        known = {entry.name for entry in fields(self) if entry.init} - {"files"}
        if unknown := sorted({*recipe} - known):
            raise ConfigError(f"a dataset's recipe has no {', '.join(unknown)}")
        own = {*self._said()}
        if own & {*_INDEXING} or "index" in (self.map or ()):
            own |= {*_INDEXING}
        if all(finding.kind_by_name(Path(given)) for given in self.given):
            own.add("format")
        return replace(self, **{name: recipe[name] for name in recipe if name not in own})

    def _said(self) -> dict[str, Any]:
        entries = {
            "format": self.format,
            "index_field": None if self.index_field == "index" else self.index_field,
            "auto_index": self.auto_index,
            "map": dict(self.map) if self.map else None,
            "template": self.template or None,
            "template_name": self.template_name if self.template else None,
            "system": self.system or None,
            "n": None if self.n == 1 else self.n,
            "turns": self.turns,
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
            template.check_takes()
        return Shape(self.map, template, str(self.system or ""))

    def clash(self, paths: Iterable[Path]) -> Path | None:
        """Return the first of some paths that leads to one of the files, or would when written.

        Raises:
            InputError: no file fits a pattern.
        """
        if self.is_stdin:
            return None
        files = self.paths()
        known = {_identity(file) for file in files if file.exists()}
        folders = [file.resolve() for file in files if file.is_dir()]
        patterns = [os.path.abspath(one) for one in self.given if finding.is_pattern(one)]  # noqa: PTH100  # it may not be there
        for path in paths:
            if path.exists() and _identity(path) in known:
                return path
            if any(path.resolve().is_relative_to(folder) for folder in folders):
                return path
            if any(path.absolute().match(pattern) for pattern in patterns):
                return path
        return None

    def expand(self) -> Expand | None:
        """Return what makes several rows of one; None: each stays as it is."""
        then = self.then
        if then is None and self.turns is not None:
            then = expanding.first_turn(self.turns)
        if self.n == 1:
            return then
        sampled = expanding.samples(self.n, self.turns)
        return sampled if then is None else expanding.both(sampled, then)

    def paths(self) -> list[Path]:
        """Return the files, patterns resolved; folders as they are.

        Raises:
            InputError: no file fits a pattern.
        """
        return [path for given in self.given for path in finding.paths_of(given)]

    @property
    def is_pipe(self) -> bool:
        """Whether rows can be read once only."""
        return self.is_stdin or any(map(opening.is_pipe, self.paths()))

    def open(self, stdin: IO[bytes] | None = None) -> IO[bytes]:
        """Return the rows as a stream of JSONL.

        It can be read twice (`seekable`) unless it is a pipe. A file that is JSONL and is wanted
        as it is, is opened as it is.

        Args:
            stdin: standard input; None: the process's own.

        Raises:
            InputError: a file is missing, empty, not readable, or of another kind.
        """
        if self._rows is not None:
            return self._stream([self._rows])
        if self.is_stdin:
            # Not sys.stdin: a thread that waits in it for ever would make Python abort at its end.
            stream = stdin or open(0, "rb", closefd=False)  # noqa: SIM115
            if self.is_plain:
                return stream
            return self._stream([opening.from_stdin(stream, self.format)])
        if self.is_plain and len(self.given) == 1 and not finding.is_pattern(self.given[0]):
            plain = opening.plain_file(Path(self.given[0]))
            if plain is not None:
                return plain
        parts = opening.parts_of(self.given, self.format)
        if self.auto_index == "line" and self._names_files():
            opening.check_names(parts)
        return self._stream(parts)

    def _names_files(self) -> bool:
        """Return whether an index made of a line has the file's name before it."""
        if self.name_files is not None or self.is_stdin or self._rows is not None:
            return bool(self.name_files)
        return opening.has_file_names(self.given)

    def _stream(self, parts: list[Part]) -> RowStream:
        new_indexer: Callable[[], indexing.Indexer] | None = None
        if self.auto_index == "content":
            new_indexer = indexing.by_content
        elif self.auto_index == "line":
            by_line = indexing.by_line(with_file=self._names_files())
            new_indexer = lambda: by_line  # noqa: E731
        elif self.index_field not in (None, "index"):
            by_field = indexing.by_field(self.index_field)
            new_indexer = lambda: by_field  # noqa: E731
        recipe = Recipe(
            new_indexer,
            self.shape(),
            self.auto_index == "content",
            expand=self.expand(),
            each=self.n,
        )
        return RowStream(parts, recipe, live=self.is_pipe)


#: What the functions of this package take for an input.
Data: TypeAlias = "Path | str | Dataset"


def dataset_of(data: Data | None) -> Dataset:
    """Return an input as a Dataset; None is standard input."""
    return data if isinstance(data, Dataset) else Dataset(STDIN if data is None else data)


def _identity(path: Path) -> tuple[int, int]:
    """Return what is the same for all names of one file."""
    found = path.stat()
    return found.st_dev, found.st_ino


def text_of(given: str | Path | None, what: str) -> str | None:
    """Return a text that was given, or stands in the file that was.

    Args:
        given: the text, or the file's path.
        what: what messages call it.

    Raises:
        ConfigError: the file cannot be read, or is empty.
    """
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
