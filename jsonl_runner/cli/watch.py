"""How a run is watched: its options, and `status --watch` from another terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from ..terminal import harmless
from .options import PATH, with_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..dataset import Data
    from ..lookout import Sight
    from ..watching import Views

#: Seconds between two looks at a run, and between two lines where the output is no terminal.
_LOOK_S, _LINE_S = 1.0, 10.0

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def watch_options(command: _Command) -> _Command:
    """Add the options that say how a run is watched; collected by `views_of`."""
    return with_options(
        command,
        click.option(
            "--metrics-host",
            default="127.0.0.1",
            show_default=True,
            help="Address of --metrics-port; another one lets other machines look.",
        ),
        click.option(
            "--metrics-port", type=int, help="Serve metrics for Prometheus; 0 takes a free port."
        ),
        click.option("--log-file", type=PATH, help="Append what happens to a file, as JSON lines."),
        click.option("--live", is_flag=True, help="Show a table of keys, speed and failures."),
    )


def views_of(options: dict[str, Any]) -> Views:
    """Return how a run is to be watched."""
    from ..watching import Views  # noqa: PLC0415  # --help need not wait for it

    return Views(
        live=options["live"],
        log_file=options["log_file"],
        metrics_port=options["metrics_port"],
        metrics_host=options["metrics_host"],
    )


def watch(data: Data, output: Path, *, as_json: bool) -> int:
    """Show the run that writes OUTPUT until it ends; return the exit code.

    Args:
        data: the input.
        output: the ledger.
        as_json: whether as a JSON object a second.

    Raises:
        InputError: the input cannot be read.
        LedgerError: the ledger or its call log cannot be read.
    """
    from ..clock import Stop, SystemClock  # noqa: PLC0415  # --help need not wait for it
    from ..errors import RunInterruptedError  # noqa: PLC0415
    from ..lookout import Lookout  # noqa: PLC0415
    from ..signals import stopping  # noqa: PLC0415

    clock, stop = SystemClock(), Stop()
    lookout = Lookout(data, output, clock)
    shown = _shown(as_json=as_json)
    sight = None
    try:
        with stopping(stop):
            while not stop.requested:
                sight = lookout.look()
                shown.look(sight)
                if sight.is_over or stop.pause(_LOOK_S, clock):
                    break
    finally:
        shown.close()
    if isinstance(stop.reason, RunInterruptedError):
        return stop.reason.exit_code
    if sight is not None and isinstance(shown, _Screen):
        click.echo(line_of(sight))
    return 0


class _Shown(Protocol):
    """Where a run is shown."""

    def look(self, sight: Sight) -> None:
        """Show what there is to see."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def _shown(*, as_json: bool) -> _Shown:
    from ..live import why_not  # noqa: PLC0415

    if as_json:
        return _Json()
    return _Lines() if why_not(sys.stdout) else _Screen()


class _Screen:
    """The table on the terminal."""

    def __init__(self) -> None:
        from ..clock import SystemClock  # noqa: PLC0415
        from ..live import Live  # noqa: PLC0415

        self._live = Live(SystemClock(), sys.stdout)

    def look(self, sight: Sight) -> None:
        """Draw it; not the end, which is told below where the table was."""
        if sight.is_over:
            return
        self._live.look(sight.snapshot, sight.word)

    def close(self) -> None:
        """Take it away."""
        self._live.close()


class _Json:
    """A JSON object a line."""

    def look(self, sight: Sight) -> None:
        """Print it."""
        import orjson  # noqa: PLC0415

        click.echo(orjson.dumps(sight.to_dict()).decode())

    def close(self) -> None:
        """Do nothing."""


class _Lines:
    """A line from time to time."""

    def __init__(self) -> None:
        self._due = float("-inf")

    def look(self, sight: Sight) -> None:
        """Print one, when it is time or the run is over."""
        now = time.monotonic()
        if now < self._due and not sight.is_over:
            return
        self._due = now + _LINE_S
        click.echo(line_of(sight))

    def close(self) -> None:
        """Do nothing."""


def line_of(sight: Sight) -> str:
    """Return a sight in one line."""
    from ..limits import in_words  # noqa: PLC0415
    from ..snapshot import money  # noqa: PLC0415

    now = sight.snapshot
    of_total = "" if now.rows is None else f"/{now.rows:,}"
    parts = [f"{now.skipped + now.finished:,}{of_total} {now.unit}", f"null {now.failed:,}"]
    if not sight.is_over:
        parts.append(f"{now.rate:,.1f} {now.unit}/s")
        if now.left_s is not None and now.left:
            parts.append(f"{in_words(now.left_s)} left")
    if now.cost is not None:
        parts.append(f"cost {money(now.cost)}")
    words = [sight.word]
    if not sight.is_over:
        words += [now.stopping, now.trouble or now.waiting_for]
    words = [word for word in words if word]
    return harmless("; ".join([", ".join(parts), *words]))
