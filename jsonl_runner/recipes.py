"""How rows were made of a dataset's files, and what is asked of their outputs: for the call log.

`run` writes it there, so that whoever reads the ledger later need not say it again.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .calllog import CallLog, SeenInput, digest_of, last_asked, last_input
from .dataset import dataset_of
from .errors import ConfigError
from .schemas import check_of_format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .config import Config
    from .dataset import Data, Dataset
    from .survey import BadRowsPolicy, Survey

#: What a row's index hangs on.
_INDEXING = ("index_field", "auto_index", "name_files", "turns")


def dataset_for(data: Data, ledger: Path | None) -> Dataset:
    """Return an input as it was run into a ledger; what it says itself holds.

    A conversation is one row for each of its turns.

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
    return dataset.with_recipe(recipe) if recipe else dataset


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


def asked_of(config: Config, planned: object = None) -> object:
    """Return the `response_format` that outputs are to have; None: any text will do.

    What a function of the user's (`post`) makes of answers is its own affair.

    Args:
        config: the settings of the run.
        planned: that of the requests of a batch, which goes before it; None: they have none.
    """
    shape = config.params.get("response_format") if planned is None else planned
    return None if config.post is not None or check_of_format(shape) is None else shape


def tells_of_older(ledger: Path, asked: object, outputs: int, note: Callable[[str], None]) -> bool:
    """Tell the user where outputs are there that were asked for otherwise; return whether they are.

    Args:
        ledger: where they are.
        asked: what is asked of outputs now; see `asked_of`.
        outputs: how many there are.
        note: is told.

    Raises:
        LedgerError: the call log cannot be read.
    """
    if asked is None or not outputs or last_asked(ledger) == digest_of(asked):
        return False
    note(
        f"outputs from before this --response-format stay as they are ({outputs:,}): jsonl-runner "
        "status counts those that are not the JSON asked for, merge --drop-reasons schema leaves "
        "them out"
    )
    return True


def tells_of_samples(dataset: Dataset, ledger: Path, note: Callable[[str], None]) -> None:
    """Tell the user where rows are asked less often than before: what was paid is not lost.

    Args:
        dataset: the input.
        ledger: its ledger.
        note: is told.

    Raises:
        LedgerError: the call log cannot be read.
    """
    # With one answer a row nothing is looked for: beside samples it was refused (`check_indices`).
    before = 1 if dataset.n == 1 else (_recorded(ledger) or {}).get("n", 1)
    if before > dataset.n:
        note(
            f"earlier runs asked each row {before:,} times (--n): answers beyond {dataset.n:,} "
            f"stay in {ledger}, and merge --n {before} writes them too"
        )


def skips_bad_rows(ledger: Path) -> bool:
    """Return whether the last run into a ledger left bad rows out.

    Raises:
        LedgerError: the call log cannot be read.
    """
    seen = last_input(ledger)
    return seen is not None and seen.bad_rows == "skip"


def seen_of(dataset: Dataset, found: Survey | None, bad_rows: BadRowsPolicy) -> SeenInput:
    """Return what is to be said of an input.

    Args:
        dataset: the input.
        found: what a look at it found; None: it comes from a pipe, and can be looked at once only.
        bad_rows: what is done about rows that cannot be used.
    """
    seen = _unseen(dataset.recipe())
    if bad_rows == "skip" and (found is None or found.bad):
        seen = seen._replace(bad_rows="skip")
    if found is None:
        return seen
    return seen._replace(size=found.size, digest=found.digest, is_clean=found.is_clean)


def remember(
    dataset: Dataset, ledger: Path, asked: object = None, seen: SeenInput | None = None
) -> None:
    """Write into a call log how rows are made of an input, ahead of their entries.

    Args:
        dataset: the input.
        ledger: its ledger, whose lock the caller holds.
        asked: what their outputs are to be; see `asked_of`.
        seen: the input, where it was looked at.

    Raises:
        LedgerError: the call log cannot be written.
    """
    recipe = dataset.recipe()
    seen = seen or _unseen(recipe)
    is_known = recipe == _recorded(ledger) and digest_of(asked) == last_asked(ledger)
    if not is_known or (seen.bad_rows == "skip" and not skips_bad_rows(ledger)):
        with contextlib.closing(CallLog(ledger, seen, asked)) as calllog:
            calllog.begin()


def unseen(ledger: Path) -> SeenInput | None:
    """Return what is to be said of an input that is not looked at: what is known of it.

    None where nothing is (somebody has deleted the call log): to say that its rows were taken as
    they are would have the very next run of them refused.
    """
    seen = last_input(ledger)
    return None if seen is None else _unseen(seen.dataset or {})._replace(bad_rows=seen.bad_rows)


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
