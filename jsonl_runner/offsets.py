"""Where the rows of an input stand, stretch by stretch, and how many of each have no output yet.

Sparse: forty bytes for each quarter of a megabyte of input. With it a run begins near its first row
without an output and passes over whole stretches, of an input that was looked at before and is
still the same.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .indexes import IndexSet, Place

#: In place of the first index of a stretch whose indices are not neighbouring integers.
_NO_RANGE = -1


class Stretch(NamedTuple):
    """Neighbouring lines of an input.

    Attributes:
        number: of the stretch.
        start, end: the byte it begins at, and the one behind it.
        lines_before: lines ahead of it.
        rows: rows in it.
    """

    number: int
    start: int
    end: int
    lines_before: int
    rows: int


class Offsets:
    """The stretches of one input, all of whose rows are good.

    Of neighbouring integers the set of what is done tells how many are left. Of other indices it is
    counted: a stretch starts with so many left (`add`), and each output is told (`settled`).
    """

    #: Bytes of the input; set when all stretches are in.
    size = 0

    def __init__(self) -> None:
        self._starts, self._lines = array("Q"), array("Q")
        self._rows, self._left = array("Q"), array("Q")
        self._lows = array("q")
        #: Of rows under way, the stretch they stand in: no more than are in flight.
        self._under_way: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: int, lines_before: int, places: Sequence[Place], left: int) -> None:
        """Add the next stretch.

        Args:
            start: byte it begins at.
            lines_before: lines ahead of it.
            places: of its rows' indices.
            left: how many of the rows have no output.
        """
        self._starts.append(start)
        self._lines.append(lines_before)
        self._rows.append(len(places))
        self._left.append(left)
        low = places[0] if places else None
        is_range = isinstance(low, int) and list(places) == list(range(low, low + len(places)))
        self._lows.append(low if is_range and isinstance(low, int) else _NO_RANGE)

    def stretches(self) -> Iterator[Stretch]:
        """Yield all stretches, in the order of the input."""
        for number, start in enumerate(self._starts):
            last = number + 1 == len(self._starts)
            end = self.size if last else self._starts[number + 1]
            yield Stretch(number, start, end, self._lines[number], self._rows[number])

    def left(self, stretch: Stretch, done: IndexSet) -> int:
        """Return how many rows of a stretch have no output; where it is counted, as counted last.

        No row that has none is ever missing from the count.
        """
        low = self._lows[stretch.number]
        if low == _NO_RANGE or not stretch.rows:
            return self._left[stretch.number]
        return stretch.rows - done.count_between(low, low + stretch.rows - 1)

    def is_counted(self, stretch: Stretch) -> bool:
        """Return whether `left` goes by what was told of the stretch."""
        return self._lows[stretch.number] == _NO_RANGE

    def set_left(self, stretch: Stretch, left: int) -> None:
        """Tell how many rows of a stretch have no output."""
        self._left[stretch.number] = left

    def took(self, index: str, line: int) -> None:
        """Tell that a row without an output is under way.

        Args:
            index: of the row.
            line: its number, from 1.
        """
        number = bisect_right(self._lines, line - 1) - 1
        if self._lows[number] == _NO_RANGE:
            self._under_way[index] = number

    def settled(self, index: str, *, has_output: bool) -> None:
        """Tell what came of a row."""
        number = self._under_way.pop(index, None)
        if number is not None and has_output:
            self._left[number] -= 1

    def dump(self, write: Callable[[bytes], object]) -> None:
        """Write all stretches, for `load`."""
        for values in self._arrays():
            write(values.tobytes())

    def load(self, read: Callable[[int], bytes], count: int) -> None:
        """Read so many stretches as `dump` wrote them."""
        for values in self._arrays():
            values.frombytes(read(count * values.itemsize))

    def _arrays(self) -> tuple[array[int], ...]:
        return self._starts, self._lines, self._rows, self._left, self._lows
