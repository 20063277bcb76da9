"""The stage of the tests: a real socket, a clock of our own, nothing else replaced."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import FakeClock, Stage

from jsonl_runner.simulator import Simulator, SimulatorSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonl_runner.engines.cluster import Cluster


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs are begun so; the tests press Ctrl-C, here and in what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, address or proxy of this machine reaches a test, and no config.json lies about."""
    for name in ("API_KEY", "API_KEYS", "BASE_URL", "ORG_ID", "PROJECT_ID", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    # Nor do tests meet this user's own cache and history, or leave anything in them.
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    """A clock on which waiting takes no time."""
    return FakeClock()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A running simulator that takes any key; assign `simulator.settings` to change it."""
    with Simulator(SimulatorSettings()) as running:
        yield running


@pytest.fixture
def stage(simulator: Simulator, tmp_path: Path) -> Stage:
    """An input, an output and a configuration that lead to the simulator."""
    return Stage(simulator, tmp_path)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Ray cluster of one node for all tests that want one; they are skipped without Ray."""
    pytest.importorskip("ray")
    from jsonl_runner.engines.cluster import LOCAL, Cluster  # noqa: PLC0415

    here = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray keeps a token there
        running = Cluster(LOCAL, {"PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])})
        yield running
        running.close()
