"""Events over time in at most 150 slices, whatever their order, number and range.

A slice is kept only where something happened, so that a pause of days between two runs takes none.
When there are too many, two neighbours each become one, twice as long.
"""

from __future__ import annotations

from typing import Final

from .numbers import Slice, Timeline

#: Slices kept; enough for a chart, and few enough for a page.
MAX_SLICES = 150
#: Seconds of a slice at first.
_FINEST = 0.125
#: So many empty slices with nothing under way are a pause.
PAUSE = 20
#: Seconds since 1970: what is later, or before, is no time (the year 5138).
_LATEST: Final = 1e11


class _Cell:
    """What happened in a slice; sums of moments tell how long each was under way in it."""

    __slots__ = ("done", "ended", "ended_sum", "failed", "started", "started_sum")

    def __init__(self) -> None:
        self.done = self.failed = self.started = self.ended = 0
        self.started_sum = self.ended_sum = 0.0

    def merge(self, other: _Cell) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def moment_of(value: object) -> float | None:
    """Return a moment since 1970 that comes from outside; None when it is none."""
    is_moment = isinstance(value, (int, float)) and 0 < value < _LATEST
    return float(value) if is_moment else None  # type: ignore[arg-type]


class Clockwork:
    """Counts outcomes by the time they came, and calls under way."""

    def __init__(self) -> None:
        self._cells: dict[int, _Cell] = {}
        self._width = _FINEST
        self._origin: float | None = None  # sums of moments stay small and exact behind it

    def add(self, ended: float, *, is_done: bool, started: float | None) -> None:
        """Count an outcome.

        Args:
            ended: when it came.
            is_done: whether with an output.
            started: when its call began; None: nothing was under way for it here.
        """
        if self._origin is None:
            self._origin = ended
        cell = self._cell(ended)
        if is_done:
            cell.done += 1
        else:
            cell.failed += 1
        if started is not None and started <= ended:
            cell.ended += 1
            cell.ended_sum += ended - self._origin
            cell = self._cell(started)
            cell.started += 1
            cell.started_sum += started - self._origin

    def _cell(self, moment: float) -> _Cell:
        number = int(moment / self._width)
        cell = self._cells.get(number)
        if cell is None:
            cell = self._cells[number] = _Cell()
            if len(self._cells) > MAX_SLICES:
                self._widen()
                return self._cell(moment)
        return cell

    def _widen(self) -> None:
        while len(self._cells) > MAX_SLICES:
            self._width *= 2
            merged: dict[int, _Cell] = {}
            for number, cell in self._cells.items():
                merged.setdefault(number >> 1, _Cell()).merge(cell)
            self._cells = merged

    def result(self) -> Timeline:
        """Return what was counted."""
        # The origin is there whenever a cell is.
        origin, width = self._origin or 0.0, self._width
        found, under_way = Timeline(), 0
        for number in sorted(self._cells):
            cell = self._cells[number]
            end = (number + 1) * width - origin
            # Each moment counts from then to the end of the slice, for or against.
            began = cell.started * end - cell.started_sum
            over = cell.ended * end - cell.ended_sum
            in_flight = max(0.0, under_way + (began - over) / width)
            under_way += cell.started - cell.ended
            found.slices.append(
                Slice(number * width, cell.done, cell.failed, round(in_flight, 3), under_way)
            )
        if not found.slices:
            return found
        found.width_s = width
        found.peak_per_s = max((s.done + s.failed) / width for s in found.slices)
        found.peak_in_flight = max(s.in_flight for s in found.slices)
        active = sum(run[-1].start + width - run[0].start for run in stretches(found))
        found.rows_per_s = round(sum(s.done + s.failed for s in found.slices) / active, 4)
        return found


def stretches(timeline: Timeline) -> list[list[Slice]]:
    """Return the slices between pauses: nothing under way and nothing coming for a while."""
    runs: list[list[Slice]] = []
    for item in timeline.slices:
        last = runs[-1][-1] if runs else None
        is_near = last is not None and item.start - last.start <= (PAUSE + 1) * timeline.width_s
        if last is not None and (is_near or last.after):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs
