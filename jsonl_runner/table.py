"""The table of a run: what `run --live`, `status --watch` and SIGUSR1 show, made of a Snapshot.

Drawn with rich, which is imported with this room: whoever shows no table need not wait for it.
Texts of providers go through `harmless`, and none is read as rich's markup.
"""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.text import Text

from .limits import in_words
from .snapshot import money
from .terminal import harmless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from .snapshot import KeyView, Snapshot

_BLOCKS = "▁▂▃▄▅▆▇█"
_STYLES = {"ready": "green", "cooling": "yellow", "retired": "red"}
#: Lines of the head, and the least that keys, failures and notes get of a low terminal.
_HEAD, _LEAST_KEYS, _LEAST_OTHERS = 6, 3, 2
#: Columns and lines of the table as a plain text.
_PLAIN_WIDTH, _PLAIN_HEIGHT = 100, 60
_SPARK_WIDTH = 30


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the newest values as a line of blocks, the highest as a full one."""
    values = values[-width:]
    top = max(values, default=0.0)
    if top <= 0:
        return _BLOCKS[0] * len(values)
    last = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round(value / top * last)] for value in values)


def short(number: float | None) -> str:
    """Return a number in five columns: `870`, `12.3k`, `1.50M`; a dash for None."""
    if number is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= max(0.9995 * size, 1e4):  # 999,600 is 1M, and not 1e+03k
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def screen(
    snapshot: Snapshot, *, width: int, height: int, notes: Sequence[str] = (), word: str = ""
) -> RenderableType:
    """Return the table, in as many lines as there are.

    Args:
        snapshot: how the run goes.
        width: of the terminal, in characters.
        height: of it, in lines.
        notes: what was said, the newest last; each goes through `harmless` here.
        word: what stands beside the title, such as that the run has ended.
    """
    failures = [
        f"{failure.index}  {failure.code}: {failure.message}"
        + (f"  ({failure.attempts} calls)" if failure.attempts > 1 else "")
        for failure in snapshot.last_failures
    ]
    # What the keys leave over goes to failures and notes, half each.
    panes = [("last failures" + _reasons(snapshot), failures), ("notes", list(notes))]
    others = sum(1 + min(_LEAST_OTHERS, len(texts)) for _, texts in panes if texts)
    room = max(_LEAST_KEYS, height - _HEAD - others - 1)
    spare = max(0, height - _HEAD - others - 1 - min(len(snapshot.keys), room))
    lines: list[RenderableType] = [*_head(snapshot, width, word), *_keys(snapshot, room)]
    for title, texts in panes:
        if texts:
            share = _LEAST_OTHERS + (spare // 2 if failures and notes else spare)
            lines.append(_line(title, "bold"))
            lines += [_line(text) for text in texts[-share:]]
    return Group(*lines)


def _line(text: str, style: str = "") -> Text:
    """Return one line that is cut where the terminal ends."""
    return Text(harmless(text).replace("\n", " "), style, no_wrap=True, overflow="ellipsis")


def _head(snapshot: Snapshot, width: int, word: str) -> list[RenderableType]:
    now = snapshot
    state = word or now.stopping or "running"
    title = f"{now.data} → {now.output}" if now.data else now.output
    of_total = "" if now.goal is None else f"/{now.goal:,}"
    finished = now.skipped + now.finished
    percent = f"  {finished / now.goal:.0%}" if now.goal else ""
    parts = [f"{finished:,}{of_total} {now.unit}{percent}", f"ok {now.done:,}"]
    nulls = "null" if now.unit == "rows" else "failed"
    for name, count in (
        (nulls, now.failed),
        ("cached", now.cached),
        ("retried", now.retried),
        ("not to be tried", now.left_out),
    ):
        if count:
            parts.append(f"{name} {count:,}")
    left = ""
    if now.left_s is not None and now.left and not (now.stopping or word):
        ends = datetime.fromtimestamp(now.time + now.left_s, UTC).astimezone()
        left = f"   {in_words(now.left_s)} left, ends about {ends:%H:%M}"
    latency = "no answer in the last minute"
    if now.p50 is not None and now.p95 is not None and now.p99 is not None:
        latency = f"p50 {now.p50:.3g} s, p95 {now.p95:.3g} s, p99 {now.p99:.3g} s"
    used = f"tokens {short(now.tokens_in)} in, {short(now.tokens_out)} out"
    if now.cost is not None:
        at_end = f" of ~{money(now.expected_cost)}" if now.left and now.expected_cost else ""
        used = f"cost {money(now.cost)}{at_end};  {used}"
    spark = min(_SPARK_WIDTH, max(8, width - 60))
    return [
        Text.assemble(
            (harmless(f"{state}, {in_words(now.elapsed_s)}"), "bold cyan"),
            harmless(f"  {title}"),
            no_wrap=True,
            overflow="ellipsis",
        ),
        _line(", ".join(parts)),
        _line(f"speed    {sparkline(now.rates, spark)} {now.rate:,.1f} {now.unit}/s{left}"),
        _line(f"latency  {sparkline(now.latencies, spark)} {latency}"),
        _line(f"calls    {now.in_flight:,} in flight of {now.allowed:,};  {used}"),
        _line(f"{now.trouble or now.waiting_for}", "yellow"),
    ]


def _reasons(snapshot: Snapshot) -> str:
    counts = sorted((snapshot.reasons or {}).items(), key=lambda item: -item[1])
    shown = ", ".join(f"{code} {count:,}" for code, count in counts[:4])
    return f" ({shown}{', …' if len(counts) > 4 else ''})" if shown else ""


def _weight(key: KeyView) -> int:
    """Return how soon a key is shown where there is no room for all."""
    if key.state == "cooling":
        return 0
    if key.state == "retired":
        return 3
    return 1 if key.errors or key.refused else 2


def _keys(snapshot: Snapshot, room: int) -> list[RenderableType]:
    """Return the keys, in their order; where they are too many, those with trouble first."""
    keys = list(snapshot.keys)
    hidden: list[KeyView] = []
    if len(keys) > room:
        keys.sort(key=_weight)
        keys, hidden = keys[: room - 1], keys[room - 1 :]
    has_cost = any(key.cost is not None for key in snapshot.keys)
    names = ("key", "state", "flight", "req left", "tok left", "err", "429")
    rows: list[tuple[str, ...]] = [(*names, "cost" if has_cost else "tokens", "why")]
    rows += [_cells(key, has_cost=has_cost) for key in keys]
    # By hand: rich's own Table takes four times as long, and that several times a second.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[RenderableType] = []
    for number, (row, key) in enumerate(zip(rows, [None, *keys], strict=True)):
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(row[2:-1], widths[2:], strict=False)]
        line = _line(" ".join([*left, *right, row[-1]]), "" if number else "bold")
        if key is not None:
            start = widths[0] + 1
            line.stylize(_STYLES.get(key.state, ""), start, start + len(row[1]))
        lines.append(line)
    if hidden:
        counts = Counter(key.state for key in hidden)
        states = ", ".join(f"{counts[name]} {name}" for name in _STYLES if counts[name])
        lines.append(_line(f"… and {len(hidden)} more: {states}"))
    return lines


def _cells(key: KeyView, *, has_cost: bool) -> tuple[str, ...]:
    """Return what stands in a key's line."""
    spent = ("–" if key.cost is None else money(key.cost)) if has_cost else short(key.tokens)
    return (
        harmless(key.label),
        harmless(key.state) + (f" {in_words(key.cooldown_s)}" if key.cooldown_s else ""),
        f"{key.in_flight}/{key.limit}" if key.limit else "–",
        short(key.requests_left),
        short(key.tokens_left),
        short(key.errors),
        short(key.refused),
        spent,
        key.reason or key.why,
    )


def plain(snapshot: Snapshot, notes: Sequence[str] = (), word: str = "") -> str:
    """Return the table as lines of text, for a log."""
    stream = io.StringIO()
    console = Console(file=stream, width=_PLAIN_WIDTH, color_system=None, legacy_windows=False)
    console.print(
        screen(snapshot, width=_PLAIN_WIDTH, height=_PLAIN_HEIGHT, notes=notes, word=word)
    )
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
