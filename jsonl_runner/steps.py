"""The three steps of a folder of files as users write them, and the calls they make.

A step knows nothing of keys: what it asks through `request_openai_api` or `multi_process_one` goes
to the session of the folder's run, found by its context.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from . import jsontext
from .clock import SystemClock
from .errors import ConfigError
from .folder import FolderJob, Steps, run_folder
from .keys import KeysView
from .models import CallFailedError, Prompt, record_of
from .progress import progress
from .session import Session, current, missed
from .summary import Named

if TYPE_CHECKING:
    from collections.abc import Callable

    from .assembly import StandIn
    from .clock import Stop
    from .config import Config
    from .records import Outcome
    from .summary import RunSummary

_T = TypeVar("_T")

#: Files at the same time where there is neither a setting nor a key to go by.
_DEFAULT_THREADS = 16
_NO_KEYS = KeysView(0, 0, 0, in_flight=0, calls=0, waiting_for="", trouble="")


def read_text(file: TextIO) -> str:
    """Return the file's text: what is done with a file whose reading nobody has overridden."""
    return file.read()


def ask(data: object) -> str:
    """Return the model's answer to a text; the same, of the work.

    Raises:
        CallFailedError: there is none.
        ConfigError: the data is no text, or this is not called for a file of a folder.
    """
    session = current.get()
    if session is None or not isinstance(data, str):
        raise ConfigError(
            f"process_data: asks the model about a text, and was given a {type(data).__name__}; "
            "override it"
            if session is not None
            else "process_data: works within run() of a folder only"
        )
    outcome = session.ask(record_of(Prompt(data)))
    if outcome.output is None:
        raise CallFailedError(outcome.code, outcome.message, outcome.raw)
    return outcome.output


def write_result(data: object, output_file_without_ext: str) -> None:
    """Write a text as `.txt`, anything else as `.json`; the same, of the writing."""
    if isinstance(data, str):
        Path(output_file_without_ext + ".txt").write_text(data, encoding="utf-8", newline="")
    else:
        Path(output_file_without_ext + ".json").write_bytes(jsontext.dump(data) + b"\n")


@dataclass(frozen=True)
class Folder:
    """What a run over a folder is about.

    Attributes:
        source: the input folder.
        target: the output folder.
        file_count: at most so many of the files that have no output; None: all.
        name: stands before the progress bar.
        quiet: whether nothing is shown on the way.
        asks: whether the work is `ask`, which needs a key; other work may need none.
    """

    source: Path
    target: Path
    file_count: int | None = None
    name: str = "jsonl-runner"
    quiet: bool = False
    asks: bool = False


def run_steps(
    config: Config, folder: Folder, steps: Steps, *, stop: Stop, function: StandIn | None = None
) -> RunSummary:
    """Do every file below a folder that has no output yet; see `folder.run_folder`.

    Args:
        config: the settings.
        folder: the folders.
        steps: what is done with each file.
        stop: ends the run.
        function: stands in for the provider where a call brings no function of its own.

    Returns:
        What was done, counted in files; its `notes` name those in which a call came to nothing.

    Raises:
        JsonlRunnerError: as `run_folder`.
    """
    shown = progress(folder.name, quiet=folder.quiet, clock=SystemClock())
    session = None
    if config.api_keys or function is not None or folder.asks:
        session = Session(
            config, function=function, stop=stop, note=lambda text: shown.say(f"note: {text}")
        )
    calls = _Calls(session, folder.source)
    threads = config.threads or (session.threads if session else _DEFAULT_THREADS)
    try:
        summary = run_folder(
            config,
            FolderJob(folder.source, folder.target, threads, folder.file_count),
            Steps(calls.of_file(steps.read), calls.within(steps.work), calls.within(steps.write)),
            stop=stop,
            view=session.view if session else lambda: _NO_KEYS,
            shown_on=shown,
            calls=session.summary if session else None,
        )
    finally:
        if session is not None:
            session.close()
    for note in session.summary.notes if session else ():  # these have been said
        summary.note(note)
    if calls.missed.count:
        names = ", ".join(calls.missed.examples)
        more = ", …" if calls.missed.count > len(calls.missed.examples) else ""
        note = (
            f"{calls.missed.count:,} files were written though calls in them came to nothing and "
            f"gave None: {names}{more}; to have them done again, raise an error in process_data "
            "where an answer is None, and delete these outputs"
        )
        summary.note(note)
        shown.say(f"note: {note}")
    return summary


class _Calls:
    """Leads the calls of the steps to the session, and knows whose came to nothing.

    Args:
        session: makes the calls; None: there is no key, and a call says so.
        source: the input folder.
    """

    def __init__(self, session: Session | None, source: Path) -> None:
        self._session = session
        self._source = source
        self._local = threading.local()
        self._lock = threading.Lock()
        #: Files in which a call came to nothing.
        self.missed = Named()

    def of_file(self, read: Callable[[TextIO], Any]) -> Callable[[TextIO], Any]:
        """Return the first step of a file; the others follow in the same thread."""

        def reading(file: TextIO) -> Any:
            self._local.file = Path(file.name).relative_to(self._source).as_posix()
            return self.within(read)(file)

        return reading

    def within(self, step: Callable[..., _T]) -> Callable[..., _T]:
        """Return a step whose calls go to the session."""

        def doing(*args: Any) -> _T:
            came_to_nothing: list[Outcome] = []
            of_session, of_missed = current.set(self._session), missed.set(came_to_nothing)
            try:
                return step(*args)
            finally:
                current.reset(of_session)
                missed.reset(of_missed)
                if came_to_nothing:
                    with self._lock:
                        self.missed.add(self._local.file)

        return doing
