"""`jsonl-runner render`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..terminal import harmless
from .calling import config_of, request_options
from .options import (
    PATH,
    bad_rows_option,
    config_options,
    console_options,
    json_option,
    print_json,
    say,
)
from .shaping import shape_of, shaping_options

if TYPE_CHECKING:
    from pathlib import Path

    from ..preview import Rendered
    from ..records import BadRow

#: Options of calls that nothing here hangs on; `config_of` wants to hear of them.
_UNUSED = ("threads", "max_retries", "timeout")


@click.command(short_help="Show what would be sent, as text.")
@click.argument("data", type=PATH, nargs=-1, required=True)
@shaping_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Show the first N rows.",
)
@config_options
@request_options
@bad_rows_option
@json_option
@console_options
def render(data: tuple[Path, ...], **options: Any) -> int:
    """Show the first rows of DATA as they would be asked: every message, by its role.

    Nothing is sent and no key is needed. No more rows are read than are shown. With --json, the
    requests are printed as they would be sent, images and all.

    \b
    Example:
      jsonl-runner render data/samples/gsm8k.jsonl --map instruction=question --auto-index line
    """
    from ..dataset import Dataset  # noqa: PLC0415  # --help need not wait for it
    from ..preview import render as render_rows  # noqa: PLC0415

    dataset = Dataset(data, **shape_of(options))
    bad: list[BadRow] = []
    shown: list[Rendered] = []
    with config_of({**dict.fromkeys(_UNUSED), "simulate": False, **options}) as config:
        rows = render_rows(
            config, dataset, limit=options["limit"], bad_rows=options["bad_rows"], bad=bad
        )
        for row in rows:
            shown.append(row)
            if not options["as_json"]:
                _print(row)
    for left_out in bad:
        say(f"left out {harmless(str(left_out))}")
    if options["as_json"]:
        print_json([row.request for row in shown])
    plural = "row" if len(shown) == 1 else "rows"
    say(f"{dataset}: {len(shown):,} {plural} as they would be asked; nothing was sent")
    return 0


def _print(row: Rendered) -> None:
    request = row.request
    index = " ".join(harmless(row.index).split())
    click.echo(
        f"=== row {index} ({row.where}): {request['body']['model']}, "
        f"{request['input_tokens']:,} tokens"
    )
    for role, text in row.messages:
        click.echo(f"--- {harmless(role)}\n{harmless(text)}")
    click.echo()
