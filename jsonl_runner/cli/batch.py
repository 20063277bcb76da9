"""`jsonl-runner batch`: the same rows through a provider's Batch API, into the same ledger."""

from __future__ import annotations

import contextlib
import functools
import time as real_time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import EXIT_SOME_NULL, EXIT_STOPPED, ConfigError, JsonlRunnerError, RunStoppedError
from ..terminal import harmless
from .batching import (
    bounded,
    notify_option,
    opened,
    provider_options,
    ready,
    report,
    rows_of,
    sending_options,
    wishes_of,
)
from .calling import answer_options, simulate_option
from .inputs import data_argument, dataset_options
from .options import PATH, Suggesting, age_of, console_options, json_option, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..batch.manifest import Manifest
    from ..batch.view import View
    from ..dataset import Dataset

#: Seconds between two looks of --watch.
_WATCH_S = 15.0
batch_id_option = click.option(
    "--batch-id", metavar="ID", help="A batch by its id, or by the number of its part."
)


@click.group(cls=Suggesting, short_help="Send rows through a provider's Batch API.")
def batch() -> None:
    """Send rows through a provider's Batch API: half the price, within a day, the same OUTPUT.

    What is sent stands in OUTPUT's manifest (output.batches.sqlite) before it is sent: whatever
    crashes, the same command goes on, and no batch is created twice. A dataset may be begun with
    run and finished in batches, or the other way round.

    \b
    Example:
      jsonl-runner batch run data/samples/data.jsonl output.jsonl --simulate
    """


@batch.command(short_help="Send, wait, collect, until every row is done.")
@data_argument
@click.argument("output", type=PATH)
@functools.partial(dataset_options, last="OUTPUT")
@notify_option
@simulate_option
@sending_options
@functools.partial(provider_options, several_models=True)
def run(data: Dataset, output: Path, **options: Any) -> int:
    """Send every row of DATA that has no output in OUTPUT, wait, and collect the results.

    What failed in a way that may pass (expired, cancelled, server errors) is sent again as long as
    that brings anything. Stop it whenever you like: the batches go on, and the same command too.

    \b
    Example:
      jsonl-runner batch run data/samples/data.jsonl output.jsonl --simulate
    """
    rows = rows_of(data, output, options)
    with _reported(options), opened(output, options) as (config, batches):
        batches.run(rows, wishes_of(options), bounded(config, options, batches))
        summary = batches.end()
    return _end(summary, options)


@batch.command(short_help="Send rows and leave.")
@data_argument
@click.argument("output", type=PATH)
@functools.partial(dataset_options, last="OUTPUT")
@click.option("--dry-run", is_flag=True, help="Tell what would be sent, and send nothing.")
@sending_options
@functools.partial(provider_options, several_models=True)
def submit(data: Dataset, output: Path, dry_run: bool, **options: Any) -> int:
    """Send every row of DATA that has no output in OUTPUT and is in no batch.

    Later, `batch fetch` collects the results.

    \b
    Example:
      jsonl-runner batch submit data/samples/data.jsonl output.jsonl --dry-run
    """
    from ..batch.job import UNSENT  # noqa: PLC0415  # --help need not wait for it

    options["simulate"] = False
    rows = rows_of(data, output, options)
    with _reported(options), opened(output, options) as (config, batches):
        planned = batches.plan(
            rows, wishes_of(options, dry=dry_run), bounded(config, options, batches)
        )
        if not dry_run:
            batches.submit()
        unsent = batches.manifest.parts(*UNSENT)
        mine = {part.number for part in planned.parts if not dry_run}
        refused = [p for p in batches.manifest.parts("refused") if p.number in mine]
        shown = [{"rows": p.requests, "bytes": p.size, "model": p.model} for p in planned.parts]
        sent = [part.batch for part in batches.manifest.parts("submitted")]
    if options["as_json"]:
        counts = {"unsent": len(unsent), "refused": len(refused)}
        print_json({"rows": planned.rows, "parts": shown, "batches": sent, **counts})
        return EXIT_STOPPED if refused else 0
    if refused:
        raise RunStoppedError(f"{len(refused)} parts were refused: {refused[0].reason}")
    if not planned.parts:
        say("nothing to send: every row has its output, or is in a batch")
    if unsent and not dry_run:
        say(f"{len(unsent)} parts wait for room at the provider: batch run sends them in time")
    elif not dry_run:
        say(f"next: jsonl-runner batch fetch {output}")
    return 0


@batch.command(short_help="Collect the results of batches that are over.")
@click.argument("output", type=PATH)
@notify_option
@answer_options
@provider_options
def fetch(output: Path, **options: Any) -> int:
    """Look at the batches of OUTPUT once, and write what is there into it.

    Batches that expired, failed or were cancelled also give what they have finished. Exit code 3
    as long as batches run, or rows were left that may be sent again.

    \b
    Example:
      jsonl-runner batch fetch output.jsonl
    """
    options["simulate"] = False
    if (nothing := _nothing(output, options)) is not None:
        return nothing
    with _reported(options), opened(output, options) as (_, batches):
        batches.settle()
        batches.fetch()
        running = len(batches.manifest.parts(live=True))
        released = batches.released
        summary = batches.end()
    if running:
        say(f"{running} batches are not over yet: the same command later")
    code = _end(summary, options)
    return EXIT_STOPPED if running or released else code


@batch.command(short_help="How the batches of an output stand.")
@click.argument("output", type=PATH)
@click.option("--watch", is_flag=True, help="Look again and again, until all are over.")
@provider_options
def status(output: Path, watch: bool, **options: Any) -> int:
    """Ask the provider about the batches of OUTPUT that run; nothing is changed.

    \b
    Example:
      jsonl-runner batch status output.jsonl
    """
    options["simulate"] = False
    if (nothing := _nothing(output, options)) is not None:
        return nothing
    while True:
        found = _looked_at(output, options)
        _show(found, options)
        if not watch or not any(view.part.is_live for view in found):
            return 0
        real_time.sleep(options["poll_seconds"] or _WATCH_S)
        say("")


@batch.command("list", short_help="Every batch of an output, without asking the provider.")
@click.argument("output", type=PATH)
@json_option
@console_options
def list_(output: Path, **options: Any) -> int:
    """List what was ever sent of OUTPUT, as its manifest has it.

    \b
    Example:
      jsonl-runner batch list output.jsonl
    """
    from ..batch.view import views  # noqa: PLC0415

    if (nothing := _nothing(output, options)) is not None:
        return nothing
    with _manifest(output) as manifest:
        _show(views(manifest, output, real_time.time()), options)
    return 0


@batch.command(short_help="End batches.")
@click.argument("output", type=PATH)
@batch_id_option
@click.option(
    "--forget",
    is_flag=True,
    help="Give up batches nobody can be asked about any more; their rows may be paid twice.",
)
@provider_options
def cancel(output: Path, batch_id: str | None, forget: bool, **options: Any) -> int:
    """Ask for the end of OUTPUT's batches. What they finish by then is billed: fetch collects it.

    \b
    Example:
      jsonl-runner batch cancel output.jsonl
    """
    from ..batch.tidy import cancel as cancel_parts  # noqa: PLC0415

    options["simulate"] = False
    if (nothing := _nothing(output, options)) is not None:
        return nothing
    with opened(output, options, brings_answers=False) as (_, batches):
        after = cancel_parts(batches.desk, batch_id, forget=forget)
    if options["as_json"]:
        print_json([{"part": p.number, "batch": p.batch, "state": p.state} for p in after])
    for part in after:
        what = "its end is asked for" if part.cancelling else part.state
        say(f"part {part.number} {part.batch}: {what}")
    if not after:
        say("no batch runs")
    return 0


@batch.command(short_help="Delete the files of batches that are merged.")
@click.argument("output", type=PATH)
@batch_id_option
@click.option("--all", "everything", is_flag=True, help="Of all batches of OUTPUT.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Of N batches at the most.")
@click.option("--older-than", metavar="7d", help="Only of batches that ended so long ago.")
@click.option("--local", is_flag=True, help="Delete the copies on this disk too.")
@click.option("--yes", is_flag=True, help="Do it; without it, only tell what would be done.")
@provider_options
def cleanup(output: Path, batch_id: str | None, **options: Any) -> int:
    """Delete at the provider what this tool uploaded, and the results that are in OUTPUT.

    What is not merged is never deleted.

    \b
    Example:
      jsonl-runner batch cleanup output.jsonl --all
    """
    from ..batch.tidy import clean, to_clean  # noqa: PLC0415

    if (batch_id is None) == (not options["everything"]):
        raise click.UsageError("say which: --batch-id ID or --all")
    options["simulate"] = False
    if (nothing := _nothing(output, options)) is not None:
        return nothing
    before = _before(options["older_than"])
    if not options["yes"]:
        with _manifest(output) as manifest:
            found = to_clean(manifest, batch_id, limit=options["limit"], before=before)
        _tell_cleaning([(c.part.batch or c.part.name, len(c.files)) for c in found], options)
        return 0
    with opened(output, options, brings_answers=False) as (_, batches):
        found = to_clean(batches.manifest, batch_id, limit=options["limit"], before=before)
        left = sum(clean(batches.desk, each, local=options["local"]) for each in found)
    _tell_cleaning([(c.part.batch or c.part.name, len(c.files)) for c in found], options)
    return EXIT_STOPPED if left else 0


@batch.command(short_help="A provider's result files as text.")
@click.argument("results", type=PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=PATH, required=True, help="A .jsonl file, or a new folder.")
@click.option("--ids", type=PATH, metavar="FILE", help="What `requests` wrote beside its file.")
@json_option
@console_options
def convert(results: tuple[Path, ...], output: Path, ids: Path | None, as_json: bool) -> int:
    """Write the texts of RESULTS, output and error files of batches made anywhere.

    With -o NAME.jsonl a line for each request with its text, model, usage and finish_reason; else a
    folder with a file for each, called as its custom_id.

    \b
    Example:
      jsonl-runner batch convert output.batches/*-file-*.jsonl -o texts.jsonl
    """
    from ..convert import convert_to_files, convert_to_jsonl  # noqa: PLC0415

    to = convert_to_jsonl if output.suffix == ".jsonl" else convert_to_files
    found = to(results, output, ids=ids)
    if as_json:
        print_json(asdict(found))
    why = ", ".join(f"{code} {count:,}" for code, count in found.failed.most_common())
    say(harmless(f"{output}: {found.texts:,} texts" + (f"; without one: {why}" if why else "")))
    return EXIT_SOME_NULL if found.failed else 0


def _tell_cleaning(found: list[tuple[str, int]], options: dict[str, Any]) -> None:
    done = options["yes"]
    if options["as_json"]:
        parts = [{"batch": name, "files": count} for name, count in found]
        print_json({"deleted": done, "batches": parts})
    for name, count in found:
        say(f"{name}: {count} files {'deleted' if done else 'would be deleted'}")
    if not found:
        say("nothing to delete")
    elif not done:
        say("nothing is deleted yet: --yes does it")


def _before(text: str | None) -> float | None:
    return None if text is None else real_time.time() - age_of(text, "--older-than")


@contextlib.contextmanager
def _manifest(output: Path) -> Iterator[Manifest]:
    from ..batch.manifest import Manifest  # noqa: PLC0415

    with contextlib.closing(Manifest(output, write=False)) as manifest:
        yield manifest


def _nothing(output: Path, options: dict[str, Any]) -> int | None:
    """Say so where nothing was ever sent; None: something was."""
    from ..batch.manifest import manifest_path  # noqa: PLC0415

    if manifest_path(output).exists():
        return None
    if options["as_json"]:
        print_json([])
    say(f"no batch was made for {output}")
    return 0


def _looked_at(output: Path, options: dict[str, Any]) -> list[View]:
    from ..batch.base import ProviderError  # noqa: PLC0415
    from ..batch.desk import Desk  # noqa: PLC0415
    from ..batch.view import views  # noqa: PLC0415
    from ..secret import without_login  # noqa: PLC0415

    with _manifest(output) as manifest:
        if not manifest.parts("submitted"):
            return views(manifest, output, real_time.time())
        with ready(options) as (config, provider, time):
            base_url = without_login(config.api_base).rstrip("/")
            keys = config.api_keys
            desk = Desk(manifest, provider, keys, output.parent, base_url, time, say)
            try:
                return views(manifest, output, time.clock.wall(), desk)
            except ProviderError as error:
                why = desk.clean(error)
                raise RunStoppedError(f"the provider could not be asked: {why}") from None


def _show(found: list[View], options: dict[str, Any]) -> None:
    if options["as_json"]:
        print_json([view.to_dict() for view in found])
        return
    for view in found:
        click.echo(harmless(view.line()))
    live = [view for view in found if view.part.is_live]
    costs = [view.cost for view in found if view.cost is not None]
    cost = f", cost {sum(costs):.4f}" if costs else ""
    rows = sum(view.rows["waiting"] for view in live)
    click.echo(f"{len(found)} parts, {len(live)} not over, {rows:,} rows waiting{cost}")


@contextlib.contextmanager
def _reported(options: dict[str, Any]) -> Iterator[None]:
    """Tell what was done until an error too."""
    try:
        yield
    except JsonlRunnerError as error:
        if error.summary is not None and not isinstance(error, ConfigError):
            if options["as_json"]:
                print_json(error.summary.to_dict())
            else:
                report(error.summary)
        raise


def _end(summary: Any, options: dict[str, Any]) -> int:
    if options["as_json"]:
        print_json(summary.to_dict())
    else:
        report(summary)
    return int(summary.exit_code)
