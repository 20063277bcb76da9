"""The older toolkits' names: single calls, many at once, folders, the process-wide rotator."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS

from jsonl_runner import (
    APIKeyManager,
    ConfigError,
    Gpt4,
    Gpt35Turbo,
    Gpt35Turbo0613,
    Gpt35Turbo16K,
    NoUsableKeyError,
    OpenAIModel,
    ParallelToolkit,
    multi_process_one,
    multi_thread_run,
    request_openai_api,
)
from jsonl_runner.simulator import SimulatorSettings, answer_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import Stage


def told(prompt: str, content: str, model: str = "gpt-3.5-turbo") -> str:
    """Return what the simulator answers to a model of the older form."""
    messages = [{"role": "system", "content": prompt}] if prompt else []
    return answer_text(
        {"model": model, "messages": [*messages, {"role": "user", "content": content}]}
    )


@pytest.fixture(autouse=True)
def manager(stage: Stage) -> Iterator[APIKeyManager]:
    """The process-wide rotator, on the simulator's keys, forgotten afterwards."""
    made = APIKeyManager(config_path=stage.config_file(), set_api_base=True)
    yield made
    made.close()


class Own(OpenAIModel):
    """The first documented form: it has its texts, and calls the SDK itself."""

    def __init__(self, content: str, prompt: str, temperature: float = 0) -> None:
        self.content = content
        self.prompt = prompt
        self.temperature = temperature

    def generate(self) -> Any:  # type: ignore[override]
        return self.client.chat.completions.create(
            model="gpt-4.1",
            messages=[
                {"role": "system", "content": self.prompt},
                {"role": "user", "content": self.content},
            ],
            temperature=self.temperature,
        )


class Brief(OpenAIModel):
    """The second: its texts come with each call, and what it returns is a completion."""

    def generate(self, instruction: str, input: str) -> Any:  # type: ignore[override] # noqa: A002
        completion = self.client.chat.completions.create(
            model=self.model_name or "",
            messages=[
                {"role": "system", "content": instruction},
                {"role": "user", "content": input},
            ],
        )
        return completion.model_dump()


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (Gpt35Turbo, "gpt-3.5-turbo"),
        (Gpt35Turbo16K, "gpt-3.5-turbo-16k"),
        (Gpt35Turbo0613, "gpt-3.5-turbo-0613"),
        (Gpt4, "gpt-4"),
    ],
)
def test_a_single_call(stage: Stage, kind: type[Gpt35Turbo], model: str) -> None:
    """Each built-in model sends its name, its texts and its temperature; the text comes back."""
    asked = kind(content="hello world", prompt="Repeat.", temperature=0.7)
    assert request_openai_api(asked) == told("Repeat.", "hello world", model)
    assert request_openai_api(kind("hi", "", 0.7), config_path=stage.config_file()) == told(
        "", "hi", model
    )
    assert request_openai_api(kind("hi", "")) == told("", "hi", model)
    stage.simulator.settings = SimulatorSettings(unsupported_params=("temperature",))
    assert request_openai_api(kind("[[fault:context_length]]", "", 0.7)) is None


def test_a_call_that_fails_for_good_is_none(stage: Stage) -> None:
    """After as many tries as asked for."""
    asked = Gpt35Turbo("[[fault:500]]", "", 0)
    assert request_openai_api(asked, max_retries=1) is None
    assert len(stage.simulator.journal.calls) == 2


def test_a_model_that_calls_the_sdk_in_64_threads(stage: Stage) -> None:
    """Keys come from the rotator, each call has one, and a dead one costs one call."""
    stage.simulator.settings = SimulatorSettings(keys=KEYS[1:], latency_s=0.01)
    texts = [f"text {number}" for number in range(200)]
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda text: request_openai_api(Own(text, "Repeat.")), texts))
    assert answers == [told("Repeat.", text, "gpt-4.1") for text in texts]
    keys = [call.key for call in stage.simulator.journal.calls]
    assert (keys.count(KEYS[0]), keys.count(KEYS[1])) == (1, 200)


def test_many_at_once_keep_their_order(stage: Stage) -> None:
    """A result for each tuple, None where it failed for good; tokens of both forms are counted."""
    stage.simulator.settings = SimulatorSettings(latency_s=0.005, latency_spread_s=0.02)
    data = [("Repeat.", f"text {number}") for number in range(80)]
    data[5] = ("Repeat.", "[[fault:context_length]]")
    want: list[str | None] = [told("Repeat.", content) for _, content in data]
    want[5] = None
    assert multi_process_one(data=data, openai_model_class=Gpt35Turbo, temperature=0.7) == want
    assert multi_process_one(data, Brief, threads=4, model_name="gpt-4")[3] == told(
        "Repeat.", "text 3", "gpt-4"
    )
    assert multi_process_one([], Gpt35Turbo) == []


def test_threads_bound_them(stage: Stage) -> None:
    """No more at once than asked for."""
    stage.simulator.settings = SimulatorSettings(latency_s=0.01)
    multi_process_one([("p", str(number)) for number in range(40)], Gpt35Turbo, threads=3)
    assert stage.simulator.journal.max_in_flight <= 3


def test_what_follows_prompt_and_content_goes_to_the_other_parameters() -> None:
    """In the order of the class; a tuple's own value goes before one for all."""

    class Styled(OpenAIModel):
        def __init__(self, content: str, prompt: str, temperature: float, style: str) -> None:
            self.all = f"{prompt}|{content}|{temperature}|{style}"

        def generate(self) -> str:  # type: ignore[override]
            return self.all

    data = [("p", "a", 0.5, "x"), ("p", "b", 0.6)]
    assert multi_process_one(data, Styled, style="y") == ["p|a|0.5|x", "p|b|0.6|y"]
    with pytest.raises(ConfigError, match=r"data\[1\] has 5 values; .* of 2 to 4"):
        multi_process_one([("p", "a", 1, "x"), ("p", "a", 1, "x", "z")], Styled)
    with pytest.raises(ConfigError, match=r"data\[0\] has 1 values"):
        multi_process_one([("p",)], OpenAIModel)


def test_dead_keys_end_it_with_what_had_come(stage: Stage) -> None:
    """Nothing that was paid for is thrown away."""
    data = [("", "one"), ("", "two"), ("", "three [[fault:401]]"), ("", "four")]
    with pytest.raises(NoUsableKeyError) as caught:
        multi_process_one(data, Gpt35Turbo, threads=1)
    assert caught.value.answers[:3] == [told("", "one"), told("", "two"), None]


def test_the_manager_is_one_for_the_process(stage: Stage, manager: APIKeyManager) -> None:
    """Whoever asks again gets the same, however the settings are named."""
    assert APIKeyManager() is manager
    assert APIKeyManager(stage.config_file()) is manager
    assert APIKeyManager(config_path=str(stage.config_file())) is manager
    assert manager.get_key_length() == 2
    other = APIKeyManager(["sk-other-key-00000000"], stage.config_file())
    assert other is not manager
    assert other.get_key_length() == 1
    assert APIKeyManager() is manager
    other.close()
    found: list[APIKeyManager] = []
    thread = threading.Thread(target=lambda: found.append(APIKeyManager()))
    thread.start()
    thread.join(5)
    assert found == [manager]


def test_a_manager_without_a_key_or_without_the_files_address(stage: Stage) -> None:
    """No key is said at once; without `set_api_base` calls would go to OpenAI."""
    empty = stage.folder / "empty.json"
    empty.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="no API key"):
        APIKeyManager(config_path=empty)
    plain = APIKeyManager(config_path=stage.config_file(), set_api_base=False)
    assert plain.session.config.api_base == "https://api.openai.com/v1"
    plain.close()


def test_keys_given_by_hand(stage: Stage) -> None:
    """As in the older function."""
    asked = Gpt35Turbo("hi", "", 0)
    assert request_openai_api(asked, keys=[KEYS[1]], config_path=stage.config_file()) == told(
        "", "hi"
    )
    assert stage.simulator.journal.calls[-1].key == KEYS[1]
    APIKeyManager([KEYS[1]], stage.config_file()).close()


def test_it_starts_anew_after_all_keys_were_dead(stage: Stage) -> None:
    """Somebody has paid the bill: the same program goes on."""
    stage.simulator.settings = SimulatorSettings(keys=())
    asked = Gpt35Turbo("hi", "", 0)
    with pytest.raises(NoUsableKeyError):
        request_openai_api(asked)
    stage.simulator.settings = SimulatorSettings()
    assert request_openai_api(asked) == told("", "hi")


def test_the_wrong_form_is_named() -> None:
    """A model that takes a row holds no texts to ask about, and the other way round."""
    with pytest.raises(ConfigError, match="whose generate\\(\\) has its own texts"):
        request_openai_api(Brief("gpt-4.1"))
    with pytest.raises(ConfigError, match="takes no row"):
        ParallelToolkit(openai_model=Gpt35Turbo("hi", "", 0))
    with pytest.raises(ConfigError, match="takes no api_key: put keys into the configuration"):
        OpenAIModel("gpt-4.1", api_key=KEYS[0])
    with pytest.raises(ConfigError, match=r"generate\(\) needs a key: .* request_openai_api"):
        Gpt35Turbo("hi", "", 0).generate()


def write_texts(stage: Stage, texts: dict[str, str]) -> Path:
    source = stage.folder / "in"
    for name, text in texts.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return source


class Answers(ParallelToolkit):
    """Asks about each file, and about each of its lines."""

    @staticmethod
    def process_data(data: str) -> Any:
        if "crash" in data:
            raise ValueError("an odd file")
        whole = request_openai_api(Gpt35Turbo(content=data, prompt="", temperature=0.7))
        lines = [("Repeat.", line) for line in data.splitlines()]
        return [whole, *multi_process_one(lines, Gpt35Turbo, temperature=0.7)]


def folder_of(stage: Stage, **more: Any) -> Answers:
    return Answers(
        stage.config_file(),
        input_path=stage.folder / "in",
        output_path=stage.folder / "out",
        **{"quiet": True, "num_threads": 4, **more},
    )


def test_calls_within_a_folder_take_its_keys(stage: Stage, manager: APIKeyManager) -> None:
    """Files, their calls and the process's own: the folder's are on one rotator of its own."""
    stage.simulator.settings = SimulatorSettings(keys=KEYS[1:])
    texts = {f"sub{n % 3}/file{n}.txt": f"one {n}\ntwo {n}" for n in range(30)}
    texts["bad.md"] = "crash"
    write_texts(stage, texts)
    summary = folder_of(stage).run()
    assert (summary.done, summary.failed, summary.exit_code) == (30, 1, 1)
    assert summary.failures["ValueError"].example == "bad.md"
    assert "an odd file" in summary.failures["ValueError"].message
    assert summary.tokens.total > 0
    for name, text in texts.items():
        if name != "bad.md":
            found = json.loads((stage.folder / "out" / name).with_suffix(".json").read_bytes())
            lines = [told("Repeat.", line) for line in text.splitlines()]
            assert found == [told("", text), *lines]
    keys = [call.key for call in stage.simulator.journal.calls]
    assert (keys.count(KEYS[0]), keys.count(KEYS[1])) == (1, 90)
    assert not any(call.key for call in stage.simulator.journal.calls if call.key not in KEYS)
    assert manager.session.summary.done == 0
    (stage.folder / "in" / "bad.md").write_text("mended", encoding="utf-8")
    again = folder_of(stage).run()
    assert (again.skipped, again.done) == (30, 1)


def test_files_with_calls_that_came_to_nothing_are_named(stage: Stage) -> None:
    """They were written as the step wished, with None; whoever wants them redone can find them."""
    write_texts(stage, {"a.txt": "fine", "b/c.txt": "x\n[[fault:context_length]]"})
    summary = folder_of(stage).run()
    assert summary.done == 2
    (note,) = [note for note in summary.notes if "gave None" in note]
    assert "1 files were written" in note
    assert "b/c.txt" in note


def test_dead_keys_stop_a_folder(stage: Stage) -> None:
    """Files that were begun are left, not failed; the next run does them."""
    write_texts(stage, {f"{n}.txt": f"text {n}" for n in range(20)})
    stage.simulator.settings = SimulatorSettings(keys=())
    with pytest.raises(NoUsableKeyError) as caught:
        folder_of(stage).run()
    assert (caught.value.summary.done, caught.value.summary.failed) == (0, 0)
    assert len(stage.simulator.journal.calls) == 2
    stage.simulator.settings = SimulatorSettings()
    assert folder_of(stage, file_count=5).run().done == 5
    assert folder_of(stage).run().done == 15


def test_a_folder_without_steps_asks_the_model(stage: Stage) -> None:
    """Each file's text is the prompt; parameters are those of the toolkit."""
    source = write_texts(stage, {"a.txt": "Hello", "deep/er/b.md": "[[fault:context_length]]"})
    tool = ParallelToolkit(
        stage.config_file(),
        source,
        stage.folder / "out",
        openai_model=OpenAIModel("gpt-4.1"),
        quiet=True,
    )
    summary = tool.run()
    assert (summary.done, list(summary.failures)) == (1, ["context_length_exceeded"])
    assert (stage.folder / "out" / "a.txt").read_text(encoding="utf-8") == told(
        "", "Hello", "gpt-4.1"
    )


def test_a_folder_of_texts_through_one_instruction(stage: Stage) -> None:
    """What `jsonl-runner files` does, in Python."""
    source = write_texts(stage, {"a.txt": "Hello", "deep/er/b.md": "[[fault:context_length]]"})
    tool = ParallelToolkit(
        stage.config_file(), source, stage.folder / "out", openai_model=OpenAIModel("gpt-4.1")
    )
    summary = tool.files("Repeat.", globs=("*.txt", "*.md"), suffix=".out", quiet=True)
    assert (summary.written, list(summary.failed)) == (1, ["deep/er/b.md"])
    found = (stage.folder / "out" / "a.out").read_text(encoding="utf-8")
    assert found == told("Repeat.", "Hello", "gpt-4.1")


def test_a_folder_that_makes_no_calls_needs_no_key(stage: Stage) -> None:
    """Steps of one's own may have nothing to do with a provider."""
    source = write_texts(stage, {"a.txt": "Hello"})

    class Upper(ParallelToolkit):
        @staticmethod
        def process_data(data: str) -> str:
            return data.upper()

    Upper(None, source, stage.folder / "out", quiet=True).run()
    assert (stage.folder / "out" / "a.txt").read_text(encoding="utf-8") == "HELLO"
    with pytest.raises(ConfigError, match="no API key"):
        ParallelToolkit(None, source, stage.folder / "out2", quiet=True).run()


def test_a_folder_through_three_functions(stage: Stage) -> None:
    """The older function, without a class."""
    source = write_texts(stage, {"a.txt": "Hello", "b.txt": "there"})
    written: list[str] = []

    def write(data: str, path: str) -> None:
        written.append(data)
        with open(path + ".out", "w", encoding="utf-8") as file:  # noqa: PTH123  # as users do
            file.write(data)

    options: dict[str, Any] = {
        "config_path": stage.config_file(),
        "input_path": str(source),
        "output_path": str(stage.folder / "out"),
        "process_input": lambda file: file.read(),
        "process_data": lambda data: request_openai_api(Gpt35Turbo(data, "", 0)),
        "process_output": write,
    }
    assert multi_thread_run(file_count=1, **options).done == 1
    assert multi_thread_run(file_count=None, **options).done == 1
    assert sorted(written) == sorted([told("", "Hello"), told("", "there")])
    assert (stage.folder / "out" / "b.out").read_text(encoding="utf-8") == told("", "there")
