"""Rows for several models: `batch run --model A --model B`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support import expected, read_ledger, row, write_rows

from jsonl_runner import BadRowsError, ConfigError
from jsonl_runner.spread import rows_path, spread

if TYPE_CHECKING:
    from support import Stage

MODELS = ("gpt-4.1-mini", "gpt-4.1")


def test_every_row_goes_to_every_model(stage: Stage) -> None:
    """Into one ledger, each under its own index; merge takes the rows that were written."""
    rows = [row(number, topic="t") for number in range(5)]
    write_rows(stage.data, rows)
    words = [word for model in MODELS for word in ("--model", model)]
    flags = ("--poll-seconds", "0.1", "--config", stage.config_file())
    ran = stage.cli("batch", "run", stage.data, stage.output, *words, *flags)
    assert ran.returncode == 0, ran.stderr
    assert "10 rows, each of" in ran.stderr
    want = {f"{item['index']}@{model}": expected(item, model) for item in rows for model in MODELS}
    assert read_ledger(stage.output) == want
    merged = stage.folder / "merged.json"
    assert stage.cli("merge", rows_path(stage.output), stage.output, merged).returncode == 0
    found = json.loads(merged.read_text(encoding="utf-8"))
    assert {item["index"]: item["output"] for item in found} == want
    assert found[0]["topic"] == "t"


def test_what_cannot_be_spread(stage: Stage) -> None:
    """A model given twice, and a row that cannot be used; nothing is written then."""
    write_rows(stage.data, [row(0), {"index": 1}])
    target = rows_path(stage.output)
    with pytest.raises(ConfigError, match=r"gpt-4\.1 is given twice"):
        spread(stage.data, ["gpt-4.1", "gpt-4.1"], target, skips_bad_rows=True)
    with pytest.raises(BadRowsError, match="--bad-rows skip") as caught:
        spread(stage.data, MODELS, target, skips_bad_rows=False)
    assert "data.jsonl:2" in caught.value.rows[0]
    assert not target.exists()
    assert spread(stage.data, MODELS, target, skips_bad_rows=True) == 2
