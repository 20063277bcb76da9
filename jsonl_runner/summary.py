"""Counting Outcomes: what the progress line shows and the summary says."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .errors import EXIT_COMPLETE, EXIT_SOME_NULL, JsonlRunnerError
from .limits import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .records import Outcome

#: Behind a cost that the provider did not say.
_BY = {"prices": " dollars by price", "estimate": " dollars by estimate"}
#: Rows of a kind that are listed one by one; the rest are counted.
LISTED = 20


@dataclass
class Named:
    """Rows of one kind: how many, and the indices of the first of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, index: str) -> None:
        """Count a row."""
        self.count += 1
        if self.count <= LISTED:
            self.examples.append(index)

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        plural = "row" if self.count == 1 else "rows"
        return f"{self.count:,} {plural} (index {', '.join(self.examples)}{more})"


@dataclass
class Failure:
    """Rows that failed for one reason: how many, and the first of them."""

    count: int
    example: str
    message: str

    def line(self, code: str) -> str:
        """Return it for people."""
        return f"failed, {code}: {self.count:,}, e.g. index {self.example}: {self.message}"


@dataclass
class Tokens:
    """Tokens used, as the provider counted them."""

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.prompt + self.completion

    def add(self, usage: object) -> None:
        """Count the `usage` of an answer; one that says nothing counts nothing."""
        if isinstance(usage, dict):
            self.prompt += _whole(usage.get("prompt_tokens"))
            self.completion += _whole(usage.get("completion_tokens"))


@dataclass
class RunSummary:
    """What a run did.

    Attributes:
        rows: rows of the input that can be used, each turn of a conversation as one; None while a
            stream has not ended.
        skipped: rows that had their output before.
        done, failed: rows of this run with an output, and with a null.
        left: rows neither skipped, done nor failed; None while unknown.
        cached: of those done, the ones that took no call: an answer was known.
        cut_off: outputs that end at max_tokens.
        retried: attempts beyond the first of each row.
        tokens: used by the calls of this run.
        cost: what it cost: as the provider says, else by prices; None when neither tells.
        cost_from: how that is known where the provider does not say all: `prices`, `estimate`.
        left_out: of the rows left, those that the run was not to try.
        left_out_by: the option that says so: `--limit` or `--sample`.
        budget: what limits there are and what was spent of them; None without any.
        elapsed_s: seconds.
        failures: by reason.
        bad_rows: rows that cannot be used, a line of text each (see `first_of`).
        changed: rows whose content changed since they were answered.
        notes: what was put right or is odd.
        stopped: why the run ended early; None when it did not.
        stop_code: the exit code that goes with it.
        judged: what was done by a judge over the outputs; None where there is none.
        unit: what is counted: `rows`, or `files`, where a row is a file.
        turns, conversations: of the rows, those that are turns, and what they are turns of.
        failed_files: each file that failed, and why; empty where rows are counted.
    """

    rows: int | None = None
    skipped: int = 0
    done: int = 0
    failed: int = 0
    cached: int = 0
    cut_off: int = 0
    retried: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    cost: float | None = None
    cost_from: str = ""
    left_out: int = 0
    left_out_by: str = ""
    budget: dict[str, float | None] | None = None
    elapsed_s: float = 0.0
    failures: dict[str, Failure] = field(default_factory=dict)
    bad_rows: list[str] = field(default_factory=list)
    changed: Named = field(default_factory=Named)
    notes: list[str] = field(default_factory=list)
    stopped: str | None = None
    stop_code: int = 0
    judged: RunSummary | None = None
    unit: Literal["rows", "files"] = "rows"
    turns: int = 0
    conversations: int = 0
    failed_files: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> int | None:
        """Rows that still have neither an output nor a null of this run."""
        return None if self.rows is None else self.rows - self.skipped - self.done - self.failed

    @property
    def goal(self) -> int | None:
        """Rows that have their outcome when the run is over, those of earlier runs among them."""
        return None if self.rows is None else self.rows - self.left_out

    @property
    def expected_cost(self) -> float | None:
        """What the run costs in the end, as it goes now; None when unknown.

        Rows that took no call count as well: there may be more of them.
        """
        finished = self.done + self.failed
        if self.cost is None or self.left is None or not finished:
            return None
        return self.cost + (self.left - self.left_out) * self.cost / finished

    @property
    def exit_code(self) -> int:
        """What the command line exits with."""
        if self.stop_code:
            return self.stop_code
        if self.failed or self.bad_rows:
            return EXIT_SOME_NULL
        return EXIT_COMPLETE if self.judged is None else self.judged.exit_code

    def add_pass(self, other: RunSummary) -> None:
        """Add what another run over the same input and ledger did: the next turn of its rows."""
        for name in ("skipped", "done", "failed", "cached", "cut_off", "retried", "left_out"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rows = None if self.rows is None or other.rows is None else self.rows + other.rows
        self.tokens.prompt += other.tokens.prompt
        self.tokens.completion += other.tokens.completion
        if other.cost is not None:
            self.cost = (self.cost or 0.0) + other.cost
            self.cost_from = self.cost_from or other.cost_from
        self.elapsed_s += other.elapsed_s
        self.budget = other.budget or self.budget
        for code, failure in other.failures.items():
            self.failures.setdefault(code, Failure(0, failure.example, failure.message))
            self.failures[code].count += failure.count
        for note in other.notes:
            self.note(note)
        for index in other.changed.examples:
            self.changed.add(index)
        self.changed.count += other.changed.count - len(other.changed.examples)
        self.stopped, self.stop_code = other.stopped, other.stop_code

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Count Outcomes that are written."""
        for outcome in outcomes:
            self.retried += max(0, outcome.attempts - 1)
            self.tokens.add(outcome.usage)
            if outcome.cost is not None:
                self.cost = (self.cost or 0.0) + outcome.cost
                if outcome.cost_from and self.cost_from != "estimate":
                    self.cost_from = outcome.cost_from
            if outcome.output is not None:
                self.done += 1
                self.cached += outcome.cached
                self.cut_off += outcome.finish_reason == "length"
                continue
            self.failed += 1
            if self.unit == "files":
                self.failed_files[outcome.index] = f"{outcome.code}: {outcome.message}"
            failure = self.failures.get(outcome.code)
            if failure is None:
                self.failures[outcome.code] = Failure(1, outcome.index, outcome.message)
            else:
                failure.count += 1

    def note(self, text: str) -> bool:
        """Keep a note, once; return whether it is new."""
        if text in self.notes:
            return False
        self.notes.append(text)
        return True

    def stop(self, error: JsonlRunnerError) -> None:
        """Note why the run ended early."""
        self.stopped, self.stop_code = str(error), error.exit_code

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        plain = asdict(self)
        del plain["stop_code"], plain["unit"], plain["left_out_by"]
        if self.unit == "rows":
            del plain["failed_files"]
        plain["judged"] = None if self.judged is None else self.judged.to_dict()
        return {**plain, "left": self.left, "exit_code": self.exit_code}

    def lines(self) -> list[str]:
        """Return it for people, a line each."""
        per_s = self.done / self.elapsed_s if self.elapsed_s else 0.0
        rate = f", {per_s:.1f} {self.unit}/s" if per_s else ""
        of_them = f"{self.left_out:,} of them " if self.left_out != self.left else ""
        lines = [
            f"done {self.done:,}, failed {self.failed:,}, had an output before {self.skipped:,}"
            + (f", left {self.left:,}" if self.left else "")
            + (f" ({of_them}beyond {self.left_out_by})" if self.left_out else "")
            + f"  ({in_words(self.elapsed_s)}{rate})"
        ]
        if self.conversations:
            lines.append(turns_line(self.rows or 0, self.turns, self.conversations))
        if self.tokens.total:
            cost = f", cost {self.cost:.4f}" if self.cost is not None else ""
            cost += _BY.get(self.cost_from, "")
            lines.append(
                f"tokens: {self.tokens.prompt:,} in, {self.tokens.completion:,} out{cost}"
                f"; tries beyond the first: {self.retried:,}"
            )
        if self.budget is not None:
            lines.append(budget_line(self.budget))
        if self.cached:
            lines.append(f"answered without a call, from the cache: {self.cached:,}")
        if self.cut_off:
            lines.append(f"{self.cut_off:,} outputs end at max_tokens (finish_reason length)")
        by_count = sorted(self.failures.items(), key=lambda item: -item[1].count)
        if self.unit == "files":
            lines += failed_lines(self.failed_files)
        else:
            lines += [failure.line(code) for code, failure in by_count]
        lines += [f"not usable {row}" for row in self.bad_rows]
        if self.changed.count:
            lines.append(f"changed since they were answered: {self.changed}")
        if self.judged is not None:
            lines += [f"judge: {line}" for line in self.judged.lines()]
        return lines


def turns_line(rows: int, turns: int, conversations: int) -> str:
    """Return for people what was counted where rows have turns."""
    which = "all" if turns == rows else f"{turns:,} of the"
    plural = "" if conversations == 1 else "s"
    return f"{which} {rows:,} rows are turns of {conversations:,} conversation{plural}"


def first_of(items: Sequence[object], count: int | None = None) -> list[str]:
    """Return things of one kind for people, a line each: the first, and how many more there are.

    Args:
        items: the things; the first `LISTED` are enough.
        count: how many there are; None: as many as `items`.
    """
    more = (len(items) if count is None else count) - LISTED
    lines = list(map(str, items[:LISTED]))
    return [*lines, f"… and {more:,} more"] if more > 0 else lines


def failed_lines(failed: Mapping[str, str]) -> list[str]:
    """Return files that failed for people, the first of them by name with their reasons."""
    lines = [f"failed {name}: {why}" for name, why in itertools.islice(failed.items(), LISTED)]
    if len(failed) > LISTED:
        lines.append(f"… and {len(failed) - LISTED:,} more failed")
    return lines


def dollars(amount: float) -> str:
    """Return an amount of money for people: four digits behind the point where cents are coarse."""
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:,.4f}"


def whole(amount: float) -> str:
    """Return an amount of tokens for people."""
    return f"{amount:,.0f} tokens"


def budget_line(budget: Mapping[str, float | None]) -> str:
    """Return for people what of a run's limits is spent; see `RunSummary.budget`."""
    parts = []
    for name, limit, show in (("cost", "max_cost", dollars), ("tokens", "max_tokens_total", whole)):
        most, spent = budget.get(limit), budget.get(f"{name}_spent")
        before = budget.get(f"{name}_before")
        if most is not None:
            earlier = f", {show(before)} of it by earlier runs" if before else ""
            parts.append(f"{show(spent or 0.0)} of {show(most)} spent{earlier}")
    calls = int(budget.get("calls_unanswered") or 0)
    if calls:
        plural = "call" if calls == 1 else "calls"
        parts.append(f"in it {calls:,} {plural} that may be billed and brought no answer")
    return f"budget: {'; '.join(parts)}"


def _whole(value: object) -> int:
    return value if type(value) is int else 0  # not isinstance: True is an int to Python
