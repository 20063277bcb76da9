"""What a report says, as plain numbers and texts: the page and `--json` both show these."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..quality import Quality


@dataclass
class Rows:
    """What came of the rows; the last entry of an index counts, as in `status`.

    Attributes:
        done: indices of the ledger with an output.
        failed: those with nulls only.
        total, left: rows of the input that can be used, and those of them the ledger has nothing
            of; None without an input.
        turns, conversations: of the rows of the input, those that are turns, and what they are
            turns of.
        foreign: indices of the ledger that are not in the input; None without an input.
        bad: rows of the input that cannot be used; None without an input.
        damaged: lines of the ledger that cannot be read.
    """

    done: int = 0
    failed: int = 0
    total: int | None = None
    left: int | None = None
    turns: int = 0
    conversations: int = 0
    foreign: int | None = None
    bad: int | None = None
    damaged: int = 0


@dataclass
class Log:
    """What the call log holds.

    Attributes:
        found: whether there is one.
        entries: that can be read.
        passed_over: lines that cannot, or that another version wrote.
        runs: lines that runs write ahead of theirs.
        first, last: seconds since 1970 of the first call's beginning and the last answer; None
            when no entry tells its times.
    """

    found: bool = False
    entries: int = 0
    passed_over: int = 0
    runs: int = 0
    first: float | None = None
    last: float | None = None


@dataclass
class Work:
    """What was asked, in all runs so far.

    Attributes:
        calls: made, those in batches too.
        retries: calls beyond the first of each entry.
        cached: entries that took no call, since the answer was known.
        batch: entries that came in a batch.
        cut_off: outputs that end at max_tokens.
    """

    calls: int = 0
    retries: int = 0
    cached: int = 0
    batch: int = 0
    cut_off: int = 0


@dataclass
class Spent:
    """Tokens and their price, in all or of one model.

    Attributes:
        model: as the provider calls it; empty for all together, or where the log says none.
        batch: whether it is what batches took.
        entries: of the call log.
        prompt, completion: tokens.
        cost_told: US dollars by the call log; None when it says nothing.
        cost_estimated: US dollars of what the log says no cost of, by prices that were given;
            None when there is nothing of the kind.
        unpriced: entries with tokens that have neither.
    """

    model: str = ""
    batch: bool = False
    entries: int = 0
    prompt: int = 0
    completion: int = 0
    cost_told: float | None = None
    cost_estimated: float | None = None
    unpriced: int = 0

    @property
    def cost(self) -> float | None:
        """What is told and what is estimated together."""
        if self.cost_told is None or self.cost_estimated is None:
            return self.cost_estimated if self.cost_told is None else self.cost_told
        return self.cost_told + self.cost_estimated


@dataclass(slots=True)
class Slice:
    """A stretch of time.

    Attributes:
        start: seconds since 1970.
        done, failed: rows that came to their end in it.
        in_flight: calls under way, on average.
        after: calls under way at its end.
    """

    start: float
    done: int
    failed: int
    in_flight: float
    after: int


@dataclass
class Timeline:
    """When rows came to their end, and how many calls were under way; no batches.

    Attributes:
        width_s: length of a slice; 0.0 when no entry tells its times.
        slices: those in which anything began or ended, in order.
        rows_per_s: over all slices and what lies between them but pauses.
        peak_per_s, peak_in_flight: the highest of any slice.
    """

    width_s: float = 0.0
    slices: list[Slice] = field(default_factory=list)
    rows_per_s: float = 0.0
    peak_per_s: float = 0.0
    peak_in_flight: float = 0.0


@dataclass(slots=True)
class Band:
    """Calls that took from `start` to `end` seconds."""

    start: float
    end: float
    count: int


@dataclass
class Latency:
    """Seconds the calls took that brought an output; no batches, nothing from the cache.

    Attributes:
        count: calls.
        relative_error: of the percentiles, at most.
        mean, p50, p95, p99, longest: seconds; None without calls.
        bands: the distribution, each as much longer than the one before as all others.
    """

    count: int = 0
    relative_error: float = 0.0
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    longest: float | None = None
    bands: list[Band] = field(default_factory=list)


@dataclass(slots=True)
class Example:
    """A row that failed: its index and what was said."""

    index: str
    message: str


@dataclass
class Group:
    """Rows that failed for one reason, with the first few of them."""

    code: str
    count: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass
class KeyUse:
    """What one key did, as far as the log tells: it names the key that served a row last.

    Attributes:
        label: position and last characters, never the key.
        calls: of the rows it served last, calls to other keys before it included.
        done, failed: those rows.
        refused: those of them that failed for being too many (429, 529).
        mean_s: mean latency of the rows done; None without any.
    """

    label: str
    calls: int = 0
    done: int = 0
    failed: int = 0
    refused: int = 0
    mean_s: float | None = None


@dataclass
class Batch:
    """What one batch of the provider brought.

    Attributes:
        name: its id.
        done, failed: rows.
        asked, ended: seconds since 1970; None when no entry tells.
    """

    name: str
    done: int = 0
    failed: int = 0
    asked: float | None = None
    ended: float | None = None


@dataclass(slots=True)
class Text:
    """The beginning of a text, and the characters of the whole."""

    shown: str
    length: int


@dataclass
class Row:
    """A row of the sample.

    Attributes:
        index: of the row.
        output: None when it failed.
        instruction, input: None without an input file.
        facts: what the call log says of it, by name.
        code, message: of a failure.
    """

    index: str
    output: Text | None = None
    instruction: Text | None = None
    input: Text | None = None
    facts: dict[str, str] = field(default_factory=dict)
    code: str = ""
    message: str = ""


@dataclass
class Report:
    """All of it.

    Attributes:
        ledger, data: names of the files; no data when none was given.
        notes: what cannot be said, and why.
        price_source: where estimated costs come from; empty when there are none.
        quality: what would spoil training.
        spent: of each model, live and in batches, the dearest first.
        sample: rows to look at, the failed ones first; not in `to_dict`.
    """

    ledger: str
    data: str | None = None
    rows: Rows = field(default_factory=Rows)
    log: Log = field(default_factory=Log)
    work: Work = field(default_factory=Work)
    total: Spent = field(default_factory=Spent)
    price_source: str = ""
    spent: list[Spent] = field(default_factory=list)
    timeline: Timeline = field(default_factory=Timeline)
    latency: Latency = field(default_factory=Latency)
    failures: list[Group] = field(default_factory=list)
    quality: Quality = field(default_factory=Quality)
    batches: list[Batch] = field(default_factory=list)
    keys: list[KeyUse] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sample: list[Row] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for `--json`; the sample's texts stay in the files."""
        plain = asdict(replace(self, sample=[]))
        plain["quality"] = self.quality.to_dict()
        del plain["sample"], plain["total"]["model"], plain["total"]["batch"]
        return plain
