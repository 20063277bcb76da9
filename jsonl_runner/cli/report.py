"""The command `report`: what came of a run, as a page or as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .calling import price_option, prices_option
from .help import Sectioned
from .inputs import dataset_options
from .options import PATH, console_options, json_option, print_json, say

if TYPE_CHECKING:
    from ..dataset import Dataset

#: What the page is called unless told otherwise.
_PAGE = Path("report.html")


@click.command(cls=Sectioned, short_help="A page on what came of a run.")
@click.argument("output", type=PATH)
@click.option(
    "--data",
    type=PATH,
    multiple=True,
    help="The input: shows it beside the outputs, and what is left. May be repeated.",
)
@dataset_options
@click.option(
    "-o",
    "--page",
    "target",
    type=PATH,
    metavar="FILE",
    help="The page.  [default: report.html, and none with --json]",
)
@click.option(
    "--sample",
    type=click.IntRange(0, 2000),
    default=200,
    show_default=True,
    metavar="N",
    help="Rows that can be looked at in it.",
)
@price_option
@prices_option
@json_option
@console_options
def report(
    output: Path,
    data: Dataset | None,
    target: Path | None,
    sample: int,
    price: str | None,
    prices: Path | None,
    as_json: bool,
) -> int:
    """Write a page on OUTPUT and its call log: one HTML file that needs nothing else.

    Outcomes, throughput, latency, tokens and cost by model, failures by reason, keys, and a sample
    of the rows to search in; what would spoil training. Costs are those of the call log; --price
    and --prices are for calls of which it tells none. Made while a run goes on, it shows what is
    written so far.

    \b
    Example:
      jsonl-runner report output.jsonl --data data/samples/data.jsonl -o report.html
    """
    from ..atomic import replacing  # noqa: PLC0415  # --help need not wait for it
    from ..calllog import path_for  # noqa: PLC0415
    from ..errors import InputError  # noqa: PLC0415
    from ..pricefile import load_prices  # noqa: PLC0415
    from ..report import gather, page  # noqa: PLC0415

    if target is None and not as_json:
        target = _PAGE
    if target is not None:
        if data is not None and data.clash([target]):
            raise InputError(f"{target}: the page would overwrite {data}; name another")
        for source in (output, path_for(output)):
            if target.exists() and source.exists() and target.samefile(source):
                raise InputError(f"{target}: the page would overwrite {source}; name another")
    found = gather(output, data, sample=sample, prices=load_prices(prices, price))
    if as_json:
        print_json(found.to_dict())
    if target is not None:
        html = page(found).encode("utf-8", "replace")
        with replacing(target) as stream:
            stream.write(html)
        rows = f"done {found.rows.done:,}, failed {found.rows.failed:,}"
        say(f"{target}: {rows} ({len(html):,} bytes)")
    return 0
