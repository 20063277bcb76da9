"""`jsonl-runner batch …`: the commands as a user types them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from support import KEYS, Stage, expected, read_ledger, row, write_rows

from jsonl_runner.cli.batch import batch
from jsonl_runner.simulator import Simulator, SimulatorSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

FAST = ("--poll-seconds", "0.1")


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Stage]:
    """A stage whose batches end when the test says so."""
    with Simulator(SimulatorSettings(batches_by_hand=True)) as simulator:
        yield Stage(simulator, tmp_path)


def do(stage: Stage, command: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a batch command on the stage's output (and data, where it takes them)."""
    config = stage.config_file()
    files = [stage.output] if command not in {"run", "submit"} else [stage.data, stage.output]
    more: list[str | Path] = [] if command == "list" else ["--config", config]
    return stage.cli("batch", command, *files, *more, *words)


def test_a_dataset_is_simulated_as_the_help_says(stage: Stage) -> None:
    """One command without a key: every row done, and `run` has nothing left to do."""
    rows = [row(n) for n in range(10)]
    write_rows(stage.data, rows)
    done = stage.cli("batch", "run", stage.data, stage.output, "--simulate")
    assert (done.returncode, done.stdout) == (0, "")
    assert "done 10, failed 0" in done.stderr
    model = "simulated-gpt-4.1-mini"
    assert read_ledger(stage.output) == {str(r["index"]): expected(r, model) for r in rows}
    refused = do(stage, "run")
    assert refused.returncode == 2
    assert "holds simulated answers" in refused.stderr


def test_submit_status_fetch(slow: Stage) -> None:
    """Sent and left; later looked at and collected. Each exit code says how far it is."""
    rows = [row(n) for n in range(6)]
    write_rows(slow.data, rows)
    sent = do(slow, "submit", "--max-requests", "3", "--json")
    assert sent.returncode == 0, sent.stderr
    told = json.loads(sent.stdout)
    assert (told["rows"], len(told["parts"]), len(told["batches"])) == (6, 2, 2)
    assert "6 rows in 2 parts" in sent.stderr
    again = do(slow, "submit")
    assert "nothing to send" in again.stderr

    slow.simulator.batches.advance(to="in_progress")
    status = do(slow, "status")
    assert status.returncode == 0
    assert "part 1: in_progress" in status.stdout
    assert "2 parts, 2 not over, 6 rows waiting" in status.stdout
    early = do(slow, "fetch")
    assert early.returncode == 3
    assert "2 batches are not over yet" in early.stderr

    first = slow.simulator.journal.batches.created[0].batch_id
    slow.simulator.batches.advance(first, to="completed")
    assert do(slow, "fetch").returncode == 3
    assert len(read_ledger(slow.output)) == 3
    slow.simulator.batches.advance(to="completed")
    assert do(slow, "fetch").returncode == 0
    assert read_ledger(slow.output) == {str(r["index"]): expected(r) for r in rows}

    (one, two) = json.loads(do(slow, "list", "--json").stdout)
    assert one["state"] == two["state"] == "collected"
    assert one["rows"] == {"ok": 3, "null": 0, "let go": 0, "waiting": 0}
    assert one["key"] == "#1(…0001)"


def test_cleanup_tells_first_and_refuses_what_is_not_merged(slow: Stage) -> None:
    """A dry run, then --yes; only what is in the ledger."""
    write_rows(slow.data, [row(n) for n in range(4)])
    do(slow, "submit", "--max-requests", "2")
    refused = do(slow, "cleanup", "--batch-id", "1", "--yes")
    assert refused.returncode == 2
    assert "batch 1 is not merged (submitted)" in refused.stderr
    assert do(slow, "cleanup").returncode == 2
    slow.simulator.batches.advance(to="completed")
    do(slow, "fetch")
    dry = do(slow, "cleanup", "--all", "--limit", "1")
    assert "2 files would be deleted" in dry.stderr
    assert "nothing is deleted yet: --yes does it" in dry.stderr
    assert "DELETE /v1/files/{id}" not in slow.simulator.journal.routes()
    assert "nothing to delete" in do(slow, "cleanup", "--all", "--older-than", "7d").stderr
    done = do(slow, "cleanup", "--all", "--yes", "--json")
    assert json.loads(done.stdout)["deleted"] is True
    assert slow.simulator.journal.routes()["DELETE /v1/files/{id}"] == 4
    assert do(slow, "cleanup", "--all", "--older-than", "soon").returncode == 2
    assert do(slow, "cleanup", "--all", "--older-than", "7").returncode == 2


def test_cancel_asks_and_fetch_collects(slow: Stage) -> None:
    """What was finished is kept; the rest is left for another time."""
    slow.simulator.settings = replace(slow.simulator.settings, batch_answered_share=0.5)
    write_rows(slow.data, [row(n) for n in range(4)])
    do(slow, "submit")
    slow.simulator.batches.advance(to="in_progress")
    asked = do(slow, "cancel")
    assert asked.returncode == 0
    assert "its end is asked for" in asked.stderr
    slow.simulator.batches.advance()
    fetched = do(slow, "fetch")
    assert fetched.returncode == 3
    assert "2 rows are left to be sent again, batch_cancelled" in fetched.stderr
    assert len(read_ledger(slow.output)) == 2


def test_a_refused_batch_is_an_error_of_submit(slow: Stage) -> None:
    """The provider's word, exit code 3; the rows are free for another try."""
    write_rows(slow.data, [row(n) for n in range(2)])
    refused = do(slow, "submit", "--completion-window", "7d")
    assert refused.returncode == 3
    assert "Value must be '24h'" in refused.stderr.splitlines()[-1]
    assert do(slow, "submit").returncode == 0
    assert len(slow.simulator.journal.batches.created) == 1


def test_what_a_killed_simulation_leaves_is_forgotten_on_demand(stage: Stage) -> None:
    """Its server is gone: the next run says so, and --forget gives the rows back."""
    write_rows(stage.data, [row(n) for n in range(4)])
    with Simulator(SimulatorSettings(batches_by_hand=True)) as gone:
        do(replace(stage, simulator=gone), "submit", "--max-requests", "2")
    refused = do(stage, "run")
    assert refused.returncode == 2
    assert "part 1 lies at http://127.0.0.1:" in refused.stderr
    assert "batch cancel --forget" in refused.stderr
    assert do(stage, "cancel", "--forget").returncode == 0
    assert do(stage, "run", *FAST).returncode == 0
    assert len(read_ledger(stage.output)) == 4


def test_where_nothing_was_sent_there_is_nothing_to_do(stage: Stage) -> None:
    """No manifest: said, and no error."""
    for command in ("fetch", "status", "list", "cancel"):
        done = do(stage, command)
        assert (done.returncode, done.stdout) == (0, "")
        assert "no batch was made for" in done.stderr
    assert not list(stage.folder.glob("*.sqlite"))


def test_a_dry_run_sends_and_leaves_nothing(stage: Stage) -> None:
    """Parts, rows, an estimate where a price is known."""
    write_rows(stage.data, [row(n) for n in range(5)])
    done = do(stage, "submit", "--dry-run", "--max-requests", "2")
    assert done.returncode == 0
    assert "5 rows in 3 parts" in done.stderr
    assert stage.simulator.journal.routes().total() == 0
    assert {path.name for path in stage.folder.iterdir()} == {"data.jsonl", "settings.json"}


def test_a_bound_on_the_cost_sends_nothing(stage: Stage) -> None:
    """Above it: one line with the estimate. Without a price it cannot be kept, and that is said."""
    write_rows(stage.data, [row(n) for n in range(5)])
    unknown = do(stage, "submit", "--max-cost", "1")
    assert unknown.returncode == 2
    assert "--max-cost cannot be kept: no price is known for gpt-4.1-mini" in unknown.stderr
    prices = stage.folder / "prices.json"
    prices.write_text('{"gpt-*": {"input": 1000, "cached": 1000, "output": 1000}}')
    words = ("--prices", prices, "--max-tokens", "100")
    dear = do(stage, "submit", *words, "--max-cost", "0.1")
    assert dear.returncode == 2
    assert re.search(r"error: --max-cost 0\.1: estimated cost 0\.\d+ dollars", dear.stderr)
    assert stage.simulator.journal.routes().total() == 0
    assert do(stage, "run", *words, *FAST, "--max-cost", "1").returncode == 0
    (view,) = json.loads(do(stage, "list", "--json").stdout)[-1:]
    assert view["cost"] > 0


def test_a_command_hears_of_each_end(stage: Stage) -> None:
    """Its environment tells which batch, and how it ended; no shell reads the words."""
    write_rows(stage.data, [row(n) for n in range(4)])
    program = stage.folder / "told.py"
    program.write_text(
        "import os, sys\n"
        "with open('told.txt', 'a') as file:\n"
        "    names = ('ID', 'STATE', 'OUTPUT')\n"
        "    print(*(os.environ[f'JSONL_RUNNER_BATCH_{n}'] for n in names), sys.argv[1:],"
        " file=file)\n"
    )
    done = do(
        stage, "run", *FAST, "--max-requests", "2",
        "--notify-command", f"{sys.executable} {program} '$HOME; ls'",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (stage.folder / "told.txt").read_text().splitlines()
    ids = {b.batch_id for b in stage.simulator.journal.batches.created}
    assert {line.split()[0] for line in lines} == ids
    assert all(line.split()[1] == "completed" for line in lines)
    assert all("['$HOME; ls']" in line for line in lines)
    failing = do(stage, "submit", "--dry-run")
    assert failing.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_ctrl_c_leaves_the_batches_and_the_same_command_goes_on(slow: Stage) -> None:
    """130, a summary, no traceback; nothing is sent twice."""
    rows = [row(n) for n in range(4)]
    write_rows(slow.data, rows)
    config = slow.config_file()
    command = slow.command("batch", "run", slow.data, slow.output, "--config", config, *FAST)
    with subprocess.Popen(command, cwd=slow.folder, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while slow.simulator.journal.routes()["GET /v1/batches"] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "interrupted by SIGINT"
    assert "Traceback" not in told
    slow.simulator.batches.advance(to="completed")
    assert do(slow, "run", *FAST).returncode == 0
    assert len(slow.simulator.journal.batches.created) == 1
    assert read_ledger(slow.output) == {str(r["index"]): expected(r) for r in rows}


def test_result_files_become_texts(stage: Stage) -> None:
    """The files that a batch left beside the ledger, or any others."""
    write_rows(stage.data, [row(n) for n in range(3)])
    do(stage, "run", *FAST)
    results = sorted(stage.folder.glob("output.batches/*-file-*.jsonl"))
    done = stage.cli("batch", "convert", *results, "-o", "texts.jsonl")
    assert done.returncode == 0, done.stderr
    lines = (stage.folder / "texts.jsonl").read_text().splitlines()
    assert {json.loads(line)["custom_id"] for line in lines} == {"0", "1", "2"}
    assert stage.cli("batch", "convert", *results, "-o", "texts").returncode == 0
    assert (stage.folder / "texts" / "1.txt").exists()


def test_no_key_is_one_line(stage: Stage) -> None:
    """Before anything is written."""
    write_rows(stage.data, [row(0)])
    done = stage.cli("batch", "run", stage.data, stage.output)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no API key")


def test_no_key_is_ever_shown(slow: Stage) -> None:
    """Not by any command, nor in any file it writes."""
    write_rows(slow.data, [row(0)])
    slow.simulator.fail_next("GET /v1/batches", "key_echo")
    told = [do(slow, "submit"), do(slow, "status"), do(slow, "fetch"), do(slow, "list", "--json")]
    for done in told:
        assert KEYS[0] not in done.stdout + done.stderr
    for path in slow.folder.rglob("*"):
        if path.is_file() and path.name != "settings.json":
            assert KEYS[0].encode() not in path.read_bytes(), path


@pytest.mark.parametrize("name", sorted(batch.commands))
def test_every_command_has_an_example(name: str) -> None:
    """And words for each option."""
    command = batch.commands[name]
    assert f"jsonl-runner batch {name}" in (command.help or "")
    for param in command.params:
        assert not isinstance(param, click.Option) or param.help or param.name == "help"


@pytest.mark.skipif(os.name == "nt", reason="the examples are for a POSIX shell")
def test_the_examples_run_as_printed(tmp_path: Path) -> None:
    """Without a key, in a folder with the samples: one after the other."""
    shutil.copytree(
        Path(__file__).parent.parent / "data" / "samples", tmp_path / "data" / "samples"
    )
    program = f"{sys.executable} -m jsonl_runner "
    for name in ("fetch", "cancel", "submit", "run", "status", "list", "cleanup", "convert"):
        text = (batch.commands[name].help or "").partition("Example:")[2].strip()
        done = subprocess.run(
            ["sh", "-c", text.replace("jsonl-runner ", program, 1)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stderr}"
    assert len((tmp_path / "texts.jsonl").read_text().splitlines()) == 32
