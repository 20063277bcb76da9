"""A few rows first: --limit, --sample, and --dry-run, which sends nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import KEYS, Stage, read_ledger, row, write_rows

from jsonl_runner.choice import Choice
from jsonl_runner.framing import prompt_count

if TYPE_CHECKING:
    from pathlib import Path


SIZES = st.one_of(st.none(), st.integers(1, 60))


@given(of=st.integers(0, 50), limit=SIZES, sample=SIZES, seed=st.integers())
def test_as_many_are_chosen_as_were_counted(
    of: int, limit: int | None, sample: int | None, seed: int
) -> None:
    """For every choice: in order, none twice, the same again, and as many as `count` says."""
    choice = Choice(limit, sample, seed)
    chosen = list(choice.among(range(of), of))
    assert chosen == sorted(set(chosen)) == list(choice.among(range(of), of))
    assert len(chosen) == choice.count(of)
    if sample is None:
        assert chosen == list(range(len(chosen)))


def test_every_row_has_the_same_chance() -> None:
    """Over many seeds each of ten rows is in a sample of three as often as the others."""
    counts = [0] * 10
    for seed in range(2000):
        for number in Choice(sample=3, seed=seed).among(range(10), 10):
            counts[number] += 1
    assert all(500 < count < 700 for count in counts)


def test_the_first_rows_without_an_output(stage: Stage) -> None:
    """Each run takes the next ones, and says how many rows the dataset has left."""
    rows = [row(number) for number in range(10)]
    summary = stage.run(rows, job={"choice": Choice(limit=4)})
    assert sorted(read_ledger(stage.output)) == ["0", "1", "2", "3"]
    assert (summary.exit_code, summary.rows, summary.left, summary.left_out) == (0, 10, 6, 6)
    assert "left 6 (beyond --limit)" in summary.lines()[0]
    summary = stage.run(job={"choice": Choice(limit=4)})
    assert sorted(read_ledger(stage.output)) == [str(number) for number in range(8)]
    assert (summary.skipped, summary.left) == (4, 2)
    summary = stage.run(job={"choice": Choice(limit=4)})
    assert (summary.done, summary.left, summary.left_out) == (2, 0, 0)


def test_nulls_are_among_the_rows_without_an_output(stage: Stage) -> None:
    """A row that failed is tried again, in its place."""
    rows = [row(1, "[[fault:400*1]]"), row(2), row(3)]
    summary = stage.run(rows, job={"choice": Choice(limit=1)})
    assert (summary.exit_code, summary.failed, summary.left) == (1, 1, 2)
    stage.run(job={"choice": Choice(limit=2)})
    assert sorted(read_ledger(stage.output)) == ["1", "2"]


def test_a_sample_is_spread_and_the_rest_goes_on(stage: Stage) -> None:
    """The same rows with the same seed; the next sample has others; then all."""
    rows = [row(number) for number in range(100)]
    stage.run(rows, job={"choice": Choice(sample=10, seed=3)})
    first = set(read_ledger(stage.output))
    assert len(first) == 10
    assert first != {str(number) for number in range(10)}
    stage.output.unlink()
    stage.run(job={"choice": Choice(sample=10, seed=3)})
    assert set(read_ledger(stage.output)) == first
    stage.run(job={"choice": Choice(sample=10, seed=3)})
    assert len(read_ledger(stage.output)) == 20
    assert stage.run().left == 0
    assert len(stage.simulator.journal.calls) == 110, "nothing was paid twice"


def test_on_the_command_line(stage: Stage) -> None:
    """The choice is said, what is left too, and what comes next; a pipe has no sample."""
    write_rows(stage.data, [row(number) for number in range(9)])
    result = stage.run_cli("--sample", "3", "--seed", "5")
    assert result.returncode == 0
    assert "sample: 3 rows without an output, --seed 5" in result.stderr
    assert "left 6 (beyond --sample)" in result.stderr
    last = "next: the same command without --limit and --sample does the other rows"
    assert result.stderr.splitlines()[-1] == last
    piped = ("run", "-", stage.output, "--config", stage.config_file())
    data = stage.data.read_text(encoding="utf-8")
    assert stage.cli(*piped, "--limit", "2", input=data).returncode == 0
    assert len(read_ledger(stage.output)) == 5
    result = stage.cli(*piped, "--sample", "2", input=data)
    assert (result.returncode, "a pipe can be read once" in result.stderr) == (2, True)


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(stage: Stage) -> None:
    """The first three bodies as a run sends them, with their tokens; no file, no call, no key."""
    rows = [
        row("a", "What is the capital of Japan?"),
        row("b", params={"temperature": 0.5, "max_tokens": 7}),
        {"index": "c", "messages": [{"role": "user", "content": "Hi!"}]},
        row("d"),
    ]
    write_rows(stage.data, rows)
    before = sorted(stage.folder.iterdir())
    config = stage.config_file()
    result = stage.run_cli("--dry-run", "--max-tokens", "20")
    assert result.returncode == 0
    assert sorted(stage.folder.iterdir()) == sorted({*before, config})
    assert not stage.simulator.journal.calls
    shown = json.loads(result.stdout)
    assert [item["index"] for item in shown] == ["a", "b", "c"]
    assert shown[0]["url"] == f"{stage.simulator.base_url}/chat/completions"
    assert shown[0]["body"] == {
        "model": "gpt-4.1-mini",
        "max_tokens": 20,
        "messages": [
            {"role": "system", "content": "Repeat."},
            {"role": "user", "content": "What is the capital of Japan?"},
        ],
    }
    # 3 for the answer, 3 a message, a token for each role, and the texts: 2 and 7.
    assert [shown[0]["input_tokens"], shown[1]["max_output_tokens"]] == [3 + 2 * 4 + 2 + 7, 7]
    assert "dry run: the first 3 of 4 requests" in result.stderr
    assert not any(key in result.stdout + result.stderr for key in KEYS)


def test_a_dry_run_shows_the_rows_that_are_left(stage: Stage) -> None:
    """With an output there, the next rows; with a choice, that; without a key as well."""
    write_rows(stage.data, [row(number) for number in range(9)])
    stage.run(job={"choice": Choice(limit=4)})
    ledger = stage.output.read_bytes()
    words = ("run", stage.data, stage.output, "--dry-run")
    result = stage.cli(*words, "--limit", "2")
    assert [item["index"] for item in json.loads(result.stdout)] == ["4", "5"]
    assert "dry run: 2 requests" in result.stderr
    result = stage.cli(*words, "--sample", "2", "--seed", "1")
    assert len(json.loads(result.stdout)) == 2
    assert stage.output.read_bytes() == ledger
    for bad in (("-",), ("nowhere.jsonl",)):
        assert stage.cli("run", *bad, stage.output, "--dry-run").returncode == 2


def test_what_is_counted_of_a_prompt(tmp_path: Path) -> None:
    """Names, parts, tools and schemas; what is no text is said to be there."""
    del tmp_path
    said = [{"role": "user", "content": "Hi!", "name": "Ann"}]
    assert prompt_count(said, "gpt-4o") == (3 + 3 + 1 + 2 + 1 + 1, False)
    parts = [{"type": "text", "text": "Hi!"}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert prompt_count([{"role": "user", "content": parts}], "gpt-4o") == (3 + 3 + 1 + 2, True)
    plain = prompt_count([{"role": "user", "content": "Hi!"}], "gpt-4o")
    tools = prompt_count([{"role": "user", "content": "Hi!"}], "gpt-4o", {"tools": [{"a": 1}]})
    assert tools.tokens > plain.tokens
    assert (plain.has_other, tools.has_other) == (False, True)
    assert prompt_count([{"role": "system", "content": "a " * 15_000}], "gpt-4o").tokens > 15_000


@pytest.mark.parametrize("words", [("--limit", "0"), ("--sample", "-1"), ("--limit", "x")])
def test_no_such_choice(stage: Stage, words: tuple[str, str]) -> None:
    """Usage: exit 2, before anything is opened."""
    write_rows(stage.data, [row(1)])
    assert stage.run_cli(*words).returncode == 2
    assert not stage.output.exists()
