"""The Python facade: `ParallelToolkit` and what goes into it."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from . import config as settings
from .answering import answer
from .assembly import StandIn
from .attempts import Answer, AttemptError, Kind
from .errors import ConfigError, JsonlRunnerError, RunInterruptedError, RunStoppedError
from .merge import merge
from .prompts import texts_of
from .records import Record
from .runner import Job, run
from .summary import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import openai

    from .appendfile import FsyncPolicy
    from .assembly import Function, Tools
    from .callers import ChatCaller
    from .merge import MergeSummary
    from .records import Outcome
    from .summary import RunSummary
    from .survey import BadRowsPolicy

_Index = TypeVar("_Index", int, str)


class _Row(NamedTuple):
    """What a row's `generate` may use: both have the row's key."""

    call: Callable[[str, str], str]
    client: Callable[[], openai.OpenAI]


_row: ContextVar[_Row] = ContextVar("row")


class CallFailedError(JsonlRunnerError):
    """A single call brought no output.

    Attributes:
        code: one short word for the reason.
    """

    exit_code = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Prompt(NamedTuple):
    """What to do, and what to do it with.

    Attributes:
        instruction: the system message, or the user's when there is no input.
        input: the user's message.
    """

    instruction: str
    input: str = ""


class _ClientOfRow:
    """`OpenAIModel.client`; no property, since a subclass may set a `client` of its own."""

    @overload
    def __get__(self, model: None, owner: type) -> _ClientOfRow: ...

    @overload
    def __get__(self, model: OpenAIModel, owner: type) -> openai.OpenAI: ...

    def __get__(self, model: OpenAIModel | None, owner: type) -> _ClientOfRow | openai.OpenAI:
        if model is None:
            return self
        row = _row.get(None)
        if row is None:
            raise ConfigError(
                "client needs a row's key: use it within generate(), in the thread that called "
                "it, through ParallelToolkit(..., openai_model=model)"
            )
        return row.client()


class OpenAIModel:
    """A model and its request parameters.

    A subclass may override `generate`; what it returns is the row's output, and an exception is
    retried like the provider's own. `super().generate(...)` in it makes the real call, with a key
    of the rotator; `self.client` is an `openai.OpenAI` with the same key, address, timeouts and
    proxy, for calls of other kinds (it tries nothing again by itself: the toolkit does; what such
    calls cost is not in the summary).

    Args:
        name: the model's name.
        params: request parameters (temperature, max_tokens, …).
    """

    client = _ClientOfRow()

    def __init__(self, name: str, **params: Any) -> None:
        self.name = name
        self.params = params

    def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002  # the old name
        """Make one call and return the model's text.

        Args:
            instruction: the system message, or the user's when there is no input.
            input: the user's message.

        Raises:
            ConfigError: it is not called from within a `ParallelToolkit`.
            AttemptError: the call did not succeed; the toolkit waits, retries or fails the row.
        """
        row = _row.get(None)
        if row is None:
            raise ConfigError(
                "generate() needs a key: use ParallelToolkit(..., openai_model=model).api(prompt)"
            )
        return row.call(instruction, input)


class ParallelToolkit:
    """Pushes prompts through an LLM API: many keys, many threads, resumable.

    Args:
        config_path: a JSON or YAML file with keys and settings; None takes `config.json` in the
            current folder if it is there, and the environment.
        input_path: the JSONL file with the rows (`index`, `instruction`, `input`).
        output_path: the ledger, `{"<index>": output | null}` a line.
        max_retries: tries after the first for what may pass; None: as configured (5).
        threads: calls at the same time; None: as configured (keys x 16).
        name: stands before the progress bar.
        openai_model: model and parameters; None: as configured.
        call: `call(instruction, input) -> str` that stands in for the provider.
        bad_rows: `fail` or `skip`: what to do about rows that cannot be used.
        fsync: `always`, `group` or `off`: when the ledger is forced onto the disk.
        redo_changed: whether rows whose content has changed are called again.
        quiet: whether nothing is shown on the way.
        overrides: other settings by name, as in the configuration file.

    Raises:
        ConfigError: the configuration is wrong.
    """

    def __init__(  # noqa: PLR0913  # the older toolkit's order of names, and what came since
        self,
        config_path: str | Path | None = None,
        input_path: str | Path | None = None,
        output_path: str | Path | None = None,
        max_retries: int | None = None,
        threads: int | None = None,
        name: str = "ParallelToolkit Progress",
        openai_model: OpenAIModel | None = None,
        *,
        call: Callable[[str, str], str] | None = None,
        bad_rows: BadRowsPolicy = "fail",
        fsync: FsyncPolicy = "group",
        redo_changed: bool = False,
        quiet: bool = False,
        **overrides: Any,
    ) -> None:
        self._input = None if input_path is None else Path(input_path)
        self._output = None if output_path is None else Path(output_path)
        self._name = name
        self._quiet = quiet
        self._bad_rows = bad_rows
        self._fsync = fsync
        self._redo_changed = redo_changed
        if openai_model is not None:
            overrides["model"] = openai_model.name
            given = overrides.get("params")
            if given is None or isinstance(given, dict):  # anything else is for `load` to refuse
                overrides["params"] = {**openai_model.params, **(given or {})}
        overrides.update(max_retries=max_retries, threads=threads)
        self.config = settings.load(config_path, overrides)
        self._function = _function_of(openai_model, call)

    def run(self) -> RunSummary:
        """Do every row of the input that has no output yet.

        Raises:
            JsonlRunnerError: nothing was begun, or the run stopped early (see its `summary`).
            KeyboardInterrupt: Ctrl-C; what was answered is written.
        """
        data, output = self._paths()
        job = Job(
            data,
            output,
            bad_rows=self._bad_rows,
            fsync=self._fsync,
            redo_changed=self._redo_changed,
            name=self._name,
            quiet=self._quiet,
        )
        try:
            return run(self.config, job, function=self._function)
        except RunInterruptedError as error:
            raise KeyboardInterrupt(str(error)) from error

    def merge(self, target: str | Path, *, keep_null: bool = False) -> MergeSummary:
        """Write input and outputs as a JSON array of training rows; see `merge.merge`.

        Args:
            target: the file to write.
            keep_null: whether rows without an output are written, with `null`.
        """
        data, output = self._paths()
        return merge(data, output, Path(target), keep_null=keep_null, bad_rows=self._bad_rows)

    def api(self, prompt: Prompt) -> str:
        """Return the model's text for one prompt.

        Raises:
            CallFailedError: there is none; `code` says why.
            ConfigError: there is no key.
            RunStoppedError: no key or endpoint can serve.
            KeyboardInterrupt: Ctrl-C.
        """
        outcome = self._answer([_record("0", prompt)], quiet=True)["0"]
        if outcome.output is None:
            raise CallFailedError(outcome.code, outcome.message)
        return outcome.output

    def parallel_api(self, data: Mapping[_Index, Prompt]) -> dict[_Index, str | None]:
        """Return the model's text for each prompt, None where there is none, in the same order.

        Raises:
            ConfigError: there is no key.
            RunStoppedError: no key or endpoint can serve; its `answers` has what had come by then.
            KeyboardInterrupt: Ctrl-C; its `__cause__` has the same `answers`.
        """
        # By position: 1 and "1" are two keys of a mapping, and one index.
        records = [_record(str(place), prompt) for place, prompt in enumerate(data.values())]
        try:
            outcomes = self._answer(records, quiet=self._quiet)
        except (RunStoppedError, KeyboardInterrupt) as error:
            stopped = error if isinstance(error, RunStoppedError) else error.__cause__
            if isinstance(stopped, RunStoppedError) and stopped.answers is not None:
                came = stopped.answers
                stopped.answers = {i: came.get(str(place)) for place, i in enumerate(data)}
            raise
        return {index: outcomes[str(place)].output for place, index in enumerate(data)}

    def _answer(self, records: list[Record], *, quiet: bool) -> dict[str, Outcome]:
        try:
            return answer(
                self.config, records, function=self._function, name=self._name, quiet=quiet
            )
        except RunInterruptedError as error:
            raise KeyboardInterrupt(str(error)) from error

    def _paths(self) -> tuple[Path, Path]:
        if self._input is None or self._output is None:
            raise ConfigError("ParallelToolkit needs input_path and output_path for this")
        return self._input, self._output


def _record(index: str, prompt: Prompt) -> Record:
    return Record(index, prompt.instruction, prompt.input)


def _function_of(
    model: OpenAIModel | None, call: Callable[[str, str], str] | None
) -> StandIn | None:
    """Return what stands in for the provider: the user's function, or an overridden `generate`."""
    if call is not None:
        given = call
        return StandIn(
            lambda _tools: lambda record, _key: given(*texts_of(record)), uses_keys=False
        )
    if model is None or type(model).generate is OpenAIModel.generate:
        return None
    overridden = model
    return StandIn(lambda tools: _generating(overridden, tools))


def _generating(model: OpenAIModel, tools: Tools) -> Function:
    def function(record: Record, key: str) -> Answer:
        answers: list[Answer] = []

        def call(instruction: str, text: str) -> str:
            asked = Record(record.index, instruction, text, params=record.params)
            answers.append(_one_call(tools.chat, asked, key))
            return answers[-1].text or ""

        token = _row.set(_Row(call, lambda: tools.client(key)))
        try:
            output = model.generate(*texts_of(record))
        finally:
            _row.reset(token)
        if not answers:
            return Answer(output, None, None, None)
        return answers[-1]._replace(text=output, usage=_usage_of(answers))

    return function


def _one_call(chat: ChatCaller, record: Record, key: str) -> Answer:
    while True:
        request = chat.prepare(record)
        verdict = chat.attempt(record, request, key)
        if verdict.kind is Kind.OK and verdict.answer is not None:
            return verdict.answer
        if verdict.kind is not Kind.REFUSED_PARAM or not chat.correct(request, verdict)[0]:
            raise AttemptError(verdict)


def _usage_of(answers: list[Answer]) -> dict[str, Any] | None:
    """Return what several calls for one row used together."""
    if len(answers) == 1:
        return answers[0].usage
    tokens = Tokens()
    for answer_ in answers:
        tokens.add(answer_.usage)
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.total,
    }
