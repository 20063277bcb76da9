"""What the commands share that make calls: their options, the simulator, a word on the settings."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import ConfigError
from .options import PATH, console, load_config, place_of, say, with_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..config import Config
    from ..judging import Judge

_Command = TypeVar("_Command", bound="Callable[..., Any]")

#: Keys of the simulator that `--simulate` starts.
_SIMULATED_KEYS = ("sk-simulated-0001", "sk-simulated-0002", "sk-simulated-0003")
#: Stands before the model's name in the call log of a simulated run.
_SIMULATED_MODEL = "simulated-"
#: Seconds an answer of that simulator takes: long enough to see the bar move.
_SIMULATED_LATENCY_S = 0.05


def params_of(texts: Iterable[str]) -> dict[str, Any]:
    """Return what `--param NAME=VALUE` gave as request parameters."""
    from ..config import parse_value  # noqa: PLC0415  # --help need not wait for it

    params = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--param")
        params[name] = parse_value(value)
    return params


param_option = click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other request parameter; the value is JSON or a text. May be repeated.",
)


response_format_option = click.option(
    "--response-format",
    metavar="FILE",
    help='What answers are to be, and are checked for: a file with a JSON schema, or "json".',
)
_post_option = click.option(
    "--post",
    metavar="MODULE:FUNCTION",
    help="Put each answer through this function; what it returns is the output.",
)


def answer_options(command: _Command) -> _Command:
    """Add the options that say what answers are to be, and what becomes of them."""
    return response_format_option(_post_option(command))


def request_options(command: _Command) -> _Command:
    """Add the options that say what a request asks for, and what becomes of its answer."""
    return with_options(
        command,
        answer_options,
        param_option,
        click.option("--max-tokens", type=int, help="Longest answer, in tokens."),
        click.option("--temperature", type=float, help="Sampling temperature."),
    )


def call_options(command: _Command) -> _Command:
    """Add the options that say how calls are made; collected by `config_of`."""
    return with_options(
        command,
        click.option("--timeout", type=float, help="Seconds for one call.  [default: 300]"),
        click.option("--max-retries", type=int, help="Tries after the first.  [default: 5]"),
        click.option("--threads", type=int, help="Calls at the same time.  [default: keys x 16]"),
        request_options,
    )


def budget_options(command: _Command) -> _Command:
    """Add the options that say what calls cost and may cost; collected by `config_of`."""
    return with_options(
        command,
        price_option,
        click.option(
            "--max-tokens-total",
            type=int,
            metavar="N",
            help="Tokens that the runs on OUTPUT may use together.  [default: no limit]",
        ),
        click.option(
            "--max-cost",
            type=float,
            metavar="X",
            help="US dollars that the runs on OUTPUT may spend together.  [default: no limit]",
        ),
    )


def engine_options(command: _Command) -> _Command:
    """Add the options that say where calls are made; collected by `config_of`."""
    return with_options(
        command,
        click.option(
            "--workers", type=int, help="Processes on the Ray cluster.  [default: one a node]"
        ),
        click.option(
            "--ray-address",
            metavar="ADDRESS",
            help="local, auto, host:port or ray://host:port.  [default: local]",
        ),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            help="Threads of this process, or processes on a Ray cluster.  [default: local]",
        ),
    )


def judge_options(command: _Command) -> _Command:
    """Add the options that say who judges outputs; taken by `judge_of`."""
    return with_options(
        command,
        click.option(
            "--judge-model",
            metavar="MODEL",
            help="The model that judges.  [default: that of the run]",
        ),
        click.option(
            "--judge",
            type=PATH,
            metavar="FILE",
            help="Ask a model about each output in the end: a Jinja2 template with {{ output }}.",
        ),
    )


def judge_of(options: dict[str, Any]) -> Judge | None:
    """Return who judges outputs; None: nobody.

    Raises:
        ConfigError: the template cannot be used, or there is none.
    """
    from ..judging import Judge  # noqa: PLC0415  # --help need not wait for it

    model = options["judge_model"]
    if options["judge"] is None:
        if model is not None:
            raise ConfigError("--judge-model wants --judge: what is the model to be asked?")
        return None
    if model is not None and options["simulate"]:
        model = _SIMULATED_MODEL + model
    return Judge(options["judge"], model)


prices_option = click.option(
    "--prices", type=PATH, metavar="FILE", help="Your own prices by model, before any others."
)
price_option = click.option(
    "--price",
    metavar="input=X,output=Y",
    help="What tokens cost, in dollars a million, where that is not known; cached=Z too.",
)
simulate_option = click.option(
    "--simulate", is_flag=True, help="Use a built-in server; the answers are not real."
)


@contextlib.contextmanager
def config_of(
    options: dict[str, Any], ledger: Path | None = None, output: Path | None = None
) -> Iterator[Config]:
    """Yield the settings in force; with `--simulate` they lead to a server that runs meanwhile.

    Args:
        options: those of `config_options`, `call_options` and `simulate_option`.
        ledger: where answers will be kept; None: in none.
        output: what messages call it; None: as it is called.

    Raises:
        ConfigError: they are wrong, or would mix real and simulated answers.
    """
    simulate = options["simulate"]
    overrides = _overrides(options)
    if ledger is not None:
        _refuse_mixing(ledger, output or ledger, simulate=simulate)
    with contextlib.ExitStack() as stack:
        if simulate:
            latency_s = options.get("simulated_latency_s", _SIMULATED_LATENCY_S)
            overrides.update(stack.enter_context(_simulated(latency_s)))
        config = load_config(options["config_path"], overrides)
        if simulate:  # so that the call log tells these answers from real ones
            # And none is kept unless it is said: the address is another one each time.
            cache = bool(options.get("cache"))
            config = replace(config, model=_SIMULATED_MODEL + config.model, cache=cache)
        if console.verbose:
            _describe(config)
        yield config


def model_of(config: Config) -> str:
    """Return the model that was asked for, simulated or not."""
    return config.model.removeprefix(_SIMULATED_MODEL)


def _overrides(options: dict[str, Any]) -> dict[str, Any]:
    names = ("model", "api_base", "proxy", "transport", "threads", "max_retries", "timeout")
    overrides = {name: options[name] for name in names}
    names = ("cache", "max_cost", "max_tokens_total", "engine", "ray_address", "workers", "post")
    for name in names:
        overrides[name] = options.get(name)
    if options.get("price") is not None:
        from ..settings.price import from_option  # noqa: PLC0415

        overrides["prices"] = from_option(options["price"])
    params = params_of(options["params"])
    for name in ("temperature", "max_tokens"):
        if options[name] is not None:
            params[name] = options[name]
    wanted = options.get("response_format")
    if wanted is not None:
        from ..answerformat import response_format  # noqa: PLC0415  # --help need not wait for it

        shape = {"type": "json_object"} if wanted == "json" else response_format(Path(wanted))
        params["response_format"] = shape
    overrides["params"] = params
    return overrides


@contextlib.contextmanager
def _simulated(latency_s: float) -> Iterator[dict[str, Any]]:
    """Start the built-in simulator; yield the settings that lead to it."""
    from ..simulator import Simulator, SimulatorSettings  # noqa: PLC0415

    settings = SimulatorSettings(keys=_SIMULATED_KEYS, latency_s=latency_s)
    say("--simulate: a built-in server answers; the answers are NOT real and nothing is paid")
    with Simulator(settings, keep_journal=False) as simulator:
        yield {"api_base": simulator.base_url, "api_keys": list(_SIMULATED_KEYS), "proxy": ""}


def _refuse_mixing(ledger: Path, output: Path, *, simulate: bool) -> None:
    """Keep invented answers out of a real ledger, and real ones out of an invented one.

    Raises:
        ConfigError: the ledger holds the other kind.
    """
    from ..calllog import read  # noqa: PLC0415

    for entry in itertools.islice(read(ledger), 1):
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
