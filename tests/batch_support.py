"""What the tests of batches share: a simulator and batches on one clock, where nothing waits."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from support import FakeClock, Stage, expected, read_ledger, row, write_rows

from jsonl_runner.batch.desk import Pace, Time, Watched
from jsonl_runner.batch.job import Batches
from jsonl_runner.batch.openai import OpenAIBatches
from jsonl_runner.batch.plan import Wishes
from jsonl_runner.batch.profiles import OPENAI
from jsonl_runner.clock import Stop
from jsonl_runner.config import DEFAULT_MODEL
from jsonl_runner.simulator import Simulator, SimulatorSettings
from jsonl_runner.transport.base import TransportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jsonl_runner.batch.parts import Part


@dataclass
class Bench:
    """A stage whose simulator goes by the tests' clock.

    `notes` and `over` hold what was told, of all batches that were opened.
    """

    #: The model that rows are sent to.
    model: ClassVar[str] = DEFAULT_MODEL

    stage: Stage
    clock: FakeClock
    notes: list[str] = field(default_factory=list)
    over: list[Part] = field(default_factory=list)

    @property
    def simulator(self) -> Simulator:
        return self.stage.simulator

    def set(self, **more: Any) -> None:
        """Let the simulator behave in a way."""
        self.simulator.settings = SimulatorSettings(**more)

    def rows(self, count: int, **texts: str) -> list[dict[str, Any]]:
        """Write rows; `texts` have others, by their index behind a letter: `r3="…"`."""
        rows = [row(index, texts.get(f"r{index}")) for index in range(count)]
        write_rows(self.stage.data, rows)
        return rows

    def limits(self) -> TransportSettings:
        """Return what leads to the simulator, without long waits."""
        return TransportSettings(
            self.simulator.base_url, timeout_s=10, connect_timeout_s=5, body_timeout_s=10
        )

    def provider(self, stop: Stop) -> Any:
        """Return whose batches they are."""
        return OpenAIBatches(self.limits(), OPENAI, self.clock, stop)

    @contextlib.contextmanager
    def open(
        self, *, pace: Pace | None = None, stop: Stop | None = None, **more: Any
    ) -> Iterator[Batches]:
        """Open the batches of the stage's ledger."""
        stop = stop or Stop()
        watched = Watched(note=self.notes.append, over=self.over.append)
        time = Time(self.clock, stop, pace or Pace())
        config = self.stage.config(**{"model": self.model, **more.pop("config", {})})
        with (
            contextlib.closing(self.provider(stop)) as provider,
            Batches(config, self.stage.output, provider, time, watched=watched, **more) as found,
        ):
            yield found

    def run(self, size: int | None = None, **more: Any) -> Batches:
        """Do all rows; return the batches, closed."""
        with self.open(**more) as batches:
            batches.run(self.stage.data, Wishes(max_requests=size))
            batches.end()
        return batches

    def parts(self) -> list[Part]:
        """Return the parts as they are."""
        with self.open() as batches:
            return batches.manifest.parts()

    def created(self) -> Counter[str]:
        """Return how many batches the server made of each content."""
        return Counter(batch.sha256 for batch in self.simulator.journal.batches.created)

    def billed(self) -> Counter[str]:
        """Return how often each prompt was answered, in batches and live."""
        journal = self.simulator.journal
        live = Counter(call.prompt for call in journal.calls if call.status == 200 and call.prompt)
        return journal.batches.billed_prompts() + live

    def check(self, rows: list[dict[str, Any]]) -> None:
        """Every row has its own output, on one line, and was paid once."""
        lines = self.stage.output.read_bytes().splitlines()
        assert len(lines) == len(rows)
        assert read_ledger(self.stage.output) == {str(r["index"]): expected(r) for r in rows}
        assert self.billed() == Counter(r["input"] for r in rows)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose batches take a minute."""
    clock = FakeClock()
    with Simulator(SimulatorSettings(), now=clock.now) as simulator:
        found = Bench(Stage(simulator, tmp_path), clock)
        found.set(batch_in_progress_s=60.0)
        yield found
