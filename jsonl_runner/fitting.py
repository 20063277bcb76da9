"""What the rows of a dataset lack to be asked, and what gives it: for a first contact.

The fields are guessed by their names and by what stands in them, and what is proposed is tried on
the rows before it is said.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import JsonlRunnerError
from .indexes import IndexSet
from .rows import MAX_ROW_BYTES, QUESTIONS, TEXTS, load_object, named_fields, parse_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .dataset import Dataset

#: Rows by which is guessed, and the bytes of them, which are in memory together.
_LOOKED_AT, _LOOKED_AT_BYTES = 1000, 16 * 1024 * 1024
#: Rows on which a guess is tried: a few seconds.
_TRIED = 200_000
#: A guess has to fit a greater share of rows: a few without a prompt are bad rows by any name.
_MOST = 0.95
#: What datasets call a row's identity: the first that names each row is taken.
_IDS = ("id", "idx", "uuid", "guid", "uid", "qid", "index", "key", "row_id", "example_id")
_ID_LIKE = re.compile(r"(?i:[_\-. ](id|idx|uuid)$)|[a-z]I[dD]$")
#: What is no question, however long it is.
_ANSWERS = re.compile(
    r"(?i)answer|output|response|completion|solution|target|label|chosen|reject|expected|reference"
    r"|url|path|(^|_)(id|idx|uuid|hash|date|time)$"
)
_TURNS = ("turns", "prompts", "questions")
_HUMAN = ("human", "user")

_Row = dict[str, Any]


class _Found(NamedTuple):
    """What gives rows what they lack.

    Attributes:
        changes: arguments of a Dataset.
        words: the same as options of the command line.
        note: what is to be known of it.
    """

    changes: dict[str, Any]
    words: tuple[str, ...] = ()
    note: str = ""


def what_is_missing(dataset: Dataset) -> str | None:
    """Return what all rows of a dataset lack, and the options that give it, as the end of a line.

    Args:
        dataset: an input of which no row can be used as it is read now.

    Returns:
        None where that is nothing that an option gives, or rows cannot be read once more.
    """
    if dataset.is_pipe:
        return None
    bare = replace(
        dataset, index_field=None, auto_index=None, map=None, template=None, system=None,
        n=1, turns=None, then=None,
    )  # fmt: skip
    try:
        return _said(dataset, _first_rows(bare))
    except JsonlRunnerError:
        return None  # what is wrong with the input is told by whoever reads it next


def _first_rows(dataset: Dataset) -> list[_Row]:
    rows: list[_Row] = []
    size = 0
    with dataset.open() as stream:
        while len(rows) < _LOOKED_AT and size < _LOOKED_AT_BYTES:
            line = stream.readline(MAX_ROW_BYTES)
            if not line:
                break
            size += len(line)
            with contextlib.suppress(ValueError):  # a blank line, or one that is no row at all
                rows.append(load_object(line.removeprefix(BOM_UTF8).strip()))
    return rows


def _said(dataset: Dataset, rows: Sequence[_Row]) -> str | None:
    mapped = dataset.map or {}
    has_index = dataset.index_field or dataset.auto_index or "index" in mapped
    has_question = dataset.template or dataset.turns or {"instruction", "messages"} & {*mapped}
    lacks = []
    if wants_index := not has_index and not _names_each(rows, "index"):
        there = any(row.get("index") is not None for row in rows)
        kind = " that names each row" if there else " (a string or an integer that names the row)"
        lacks.append(f'no "index"{kind}')
    if wants_question := not has_question and not any(map(_is_asked, rows)):
        there = any(row.get("instruction") is not None for row in rows)
        lacks.append('no "instruction"' + (" that is a text" if there else ""))
    if not lacks or not rows:
        return None
    best, share = None, 0.0
    for index in _indices_of(rows) if wants_index else [_Found({})]:
        taken = {index.changes.get("index_field"), *mapped.values()}
        left = [{name: row[name] for name in row if name not in taken} for row in rows]
        question = _question_of(left) if wants_question else _Found({})
        found = [index] if question is None else [index, question]
        good = 1.0 if question is None else _share(dataset, found)
        if good > max(share, _MOST):
            best, share = _advice(dataset, found, is_all=question is not None), good
        if share == 1:
            break
    named = f"it has {' and '.join(lacks)}; its fields are {named_fields(rows[0])}: "
    return None if best is None else named + best


def _advice(dataset: Dataset, found: Sequence[_Found], *, is_all: bool) -> str:
    """Return what is to be done, in the words of who gave the rows."""
    notes = [one.note for one in found if one.note]
    if dataset.given:
        words = [word for one in found for word in one.words]
        said = [f"add {' '.join(map(shlex.quote, words))}"] if words else []
        if not is_all:
            said.append("write a --template FILE that makes a question of them")
    else:
        changes = _changes(dataset, found)
        words = [f"{name}={value!r}" for name, value in changes.items()]
        said = [f"write Dataset(rows, {', '.join(words)})"] if words else []
        if not is_all:
            said.append("give it a template that makes a question of them")
    return ", and ".join(said) + "".join(f" ({note})" for note in notes)


def _changes(dataset: Dataset, found: Sequence[_Found]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for one in found:
        changes.update(one.changes)
    if "map" in changes:
        changes["map"] = {**(dataset.map or {}), **changes["map"]}
    return changes


def _share(dataset: Dataset, found: Sequence[_Found]) -> float:
    """Return the share of rows that can be used with this; 0 where it names two of them alike."""
    seen, good, rows = IndexSet(), 0, 0
    try:
        with replace(dataset, **_changes(dataset, found), then=None).open() as stream:
            while rows < _TRIED and (line := stream.readline(MAX_ROW_BYTES)):
                if not line.strip():
                    continue
                rows += 1
                with contextlib.suppress(ValueError):
                    if not seen.add(parse_row(line.strip())["index"]):
                        return 0
                    good += 1
    except JsonlRunnerError:
        return 0  # files in several folders are called alike, and so would be their lines
    return good / max(1, rows)


def _names_each(rows: Sequence[_Row], name: str) -> bool:
    """Return whether a field could be the index of each row."""
    values = [row.get(name) for row in rows]
    if not all(type(value) is int or (isinstance(value, str) and value) for value in values):
        return False
    return len({str(value) for value in values}) == len(values)


def _indices_of(rows: Sequence[_Row]) -> Iterator[_Found]:
    """Yield what may name each row, the likeliest first."""
    names = [name for name in _likely(rows[0], _IDS) if name != "index"]
    names += [name for name in rows[0] if name not in names and _ID_LIKE.search(name)]
    for name in names:
        if _names_each(rows, name):
            yield _Found({"index_field": name}, ("--index-field", name))
    for way in ("line", "content"):
        yield _Found({"auto_index": way}, ("--auto-index", way))


def _likely(row: _Row, names: Sequence[str]) -> list[str]:
    """Return the fields of a row with one of some names, in the order of these."""
    known = {name: place for place, name in enumerate(names)}
    return sorted((f for f in row if f.lower() in known), key=lambda f: known[f.lower()])


def _is_asked(row: _Row) -> bool:
    instruction, messages = row.get("instruction"), row.get("messages")
    if instruction is None or messages is not None:
        return _is_chat(messages)
    return isinstance(instruction, str) and bool(instruction.strip() or row.get("input"))


def _question_of(rows: Sequence[_Row]) -> _Found | None:
    """Return what makes the question of rows; None: nothing in them looks like one."""
    first = rows[0]
    texts = {name for name in first if name != "instruction" and _most(rows, name, _is_text)}
    others = [name for name in first if not _ANSWERS.search(name)]
    for name in _likely(first, QUESTIONS):
        if name in texts:
            return _mapped(instruction=name)
    for name in others:
        if _most(rows, name, _is_chat):
            return _mapped(messages=name)
        instead = {"messages": ""} if name == "messages" else {}
        if _most(rows, name, lambda value: _speakers(value)[:1] == ["human"]):
            mapping = {"instruction": f"{name}.0.value", **instead}
            return _mapped("the first question alone", **mapping)
        if _most(rows, name, lambda value: _speakers(value) == ["system", "human"]):
            mapping = {"instruction": f"{name}.0.value", "input": f"{name}.1.value", **instead}
            return _mapped("the first question, with its system message", **mapping)
    for name in _likely(first, _TURNS):
        if _most(rows, name, _is_texts):
            return _Found({"turns": name}, ("--turns", name))
    left = [name for name in others if name in texts]
    longest = sorted(left, key=lambda name: -len(first[name]) if _is_text(first[name]) else 0)
    for name in (*_likely(dict.fromkeys(left), TEXTS), *longest):
        return _mapped(instruction=name)
    return None


def _mapped(note: str = "", **mapping: str) -> _Found:
    words = [word for item in mapping.items() for word in ("--map", "=".join(item))]
    return _Found({"map": mapping}, tuple(words), note)


def _most(rows: Sequence[_Row], name: str, fits: Callable[[Any], bool]) -> bool:
    """Return whether a field of nearly all rows fits."""
    return sum(fits(row.get(name)) for row in rows) >= _MOST * len(rows)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not value.isspace() and value != ""


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(map(_is_text, value))


def _is_chat(value: Any) -> bool:
    """Return whether this is a conversation in OpenAI's form."""
    return (
        isinstance(value, list)
        and value != []
        and all(
            isinstance(item, dict) and isinstance(item.get("role"), str) and "content" in item
            for item in value
        )
    )


def _speakers(value: Any) -> list[str]:
    """Return who says the first two turns of a conversation in ShareGPT's form; else nobody."""
    found = []
    for item in value[:2] if isinstance(value, list) else ():
        if not isinstance(item, Mapping) or not _is_text(item.get("value")):
            return []
        speaker = item.get("from")
        found.append("human" if speaker in _HUMAN else str(speaker))
    return found
