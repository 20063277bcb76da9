"""A folder of files through three functions of the user's: read, work, write.

A file is done when its output is there: a file in the mirrored folder that has its name up to the
last dot. So an output is there only when it is whole (see `tree`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TextIO

from .clock import Clock, SystemClock
from .engines.base import TICK_S
from .engines.local import LocalEngine
from .errors import (
    ConfigError,
    InputError,
    JsonlRunnerError,
    LedgerError,
    RunInterruptedError,
    RunStoppedError,
)
from .guards import Guards
from .progress import progress
from .records import Outcome, Record
from .secret import MAX_CODE, MAX_MESSAGE, Redactor, shorten
from .signals import stopping
from .summary import RunSummary
from .tree import Staging, folders_of, is_full, names_in, shown, work_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .clock import Stop
    from .config import Config
    from .keys import KeysView
    from .progress import Progress
    from .tree import Room

#: Bytes of stack of one thread: the user's functions may call into deep C code.
_STACK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Steps:
    """What is done with each file, in any of many threads.

    Attributes:
        read: takes the opened text file (UTF-8, with or without a byte order mark), returns data.
        work: takes that data, returns what is to be written.
        write: takes it and a path without extension; writes one file of that name and any
            extension, and others beside it if it likes.
    """

    read: Callable[[TextIO], Any]
    work: Callable[[Any], Any]
    write: Callable[[Any, str], object]


@dataclass(frozen=True)
class FolderJob:
    """What a run over a folder is about.

    Attributes:
        source: the input folder.
        target: the output folder; made when it is not there.
        threads: files at the same time.
        file_count: at most so many of the files that have no output; None: all.
    """

    source: Path
    target: Path
    threads: int
    file_count: int | None = None


def run_folder(
    config: Config,
    job: FolderJob,
    steps: Steps,
    *,
    stop: Stop,
    view: Callable[[], KeysView],
    clock: Clock | None = None,
    shown_on: Progress | None = None,
    calls: RunSummary | None = None,
) -> RunSummary:
    """Do every file below a folder that has no output yet.

    Args:
        config: the settings; its keys are taken out of messages.
        job: the folders.
        steps: what is done with each file.
        stop: ends the run; at the end it is requested in any case.
        view: tells the state of the keys, for the progress line.
        clock: where the time comes from.
        shown_on: shows the progress; None: stderr.
        calls: what the calls made by the steps used, which becomes part of the summary.

    Returns:
        What was done, counted in files.

    Raises:
        InputError: the input folder cannot be used, or two files would have one output.
        LedgerError: the output folder cannot be used, or is full.
        JsonlRunnerError: the run stopped early; its `summary` tells what was done until then.
        RunInterruptedError: SIGINT or SIGTERM; the same.
    """
    clock = clock or SystemClock()
    found = folders_of(job.source, job.target)
    _refuse_collisions(found)
    if not any(files for _, files in found):
        raise InputError(f"{job.source}: there are no files in it")
    if shown_on is None:
        shown_on = progress("jsonl-runner", quiet=False, clock=clock)
    summary = RunSummary(unit="files")
    if calls is not None:
        summary.tokens = calls.tokens
    started = clock.now()
    try:
        _Run(config, stop, clock, summary, shown_on, view).do(job, steps, found)
    except JsonlRunnerError as error:
        if summary.rows is not None:  # else nothing was begun
            summary.stop(error)
            error.summary = summary
        raise
    finally:
        summary.elapsed_s = clock.now() - started
        if calls is not None:
            summary.cost, summary.retried = calls.cost, calls.retried
    return summary


def _refuse_collisions(found: list[tuple[str, list[str]]]) -> None:
    """Refuse files that would share one output.

    Raises:
        InputError: there are two; names both.
    """
    for folder, files in found:
        names: dict[str, str] = {}
        for name in files:
            other = names.setdefault(_stem(name), name)
            if other is not name:
                prefix = folder and f"{folder}/"
                raise InputError(
                    f"{shown(prefix + other)} and {shown(name)} would have one output "
                    f"({shown(_stem(name))}.*), since they differ in the extension only; rename one"
                )


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122  # of a name alone


def _todo(job: FolderJob, found: list[tuple[str, list[str]]], summary: RunSummary) -> list[str]:
    """Return the paths of the files that have no output, and count the others."""
    todo = []
    for folder, files in found:
        if not files:
            continue
        there = {_stem(name) for name in names_in(job.target, folder)}
        prefix = folder and f"{folder}/"
        left = [prefix + name for name in files if _stem(name) not in there]
        summary.skipped += len(files) - len(left)
        todo += left
    if job.file_count is not None and len(todo) > job.file_count:
        later = len(todo) - job.file_count
        summary.note(f"{later:,} more files have no output (file_count {job.file_count:,})")
        del todo[job.file_count :]
    summary.rows = summary.skipped + len(todo)
    return todo


@dataclass(frozen=True)
class _Run:
    """What the thread that leads a run has at hand."""

    config: Config
    stop: Stop
    clock: Clock
    summary: RunSummary
    shown_on: Progress
    view: Callable[[], KeysView]

    def do(self, job: FolderJob, steps: Steps, found: list[tuple[str, list[str]]]) -> None:
        """Do the files of an input folder that have no output.

        Raises:
            JsonlRunnerError: the output folder cannot be used, or the run was stopped.
        """
        with work_folder(job.target) as work:
            staging = Staging(job.target, work)
            todo = _todo(job, found, self.summary)
            for note in self.summary.notes:
                self.shown_on.say(f"note: {note}")
            redact = Redactor(self.config.api_keys)
            worker = _Worker(job.source, steps, staging, self.stop, redact)
            try:
                if todo:
                    self._lead(worker, todo, job.threads)
            finally:
                staging.close()
        reason = self.stop.reason
        is_complete = self.summary.left == 0
        if reason is not None and not (is_complete and isinstance(reason, RunInterruptedError)):
            raise reason

    def _lead(self, worker: _Worker, todo: list[str], threads: int) -> None:
        """Have all files done; return when they are, or the run is stopped.

        That nothing moves is for the maker of the calls to notice.
        """
        # The index is what the file is called, the input its real path.
        records = (Record(shown(name), input=name) for name in todo)
        threads = min(threads, len(todo))
        engine = LocalEngine(worker, threads=threads, stop=self.stop, stack_bytes=_STACK_BYTES)
        guards = Guards(
            self.config,
            self.clock,
            self.stop,
            self.shown_on.say,
            note=self.shown_on.say,
            first_run=not self.summary.skipped,
        )
        looked_at = float("-inf")
        told = False
        try:
            with stopping(self.stop), contextlib.closing(engine.outcomes(records)) as groups:
                for group in groups:
                    if group:
                        self.summary.add(group)
                        guards.counted(self.summary)
                    now = self.clock.now()
                    if now - looked_at < TICK_S:
                        continue
                    looked_at = now
                    self.shown_on.show(self.summary, self.view())
                    if not told and isinstance(self.stop.reason, RunInterruptedError):
                        told = True
                        self.shown_on.say(
                            "stopping: files that were begun may finish; Ctrl-C again ends now"
                        )
        finally:
            self.shown_on.close(self.summary, self.view())


class _Worker:
    """Does one file after the other, in any number of threads."""

    def __init__(
        self, source: Path, steps: Steps, staging: Staging, stop: Stop, redact: Redactor
    ) -> None:
        self._source = source
        self._steps = steps
        self._staging = staging
        self._stop = stop
        self._redact = redact

    def __call__(self, record: Record) -> Outcome | None:
        """Return what came of a file; None when the run stops before it is known."""
        try:
            return self._do(record)
        except _Failed as failure:
            return self._failed(record, failure.code, str(failure))
        except BaseException as error:  # noqa: BLE001  # the user's code may raise anything
            return self._judge(record, error)

    def _do(self, record: Record) -> Outcome | None:
        path = PurePosixPath(record.input)
        try:
            with (self._source / path).open(encoding="utf-8-sig") as stream:
                data = self._steps.read(stream)
        except UnicodeDecodeError as error:
            raise _Failed(
                "not_text",
                f"its byte {error.start:,} is no {error.encoding}, and UTF-8 text is expected; "
                "convert it (iconv -t UTF-8)",
            ) from None
        result = self._steps.work(data)
        with self._staging.room(str(path.parent)) as room:
            self._steps.write(result, str(room.folder / _stem(path.name)))
            is_there = self._place(room, path)
        return Outcome(record.index, "") if is_there else None

    def _place(self, room: Room, path: PurePosixPath) -> bool:
        """Bring what was written to its place.

        Raises:
            _Failed: it is not there, or has a name by which nobody would find it.
        """
        stem = _stem(path.name)

        def is_output(name: str) -> bool:
            made = PurePosixPath(name)
            return made.parent == path.parent and _stem(made.name) == stem

        names = room.names()
        if not names:
            raise _Failed(
                "no_output",
                "process_output wrote nothing to output_file_without_ext; write the result to "
                "that path plus an extension",
            )
        if not any(map(is_output, names)):
            raise _Failed(
                "no_output",
                f"process_output wrote {names[0]}, by which this file would not be known as done: "
                f"write to output_file_without_ext plus one extension ({stem}.txt)",
            )
        return room.place(is_output)

    def _judge(self, record: Record, error: BaseException) -> Outcome | None:
        """Return the failure an exception is; None where it says nothing about the file."""
        if isinstance(error, KeyboardInterrupt):  # from a library: the signal goes elsewhere
            self._stop.request(RunInterruptedError(signal.SIGINT))
            return None
        if self._stop.aborted or (self._stop.requested and _is_of_the_stop(error)):
            return None
        if isinstance(error, ConfigError):  # would come again for every file
            self._stop.request(error)
            return None
        if is_full(error):
            assert isinstance(error, OSError)  # noqa: S101  # tells mypy
            self._stop.request(
                LedgerError(
                    f"{record.index}: its output cannot be written ({error.strerror}); make room "
                    "and run it again, it goes on where it stopped"
                )
            )
            return None
        code, message = type(error).__name__, str(error)
        if isinstance(error, JsonlRunnerError):  # one of ours may have a better word
            code = getattr(error, "code", code)
            message = message.removeprefix(f"{code}: ")
        return self._failed(record, code, message)

    def _failed(self, record: Record, code: str, message: str) -> Outcome:
        message = " ".join(self._redact(message).split()) or "no message"
        return Outcome(
            record.index,
            None,
            code=shorten(self._redact(code), MAX_CODE),
            message=shorten(message, MAX_MESSAGE),
        )


class _Failed(Exception):  # noqa: N818  # never leaves this room
    """A file failed for a reason of ours."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _is_of_the_stop(error: BaseException | None) -> bool:
    """Return whether an exception, or what it came of, says that the run is stopping."""
    seen = 0
    while error is not None and seen < 100:  # a chain may be a circle
        if isinstance(error, (RunStoppedError, KeyboardInterrupt)):
            return True
        error = error.__cause__ or error.__context__
        seen += 1
    return False
