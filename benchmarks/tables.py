"""Results as Markdown, ready for docs/performance.md."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.programs import BARE, KEYS, RUNNER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Result = dict[str, Any]
_NONE = "–"


def markdown(results: list[Result], head: dict[str, Any]) -> str:
    """Return all tables, with what a reader must know of how they came about."""
    blocks = [_heading(head)]
    for suite, table in _TABLES.items():
        found = [result for result in results if result["suite"] == suite]
        if found:
            blocks.append(table(found))
    wrong = sorted({_wrong(result) for result in results if result.get("error")})
    if wrong:
        blocks.append("What went wrong:\n\n" + "\n".join(f"- {line}" for line in wrong))
    return "\n\n".join(blocks) + "\n"


def _heading(head: dict[str, Any]) -> str:
    server = head.get("server", {})
    speed = (
        f"The server did {server['rate']:,.0f} requests/s with {server['by']} "
        f"({server['per_cpu_s']:,.0f} per second of its own processor time)."
        if server
        else ""
    )
    return (
        f"`{head['command']}`, {head['date']}, Python {head['python']}, {head['processor']}, "
        f"commit {head['commit']}, load {head['load']} at the start. Whole processes, start-up "
        "included, pinned to one core, the server to the other; medians. CPU: user and system "
        "seconds of the process and its children. Memory: the largest single process. `*`: ended "
        f"after the time bound, and counted by the rows that it was answered until then. {RUNNER} "
        f"has {KEYS} keys. {speed}"
    ).strip()


def _wrong(result: Result) -> str:
    who = result.get("contestant") or result.get("case", "")
    where = f", {result['in_flight']} in flight" if "in_flight" in result else ""
    return f"{result['suite']}, {who}{where}: {result['error']}"


# --- what tables are made of ----------------------------------------------------------------------


def median(results: Iterable[Result], name: str) -> float | None:
    """Return the median of one measure; None where nobody has it."""
    values = [result[name] for result in results if result.get(name) is not None]
    return statistics.median(values) if values else None


def _table(columns: list[str], lines: Iterable[list[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _number(value: float | None, form: str = ",.0f") -> str:
    return _NONE if value is None else format(value, form)


def _groups(results: list[Result], name: str) -> dict[Any, list[Result]]:
    """Return results by one of their fields, in the order in which they came."""
    groups: dict[Any, list[Result]] = {}
    for result in results:
        groups.setdefault(result[name], []).append(result)
    return groups


def _star(results: list[Result]) -> str:
    return " *" if any(result["bounded"] for result in results) else ""


def _times(value: float | None, base: float | None) -> str:
    return _NONE if not value or not base else f"{value / base:.1f}"


def _notes(results: list[Result]) -> str:
    said = {result["contestant"]: result["note"] for result in results if result["note"]}
    return "\n".join(f"- {name}: {note}." for name, note in said.items())


# --- the suites ---------------------------------------------------------------------------------


def _title_at_once(one: Result) -> str:
    return f"### {one['rows']:,} rows, {one['in_flight']} in flight, answers at once"


def _whole(results: list[Result]) -> str:
    lines = []
    groups = _groups(results, "contestant")
    ours = median(groups.get(RUNNER, []), "cpu_ms_per_row")
    for name, group in groups.items():
        each = median(group, "cpu_ms_per_row")
        lines.append(
            [
                name + _star(group),
                _number(median(group, "rate")),
                _number(each, ".3f"),
                _times(each, ours),
                _number(median(group, "peak_mb")),
                _number(median(group, "answered")),
                _number(median(group, "written")),
            ]
        )
    title = _title_at_once(results[0])
    columns = [
        "program",
        "rows/s",
        "CPU ms per row",
        "times ours",
        "peak MB",
        "answered",
        "written",
    ]
    return f"{title}\n\n{_table(columns, lines)}\n\n{_notes(results)}"


def _long(results: list[Result]) -> str:
    groups = _groups(results, "contestant")
    speed = {name: median(group, "rows_per_cpu_s") for name, group in groups.items()}
    ours = speed.get(RUNNER)
    ordered = sorted(groups.items(), key=lambda item: -(speed[item[0]] or 0))
    lines = [
        [
            name + _star(group),
            _number(speed[name]),
            _times(ours, speed[name]),
            _number(median(group, "answered")),
            _number(median(group, "wall_s"), ".1f"),
            _number(median(group, "peak_mb")),
        ]
        for name, group in ordered
    ]
    peers = [speed[name] for name, group in groups.items() if group[0]["peer"] and speed[name]]
    told = []
    if ours and peers:
        known = [value for value in peers if value is not None]
        told.append(
            f"{RUNNER} does {ours / max(known):.1f} times the rows per CPU second of the best "
            "peer, "
            f"{ours / statistics.median(known):.1f} times those of the median peer"
        )
    floor = speed.get(BARE)
    if ours and floor:
        told.append(f"{ours / floor:.2f} of the floor's ({BARE})")
    title = _title_at_once(results[0])
    columns = [
        "program",
        "rows per CPU second",
        "ours is … times",
        "answered",
        "seconds",
        "peak MB",
    ]
    return f"{title}\n\n{_table(columns, lines)}\n\n{', '.join(told)}."


def _flight(results: list[Result]) -> str:
    blocks = []
    for latency_ms, group in _groups(results, "latency_ms").items():
        blocks.append(f"### Answers after {latency_ms:g} ms: rows/s")
        if latency_ms:
            blocks[-1] += " (share of in-flight / latency: whole run, sustained)"
        blocks.append(_by_width(group, _rate))
        blocks.append(f"### Answers after {latency_ms:g} ms: CPU ms per row, peak MB")
        blocks.append(_by_width(group, _cost))
    return "\n\n".join(blocks)


def _by_width(results: list[Result], text: Callable[[list[Result]], str]) -> str:
    widths = list(_groups(results, "in_flight"))
    lines = []
    for name, group in _groups(results, "contestant").items():
        found = _groups(group, "in_flight")
        lines.append([name, *(text(found[width]) if width in found else _NONE for width in widths)])
    return _table(["program", *(f"{width:,} in flight" for width in widths)], lines)


def _rate(group: list[Result]) -> str:
    rate = _number(median(group, "rate")) + _star(group)
    if group[0]["asked_in_flight"] != group[0]["in_flight"]:
        rate += f" [{group[0]['asked_in_flight']:,}]"
    share, steady = median(group, "share"), median(group, "sustained_share")
    return rate if share is None else f"{rate} ({share:.2f}, {_number(steady, '.2f')})"


def _cost(group: list[Result]) -> str:
    each = _number(median(group, "cpu_ms_per_row"), ".2f")
    return f"{each} ms, {_number(median(group, 'peak_mb'))} MB"


def _polite(results: list[Result]) -> str:
    first = results[0]
    lines = [
        [
            name + _star(group),
            _number(median(group, "cpu_s"), ".2f"),
            _number(median(group, "wall_s"), ".1f"),
            _number(median(group, "peak_mb")),
        ]
        for name, group in _groups(results, "contestant").items()
    ]
    title = f"### {first['rows']:,} rows, {first['latency_ms']:g} ms, {first['in_flight']} threads"
    return f"{title}\n\n{_table(['program', 'CPU seconds', 'seconds', 'peak MB'], lines)}"


def _ideal(results: list[Result]) -> str:
    lines = []
    for width, group in _groups(results, "in_flight").items():
        first = group[0]
        lines.append(
            [
                f"{width:,} at {first['latency_ms']:g} ms, {first['rows']:,} rows",
                _number(median(group, "rate")),
                _number(median(group, "share"), ".3f"),
                _number(median(group, "sustained_share"), ".3f"),
                _number(median(group, "cpu_ms_per_row"), ".3f"),
                _number(median(group, "peak_mb")),
            ]
        )
    columns = [
        "in flight",
        "rows/s",
        "share of the ideal",
        "sustained",
        "CPU ms per row",
        "peak MB",
    ]
    return f"### Slow answers, long runs ({RUNNER})\n\n{_table(columns, lines)}"


def _curve(results: list[Result]) -> str:
    lines = [
        [
            f"{rows:,}",
            _number(median(group, "cpu_ms_per_row"), ".3f"),
            _number(median(group, "rate")),
            _number(median(group, "peak_mb")),
        ]
        for rows, group in _groups(results, "rows").items()
    ]
    title = f"### By the size of the input ({RUNNER}, {results[0]['in_flight']} in flight)"
    return f"{title}\n\n{_table(['rows', 'CPU ms per row', 'rows/s', 'peak MB'], lines)}"


def _resume(results: list[Result]) -> str:
    lines = [
        [
            indices,
            case,
            _number(median(group, "first_request_s"), ".2f"),
            _number(median(group, "wall_s"), ".2f"),
            _number(median(group, "peak_mb")),
        ]
        for indices, of_kind in _groups(results, "indices").items()
        for case, group in _groups(of_kind, "case").items()
    ]
    title = f"### Going on with {results[0]['rows']:,} rows of which one is missing; merging them"
    columns = ["indices", "case", "seconds to the first request", "seconds in all", "peak MB"]
    return f"{title}\n\n{_table(columns, lines)}"


def _tls(results: list[Result]) -> str:
    groups = _groups(results, "case")
    each = {case: median(group, "cpu_ms_per_row") for case, group in groups.items()}
    lines = [
        [case, _number(each[case], ".4f"), _number(median(group, "wall_s"), ".1f")]
        for case, group in groups.items()
    ]
    plain, secure = each.get("http"), each.get("https")
    if plain and secure:
        lines.append(["difference", _number(secure - plain, ".4f"), ""])
    title = f"### TLS: {results[0]['rows']:,} rows against nginx, 64 in flight ({RUNNER})"
    return f"{title}\n\n{_table(['', 'CPU ms per row', 'seconds'], lines)}"


def _start(results: list[Result]) -> str:
    groups = _groups(results, "case")
    lines = [
        [
            case,
            _number(median(group, "wall_s"), ".3f"),
            _number(median(group, "cpu_s"), ".3f"),
            _number(median(group, "first_request_s"), ".3f"),
        ]
        for case, group in groups.items()
    ]
    help_s, click_s = (median(groups.get(c, []), "wall_s") for c in ("--help", "import click"))
    told = (
        f"`--help` takes {help_s / click_s:.2f} times `import click`." if help_s and click_s else ""
    )
    columns = ["", "seconds", "CPU seconds", "seconds to the first request"]
    return f"### Starting\n\n{_table(columns, lines)}\n\n{told}"


_TABLES: dict[str, Callable[[list[Result]], str]] = {
    "whole": _whole,
    "long": _long,
    "flight": _flight,
    "polite": _polite,
    "ideal": _ideal,
    "curve": _curve,
    "resume": _resume,
    "tls": _tls,
    "start": _start,
}
