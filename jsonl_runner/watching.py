"""All views of one run: its progress, the table, the state file, the log, the metrics.

Each shows the same Snapshot, taken once a second by the thread that leads the run (for the table
more often). The calls themselves know of none of this.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from . import calllog, statefile
from .errors import ConfigError, JsonlRunnerError
from .eventlog import EventLog
from .live import Live, why_not
from .progress import Silent, progress
from .secret import Redactor, without_login
from .signals import reporting
from .statefile import StateFile
from .tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from .clock import Clock, Stop
    from .config import Config
    from .keys import Books, KeysView
    from .metrics import Metrics
    from .progress import Progress
    from .records import Outcome
    from .snapshot import Snapshot
    from .summary import RunSummary

#: Seconds between two looks for state file, log and metrics.
LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Views:
    """How a run is watched, beside its progress.

    Attributes:
        live: whether by a table over the whole terminal.
        log_file: takes JSON lines of what happens; None: nothing does.
        metrics_port: where Prometheus may ask; 0: a free one; None: nowhere.
        metrics_host: on which address.
    """

    live: bool = False
    log_file: Path | None = None
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"


@dataclass
class _Watched:
    """The run, as soon as there is one."""

    summary: RunSummary
    books: Books
    stop: Stop
    state: StateFile


class Watch:
    """Shows a run; the `Progress` of its runner, and open as long as the run is.

    Args:
        views: how it is watched.
        name: stands before the progress bar.
        quiet: whether nothing is shown on the terminal.
        data: the input, for people.
        output: the ledger.
        config: the settings; the log names some of them.
        clock: where the time comes from.

    Raises:
        ConfigError: the log or the metrics' address cannot be had.
    """

    def __init__(
        self,
        views: Views,
        *,
        name: str,
        quiet: bool,
        data: str,
        output: Path,
        config: Config,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._config = config
        self._output = output
        self._data = data
        self._tally = Tally(data, str(output), config.threads)
        self._shown: Progress = progress(name, quiet=quiet, clock=clock)
        self._live: Live | None = None
        self._log: EventLog | None = None
        self._metrics: Metrics | None = None
        self._run: _Watched | None = None
        self._due = clock.now() + LOOK_EVERY_S
        self._is_asked = False
        self._open = contextlib.ExitStack()
        try:
            self._start(views, quiet=quiet)
        except BaseException:
            self._open.close()
            raise

    def _start(self, views: Views, *, quiet: bool) -> None:
        config = self._config
        if views.log_file is not None:
            self._check(views.log_file)
            self._log = EventLog(
                views.log_file,
                redact=Redactor(config.api_keys),
                clock=self._clock,
                warn=lambda text: self._say(f"note: {text}"),
            )
            self._open.callback(self._log.close)
        if views.metrics_port is not None:
            from .metrics import Metrics  # noqa: PLC0415  # an extra that may be missing

            self._metrics = Metrics(views.metrics_port, views.metrics_host)
            self._open.callback(self._metrics.close)
            self.say(f"note: metrics at {self._metrics.url}")
        if views.live and not quiet:
            why = why_not(sys.stderr)
            if why:
                self.say(f"note: --live: {why}; showing lines instead")
            else:
                self._live = Live(self._clock)
        self._open.enter_context(reporting(self._ask))
        self._event(
            "run_started",
            data=self._data,
            output=str(self._output),
            model=config.model,
            api_base=without_login(config.api_base),
            params=dict(config.params),
            keys=[key.label for key in config.api_keys],
            threads=config.threads,
            per_key_concurrency=config.per_key_concurrency,
            max_retries=config.max_retries,
            timeout=config.timeout,
            transport=config.transport,
        )

    def _check(self, log: Path) -> None:
        """Refuse a log that is one of the run's own files.

        Raises:
            ConfigError: it is.
        """
        output = self._output
        own = [output, calllog.path_for(output), statefile.path_for(output), Path(self._data)]
        if log.exists() and any(path.exists() and path.samefile(log) for path in own):
            raise ConfigError(f"{log}: this is one of the run's own files; name another log")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._open:
            self._leave_screen()
            ended = str(error) or type(error).__name__ if error is not None else ""
            summary = None
            if self._run is not None:
                summary = self._run.summary
                # Where nothing came of it, no file is left behind.
                if ended and self._run.state.is_there and summary.done + summary.failed:
                    self._run.state.end(self._take(self._run.books.view()), ended)
                else:
                    self._run.state.remove()
            self._event(
                "run_ended",
                error=ended or None,
                exit_code=_exit_code(error, summary),
                summary=summary.to_dict() if summary is not None else None,
            )

    def begin(self, summary: RunSummary, books: Books, stop: Stop) -> None:
        """Take note that calls begin; the ledger's lock is held."""
        self._tally.begin(self._clock.now())
        self._run = _Watched(summary, books, stop, StateFile(self._output))

    def add(self, group: Sequence[Outcome]) -> None:
        """Count Outcomes that are written."""
        self._tally.add(group)
        if self._log is not None:
            for outcome in group:
                if outcome.output is None:
                    self._event(
                        "row_failed",
                        index=outcome.index,
                        code=outcome.code,
                        message=outcome.message,
                        attempts=outcome.attempts,
                        key=outcome.key,
                    )

    def show(self, summary: RunSummary, keys: KeysView) -> None:
        """Show the present state; may be called as often as one likes."""
        if self._live is None:
            self._shown.show(summary, keys)
        if self._run is None:
            return
        now = self._clock.now()
        is_due = now >= self._due
        if not (is_due or self._is_asked or (self._live is not None and self._live.is_due)):
            return
        snapshot = self._take(keys)
        if is_due:
            self._due = now + LOOK_EVERY_S
            self._run.state.offer(snapshot)
            if self._log is not None:
                self._log.look(snapshot)
        if self._metrics is not None:
            self._metrics.look(snapshot)
        if self._live is not None:
            try:
                self._live.look(snapshot)
            except (OSError, ValueError):  # the terminal is gone: answers in flight matter more
                self._live, self._shown = None, Silent()
        if self._is_asked:
            self._is_asked = False
            self._report(snapshot)

    def _take(self, keys: KeysView) -> Snapshot:
        assert self._run is not None  # noqa: S101  # tells mypy what all callers have seen to
        run = self._run
        stopping = ""
        if run.stop.requested:
            stopping = f"stopping ({run.stop.reason})" if run.stop.reason else "stopping"
        return self._tally.snapshot(
            run.summary,
            keys,
            run.books.keys(),
            now=self._clock.now(),
            wall=self._clock.wall(),
            stopping=stopping,
        )

    def _ask(self) -> None:
        self._is_asked = True

    def _report(self, snapshot: Snapshot) -> None:
        """Print the table once, even where nothing else is shown: somebody asked for it."""
        from .table import plain  # noqa: PLC0415  # rich is for those who look

        text = plain(snapshot, snapshot.notes)
        self._event("table", lines=text.split("\n"))
        if self._live is not None:
            self._live.keep(text)
        elif isinstance(self._shown, Silent):
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
        else:
            self._shown.say(text)

    def say(self, text: str) -> None:
        """Tell the user a line; any thread may."""
        kind, colon, rest = text.partition(": ")
        known = colon and kind in {"note", "trouble"}
        self._event(kind if known else "said", message=rest if known else text)
        self._say(text)

    def _say(self, text: str) -> None:
        if self._live is None:
            self._shown.say(text)
            return
        try:
            self._live.say(text)
        except (OSError, ValueError):
            self._live, self._shown = None, Silent()

    def _event(self, event: str, **facts: object) -> None:
        if self._log is not None:
            self._log.write(event, **facts)

    def close(self, summary: RunSummary, keys: KeysView) -> None:
        """Show the last state and end the line."""
        if self._run is not None:
            snapshot = self._take(keys)
            if self._log is not None:
                self._log.look(snapshot)
            if self._metrics is not None:
                self._metrics.look(snapshot)
            if self._is_asked:
                self._is_asked = False
                self._report(snapshot)
        if self._live is None:
            self._shown.close(summary, keys)
        self._leave_screen()

    def _leave_screen(self) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError, ValueError):
                self._live.close()
            self._live = None


def _exit_code(error: BaseException | None, summary: RunSummary | None) -> int | None:
    """Return what the command line would exit with; None where that is not for us to say."""
    if error is not None:
        return error.exit_code if isinstance(error, JsonlRunnerError) else None
    return summary.exit_code if summary is not None else 0
