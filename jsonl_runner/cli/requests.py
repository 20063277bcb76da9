"""`jsonl-runner requests`: the files a batch is made of, written or checked without any network."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import EXIT_USAGE
from ..terminal import counted, harmless
from .calling import params_of
from .help import Sectioned
from .inputs import data_argument, dataset_options
from .options import (
    PATH,
    bad_rows_option,
    console_options,
    json_option,
    load_config,
    print_json,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ..batch.checking import Problem
    from ..batch.profiles import Profile
    from ..batch.requestfiles import Written
    from ..dataset import Dataset
    from ..records import BadRow, Record
    from ..sources.stream import BadRowOf
    from ..survey import BadRowsPolicy

#: Problems that `--json` lists one by one; all are counted.
_LISTED = 1000


@click.command(cls=Sectioned, short_help="Write or check the request files of a batch.")
@data_argument
@click.option("-o", "--output", type=PATH, help="File to write.")
@click.option("--check", "checked", type=PATH, metavar="FILE", help="Check FILE, write nothing.")
@click.option("--grid", type=PATH, metavar="FILE", help="Rows of an experiment, instead of DATA.")
@click.option("--rows-only", is_flag=True, help="Write the rows of --grid, for run.")
@click.option(
    "--provider",
    metavar="NAME",
    help="Whose batches: openai, anthropic, azure, groq, ….  [default: by the API's address]",
)
@click.option("--model", help="Model where a row names none.")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A request parameter; the value is JSON or a text. May be repeated.",
)
@click.option("--sampling", is_flag=True, help="Send Anthropic temperature, top_p and top_k.")
@click.option("--url", help="What each request is for.  [default: the provider's chat]")
@click.option(
    "--split/--no-split",
    default=True,
    help="Several files where one is not enough.  [default: yes]",
)
@click.option("--max-requests", type=click.IntRange(min=1), help="Fewer a file than it may have.")
@click.option(
    "--max-tokens-enqueued",
    "max_tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of prompts a file may have, estimated.",
)
@click.option(
    "--config", "config_path", type=PATH, help="As for run.  [default: config.json if it is here]"
)
@dataset_options
@bad_rows_option
@json_option
@console_options
def requests(data: Dataset | None, output: Path | None, **options: Any) -> int:
    """Write the rows of DATA as the requests of a batch: OUTPUT, or OUTPUT.0001.jsonl and so on.

    Nothing is sent. --check names what a provider would refuse in a file made elsewhere. --grid
    takes the rows of an experiment (personas x models x texts x trials) from a YAML file.

    \b
    Example:
      jsonl-runner requests data/samples/data.jsonl -o requests.jsonl --model gpt-4.1-mini
    """
    sources = [path for path in (data, options["grid"], options["checked"]) if path is not None]
    if len(sources) != 1:
        raise click.UsageError("give one of DATA, --grid FILE and --check FILE")
    if options["checked"] is not None:
        return _check(options["checked"], options)
    if output is None:
        raise click.UsageError("say where to write: -o requests.jsonl")
    if options["rows_only"] and options["grid"] is None:
        raise click.UsageError("--rows-only goes with --grid")
    _refuse_overwriting(sources[0], output)
    if options["rows_only"]:
        return _write_rows(options["grid"], output, as_json=options["as_json"])
    return _write(data, output, options)


def _refuse_overwriting(source: Dataset | Path, output: Path) -> None:
    from ..dataset import dataset_of  # noqa: PLC0415  # --help need not wait for it
    from ..errors import InputError  # noqa: PLC0415

    if dataset_of(source).clash([output]):
        raise InputError(f"{output}: this would overwrite {source}; name another output")


def _profile_of(options: dict[str, Any], api_base: str) -> Profile:
    from ..batch.profiles import profile_for, profile_named  # noqa: PLC0415

    name = options["provider"]
    profile = profile_named(name) if name else profile_for(api_base)
    if profile.name == "generic":
        say(f"note: whose batches {api_base} has is not known: limits that all are known to take")
    return profile


def _write(data: Dataset | None, output: Path, options: dict[str, Any]) -> int:
    from ..batch.requestfiles import write_requests  # noqa: PLC0415
    from ..batch.requests import RequestMaker, Splitter  # noqa: PLC0415
    from ..prompts import Composer  # noqa: PLC0415

    overrides = {"model": options["model"], "params": params_of(options["params"])}
    config = load_config(options["config_path"], overrides)
    profile = _profile_of(options, config.api_base)
    if profile.dialect == "anthropic" and not config.model.startswith("claude"):
        say(f"note: rows that name no model ask for {config.model}; --model names another")
    name = str(data or options["grid"])
    maker = RequestMaker(
        profile,
        Composer(config.model, config.params),
        url=options["url"],
        sampling=options["sampling"],
    )
    splitter = Splitter(
        profile, max_requests=options["max_requests"], max_tokens=options["max_tokens"]
    )
    policy: BadRowsPolicy = "skip" if options["bad_rows"] == "skip" else "fail"
    with _records(data, options["grid"]) as (records, bad_row):
        written = write_requests(
            maker.lines(records, bad_row), output, splitter, name, may_split=options["split"],
            bad_row=bad_row, bad_rows=policy,
        )  # fmt: skip
    _tell(written, maker.notes, profile, as_json=options["as_json"])
    return 0


@contextlib.contextmanager
def _records(
    data: Dataset | None, grid: Path | None
) -> Iterator[tuple[Iterable[Record | BadRow], BadRowOf]]:
    from ..grid import load  # noqa: PLC0415
    from ..reader import RowReader, open_input  # noqa: PLC0415
    from ..sources.stream import bad_rows_of  # noqa: PLC0415

    if grid is not None:
        yield load(grid).records(), bad_rows_of(None, str(grid))
        return
    assert data is not None  # noqa: S101  # for the types: there is one of the two
    with open_input(data) as stream:
        yield RowReader(stream, str(data)).records(), bad_rows_of(stream, str(data))


def _tell(written: Written, notes: list[str], profile: Profile, *, as_json: bool) -> None:
    if as_json:
        files = [
            {"file": str(path), **asdict(part)}
            for path, part in zip(written.files, written.parts, strict=True)
        ]
        for found in files:
            del found["is_full"]
        print_json(
            {
                "provider": profile.name,
                "requests": written.requests,
                "files": files,
                "ids": None if written.ids is None else str(written.ids),
                "bad_rows": [{"line": row.line, "reason": row.reason} for row in written.bad.first],
                "notes": notes,
            }
        )
    for line in written.bad.lines():
        say(harmless(f"left out {line}"))
    for note in notes:
        say(f"note: {harmless(note)}")
    if written.ids is not None:
        say(f"note: {written.ids} says which index a custom_id that begins with h- stands for")
    for path, part in zip(written.files, written.parts, strict=True):
        say(
            f"{path}: {counted(part.requests, 'request')}, {part.size / 1e6:.1f} MB, some "
            f"{part.tokens:,} tokens{f', {part.model}' if part.model else ''}"
        )


def _write_rows(grid: Path, output: Path, *, as_json: bool) -> int:
    from .. import jsontext  # noqa: PLC0415
    from ..atomic import replacing  # noqa: PLC0415
    from ..grid import load  # noqa: PLC0415

    experiment = load(grid)
    count = 0
    with replacing(output) as stream:
        for row in experiment.rows():
            stream.write(jsontext.dump(row) + b"\n")
            count += 1
    if as_json:
        print_json({"file": str(output), "rows": count})
    say(f"{output}: {counted(count, 'row')}")
    return 0


def _check(path: Path, options: dict[str, Any]) -> int:
    from ..batch.checking import check  # noqa: PLC0415

    api_base = load_config(options["config_path"], {}).api_base
    profile = _profile_of(options, api_base)
    as_json = options["as_json"]
    listed: list[Problem] = []

    def report(problem: Problem) -> None:
        if as_json:
            if len(listed) < _LISTED:
                listed.append(problem)
            return
        where = f"{path}:{problem.line}" if problem.line else str(path)
        click.echo(harmless(f"{where}: {problem.code}: {problem.message}"))

    found = check(path, profile, report, max_tokens=options["max_tokens"])
    if as_json:
        print_json(
            {
                "provider": profile.name,
                **asdict(found),
                "problems": dict(found.problems),
                "listed": [problem._asdict() for problem in listed],
            }
        )
    else:
        total = sum(found.problems.values())
        verdict = counted(total, "problem") if total else f"{profile.name} would take it"
        click.echo(
            f"{path}: {counted(found.requests, 'request')}, {found.size / 1e6:.1f} MB, some "
            f"{found.tokens:,} tokens: {verdict}"
        )
    return 0 if found.is_good else EXIT_USAGE
