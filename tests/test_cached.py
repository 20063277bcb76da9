"""Runs with the cache: hits cost nothing and say so, identical rows are asked once."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, FakeClock, Stage, expected, read_calls, read_ledger, row

from jsonl_runner.assembly import Crew, assemble
from jsonl_runner.clock import Stop, SystemClock
from jsonl_runner.models import Prompt
from jsonl_runner.records import Outcome, Record
from jsonl_runner.toolkit import ParallelToolkit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jsonl_runner.summary import RunSummary

REPEAT = "cached answers repeat"
TRANSPORTS = ("curl", "openai")


def calls(stage: Stage) -> int:
    return len(stage.simulator.journal.calls)


def again(stage: Stage, rows: Any = None, **settings: Any) -> tuple[RunSummary, int]:
    """Run the rows into a new ledger with the cache; return what was done, and the calls made."""
    for path in stage.folder.glob("output*"):
        path.unlink()
    before = calls(stage)
    given = {"cache": True, "cache_directory": stage.folder / "kept", **settings}
    given["cache_directory"] = str(given["cache_directory"])
    summary = stage.run(rows, **given)
    return summary, calls(stage) - before


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_second_run_makes_no_call(stage: Stage, transport: str) -> None:
    """The answers are the same, the log marks them, and nothing is counted as spent."""
    rows = [row(number) for number in range(20)]
    first, made = again(stage, rows, transport=transport)
    assert (first.done, first.cached, made) == (20, 0, 20)
    paid = read_calls(stage.output)
    answers = read_ledger(stage.output)
    second, made = again(stage, transport=transport)
    assert (second.done, second.cached, made) == (20, 20, 0)
    assert read_ledger(stage.output) == answers == {str(i): expected(row(i)) for i in range(20)}
    assert (second.tokens.total, second.cost, second.retried) == (0, None, 0)
    assert first.tokens.total > 0
    assert "answered without a call, from the cache: 20" in second.lines()
    assert second.to_dict()["cached"] == 20
    assert not any("cache" in line for line in first.lines())
    for index, entry in read_calls(stage.output).items():
        assert "cached" not in paid[index]
        assert entry["cached"] is True
        assert (entry["attempts"], entry["usage"], entry["cost"]) == (0, None, None)
        assert (entry["key"], entry["status"]) == ("", "ok")
        for name in ("model", "finish_reason", "fingerprint"):
            assert entry[name] == paid[index][name]


def test_without_the_cache_nothing_is_kept(stage: Stage) -> None:
    """A run keeps nothing unless it is asked to."""
    for _ in range(2):
        summary, made = again(stage, [row(0), row(1, "row 0")], cache=None)
        assert (summary.cached, made) == (0, 2)
    assert not (stage.folder / "kept").exists()


@pytest.mark.parametrize(
    "other",
    [{"model": "gpt-4.1"}, {"params": {"temperature": 0.3}}, {"cache": False}],
    ids=str,
)
def test_another_request_is_another_call(stage: Stage, other: dict[str, Any]) -> None:
    """Another model or temperature is asked, and then known as well."""
    again(stage, [row(0)])
    summary, made = again(stage, **other)
    assert (summary.done, made) == (1, 1)
    assert again(stage)[1] == 0
    if "cache" not in other:
        assert again(stage, **other)[1] == 0


def test_another_place_is_another_call(stage: Stage) -> None:
    """The same server under another name may be another one."""
    again(stage, [row(0)])
    base = stage.simulator.base_url
    assert again(stage, api_base=base.replace("127.0.0.1", "localhost"), proxy=None)[1] == 1
    assert again(stage, api_base=base + "/")[1] == 0


def test_answers_expire(stage: Stage, clock: FakeClock) -> None:
    """By the days that were set."""
    settings: dict[str, Any] = {"cache": True, "cache_directory": str(stage.folder / "kept")}
    for wait_days, made in ((0, 1), (1.9, 0), (0.2, 1)):
        clock.advance(wait_days * 86_400)
        stage.simulator.journal.clear()
        stage.output.unlink(missing_ok=True)
        stage.run([row(0)], clock=clock, cache_expiry_days=2.0, **settings)
        assert calls(stage) == made


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("length", 1),
        ("tool_calls", 1),
        ("content_filter", 0),
        ("refusal", 0),
        ("empty_answer", 0),
        ("400", 0),
        ("500*1", 0),
    ],
)
def test_only_successes_are_kept(stage: Stage, kind: str, kept: int) -> None:
    """A cut-off answer is one, and stays marked; what failed is asked again."""
    rows = [row(0, f"[[fault:{kind}]] please")]
    first, _ = again(stage, rows, max_retries=0)
    entry = read_calls(stage.output)["0"]
    second, made = again(stage, max_retries=0)
    assert (made, second.cached) == ((0, 1) if kept else (1, 0))
    assert second.cut_off == first.cut_off == (kind == "length")
    if kept:
        assert read_calls(stage.output)["0"]["message"] == entry["message"]


def test_no_key_reaches_the_disk(stage: Stage) -> None:
    """Neither those that made the calls, nor one that an answer repeats."""
    rows = [row(0), row(1, f"say {KEYS[0]}"), row(2, "[[fault:key_echo*1]]")]
    again(stage, rows)
    kept = b"".join(p.read_bytes() for p in (stage.folder / "kept").rglob("*") if p.is_file())
    assert b"gpt-4.1-mini" in kept
    for key in KEYS:
        assert key[3:].encode() not in kept
    stage.simulator.settings = replace(stage.simulator.settings, keys=None)
    assert again(stage)[1] == 1  # the answer with the key in it is not kept


def test_a_hit_takes_no_key(stage: Stage, clock: FakeClock) -> None:
    """A limit of one call a minute makes no hit wait, and dead keys do not matter."""
    settings: dict[str, Any] = {"cache": True, "cache_directory": str(stage.folder / "kept")}
    stage.run([row(number) for number in range(30)], clock=clock, **settings)
    stage.simulator.settings = replace(stage.simulator.settings, keys=())
    stage.output.unlink()
    before = clock.now()
    summary = stage.run(clock=clock, requests_per_minute=1, **settings)
    assert (summary.done, summary.cached) == (30, 30)
    assert clock.now() == before


def test_identical_rows_are_asked_once(stage: Stage) -> None:
    """However many threads they come to at the same time."""
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=0.05)
    rows = [row(number, f"text {number % 3}") for number in range(60)]
    summary, made = again(stage, rows, threads=16)
    assert (summary.done, summary.cached, made) == (60, 57, 3)
    ledger = read_ledger(stage.output)
    assert ledger == {str(item["index"]): expected(item) for item in rows}


def test_if_the_first_fails_the_next_one_asks(stage: Stage) -> None:
    """Its failure is its own; the others get the answer that the next one brings."""
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=0.02)
    rows = [row(number, "[[fault:400*1]] twin") for number in range(10)]
    summary, made = again(stage, rows, threads=10)
    assert (summary.failed, summary.done, summary.cached, made) == (1, 9, 8, 2)


def test_a_refused_parameter_still_leads_to_the_known_answer(stage: Stage) -> None:
    """The request that is kept is the one that was answered."""
    stage.simulator.settings = replace(
        stage.simulator.settings, unsupported_params=("temperature",)
    )
    params = {"params": {"temperature": 0.5}}
    assert again(stage, [row(0)], **params)[1] == 2
    summary, made = again(stage, **params)
    assert (summary.cached, made) == (1, 1)  # the refusal costs nothing, and nothing else is asked


def test_identical_rows_behind_a_refused_parameter(stage: Stage) -> None:
    """Those that wait for a request that is corrected on the way do not wait for ever."""
    stage.simulator.settings = replace(
        stage.simulator.settings, unsupported_params=("temperature",), latency_s=0.02
    )
    rows = [row(number, "the same") for number in range(8)]
    summary, made = again(stage, rows, threads=8, params={"temperature": 0.5})
    assert (summary.done, summary.cached) == (8, 7)
    assert made <= 9  # each may be refused once, which costs nothing; one is answered


@pytest.mark.parametrize("temperature", [0, 0.0, 0.7, None])
def test_it_is_told_once_that_answers_repeat(stage: Stage, temperature: float | None) -> None:
    """Unless the model was to give the same answer anyhow."""
    params = {} if temperature is None else {"temperature": temperature}
    rows = [row(number, params=params) for number in range(5)]
    first, _ = again(stage, rows)
    second, _ = again(stage)
    told = [note for note in second.notes if REPEAT in note]
    assert len(told) == (temperature != 0)
    assert not any(REPEAT in note for note in first.notes)


@pytest.mark.parametrize("place", ["file", "damaged"])
def test_a_bad_cache_costs_the_cache_only(stage: Stage, place: str) -> None:
    """Every row is done; what is wrong is said in a note of the summary."""
    kept = stage.folder / "kept"
    if place == "file":
        kept.touch()
    else:
        again(stage, [row(0)])
        (kept / "answers-1" / "cache.db").write_bytes(b"garbage" * 999)
    summary, made = again(stage, [row(number) for number in range(20)])
    assert (summary.done, made) == (20, 20)
    assert any(str(kept) in note for note in summary.notes)


def test_a_function_is_always_called(stage: Stage) -> None:
    """What it answers may hang on more than its request."""
    config = stage.config_file(cache=True, cache_directory=str(stage.folder / "kept"))
    asked: list[str] = []

    def upper(_instruction: str, text: str) -> str:
        asked.append(text)
        return text.upper()

    for _ in range(2):
        tool = ParallelToolkit(config, call=upper)
        assert tool.api(prompt=Prompt("Do.", "x")) == "X"
    assert asked == ["x", "x"]


@pytest.fixture
def hire(stage: Stage, clock: FakeClock) -> Iterator[Callable[..., tuple[Crew, Stop, list[str]]]]:
    """Return a function that puts a worker with a cache together."""
    with contextlib.ExitStack() as ends:

        def make(**settings: Any) -> tuple[Crew, Stop, list[str]]:
            stop, notes = Stop(), list[str]()
            time_ = settings.pop("clock", clock)
            given = {"cache": True, "cache_directory": str(stage.folder / "kept"), **settings}
            crew = assemble(stage.config(**given), clock=time_, stop=stop, note=notes.append)
            ends.callback(crew.close)
            return crew, stop, notes

        yield make


def until(condition: Callable[[], bool]) -> None:
    """Wait, in real time, for what other threads are about to do."""
    soon = threading.Event()
    for _ in range(2000):
        if condition():
            return
        soon.wait(0.005)
    raise AssertionError("it never came")


@pytest.mark.parametrize("how", ["abort", "request"])
def test_rows_that_wait_end_with_the_run(
    stage: Stage, hire: Callable[..., tuple[Crew, Stop, list[str]]], how: str
) -> None:
    """They wait without a key; at a stop they stay unwritten, and a call in flight may finish."""
    crew, stop, _ = hire(timeout=600, clock=SystemClock())  # on which nobody looks up by himself
    text = "[[fault:hang]]" if how == "abort" else "slow"
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=0.3)
    with ThreadPoolExecutor(8) as pool:
        rows = [pool.submit(crew.work, Record(str(n), "Repeat.", text)) for n in range(8)]
        try:
            until(lambda: calls(stage) == 1)
            held = crew.rotator.view().in_flight
            getattr(stop, how)()
            outcomes = [future.result(timeout=20) for future in rows]
        finally:
            stop.abort()
    assert held == 1
    done = [outcome for outcome in outcomes if outcome is not None]
    assert len(done) == (0 if how == "abort" else 1)
    assert crew.caching is not None
    assert crew.caching._flights == {}
    assert calls(stage) == 1


def test_the_note_comes_once(hire: Callable[..., tuple[Crew, Stop, list[str]]]) -> None:
    """However many answers repeat."""
    crew, _, notes = hire()
    for number in range(4):
        crew.work(Record(str(number), "Repeat.", "x"))
    assert [REPEAT in note for note in notes] == [True]


def test_another_stop_ends_its_own_rows_only(
    stage: Stage, hire: Callable[..., tuple[Crew, Stop, list[str]]]
) -> None:
    """A call that is given up while it waits for another's answer leaves that one alone."""
    crew, _, _ = hire()
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=0.3)
    own = Stop()
    second = crew.hire(own)
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(crew.work, Record("1", "Repeat.", "x"))
        until(lambda: calls(stage) == 1)
        waiting = pool.submit(second, Record("2", "Repeat.", "x"))
        own.request()
        assert waiting.result(timeout=20) is None
        outcome = asking.result(timeout=20)
    assert outcome is not None
    assert outcome.output is not None


def test_a_defect_lets_the_waiting_go_on(
    stage: Stage, hire: Callable[..., tuple[Crew, Stop, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the row that asks, no other waits for it for ever."""
    crew, _, _ = hire()
    assert crew.caching is not None
    attempt = crew.caching.attempt
    first = threading.Event()

    def broken(*words: Any) -> Any:
        if not first.is_set():
            first.set()
            raise RuntimeError("a defect")
        return attempt(*words)

    monkeypatch.setattr(crew.caching, "attempt", broken)

    def work(number: int) -> Outcome | str | None:
        try:
            return crew.work(Record(str(number), "Repeat.", "x"))
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(work, range(4)))
    assert outcomes.count("a defect") == 1
    done = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
    assert sorted(outcome.cached for outcome in done) == [False, True, True]
    assert calls(stage) == 1


def test_the_option_of_run(stage: Stage) -> None:
    """`--cache` keeps answers and takes them; `--no-cache` goes before `cache: true`."""
    rows = "".join(json.dumps(row(n)) + "\n" for n in range(3))
    stage.data.write_text(rows, encoding="utf-8")
    place = str(stage.folder / "kept")
    for words, config, made in (
        ((), {}, 3),
        (("--cache",), {}, 3),
        (("--cache",), {}, 0),
        ((), {"cache": True}, 0),
        (("--no-cache",), {"cache": True}, 3),
    ):
        stage.output.unlink(missing_ok=True)
        before = calls(stage)
        ended = stage.run_cli(*words, cache_directory=place, **config)
        assert ended.returncode == 0, ended.stderr
        assert calls(stage) - before == made
        assert ("from the cache: 3" in ended.stderr) == (made == 0)
    told = stage.cli("cache", "stats", "--json", "--config", stage.folder / "settings.json")
    assert json.loads(told.stdout)["entries"] == 3


QUESTIONS = """
import sys
from jsonl_runner import ParallelToolkit, Prompt
texts = sys.argv[1:]
tool = ParallelToolkit("settings.json", quiet=True, threads=20, cache=True, cache_directory="kept")
print("ready", flush=True)
sys.stdin.readline()
answers = tool.parallel_api({n: Prompt(f"question {n % 600}") for n in range(1000)})
sys.exit(0 if all(answers.values()) else 1)
"""


def test_several_processes_ask_each_question_once(stage: Stage) -> None:
    """Four at once, 1,000 questions each, of which 400 are repeats: 600 calls in all."""
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=0.01)
    stage.config_file()
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", QUESTIONS],
                    cwd=stage.folder,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.communicate("go\n", timeout=60)
        assert [process.returncode for process in processes] == [0] * 4
    assert calls(stage) == 600
    assert list((stage.folder / "kept").rglob("*.lock")) == []


def test_a_process_that_dies_leaves_its_question_to_others(stage: Stage) -> None:
    """The claim goes with the process: nobody waits for the dead."""
    stage.config_file()
    code = QUESTIONS.replace("question {n % 600}", "[[fault:hang*1]]")
    words = [sys.executable, "-c", code]
    with subprocess.Popen(
        words, cwd=stage.folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        limit = time.monotonic() + 30
        while stage.simulator.journal.count(fault="hang") < 1:
            assert time.monotonic() < limit
            time.sleep(0.02)
        process.kill()
    summary, made = again(stage, [row(0, "x"), {"index": 1, "instruction": "[[fault:hang*1]]"}])
    assert (summary.done, made) == (2, 2)


def test_noise_in_the_middle_of_a_run(stage: Stage) -> None:
    """The cache's file is overwritten while a run uses it: every row has its own answer."""
    rows = [row(number) for number in range(400)]
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=0.01)
    kept = stage.folder / "kept"

    def spoil() -> None:
        while calls(stage) < 150:
            time.sleep(0.005)
        (file,) = kept.rglob("cache.db")
        with file.open("r+b") as stream:
            stream.write(random.Random(1).randbytes(file.stat().st_size))

    with ThreadPoolExecutor(1) as pool:
        spoiling = pool.submit(spoil)
        summary, _ = again(stage, rows, threads=8)
        spoiling.result(10)
    assert (summary.done, summary.exit_code) == (400, 0)
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}
    summary, made = again(stage)
    assert (summary.done, made + summary.cached) == (400, 400)
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}
