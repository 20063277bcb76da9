"""What a dataset will cost, before anything is paid: tokens, dollars, time. Nothing is sent.

Prompts are counted as they would be sent; of more than 50,000 rows a sample is, one row at random
from each of 10,000 equal stretches, and the error is stated. How long answers are nobody can count:
it is told (`--output-tokens`), learnt from an earlier call log, or said to be unknown. Where a
prompt holds an answer that is yet to come (a later turn's, a judge's), a text of the length that
answers are expected to have stands for it.
"""

from __future__ import annotations

import functools
import math
import random
from array import array
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from . import calllog
from .answers import verdicts_on
from .bill import Amount, ModelCost, Payable, bill
from .choice import left_rows
from .errors import InputError
from .framing import prompt_count
from .indexes import IndexSet
from .judging import as_judge, check_judge, rows_to_judge
from .ledger import scan
from .prompts import messages_of
from .reader import GroupReader, open_input
from .recipes import dataset_for
from .summary import turns_line
from .survey import survey
from .turns import TurnCount, check_turns, turn_by_turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .config import Config
    from .dataset import Data, Dataset
    from .judging import Judge
    from .reader import Group
    from .records import Record
    from .survey import BadRowsPolicy

#: Rows up to which each is counted, and how many are of more.
COUNT_ALL, SAMPLE = 50_000, 10_000
#: Standard errors on each side of a mean that hold 95 % of the cases.
_SIGMAS = 1.96
#: A text of one token to all tokenizers that are counted with, however often it is repeated.
_WORD = " a"
#: Tokens of the longest text that stands for an answer; no model writes as many.
_LONGEST = 1_000_000


@dataclass
class Estimate:
    """What a dataset will cost.

    Attributes:
        rows: rows that can be used, each sample and each turn as one.
        to_do: those without an output; all that follows is of them.
        bad_rows: rows that cannot be used.
        counted: rows whose tokens were counted: all to do, or a sample.
        input_tokens: of all prompts.
        output_tokens: of all answers.
        output_from: how that is known: `given`, `call log`, `max_tokens` (the upper bound alone),
            or empty.
        answers: of the call log that it was learnt from.
        costs: of the model, then of cheaper ones of the same provider.
        unpriced: models of rows without a price.
        minutes: at the limits of the settings, at the least; None: the limits are learnt.
        price_source: who says what tokens cost.
        notes: what is counted in the figures, and what they leave out.
        judge: what the verdicts on all outputs will cost beside; None: nobody judges.
    """

    rows: int = 0
    to_do: int = 0
    bad_rows: int = 0
    counted: int = 0
    input_tokens: Amount = Amount(0.0, 0.0, 0.0)  # noqa: RUF009  # frozen
    output_tokens: Amount = Amount(None, 0.0, None)  # noqa: RUF009  # frozen
    output_from: str = ""
    answers: int = 0
    costs: list[ModelCost] = field(default_factory=list)
    unpriced: list[str] = field(default_factory=list)
    minutes: float | None = None
    price_source: str = ""
    notes: list[str] = field(default_factory=list)
    judge: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return asdict(self)


class _Prompts:
    """Prompts counted: tokens of each, by model."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.by_model: dict[str, array[int]] = {}
        self.limits = 0
        #: Sum of `max_tokens`, as far as every prompt had one.
        self.limit_tokens = 0
        self.has_other = 0

    def add(self, record: Record) -> None:
        params = {**self._config.params, **(record.params or {})}
        model = str(params.get("model") or self._config.model)
        found = prompt_count(messages_of(record), model, params)
        self.by_model.setdefault(model, array("q")).append(found.tokens)
        self.has_other += found.has_other
        limit = params.get("max_completion_tokens") or params.get("max_tokens")
        if isinstance(limit, int):
            self.limits += 1
            self.limit_tokens += limit

    @property
    def count(self) -> int:
        return sum(map(len, self.by_model.values()))

    def total(self, rows: int) -> Amount:
        """Return the tokens of so many rows, of which these are all or a sample."""
        count = self.count
        tokens = [tokens for counts in self.by_model.values() for tokens in counts]
        # Of `rows` prompts, `count` are known.
        doubt = 1 / count - 1 / rows if count else 0.0
        return _mean(sum(tokens), sum(n * n for n in tokens), count, doubt).scaled(rows)


def _mean(total: float, squares: float, count: int, doubt: float) -> Amount:
    """Return the mean of so many numbers, and between what the mean of the others asked for lies.

    Args:
        total: sum of the numbers known.
        squares: sum of their squares.
        count: how many they are.
        doubt: the variance of the mean asked for, in variances of one number.
    """
    if not count:
        return Amount(0.0, 0.0, 0.0)
    mean = total / count
    variance = max(0.0, squares / count - mean * mean) * count / max(1, count - 1)
    error = _SIGMAS * math.sqrt(variance * doubt)
    return Amount(mean, max(0.0, mean - error), mean + error)


class _Lengths:
    """How long answers are: as told, or as those were that a call log tells of."""

    def __init__(self, ledger: Path | None, told: float | None) -> None:
        self._told = told
        self.count = self._total = self._squares = 0
        for entry in () if ledger is None or told is not None else calllog.read(ledger):
            usage = entry.get("usage")
            tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
            if entry.get("status") == "ok" and type(tokens) is int:
                self.count += 1
                self._total += tokens
                self._squares += tokens * tokens

    @property
    def stand_in(self) -> str | None:
        """A text as long as an answer; None where nobody knows."""
        if self._told is None and not self.count:
            return None
        mean = self._total / self.count if self._told is None else self._told
        return _WORD * round(min(_LONGEST, mean))

    def put_into(self, result: Estimate, prompts: _Prompts) -> None:
        """Tell how long the answers to all rows are, by `max_tokens` if by nothing else."""
        if self._told is not None:
            result.output_from = "given"
            result.output_tokens = Amount(*[self._told * result.to_do] * 3)
        elif self.count:
            result.output_from, result.answers = "call log", self.count
            # The answers that came are no part of those to come: both have their chance.
            doubt = 1 / self.count + 1 / max(1, result.to_do)
            mean = _mean(self._total, self._squares, self.count, doubt)
            result.output_tokens = mean.scaled(result.to_do)
        elif prompts.count and prompts.limits == prompts.count:
            result.output_from = "max_tokens"
            high = prompts.limit_tokens / prompts.count * result.to_do
            result.output_tokens = Amount(None, 0.0, high)


def estimate(
    config: Config,
    data: Data,
    output: Path | None = None,
    *,
    output_tokens: float | None = None,
    judge: Judge | None = None,
    verdict_tokens: float | None = None,
    bad_rows: BadRowsPolicy = "fail",
    seed: int = 0,
) -> Estimate:
    """Return what the rows of a dataset without an output will cost.

    Args:
        config: the settings; needs no key.
        data: the input.
        output: its ledger, whose rows are done, and whose call log tells how long answers are;
            None: no row is done.
        output_tokens: tokens of an answer; None: learnt from the call log.
        judge: who judges all outputs; None: nobody.
        verdict_tokens: tokens of a verdict; None: learnt from the verdicts' call log.
        bad_rows: what to do about rows that cannot be used.
        seed: of the sample.

    Raises:
        InputError: the input cannot be read, or rows in it cannot be used.
        LedgerError: the ledger cannot be read.
        JsonlRunnerError: a vocabulary of this package is damaged.
    """
    dataset = dataset_for(data, output)
    check_turns(dataset, output)
    lengths = _Lengths(output, output_tokens)
    unknown = lengths.stand_in or ""
    count = TurnCount(dataset)
    rows = _look(turn_by_turn(dataset, output, unknown=unknown), output, bad_rows, count)
    result = _estimate(config, rows, lengths, seed)
    result.notes = [*_counted(dataset, count, lengths), *result.notes]
    if judge is not None:
        check_judge(judge, dataset, output, bad_rows)
        questions = rows_to_judge(judge, dataset, output, unknown=unknown)
        verdicts = None if output is None else verdicts_on(output)
        asked = _look([questions], verdicts, "skip", redo_changed=True)
        lengths = _Lengths(verdicts, verdict_tokens)
        result.judge = _estimate(as_judge(judge, config), asked, lengths, seed)
    return result


class _Rows(NamedTuple):
    """The rows that are to be done.

    Attributes:
        rows, bad: of the input, that can be used and that cannot.
        parts: inputs that have them all together, each with those of its rows that are to be done
            although they have an output.
        done: rows with an output.
        to_do: how many are left.
    """

    rows: int
    bad: int
    parts: list[tuple[Dataset, IndexSet]]
    done: IndexSet
    to_do: int

    def left(self) -> Iterator[tuple[Group, int]]:
        for part, redo in self.parts:
            with open_input(part) as stream:
                groups = GroupReader(stream, str(part)).groups()
                yield from left_rows(groups, self.done, redo, IndexSet())


def _look(
    parts: Iterable[Dataset],
    ledger: Path | None,
    bad_rows: BadRowsPolicy,
    count: TurnCount | None = None,
    *,
    redo_changed: bool = False,
) -> _Rows:
    """Look at all rows; of those with an output, the ones are to be done that have changed."""
    done = IndexSet() if ledger is None else scan(ledger).done
    looked: list[tuple[Dataset, IndexSet]] = []
    asked_before = None
    if ledger is not None and redo_changed:
        asked_before = functools.partial(calllog.fingerprints, ledger)
    rows = bad = to_do = 0
    for part in parts:
        with open_input(part) as stream:
            if not stream.seekable():
                raise InputError(
                    f"{part}: this is a pipe, which can be read once only; give a file"
                )
            found = survey(
                stream,
                part,
                done,
                answered=asked_before,
                redo_changed=redo_changed,
                each=count.see if count is not None and not looked else None,
            )
        if not looked:
            found.check(bad_rows, part)
            bad = len(found.bad)
        rows, to_do = rows + found.rows, to_do + found.todo
        looked.append((part, found.redo))
    return _Rows(rows, bad, looked, done, to_do)


def _estimate(config: Config, rows: _Rows, lengths: _Lengths, seed: int) -> Estimate:
    prompts = _Prompts(config)
    for record in _some(rows.left(), rows.to_do, seed):
        prompts.add(record)
    result = Estimate(rows.rows, rows.to_do, rows.bad, prompts.count)
    result.input_tokens = prompts.total(rows.to_do)
    lengths.put_into(result, prompts)
    payable = Payable(rows.to_do, prompts.by_model, result.input_tokens, result.output_tokens)
    found = bill(config, payable)
    result.costs, result.unpriced, result.price_source = found.costs, found.unpriced, found.source
    result.minutes = _minutes(result, config)
    if prompts.has_other:
        share = f"{prompts.has_other:,} of the {prompts.count:,} prompts counted"
        result.notes.append(
            f"{share} hold images, tools or schemas, which only the provider counts"
        )
    return result


def _counted(dataset: Dataset, count: TurnCount, lengths: _Lengths) -> Iterator[str]:
    """Yield what the figures are of where a row is asked more than once."""
    if dataset.n > 1:
        yield f"each row is asked {dataset.n:,} times, and its prompt paid as often"
    if count.conversations:
        line = turns_line(count.rows, count.turns, count.conversations)
        to_come = "answers to come as long as all are expected to be"
        if lengths.stand_in is None:
            to_come = "but for answers to come, whose length is not known"
        yield f"{line}; each is asked with all that was said before it, {to_come}"


def _some(rows: Iterator[tuple[Group, int]], to_do: int, seed: int) -> Iterator[Record]:
    """Yield the rows to do, or one of each stretch where they are many."""
    if to_do <= COUNT_ALL:
        yield from (group.record(which) for group, which in rows)
        return
    rng = random.Random(seed)  # guards nothing
    stretch = 0
    wanted = -1
    for number, (group, which) in enumerate(rows):
        if number == stretch * to_do // SAMPLE:
            stretch += 1
            wanted = rng.randrange(number, stretch * to_do // SAMPLE)
        if number == wanted:
            yield group.record(which)


def _minutes(result: Estimate, config: Config) -> float | None:
    """Return the minutes the rows take at the limits of the settings, at the least."""
    keys = max(1, len(config.api_keys))
    tokens = (result.input_tokens.expected or 0.0) + (
        result.output_tokens.expected or result.output_tokens.high or 0.0
    )
    found = []
    if config.requests_per_minute:
        found.append(result.to_do / (config.requests_per_minute * keys))
    if config.tokens_per_minute:
        found.append(tokens / (config.tokens_per_minute * keys))
    return max(found, default=None)
