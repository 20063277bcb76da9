"""The progress line: drawn on a terminal, told in plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from .limits import in_words
from .snapshot import money

if TYPE_CHECKING:
    from tqdm import tqdm

    from .clock import Clock
    from .keys import KeysView
    from .summary import RunSummary

#: Seconds between two plain lines, for logs that are read later.
_PLAIN_EVERY_S = 10.0
#: Seconds between two drawings of the bar: 10 a second is smooth, more is wasted.
_DRAW_EVERY_S = 0.1
#: What matters this much is never left out of the state.
_NEEDED = 7
# The state stands before times and bar: on a narrow terminal the end of the line falls off.
_BAR = "{percentage:3.0f}% {n_fmt}/{total_fmt}{postfix} [{elapsed}<{remaining}, {rate_fmt}] {bar}"
_BAR_OPEN_END = "{n_fmt}{unit}{postfix} [{elapsed}, {rate_fmt}]"


class Progress(Protocol):
    """Shows how a run goes."""

    def show(self, summary: RunSummary, keys: KeysView) -> None:
        """Show the present state; may be called as often as one likes."""

    def say(self, text: str) -> None:
        """Tell the user a line."""

    def close(self, summary: RunSummary, keys: KeysView) -> None:
        """Show the last state and end the line."""


def progress(name: str, *, quiet: bool, clock: Clock, stream: TextIO | None = None) -> Progress:
    """Return the progress for a stream (stderr): nothing, a bar or plain lines."""
    stream = sys.stderr if stream is None else stream
    if quiet:
        return Silent()
    if stream.isatty():
        return Surviving(Bar(name, clock, stream))
    return Surviving(Plain(name, clock, stream))


def _tqdm() -> type[tqdm[Any]]:
    from tqdm import tqdm  # noqa: PLC0415  # 20 ms that the first call need not wait for

    return tqdm


def _cost_of(summary: RunSummary) -> str:
    """Return the cost so far, and at the end as it goes now; empty when there is none."""
    if not summary.cost:
        return ""
    expected = summary.expected_cost if summary.left else None
    return f"cost {money(summary.cost)}" + (f" of ~{money(expected)}" if expected else "")


def state_of(summary: RunSummary, keys: KeysView, width: int | None = None) -> str:
    """Return the numbers behind the bar, or why nothing moves.

    Args:
        summary: the run's.
        keys: all of them at a glance.
        width: columns there are for it; what matters least is left out first. None: enough.
    """
    parts = _parts(summary, keys)
    if width is not None:
        for unwanted in sorted(weight for weight in parts if weight < _NEEDED):
            if len(", ".join(parts.values())) <= width:
                break
            del parts[unwanted]
    return ", ".join(parts.values())


def _parts(summary: RunSummary, keys: KeysView) -> dict[int, str]:
    """Return them in the order they are shown, by how much they matter."""
    parts = {9: f"ok {summary.done:,}"}
    if summary.failed:
        parts[8] = f"{'null' if summary.unit == 'rows' else 'failed'} {summary.failed:,}"
    if summary.retried:
        parts[2] = f"retried {summary.retried:,}"
    if keys.waiting_for:  # in place of the rest: it must not fall off the end of a narrow line
        return {**parts, _NEEDED: keys.waiting_for}
    states = [("ready", keys.ready), ("cooling", keys.cooling), ("retired", keys.retired)]
    parts[3] = "keys " + " ".join(f"{count} {state}" for state, count in states if count)
    if summary.tokens.total:
        parts[1] = f"{_tqdm().format_sizeof(summary.tokens.total)} tokens"
    cost = _cost_of(summary)
    return {**parts, 6: cost} if cost else parts


class Silent:
    """Shows nothing (`--quiet`)."""

    def show(self, summary: RunSummary, keys: KeysView) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def close(self, summary: RunSummary, keys: KeysView) -> None:
        """Do nothing."""


class Surviving:
    """Goes on in silence when the terminal or pipe is gone: answers in flight matter more.

    Args:
        shown: what shows the progress as long as it can.
    """

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def show(self, summary: RunSummary, keys: KeysView) -> None:
        """Show the present state."""
        try:
            self._shown.show(summary, keys)
        except (OSError, ValueError):
            self._shown = Silent()

    def say(self, text: str) -> None:
        """Tell the user a line."""
        try:
            self._shown.say(text)
        except (OSError, ValueError):
            self._shown = Silent()

    def close(self, summary: RunSummary, keys: KeysView) -> None:
        """Show the last state and end the line."""
        try:
            self._shown.close(summary, keys)
        except (OSError, ValueError):
            self._shown = Silent()


class Bar:
    """A tqdm bar on a terminal.

    Args:
        name: stands before the bar.
        clock: tells when to draw again.
        stream: the terminal.
    """

    def __init__(self, name: str, clock: Clock, stream: TextIO) -> None:
        self._name = name
        self._clock = clock
        self._stream = stream
        self._bar: tqdm[Any] | None = None
        self._drawn = float("-inf")

    def show(self, summary: RunSummary, keys: KeysView) -> None:
        """Draw the bar, ten times a second at the most."""
        now = self._clock.now()
        if now - self._drawn < _DRAW_EVERY_S:
            return
        self._drawn = now
        self._draw(summary, keys)

    def _draw(self, summary: RunSummary, keys: KeysView) -> tqdm[Any]:
        if self._bar is None:
            self._bar = _tqdm()(
                total=summary.goal,
                initial=summary.skipped,
                desc=self._name,
                file=self._stream,
                unit=f" {summary.unit}",
                dynamic_ncols=True,
                mininterval=0,
                bar_format="{desc}: " + (_BAR_OPEN_END if summary.goal is None else _BAR),
            )
        self._bar.n = summary.skipped + summary.done + summary.failed
        self._bar.set_postfix_str(state_of(summary, keys, self._room()), refresh=False)
        self._bar.refresh()
        return self._bar

    def _room(self) -> int | None:
        """Return the columns that the state may take; None: as many as it likes."""
        assert self._bar is not None  # noqa: S101  # tells mypy what `_draw` has seen to
        given = self._bar.format_dict
        if not given["ncols"]:
            return None
        layout = str(given["bar_format"]).replace(" {bar}", "")
        without = {**given, "postfix": "", "ncols": None, "bar_format": layout}
        return int(given["ncols"]) - len(self._bar.format_meter(**without)) - len(", ")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        _tqdm().write(text, file=self._stream)

    def close(self, summary: RunSummary, keys: KeysView) -> None:
        """Draw the bar a last time and leave it as it stands."""
        self._draw(summary, keys).close()


class Plain:
    """Lines from time to time, for logs and pipes.

    Args:
        name: stands before each line.
        clock: tells when it is time again.
        stream: where they go.
    """

    def __init__(self, name: str, clock: Clock, stream: TextIO) -> None:
        self._name = name
        self._clock = clock
        self._stream = stream
        self._started = clock.now()
        self._said = self._started

    def show(self, summary: RunSummary, keys: KeysView) -> None:
        """Print a line every ten seconds."""
        now = self._clock.now()
        if now - self._said < _PLAIN_EVERY_S:
            return
        self._said = now
        elapsed = now - self._started
        finished = summary.done + summary.failed
        rate = finished / elapsed
        of_total = eta = ""
        if summary.goal is not None:
            of_total = f"/{summary.goal:,}"
            left = summary.goal - summary.skipped - finished
            eta = f", {in_words(left / rate)} left" if rate else ""
        unit = summary.unit
        at = f"{summary.skipped + finished:,}{of_total} {unit}, {rate:.1f} {unit}/s{eta}"
        self.say(f"{self._name}: {at}; {state_of(summary, keys)}")

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)

    def close(self, summary: RunSummary, keys: KeysView) -> None:
        """Do nothing: the summary follows."""
