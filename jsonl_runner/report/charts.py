"""The charts, as SVG that takes its colours from the page.

Drawn by pygal: pure Python of 130 kB that is imported in 60 ms, well kept since 2012, and whose SVG
has plain elements with classes and texts as texts, so that the page's own style can colour it for
light, dark and paper. What it adds for its script (styles, tooltips, a date) is taken out. Nothing
that comes from a file but numbers is drawn.
"""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET  # to write, never to read

from .timeline import stretches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from xml.etree.ElementTree import Element

    from .numbers import Latency, Slice, Timeline

_SIZE = {"width": 520, "height": 250}
#: Room is left for texts of this size, which the page takes on a phone.
_FONT = 18
_SVG = "{http://www.w3.org/2000/svg}"
#: Elements for pygal's script, its own style, and titles that say less than the page does.
_DROPPED = {_SVG + name for name in ("defs", "title", "desc", "script", "style")} | {
    name.removeprefix(_SVG) for name in ("defs", "title", "desc", "script", "style")
}
_TICKS = 5
#: Room for a pause, as a part of the time that is shown.
_GAP = 0.02
#: Seconds. Times on a shorter axis are told to a tenth.
_SHORT_S = 8
_STEPS = (1, 2, 5)
_Point = tuple[float, float | None]


def throughput(timeline: Timeline) -> str:
    """Draw rows a second over time; empty when there are no times."""
    if not timeline.slices:
        return ""
    axis, width = _Axis(timeline), timeline.width_s
    series = {"done": axis.steps(lambda item: item.done / width)}
    if any(item.failed for item in timeline.slices):
        series["failed"] = axis.steps(lambda item: item.failed / width)
    label = (
        f"Rows a second over time: {timeline.rows_per_s:,.2f} on average, "
        f"at most {timeline.peak_per_s:,.2f}"
    )
    return _over_time(axis, series, label)


def in_flight(timeline: Timeline) -> str:
    """Draw calls in flight over time; empty when nothing is known of them."""
    if not timeline.peak_in_flight:
        return ""
    axis = _Axis(timeline)
    label = f"Calls in flight over time: at most {timeline.peak_in_flight:,.1f}"
    return _over_time(axis, {"flight": axis.steps(lambda item: item.in_flight, held=True)}, label)


def latency(found: Latency) -> str:
    """Draw how the latency is distributed; empty when nothing is known of it."""
    if not found.bands or found.p50 is None or found.p95 is None or found.p99 is None:
        return ""
    low, high = math.log10(found.bands[0].start), math.log10(found.bands[-1].end)
    chart = _library().Histogram(**_common(), xrange=(low, high), x_label_rotation=0)
    chart.x_labels = [{"value": math.log10(s), "label": seconds(s)} for s in _marks(found)]
    bands = [(b.count, math.log10(b.start), math.log10(b.end)) for b in found.bands]
    chart.add("done", bands)
    tallest, hair = max(band.count for band in found.bands), (high - low) / 400
    for name in ("p50", "p95", "p99"):
        at = math.log10(getattr(found, name))
        chart.add(name, [(tallest, at - hair, at + hair)])
    label = (
        f"Distribution of latency over {found.count:,} calls: half take at most "
        f"{seconds(found.p50)}, 95 % {seconds(found.p95)}, 99 % {seconds(found.p99)}"
    )
    return _svg(chart, label, ["done", "p50", "p95", "p99"])


def seconds(value: float) -> str:
    """Return a duration as an axis shows it."""
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 600:
        return f"{value:.3g} s"
    return f"{value / 60:,.0f} min" if value < 10_800 else f"{value / 3600:,.1f} h"


def _marks(found: Latency) -> list[float]:
    """Return round durations within the bands, not too many."""
    low, high = found.bands[0].start, found.bands[-1].end
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), _STEPS, (1, 3), (1,)):
        marks = [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
        if len(marks) <= _TICKS + 1:
            break
    # Durations that are all alike have no round one among them.
    return marks[:: max(1, math.ceil(len(marks) / (_TICKS + 2)))] or [found.p50 or low]


class _Axis:
    """Time from left to right, pauses left out."""

    def __init__(self, timeline: Timeline) -> None:
        self.width = timeline.width_s
        self.runs = stretches(timeline)
        active = sum(run[-1].start + self.width - run[0].start for run in self.runs)
        gap, at = active * _GAP, 0.0
        self.starts: list[float] = []  # where on the axis each run begins
        for run in self.runs:
            self.starts.append(at)
            at += run[-1].start + self.width - run[0].start + gap
        self.length = at - gap

    def steps(self, value: Any, *, held: bool = False) -> list[_Point]:
        """Return the points of a line with a step for each slice.

        Args:
            value: of a slice.
            held: whether what was under way before goes on where no slice is; else nothing is.
        """
        points: list[_Point] = []
        for run, start in zip(self.runs, self.starts, strict=True):
            before: Slice | None = None
            points.append((start, 0.0))
            for item in run:
                at = start + item.start - run[0].start
                if before is not None and item.start > before.start + self.width * 1.5:
                    level = float(before.after) if held else 0.0
                    points += [(points[-1][0], level), (at, level)]
                points += [(at, value(item)), (at + self.width, value(item))]
                before = item
            points.append((points[-1][0], 0.0))
        return points

    def labels(self) -> list[dict[str, Any]]:
        """Return some places on the axis with their times (UTC)."""
        last = self.runs[-1][-1].start + self.width
        span = last - self.runs[0][0].start
        shape = "%H:%M:%S" if self.length < 600 else "%H:%M"
        if span > 86_400:
            shape = "%b %d" if self.length > 5 * 86_400 else "%b %d %H:%M"
        count = _TICKS if shape == "%H:%M" else 4
        found = []
        for number in range(count):
            at = self.length * (number + 0.5) / count
            run = max(k for k, start in enumerate(self.starts) if start <= at)
            end = self.runs[run][-1].start + self.width
            moment = min(self.runs[run][0].start + at - self.starts[run], end)
            label = datetime.fromtimestamp(moment, UTC).strftime(shape)
            if self.length < _SHORT_S:
                label += f".{int(moment * 10) % 10}"
            found.append({"value": at, "label": label})
        return found


def _over_time(axis: _Axis, series: dict[str, list[_Point]], label: str) -> str:
    chart = _library().XY(**_common(), fill=True, show_dots=False, xrange=(0, axis.length))
    chart.x_labels = axis.labels()
    for name, points in series.items():
        chart.add(name, points)
    return _svg(chart, label, list(series))


def _library() -> Any:
    import pygal  # type: ignore[import-untyped]  # noqa: PLC0415  # --json need not wait for it

    # Its finder of plugins is of a form that Python 3.11 warns of at every import, and not needed.
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
    return pygal


def _common() -> dict[str, Any]:
    return {
        "style": _library().style.Style(label_font_size=_FONT, major_label_font_size=_FONT),
        **_SIZE,
        "js": [],
        "css": [],
        "show_legend": False,
        "truncate_label": -1,
        "margin": 4,
        "margin_right": 14,
        "include_x_axis": True,
        "max_scale": 5,
        "min_scale": 3,
        "value_formatter": lambda value: f"{value:,.10g}",
    }


def _svg(chart: Any, label: str, names: Sequence[str]) -> str:
    root: Element = chart.render_tree()
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "class": "chart",
        "role": "img",
        "aria-label": label,
    }
    for element in list(root.iter()):
        for child in list(element):
            if not isinstance(child.tag, str) or child.tag in _DROPPED or _is_overlay(child):
                element.remove(child)
        element.attrib.pop("style", None)
    for element in root.iter():
        words = element.attrib.get("class", "").split()
        for word in words:
            if word.startswith("serie-"):
                element.set("class", f"series s-{names[int(word.removeprefix('serie-'))]}")
        _round(element)
    return ET.tostring(root, encoding="unicode")


def _is_overlay(element: Element) -> bool:
    return bool({"overlay", "text-overlay", "tooltip-overlay"} & set(_words(element)))


def _words(element: Element) -> Iterable[str]:
    return element.attrib.get("class", "").split()


def _round(element: Element) -> None:
    """Cut the digits behind the second place: half of the SVG's bytes."""
    for name in ("x", "y", "width", "height"):
        if name in element.attrib:
            element.set(name, f"{float(element.attrib[name]):.2f}".rstrip("0").rstrip("."))
    path = element.attrib.get("d")
    if path:
        element.set("d", " ".join(_rounded(word) for word in path.split()))


def _rounded(word: str) -> str:
    letter = word[0] if word[0].isalpha() else ""
    try:
        return f"{letter}{float(word[len(letter) :]):.1f}"
    except ValueError:
        return word
