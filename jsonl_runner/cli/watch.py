"""How a run is watched: its options, and `status --watch` from another terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from .options import PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..watching import Views

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def watch_options(command: _Command) -> _Command:
    """Add the options that say how a run is watched; collected by `views_of`."""
    for option in (
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
    ):
        command = option(command)
    return command


def views_of(options: dict[str, Any]) -> Views:
    """Return how a run is to be watched."""
    from ..watching import Views  # noqa: PLC0415  # --help need not wait for it

    return Views(
        live=options["live"],
        log_file=options["log_file"],
        metrics_port=options["metrics_port"],
        metrics_host=options["metrics_host"],
    )
