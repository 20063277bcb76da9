"""Experiments: every persona with every model, text and trial, as rows of a dataset.

The file is YAML or JSON; all but `models` and one kind of texts may be left out:

    index: "p{persona}_{model}_n{trial}_{text}"
    personas:
      plain: You answer plainly.
      none: ""                       # no system message
    models:
      - gpt-4.1-mini
      - {name: mini-high, model: o4-mini, params: {reasoning_effort: high}, sampling: false}
    params: {temperature: 0.7}       # of every model; those that take no temperature get none
    trials: 3
    seeds: true                      # trial n has the seed n; or a list of seeds; or false
    texts: {hello: Say hello.}       # or a list
    texts_file: texts.jsonl          # or rows (index and instruction, input), or a text a line
    texts_glob: "texts/*.txt"        # or files
    template: "{text}"               # the user's message

A template is Python's `str.format` with the fields of the row by their names, and nothing else.
"""

from __future__ import annotations

import itertools
import re
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import configfile
from .errors import ConfigError, InputError
from .indexes import IndexSet
from .reader import RowReader, open_input
from .records import BadRow, Record, to_record
from .rows import check_params

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

INDEX_TEMPLATE = "p{persona}_{model}_n{trial}_{text}"
_NAMES = (
    "index", "personas", "models", "params", "trials", "seeds", "texts", "texts_file",
    "texts_glob", "template",
)  # fmt: skip
_MODEL_NAMES = ("name", "model", "params", "sampling")
_TEXTS = ("texts", "texts_file", "texts_glob")
#: What templates may name, with values to try a template on.
_INDEX_FIELDS: dict[str, str | int] = {"persona": "p", "model": "m", "trial": 1, "text": "t"}
_TEMPLATE_FIELDS = {**_INDEX_FIELDS, "text": "a text", "text_name": "t"}
#: Parameters that reasoning models refuse, and the families that do
#: (https://platform.openai.com/docs/guides/reasoning; the chat models of GPT-5 take them).
_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_NO_SAMPLING = re.compile(r"(.*/)?(o[134]($|[-:@])|gpt-[56](?!.*chat))", re.IGNORECASE)
_MAX_TRIALS = 1_000_000


class Text(NamedTuple):
    """One text of an experiment, and what it is called in an index."""

    name: str
    text: str


@dataclass(frozen=True)
class GridModel:
    """One model of an experiment.

    Attributes:
        name: what it is called in an index.
        model: what the provider calls it.
        params: its request parameters, those of the experiment included.
    """

    name: str
    model: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What an experiment's file says; its rows may be asked for again and again.

    Attributes:
        path: the file.
        personas: system messages by name; an empty one is none.
        models: in their order.
        seeds: one for each trial; None: the trials have none.
        texts: returns the texts from the first.
        index, template: see the module.
    """

    path: Path
    personas: Mapping[str, str]
    models: tuple[GridModel, ...]
    seeds: tuple[int | None, ...]
    texts: Callable[[], Iterator[Text]]
    index: str = INDEX_TEMPLATE
    template: str = "{text}"

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every row as `run` takes it, text by text; nothing is kept.

        Raises:
            ConfigError: two rows would have one index; it comes before the first row.
            InputError: a text cannot be read.
        """
        self._refuse_twice()
        for text in self.texts():
            for persona, model, trial in self._cells():
                names = {"persona": persona, "model": model.name, "trial": trial}
                params = {"model": model.model, **model.params}
                seed = self.seeds[trial - 1]
                if seed is not None:
                    params.setdefault("seed", seed)
                said = self.template.format(**names, text=text.text, text_name=text.name)
                system = self.personas[persona]
                yield {
                    "index": self.index.format(**names, text=text.name),
                    "messages": [
                        *([{"role": "system", "content": system}] if system else []),
                        {"role": "user", "content": said},
                    ],
                    "params": params,
                    **names,
                    "text": text.name,
                }

    def records(self) -> Iterator[Record]:
        """Yield every row as a Record; its line is its number, from 1. Raises as `rows` does."""
        for number, row in enumerate(self.rows(), 1):
            yield to_record(row, number)

    def _cells(self) -> Iterator[tuple[str, GridModel, int]]:
        return itertools.product(self.personas, self.models, range(1, len(self.seeds) + 1))

    def _refuse_twice(self) -> None:
        seen = IndexSet()
        for text in self.texts():
            for persona, model, trial in self._cells():
                index = self.index.format(
                    persona=persona, model=model.name, trial=trial, text=text.name
                )
                if not seen.add(index):
                    raise ConfigError(
                        f'{self.path}: index: "{self.index}" gives two rows the index {index!r}; '
                        "name more fields in it, or rename a text, persona or model"
                    )
        if not len(seen):
            raise ConfigError(f"{self.path}: there is not one text")


def load(path: Path) -> Experiment:
    """Read an experiment's file.

    Raises:
        ConfigError: it is missing or wrong; names the field.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such experiment; data/samples has one")
    data = configfile.read(path)
    _known(data, _NAMES, str(path))
    seeds = _seeds(data, path)
    params = _params(data.get("params"), f"{path}: params")
    index = _template(data.get("index", INDEX_TEMPLATE), _INDEX_FIELDS, f"{path}: index")
    template = _template(data.get("template", "{text}"), _TEMPLATE_FIELDS, f"{path}: template")
    return Experiment(
        path,
        dict(_named(data.get("personas", {"1": ""}), f"{path}: personas", "system")),
        tuple(_models(data.get("models"), params, f"{path}: models")),
        seeds,
        _texts(data, path),
        index,
        template,
    )


def _known(data: Mapping[Any, Any], names: tuple[str, ...], where: str) -> None:
    for name in data:
        if name not in names:
            raise ConfigError(f"{where}: {name!r} is not known here; known are {', '.join(names)}")


def _template(value: object, fields: Mapping[str, str | int], where: str) -> str:
    """Check a template: fields by their names, with a format if need be."""
    if not isinstance(value, str):
        raise ConfigError(f"{where}: must be a text")
    known = ", ".join(f"{{{name}}}" for name in fields)
    try:
        for _, name, spec, conversion in string.Formatter().parse(value):
            if name is not None and (name not in fields or conversion or "{" in (spec or "")):
                raise ConfigError(
                    f"{where}: {{{name}}} is not known here; known are {known} (a brace of the "
                    "text is written twice)"
                )
        value.format(**fields)
    except ValueError as error:
        raise ConfigError(f"{where}: {error} (a brace of the text is written twice)") from None
    return value


def _seeds(data: Mapping[str, Any], path: Path) -> tuple[int | None, ...]:
    trials, seeds = data.get("trials", 1), data.get("seeds", True)
    if not isinstance(trials, int) or isinstance(trials, bool) or not 1 <= trials <= _MAX_TRIALS:
        raise ConfigError(f"{path}: trials: must be a whole number from 1 to {_MAX_TRIALS:,}")
    if isinstance(seeds, bool):
        # A single trial needs nothing to tell it from others.
        return tuple(range(1, trials + 1)) if seeds and trials > 1 else (None,) * trials
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise ConfigError(f"{path}: seeds: must be true, false or a list of whole numbers")
    if len(seeds) != trials or len(set(seeds)) != trials:
        raise ConfigError(f"{path}: seeds: there must be {trials:,} different ones, one a trial")
    return tuple(seeds)


def _params(value: object, where: str) -> dict[str, Any]:
    try:
        check_params({} if value is None else value)
    except ValueError as error:
        raise ConfigError(f"{where} {error}") from None
    return dict(value) if isinstance(value, dict) else {}


def _name(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise ConfigError(f"{where}: {value!r} cannot be a name; write a text (in quotes)")
    return str(value)


def _named(value: object, where: str, of_text: str) -> Iterator[Text]:
    """Yield named texts from an object, a list of texts or a list of `{name, <of_text>}`."""
    if isinstance(value, dict):
        pairs: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list):
        pairs = []
        for number, item in enumerate(value, 1):
            if isinstance(item, dict):
                _known(item, ("name", of_text), f"{where}[{number}]")
                pairs.append((item.get("name", number), item.get(of_text)))
            else:
                pairs.append((number, item))
    else:
        pairs = []
    if not pairs:
        raise ConfigError(f"{where}: must be texts by their names, or a list of texts")
    names = set()
    for given, text in pairs:
        name = _name(given, where)
        if name in names:
            raise ConfigError(f"{where}: {name!r} stands twice")
        if not isinstance(text, str):
            raise ConfigError(f"{where}: {name}: must be a text")
        names.add(name)
        yield Text(name, text)


def _models(value: object, params: Mapping[str, Any], where: str) -> Iterator[GridModel]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where}: must be a list of models, such as [gpt-4.1-mini]")
    names = set()
    for number, item in enumerate(value, 1):
        here = f"{where}[{number}]"
        given = item if isinstance(item, dict) else {"name": item}
        _known(given, _MODEL_NAMES, here)
        name = _name(given.get("name", given.get("model")), here)
        if name in names:
            raise ConfigError(f"{where}: {name!r} stands twice; give one of them another name")
        names.add(name)
        model = _name(given.get("model", name), here)
        own = _params(given.get("params"), f"{here}: params")
        sampling = given.get("sampling", _NO_SAMPLING.match(model) is None)
        if not isinstance(sampling, bool):
            raise ConfigError(f"{here}: sampling: must be true or false")
        unwanted = [name for name in _SAMPLING if name in own]
        if unwanted and given.get("sampling") is False:
            raise ConfigError(f"{here}: {unwanted[0]} is given, and sampling is false")
        shared = {k: v for k, v in params.items() if sampling or k not in _SAMPLING}
        yield GridModel(name, model, {**shared, **own})


def _texts(data: Mapping[str, Any], path: Path) -> Callable[[], Iterator[Text]]:
    given = [name for name in _TEXTS if data.get(name) is not None]
    if len(given) != 1:
        raise ConfigError(f"{path}: give one of {', '.join(_TEXTS)}")
    (kind,) = given
    value = data[kind]
    if kind == "texts":
        texts = list(_named(value, f"{path}: texts", "text"))
        return lambda: iter(texts)
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {kind}: must be a text")
    if kind == "texts_file":
        file = path.parent / value
        read = _rows_of if file.suffix in {".jsonl", ".ndjson"} else _lines_of
        return lambda: read(file)
    if Path(value).is_absolute():
        raise ConfigError(f"{path}: texts_glob: must be relative to the folder of {path.name}")
    try:
        files = sorted(file for file in path.parent.glob(value) if file.is_file())
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"{path}: texts_glob: {error}") from None
    if not files:
        raise ConfigError(f"{path}: texts_glob: no file is called {value}")
    return lambda: (_file_of(file, path.parent) for file in files)


def _rows_of(file: Path) -> Iterator[Text]:
    with open_input(file) as stream:
        for row in RowReader(stream, str(file)).rows():
            if isinstance(row, BadRow):
                raise InputError(str(row))
            if row.get("messages") is not None:
                raise InputError(f"{file}: row {row['index']}: messages cannot be a text")
            parts = (row.get("instruction"), row.get("input"))
            yield Text(str(row["index"]), "\n\n".join(filter(None, parts)))


def _lines_of(file: Path) -> Iterator[Text]:
    with open_input(file) as stream:
        for number, line in enumerate(stream, 1):
            text = _decoded(line, f"{file}:{number}").removesuffix("\n").removesuffix("\r")
            if text.strip():
                yield Text(str(number), text)


def _file_of(file: Path, folder: Path) -> Text:
    try:
        text = _decoded(file.read_bytes(), str(file))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    return Text(file.relative_to(folder).with_suffix("").as_posix(), text)


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8; convert it (iconv -t UTF-8)") from None
