"""`jsonl-runner render`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from ..terminal import harmless
from .calling import config_of, request_options
from .help import Sectioned
from .inputs import data_argument, dataset_options
from .options import (
    bad_rows_option,
    config_options,
    console_options,
    json_option,
    print_json,
    say,
)

if TYPE_CHECKING:
    from ..dataset import Dataset
    from ..preview import Rendered
    from ..records import BadRow

#: Options of calls that nothing here hangs on; `config_of` wants to hear of them.
_UNUSED = ("transport", "proxy", "threads", "max_retries", "timeout")


@click.command(cls=Sectioned, short_help="Show what would be sent, as text.")
@data_argument
@functools.partial(dataset_options, last="DATA")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Show the first N rows.",
)
@functools.partial(config_options, calls=False)
@request_options
@bad_rows_option
@json_option
@console_options
def render(data: Dataset, **options: Any) -> int:
    """Show the first rows of DATA as they would be asked: every message, by its role.

    Nothing is sent and no key is needed. No more rows are read than are shown. With --json, the
    requests are printed as they would be sent, images and all.

    \b
    Example:
      jsonl-runner render data/samples/gsm8k.jsonl --map instruction=question --auto-index line
    """
    from ..preview import render as render_rows  # noqa: PLC0415  # --help need not wait for it

    bad: list[BadRow] = []
    shown: list[Rendered] = []
    with config_of({**dict.fromkeys(_UNUSED), "simulate": False, **options}) as config:
        rows = render_rows(
            config, data, limit=options["limit"], bad_rows=options["bad_rows"], bad=bad
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
    say(f"{data}: {len(shown):,} {plural} as they would be asked; nothing was sent")
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
