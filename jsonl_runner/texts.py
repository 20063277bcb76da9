"""A folder of texts through one instruction: text in, text out, over a ledger.

Each text, or each part of a long one, is a row of a data file in the output folder's work folder,
and a run does these rows; so no answer is paid for twice. An output is written as soon as all its
parts are answered. When every file has its output, data and ledger are removed: the outputs are the
result. A deleted output is done anew.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from . import indexfile, jsontext
from .atomic import replacing
from .errors import ConfigError, InputError, JsonlRunnerError
from .job import Job
from .joining import Joiner, Text, Written, index_of
from .locking import lock_path
from .rows import MAX_ROW_BYTES
from .runner import run
from .summary import RunSummary, failed_lines
from .tree import Staging, folders_of, names_in, shown, work_folder
from .watching import Views

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from .assembly import StandIn
    from .clock import Clock, Stop
    from .config import Config

#: What lies in the work folder: the rows, their ledger, and which outputs have been written.
DATA, LEDGER, WRITTEN = "data.jsonl", "ledger.jsonl", "written.jsonl"
_TOO_LONG = (
    f"too_long: more than {MAX_ROW_BYTES / 2**20:g} MiB of text at once; --split-tokens makes parts"
)


@dataclass(frozen=True)
class TextsJob:
    r"""What a run over a folder of texts is about.

    Attributes:
        source: the input folder; its files are UTF-8 texts.
        target: the output folder; made when it is not there.
        instruction: what to do with each text.
        globs: which files; a pattern without `/` is for names, one with it for paths from `source`
            on. Empty: all that are not hidden.
        suffix: takes the place of the extension of a file's name; None: the same name.
        file_count: at most so many of the files that have no output; None: all.
        split_tokens: a longer text is cut into parts of at most so many tokens; None: never.
        split_at: where it may be cut.
        split_model: whose tokens are counted; None: the configured model's.
        join: stands between the parts' results; None: the white space that was around each part
            (so that lines and paragraphs stay as they were).
        name: stands before the progress bar.
        quiet: whether nothing is shown on the way.
        views: how it is watched, beside its progress.
    """

    source: Path
    target: Path
    instruction: str
    globs: tuple[str, ...] = ()
    suffix: str | None = None
    file_count: int | None = None
    split_tokens: int | None = None
    split_at: str = "\n"
    split_model: str | None = None
    join: str | None = None
    name: str = "jsonl-runner files"
    quiet: bool = False
    views: Views = Views()  # noqa: RUF009  # frozen

    def check(self) -> None:
        """Check what can be wrong without looking at a file.

        Raises:
            ConfigError: something is.
        """
        if not self.instruction.strip():
            raise ConfigError("the instruction is empty: say what to do with each text")
        if self.suffix is not None and (
            not self.suffix.startswith(".") or "/" in self.suffix or "\\" in self.suffix
        ):
            raise ConfigError(f"suffix must begin with a dot, such as .md, not {self.suffix!r}")
        for name in ("file_count", "split_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if self.split_tokens is not None and not self.split_at:
            raise ConfigError("split_at is empty: say at which text a long one may be cut")

    def takes(self, name: str) -> bool:
        """Return whether a file, named by its path from `source` on, is asked for."""
        return not self.globs or any(_matches(name, pattern) for pattern in self.globs)

    def output_of(self, name: str) -> str:
        """Return the path of a file's output from `target` on."""
        return name if self.suffix is None else os.path.splitext(name)[0] + self.suffix  # noqa: PTH122

    def parts_of(self, text: str, model: str) -> list[str]:
        """Return a text in parts."""
        if self.split_tokens is None:
            return [text] if text else []
        from .tokens import split_string_by_tokens  # noqa: PLC0415  # takes a while

        model = self.split_model or model
        return split_string_by_tokens(text, self.split_tokens, self.split_at, model)


@dataclass
class FilesSummary:
    """What a run over a folder of texts did.

    Attributes:
        files: files that were asked for.
        skipped: those that had their output before.
        written: those whose output was written now.
        failed: those that have none, each with the reason.
        calls: what was called; a row is a text or a part of one.
        notes: what was put right or is odd.
    """

    files: int = 0
    skipped: int = 0
    written: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    calls: RunSummary = field(default_factory=lambda: RunSummary(rows=0))
    notes: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Files that were not tried, or not to the end."""
        return self.files - self.skipped - self.written - len(self.failed)

    @property
    def exit_code(self) -> int:
        """What the command line exits with."""
        return self.calls.stop_code or int(bool(self.failed))

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "files": self.files,
            "skipped": self.skipped,
            "written": self.written,
            "failed": self.failed,
            "left": self.left,
            "notes": self.notes,
            "calls": self.calls.to_dict(),
            "exit_code": self.exit_code,
        }

    def lines(self) -> list[str]:
        """Return it for people, a line each."""
        before = f", {self.skipped:,} had an output before" if self.skipped else ""
        lines = [
            f"files: {self.written:,} written, {len(self.failed):,} failed, {self.left:,} left"
            + before,
            *failed_lines(self.failed),
        ]
        if self.calls.rows:
            first, *more = replace(self.calls, failures={}).lines()
            lines += [f"calls: {first}", *more]
        return lines


def run_texts(
    config: Config,
    job: TextsJob,
    *,
    function: StandIn | None = None,
    clock: Clock | None = None,
    stop: Stop | None = None,
) -> FilesSummary:
    """Do every text below a folder that has no output yet.

    Args:
        config: the settings.
        job: the folders, and what to do.
        function: stands in for the provider.
        clock: where the time comes from.
        stop: ends the run; None: a wish of its own.

    Raises:
        JsonlRunnerError: nothing was begun (configuration, folders, another run), or the run
            stopped early; then its `summary` tells what was done until then.
        RunInterruptedError: SIGINT or SIGTERM; the same.
    """
    job.check()
    found = [
        (folder, [name for name in files if job.takes(_path(folder, name))])
        for folder, files in folders_of(job.source, job.target)
    ]
    if not any(files for _, files in found):
        which = f" that matches {' or '.join(job.globs)}" if job.globs else ""
        raise InputError(f"{job.source}: there is no file in it{which}")
    _refuse_collisions(job, found)
    with work_folder(job.target) as work, contextlib.ExitStack() as stack:
        staging = Staging(job.target, work)
        stack.callback(staging.close)
        written = Written(work / WRITTEN)
        stack.callback(written.close)
        return _Texts(config, job, work, staging, written).go(found, function, clock, stop)


def _path(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _matches(name: str, pattern: str) -> bool:
    if "/" not in pattern:
        return fnmatch.fnmatchcase(name.rpartition("/")[2], pattern)
    # `**/` is any number of folders, none included.
    return any(
        fnmatch.fnmatchcase(name, form)
        for form in (pattern, pattern.replace("**/", ""), pattern.removeprefix("**/"))
    )


def _refuse_collisions(job: TextsJob, found: list[tuple[str, list[str]]]) -> None:
    """Refuse files that would have one output.

    Raises:
        InputError: there are two; names both.
    """
    if job.suffix is None:
        return
    for folder, files in found:
        names: dict[str, str] = {}
        for name in files:
            output = job.output_of(name)
            other = names.setdefault(output, name)
            if other is not name:
                raise InputError(
                    f"{shown(_path(folder, other))} and {shown(name)} would have one output "
                    f"({shown(output)}): leave --suffix out, rename one, or choose with --glob"
                )


class _Texts:
    """The state of one run."""

    def __init__(
        self, config: Config, job: TextsJob, work: Path, staging: Staging, written: Written
    ) -> None:
        self._config = config
        self._job = job
        self._work = work
        self._written = written
        self._summary = FilesSummary()
        self._joiner = Joiner(work / LEDGER, staging, written, self._summary.failed, job.join)
        #: Files that have no output and are beyond file_count.
        self._later = 0

    def go(
        self,
        found: list[tuple[str, list[str]]],
        function: StandIn | None,
        clock: Clock | None,
        stop: Stop | None,
    ) -> FilesSummary:
        for left in self._work.glob(f".{DATA}.*.tmp"):  # of a run that was killed
            left.unlink(missing_ok=True)
        summary = self._summary
        todo = self._todo(found)
        joiner = self._joiner
        try:
            with contextlib.closing(joiner):
                with replacing(self._work / DATA) as data:
                    for name in todo:
                        self._plan(name, data)
                joiner.read_ledger()
                joiner.write_what_is_complete()
                if joiner.waiting:
                    summary.calls = self._call(function, clock, stop)
        except JsonlRunnerError as error:
            if isinstance(error.summary, RunSummary):
                summary.calls = error.summary
                error.summary = summary
            raise
        finally:
            summary.written = joiner.written
        if not (summary.failed or summary.left or self._later or joiner.has_others):
            ledger = self._work / LEDGER
            # A killed run's lock stays where no run came after it: all was answered.
            for path in (ledger, self._work / DATA, lock_path(ledger), indexfile.path_for(ledger)):
                path.unlink(missing_ok=True)
            self._written.forget()
        return summary

    def _call(self, function: StandIn | None, clock: Clock | None, stop: Stop | None) -> RunSummary:
        job = Job(
            self._work / DATA,
            self._work / LEDGER,
            name=self._job.name,
            quiet=self._job.quiet,
            views=self._job.views,
            settled=self._joiner.settled,
        )
        return run(self._config, job, function=function, clock=clock, stop=stop)

    def _todo(self, found: list[tuple[str, list[str]]]) -> list[str]:
        """Return the paths of the files that have no output, and count all."""
        job, summary = self._job, self._summary
        todo: list[str] = []
        for folder, files in found:
            if not files:
                continue
            there = names_in(job.target, folder)
            for name in files:
                path, output = _path(folder, name), job.output_of(name)
                if output in there:
                    summary.skipped += 1
                    self._joiner.add_there(shown(path), _path(folder, output))
                else:
                    todo.append(path)
        if job.file_count is not None and len(todo) > job.file_count:
            self._later = len(todo) - job.file_count
            summary.notes.append(
                f"{self._later:,} more files have no output (file_count {job.file_count:,})"
            )
            del todo[job.file_count :]
        summary.files = summary.skipped + len(todo)
        return todo

    def _plan(self, name: str, data: IO[bytes]) -> None:
        """Write the rows of a file, and tell the joiner of it."""
        try:
            parts = self._read(name)
            rows = list(self._rows(name, parts))
        except (OSError, ValueError) as error:
            self._summary.failed[shown(name)] = str(error)
            return
        for _, row in rows:
            data.write(row)
        keep_edges = self._job.split_tokens is not None and self._job.join is None
        indices = [index for index, _ in rows]
        text = Text(self._job.output_of(name), parts, indices, keep_edges=keep_edges)
        self._joiner.add(shown(name), text)

    def _read(self, name: str) -> list[str]:
        """Return a file's text in parts.

        Raises:
            ValueError: it is no UTF-8 text.
            OSError: it cannot be read.
        """
        path = self._job.source / name
        try:
            if self._job.split_tokens is None and path.stat().st_size > MAX_ROW_BYTES:
                raise ValueError(_TOO_LONG)
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"not_text: its byte {error.start:,} is no UTF-8, which is expected; convert it "
                "(iconv -t UTF-8)"
            ) from None
        except OSError as error:
            raise OSError(f"cannot be read ({error.strerror})") from None
        return self._job.parts_of(text, self._config.model)

    def _rows(self, name: str, parts: list[str]) -> Iterator[tuple[str, bytes]]:
        """Yield index and line of each part that is more than white space.

        Raises:
            ValueError: one is too large.
        """
        instruction = self._job.instruction
        generation = self._written.times(self._job.output_of(name))
        for number, part in enumerate(parts):
            if not part.strip():
                yield "", b""
                continue
            digest = blake2b(f"{len(instruction)} {instruction}{part}".encode(), digest_size=8)
            index = index_of(shown(name), number, digest.hexdigest(), generation)
            row = jsontext.dump({"index": index, "instruction": instruction, "input": part})
            if len(row) > MAX_ROW_BYTES:
                raise ValueError(_TOO_LONG)
            yield index, row + b"\n"
