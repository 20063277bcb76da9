"""Anthropic's batches, with its SDK: each created once, told apart without files or metadata."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import anthropic
import pytest
from batch_support import Bench
from batch_support import bench as plain_bench
from support import KEYS, Stage, read_calls, read_ledger

from jsonl_runner.batch.anthropic import AnthropicBatches
from jsonl_runner.batch.anthropicwire import body_of, measure
from jsonl_runner.batch.base import Order, ProviderError
from jsonl_runner.batch.fileless import REFUTED, UNSURE
from jsonl_runner.batch.plan import Wishes
from jsonl_runner.batch.profiles import ANTHROPIC
from jsonl_runner.batch.providers import provider_of
from jsonl_runner.batch.reconcile import send
from jsonl_runner.batch.tidy import cancel, clean, to_clean
from jsonl_runner.clock import Stop, SystemClock
from jsonl_runner.errors import ConfigError, NoUsableKeyError, RunStoppedError
from jsonl_runner.simulator import Simulator, SimulatorSettings, answer_text

__all__ = ["plain_bench"]

CREATE, LIST = "POST /v1/messages/batches", "GET /v1/messages/batches"
RETRIEVE, RESULTS = f"{LIST}/{{id}}", f"{LIST}/{{id}}/results"
MODEL = "claude-haiku-4-5"


class AnthropicBench(Bench):
    """A bench with Anthropic's batches."""

    model = MODEL

    def provider(self, stop: Stop) -> Any:
        return AnthropicBatches(self.limits(), ANTHROPIC, self.clock, stop)

    def submit(self, size: int | None = None, **more: Any) -> None:
        """Plan and send what there is, and leave."""
        with self.open(**more) as batches:
            batches.plan(self.stage.data, Wishes(max_requests=size))
            batches.submit()

    def check(self, rows: list[dict[str, Any]]) -> None:
        """Every row has its own output, on one line, and was paid once."""
        assert len(self.stage.output.read_bytes().splitlines()) == len(rows)
        assert read_ledger(self.stage.output) == {str(r["index"]): answer(r) for r in rows}
        assert self.billed() == Counter(r["input"] for r in rows)

    def sizes(self) -> list[int]:
        """Return how many requests each batch has that the server made."""
        return [len(batch.custom_ids) for batch in self.simulator.journal.batches.created]

    def foreign(self, count: int, text: str = "somebody else's") -> str:
        """Create a batch beside ours, with the key of ours, and return its id."""
        base = self.simulator.base_url.removesuffix("/v1")
        asked: list[Any] = [
            {
                "custom_id": f"theirs-{number}",
                "params": {
                    "model": MODEL,
                    "max_tokens": 9,
                    "messages": [{"role": "user", "content": f"{text} {number}"}],
                },
            }
            for number in range(count)
        ]
        with anthropic.Anthropic(api_key=KEYS[0], base_url=base, max_retries=0) as client:
            return client.messages.batches.create(requests=asked).id


def answer(item: dict[str, Any]) -> str:
    """Return what the simulator answers to a row."""
    return answer_text({"model": MODEL, "messages": [{"role": "user", "content": item["input"]}]})


@pytest.fixture
def bench(plain_bench: Bench) -> AnthropicBench:
    return AnthropicBench(plain_bench.stage, plain_bench.clock)


def test_rows_go_in_batches_and_each_has_its_output(bench: AnthropicBench) -> None:
    """Of each part one row is answered live, the others in its batch; no two are of one size."""
    rows = bench.rows(1000)
    batches = bench.run(300)
    bench.check(rows)
    assert (batches.summary.done, batches.summary.left) == (1000, 0)
    assert bench.sizes() == [299, 298, 297, 102]
    parts = bench.parts()
    assert {part.state for part in parts} == {"collected"}
    created = bench.simulator.journal.batches.created
    ids = [name for batch in created for name in batch.custom_ids]
    assert all(re.fullmatch(r"[0-9a-f]{8}-0001_\d+", name) for name in ids)
    for path in bench.stage.folder.rglob("*"):
        assert not path.is_file() or KEYS[0].encode() not in path.read_bytes(), path
    calls = read_calls(bench.stage.output)
    assert calls["7"]["usage"]["completion_tokens"] > 0
    assert calls["7"]["finish_reason"] == "stop"
    live = [index for index, call in calls.items() if not call.get("batch")]
    assert live == ["0", "300", "599", "897"], "the first requests were calls, at a call's price"
    assert {call["batch"] for call in calls.values() if call.get("batch")} == {
        batch.batch_id for batch in created
    }


def test_one_row_needs_no_batch(bench: AnthropicBench) -> None:
    """The first request is the whole part."""
    rows = bench.rows(1)
    bench.run()
    bench.check(rows)
    assert bench.sizes() == []


@pytest.mark.parametrize("what", ["answer", "answer_500"])
def test_a_batch_whose_creation_was_not_answered_is_adopted(
    bench: AnthropicBench, what: Any
) -> None:
    """By its size until it is over, then by what its results name."""
    rows = bench.rows(30)
    bench.set(batch_in_progress_s=1800.0)
    bench.simulator.lose_next(CREATE, what)
    bench.run(12)
    bench.check(rows)
    assert len(bench.sizes()) == 3
    with bench.open() as batches:
        said = [outcome for *_, outcome, _ in batches.manifest.operations(1)]
    assert said[-2:] == [UNSURE, "confirmed"]


def test_a_batch_that_was_not_created_is_created_after_the_settle_time(
    bench: AnthropicBench,
) -> None:
    """No batch of that size in the list for long enough."""
    rows = bench.rows(10)
    bench.simulator.lose_next(CREATE, "request")
    before = bench.clock.now()
    bench.run()
    bench.check(rows)
    assert bench.sizes() == [9]
    assert bench.clock.now() - before >= 900


def test_a_strangers_batch_of_the_same_size_is_given_back(bench: AnthropicBench) -> None:
    """It was taken for ours while it ran: its results say otherwise, and ours is created."""
    rows = bench.rows(10)
    bench.set(batch_in_progress_s=1800.0)
    theirs = bench.foreign(9)
    bench.simulator.lose_next(CREATE, "request")
    bench.submit()
    (part,) = bench.parts()
    assert part.batch == theirs
    with bench.open() as batches:
        assert cancel(batches.desk)[0].cancelling == 0, "it may be somebody else's"
    bench.run()
    assert bench.sizes() == [9, 9]
    assert read_ledger(bench.stage.output) == {str(r["index"]): answer(r) for r in rows}
    assert set(bench.billed().values()) == {1}
    assert any(f"{theirs} is not its own" in note for note in bench.notes)
    with bench.open() as batches:
        assert REFUTED in [outcome for *_, outcome, _ in batches.manifest.operations(1)]
        (cleaning,) = to_clean(batches.manifest, None)
        assert clean(batches.desk, cleaning) == 0
    assert list(bench.simulator.message_batches.statuses()) == [theirs], "theirs is left alone"


def test_batches_that_are_over_are_told_apart_at_once(bench: AnthropicBench) -> None:
    """Two of the same size, both over: the one that names our rows."""
    rows = bench.rows(10)
    bench.foreign(9)
    bench.simulator.lose_next(CREATE, "answer")
    with bench.open() as batches:
        batches.plan(bench.stage.data, Wishes())
        (part,) = batches.manifest.parts()
        for _ in range(3):
            part = send(batches.desk, part)
        assert part.state == "creating"
    bench.clock.advance(120)
    bench.run()
    assert bench.sizes() == [9, 9]
    assert read_ledger(bench.stage.output) == {str(r["index"]): answer(r) for r in rows}
    with bench.open() as batches:
        assert "confirmed" in [outcome for *_, outcome, _ in batches.manifest.operations(1)]


def test_several_that_may_be_it_stop_the_run(bench: AnthropicBench) -> None:
    """Nobody can know which: their ids are named. Once they are over, the same command goes on."""
    rows = bench.rows(10)
    bench.set(batch_in_progress_s=7200.0)
    theirs = [bench.foreign(9), bench.foreign(9, "more of somebody's")]
    bench.simulator.lose_next(CREATE, "request")
    with pytest.raises(RunStoppedError) as caught:
        bench.run()
    assert all(batch in str(caught.value) for batch in theirs)
    assert bench.sizes() == [9, 9]
    bench.clock.advance(7300)
    bench.run()
    assert bench.sizes() == [9, 9, 9]
    assert read_ledger(bench.stage.output) == {str(r["index"]): answer(r) for r in rows}


def test_a_batch_that_two_parts_may_own_is_created_for_neither(bench: AnthropicBench) -> None:
    """Two parts of one size, one call lost and one answer: the second waits for the first."""
    rows = [
        {
            "index": n,
            "instruction": "x",
            "input": f"row {n}",
            "params": {"model": f"claude-{n % 2}"},
        }
        for n in range(20)
    ]
    bench.stage.data.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    bench.set(batch_in_progress_s=1800.0)
    bench.simulator.lose_next(CREATE, "request")
    bench.simulator.lose_next(CREATE, "answer")
    bench.run()
    assert bench.sizes() == [9, 9]
    assert set(bench.billed().values()) == {1}
    assert len(read_ledger(bench.stage.output)) == 20


def test_a_refused_batch_ends_the_run_and_keeps_the_first_answer(bench: AnthropicBench) -> None:
    """Were it sent again and again, each time would cost a first request."""
    rows = bench.rows(10)
    bench.simulator.fail_next(CREATE, "413")
    with pytest.raises(ConfigError, match="413"):
        bench.run()
    bench.run()
    bench.check(rows)
    assert bench.sizes() == [8]


def test_results_that_are_gone_are_nobodys(bench: AnthropicBench) -> None:
    """A batch of a month ago does not stand in the way of the part that is looked for."""
    rows = bench.rows(10)
    bench.foreign(9)
    bench.clock.advance(30 * 86400)
    bench.simulator.lose_next(CREATE, "request")
    bench.run()
    assert bench.sizes() == [9, 9]
    assert read_ledger(bench.stage.output) == {str(r["index"]): answer(r) for r in rows}


def test_a_young_batch_may_be_unknown_for_a_while(bench: AnthropicBench) -> None:
    """404 for ten minutes, of the batch and of its results."""
    rows = bench.rows(10)
    bench.set(batch_in_progress_s=60.0, batch_hidden_s=600.0, list_lag_s=600.0)
    bench.run()
    bench.check(rows)
    assert bench.sizes() == [9]


def test_lost_calls_of_every_kind(bench: AnthropicBench) -> None:
    """Lists, looks and downloads that break are made again."""
    rows = bench.rows(30)
    for route in (CREATE, LIST, RETRIEVE, RESULTS):
        bench.simulator.lose_next(route, "answer", 2)
    bench.run(12)
    bench.check(rows)
    assert len(bench.sizes()) == 3


def test_a_refused_parameter_is_told_before_anything_is_paid(bench: AnthropicBench) -> None:
    """The provider's words; the parts are let go, so that the next try has other parameters."""
    rows = bench.rows(30)
    bench.set(batch_in_progress_s=60.0, unsupported_params=("speed",))
    with pytest.raises(ConfigError, match="speed") as caught:
        bench.run(12, config={"params": {"speed": "fast"}})
    assert MODEL in str(caught.value)
    assert bench.sizes() == []
    assert bench.billed() == Counter()
    assert {part.state for part in bench.parts()} == {"refused", "withdrawn"}
    bench.run(12)
    bench.check(rows)


def test_a_bad_row_is_no_refused_parameter(bench: AnthropicBench) -> None:
    """The first row is too long: another one is tried, and the batch says so of the first."""
    bench.rows(30, r0="[[fault:context_length]] x")
    batches = bench.run(12)
    assert (batches.summary.done, batches.summary.failed) == (29, 1)
    assert read_ledger(bench.stage.output)["0"] is None
    assert bench.sizes() == [11, 10, 6]


def test_a_model_that_is_not_there(bench: AnthropicBench) -> None:
    """No key has it."""
    bench.rows(10)
    bench.set(models=("claude-other",))
    with pytest.raises(NoUsableKeyError, match=MODEL):
        bench.run()
    assert bench.sizes() == []


def test_a_key_without_credit_gives_way_to_the_next(bench: AnthropicBench) -> None:
    """The 400 that says so is about money, not about a parameter."""
    rows = bench.rows(10)
    bench.set(batch_in_progress_s=60.0, key_faults={KEYS[0]: "credit_balance_exhausted"})
    bench.run()
    bench.check(rows)
    assert bench.parts()[0].key_label.endswith("0002)")
    assert any("credit balance is too low" in note for note in bench.notes)


def test_credit_that_runs_out_within_a_batch_passes(bench: AnthropicBench) -> None:
    """The rows are sent again, none is a null."""
    bench.rows(10, r5="[[fault:credit_balance_exhausted*1]] five")
    batches = bench.run()
    assert (batches.summary.done, batches.summary.failed) == (10, 0)
    assert bench.sizes() == [9], "the one row that was left is its part's first request"
    assert any("credit balance is too low" in note for note in bench.notes)


def test_a_first_request_whose_answer_is_lost_is_made_three_times_at_most(
    bench: AnthropicBench,
) -> None:
    """Each of them may have been paid: then the batch is created without."""
    bench.rows(10, r0="[[fault:reset*3]] zero")
    batches = bench.run()
    assert batches.summary.done == 10
    assert bench.sizes() == [10]
    assert any("created without" in note for note in bench.notes)


@pytest.mark.parametrize("how", ["expired", "cancelled"])
def test_what_an_unfinished_batch_has_done_is_kept(bench: AnthropicBench, how: str) -> None:
    """Half is collected; the other half is sent again, once."""
    rows = bench.rows(41)
    bench.set(batches_by_hand=True, batch_answered_share=0.5)
    bench.submit()
    if how == "cancelled":
        with bench.open() as batches:
            assert [part.cancelling for part in cancel(batches.desk)] == [1]
        bench.simulator.message_batches.advance(to="ended")
    else:
        bench.simulator.message_batches.advance(to="expired")
    with bench.open() as batches:
        batches.fetch()
        assert batches.summary.done == 21, "half of 40, and the first"
        assert batches.released == 20
    bench.set(batch_in_progress_s=60.0)
    bench.run()
    bench.check(rows)
    assert bench.sizes() == [40, 19]


def test_cancelling_what_was_not_sent_keeps_the_first_answer(bench: AnthropicBench) -> None:
    """A paid answer is collected; the other rows are let go."""
    bench.rows(10)
    bench.simulator.fail_next(CREATE, "429", 100)
    with pytest.raises(RunStoppedError):
        bench.submit(config={"stall_timeout": 60})
    with bench.open() as batches:
        assert [part.state for part in cancel(batches.desk)] == ["ended"]
        batches.fetch()
        assert (batches.summary.done, batches.released) == (1, 9)
    assert bench.sizes() == []


def test_nothing_is_deleted_before_it_is_over_and_merged(bench: AnthropicBench) -> None:
    """The provider refuses, and we do not even ask."""
    rows = bench.rows(10)
    bench.submit()
    with bench.open() as batches:
        (part,) = batches.manifest.parts()
        assert to_clean(batches.manifest, None) == []
        with pytest.raises(ConfigError, match="not merged"):
            to_clean(batches.manifest, part.batch)
        with pytest.raises(ProviderError, match="cannot be deleted"):
            batches.desk.provider.delete_batch(part.batch, KEYS[0])
    bench.run()
    bench.check(rows)
    with bench.open() as batches:
        (cleaning,) = to_clean(batches.manifest, None)
        assert clean(batches.desk, cleaning) == 0
        assert to_clean(batches.manifest, None) == []
        batches.desk.provider.delete_batch(part.batch, KEYS[0])  # gone is no error
    assert bench.simulator.message_batches.statuses() == {}


def test_sampling_is_left_out_or_sent_under_the_older_version(bench: AnthropicBench) -> None:
    """By the user's choice, which is kept in the part."""
    rows = bench.rows(10)
    bench.run(config={"params": {"temperature": 0.2}})
    bench.check(rows)
    assert any("takes no temperature any more: left out" in note for note in bench.notes)
    bench.stage.output.unlink()
    with bench.open(config={"params": {"temperature": 0.2}}) as batches:
        batches.run(bench.stage.data, Wishes(sampling=True))
        assert (batches.summary.done, batches.summary.failed) == (10, 0)
    sent = (bench.stage.folder / bench.parts()[-1].path).read_text(encoding="utf-8")
    assert sent.count('"temperature":0.2') == 10


def test_a_model_has_a_part_of_its_own(bench: AnthropicBench) -> None:
    """The first request stands for the others."""
    rows = [
        {
            "index": n,
            "instruction": "x",
            "input": f"row {n}",
            "params": {"model": f"claude-{n % 2}"},
        }
        for n in range(10)
    ]
    bench.stage.data.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    bench.run()
    assert [part.model for part in bench.parts()] == ["claude-0", "claude-1"]
    assert set(bench.billed().values()) == {1}


def test_a_body_is_never_whole_in_memory(tmp_path: Path) -> None:
    """20 MB of requests, of which one is left out, in a megabyte; and the length is right."""
    path = tmp_path / "part.jsonl"
    with path.open("wb") as file:
        for number in range(2000):
            params = {"model": MODEL, "messages": [{"role": "user", "content": "ä" * 5000}]}
            line = {"custom_id": f"t_{number}", "params": params}
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    order = Order(path, "", "t", "t", 1999, "/v1/messages", "", frozenset({"t_7"}))
    tracemalloc.start()
    try:
        size, sampling = measure(order)
        sent = sum(len(block) for block in body_of(order))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (size, sampling) == (sent, False)
    assert peak < 2e6
    found = json.loads(b"".join(body_of(order)))["requests"]
    assert [len(found), "t_7" in {one["custom_id"] for one in found}] == [1999, False]


def test_nothing_of_the_environment_reaches_the_provider(
    bench: AnthropicBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither another key nor another address, header or proxy."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-the-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "authorization: Bearer x\nX-Other: y")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    rows = bench.rows(3)
    bench.run()
    bench.check(rows)
    assert {call.key for call in bench.simulator.journal.calls} == {KEYS[0]}


def test_no_key_is_shown(tmp_path: Path) -> None:
    """Nor in what a server echoes."""
    with Simulator(
        SimulatorSettings(key_faults={KEYS[0]: "key_echo", KEYS[1]: "401"})
    ) as simulator:
        stage = Stage(simulator, tmp_path)
        stage.data.write_text('{"index":1,"instruction":"x","input":"y"}\n', encoding="utf-8")
        words: list[str | Path] = ["batch", "run", stage.data, stage.output]
        words += ["--provider", "anthropic"]
        said = stage.cli(*words, "--config", stage.config_file(), "--debug")
    assert said.returncode != 0
    assert not any(key in said.stdout + said.stderr for key in KEYS)


def test_the_command_line(tmp_path: Path) -> None:
    """`batch run`, `list` and `cleanup` with `--provider anthropic`."""
    with Simulator(SimulatorSettings(batch_in_progress_s=0.1)) as simulator:
        stage = Stage(simulator, tmp_path)
        rows = [{"index": n, "instruction": "x", "input": f"row {n}"} for n in range(5)]
        stage.data.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        more: list[str | Path] = ["--provider", "anthropic"]
        more += ["--config", stage.config_file(model=MODEL)]
        words: list[str | Path] = ["batch", "run", stage.data, stage.output, *more]
        words += ["--poll-seconds", "0.1"]
        said = stage.cli(*words, "--max-tokens", "50", "--temperature", "0.5", "--sampling")
        assert said.returncode == 0, said.stderr
        assert len(read_ledger(stage.output)) == 5
        listed = json.loads(stage.cli("batch", "list", stage.output, "--json").stdout)
        assert [one["state"] for one in listed] == ["collected"]
        said = stage.cli("batch", "cleanup", stage.output, "--all", "--yes", *more)
        assert said.returncode == 0, said.stderr
        assert simulator.message_batches.statuses() == {}


def test_the_address_selects_it(bench: AnthropicBench) -> None:
    """Anthropic's own address does; OpenAI's with `--provider anthropic` is a mistake."""
    clock, stop = SystemClock(), Stop()
    config = bench.stage.config(api_base="https://api.anthropic.com/v1", proxy="")
    with contextlib.closing(provider_of(config, None, clock=clock, stop=stop)) as found:
        assert isinstance(found, AnthropicBatches)
    config = bench.stage.config(api_base="https://api.openai.com/v1", proxy="")
    with pytest.raises(ConfigError, match=r"api\.anthropic\.com/v1"):
        provider_of(config, "anthropic", clock=clock, stop=stop)


def test_without_the_sdk_it_says_what_to_install(tmp_path: Path) -> None:
    """One line with pip's command, and everything else works."""
    blocked = (
        "import sys; sys.modules['anthropic'] = None; from jsonl_runner.__main__ import main; "
    )
    row = tmp_path / "data.jsonl"
    row.write_text('{"index":1,"instruction":"x","input":"y"}\n', encoding="utf-8")
    words = ["batch", "run", str(row), str(tmp_path / "o.jsonl"), "--provider", "anthropic"]
    words += ["--api-base", "https://api.anthropic.com/v1"]
    code = f"{blocked}sys.argv = ['jsonl-runner', *{words!r}]; sys.exit(main())"
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "OPENAI_API_KEY": "sk-ant-any"},
    )
    assert said.returncode == 2, said.stderr
    assert "pip install 'jsonl-runner[anthropic]'" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.skipif(os.name == "nt", reason="it forks")
@pytest.mark.parametrize(("rows", "size", "distance"), [(40, 12, 2), (3000, 800, 17)])
def test_killed_at_every_step_no_batch_is_created_twice(
    tmp_path: Path, rows: int, size: int, distance: int
) -> None:
    """Before and after each HTTP call, commit and file, beside a server that loses calls.

    Each second step is taken, with 3,000 rows each 17th (EVERY_STEP=1: all).
    """
    if os.environ.get("EVERY_STEP"):
        distance = 1
    shards = 4
    rates = dict.fromkeys((CREATE, LIST, RETRIEVE, RESULTS), 0.05)
    settings = SimulatorSettings(
        batch_in_progress_s=0.03,
        list_lag_s=0.1,
        separate_keys=True,
        lost_requests=rates,
        lost_answers=rates,
    )
    program = Path(__file__).with_name("anthropic_crashes.py")
    with Simulator(settings) as simulator:
        running = [
            subprocess.Popen(
                [sys.executable, str(program), str(tmp_path / str(shard)), simulator.base_url]
                + [str(n) for n in (rows, size, 1 + shard * distance, shards * distance)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for shard in range(shards)
        ]
        told = [one.communicate(timeout=300)[0] for one in running]
        assert [one.returncode for one in running] == [0] * shards
        journal = simulator.journal
        created = Counter(b.custom_ids for b in journal.batches.created)
        billed = journal.batches.billed_prompts()
        live = Counter(c.prompt for c in journal.calls if c.status == 200 and c.prompt)
    at = sum((Counter(json.loads(text)["at"]) for text in told), Counter[str]())
    runs = at.total() + shards
    assert runs > 100 // distance
    assert len(created) == 4 * runs, "each part of each run"
    assert set(created.values()) == {1}, "no batch was created twice"
    assert set(billed.values()) == {1}, "no row was paid twice in batches"
    assert not billed.keys() & live.keys(), "nor in one and live"
    assert len(billed) + len(live) == rows * runs
    # An answer that a crash keeps from the disk is lost, as it is live.
    again = sum(count - 1 for count in live.values())
    assert again <= at["after message"] + at["open"] + at["os.rename"]
    if distance == 1:
        assert {"before create", "after create", "before message", "after message"} <= at.keys()
