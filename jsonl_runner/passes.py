"""A run in several passes over a dataset: turn after turn of its conversations, then a judge."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import runner
from .answers import verdicts_on
from .choice import Choice
from .clock import Stop
from .dataset import dataset_of
from .errors import JsonlRunnerError, RunInterruptedError
from .job import check_paths
from .judging import as_judge, check_judge, rows_to_judge
from .reader import RowReader, open_input
from .recipes import check_indices
from .records import BadRow
from .survey import survey
from .turns import TurnCount, Turns, check_turns

if TYPE_CHECKING:
    from .config import Config
    from .dataset import Dataset
    from .job import Job
    from .judging import Judge
    from .summary import RunSummary


def run(config: Config, job: Job, *, judge: Judge | None = None, **how: Any) -> RunSummary:
    """Do every row of the input that has no output yet, and every turn of its conversations.

    Args:
        config: the settings.
        job: input, output and how to treat them.
        judge: judges every output in the end; None: nobody does.
        how: as `runner.run` takes it.

    Returns:
        What was done, all turns together; the judge's part is its `judged`.

    Raises:
        JsonlRunnerError: as of `runner.run`; the `summary` tells of all passes.
    """
    job = replace(job, data=dataset_of(job.data), beside=(verdicts_on(job.output),))
    how["stop"] = how.get("stop") or Stop()
    if judge is not None or dataset_of(job.data).turns is not None:  # else one pass looks itself
        check(job, judge)
    summary = _all_turns(config, job, how)
    if judge is not None and summary.stopped is None:
        _judge(config, job, judge, summary, how)
    return summary


def check(job: Job, judge: Judge | None = None) -> None:
    """Check what can be checked before anything is paid, but for the rows themselves.

    Raises:
        ConfigError: rows are not named as in the ledger.
        InputError: the input cannot be used so.
        LedgerError: the output cannot be written where it should be.
    """
    dataset = dataset_of(job.data)
    check_paths(job)
    check_indices(dataset, job.output)
    check_turns(dataset, job.output)
    if judge is not None:
        check_judge(judge, dataset, job.output, job.bad_rows)


def _all_turns(config: Config, job: Job, how: dict[str, Any]) -> RunSummary:
    dataset = dataset_of(job.data)
    if dataset.turns is None:
        return _pass(config, job, how)
    turns, count = Turns(dataset, job.output), TurnCount(dataset)
    with open_input(turns.rows_of(1)) as stream:
        survey(stream, dataset, each=count.see, checks_images=False)
    try:
        summary = _each_turn(config, job, turns, how)
    except JsonlRunnerError as error:
        if error.summary is not None:
            _count(error.summary, count)
        raise
    _count(summary, count)
    return summary


def _each_turn(config: Config, job: Job, turns: Turns, how: dict[str, Any]) -> RunSummary:
    summary = _pass(config, replace(job, data=turns.rows_of(1)), how)
    turn = 1
    while summary.stopped is None and turn < turns.longest:
        turn += 1
        rows = turns.rows_of(turn)
        if not _has_rows(rows):
            break  # no conversation has come as far
        try:
            later = _pass(config, replace(job, data=rows, name=f"turn {turn}"), how)
        except JsonlRunnerError as error:
            _add_to_error(summary, error)
            raise
        summary.add_pass(later)
    return summary


def _count(summary: RunSummary, count: TurnCount) -> None:
    """Have a summary tell of all turns, those too that wait for the one before them."""
    summary.rows = count.rows
    summary.turns, summary.conversations = count.turns, count.conversations
    if summary.left_out and summary.stopped is None:
        summary.left_out = summary.left or 0  # the later turns, too, of what was not to be tried


def _pass(config: Config, job: Job, how: dict[str, Any]) -> RunSummary:
    """Do one run with a stop of its own: a run that is over has requested it."""
    outer: Stop = how["stop"]
    own = Stop()
    outer.on_request(lambda: own.request(outer.reason))
    outer.on_abort(own.abort)
    summary = runner.run(config, job, **{**how, "stop": own})
    if isinstance(own.reason, RunInterruptedError):
        outer.request(own.reason)  # too late for this pass, whose rows were all in flight
    return summary


def _has_rows(rows: Dataset) -> bool:
    with open_input(rows) as stream:
        return any(not isinstance(row, BadRow) for row in RowReader(stream, str(rows)).rows())


def _add_to_error(summary: RunSummary, error: JsonlRunnerError) -> None:
    """Have an error that ended a later pass tell of the earlier ones, too."""
    if error.summary is not None:
        summary.add_pass(error.summary)
    else:
        summary.stop(error)
    error.summary = summary


def _judge(
    config: Config, job: Job, judge: Judge, summary: RunSummary, how: dict[str, Any]
) -> None:
    """Have every output judged; a verdict on an output that is another now is asked for anew."""
    rows = rows_to_judge(judge, dataset_of(job.data), job.output)
    if not _has_rows(rows):
        return
    judging = replace(
        job,
        data=rows,
        output=verdicts_on(job.output),
        beside=(job.output,),
        redo_changed=True,
        choice=Choice(),
        settled=None,
        judge=judge.text,
        name="judge",
    )
    try:
        judged = _pass(as_judge(judge, config), judging, how)
    except JsonlRunnerError as error:
        summary.judged, error.summary = error.summary, summary
        summary.stop(error)
        raise
    judged.bad_rows = [row for row in judged.bad_rows if row not in summary.bad_rows]
    summary.judged = judged
