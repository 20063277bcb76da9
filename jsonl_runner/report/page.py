"""The page: one HTML file that needs nothing else and lets nothing run but its own script.

Jinja2 escapes whatever it is given; only our own style, script and charts are marked as they are.
The page's Content-Security-Policy names both by their hashes, so that even a text that got through
as HTML could neither run nor load anything. Rows are plain HTML, not data in a script.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

from ..quality import ADVICE, MEANINGS
from .charts import in_flight, latency, seconds, throughput
from .timeline import stretches

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jinja2

    from .numbers import Group, Report, Row, Text

#: Bytes of all texts of the sample in the page, as HTML; with all else the page is below 5 MB.
MAX_TEXTS = 2_600_000
#: Bytes of HTML around a row's texts.
_ROW_FRAME = 900
#: Characters shown before the rest is folded.
FOLDED = 700
#: Rows of the sample that are shown at once.
SHOWN = 20


def page(report: Report) -> str:
    """Return a report as HTML; the same for the same report."""
    from markupsafe import Markup  # noqa: PLC0415  # --json need not wait for it

    style, script = _asset("page.css"), _asset("page.js")
    return _template().render(
        report=report,
        # Our own files, and SVG that etree wrote from numbers alone.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
        throughput=Markup(throughput(report.timeline)),  # noqa: S704
        in_flight=Markup(in_flight(report.timeline)),  # noqa: S704
        latency=Markup(latency(report.latency)),  # noqa: S704
        pauses=len(stretches(report.timeline)) - 1,
        sample=list(_shown(report.sample)),
        examples=_by_message,
        meanings=MEANINGS,
        advice=ADVICE,
        at_once=SHOWN,
    )


@functools.cache
def _template() -> jinja2.Template:
    import jinja2  # noqa: PLC0415  # --json need not wait for it

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        finalize=clean,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=lambda value: f"{value:,}",
        money=money,
        seconds=lambda value: "–" if value is None else seconds(value),
        moment=moment,
        share=share,
    )
    return environment.get_template("page.html.j2")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def money(value: float | None) -> str:
    """Return dollars, with as many digits as tell something."""
    if value is None:
        return "–"
    digits = 2 if value >= 100 or not value else min(10, max(2, 3 - math.floor(math.log10(value))))
    return f"${value:,.{digits}f}"


def moment(value: float | None) -> str:
    """Return a time for people."""
    if value is None:
        return "–"
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def share(part: int, whole: int) -> str:
    """Return a part as a percentage that is 0 or 100 only when it is none or all."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < part < whole:
        percent = min(max(percent, 0.01), 99.99)
    return f"{percent:.2f}".rstrip("0").rstrip(".") + " %"


def clean(value: object) -> object:
    """Return what goes into the page without what HTML cannot hold."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


def _by_message(group: Group) -> list[tuple[str, list[str]]]:
    """Return what was said of rows that failed for one reason, each with its rows."""
    found: dict[str, list[str]] = {}
    for example in group.examples:
        found.setdefault(example.message, []).append(example.index)
    return list(found.items())


def _shown(sample: list[Row]) -> Iterator[dict[str, Any]]:
    """Yield the rows with their texts cut until all of them fit."""
    limit = max((len(text.shown) for row in sample for text in _texts(row)), default=0)
    room = MAX_TEXTS - _ROW_FRAME * len(sample)
    while limit and sum(_weight(t.shown[:limit]) for row in sample for t in _texts(row)) > room:
        limit //= 2
    for row in sample:
        yield {
            "row": row,
            "instruction": _parts(row.instruction, limit),
            "input": _parts(row.input, limit),
            "output": _parts(row.output, limit),
        }


def _texts(row: Row) -> Iterator[Text]:
    for text in (row.instruction, row.input, row.output):
        if text is not None:
            yield text


def _weight(text: str) -> int:
    """Return the bytes of a text as HTML, or a few more: none is escaped to more than 5."""
    escaped = sum(map(text.count, "&<>\"'"))
    return len(text.encode("utf-8", "replace")) + 4 * escaped


def _parts(text: Text | None, limit: int) -> dict[str, Any] | None:
    """Return what is shown of a text, what is folded, and how much is left out."""
    if text is None:
        return None
    shown = text.shown[:limit]
    return {
        "head": shown[:FOLDED],
        "rest": shown[FOLDED:],
        "left_out": text.length - len(shown),
        "is_empty": not text.length,
    }
