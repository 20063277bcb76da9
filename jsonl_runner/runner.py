"""One run: read -> skip what is done -> engine -> ledger -> summary.

The only room that holds a ledger open. Everything is written by the thread that calls `run`.
"""

from __future__ import annotations

import contextlib
from contextlib import closing
from typing import IO, TYPE_CHECKING, NoReturn

from .batch.manifest import waiting_rows
from .calllog import CallLog
from .choice import left_rows
from .clock import Clock, Stop, SystemClock
from .dataset import dataset_of
from .engines.base import TICK_S
from .errors import (
    InputError,
    JsonlRunnerError,
    LedgerError,
    RunInterruptedError,
    RunStoppedError,
)
from .familiar import groups_left, look
from .fleet.team import team_of
from .guards import Guards
from .indexes import IndexSet
from .job import check_paths
from .ledger import Ledger
from .reader import GroupReader, RowReader
from .recall import Recall, recall_of
from .recipes import (
    asked_of,
    check_indices,
    remember,
    seen_of,
    tells_of_older,
    tells_of_samples,
)
from .records import BadRow, without_row
from .secret import without_login
from .signals import stopping
from .spending import spending_of
from .summary import Named, RunSummary, first_of
from .survey import BadRows, Survey, bad_row_error
from .watching import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .assembly import StandIn
    from .config import Config
    from .fleet.team import Team
    from .job import Job
    from .keys import KeysView
    from .offsets import Offsets
    from .reader import Group
    from .records import Outcome, Record
    from .spending import Spending


def run(
    config: Config,
    job: Job,
    *,
    function: StandIn | None = None,
    clock: Clock | None = None,
    stdin: IO[bytes] | None = None,
    stop: Stop | None = None,
) -> RunSummary:
    """Do every row of the input that has no output yet.

    Args:
        config: the settings.
        job: input, output and how to treat them.
        function: stands in for the provider.
        clock: where the time comes from.
        stdin: read when the job has no input file; None: the process's own.
        stop: ends the run; None: a wish of its own.

    Returns:
        What was done.

    Raises:
        JsonlRunnerError: nothing was begun (configuration, input, locked ledger), or the run
            stopped early; then its `summary` tells what was done until then.
        RunInterruptedError: SIGINT or SIGTERM; the same.
    """
    clock = clock or SystemClock()
    check_paths(job)
    with contextlib.ExitStack() as stack:
        dataset = dataset_of(job.data)
        check_indices(dataset, job.output)
        stream = dataset.open(stdin)
        if not dataset.is_stdin:
            stack.enter_context(stream)
        ledger = stack.enter_context(Ledger(job.output, job.fsync))
        shown = stack.enter_context(
            Watch(
                job.views,
                name=job.name,
                quiet=job.quiet,
                data=str(dataset),
                output=job.output,
                config=config,
                clock=clock,
            )
        )
        return _Run(config, job, clock, shown, ledger, stream, stop or Stop()).go(function)


class _Run:
    """The state of one run."""

    def __init__(
        self,
        config: Config,
        job: Job,
        clock: Clock,
        shown: Watch,
        ledger: Ledger,
        stream: IO[bytes],
        stop: Stop,
    ) -> None:
        self._config = config
        self._job = job
        self._clock = clock
        self._shown = shown
        self._ledger = ledger
        self._stream = stream
        self._stop = stop
        self._summary = RunSummary()
        self._dataset = dataset_of(job.data)
        self._name = str(self._dataset)
        self._started = clock.now()
        self._told = False
        self._batched = IndexSet() if job.include_batched else waiting_rows(job.output)
        self._left_out = 0
        self._bad = BadRows()  # of a stream
        self._models: set[str] | None = None if config.max_cost is None else set()
        self._unpriced = Named()
        self._spending: Spending | None = None
        self._offsets: Offsets | None = None

    def go(self, function: StandIn | None) -> RunSummary:
        held = self._ledger.found
        for note in (*self._config.notes, *self._ledger.notes, *first_of(held.damage)):
            self._note(note)
        found = None if self._dataset.is_pipe else self._look()
        seen = seen_of(self._dataset, found, self._job.bad_rows)._replace(judge=self._job.judge)
        asked = asked_of(self._config)
        is_new = tells_of_older(self._job.output, asked, len(held.done), self._note)
        if found is not None and found.todo == self._left_out:
            if is_new or seen.bad_rows:
                remember(self._dataset, self._job.output, asked, seen)
            return self._end()
        if self._job.judge is None:
            tells_of_samples(self._dataset, self._job.output, self._note)
        if function is None or function.uses_keys:
            job, models = self._job, sorted(self._models or ())
            self._spending = spending_of(
                self._config, self._clock, (job.output, *job.beside), models, self._note
            )
        team = team_of(
            self._config,
            clock=self._clock,
            stop=self._stop,
            note=self._note,
            function=function,
            rows=found.todo - self._left_out - self._summary.left_out if found else None,
            spending=self._spending,
        )
        for note in team.notes:
            self._note(note)
        records = self._records(found)
        if self._config.post is None:
            records = map(without_row, records)
        try:
            calllog = CallLog(self._job.output, seen, asked)
            earlier = recall_of(self._config, self._job.output, held, self._clock)
            with stopping(self._stop), closing(calllog), closing(earlier):
                self._loop(team, earlier, records, calllog)
        except JsonlRunnerError as error:
            self._fail(error)
        finally:
            self._shown.close(self._summary, team.books.view())
            team.close()
        return self._end()

    def _note(self, text: str) -> None:
        """Tell the user, and keep it for the summary."""
        text = without_login(text)
        if self._summary.note(text):
            self._shown.say(f"note: {text}")

    def _look(self) -> Survey:
        """Read the input once, before anything is paid."""
        found, kept = look(
            self._stream,
            self._name,
            self._job.output,
            self._ledger.found,
            redo_changed=self._job.redo_changed,
            each=self._leave_batched if len(self._batched) else None,
            models=self._models,
        )
        found.check(self._job.bad_rows, self._dataset)
        if kept is not None:
            self._offsets = kept.offsets
            self._ledger.know_input(kept)
        summary = self._summary
        summary.rows, summary.skipped = found.rows, found.skipped
        to_do = found.todo - self._left_out
        summary.left_out = to_do - self._job.choice.count(to_do)
        summary.left_out_by = self._job.choice.bound
        summary.bad_rows = found.bad.lines()
        if not self._job.redo_changed:
            summary.changed = found.changed
        if summary.changed.count:
            self._note(
                f"{found.changed} changed since they were answered: --redo-changed calls them again"
            )
        if found.rows == 0:
            raise InputError(f"{self._name}: no row in it can be used")
        return found

    def _records(self, found: Survey | None) -> Iterator[Record]:
        """Yield the Records to do; called from the workers, one at a time."""
        done = self._ledger.found.done
        if found is not None and found.start is not None:
            reader = GroupReader(self._stream, self._name)
            offsets = self._offsets
            if offsets is None:
                reader.start_at(found.start, found.lines_before)
            groups = reader.groups() if offsets is None else groups_left(reader, offsets, done)
            rows = left_rows(groups, done, found.redo, self._batched)
            for group, which in self._job.choice.among(rows, found.todo - self._left_out):
                record = group.record(which)
                if offsets is not None:
                    offsets.took(record.index, record.line)
                yield record
            return
        yield from self._job.choice.among(self._streamed(done), None)

    def _streamed(self, done: IndexSet) -> Iterator[Record]:
        rows = 0
        for record in RowReader(self._stream, self._name).records():
            if not isinstance(record, BadRow):
                rows += 1
                if record.index in done:
                    self._summary.skipped += 1
                elif record.index in self._batched:
                    self._left_out += 1
                elif self._models is not None and not self._has_price(record):
                    self._unpriced.add(record.index)
                else:
                    yield record
            elif not self._take_bad(record):
                return
        self._summary.rows = rows

    def _has_price(self, record: Record) -> bool:
        model = (record.params or {}).get("model")
        return model is None or self._spending is None or self._spending.has_price(model)

    def _leave_batched(self, group: Group, left: Sequence[int]) -> None:
        """Leave rows out that lie in a batch: their answers are paid for, or will be."""
        self._left_out += sum(group.index(which) in self._batched for which in left)

    def _take_bad(self, row: BadRow) -> bool:
        """Note a bad row of a stream; return whether the run goes on."""
        self._bad.append(row)
        self._summary.bad_rows = self._bad.lines()
        if self._job.bad_rows == "skip":
            return True
        self._stop.request(bad_row_error(row))
        return False

    def _loop(
        self, team: Team, earlier: Recall, records: Iterator[Record], calllog: CallLog
    ) -> None:
        self._started = self._clock.now()
        self._shown.begin(self._summary, team.books, self._stop)
        before, say = self._ledger.found, self._shown.say
        is_first = not before.done and not before.nulls
        guards = Guards(
            self._config, self._clock, self._stop, say, note=self._note, first_run=is_first
        )
        shown_at = float("-inf")
        with closing(team.engine.outcomes(earlier.left(records))) as groups:
            for group in groups:
                self._settle([*group, *earlier.taken()], calllog)
                guards.counted(self._summary)
                now = self._clock.now()
                if now - shown_at >= TICK_S:
                    shown_at = now
                    keys = team.books.view()
                    guards.tick(keys, idle=team.engine.idle)
                    self._shown.show(self._summary, keys)
                    self._tell_stopping(keys)
        self._settle(earlier.taken(), calllog)
        guards.tick(team.books.view(), idle=True)  # what came after the last look
        reason = self._stop.reason
        if reason is not None and not (self._complete and isinstance(reason, RunInterruptedError)):
            raise reason

    def _settle(self, group: list[Outcome], calllog: CallLog) -> None:
        """Write what came of rows."""
        if group:
            self._ledger.append(group)
            self._summary.add(group)
            calllog.append(group)
            self._shown.add(group)
            if self._job.settled is not None:
                self._job.settled(group)

    @property
    def _complete(self) -> bool:
        return self._summary.left == self._left_out + self._summary.left_out + self._unpriced.count

    def _tell_stopping(self, keys: KeysView) -> None:
        if not self._told and isinstance(self._stop.reason, RunInterruptedError):
            self._told = True
            self._shown.say(
                f"stopping: {keys.in_flight} calls in flight may finish, which can take up to "
                f"{self._config.timeout:g} s (timeout); Ctrl-C again ends now"
            )

    def _fail(self, error: JsonlRunnerError) -> NoReturn:
        """Raise an error that ended the run, with the summary of what was done until then."""
        if isinstance(error, LedgerError):
            self._stop.abort()  # no answer can be kept any more: pay for none
        self._summary.stop(error)
        error.summary = self._end()
        raise error

    def _end(self) -> RunSummary:
        self._summary.elapsed_s = self._clock.now() - self._started
        if self._spending is not None and self._spending.is_limited:
            self._summary.budget = self._spending.view()
        left = []
        if self._unpriced.count:
            left.append(
                f"{self._unpriced} left: no price is known for their models, and --max-cost is to "
                "be kept (--price input=…,output=… gives one)"
            )
        if self._left_out:
            left.append(
                f"{self._left_out:,} rows lie in batches that are not over, and are left to them: "
                "jsonl-runner batch fetch collects them (--include-batched calls them too, and "
                "pays twice)"
            )
        for why in left:
            self._note(why)
            if self._summary.stopped is None:
                self._summary.stop(RunStoppedError(why))
        return self._summary
