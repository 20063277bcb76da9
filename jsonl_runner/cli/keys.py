"""`jsonl-runner keys`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .options import (
    Suggesting,
    config_options,
    console_options,
    json_option,
    load_config,
    place_of,
    print_json,
    say,
)

if TYPE_CHECKING:
    from ..keycheck import KeyCheck


@click.group(cls=Suggesting, short_help="Which keys work.")
def keys() -> None:
    """Look after API keys."""


@keys.command(short_help="Ask one token of every key.")
@config_options
@json_option
@console_options
def check(as_json: bool, **options: Any) -> int:
    """Ask one token of every key: which work, which are finished, what their limits are.

    Exits with 3 when no key works.

    \b
    Example:
      jsonl-runner keys check --config config.json
    """
    from ..clock import SystemClock  # noqa: PLC0415  # --help need not wait for it
    from ..errors import EXIT_STOPPED  # noqa: PLC0415
    from ..keycheck import check_keys  # noqa: PLC0415

    config = load_config(options.pop("config_path"), options)
    for note in config.notes:
        say(f"note: {note}")
    checks = check_keys(config, SystemClock(), lambda text: say(f"note: {text}"))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for line in checks:
            click.echo(_line(line))
    working = sum(check.state in {"works", "cooling"} for check in checks)
    say(f"{working} of {len(checks)} keys work with {config.model} at {place_of(config)}")
    return 0 if working else EXIT_STOPPED


def _line(check: KeyCheck) -> str:
    limits = ""
    if check.request_limit is not None:
        limits += f"  requests {check.requests_left:,.0f} of {check.request_limit:,.0f} left"
    if check.token_limit is not None:
        limits += f"  tokens {check.tokens_left:,.0f} of {check.token_limit:,.0f} left"
    return f"{check.label}  {check.state}{limits}" + (f"  {check.reason}" if check.reason else "")
