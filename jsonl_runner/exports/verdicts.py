"""Rows that are kept for what a judge said of their outputs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..answers import Answers, verdicts_on
from ..errors import ConfigError, InputError

if TYPE_CHECKING:
    from pathlib import Path

#: The word that counts rows whose verdict was not the wanted one, and what it means.
JUDGED = "judged"
MEANING = {JUDGED: "the judge's verdict is not the one wanted, or is missing"}
#: The field that gets the verdict, and the one that keeps what a row has under this name.
FIELD, _KEPT = "judge", "source_judge"


class Verdicts:
    """The verdicts on a ledger's outputs.

    Args:
        ledger: the outputs'; the verdicts have their own beside it.
        wanted: a regular expression that is looked for in each verdict.

    Raises:
        ConfigError: it is no regular expression.
        InputError: there are no verdicts.
    """

    def __init__(self, ledger: Path, wanted: str) -> None:
        try:
            self._wanted = re.compile(wanted)
        except re.error as error:
            raise ConfigError(f"judged: {wanted!r} is no regular expression ({error})") from None
        path = verdicts_on(ledger)
        if not path.is_file():
            raise InputError(
                f"{path}: there are no verdicts; make them with jsonl-runner run --judge"
            )
        self._verdicts = Answers(path)

    def put_into(self, row: dict[str, Any], *, is_stale: bool) -> bool:
        """Put its verdict into a row; return whether it is the wanted one.

        Args:
            row: gets it.
            is_stale: whether it is on another output than the row's, and so none.
        """
        verdict = None if is_stale else self._verdicts.of(row["index"])
        if FIELD in row:
            row[_KEPT] = row[FIELD]
        row[FIELD] = verdict
        return verdict is not None and self._wanted.search(verdict) is not None
