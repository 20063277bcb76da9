"""The doorway for coroutines: the same answers, and an end with the task."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, expected, read_ledger, row, write_rows

from jsonl_runner import (
    CallFailedError,
    InputError,
    NoUsableKeyError,
    OpenAIModel,
    ParallelToolkit,
    Prompt,
    get_completion_list,
)
from jsonl_runner.simulator import SimulatorSettings, answer_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support import Stage

MODEL = "gpt-4.1-mini"


def tool(stage: Stage, **options: Any) -> ParallelToolkit:
    given = {"quiet": True, **options}
    return ParallelToolkit(stage.config_file(), stage.data, stage.output, **given)


def alone(text: str) -> str:
    return answer_text({"model": MODEL, "messages": [{"role": "user", "content": text}]})


async def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        await asyncio.sleep(0.01)


def test_a_run_cancelled_half_way_goes_on_later(stage: Stage) -> None:
    """The ledger is whole, nothing goes on behind it, and the next run pays for the rest alone."""
    rows = [row(number) for number in range(400)]
    write_rows(stage.data, rows)
    stage.simulator.settings = SimulatorSettings(latency_s=0.02)
    journal = stage.simulator.journal

    async def half() -> None:
        task = asyncio.create_task(tool(stage, threads=8).arun())
        await until(lambda: len(journal.calls) > 100)
        asked = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - asked < 3

    asyncio.run(half())
    made = len(journal.calls)
    done = set(read_ledger(stage.output))
    assert 100 - 8 <= len(done) < 400
    time.sleep(0.1)
    assert len(journal.calls) == made
    summary = asyncio.run(tool(stage, threads=8).arun())
    assert (summary.skipped, summary.done) == (len(done), 400 - len(done))
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}
    assert len(journal.calls) <= 400 + 8


def test_a_timeout_ends_calls_that_hang(stage: Stage) -> None:
    """`asyncio.timeout` around a run: it is over at once, and its lock is free."""
    write_rows(stage.data, [row(0, "[[fault:hang]]"), row(1)])

    async def limited() -> None:
        async with asyncio.timeout(1):
            await tool(stage).arun()

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    assert read_ledger(stage.output) == {"1": expected(row(1))}
    write_rows(stage.data, [row(1)])
    assert asyncio.run(tool(stage).arun()).skipped == 1


def test_single_questions_at_the_same_time(stage: Stage) -> None:
    """Each gets its own answer, on one rotator: a dead key costs one call."""
    stage.simulator.settings = SimulatorSettings(keys=KEYS[1:])
    toolkit = tool(stage)

    async def ask() -> list[str]:
        return await asyncio.gather(*(toolkit.aapi(Prompt(f"q {n}")) for n in range(200)))

    assert asyncio.run(ask()) == [alone(f"q {number}") for number in range(200)]
    assert [call.key for call in stage.simulator.journal.calls].count(KEYS[0]) == 1
    with pytest.raises(CallFailedError, match="context_length_exceeded"):
        asyncio.run(toolkit.aapi(Prompt("[[fault:context_length]]")))


def test_a_question_that_is_cancelled_is_given_up(stage: Stage) -> None:
    """Its connection ends, its retries too; the others go on."""
    toolkit = tool(stage, max_retries=50)
    journal = stage.simulator.journal

    async def ask() -> str:
        for fault in ("hang", "500"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await toolkit.aapi(Prompt(f"[[fault:{fault}]]"))
        await until(lambda: journal.in_flight() == 0)
        made = len(journal.calls)
        answer = await toolkit.aapi(Prompt("hello"))
        assert len(journal.calls) == made + 1
        return answer

    assert asyncio.run(ask()) == alone("hello")


async def later(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


@pytest.mark.parametrize("kind", ["rows", "pairs", "texts", "prompts", "mapping", "asynchronous"])
def test_a_stream_takes_records_in_any_form(stage: Stage, kind: str) -> None:
    """Rows, pairs, prompts or a mapping, from any iterable: each index with its own output."""
    texts = [f"text {number}" for number in range(50)]
    given: dict[str, Any] = {
        "rows": [{"index": n, "instruction": text} for n, text in enumerate(texts)],
        "pairs": enumerate(map(Prompt, texts)),
        "texts": list(enumerate(texts)),
        "prompts": (Prompt(text) for text in texts),
        "mapping": dict(enumerate(map(Prompt, texts))),
        "asynchronous": later([(n, Prompt(text)) for n, text in enumerate(texts)]),
    }

    async def collect() -> dict[int, str | None]:
        return {index: out async for index, out in tool(stage).astream(given[kind])}

    assert asyncio.run(collect()) == {n: alone(text) for n, text in enumerate(texts)}


def test_a_stream_takes_no_more_than_it_needs(stage: Stage) -> None:
    """What is not asked for is not called; who leaves the loop ends what is under way."""
    taken = 0

    def records() -> Any:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield number, f"text {number}"

    async def some() -> None:
        stream = tool(stage, threads=4).astream(records())
        async for _ in stream:
            if taken >= 20:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        await until(lambda: stage.simulator.journal.in_flight() == 0)

    asyncio.run(some())
    assert taken < 40
    time.sleep(0.1)  # a call that was about to begin at that moment may go on
    made = len(stage.simulator.journal.calls)
    assert made <= taken
    time.sleep(0.1)
    assert len(stage.simulator.journal.calls) == made


def test_a_stream_whose_source_waits_for_its_answers(stage: Stage) -> None:
    """A conversation: the next question is made of the last answer."""
    answers: list[str] = []

    async def turns() -> AsyncIterator[tuple[int, str]]:
        for number in range(3):
            await until(lambda: len(answers) == number)  # noqa: B023  # awaited at once
            yield number, answers[-1] if answers else "begin"

    async def talk() -> None:
        async for _, output in tool(stage).astream(turns()):
            assert output is not None
            answers.append(output)

    asyncio.run(talk())
    assert answers == [alone("begin"), alone(answers[0]), alone(answers[1])]


def test_a_stream_gives_none_for_what_failed(stage: Stage) -> None:
    """The others come all the same."""

    async def collect() -> dict[str, str | None]:
        records = {"good": Prompt("fine"), "bad": Prompt("[[fault:context_length]]")}
        return {index: out async for index, out in tool(stage).astream(records)}

    assert asyncio.run(collect()) == {"good": alone("fine"), "bad": None}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"index": 1}, r"records\[1\]: it has no \"instruction\""),
        ({"instruction": "x"}, r"records\[1\]: .*index"),
        (5, r"records\[1\]: must be a row .*not int"),
        ({"index": 1, "instruction": {1, 2}}, r"records\[1\]: "),
    ],
)
def test_a_record_that_cannot_be_used_ends_the_stream(
    stage: Stage, item: object, words: str
) -> None:
    """It is named by its place and what is wrong with it."""

    async def collect() -> None:
        async for _ in tool(stage).astream([(0, "fine"), item]):
            pass

    with pytest.raises(InputError, match=words):
        asyncio.run(collect())


def test_dead_keys_end_a_stream(stage: Stage) -> None:
    """With the reason."""
    stage.simulator.settings = SimulatorSettings(keys=())

    async def collect() -> None:
        async for _ in tool(stage).astream(enumerate(["a", "b", "c"])):
            pass

    with pytest.raises(NoUsableKeyError):
        asyncio.run(collect())


def test_a_list_of_completions(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """In order, None for what failed for good, never more at once than asked for."""
    stage.simulator.settings = SimulatorSettings(latency_s=0.01)
    contents: list[Any] = [f"text {number}" for number in range(60)]
    contents[7] = "[[fault:context_length]]"
    contents[8] = Prompt("Repeat.", "x")
    options = {"config_path": stage.config_file(), "quiet": True}
    found = asyncio.run(get_completion_list(contents, 6, 10, **options))  # type: ignore[arg-type]
    want: list[str | None] = [alone(f"text {number}") for number in range(60)]
    want[7] = None
    want[8] = expected({"instruction": "Repeat.", "input": "x"})
    assert found == want
    assert 1 < stage.simulator.journal.max_in_flight <= 6
    assert capsys.readouterr().err == ""
    assert asyncio.run(get_completion_list([], config_path=stage.config_file())) == []


def test_a_timeout_of_one_call_ends_stuck_connections(stage: Stage) -> None:
    """A call that hangs is cut off and tried again; one that always does is None."""
    contents = ["[[fault:hang*1]]", "[[fault:hang]]", "fine"]
    found = asyncio.run(
        get_completion_list(
            contents, 3, 0.3, config_path=stage.config_file(), quiet=True, max_retries=1
        )
    )
    assert found == [alone("[[fault:hang*1]]"), None, alone("fine")]
    asyncio.run(until(lambda: stage.simulator.journal.in_flight() == 0))


def test_a_list_of_completions_of_a_model(stage: Stage) -> None:
    """Name and parameters of a model are sent; a model of one's own is called."""

    class Loud(OpenAIModel):
        def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002
            return super().generate(instruction, input).upper()

    found = asyncio.run(
        get_completion_list(
            ["x"],
            openai_model=Loud("gpt-4.1", temperature=0.5),
            config_path=stage.config_file(),
            quiet=True,
        )
    )
    messages = [{"role": "user", "content": "x"}]
    assert found == [answer_text({"model": "gpt-4.1", "messages": messages}).upper()]


def test_dead_keys_end_a_list_of_completions(stage: Stage) -> None:
    """What had been paid for by then comes with the error, in order."""
    contents = ["one", "two", "three [[fault:401]]", "four"]
    with pytest.raises(NoUsableKeyError) as caught:
        asyncio.run(get_completion_list(contents, 1, config_path=stage.config_file(), quiet=True))
    assert caught.value.answers == [alone("one"), alone("two"), None, None]


def test_cancelling_a_list_of_completions_ends_its_calls(stage: Stage) -> None:
    """None of them goes on behind the back."""

    async def limited() -> None:
        async with asyncio.timeout(0.5):
            contents = ["[[fault:hang]]"] * 5
            await get_completion_list(contents, 5, config_path=stage.config_file(), quiet=True)

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    asyncio.run(until(lambda: stage.simulator.journal.in_flight() == 0))
    assert len(stage.simulator.journal.calls) <= 5
