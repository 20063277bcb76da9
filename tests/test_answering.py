"""Answers without files, when the run behind them stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jsonl_runner import NoUsableKeyError, ParallelToolkit, Prompt

if TYPE_CHECKING:
    from support import Stage


def test_what_was_paid_for_comes_with_the_error(stage: Stage) -> None:
    """All keys die in the middle: the error carries the answers that had come, by their indices."""
    tool = ParallelToolkit(stage.config_file(), threads=1, quiet=True)
    data = {"a": Prompt("one"), "b": Prompt("two"), "c": Prompt("three [[fault:401]]")}
    with pytest.raises(NoUsableKeyError) as caught:
        tool.parallel_api(data)
    answers = caught.value.answers
    assert list(answers) == ["a", "b", "c"]
    assert answers["a"].endswith("one")
    assert answers["b"].endswith("two")
    assert answers["c"] is None
    assert caught.value.summary.done == 2
