"""Which of the rows without an output a run does: all, the first ones, or some at random."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .indexes import IndexSet
    from .reader import Group

_T = TypeVar("_T")


class Choice(NamedTuple):
    """How many rows to do, and which.

    Attributes:
        limit: the first so many; None: all.
        sample: so many at random, in the order of the input; None: no such choice.
        seed: of that chance: the same rows again, as long as the same are left.
    """

    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    def count(self, of: int) -> int:
        """Return how many of so many rows are chosen."""
        return min(of, *(number for number in (self.limit, self.sample) if number is not None), of)

    @property
    def bound(self) -> str:
        """The option that leaves rows out, where any are left out."""
        by_sample = self.sample is not None and (self.limit is None or self.sample < self.limit)
        return "--sample" if by_sample else "--limit"

    def among(self, rows: Iterable[_T], of: int | None) -> Iterator[_T]:
        """Yield the chosen ones.

        Args:
            rows: in the order of the input; no more are taken than are needed.
            of: how many they are; None when unknown, where none can be taken at random.
        """
        if self.sample is not None and of is not None:
            rng = random.Random(self.seed)  # guards nothing
            wanted = bytearray(of)
            for number in rng.sample(range(of), min(of, self.sample)):
                wanted[number] = 1
            rows = itertools.compress(rows, wanted)
        return iter(rows) if self.limit is None else itertools.islice(rows, self.limit)


def left_rows(
    groups: Iterable[Group], done: IndexSet, redo: IndexSet, batched: IndexSet
) -> Iterator[tuple[Group, int]]:
    """Yield rows without an output: their group, and which of it they are.

    Args:
        groups: of the input.
        done: indices with an output.
        redo: those of them that are to be done again.
        batched: rows that lie in a batch.
    """
    for group in groups:
        left = {*done.lacking(group.places), *redo.among(group.places)}
        for which in sorted(left.difference(batched.among(group.places))):
            yield group, which
