"""Prices among the settings: as they are written, checked, and as `Prices` to count with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..pricefile import parse_price
from ..pricing import Price, Prices

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHAPE = "must be like {model: {input: 0.4, output: 1.6}}, dollars a million tokens"


def prices(value: object) -> dict[str, dict[str, float]]:
    """Return prices by model as they were given, `batch` in the flat words of `--price`.

    Raises:
        ValueError: they cannot be read; the text goes behind the setting's name.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{_SHAPE}, got {value!r}")
    found = {str(model): _flat(rates, str(model)) for model, rates in value.items()}
    for model, rates in found.items():
        _price(model, rates)
    return found


def prices_of(given: Mapping[str, Mapping[str, float]]) -> Prices:
    """Return the checked setting's prices on top of the library's."""
    return Prices(own={model: _price(model, rates) for model, rates in given.items()})


def from_option(text: str) -> dict[str, dict[str, float]]:
    """Return what a `--price` gives as the setting: for every model.

    Raises:
        ConfigError: it cannot be read.
    """
    price = parse_price(text)
    rates = dict(zip(("input", "cached", "output"), price.live, strict=True))
    if not price.batch_estimated:
        names = ("batch_input", "batch_cached", "batch_output")
        rates |= dict(zip(names, price.batch, strict=True))
    return {"*": rates}


def _flat(rates: object, model: str) -> dict[str, Any]:
    if not isinstance(rates, dict):
        raise ValueError(f"{_SHAPE}; {model} has {rates!r}")
    flat = {str(name): rate for name, rate in rates.items() if name != "batch"}
    batch = rates.get("batch") or {}
    if not isinstance(batch, dict):
        raise ValueError(f"{_SHAPE}; the batch of {model} is {batch!r}")
    return {**flat, **{f"batch_{name}": rate for name, rate in batch.items()}}


def _price(model: str, rates: Mapping[str, float]) -> Price:
    try:
        price = parse_price(",".join(f"{name}={rate}" for name, rate in rates.items()))
    except ConfigError as error:
        raise ValueError(f"of {model}: {str(error).removeprefix('--price: ')}") from None
    return replace(price, source="your prices")
