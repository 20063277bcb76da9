"""The older toolkits' public functions, on the rotator of today.

`openai-parallel-toolkit` 0.x had a process-wide key manager behind `request_openai_api` and
`multi_process_one`; asyncio scripts have `get_completion_list`. docs/migrating.md says what became
of each name.
"""

from __future__ import annotations

import inspect
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO, cast

from . import config as settings
from .aio import in_thread
from .answering import answer
from .clock import Stop, SystemClock
from .errors import ConfigError, RunInterruptedError, RunStoppedError
from .folder import Steps
from .models import OpenAIModel, Prompt, asking, holds_texts, record_of, stand_in_of
from .progress import progress
from .secret import without_login
from .session import Call, Session, current, missed
from .steps import Folder, run_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .records import Outcome
    from .summary import RunSummary


class APIKeyManager:
    """The process-wide rotator: made once, used by every single call that names no other.

    The first one that is made stays, until it is closed; a later one with the same settings is the
    same object.

    Args:
        api_keys: a list of keys, or the path of a configuration file.
        config_path: a JSON or YAML file; None takes `config.json` or `config.yaml` in the
            current folder if there is one, and the environment.
        set_api_base: whether the file's `api_base` counts; if not, calls go to OpenAI.

    Raises:
        ConfigError: the configuration is wrong, or there is no key.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _managers: ClassVar[dict[tuple[object, ...], APIKeyManager]] = {}
    _first: ClassVar[APIKeyManager | None] = None
    _config: settings.Config
    _session: Session | None

    def __new__(
        cls,
        api_keys: Sequence[str] | str | Path | None = None,
        config_path: str | Path | None = None,
        set_api_base: bool = True,  # noqa: FBT001  # the older name and form
    ) -> Self:
        """Return the manager of these settings."""
        if isinstance(api_keys, (str, Path)):
            api_keys, config_path = None, api_keys
        with cls._lock:
            if api_keys is None and config_path is None and cls._first is not None:
                return cast("Self", cls._first)
            keys = tuple(api_keys or ())
            place = None if config_path is None else Path(config_path).resolve()
            name = (keys, place, set_api_base)
            manager = cls._managers.get(name)
            if manager is None:
                overrides: dict[str, Any] = {"api_keys": list(keys) or None}
                if not set_api_base:
                    overrides["api_base"] = settings.DEFAULT_API_BASE
                manager = super().__new__(cls)
                manager._config = settings.load(config_path, overrides)
                manager._session = None
                cls._open(manager)  # no key: better now than at the first call
                cls._managers[name] = manager
                if cls._first is None:
                    cls._first = manager
            return cast("Self", manager)

    @property
    def session(self) -> Session:
        """What makes the calls; a new one where the last has found that no key can serve."""
        with self._lock:
            return self._open(self)

    @staticmethod
    def _open(manager: APIKeyManager) -> Session:
        if manager._session is None or manager._session.is_over:
            shown = progress("", quiet=False, clock=SystemClock())
            manager._session = Session(
                manager._config, note=lambda text: shown.say(f"note: {without_login(text)}")
            )
        return manager._session

    def close(self) -> None:
        """Forget it: the next one is made anew, with the configuration as it is then."""
        with self._lock:
            if self._session is not None:
                self._session.close()
            for name, manager in list(self._managers.items()):
                if manager is self:
                    del self._managers[name]
            if APIKeyManager._first is self:
                APIKeyManager._first = next(iter(self._managers.values()), None)

    def get_key_length(self) -> int:
        """Return how many keys can still be used."""
        view = self.session.view()
        return view.ready + view.cooling


def request_openai_api(
    openai_model: OpenAIModel,
    keys: Sequence[str] | None = None,
    config_path: str | Path | None = None,
    max_retries: int | None = None,
) -> str | None:
    """Ask a model that holds its own texts, such as `Gpt35Turbo`, and return its answer.

    Safe in any number of threads. Keys that are finished are retired; rate limits are waited out
    and cost no retry.

    Args:
        openai_model: the question: an object whose `generate()` takes nothing.
        keys: API keys; None: those of `config_path`.
        config_path: the configuration; None takes that of the folder run this is called in, then
            the process-wide `APIKeyManager`, then a file in the current
            folder and the environment.
        max_retries: tries after the first for what may pass; None: as configured (5).

    Returns:
        The text, without blanks around it; None where the call failed for good.

    Raises:
        ConfigError: there is no key, or the model is of the form that takes a row.
        RunStoppedError: no key or endpoint can serve.
    """
    if not holds_texts(openai_model):
        raise ConfigError(
            "request_openai_api takes a model whose generate() has its own texts; for this one, "
            "use ParallelToolkit(..., openai_model=model).api(prompt)"
        )
    record, function = asking(openai_model)
    session = _session(keys, config_path)
    return _text(session.ask(record, function=function, max_retries=max_retries))


def multi_process_one(
    data: Iterable[tuple[Any, ...]],
    openai_model_class: type[OpenAIModel],
    threads: int | None = None,
    **params: Any,
) -> list[str | None]:
    """Ask a model many questions in parallel and return the answers in the same order.

    Args:
        data: tuples `(prompt, content, …)`: the system message, the user's message, and values for
            further parameters of the class in their order.
        openai_model_class: is made with `prompt=`, `content=` and the parameters, once for each
            tuple, if its `generate()` has its own texts; else once, with the parameters alone.
        threads: calls at the same time; None: as configured (keys x 16).
        params: for the class, such as `temperature`.

    Returns:
        A text for each tuple, None where a call failed for good.

    Raises:
        ConfigError: there is no key, or a tuple is too short or too long.
        RunStoppedError: no key or endpoint can serve; its `answers` has what had come by then.
    """
    questions = _questions(list(data), openai_model_class, params)
    session = _session(None, None)
    room = threading.Semaphore(min(threads or session.threads, session.threads))
    calls: deque[Call] = deque()
    answers: list[str | None] = []
    try:
        for record, function in questions:
            room.acquire()  # given back by the call
            call = session.submit(record, function=function)
            call.answered.add_done_callback(lambda _: room.release())
            calls.append(call)
        while calls:
            answers.append(_text(calls[0].answered.result()))
            calls.popleft()
    except RunStoppedError as error:
        error.answers = [*answers, *(_came(call) for call in calls)]
        raise
    finally:
        for call in calls:
            call.end()
    return answers


def multi_thread_run(  # noqa: PLR0913, PLR0917  # the older form
    config_path: str | Path | None,
    input_path: str | Path,
    file_count: int | None,
    output_path: str | Path,
    process_input: Callable[[TextIO], Any],
    process_output: Callable[[Any, str], object],
    process_data: Callable[[Any], Any],
    num_threads: int | None = None,
    name: str = "Progress",
) -> RunSummary:
    """Do a folder of files through three functions: `ParallelToolkit` without a class.

    Args:
        config_path: a JSON or YAML file; None takes `config.json` or `config.yaml` in the
            current folder if there is one, and the environment.
        input_path: the input folder.
        file_count: at most so many of the files that have no output; None: all.
        output_path: the output folder.
        process_input: returns the data of an opened text file.
        process_output: writes what `process_data` returned to a path plus an extension.
        process_data: returns what is to be written.
        num_threads: files at the same time; None: as configured (keys x 16).
        name: stands before the progress bar.

    Returns:
        What was done, counted in files.

    Raises:
        JsonlRunnerError, KeyboardInterrupt: as `ParallelToolkit.run`.
    """
    config = settings.load(config_path, {"threads": num_threads})
    folder = Folder(Path(input_path), Path(output_path), file_count, name)
    steps = Steps(process_input, process_data, process_output)
    try:
        return run_steps(config, folder, steps, stop=Stop())
    except RunInterruptedError as error:
        raise KeyboardInterrupt(str(error)) from error


async def get_completion_list(
    contents: Sequence[str | Prompt],
    max_parallel_calls: int = 16,
    timeout: float | None = None,  # of one call; the name that scripts use
    *,
    openai_model: OpenAIModel | None = None,
    config_path: str | Path | None = None,
    name: str = "completions",
    quiet: bool = False,
    **overrides: Any,
) -> list[str | None]:
    """Answer many prompts in parallel, for a coroutine.

    What may pass is tried again with exponential backoff and full jitter, up to `max_retries`
    times; a rate limit is waited out and costs no retry. When the task is cancelled, all calls end.

    Args:
        contents: texts for the user's message, or `Prompt`s.
        max_parallel_calls: calls at the same time.
        timeout: seconds for one call; one that hangs is ended then, connection and all, and tried
            again. None: as configured (300).
        openai_model: model and parameters; None: as configured.
        config_path: a JSON or YAML file; None takes `config.json` or `config.yaml` in the
            current folder if there is one, and the environment.
        name: stands before the progress bar.
        quiet: whether nothing is shown on the way.
        overrides: other settings by name, as in the configuration file.

    Returns:
        A text for each of `contents`, in the same order; None where the call failed for good.

    Raises:
        ConfigError: the configuration is wrong, or there is no key.
        RunStoppedError: no key or endpoint can serve; its `answers` has what had come by then.
    """
    if openai_model is not None:
        overrides = {
            "model": openai_model.model_name,
            **overrides,
            "params": {**openai_model.params, **overrides.get("params", {})},
        }
    config = settings.load(
        config_path, {"threads": max_parallel_calls, "timeout": timeout, **overrides}
    )
    records = [
        record_of(item if isinstance(item, Prompt) else Prompt(item), str(place))
        for place, item in enumerate(contents)
    ]
    stop, function = Stop(), stand_in_of(openai_model)
    try:
        outcomes = await in_thread(
            lambda: answer(config, records, function=function, stop=stop, name=name, quiet=quiet),
            stop,
        )
    except RunStoppedError as error:
        came = error.answers or {}
        error.answers = [came.get(record.index) for record in records]
        raise
    return [outcomes[record.index].output for record in records]


def _questions(
    items: list[tuple[Any, ...]], kind: type[OpenAIModel], params: dict[str, Any]
) -> list[tuple[Any, Any]]:
    """Return a Record and a function for each tuple."""
    if not holds_texts(kind):
        model = kind(**params)
        made = []
        for place, item in enumerate(items):
            _check_length(place, item, 2)
            made.append((record_of(Prompt(*item), model=model), stand_in_of(model)))
        return made
    names = [n for n in inspect.signature(kind).parameters if n not in {"prompt", "content"}]
    made = []
    for place, item in enumerate(items):
        _check_length(place, item, 2 + len(names))
        more = dict(zip(names, item[2:], strict=False))
        made.append(asking(kind(prompt=item[0], content=item[1], **{**params, **more})))
    return made


def _check_length(place: int, item: tuple[Any, ...], longest: int) -> None:
    if not 2 <= len(item) <= longest:
        raise ConfigError(
            f"multi_process_one: data[{place}] has {len(item)} values; it must be a tuple "
            f"(prompt, content{', …' if longest > 2 else ''}) of 2 to {longest}"
        )


def _session(keys: Sequence[str] | None, config_path: str | Path | None) -> Session:
    if keys is None and config_path is None:
        found = current.get()
        if found is not None:
            return found
    return APIKeyManager(keys, config_path).session


def _text(outcome: Outcome) -> str | None:
    if outcome.output is not None:
        return outcome.output.strip()
    in_this_file = missed.get()
    if in_this_file is not None:
        in_this_file.append(outcome)
    return None


def _came(call: Call) -> str | None:
    """Return the answer of a call that may not have one."""
    if not call.answered.done() or call.answered.exception() is not None:
        return None
    return _text(call.answered.result())
