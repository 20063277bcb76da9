"""Prices of the user's own: from a file, or from the command line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from . import configfile
from .errors import ConfigError
from .pricing import BATCH_DISCOUNT, Price, Prices, Rates

if TYPE_CHECKING:
    from pathlib import Path

_RATES = ("input", "cached", "output")


def parse_price(text: str) -> Price:
    """Return the price a `--price` gives: `input=0.4,output=1.6`, US dollars a million tokens.

    `cached` is the price of cached input (else that of input); `batch_input`, `batch_cached` and
    `batch_output` are those of a batch (else half of them, an estimate).

    Raises:
        ConfigError: it cannot be read.
    """
    rates: dict[str, Any] = {}
    batch: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        target = batch if name.startswith("batch_") else rates
        name = name.removeprefix("batch_")
        if not equals or name not in _RATES or name in target:
            raise ConfigError(
                f"--price: {part.strip()!r} is not understood; write input=0.4,cached=0.1,"
                "output=1.6 (dollars a million tokens), and batch_input=… and so on"
            )
        try:
            target[name] = float(value)
        except ValueError:
            raise ConfigError(f"--price: {name} must be a number, not {value!r}") from None
    return _price({**rates, **({"batch": batch} if batch else {})}, "--price", "--price")


def load_prices(path: Path | None, given: str | None = None) -> Prices:
    """Return the user's own prices on top of the library's.

    Args:
        path: JSON or YAML, `{model: {input, cached, output, batch: {input, cached, output}}}`; a
            model may be a pattern such as `qwen-*`. None: none.
        given: as `parse_price` takes it; for every model. None: none.

    Raises:
        ConfigError: one of them is wrong; names the model.
    """
    every = None if given is None else parse_price(given)
    if path is None:
        return Prices(every)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file of prices; check the path")
    own = {
        str(model): _price(rates, f"{path}: {model}", str(path))
        for model, rates in configfile.read(path).items()
    }
    return Prices(every, own)


def _price(data: object, where: str, source: str) -> Price:
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: must be an object with input and output")
    live = _rates({k: v for k, v in data.items() if k != "batch"}, where)
    if data.get("batch") is None:
        return Price(live, Rates(*(rate * BATCH_DISCOUNT for rate in live)), True, source)
    return Price(live, _rates(data["batch"], f"{where}: batch"), False, source)


def _rates(data: object, where: str) -> Rates:
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: must be an object with input and output")
    for name, value in data.items():
        if name not in _RATES:
            raise ConfigError(f"{where}: {name!r} is not known here; known are {', '.join(_RATES)}")
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value < math.inf:
            raise ConfigError(f"{where}: {name} must be dollars a million tokens, not {value!r}")
    missing = [name for name in ("input", "output") if name not in data]
    if missing:
        raise ConfigError(f"{where}: {missing[0]} is missing")
    cached: Any = data.get("cached", data["input"])
    return Rates(float(data["input"]), float(cached), float(data["output"]))
