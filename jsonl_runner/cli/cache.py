"""`jsonl-runner cache`: what is kept of earlier answers, and removing it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from .options import (
    PATH,
    Suggesting,
    age_of,
    console_options,
    json_option,
    load_config,
    print_json,
    say,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ..cache import Cache, CacheStats
    from ..config import Config

_MB = 1024 * 1024
_config_option = click.option(
    "--config",
    "config_path",
    type=PATH,
    help="JSON or YAML file with settings.  [default: config.json if it is here]",
)


@click.group(cls=Suggesting)
def cache() -> None:
    """Show or remove the answers that are kept for equal requests.

    \b
    Example:
      jsonl-runner cache stats
    """


@cache.command(short_help="What is kept.")
@_config_option
@json_option
@console_options
def stats(config_path: Path | None, as_json: bool) -> int:
    """Tell how many answers are kept, of which models, and what they take.

    \b
    Example:
      jsonl-runner cache stats
    """
    found = _look(load_config(config_path, {}))
    if as_json:
        print_json(asdict(found))
        return 0
    if not found.entries:
        click.echo(f"{found.folder}: no answers are kept")
        return 0
    click.echo(
        f"{found.folder}: {_answers(found.entries)} in {found.bytes / _MB:,.1f} MB of at most "
        f"{found.max_bytes / _MB:,.0f} MB; each is given again for {found.expiry_s / 86_400:g} days"
    )
    click.echo(f"stored between {_moment(found.oldest)} and {_moment(found.newest)}")
    for model, share in found.models.items():
        click.echo(f"{model}: {_answers(share.entries)}, {share.bytes:,} bytes")
    return 0


@cache.command(short_help="Remove what is kept.")
@click.option("--older-than", metavar="AGE", help="Only answers older than this: 7d, 12h, 30m.")
@click.option("--model", help="Only answers to requests to this model.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@_config_option
@console_options
def clear(older_than: str | None, model: str | None, yes: bool, config_path: Path | None) -> int:
    """Remove answers that are kept: all of them, or those that are old or of one model.

    \b
    Example:
      jsonl-runner cache clear --older-than 7d --yes
    """
    age_s = None if older_than is None else age_of(older_than, "--older-than")
    config = load_config(config_path, {})
    if not _is_there(config):
        say(f"{_look(config).folder}: no answers are kept")
        return 0
    kept = _open(config)
    try:
        folder = kept.folder
        which = "" if age_s is None else f" older than {older_than}"
        which += "" if model is None else f" of {model}"
        if not yes and not click.confirm(f"Remove the answers{which} in {folder}?", err=True):
            say("nothing removed")
            return 0
        say(f"{folder}: {_answers(kept.clear(older_than_s=age_s, model=model))} removed")
    finally:
        kept.close()
    return 0


def _is_there(config: Config) -> bool:
    from ..cache import folder_in  # noqa: PLC0415

    return folder_in(config.cache_directory).exists()


def _look(config: Config) -> CacheStats:
    """Return what the cache holds; nothing is made where there is none."""
    from ..cache import CacheStats, folder_in  # noqa: PLC0415

    if not _is_there(config):
        return CacheStats(str(folder_in(config.cache_directory)))
    kept = _open(config)
    try:
        return kept.stats()
    finally:
        kept.close()


def _open(config: Config) -> Cache:
    from ..cache import cache_of  # noqa: PLC0415
    from ..clock import SystemClock  # noqa: PLC0415

    return cache_of(config, clock=SystemClock(), note=lambda text: say(f"note: {text}"))


def _answers(count: int) -> str:
    return f"{count:,} answer" + ("" if count == 1 else "s")


def _moment(wall: float | None) -> str:
    return datetime.fromtimestamp(wall or 0.0, UTC).strftime("%Y-%m-%d %H:%M UTC")
