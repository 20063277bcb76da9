"""Writes what a batch's lines came to, in another order than they were asked, from disk to disk."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from .batch_lines import Answered
    from .jobs import Job


@dataclass(slots=True)
class Tally:
    """How many lines each file got, and the tokens that were used."""

    lines: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0


def shuffled(job: Job, seed: int) -> list[int]:
    """The numbers of a batch's lines in the order in which they are answered."""
    order = list(range(job.total))
    random.Random(f"{seed} {job.number}").shuffle(order)
    return order


def write_results(
    source: Path,
    job: Job,
    order: Iterable[int],
    answer: Callable[[bytes, int], Answered],
    targets: dict[str, Path],
) -> Tally:
    """Answer the lines of `source` in that order, each into the file its answer names."""
    tally = Tally()
    with ExitStack() as stack:
        lines = stack.enter_context(source.open("rb"))
        files = {name: stack.enter_context(path.open("wb")) for name, path in targets.items()}
        for number in order:
            lines.seek(job.places[number])
            found = answer(lines.readline(), job.number * 1_000_000 + number)
            if found.usage is not None:
                tally.input_tokens += found.usage["prompt_tokens"]
                tally.output_tokens += found.usage["completion_tokens"]
            tally.lines[found.count or found.target or ""] += 1
            if found.target is not None:
                files[found.target].write(found.data)
    return tally
