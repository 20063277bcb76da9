"""The Python facade: what the command line can do, one call away, and functions of one's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, FakeClock, Stage, expected, read_calls, read_ledger, row, write_rows

from jsonl_runner import (
    CallFailedError,
    ConfigError,
    NoUsableKeyError,
    OpenAIModel,
    ParallelToolkit,
    Prompt,
    RunStoppedError,
    WrongEndpointError,
)
from jsonl_runner.answering import answer
from jsonl_runner.assembly import StandIn
from jsonl_runner.errors import JsonlRunnerError
from jsonl_runner.records import Outcome, Record
from jsonl_runner.simulator import SimulatorSettings, answer_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from jsonl_runner.simulator import Simulator

ROWS = [row(number) for number in range(5)]
MODEL = "gpt-4.1-mini"


def tool(stage: Stage, **options: Any) -> ParallelToolkit:
    """Return a quiet toolkit on the stage's files."""
    given = {"quiet": True, "max_retries": 0, **options}
    return ParallelToolkit(stage.config_file(), stage.data, stage.output, **given)


def told(instruction: str, text: str, model: str = MODEL) -> str:
    """Return what the simulator answers to a prompt."""
    messages = [{"role": "system", "content": instruction}, {"role": "user", "content": text}]
    return answer_text({"model": model, "messages": messages})


def alone(text: str) -> str:
    """Return what the simulator answers to a prompt of one text."""
    return answer_text({"model": MODEL, "messages": [{"role": "user", "content": text}]})


def test_run_and_merge(stage: Stage) -> None:
    """The README's five lines: every row has its own output, in ledger and merged file."""
    write_rows(stage.data, ROWS)
    toolkit = tool(stage)
    assert toolkit.run().done == 5
    want = {str(item["index"]): expected(item) for item in ROWS}
    assert read_ledger(stage.output) == want
    merged = stage.folder / "merged.json"
    assert toolkit.merge(merged).written == 5
    found = json.loads(merged.read_text(encoding="utf-8"))
    assert {item["index"]: item["output"] for item in found} == want
    stage.simulator.journal.clear()
    assert toolkit.run().skipped == 5
    assert stage.simulator.journal.calls == []


def test_options_of_a_run(stage: Stage) -> None:
    """Bad rows, changed rows, nulls and other settings are there as on the command line."""
    write_rows(stage.data, [*ROWS, {"index": 9}])
    assert tool(stage, bad_rows="skip", model="gpt-4.1").run().exit_code == 1
    assert {call.model for call in stage.simulator.journal.calls} == {"gpt-4.1"}
    write_rows(stage.data, [row(0, "new"), *ROWS[1:]])
    assert tool(stage).run().changed.examples == ["0"]
    assert tool(stage, redo_changed=True, fsync="always").run().done == 1
    assert read_ledger(stage.output)["0"] == expected(row(0, "new"))
    write_rows(stage.data, [*ROWS, row(9)])
    assert tool(stage).merge(str(stage.folder / "a.json")).written == 5
    assert tool(stage).merge(stage.folder / "b.json", keep_null=True).written == 6


def test_a_single_question(stage: Stage) -> None:
    """With instruction and input, or with one text that is then the user's."""
    toolkit = tool(stage)
    assert toolkit.api(Prompt("Repeat.", "Hello")) == told("Repeat.", "Hello")
    assert toolkit.api(prompt=Prompt(instruction="Hello")) == alone("Hello")
    assert not stage.output.exists()


@pytest.mark.parametrize(
    ("fault", "code"),
    [("context_length", "context_length_exceeded"), ("refusal", "refusal")],
)
def test_a_question_without_an_answer(stage: Stage, fault: str, code: str) -> None:
    """It raises with the reason, and which it was as one word."""
    with pytest.raises(CallFailedError, match=f"^{code}: ") as caught:
        tool(stage).api(Prompt(f"[[fault:{fault}]]"))
    assert (caught.value.code, caught.value.exit_code) == (code, 1)


def test_errors_that_end_everything(stage: Stage) -> None:
    """No files, no key, dead keys, a wrong model: each its own exception."""
    for call in (ParallelToolkit().run, lambda: ParallelToolkit().merge("m.json")):
        with pytest.raises(ConfigError, match="needs input_path and output_path"):
            call()
    with pytest.raises(ConfigError, match="no API key"):
        ParallelToolkit(api_base=stage.simulator.base_url, quiet=True).api(Prompt("Hello"))
    with pytest.raises(NoUsableKeyError, match="all 2 keys are finished"):
        tool(stage).api(Prompt("[[fault:401]]"))
    stage.simulator.settings = SimulatorSettings(models=("other",))
    with pytest.raises(WrongEndpointError, match="check model"):
        tool(stage).api(Prompt("Hello"))


def test_many_questions(stage: Stage) -> None:
    """Each index gets its own answer, of its own type, in the given order, or None."""
    data = {number: Prompt("Repeat.", f"row {number}") for number in range(30, 0, -1)}
    data[7] = Prompt("Repeat.", "[[fault:refusal]]")
    found = tool(stage, threads=20).parallel_api(data)
    assert list(found) == list(data)
    want = {number: told(*prompt) for number, prompt in data.items()}
    assert found == {**want, 7: None}
    assert tool(stage).parallel_api({"a": Prompt("x")}) == {"a": alone("x")}
    assert tool(stage).parallel_api({}) == {}


def test_questions_without_indices(stage: Stage) -> None:
    """Texts alone are what the user says; those of a list are named by their place."""
    toolkit = tool(stage)
    assert toolkit.api("Hello") == alone("Hello")
    given: list[str | Prompt] = ["Hello", Prompt("Repeat.", "Hi")]
    want = {0: alone("Hello"), 1: told("Repeat.", "Hi")}
    assert toolkit.parallel_api(given) == want
    later: Any = iter(given)
    assert toolkit.parallel_api(later) == want
    assert toolkit.parallel_api({"a": "Hello"}) == {"a": alone("Hello")}


#: As those call it who check no types.
UNTYPED: Any = ParallelToolkit


@pytest.mark.parametrize(
    ("misuse", "says"),
    [
        (lambda t: t.api(None), "prompt: must be a Prompt or a text, not NoneType"),
        (lambda t: t.parallel_api(None), "data: must be Prompts or texts, .*, not NoneType"),
        (lambda t: t.parallel_api("Hello"), "data: must be Prompts or texts, .*, not str"),
        (lambda t: t.parallel_api({"a": 1}), r"data\['a'\]: must be a Prompt or a text, not int"),
        (lambda t: t.parallel_api([{"index": 1}]), r"data\[0\]: must be a Prompt .*, not dict"),
        (lambda _: UNTYPED(openai_model="gpt-4.1"), "must be an OpenAIModel, .*, not str;"),
        (lambda _: UNTYPED(openai_model=OpenAIModel), "must be an OpenAIModel, .*, not ty"),
        (lambda _: UNTYPED(call="upper"), "call must be a function, not str"),
        (lambda _: UNTYPED(input_path=3), r"a dataset is files, .*, or rows, .*; int is neither"),
        (lambda _: UNTYPED(input_path=["a.jsonl", {}]), "dict is neither"),
        (lambda _: UNTYPED(input_path={"index": 1}), "a single mapping is no dataset: put rows in"),
        (lambda _: UNTYPED(input_path=[]), "a dataset needs a file, or rows"),
        (lambda _: UNTYPED(input_path=iter([{"index": 1}])), r"read once only: give list\(rows\)"),
    ],
)
def test_things_of_the_wrong_kind(stage: Stage, misuse: Callable[[Any], object], says: str) -> None:
    """What is wrong is said at once, before any call, not by an attribute that is not there."""
    with pytest.raises(JsonlRunnerError, match=says):
        misuse(tool(stage))
    assert stage.simulator.journal.calls == []


def test_indices_that_read_alike(stage: Stage) -> None:
    """Two keys of one mapping are two questions."""
    data: Any = {1: Prompt("one"), "1": Prompt("other")}
    assert tool(stage).parallel_api(data) == {1: alone("one"), "1": alone("other")}


def test_twenty_threads_are_twenty_calls_at_once(stage: Stage) -> None:
    """`threads` lifts the limit of a single key too."""
    stage.simulator.settings = SimulatorSettings(latency_s=0.02)
    data = {number: Prompt(f"row {number}") for number in range(300)}
    tool(stage, threads=20, api_keys=[KEYS[0]]).parallel_api(data)
    assert 16 < stage.simulator.journal.max_in_flight <= 20


def test_a_models_name_and_params_are_sent(stage: Stage) -> None:
    """Name and parameters reach the server, beside other parameters."""
    stage.simulator.settings = SimulatorSettings(unsupported_params=("seed",))
    with pytest.raises(CallFailedError, match="'seed' is not supported"):
        tool(stage, openai_model=OpenAIModel("gpt-4.1", seed=7)).api(Prompt("Hello"))
    assert stage.simulator.journal.calls[-1].model == "gpt-4.1"
    short = tool(stage, openai_model=OpenAIModel(MODEL, max_tokens=5))
    assert len(short.api(Prompt("word " * 40 + "[[fault:length]]"))) == 5 * 4
    model = OpenAIModel("gpt-4.1", temperature=0.1)
    config = tool(stage, openai_model=model, params={"top_p": 1}).config
    assert (config.model, config.params) == ("gpt-4.1", {"temperature": 0.1, "top_p": 1})


class Shouting(OpenAIModel):
    """A model whose answers are made here."""

    def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002
        return f"{instruction}|{input}".upper()


class Polite(OpenAIModel):
    """A model that changes what is sent and what comes back."""

    def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002
        return super().generate(f"{instruction} Be polite.", input) + "!"


class Slipping(OpenAIModel):
    """A model with a slip in it."""

    def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002
        return instruction + len(input)  # type: ignore[operator, no-any-return]


class Leaving(OpenAIModel):
    """A model that would end the program."""

    def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002
        sys.exit(f"no answer to {instruction} {input}")


class Forgetful(OpenAIModel):
    """A model that forgot a parameter."""

    def generate(self, instruction: str, input: str, more: str) -> str:  # type: ignore[override]  # noqa: A002
        return instruction + input + more


@pytest.mark.parametrize(
    ("kind", "code"), [(Slipping, "TypeError"), (Leaving, "SystemExit")], ids=["slip", "exit"]
)
def test_a_slip_in_a_generate_is_not_tried_again(
    stage: Stage, kind: type[OpenAIModel], code: str
) -> None:
    """It fails the row at the first try, with its line; rows that all fail so end a run."""
    write_rows(stage.data, [row(number) for number in range(200)])
    with pytest.raises(RunStoppedError, match="failed alike") as caught:
        tool(stage, openai_model=kind("none"), max_retries=5).run()
    line = kind.generate.__code__.co_firstlineno + 1
    assert f"{code}: " in str(caught.value)
    assert f"({__file__}:{line})" in str(caught.value)
    assert {entry["attempts"] for entry in read_calls(stage.output).values()} == {1}


def test_a_generate_that_cannot_be_called(stage: Stage) -> None:
    """What it takes is looked at before a row is asked; so is that of a function."""
    line = Forgetful.generate.__code__.co_firstlineno
    with pytest.raises(ConfigError, match=r"called with \(instruction, input\)") as caught:
        tool(stage, openai_model=Forgetful("none"))
    assert f"({__file__}:{line})" in str(caught.value)
    with pytest.raises(ConfigError, match=r"call takes \(text"):
        tool(stage, call=lambda text: text)


def test_a_generate_of_ones_own(stage: Stage) -> None:
    """What it returns is the row's output; nothing is sent."""
    write_rows(stage.data, ROWS)
    toolkit = tool(stage, openai_model=Shouting("none"))
    assert toolkit.run().done == 5
    assert read_ledger(stage.output)["3"] == "REPEAT.|ROW 3"
    assert toolkit.api(Prompt("a", "b")) == "A|B"
    assert stage.simulator.journal.calls == []


def test_a_generate_around_the_real_one(stage: Stage) -> None:
    """`super().generate` makes the call with the model's name and params and a key of the pool."""
    write_rows(stage.data, [row(number) for number in range(40)])
    assert tool(stage, openai_model=Polite("gpt-4.1")).run().done == 40
    assert read_ledger(stage.output)["3"] == told("Repeat. Be polite.", "row 3", "gpt-4.1") + "!"
    calls = stage.simulator.journal.calls
    assert {call.key for call in calls} == set(KEYS)
    assert {call.model for call in calls} == {"gpt-4.1"}


def test_errors_of_the_real_call_are_the_providers(stage: Stage) -> None:
    """A failure within it fails the row, retires the key, corrects the request or is retried."""
    toolkit = tool(stage, openai_model=Polite(MODEL), max_retries=1)
    with pytest.raises(CallFailedError) as caught:
        toolkit.api(Prompt("Say", "[[fault:context_length]]"))
    assert caught.value.code == "context_length_exceeded"
    assert toolkit.api(Prompt("Say", "[[fault:500*1]]")).endswith("[[fault:500*1]]!")
    stage.simulator.settings = SimulatorSettings(unsupported_params=("temperature",))
    warm = tool(stage, openai_model=Polite(MODEL, temperature=0.5))
    assert warm.api(Prompt("Say", "x")) == told("Say Be polite.", "x") + "!"
    stage.simulator.settings = SimulatorSettings(keys=(KEYS[1],))
    assert toolkit.api(Prompt("Say", "x")) == told("Say Be polite.", "x") + "!"
    stage.simulator.settings = SimulatorSettings(keys=())
    with pytest.raises(NoUsableKeyError):
        toolkit.api(Prompt("Say", "x"))


def test_generate_outside_of_a_toolkit() -> None:
    """It has no key, and says how to come by one."""
    with pytest.raises(ConfigError, match=r"generate\(\) needs a key: use ParallelToolkit"):
        OpenAIModel("m").generate("x")


def test_a_rows_params_are_sent_by_super_generate(stage: Stage) -> None:
    """A row that asks for a model of its own gets it, whoever makes the call."""
    write_rows(stage.data, [row(0, params={"model": "gpt-4.1"})])
    tool(stage, openai_model=Polite(MODEL)).run()
    assert [call.model for call in stage.simulator.journal.calls] == ["gpt-4.1"]


def test_what_super_generate_costs_is_counted(stage: Stage) -> None:
    """Tokens that were paid for stand in the summary."""
    write_rows(stage.data, ROWS)
    assert tool(stage, openai_model=Polite(MODEL)).run().tokens.total > 0


class StatusError(Exception):
    """An error as SDKs raise it."""

    def __init__(self, status: int, code: str | None = None) -> None:
        super().__init__(f"the SDK said {status}")
        self.status_code = status
        self.code = code


def test_a_function_instead_of_the_provider(stage: Stage) -> None:
    """It needs neither key nor server, gets instruction and input, and is run in parallel."""
    stage.simulator.stop()
    message = {"role": "user", "content": "hi"}
    write_rows(stage.data, [*map(row, range(30)), {"index": "m", "messages": [message]}])
    running: list[int] = [0]

    def call(instruction: str, text: str) -> str:
        running.append(running[-1] + 1)
        threading.Event().wait(0.01)
        running.append(running[-1] - 1)
        return f"{instruction}>{text}"

    toolkit = ParallelToolkit(None, stage.data, stage.output, call=call, quiet=True)
    assert toolkit.run().exit_code == 0
    want = {str(number): f"Repeat.>row {number}" for number in range(30)}
    assert read_ledger(stage.output) == {**want, "m": ">hi"}
    assert max(running) > 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StatusError(400), "http_400"),
        (StatusError(422, "bad_schema"), "bad_schema"),
        (StatusError(500), "http_500"),
        (ValueError("odd"), "ValueError"),
    ],
)
def test_a_function_that_raises(stage: Stage, error: Exception, code: str) -> None:
    """`status_code` and `code` of an SDK's error say what it is; the row is null."""

    def call(_instruction: str, text: str) -> str:
        if text == "row 2":
            raise error
        return text

    write_rows(stage.data, ROWS)
    summary = tool(stage, call=call).run()
    assert (summary.done, summary.failed, list(summary.failures)) == (4, 1, [code])
    assert str(error) in read_calls(stage.output)["2"]["message"]


def test_a_function_that_returns_no_text(stage: Stage) -> None:
    """A number is no output: the row is null and says why."""
    call: Any = lambda *_: 5  # noqa: E731
    with pytest.raises(CallFailedError, match="no_text: the function returned int, not a text"):
        tool(stage, call=call).api(Prompt("x"))


def test_a_function_is_tried_again(stage: Stage) -> None:
    """What may pass costs a retry, a rate limit costs none; a dead key ends it."""
    errors = [StatusError(429), StatusError(429), ValueError("once")]

    def call(record: Record, _key: str) -> str:
        if errors:
            raise errors.pop(0)
        return record.input

    def made() -> Outcome:
        config, rows = stage.config(max_retries=1, api_keys=KEYS[:1]), [Record("0", "x", "text")]
        return answer(
            config, rows, function=StandIn(lambda _: call), clock=FakeClock(), quiet=True
        )["0"]

    first = made()
    assert (first.output, first.attempts) == ("text", 4)
    errors.append(StatusError(401))
    with pytest.raises(NoUsableKeyError):
        made()


INTERRUPTED = """
import sys
from jsonl_runner import ParallelToolkit, Prompt
tool = ParallelToolkit("settings.json", "data.jsonl", "output.jsonl", quiet=True, threads=2)
print("begun", flush=True)
try:
    if sys.argv[1] == "run":
        tool.run()
    else:
        tool.parallel_api({number: Prompt(f"row {number}") for number in range(500)})
except KeyboardInterrupt as error:
    print("KeyboardInterrupt:", error)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("what", ["run", "parallel_api"])
def test_ctrl_c_is_a_keyboard_interrupt(stage: Stage, simulator: Simulator, what: str) -> None:
    """A program of one's own gets what it knows; what was answered until then is written."""
    write_rows(stage.data, [row(number) for number in range(500)])
    stage.config_file()
    simulator.settings = SimulatorSettings(latency_s=0.05)
    words = [sys.executable, "-c", INTERRUPTED, what]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=stage.folder, stdout=pipe, text=True) as process:
        try:
            while sum(call.status == 200 for call in simulator.journal.calls) < 4:
                assert process.poll() is None
                threading.Event().wait(0.02)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=10)
        finally:
            process.kill()
    assert out == "begun\nKeyboardInterrupt: interrupted by SIGINT\n"
    billed = {text.removeprefix("row ") for text in simulator.journal.prompts()}
    assert 4 <= len(billed) < 500
    assert (set(read_ledger(stage.output)) if what == "run" else billed) == billed


class Deadline(FakeClock):
    """A clock that loses patience after hours of simulated time."""

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        super().wait(condition, seconds)
        if self.now() > 1_000_000:
            raise TimeoutError


def test_a_question_does_not_wait_for_ever(stage: Stage) -> None:
    """Single calls stop after stall_timeout without any success, as runs do."""
    stage.simulator.settings = SimulatorSettings(fault_rates={"429_bare": 1.0})
    config = stage.config(stall_timeout=120, timeout=5)
    with pytest.raises(RunStoppedError):
        answer(config, [Record("0", "Hello")], clock=Deadline(), quiet=True)


def test_what_is_odd_is_told_with_single_calls_too(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repeated key is noted by a run; many questions are no less."""
    toolkit = tool(stage, quiet=False, api_keys=[KEYS[0], KEYS[0]])
    toolkit.parallel_api({0: Prompt("x")})
    assert "entry 2 repeats key 1" in capsys.readouterr().err


def test_it_works_in_any_thread(stage: Stage) -> None:
    """Servers and notebooks call from other threads, where no signal handler may be set."""
    write_rows(stage.data, ROWS)
    thread = threading.Thread(target=tool(stage).run)
    thread.start()
    thread.join(10)
    assert len(read_ledger(stage.output)) == 5
