"""The Python facade: `ParallelToolkit`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from . import config as settings
from . import passes
from .aio import each, in_thread, outcome_of, outcomes_of
from .answering import answer
from .clock import Stop, SystemClock
from .dataset import Dataset
from .errors import ConfigError, RunInterruptedError, RunStoppedError
from .folder import Steps
from .job import Job
from .merge import merge
from .models import (
    CallFailedError,
    OpenAIModel,
    Prompt,
    check_model,
    prompt_of,
    prompts_of,
    question_of,
    record_of,
    stand_in_of,
)
from .progress import progress
from .session import Session
from .steps import Folder, ask, read_text, run_steps, write_result
from .texts import TextsJob, run_texts

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence

    from .appendfile import FsyncPolicy
    from .dataset import Data
    from .judging import Judge
    from .merge import MergeSummary
    from .records import Outcome, Record
    from .session import Call
    from .summary import RunSummary
    from .survey import BadRowsPolicy
    from .texts import FilesSummary

_Index = TypeVar("_Index", int, str)


class ParallelToolkit:
    """Pushes prompts through an LLM API: many keys, many threads, resumable.

    Args:
        config_path: a JSON or YAML file with keys and settings; None takes `config.json` or
            `config.yaml` in the current folder if there is one, and the environment.
        input_path: the file with the rows (`index`, `instruction`, `input`): JSONL, CSV, Parquet
            and so on; or the rows themselves, as mappings (a list of them, a table of pandas or
            polars, a `Dataset` of Hugging Face); or a `Dataset` of ours, of several files or of
            rows to be made into ours.
        output_path: the ledger, `{"<index>": output | null}` a line.
        max_retries: tries after the first for what may pass; None: as configured (5).
        threads: calls at the same time; None: as configured (keys x 16).
        name: stands before the progress bar.
        openai_model: model and parameters; None: as configured.
        call: `call(instruction, input) -> str` that stands in for the provider.
        bad_rows: `fail` or `skip`: what to do about rows that cannot be used.
        fsync: `always`, `group` or `off`: when the ledger is forced onto the disk.
        redo_changed: whether rows whose content has changed are called again.
        judge: asks a model about each output when all are there; see `judging.Judge`.
        quiet: whether nothing is shown on the way.
        overrides: other settings by name, as in the configuration file.

    Raises:
        ConfigError: the configuration is wrong.
    """

    def __init__(  # noqa: PLR0913  # the older toolkits' names, and what came since
        self,
        config_path: str | Path | None = None,
        input_path: Data | Iterable[Mapping[str, Any]] | None = None,
        output_path: str | Path | None = None,
        *,
        max_retries: int | None = None,
        threads: int | None = None,
        num_threads: int | None = None,
        file_count: int | None = None,
        name: str = "ParallelToolkit Progress",
        openai_model: OpenAIModel | None = None,
        log_level: int = logging.WARNING,
        call: Callable[[str, str], str] | None = None,
        bad_rows: BadRowsPolicy = "fail",
        fsync: FsyncPolicy = "group",
        redo_changed: bool = False,
        judge: Judge | None = None,
        quiet: bool = False,
        **overrides: Any,
    ) -> None:
        self._input = _data_of(input_path)
        self._output = None if output_path is None else Path(output_path)
        self._name = name
        self._quiet = quiet or log_level > logging.WARNING
        self._file_count = file_count
        self._bad_rows = bad_rows
        self._fsync = fsync
        self._redo_changed = redo_changed
        self._judge = judge
        if openai_model is not None:
            check_model(openai_model)
            overrides["model"] = openai_model.model_name
            given = overrides.get("params")
            if given is None or isinstance(given, dict):  # anything else is for `load` to refuse
                overrides["params"] = {**openai_model.params, **(given or {})}
        if threads is not None and num_threads is not None:
            raise ConfigError("threads and num_threads are two names of one thing: give one")
        threads = num_threads if threads is None else threads
        overrides.update(max_retries=max_retries, threads=threads)
        self.config = settings.load(config_path, overrides)
        self._function = stand_in_of(openai_model, call)
        self._lock = threading.Lock()
        self._session: Session | None = None

    @staticmethod
    def process_input(file: TextIO) -> Any:
        """Return the data of one file of a folder; may be overridden.

        Args:
            file: opened for reading, as UTF-8 text.

        Returns:
            What `process_data` takes; here the file's text.
        """
        return read_text(file)

    @staticmethod
    def process_data(data: Any) -> Any:
        """Return what is to be written for one file of a folder; may be overridden.

        Single calls (`request_openai_api`, `multi_process_one`) in it take the keys of this run.

        Args:
            data: what `process_input` returned.

        Returns:
            What `process_output` takes; here the model's answer to the data, which must be a text.

        Raises:
            CallFailedError: there is no answer. Any exception fails this file alone; the next run
                tries it again.
        """
        return ask(data)

    @staticmethod
    def process_output(data: Any, output_file_without_ext: str) -> None:
        """Write the result of one file of a folder; may be overridden.

        The path leads to a place of its own: what is written there comes to its place in the output
        folder when it is whole.

        Args:
            data: what `process_data` returned; here a text is written as `.txt`, all else as
                `.json`.
            output_file_without_ext: where to write, but for an extension (`.json`).
        """
        write_result(data, output_file_without_ext)

    def run(self) -> RunSummary:
        """Do what has no output yet: every row of the input file, or every file of the folder.

        It is a folder's run where `input_path` is a folder, or where one of `process_input`,
        `process_data` and `process_output` is overridden: the files below it are done in parallel,
        each through these three, and the output folder gets the same tree. A file is done when its
        output is there, whatever its extension; an exception fails one file alone.

        Returns:
            What was done, counted in rows or in files.

        Raises:
            JsonlRunnerError: nothing was begun, or the run stopped early (see its `summary`).
            KeyboardInterrupt: Ctrl-C; what was answered is written.
        """
        return self._run(Stop())

    async def arun(self) -> RunSummary:
        """Do what `run` does, for a coroutine.

        When its task is cancelled (`task.cancel()`, `asyncio.timeout`), calls under way end, what
        was answered is written, and the next run goes on there.

        Raises:
            JsonlRunnerError: as `run`.
        """
        stop = Stop()
        return await in_thread(lambda: self._run(stop), stop)

    def _run(self, stop: Stop) -> RunSummary:
        data, output = self._paths()
        try:
            if self._has_steps() or (isinstance(data, Path) and data.is_dir()):
                data = _folder_of(data)
                asks = type(self).process_data is ParallelToolkit.process_data
                folder = Folder(data, output, self._file_count, self._name, self._quiet, asks)
                steps = Steps(self.process_input, self.process_data, self.process_output)
                return run_steps(self.config, folder, steps, stop=stop, function=self._function)
            return self._run_rows(data, output, stop)
        except RunInterruptedError as error:
            raise KeyboardInterrupt(str(error)) from error

    def _has_steps(self) -> bool:
        return any(
            getattr(type(self), name) is not getattr(ParallelToolkit, name)
            for name in ("process_input", "process_data", "process_output")
        )

    def _run_rows(self, data: Data, output: Path, stop: Stop) -> RunSummary:
        job = Job(
            data,
            output,
            bad_rows=self._bad_rows,
            fsync=self._fsync,
            redo_changed=self._redo_changed,
            name=self._name,
            quiet=self._quiet,
        )
        return passes.run(self.config, job, judge=self._judge, function=self._function, stop=stop)

    def files(self, instruction: str, **options: Any) -> FilesSummary:
        """Send every text below the folder `input_path` with one instruction; see `run_texts`.

        Args:
            instruction: what to do with each text.
            options: of `texts.TextsJob`: globs, suffix, split_tokens, split_at, join.

        Returns:
            What was done, counted in files and in calls.

        Raises:
            JsonlRunnerError, KeyboardInterrupt: as `run`.
        """
        source, target = self._paths()
        given = {"name": self._name, "quiet": self._quiet, "file_count": self._file_count}
        job = TextsJob(_folder_of(source), target, instruction, **{**given, **options})
        try:
            return run_texts(self.config, job, function=self._function)
        except RunInterruptedError as error:
            raise KeyboardInterrupt(str(error)) from error

    def merge(self, target: str | Path, *, keep_null: bool = False, **options: Any) -> MergeSummary:
        """Write input and outputs as training data, in the format the target's suffix says.

        Args:
            target: the file to write; `.json` makes an array of `{index, instruction, input,
                output}` and the row's other fields.
            keep_null: whether rows without an output are written, with `null`.
            options: of `merge.merge`: format, fields, split, seed, dedupe, drop_reasons, tools.
        """
        data, output = self._paths()
        skips = "skip" if self._bad_rows == "skip" else None  # None: as the run did
        given = {"bad_rows": skips, "keep_null": keep_null, **options}
        return merge(data, output, Path(target), **given)

    def api(self, prompt: Prompt | str) -> str:
        """Return the model's text for one prompt; a text alone is what the user says.

        Raises:
            CallFailedError: there is none; `code` says why.
            ConfigError: there is no key.
            RunStoppedError: no key or endpoint can serve.
            KeyboardInterrupt: Ctrl-C.
        """
        return _output(self._asking().ask(record_of(prompt_of(prompt))))

    async def aapi(self, prompt: Prompt | str) -> str:
        """Return the model's text for one prompt; as many at the same time as one likes.

        At most `threads` calls are under way at the same time, the others wait their turn. When the
        task is cancelled, its call is given up: no retry, and the connection ends.

        Raises:
            CallFailedError, ConfigError, RunStoppedError: as `api`.
        """
        return _output(await outcome_of(self._asking().submit(record_of(prompt_of(prompt)))))

    async def astream(
        self,
        records: Iterable[Any] | AsyncIterable[Any] | Mapping[Any, Prompt | str],
    ) -> AsyncIterator[tuple[Any, str | None]]:
        """Yield `(index, output)` for each record, in the order in which answers come.

        Records are taken as they are needed: at most `threads` are under way or waiting to be
        taken. When the task is cancelled or the loop is left, the calls under way are given up.

        Args:
            records: rows as in the JSONL file (dictionaries with index, instruction, input, …),
                pairs of an index and a `Prompt` (or a text), `Prompt`s or texts alone (the index is
                then their place), or a mapping of indices to them; from any iterable, asynchronous
                ones too.

        Yields:
            The index as it was given, and the text, None where the record failed for good.

        Raises:
            InputError: one of the records cannot be used.
            ConfigError, RunStoppedError: as `api`.
        """
        session = self._asking()
        items = records.items() if isinstance(records, Mapping) else records

        async def calls() -> AsyncIterator[tuple[Any, Call]]:
            place = 0
            async for item in each(items):
                index, record = question_of(place, item)
                yield index, session.submit(record)
                place += 1

        async for index, outcome in outcomes_of(calls(), width=session.threads):
            yield index, outcome.output

    def close(self) -> None:
        """Let go of the connections that single calls keep; they end by themselves otherwise."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def _asking(self) -> Session:
        """Return what makes single calls; a new one where the last found no usable key."""
        with self._lock:
            if self._session is None or self._session.is_over:
                shown = progress(self._name, quiet=self._quiet, clock=SystemClock())
                self._session = Session(
                    self.config,
                    function=self._function,
                    note=lambda text: shown.say(f"note: {text}"),
                )
            return self._session

    def parallel_api(
        self, data: Mapping[_Index, Prompt | str] | Sequence[Prompt | str]
    ) -> dict[_Index, str | None]:
        """Return the model's text for each prompt, None where there is none, in the same order.

        Args:
            data: `Prompt`s (or texts, which are what the user says) by their indices; those of a
                list have their place as index, from 0.

        Raises:
            InputError: one of them is no prompt.
            ConfigError: there is no key.
            RunStoppedError: no key or endpoint can serve; its `answers` has what had come by then.
            KeyboardInterrupt: Ctrl-C; its `__cause__` has the same `answers`.
        """
        prompts = prompts_of(data)
        # By position: 1 and "1" are two keys of a mapping, and one index.
        records = [record_of(prompt, str(place)) for place, prompt in enumerate(prompts.values())]
        try:
            outcomes = self._answer(records)
        except (RunStoppedError, KeyboardInterrupt) as error:
            stopped = error if isinstance(error, RunStoppedError) else error.__cause__
            if isinstance(stopped, RunStoppedError) and stopped.answers is not None:
                came = stopped.answers
                stopped.answers = {i: came.get(str(place)) for place, i in enumerate(prompts)}
            raise
        return {index: outcomes[str(place)].output for place, index in enumerate(prompts)}

    def _answer(self, records: list[Record]) -> dict[str, Outcome]:
        try:
            return answer(
                self.config, records, function=self._function, name=self._name, quiet=self._quiet
            )
        except RunInterruptedError as error:
            raise KeyboardInterrupt(str(error)) from error

    def _paths(self) -> tuple[Path | Dataset, Path]:
        if self._input is None or self._output is None:
            raise ConfigError("ParallelToolkit needs input_path and output_path for this")
        return self._input, self._output


def _data_of(given: Data | Iterable[Mapping[str, Any]] | None) -> Path | Dataset | None:
    if given is None or isinstance(given, Path | Dataset):
        return given
    return Path(given) if isinstance(given, str) else Dataset(given)


def _folder_of(data: Path | Dataset) -> Path:
    if isinstance(data, Path):
        return data
    raise ConfigError("input_path: files of a folder are done one by one; give its path")


def _output(outcome: Outcome) -> str:
    if outcome.output is None:
        raise CallFailedError(outcome.code, outcome.message, outcome.raw)
    return outcome.output
