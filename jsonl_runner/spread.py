"""Rows for several models: each row of an input, once for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import jsontext
from .atomic import replacing
from .errors import BadRowsError, ConfigError
from .reader import RowReader, open_input
from .records import BadRow, with_located_images

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .dataset import Data


def rows_path(output: Path) -> Path:
    """Return the file with the rows of a ledger for several models."""
    return output.with_name(output.stem + ".rows.jsonl")


def spread(data: Data, models: Sequence[str], target: Path, *, skips_bad_rows: bool) -> int:
    """Write each row of an input once for each model, as `<index>@<model>`.

    Args:
        data: the input.
        models: their names; each goes into its rows' params.
        target: the file to write; there in whole, or as it was.
        skips_bad_rows: whether rows that cannot be used are left out.

    Returns:
        How many rows were written.

    Raises:
        ConfigError: a model is named twice.
        InputError: the input cannot be read; BadRowsError: or a row of it.
        LedgerError: the file cannot be written.
    """
    for model in models:
        if models.count(model) > 1:
            raise ConfigError(f"--model {model} is given twice")
    written = 0
    with open_input(data) as stream, replacing(target) as out:
        reader = RowReader(stream, str(data))
        for row in reader.rows():
            if isinstance(row, BadRow):
                if skips_bad_rows:
                    continue
                raise BadRowsError(
                    f"{data}: a row cannot be used; mend it, or leave it out with --bad-rows skip",
                    [str(row)],
                    1,
                )
            asked = with_located_images(row, reader.folder)  # the target may lie elsewhere
            for model in models:
                params = {**(row.get("params") or {}), "model": model}
                entry = {**asked, "index": f"{row['index']}@{model}", "params": params}
                out.write(jsontext.dump(entry) + b"\n")
                written += 1
    return written
