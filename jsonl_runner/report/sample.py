"""Which rows are looked at: as many as are asked for, chosen by chance, the same ones every time.

An index has a rank that looks like chance, and those of the lowest ranks are chosen: so the choice
does not depend on the order of the file or on how often an index stands in it, and it can be made
in one pass in the memory of what is chosen.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..indexes import Place

_BITS = 2**64 - 1


def rank_of(place: Place) -> int:
    """Return a number that looks like chance; the finalizer of SplitMix64."""
    number = place if isinstance(place, int) else int.from_bytes(place[:8], "big")
    number = (number + 0x9E3779B97F4A7C15) & _BITS
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) & _BITS
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) & _BITS
    return number ^ number >> 31


class Lottery:
    """Keeps the places of the lowest ranks, each with the byte its last line begins at.

    Args:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[int] = []  # ranks, negative: the highest is out first
        self._kept: dict[int, tuple[Place, int]] = {}
        self._limit = _BITS + 1 if size else 0

    def put(self, entries: Iterable[tuple[Place, int]]) -> None:
        """Take part with the places of many entries, and the bytes their lines begin at."""
        for place, offset in entries:
            rank = rank_of(place)
            if rank >= self._limit and rank not in self._kept:
                continue
            if rank not in self._kept:
                heapq.heappush(self._heap, -rank)
            self._kept[rank] = (place, offset)
            if len(self._heap) > self._size:
                del self._kept[-heapq.heappop(self._heap)]
            if len(self._heap) == self._size:
                self._limit = -self._heap[0]

    def chosen(self, size: int | None = None) -> dict[Place, int]:
        """Return the places of the lowest ranks with their bytes, in the order of the bytes."""
        lowest = sorted(self._kept)[: self._size if size is None else size]
        return dict(sorted((self._kept[rank] for rank in lowest), key=lambda item: item[1]))
