"""A provider's result files as text: a file for each request, or one JSONL of them all."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import jsontext
from .atomic import replacing
from .batch.results import Fate, result_lines
from .errors import InputError, LedgerError
from .indexes import IndexSet
from .lines import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .batch.results import ResultLine

#: Characters of a file name that are kept; file systems allow 255 bytes.
_MAX_NAME = 200
_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")
#: Names that Windows keeps for devices, whatever stands behind their dot.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
#: Where the requests without a text are, in a folder of texts.
FAILED = "failed.jsonl"


@dataclass
class Converted:
    """What result files held.

    Attributes:
        results: requests that have one.
        texts: of them, those with a text.
        repeated: results of a request that had its text already; left out.
        failed: requests without a text, by code.
        fates: the same by what is to be done about them: `passing`, `blocked`, `lasting`.
    """

    results: int = 0
    texts: int = 0
    repeated: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)


class _Sink(Protocol):
    def put(self, name: str, entry: dict[str, Any]) -> None: ...


def convert_to_jsonl(
    sources: Sequence[Path], target: Path, *, ids: Path | None = None
) -> Converted:
    """Write a line for each result: `{custom_id, text, model, usage, finish_reason, error}`.

    `text` is null where there is none; `error` then says why: `{code, message, fate}`. With `ids`
    there is an `index` behind the custom_id. Memory does not grow with the files.

    Args:
        sources: output and error files of batches, in OpenAI's form or Anthropic's.
        target: the file to write; it is whole or not there.
        ids: what `jsonl-runner requests` wrote beside its file; None: custom_ids are the names.

    Raises:
        InputError: a file is missing, or is no result file.
        LedgerError: the target cannot be written.
    """
    for source in (*sources, *([ids] if ids else [])):
        if target.exists() and source.exists() and target.samefile(source):
            raise InputError(f"{target}: this would overwrite {source}; name another output")
    with replacing(target) as stream:

        class Lines:
            @staticmethod
            def put(_name: str, entry: dict[str, Any]) -> None:
                stream.write(_line_of(entry))

        return _convert(sources, Lines(), _indices(ids))


def convert_to_files(
    sources: Sequence[Path], folder: Path, *, ids: Path | None = None
) -> Converted:
    """Write each text into a file of its own, and what has none into `failed.jsonl`.

    Files are called as their custom_id (or index) with `.txt`; what a file name cannot hold is
    written as `%2F` and the like. The folder is there with all of them, or not at all.

    Args:
        sources: as `convert_to_jsonl` takes them.
        folder: must be new or empty.
        ids: as `convert_to_jsonl` takes it.

    Raises:
        InputError: a file is missing, or is no result file; the folder holds something.
        LedgerError: the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is there already and not an empty folder; name another")
    if not folder.parent.is_dir():
        raise LedgerError(f"{folder}: its folder does not exist; make it first")
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            (work / "texts").mkdir()  # with the usual rights, which mkdtemp's own has not
            with contextlib.closing(_Folder(work / "texts")) as sink:
                converted = _convert(sources, sink, _indices(ids))
            if folder.exists():
                folder.rmdir()
            (work / "texts").replace(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise LedgerError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return converted


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = IndexSet()
        self._failed = (folder / FAILED).open("xb")

    def put(self, name: str, entry: dict[str, Any]) -> None:
        if entry["text"] is None:
            self._failed.write(_line_of(entry))
            return
        file = safe = file_name(name)
        number = 1
        while not self._names.add(file.lower()):  # "A" and "a" are one file on some systems
            number += 1
            file = f"{safe}%-{number}"
        (self._folder / f"{file}.txt").write_bytes(entry["text"].encode("utf-8", "replace"))

    def close(self) -> None:
        is_empty = not self._failed.tell()
        self._failed.close()
        if is_empty:
            (self._folder / FAILED).unlink()


def _line_of(entry: dict[str, Any]) -> bytes:
    try:
        return jsontext.dump(entry) + b"\n"
    except RecursionError:  # of the entry's fields, only usage is as the provider sent it
        return jsontext.dump({**entry, "usage": None}) + b"\n"


def file_name(name: str) -> str:
    """Return a file name for any text: one component, never hidden, different for different texts.

    Letters, digits and `._-` of ASCII stay, but for a dot at the start; other bytes of UTF-8 become
    `%` and two hexadecimal digits. What would be too long ends with a digest. (Names that differ
    in case only stay so.)
    """
    safe = _UNSAFE.sub(
        lambda found: b"%%%02X" % found[0][0], name.encode("utf-8", "surrogatepass")
    ).decode()
    if safe.startswith("."):
        safe = f"%2E{safe[1:]}"
    if _DEVICES.match(safe):
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    if len(safe) > _MAX_NAME:
        safe = f"{safe[:_MAX_NAME]}%-{_digest(name)}"
    return safe


def _digest(name: str) -> str:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _indices(ids: Path | None) -> dict[str, str] | None:
    """Return the index of each hashed custom_id."""
    if ids is None:
        return None
    if not ids.is_file():
        raise InputError(f"{ids}: there is no such file of ids; check the path")
    found = {}
    for number, (_, line) in enumerate(read_lines(ids), 1):
        try:
            entry = jsontext.load(line)
            found[str(entry["custom_id"])] = str(entry["index"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f'{ids}:{number}: is not {{"custom_id": …, "index": …}}; it is written by '
                "jsonl-runner requests"
            ) from None
    return found


def _convert(sources: Sequence[Path], sink: _Sink, indices: Mapping[str, str] | None) -> Converted:
    converted = Converted()
    done = IndexSet()
    for source in sources:
        for number, found in _results(source):
            custom_id = found.custom_id
            if custom_id is not None and custom_id in done:
                converted.repeated += 1
                continue
            converted.results += 1
            entry: dict[str, Any] = {"custom_id": custom_id}
            name = f"line {number} of {source.name}" if custom_id is None else custom_id
            if indices is not None:
                entry["index"] = name = indices.get(name, name)
            answer = found.verdict.answer
            if found.fate is Fate.DONE and answer is not None:
                converted.texts += 1
                if custom_id is not None:
                    done.add(custom_id)
                entry.update(text=answer.text, model=answer.model, usage=answer.usage)
                entry.update(finish_reason=answer.finish_reason, error=None)
            else:
                converted.failed[found.verdict.code] += 1
                converted.fates[found.fate.value] += 1
                entry.update(_without_text(found))
            sink.put(name, entry)
    _refuse_strange(sources, converted)
    return converted


def _without_text(found: ResultLine) -> dict[str, Any]:
    verdict, answer = found.verdict, found.verdict.answer
    return {
        "text": None,
        "model": answer.model if answer else None,
        "usage": answer.usage if answer else None,
        "finish_reason": answer.finish_reason if answer else None,
        "error": {"code": verdict.code, "message": verdict.message, "fate": found.fate.value},
    }


def _results(source: Path) -> Iterator[tuple[int, ResultLine]]:
    try:
        with source.open("rb") as stream:
            yield from result_lines(stream)
    except FileNotFoundError:
        raise InputError(f"{source}: there is no such file; check the path") from None
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None


def _refuse_strange(sources: Sequence[Path], converted: Converted) -> None:
    names = ", ".join(str(source) for source in sources)
    if not converted.results:
        raise InputError(f"{names}: there is not one result in it")
    if converted.failed["malformed"] == converted.results:
        raise InputError(
            f"{names}: not one line is a result of a batch; give the provider's output or error "
            "file"
        )
