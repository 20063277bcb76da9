"""The errors that reach a user of this package.

    JsonlRunnerError                 the root; exit code 2
    ├── ConfigError                  configuration or arguments are wrong
    ├── InputError                   the input file cannot be used
    │   └── BadRowsError             some of its rows cannot be used
    ├── LedgerError                  exit code 4: the output cannot be read or written
    │   └── LedgerLockedError        another run holds it
    ├── RunStoppedError              exit code 3: the run ended with rows left to do
    │   ├── NoUsableKeyError         every key is retired
    │   ├── WrongEndpointError       exit code 2: model, address or certificate is wrong
    │   ├── BudgetReachedError       exit code 5: what may be spent is spent
    │   └── RunInterruptedError      exit code 130 or 143: a signal asked for the end
    └── CallFailedError              a single `api` call brought no output (in `toolkit`)

`TransportError` is none of them: one attempt brought no answer; it never leaves `callers`.

`str(error)` is one line for the user: what is wrong, where, and what to do about it.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Every row of the input has its output.
EXIT_COMPLETE = 0
#: The run ended, some rows are null.
EXIT_SOME_NULL = 1
#: Usage, configuration or input is wrong.
EXIT_USAGE = 2
#: Stopped because no key or endpoint can serve; rows are left unwritten.
EXIT_STOPPED = 3
#: The output could not be read or written (disk full, locked).
EXIT_FILE = 4
#: Stopped because what may be spent is spent; rows are left unwritten.
EXIT_BUDGET = 5
# A run ended by a signal exits with 128 + its number, as shells do: 130 SIGINT, 143 SIGTERM.


class JsonlRunnerError(Exception):
    """Root of all errors of this package.

    Attributes:
        exit_code: what the command line exits with.
        summary: the `RunSummary` of what was done until then, where a run had begun.
        answers: the outputs that `parallel_api` had until then, by the caller's own indices.
    """

    exit_code = EXIT_USAGE
    summary: Any = None
    answers: Any = None


class ConfigError(JsonlRunnerError):
    """A setting is missing, unknown or of the wrong kind."""


class InputError(JsonlRunnerError):
    """The input file is missing, empty or not readable as JSONL."""


class BadRowsError(InputError):
    """Some rows cannot be used.

    Attributes:
        rows: one line of text per bad row that is listed.
        count: how many there are in all.
    """

    def __init__(self, message: str, rows: Sequence[str], count: int) -> None:
        super().__init__(message)
        self.rows = tuple(rows)
        self.count = count


class LedgerError(JsonlRunnerError):
    """The ledger or its call log could not be read or written."""

    exit_code = EXIT_FILE


class LedgerLockedError(LedgerError):
    """Another run holds the ledger."""


class RunStoppedError(JsonlRunnerError):
    """The run stopped before its rows were done; what is not done is unwritten."""

    exit_code = EXIT_STOPPED


class NoUsableKeyError(RunStoppedError):
    """Every key is retired."""

    @classmethod
    def of(cls, keys: Sequence[tuple[str, str]]) -> NoUsableKeyError:
        """Return the error that names keys; of each its label, and why it is finished."""
        hint = "put them right or replace them, then run the same command again"
        if len(keys) == 1:
            ((label, why),) = keys
            return cls(f"the only key is finished: {label} {why}; {hint}")
        shown = [f"{label} {why.partition(':')[0]}" for label, why in keys[:5]]
        more = f"; and {len(keys) - 5} more" if len(keys) > 5 else ""
        return cls(f"all {len(keys)} keys are finished: {'; '.join(shown)}{more}; {hint}")


class WrongEndpointError(RunStoppedError):
    """No request of this run can succeed: wrong model, path, host name or certificate."""

    exit_code = EXIT_USAGE


class BudgetReachedError(RunStoppedError):
    """The next call may pass what may be spent, and no call is in flight."""

    exit_code = EXIT_BUDGET


class RunInterruptedError(RunStoppedError):
    """SIGINT or SIGTERM asked for the end of the run.

    Attributes:
        signal: the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.signal = number
        self.exit_code = 128 + number


class TransportError(Exception):
    """One attempt ended without an HTTP answer.

    Attributes:
        code: one short word of ours, such as `refused`, `timeout` or `reset`.
        connected: whether any of the request was sent. Before that, the failure says nothing
            about the request; after it, the request may have been billed.
    """

    def __init__(self, code: str, message: str, *, connected: bool) -> None:
        super().__init__(message)
        self.code = code
        self.connected = connected
