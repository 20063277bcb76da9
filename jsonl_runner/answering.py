"""Answers without files: single questions and mappings, on the same worker as a run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .assembly import assemble
from .clock import Clock, Stop, SystemClock
from .engines.local import LocalEngine
from .errors import JsonlRunnerError
from .guards import Guards
from .progress import progress
from .signals import stopping
from .summary import RunSummary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .assembly import StandIn
    from .config import Config
    from .records import Outcome, Record


def answer(
    config: Config,
    records: Sequence[Record],
    *,
    function: StandIn | None = None,
    clock: Clock | None = None,
    stop: Stop | None = None,
    name: str = "jsonl-runner",
    quiet: bool = False,
) -> dict[str, Outcome]:
    """Do Records in parallel and return their Outcomes by index.

    Args:
        config: the settings.
        records: with an index each that no other has.
        function: stands in for the provider.
        clock: where the time comes from.
        stop: ends the work; None: a wish of its own.
        name: stands before the progress bar.
        quiet: whether nothing is shown on the way.

    Raises:
        ConfigError: there is no key.
        RunStoppedError: no key or endpoint can serve, or a signal asked for the end.
    """
    clock, stop = clock or SystemClock(), stop or Stop()
    shown = progress(name, quiet=quiet, clock=clock)
    crew = assemble(
        config, clock=clock, stop=stop, note=shown.say, function=function, rows=len(records)
    )
    for note in (*config.notes, *crew.notes):
        shown.say(f"note: {note}")
    summary = RunSummary(rows=len(records))
    guards = Guards(config, clock, stop, shown.say, note=shown.say)
    outcomes: dict[str, Outcome] = {}
    engine = LocalEngine(crew.work, threads=crew.threads, stop=stop)
    try:
        with stopping(stop), contextlib.closing(engine.outcomes(iter(records))) as groups:
            for group in groups:
                summary.add(group)
                outcomes.update((outcome.index, outcome) for outcome in group)
                guards.counted(summary)
                keys = crew.rotator.view()
                guards.tick(keys, idle=engine.idle)
                shown.show(summary, keys)
    finally:
        shown.close(summary, crew.rotator.view())
        crew.close()
    reason = stop.reason
    if reason is not None and summary.left:
        if isinstance(reason, JsonlRunnerError):  # what was paid for is not thrown away
            reason.summary = summary
            reason.answers = {index: outcome.output for index, outcome in outcomes.items()}
        raise reason
    return outcomes
