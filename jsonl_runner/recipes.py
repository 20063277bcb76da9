"""How rows were made of a dataset's files, as it stands in a ledger's call log.

`run` writes it there, so that whoever reads the ledger later need not say it again.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .calllog import CallLog, SeenInput, last_input
from .dataset import dataset_of
from .errors import ConfigError
from .turns import conversations

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .dataset import Data, Dataset

#: What a row's index hangs on.
_INDEXING = ("index_field", "auto_index", "name_files", "turns")


def dataset_for(data: Data, ledger: Path | None) -> Dataset:
    """Return an input as it was run into a ledger; what it says itself holds.

    A conversation is one row, with all that was said in it so far.

    Args:
        data: the input.
        ledger: its ledger; None: there is none.

    Raises:
        ConfigError: the call log is of a later version.
        LedgerError: it cannot be read.
    """
    dataset = dataset_of(data)
    if ledger is None:
        return dataset
    recipe = _recorded(ledger)
    return conversations(dataset.with_recipe(recipe) if recipe else dataset, ledger)


def check_indices(dataset: Dataset, ledger: Path) -> None:
    """Check that rows are called in a run as they are in its ledger: else all are paid for again.

    Raises:
        ConfigError: they are not.
        LedgerError: the call log cannot be read.
    """
    before = _recorded(ledger)
    if before is None:
        return
    now = dataset.recipe()
    if _naming(before) != _naming(now):
        raise ConfigError(
            f"{ledger}: its rows have their index from {_source(before)}, and not from "
            f"{_source(now)}: by other names they would all be paid for again; say it as before, "
            "or name another output"
        )


def remember(dataset: Dataset, ledger: Path) -> None:
    """Write into a call log how rows are made of an input, ahead of their entries.

    Args:
        dataset: the input.
        ledger: its ledger, whose lock the caller holds.

    Raises:
        LedgerError: the call log cannot be written.
    """
    recipe = dataset.recipe()
    if recipe != (_recorded(ledger) or {}):
        with contextlib.closing(CallLog(ledger, _unseen(recipe))) as calllog:
            calllog.begin()


def unseen(ledger: Path) -> SeenInput:
    """Return what is to be said of an input that is not looked at: what is known of it."""
    return _unseen(_recorded(ledger) or {})


def _unseen(recipe: Mapping[str, Any]) -> SeenInput:
    return SeenInput(0, "", is_clean=False, dataset=dict(recipe) or None)


def _recorded(ledger: Path) -> Mapping[str, Any] | None:
    """Return the recipe of a ledger's last run; None: there was no run."""
    seen = last_input(ledger)
    return None if seen is None else seen.dataset or {}


def _naming(recipe: Mapping[str, Any]) -> list[Any]:
    """Return what a row's index hangs on; how many samples there are changes none of theirs."""
    return [*map(recipe.get, _INDEXING), _mapped_index(recipe), "n" in recipe]


def _source(recipe: Mapping[str, Any]) -> str:
    """Return where rows have their index from."""
    several = {
        "n": "their number of a sample (--n)",
        "turns": f"their turn in {recipe.get('turns')} (--turns)",
    }
    named = [words for name, words in several.items() if name in recipe]
    if named:
        bare = {name: value for name, value in recipe.items() if name not in several}
        return " and ".join([_source(bare), *named])
    if field := _mapped_index(recipe):
        return f"their field {field} (--map index={field})"
    if recipe.get("index_field"):
        return f"their field {recipe['index_field']} (--index-field)"
    if recipe.get("auto_index") == "line":
        return f"their {'file and line' if recipe.get('name_files') else 'line'} (--auto-index)"
    if recipe.get("auto_index"):
        return f"their {recipe['auto_index']} (--auto-index)"
    return "their field index"


def _mapped_index(recipe: Mapping[str, Any]) -> str | None:
    """Return the field that a map makes the index of."""
    return (recipe.get("map") or {}).get("index")
