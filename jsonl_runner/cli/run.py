"""`jsonl-runner run`."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import EXIT_STOPPED, EXIT_USAGE, ConfigError, JsonlRunnerError
from .options import (
    PATH,
    bad_rows_option,
    config_options,
    console,
    console_options,
    json_option,
    load_config,
    place_of,
    print_json,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..config import Config
    from ..runner import Job
    from ..summary import RunSummary

#: Keys of the simulator that `--simulate` starts.
_SIMULATED_KEYS = ("sk-simulated-0001", "sk-simulated-0002", "sk-simulated-0003")
#: Stands before the model's name in the call log of a simulated run.
_SIMULATED_MODEL = "simulated-"
#: Seconds an answer of that simulator takes: long enough to see the bar move.
_SIMULATED_LATENCY_S = 0.05


@click.command(short_help="Do every row that has no output yet.")
@click.argument("data", type=PATH)
@click.argument("output", type=PATH)
@config_options
@click.option("--temperature", type=float, help="Sampling temperature.")
@click.option("--max-tokens", type=int, help="Longest answer, in tokens.")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other request parameter; the value is JSON or a text. May be repeated.",
)
@click.option("--threads", type=int, help="Calls at the same time.  [default: keys x 16]")
@click.option("--max-retries", type=int, help="Tries after the first.  [default: 5]")
@click.option("--timeout", type=float, help="Seconds for one call.  [default: 300]")
@bad_rows_option
@click.option(
    "--fsync",
    type=click.Choice(["always", "group", "off"]),
    default="group",
    show_default=True,
    help="When answers are forced onto the disk: each group at once, every 0.1 s, or never.",
)
@click.option("--redo-changed", is_flag=True, help="Call rows again whose content has changed.")
@click.option("--simulate", is_flag=True, help="Use a built-in server; the answers are not real.")
@json_option
@console_options
@click.pass_context
def run(ctx: click.Context, /, data: Path, output: Path, **options: Any) -> int:
    """Do every row of DATA that has no output in OUTPUT yet.

    DATA is a JSONL file (- for standard input) with index, instruction and input in each row.
    OUTPUT gets {"<index>": "text"} or {"<index>": null} a line. Stop it whenever you like: the same
    command goes on where it stopped, and tries the nulls again.

    \b
    Example:
      jsonl-runner run data/samples/data.jsonl output.jsonl --simulate
    """
    from .. import runner  # noqa: PLC0415  # --help need not wait for it

    as_json = options["as_json"]
    with contextlib.ExitStack() as stack:
        overrides = _overrides(options)
        _refuse_mixing(output, simulate=options["simulate"])
        if options["simulate"]:
            overrides.update(stack.enter_context(_simulated()))
        config = load_config(options["config_path"], overrides)
        if options["simulate"]:  # so that the call log tells these answers from real ones
            config = replace(config, model=_SIMULATED_MODEL + config.model)
        if console.verbose:
            _describe(config)
        job = runner.Job(
            None if str(data) == "-" else data,
            output,
            bad_rows=options["bad_rows"],
            fsync=options["fsync"],
            redo_changed=options["redo_changed"],
            quiet=console.quiet,
        )
        try:
            summary = runner.run(config, job)
        except JsonlRunnerError as error:
            if error.summary is not None:
                _report(error.summary, job, as_json=as_json, command=ctx.command_path)
            raise
    _report(summary, job, as_json=as_json, command=ctx.command_path)
    return summary.exit_code


def _overrides(options: dict[str, Any]) -> dict[str, Any]:
    from ..config import parse_value  # noqa: PLC0415

    names = ("model", "api_base", "proxy", "transport", "threads", "max_retries", "timeout")
    overrides = {name: options[name] for name in names}
    params: dict[str, Any] = {}
    for text in options["params"]:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--param")
        params[name] = parse_value(value)
    for name in ("temperature", "max_tokens"):
        if options[name] is not None:
            params[name] = options[name]
    overrides["params"] = params
    return overrides


@contextlib.contextmanager
def _simulated() -> Iterator[dict[str, Any]]:
    """Start the built-in simulator; yield the settings that lead to it."""
    from ..simulator import Simulator, SimulatorSettings  # noqa: PLC0415

    settings = SimulatorSettings(keys=_SIMULATED_KEYS, latency_s=_SIMULATED_LATENCY_S)
    say("--simulate: a built-in server answers; the answers are NOT real and nothing is paid")
    with Simulator(settings, keep_journal=False) as simulator:
        yield {"api_base": simulator.base_url, "api_keys": list(_SIMULATED_KEYS), "proxy": ""}


def _refuse_mixing(output: Path, *, simulate: bool) -> None:
    """Keep invented answers out of a real ledger, and real ones out of an invented one.

    Raises:
        ConfigError: the ledger holds the other kind.
    """
    from ..calllog import read  # noqa: PLC0415

    for entry in itertools.islice(read(output), 1):
        if simulate != str(entry.get("model") or "").startswith(_SIMULATED_MODEL):
            kind = "real" if simulate else "simulated"
            raise ConfigError(f"{output} holds {kind} answers: remove it or name another output")


def _describe(config: Config) -> None:
    from ..transport.surroundings import trusted_certificates  # noqa: PLC0415

    labels = ", ".join(key.label for key in config.api_keys[:10])
    more = f" and {len(config.api_keys) - 10} more" if len(config.api_keys) > 10 else ""
    say(f"model {config.model} at {place_of(config)}; keys {labels or 'none'}{more}")
    say(f"parameters {dict(config.params)}; retries {config.max_retries}; threads {config.threads}")
    if config.api_base.startswith("https:"):
        say(f"trusted certificates: {trusted_certificates()}")


def _report(summary: RunSummary, job: Job, *, as_json: bool, command: str) -> None:
    if as_json:
        print_json(summary.to_dict())
        return
    for line in summary.lines():
        say(line)
    for line in _next_steps(summary, job, command):
        say(line)


def _next_steps(summary: RunSummary, job: Job, command: str) -> list[str]:
    if summary.stop_code in {EXIT_USAGE, EXIT_STOPPED}:
        return []  # the error that follows says what to do first
    if job.data is None:
        return []
    if summary.stopped is not None or summary.left:
        return ["next: run the same command again, it goes on where it stopped"]
    if summary.failed:
        return [f"next: the same command tries the {summary.failed:,} nulls again"]
    merged = job.output.with_name("merged.json")
    return [f"next: {command.replace(' run', ' merge')} {job.data} {job.output} {merged}"]
