"""Answers on stdout: one while it comes, many in the order of their questions."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

import click

from ..errors import LedgerError, RunInterruptedError, RunStoppedError
from ..terminal import harmless
from .options import console, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..clock import Stop
    from ..progress import Progress
    from ..records import Outcome, Record
    from ..session import Session


#: So many questions at the start, all failed for one reason, mean that all will.
_ALIKE = 20


class Output:
    """Answers on stdout: on a terminal without what it would obey, else byte for byte.

    Raises:
        LedgerError: there is no stdout, and so nobody to ask for.
    """

    def __init__(self) -> None:
        if sys.stdout is None:
            raise LedgerError("standard output is closed: nobody would get the answer")
        self.is_terminal = sys.stdout.isatty()

    def put(self, text: str) -> None:
        """Write a text, at once.

        Raises:
            LedgerError: it cannot be written.
            BrokenPipeError: who reads it has had enough.
        """
        text = harmless(text) if self.is_terminal else text
        try:
            sys.stdout.buffer.write(text.encode("utf-8", "replace"))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise LedgerError(f"standard output: cannot be written ({error.strerror})") from None

    def put_file(self, stream: IO[bytes]) -> None:
        """Write a file of lines, as `put` does a text."""
        if self.is_terminal:
            for line in stream:
                self.put(line.decode("utf-8", "replace"))
            return
        try:
            shutil.copyfileobj(stream, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise LedgerError(f"standard output: cannot be written ({error.strerror})") from None

    def put_answer(self, answer: str) -> None:
        """Write an answer, and a line end where it has none."""
        self.put(answer if answer.endswith("\n") else answer + "\n")


class Notes:
    """What a session has to say, until it is closed: its last look at the keys may come late.

    Args:
        say: tells the user a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._is_closed = False

    def __call__(self, text: str) -> None:
        """Tell the user a note."""
        with self._lock:
            if not self._is_closed:
                self._say(f"note: {harmless(text)}")

    def close(self) -> None:
        """Say no more: what comes now would stand behind the last word."""
        with self._lock:
            self._is_closed = True


class LiveAnswer:
    """An answer on a terminal while it comes.

    Args:
        output: the terminal.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._at_line_start = True

    def text(self, piece: str) -> None:
        """Write a piece of it."""
        if piece:
            self._output.put(piece)
            self._at_line_start = piece.endswith("\n")

    def restart(self) -> None:
        """Say that what stands there was not the answer."""
        self.end()
        say("note: that answer broke off; it begins anew")

    def end(self) -> None:
        """End the line, if one was begun."""
        if not self._at_line_start:
            self.text("\n")


def answered(outcome: Outcome) -> dict[str, Any]:
    """Return what `--json` says of an answer."""
    names = ("model", "finish_reason", "usage", "cost", "cached", "latency_s", "attempts")
    found = asdict(outcome)
    return {"answer": outcome.output, **{name: found[name] for name in names}}


def failed(outcome: Outcome) -> dict[str, Any]:
    """Return what `--json` says of a question that failed."""
    raw = {} if outcome.raw is None else {"raw": outcome.raw}
    return {"answer": None, "code": outcome.code, "message": outcome.message, **raw}


class Printing:
    """Prints answers in the order of their questions, and counts them.

    Args:
        shown: the progress, silent where there is none to show.
        name: of the file of questions.
        total: how many there are; None while unknown.
        output: where answers go.
        as_json: whether as a JSON object a line.
    """

    def __init__(
        self, shown: Progress, name: str, total: int | None, output: Output, *, as_json: bool
    ) -> None:
        from ..summary import RunSummary  # noqa: PLC0415  # --help need not wait for it

        self._shown = shown
        self._name = name
        self._output = output
        self._as_json = as_json
        self._summary = RunSummary(rows=total)
        self._has_lines = self._told = False

    def all(self, session: Session, stop: Stop, stream: IO[bytes], system: str | None) -> int:
        """Ask and print all; return the exit code.

        Raises:
            JsonlRunnerError: it ended early; the answers up to there are printed.
        """
        from ..clock import SystemClock  # noqa: PLC0415
        from ..questions import answers_in_order, read_questions, record_of  # noqa: PLC0415

        clock = SystemClock()
        started = clock.now()
        summary = self._summary

        def records() -> Iterator[Record]:
            for question in read_questions(stream, self._name):
                yield record_of(question, system)

        def waiting() -> None:
            self._shown.show(summary, session.view())
            self._tell_stopping(session, stop)

        answers = answers_in_order(session, records(), waiting=waiting)
        try:
            with contextlib.closing(answers):
                for record, outcome in answers:
                    summary.add([outcome])
                    self._print(record, outcome)
                    self._check_beginning()
                    self._shown.show(summary, session.view())
        except RunStoppedError:
            behind = session.summary.done - summary.done
            if behind > 0:
                self.note(
                    f"{behind:,} answers behind the first question without one are not printed; "
                    "-o FILE keeps every answer"
                )
            raise
        finally:
            summary.elapsed_s = clock.now() - started
            self._shown.close(summary, session.view())
        for line in summary.lines():
            say(harmless(line))
        return summary.exit_code

    def note(self, text: str) -> None:
        """Tell the user a line, above the bar if there is one."""
        if self._output.is_terminal:
            say(harmless(text))
        else:
            self._shown.say(harmless(text))

    def _print(self, record: Record, outcome: Outcome) -> None:
        if outcome.output is None:
            # Not only a note: -q keeps errors.
            why = f"{self._name}:{record.line}: {outcome.code}: {outcome.message}"
            if console.quiet or self._output.is_terminal:
                click.echo(harmless(why), err=True)
            else:
                self._shown.say(harmless(why))
        if self._as_json:
            self._output.put_answer(_line_of(record, outcome))
            return
        answer = outcome.output or ""
        self._output.put_answer(answer)
        if not self._has_lines and "\n" in answer.removesuffix("\n"):
            self._has_lines = True
            if not self._output.is_terminal:
                self.note(
                    f"note: the answer to {self._name}:{record.line} has several lines; --json "
                    "prints one line a question"
                )

    def _check_beginning(self) -> None:
        """End what comes to nothing, as a run does.

        Raises:
            RunStoppedError: the first questions all failed for one reason, and there are more.
        """
        summary = self._summary
        if summary.done or summary.failed != _ALIKE or summary.left == 0:
            return
        if len(summary.failures) == 1:
            ((code, failure),) = summary.failures.items()
            raise RunStoppedError(
                f"the first {_ALIKE} questions all failed alike ({code}: {failure.message}); "
                "stopped before the rest; if they are a bad beginning, -o FILE goes on behind it"
            )

    def _tell_stopping(self, session: Session, stop: Stop) -> None:
        if not self._told and isinstance(stop.reason, RunInterruptedError):
            self._told = True
            self.note(
                f"stopping: {session.view().in_flight} calls in flight may finish; Ctrl-C again "
                "ends now"
            )


def _line_of(record: Record, outcome: Outcome) -> str:
    from .. import jsontext  # noqa: PLC0415

    question = record.input or record.instruction
    found = failed(outcome) if outcome.output is None else answered(outcome)
    return jsontext.dump({"index": record.line, "question": question, **found}).decode()
