"""A run in several passes over a dataset: turn after turn of its conversations, then a judge."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import runner
from .answers import verdicts_on
from .choice import Choice
from .clock import Stop
from .dataset import dataset_of
from .errors import InputError, JsonlRunnerError, RunInterruptedError
from .judging import check_judge, rows_to_judge
from .reader import RowReader, open_input
from .records import BadRow
from .turns import Turns

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
    if judge is not None:
        check_judge(judge, dataset_of(job.data), job.output, job.bad_rows)
    summary = _all_turns(config, job, how)
    if judge is not None and summary.stopped is None:
        _judge(config, job, judge, summary, how)
    return summary


def _all_turns(config: Config, job: Job, how: dict[str, Any]) -> RunSummary:
    dataset = dataset_of(job.data)
    if dataset.turns is None:
        return _pass(config, job, how)
    if dataset.is_pipe:
        raise InputError(f"{dataset}: turns are asked in several passes; give a file, no pipe")
    turns = Turns(dataset, job.output)
    first = turns.rows_of(1)
    if not job.output.exists():  # the field of one that is there is compared with its call log's
        _check_field(dataset, first, turns)
    summary = _pass(config, replace(job, data=first), how)
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


def _check_field(dataset: Dataset, first: Dataset, turns: Turns) -> None:
    """Refuse a field that no row has, before all rows are paid for as if they had no turns."""
    row: object = None
    with open_input(first) as stream:
        for row in RowReader(stream, str(dataset)).rows():
            if turns.longest or isinstance(row, BadRow):
                return
    if isinstance(row, dict):
        from .templates import no_field  # noqa: PLC0415  # most runs need no templates

        reason = no_field(str(dataset.turns), row)
        raise InputError(f"{dataset}: --turns {dataset.turns}: {reason} (and so for all rows)")


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
        name="judge",
    )
    try:
        judged = _pass(_config_of(judge, config), judging, how)
    except JsonlRunnerError as error:
        summary.judged, error.summary = error.summary, summary
        summary.stop(error)
        raise
    judged.bad_rows = [row for row in judged.bad_rows if row not in summary.bad_rows]
    summary.judged = judged


def _config_of(judge: Judge, config: Config) -> Config:
    """Return the settings of a judge."""
    params = {name: value for name, value in config.params.items() if name != "response_format"}
    return replace(
        config,
        model=judge.model or config.model,
        params={**params, **(judge.params or {})},
        post=None,
    )
