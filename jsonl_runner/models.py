"""What is asked, and of whom: `Prompt`, `OpenAIModel` and models of a user's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, overload

from . import jsontext
from .assembly import StandIn
from .attempts import Answer, AttemptError, Kind
from .costs import usage_together
from .errors import ConfigError, InputError, JsonlRunnerError
from .prompts import texts_of
from .records import Record, to_record
from .retry import read_completion
from .rows import parse_row

if TYPE_CHECKING:
    from collections.abc import Callable

    import openai

    from .assembly import Function, Tools
    from .callers import ChatCaller


class CallFailedError(JsonlRunnerError):
    """A single call brought no output.

    Attributes:
        code: one short word for the reason.
        raw: the model's answer, where there is one that would not do.
    """

    exit_code = 1

    def __init__(self, code: str, message: str, raw: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.raw = raw


class Prompt(NamedTuple):
    """What to do, and what to do it with.

    Attributes:
        instruction: the system message, or the user's when there is no input.
        input: the user's message.
    """

    instruction: str
    input: str = ""


class _Row(NamedTuple):
    """What a row's `generate` may use: both have the row's key."""

    call: Callable[[str, str, Mapping[str, Any]], str]
    client: Callable[[], openai.OpenAI]


_row: ContextVar[_Row] = ContextVar("row")


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

    A subclass may override `generate` in one of two forms:

    - `generate(self, instruction, input)`: is called for each row or prompt;
    - `generate(self)`: the object holds its own texts (see `Gpt35Turbo`), and is asked once,
      through `request_openai_api` or `multi_process_one`.

    It returns the output, or a chat completion as the SDK's client gives it (an object or its
    dictionary), whose tokens are then counted. An exception is retried like the provider's own,
    but a slip in the code (TypeError, NameError, AttributeError, ImportError) fails the row.
    `super().generate(...)` in it makes the real call, with a key of the rotator; `self.client` is
    an `openai.OpenAI` with the same key, address, timeouts and proxy, for calls of other kinds. It
    is safe in any number of threads, since no global is set, and tries nothing again by itself.

    Args:
        model_name: the model; None: as configured.
        params: request parameters (temperature, max_tokens, …).
    """

    client = _ClientOfRow()
    # For subclasses of the older form, whose constructors call no other.
    model_name: str | None = None
    params: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, model_name: str | None = None, **params: Any) -> None:
        if "api_key" in params:
            raise ConfigError(
                "OpenAIModel takes no api_key: put keys into the configuration (api_keys), and "
                "each call gets one of them"
            )
        self.model_name = model_name
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
        return row_of("generate()").call(instruction, input, {})


class Gpt35Turbo(OpenAIModel):
    """A question with its texts: the older toolkit's form.

    A subclass with another `model` asks another one.

    Args:
        content: the user's message.
        prompt: the system message; may be empty.
        temperature: sampling temperature, 0 to 2; None leaves it to the model.
    """

    model: ClassVar[str] = "gpt-3.5-turbo"

    def __init__(self, content: str, prompt: str, temperature: float | None = None) -> None:
        super().__init__(self.model)
        self.content = content
        self.prompt = prompt
        self.temperature = temperature

    def generate(self) -> str:  # type: ignore[override]  # the form that has its texts
        """Make the call and return the model's text; see `OpenAIModel.generate`."""
        params: dict[str, Any] = {"model": self.model}
        if self.temperature is not None:
            params["temperature"] = self.temperature
        return row_of("generate()").call(self.prompt, self.content, params)


class Gpt35Turbo16K(Gpt35Turbo):
    """As `Gpt35Turbo`, of a model with a longer context that OpenAI serves no more."""

    model = "gpt-3.5-turbo-16k"


class Gpt35Turbo0613(Gpt35Turbo):
    """As `Gpt35Turbo`, of a dated model that OpenAI serves no more."""

    model = "gpt-3.5-turbo-0613"


class Gpt4(Gpt35Turbo):
    """As `Gpt35Turbo`, of GPT-4."""

    model = "gpt-4"


def row_of(what: str) -> _Row:
    """Return what the call under way may use.

    Args:
        what: the name of what needs it, for the error.

    Raises:
        ConfigError: there is no call under way in this thread.
    """
    row = _row.get(None)
    if row is None:
        raise ConfigError(
            f"{what} needs a key: use ParallelToolkit(..., openai_model=model).api(prompt), or "
            "request_openai_api(model)"
        )
    return row


def holds_texts(model: type[OpenAIModel] | OpenAIModel) -> bool:
    """Return whether a model's `generate` takes nothing: then the object has its own texts."""
    kind = model if isinstance(model, type) else type(model)
    return len(inspect.signature(kind.generate).parameters) == 1  # self


def check_model(model: object) -> None:
    """See whether rows can be asked of a model.

    Raises:
        ConfigError: they cannot.
    """
    if not isinstance(model, OpenAIModel):
        raise ConfigError(
            'openai_model must be an OpenAIModel, such as OpenAIModel("gpt-4.1-mini"), not '
            f"{type(model).__name__}; for a name alone, say model=…"
        )
    if holds_texts(model):
        raise ConfigError(
            "openai_model: its generate() takes no row; give request_openai_api this one, "
            "or let it take (instruction, input)"
        )


def prompt_of(asked: object, what: str = "prompt") -> Prompt:
    """Return what was asked as a Prompt; a text alone is what the user says.

    Args:
        asked: a Prompt or a text.
        what: what messages call it.

    Raises:
        InputError: it is neither.
    """
    if isinstance(asked, str):
        return Prompt(asked)
    if isinstance(asked, Prompt):
        return asked
    raise InputError(f"{what}: must be a Prompt or a text, not {type(asked).__name__}")


def prompts_of(data: object) -> dict[Any, Prompt]:
    """Return Prompts or texts by their indices; those of a list have their place as index.

    Raises:
        InputError: one of them is no prompt, or they are nothing of the kind.
    """
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise InputError(
            f"data: must be Prompts or texts, by their indices or one after the other, not "
            f"{type(data).__name__}"
        )
    pairs = data.items() if isinstance(data, Mapping) else enumerate(data)
    return {index: prompt_of(asked, f"data[{index!r}]") for index, asked in pairs}


def question_of(place: int, item: object) -> tuple[Any, Record]:
    """Return index and Record of one of many questions.

    Args:
        place: its place, which is the index of a Prompt or text alone.
        item: that, or a pair of an index and a Prompt or text, or a row as in a JSONL file.

    Raises:
        InputError: it is none of them.
    """
    if isinstance(item, Prompt | str):
        return place, record_of(prompt_of(item))
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Prompt | str):
        return item[0], record_of(prompt_of(item[1]))
    if isinstance(item, Mapping):
        try:
            return item.get("index"), to_record(parse_row(jsontext.dump(dict(item))))
        except (TypeError, ValueError) as error:
            raise InputError(f"records[{place}]: {error}") from None
    raise InputError(
        f"records[{place}]: must be a row (a dictionary with index and instruction), a Prompt or "
        f"(index, Prompt), not {type(item).__name__}"
    )


def record_of(prompt: Prompt, index: str = "0", *, model: OpenAIModel | None = None) -> Record:
    """Return a prompt as a Record, with a model's name and parameters if one is given."""
    record = Record(index, prompt.instruction, prompt.input)
    if model is not None:
        name = {"model": model.model_name} if model.model_name else {}
        record.params = {**name, **model.params} or None
    return record


def asking(model: OpenAIModel) -> tuple[Record, StandIn | None]:
    """Return what asks a model that holds its own texts: a Record, and a function for it."""
    # The Record's texts only tell its size.
    texts = (text for text in vars(model).values() if isinstance(text, str))
    return record_of(Prompt(" ".join(texts)), model=model), stand_in_of(model)


def stand_in_of(
    model: OpenAIModel | None, call: Callable[[str, str], str] | None = None
) -> StandIn | None:
    """Return what stands in for the provider: a function, or an overridden `generate`; or None."""
    if call is not None:
        if not callable(call):
            raise ConfigError(f"call must be a function, not {type(call).__name__}")
        given = call
        _check_takes_two(given, "call")
        return StandIn(
            lambda _tools: lambda record, _key: given(*texts_of(record)), uses_keys=False
        )
    if model is None or type(model).generate is OpenAIModel.generate:
        return None
    overridden = model
    if not holds_texts(model):
        _check_takes_two(model.generate, "generate()")
    return StandIn(lambda tools: _generating(overridden, tools))


def _check_takes_two(function: Callable[..., Any], name: str) -> None:
    """See whether a function takes instruction and input, before a row is asked with it.

    Raises:
        ConfigError: it does not.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some built-ins tell nothing of themselves
        return
    try:
        signature.bind("", "")
    except TypeError:
        code = getattr(inspect.unwrap(function), "__code__", None)
        where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
        raise ConfigError(
            f"{name} takes {signature}, and is called with (instruction, input){where}"
        ) from None


def _generating(model: OpenAIModel, tools: Tools) -> Function:
    own_texts = holds_texts(model)

    def function(record: Record, key: str) -> Answer:
        answers: list[Answer] = []

        def call(instruction: str, text: str, params: Mapping[str, Any]) -> str:
            asked = Record(
                record.index, instruction, text, params={**params, **(record.params or {})} or None
            )
            answers.append(_one_call(tools.chat, asked, key))
            return answers[-1].text or ""

        token = _row.set(_Row(call, lambda: tools.client(key)))
        try:
            returned = model.generate() if own_texts else model.generate(*texts_of(record))  # type: ignore[call-arg]
        finally:
            _row.reset(token)
        answer = _answer_of(returned)
        if not answers:
            return answer
        return answers[-1]._replace(text=answer.text, usage=_usage_of([*answers, answer]))

    return function


def _answer_of(returned: Any) -> Answer:
    """Return what `generate` gave as an Answer: a text, or a chat completion in either form."""
    dump = getattr(returned, "model_dump", None)
    completion = dump() if callable(dump) else returned
    if not isinstance(completion, Mapping) or "choices" not in completion:
        return Answer(returned, None, None, None)
    verdict = read_completion(dict(completion))
    if verdict.answer is None or verdict.kind is not Kind.OK:
        raise AttemptError(verdict)
    return verdict.answer


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
    used = [answer.usage for answer in answers if answer.usage is not None]
    return functools.reduce(usage_together, used) if used else None
