"""`jsonl-runner simulate`."""

from __future__ import annotations

import signal
import threading
from typing import Any

import click

from .options import console_options, say


@click.command(short_help="Run the local OpenAI-shaped server.")
@click.option("--port", type=int, default=8000, show_default=True, help="0 takes a free one.")
@click.option("--latency", type=float, default=0.2, show_default=True, help="Seconds to an answer.")
@click.option("--latency-spread", type=float, default=0.0, help="Up to so many seconds more.")
@click.option("--requests-per-second", type=float, help="Limit of each key, told in the headers.")
@click.option("--tokens-per-second", type=float, help="Limit of each key, told in the headers.")
@click.option("--max-in-flight", type=int, help="Calls at once above which 429 is sent.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND=RATE",
    help="A fault and its share of all calls, such as 500=0.05. May be repeated.",
)
@click.option(
    "--key-fault",
    "key_faults",
    multiple=True,
    metavar="KEY=KIND",
    help="A key that always meets a fault, such as sk-dead=401. May be repeated.",
)
@click.option("--batch-delay", type=float, default=0.0, help="Seconds that a batch is in progress.")
@click.option(
    "--batch-fault",
    "batch_faults",
    multiple=True,
    metavar="KIND=RATE",
    help="A fault and its share of the lines of batches, such as 500=0.05. May be repeated.",
)
@click.option(
    "--lost-answer",
    "lost_answers",
    multiple=True,
    metavar="ROUTE=RATE",
    help="A call that is done without an answer, such as 'POST /v1/batches=0.1'. May be repeated.",
)
@console_options
def simulate(
    port: int, faults: tuple[str, ...], key_faults: tuple[str, ...], **options: Any
) -> int:
    """Serve an OpenAI-shaped API on this machine, with any key; the answers are not real.

    Chat completions, files and batches, and Anthropic's messages and batches. A prompt may hold
    [[fault:KIND]] to meet a fault on purpose. Ctrl-C ends it.

    \b
    Example:
      jsonl-runner simulate --port 8000 --fault 429=0.05 --batch-delay 60
    """
    from ..errors import ConfigError  # noqa: PLC0415  # --help need not wait for it
    from ..simulator import (  # noqa: PLC0415
        BATCH_FAULT_KINDS,
        FAULT_KINDS,
        Simulator,
        SimulatorSettings,
        UnknownFaultError,
    )

    try:
        settings = SimulatorSettings(
            latency_s=options["latency"],
            latency_spread_s=options["latency_spread"],
            requests_per_second=options["requests_per_second"],
            tokens_per_second=options["tokens_per_second"],
            max_in_flight=options["max_in_flight"],
            fault_rates=_rates(faults, "--fault"),
            key_faults=dict(_pairs(key_faults, "--key-fault")),
            batch_in_progress_s=options["batch_delay"],
            line_faults=_rates(options["batch_faults"], "--batch-fault"),
            lost_answers=_rates(options["lost_answers"], "--lost-answer"),
        )
    except UnknownFaultError as error:
        kinds = FAULT_KINDS + (BATCH_FAULT_KINDS if options["batch_faults"] else ())
        raise ConfigError(f"{error} (kinds: {', '.join(kinds)})") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        simulator = Simulator(settings, port=port, keep_journal=False).start()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "it must be from 0 to 65535"
        raise ConfigError(f"port {port} cannot be had ({why}); try --port 0") from None
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    click.echo(f"api_base {simulator.base_url}")
    say("any key is taken; the answers are not real; Ctrl-C ends it")
    ended.wait()
    simulator.stop()
    return 0


def _pairs(texts: tuple[str, ...], option: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        pairs.append((name, value))
    return pairs


def _rates(texts: tuple[str, ...], option: str) -> dict[str, float]:
    return {name: _rate(rate, option) for name, rate in _pairs(texts, option)}


def _rate(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number", param_hint=option) from None
