"""Runs over a Ray cluster, against the simulator.

Workers and nodes are killed, and the process that leads them. Each row's calls are counted at the
server, so that what is paid twice is not taken from our own books.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from engine_support import PATIENCE_S
from ray_support import workers_below
from support import KEYS, expected, read_ledger, row, until, write_rows

from jsonl_runner import ParallelToolkit
from jsonl_runner.errors import BudgetReachedError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Stage


pytestmark = pytest.mark.ray

THREADS = 16


@pytest.fixture
def ray_stage(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage whose processes may start clusters of their own, with files in a folder of theirs."""
    pytest.importorskip("ray")
    # Paths of sockets have few characters: not below pytest's own folder.
    with tempfile.TemporaryDirectory(prefix="jr", ignore_cleanup_errors=True) as short:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            monkeypatch.delenv(name)  # left by the cluster of other tests: a login to it, for one
        monkeypatch.setenv("RAY_TMPDIR", short)
        monkeypatch.setenv("HOME", str(stage.folder))
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
        simulator = stage.simulator
        simulator.settings = replace(simulator.settings, latency_s=0.05, latency_spread_s=0.02)
        yield stage


@contextlib.contextmanager
def running(stage: Stage, *words: str, config: str = "settings.json") -> Iterator[Any]:
    """Run the program on the stage's files, in a process group of its own; killed at the end."""
    command = stage.command(
        *("run", stage.data, stage.output, "--config", config, "--engine", "ray", "--json"), *words
    )
    with (
        (stage.folder / "out").open("wb") as out,
        (stage.folder / "err").open("wb") as err,
        subprocess.Popen(
            command, cwd=stage.folder, stdout=out, stderr=err, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def told(stage: Stage) -> str:
    return (stage.folder / "err").read_text(encoding="utf-8")


def summary_of(stage: Stage) -> dict[str, Any]:
    """Return what stands on stdout: JSON, and nothing of Ray's."""
    found = json.loads((stage.folder / "out").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def calls_of(stage: Stage) -> Counter[str]:
    """Return how often each prompt has reached the server, answered or not."""
    return Counter(call.prompt for call in stage.simulator.journal.calls)


class Nodes:
    """The nodes of a cluster; see `ray_nodes`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        found = json.loads(self._line())
        self.address: str = found["address"]
        self.outside: str = found["outside"]
        self.raylets: list[int] = found["raylets"]

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def lose(self, which: str) -> None:
        """Kill all processes of the last `node`, or what makes the first one the `head`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{which}\n")
        self._process.stdin.flush()
        assert self._line() == "lost\n"


@contextlib.contextmanager
def nodes_of_a_cluster(count: int) -> Iterator[Nodes]:
    command = [sys.executable, str(Path(__file__).with_name("ray_nodes.py")), str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Nodes(process)
        process.communicate(timeout=PATIENCE_S)


def takes_connections(address: str) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0


def assert_whole(stage: Stage, rows: list[dict[str, Any]]) -> None:
    """Check that the ledger has each row once, with its own answer."""
    lines = stage.output.read_bytes().splitlines()
    assert Counter(next(iter(json.loads(line))) for line in lines) == Counter(
        str(item["index"]) for item in rows
    )
    assert read_ledger(stage.output) == {str(item["index"]): expected(item) for item in rows}


@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_a_worker_then_a_node_are_lost_and_no_row_is(ray_stage: Stage) -> None:
    """Three nodes; what is called twice is at most what the lost ones had in flight."""
    stage = ray_stage
    rows = [row(number) for number in range(2500)]
    write_rows(stage.data, rows)
    stage.config_file(api_keys=[*KEYS, "sk-test-cccccccccccccccc0003"])  # one for each worker
    journal = stage.simulator.journal
    with nodes_of_a_cluster(3) as nodes:
        words = ("--ray-address", nodes.address, "--workers", "3", "--threads", str(3 * THREADS))
        with running(stage, *words) as process:
            until(lambda: journal.count() >= 400, PATIENCE_S)
            os.kill(workers_below(nodes.raylets)[0], signal.SIGKILL)
            until(lambda: journal.count() >= 1200, PATIENCE_S)
            nodes.lose("node")
            assert process.wait(PATIENCE_S) == 0, told(stage)
    assert_whole(stage, rows)
    again = {prompt: count for prompt, count in calls_of(stage).items() if count > 1}
    summary = summary_of(stage)
    losses = re.findall(r"is gone, and its (\d+) rows are done again", "".join(summary["notes"]))
    # Ray places workers as it likes: the lost node may have had none, or two.
    assert 1 <= len(losses) <= 3
    assert max(map(int, losses)) <= 1.5 * THREADS + 1, "a row for each thread, and half as many"
    assert len(again) <= sum(map(int, losses)), again
    assert (summary["done"], summary["left"]) == (2500, 0)
    assert any(note.startswith("3 workers on Ray") for note in summary["notes"])


def test_led_from_outside_then_from_a_node_whose_head_is_lost(
    ray_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ray://` does all rows; a silent head ends a run in order, before Ray does: exit code 3."""
    stage = ray_stage
    rows = [row(number) for number in range(40)]
    write_rows(stage.data, rows)
    stage.config_file()
    with nodes_of_a_cluster(1) as nodes:
        until(lambda: takes_connections(nodes.outside), PATIENCE_S)  # it begins after the nodes
        for _ in range(3):
            with running(stage, "--ray-address", nodes.outside, "--workers", "2") as process:
                code = process.wait(PATIENCE_S)
            if "Initialization failure from server" not in told(stage):
                break  # else Ray's own half a minute was too short for this machine today
        assert code == 0, told(stage)
        assert_whole(stage, rows)
        # Of these seconds, a half are waited for a silent head.
        monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "30")
        # Too many rows for the run to come to their end before.
        write_rows(stage.data, rows := [row(number) for number in range(20_000)])
        words = ("--ray-address", nodes.address, "--workers", "2", "--threads", "2")
        with running(stage, *words) as process:
            until(lambda: stage.simulator.journal.count() >= 100, PATIENCE_S)
            nodes.lose("head")
            assert process.wait(PATIENCE_S) == 3, told(stage)
    summary = summary_of(stage)
    assert f"the head of the Ray cluster ({nodes.address}) has not answered for" in told(stage)
    journal = stage.simulator.journal
    assert journal.count() == journal.count(status=200), "a call in flight was cut off"
    assert len(read_ledger(stage.output)) == journal.count() < 20_000, "a paid answer is lost"
    assert summary["left"] == 20_000 - journal.count()


def test_an_address_where_nobody_is_is_refused_at_once(ray_stage: Stage) -> None:
    """Ray itself would try for a minute."""
    write_rows(ray_stage.data, [row(0)])
    ray_stage.config_file()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))  # and does not listen
        address = f"ray://127.0.0.1:{one.getsockname()[1]}"
        with running(ray_stage, "--ray-address", address) as process:
            assert process.wait(PATIENCE_S) == 2
    said = f"error: --ray-address {address}: nobody takes connections there\n"
    assert told(ray_stage) == said


def test_the_leader_is_killed_and_the_same_command_goes_on(ray_stage: Stage) -> None:
    """After a kill -9 its cluster is gone with it, and what it left behind confuses nobody."""
    stage = ray_stage
    rows = [row(number) for number in range(600)]
    write_rows(stage.data, rows)
    stage.config_file()
    journal = stage.simulator.journal
    with running(stage, "--workers", "2", "--threads", str(THREADS)) as process:
        until(lambda: journal.count() >= 200, PATIENCE_S)
        process.kill()
        process.wait()
        with running(stage, "--workers", "2", "--threads", str(THREADS)) as again:
            assert again.wait(PATIENCE_S) == 0, told(stage)
    assert_whole(stage, rows)
    # What the first one's workers had, and did on until they too were gone.
    assert journal.count() - 600 <= 2 * THREADS
    assert max(calls_of(stage).values()) <= 2


def test_ctrl_c_of_the_whole_terminal_wastes_no_call(ray_stage: Stage) -> None:
    """SIGINT to every process of the group: no row is begun any more, what was paid is written."""
    stage = ray_stage
    rows = [row(number) for number in range(5000)]
    write_rows(stage.data, rows)
    stage.config_file()
    journal = stage.simulator.journal
    with running(stage, "--workers", "2", "--threads", str(THREADS)) as process:
        until(lambda: journal.count() >= 150, PATIENCE_S)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130, told(stage)
    assert journal.count() == journal.count(status=200), "a call in flight was cut off"
    assert len(read_ledger(stage.output)) == journal.count() < 5000, "a paid answer was not written"
    assert "interrupted by SIGINT" in told(stage)
    assert not any(
        key in path.read_text(encoding="utf-8", errors="replace")
        for key in KEYS
        for path in Path(os.environ["RAY_TMPDIR"]).rglob("*")
        if path.is_file()
    )


def run_here(stage: Stage, rows: list[dict[str, Any]], **overrides: Any) -> Any:
    """Run in this process, on the tests' own cluster; its workers find the keys in a file."""
    write_rows(stage.data, rows)
    tool = ParallelToolkit(
        stage.config_file(**overrides), stage.data, stage.output, engine="ray", quiet=True
    )
    return tool.run()


@pytest.mark.usefixtures("cluster")
def test_one_key_on_several_workers_keeps_its_limits(stage: Stage) -> None:
    """More workers than keys: together they are as many calls at once as one key may have."""
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=0.05)
    rows = [row(number) for number in range(120)]
    summary = run_here(stage, rows, workers=3, api_keys=[KEYS[0]], per_key_concurrency=7, threads=7)
    assert (summary.done, summary.failed) == (120, 0)
    assert stage.simulator.journal.max_in_flight <= 7


@pytest.mark.usefixtures("cluster")
def test_a_key_that_is_retired_is_retired_everywhere(stage: Stage) -> None:
    """Three workers share two keys, one of which is dead: each tries it once at the most."""
    stage.simulator.settings = replace(
        stage.simulator.settings, latency_s=0.02, key_faults={KEYS[1]: "401"}
    )
    rows = [row(number) for number in range(150)]
    summary = run_here(stage, rows, workers=3, key_groups=[[1, 2]], threads=6)
    assert (summary.done, summary.failed, summary.exit_code) == (150, 0, 0)
    assert stage.simulator.journal.count(key=KEYS[1]) <= 3
    assert sum("is retired" in note for note in summary.notes) == 1


@pytest.mark.usefixtures("cluster")
def test_a_budget_holds_for_all_workers_together(stage: Stage) -> None:
    """Exit code 5 at the limit, what is spent is what the server counted; a higher one goes on."""
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=0.01)
    rows = [row(number) for number in range(200)]
    with pytest.raises(
        BudgetReachedError, match="--max-tokens-total 1,000 tokens is reached"
    ) as caught:
        run_here(stage, rows, workers=3, threads=6, max_tokens_total=1000)
    summary = caught.value.summary
    assert summary.tokens.total == summary.budget["tokens_spent"]
    assert 900 < summary.tokens.total <= 1000 + 6 * 15
    assert stage.simulator.journal.count(status=200) == summary.done
    assert run_here(stage, rows, workers=3, threads=6, max_tokens_total=10_000).left == 0
    assert stage.simulator.journal.count(status=200) == 200


@pytest.mark.usefixtures("cluster")
def test_a_key_that_may_do_nothing_holds_nobody_up(stage: Stage) -> None:
    """One worker's only key is always refused: in the end its rows are done by the other."""
    stage.simulator.settings = replace(
        stage.simulator.settings, latency_s=0.02, key_faults={KEYS[1]: "429_bare"}
    )
    rows = [row(number) for number in range(150)]
    summary = run_here(stage, rows, workers=2, threads=8)
    assert (summary.done, summary.failed) == (150, 0)
    assert_whole(stage, rows)


@pytest.mark.usefixtures("cluster")
def test_a_slow_group_of_keys_keeps_its_limit_and_holds_no_other_up(stage: Stage) -> None:
    """Two groups, each on two workers; one may do a request a second, the other forty."""
    rates = {KEYS[0]: 40.0, KEYS[1]: 1.0}
    stage.simulator.settings = replace(
        stage.simulator.settings,
        latency_s=0.02,
        requests_per_second=40.0,
        key_shares={KEYS[1]: 1 / 40},
    )
    rows = [row(number) for number in range(240)]
    summary = run_here(stage, rows, workers=4, threads=32)
    assert (summary.done, summary.failed) == (240, 0)
    assert_whole(stage, rows)
    journal = stage.simulator.journal
    for key, rate in rates.items():
        allowed = rate * (1 + summary.elapsed_s)  # a second's worth is there at the beginning
        assert journal.count(key=key) <= 1.25 * allowed + 4, "its refusals are a few"
    fast, slow = ([call for call in journal.calls if call.key == key] for key in KEYS)
    assert len(fast) > len(slow) > 0
    # The slow one has some 24 rows when the input ends; nobody waits for it to do them.
    last = max(call.started_s for call in fast)
    assert sum(call.started_s > last for call in slow) <= 8


@pytest.mark.usefixtures("cluster")
def test_without_a_usable_key_the_run_ends_as_on_one_machine(stage: Stage) -> None:
    """Every key is dead: exit code 3, and each key is named once."""
    stage.simulator.settings = replace(stage.simulator.settings, keys=("sk-another-key-0001",))
    tool_rows = [row(number) for number in range(20)]
    write_rows(stage.data, tool_rows)
    tool = ParallelToolkit(
        stage.config_file(), stage.data, stage.output, engine="ray", workers=2, quiet=True
    )
    with pytest.raises(Exception, match="all 2 keys are finished: #1") as caught:
        tool.run()
    assert getattr(caught.value, "exit_code", None) == 3


@pytest.mark.usefixtures("cluster")
def test_a_function_of_ones_own_goes_along(stage: Stage) -> None:
    """`call=` is done by the workers; one that cannot leave this process is refused."""
    rows = [row(number) for number in range(20)]
    write_rows(stage.data, rows)
    offset = 1

    def call(instruction: str, text: str) -> str:
        return f"{text} {offset}"

    more: dict[str, Any] = {"engine": "ray", "workers": 2, "quiet": True, "call": call}
    summary = ParallelToolkit(stage.config_file(), stage.data, stage.output, **more).run()
    assert summary.done == 20
    assert read_ledger(stage.output)["3"] == "row 3 1"
    with (stage.folder / "file").open("w", encoding="utf-8") as opened:
        more["call"] = lambda instruction, text: opened.write(text) and text
        tool = ParallelToolkit(stage.config_file(), stage.data, stage.folder / "o.jsonl", **more)
        with pytest.raises(ConfigError, match="cannot be sent to other processes"):
            tool.run()
