"""Joining input and outputs into training data."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from . import jsontext
from .answers import Answers, verdicts_on
from .atomic import replacing_all
from .calllog import path_for
from .errors import ConfigError, InputError
from .exports.columns import Columns
from .exports.drops import Drops
from .exports.openai_chat import MIN_EXAMPLES
from .exports.plan import REPEATED, Plan, plan_of
from .exports.sinks import sink_into
from .exports.split import prompt_of
from .exports.toolcalls import lacks_tools
from .exports.unfit import Unfit
from .exports.verdicts import FIELD as VERDICT
from .exports.verdicts import JUDGED, Verdicts
from .indexes import IndexSet
from .judging import Asked
from .reader import RowReader, open_input
from .recipes import dataset_for, skips_bad_rows
from .records import BadRow
from .remote import written_to
from .survey import BadRows
from .turns import conversations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from .dataset import Data, Dataset
    from .survey import BadRowsPolicy

#: Bytes of the digest of an example; as for indices, two alike are rarer than a memory fault.
_DIGEST = 16


@dataclass
class MergeSummary:
    """What a merge did.

    Attributes:
        rows: rows of the input that can be used.
        written: rows in the merged file.
        without_output: rows that have no output; left out, or written with null.
        left_out: rows with an output that are not written, by reason.
        parts: rows in each part of a split.
        bad_rows: rows that cannot be used, a line of text each (see `first_of`).
        damage: ledger lines that cannot be read.
        notes: what else the user should know, a line of text each.
    """

    rows: int = 0
    written: int = 0
    without_output: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    bad_rows: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, reason: str) -> None:
        """Count a row that is not written."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def merge(  # noqa: PLR0913  # what to join, and how it is to be written
    data: Data,
    ledger: Path,
    target: Path,
    *,
    format: str | None = None,  # noqa: A002  # what everybody calls it
    fields: Sequence[str] | None = None,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
    drop_reasons: Iterable[str] = (),
    judged: str | None = None,
    dedupe: bool = False,
    tools: list[Any] | None = None,
    keep_null: bool = False,
    bad_rows: BadRowsPolicy | None = None,
) -> MergeSummary:
    """Write the rows of an input with their outputs, in input order.

    A row is `{"index", "instruction", "input", "output"}` with its other fields behind; an "output"
    of its own becomes `reference`. Outputs are read one by one.

    Args:
        data: the input.
        ledger: its ledger.
        target: the file to write, whole or not there. A URL (`s3://`) is sent when it is whole.
        format: one of `exports.forms.FORMATS`; None: what the target's suffix says (`json`,
            an array, for one that says nothing).
        fields: the fields to write, in this order, `new=name` to rename one; None: all. The
            formats for trainers write them behind their own.
        split: the share of each part, together 1: each is written into a file of its own,
            `merged.train.jsonl` for `merged.jsonl`. Which part a row goes into depends on `seed`
            and on its prompt alone (see `exports.split`).
        seed: any number.
        drop_reasons: why rows are left out that would spoil training, of `quality.REASONS`.
        judged: a regular expression; rows get their judge's verdict as `judge`, and those whose
            verdict it is not found in are left out.
        dedupe: of rows with the same prompt and output, only the first is written.
        tools: those that the run offered to all rows (`sharegpt` and `openai-chat` write them).
        keep_null: whether rows without an output are written, with `null`.
        bad_rows: what to do about rows that cannot be used; None: what the last run did.

    Raises:
        ConfigError: the arguments contradict each other.
        InputError: a file is missing, or the ledger holds no row of this input.
        LedgerError: a file cannot be read or written.
    """
    with written_to(target) as place:
        plan = plan_of(place, format, fields, split, seed, tools)
        _check_null(plan, keep_null=keep_null)
        drops = Drops(drop_reasons) if drop_reasons else None
        data = conversations(dataset_for(data, ledger), ledger)
        _spare_sources(plan, data, ledger)
        note = drops.read_log(ledger) if drops else None
        verdicts = None if judged is None else Verdicts(ledger, judged)
        outputs = Answers(ledger)
        job = _Merge(plan, data, ledger, outputs, drops, verdicts, dedupe, keep_null, bad_rows)
        summary = job.write(job.columns() if plan.needs_columns else None)
    summary.damage = [str(item) for item in outputs.damage]
    summary.notes += [note] if note else []
    return summary


def _check_null(plan: Plan, *, keep_null: bool) -> None:
    if keep_null and plan.form.is_example:
        raise ConfigError(
            f"keep_null: a row without an output is no example for {plan.form.format}"
        )


def _spare_sources(plan: Plan, data: Dataset, ledger: Path) -> None:
    if target := data.clash(plan.paths.values()):
        raise InputError(f"{target}: the merged file would overwrite {data}; name another")
    ledgers = (ledger, verdicts_on(ledger))
    for target in plan.paths.values():
        for source in (*ledgers, *map(path_for, ledgers)):
            if target.exists() and source.exists() and target.samefile(source):
                raise InputError(
                    f"{target}: the merged file would overwrite {source}; name another"
                )
    if not ledger.is_file():
        raise InputError(f"{ledger}: there is no such ledger; make it with jsonl-runner run")


@dataclass
class _Merge:
    """One merge: its rows are gone through once, or twice where the file needs to know them."""

    plan: Plan
    data: Dataset
    ledger: Path
    answers: Answers
    drops: Drops | None
    verdicts: Verdicts | None
    dedupe: bool
    keep_null: bool
    bad_rows: BadRowsPolicy | None

    def __post_init__(self) -> None:
        self.asked = None if self.verdicts is None else Asked(self.ledger)
        if self.verdicts is not None and self.plan.fields:
            self.plan.fields.note({VERDICT: None})  # every row gets one

    def columns(self) -> Columns:
        """Return the columns of all rows that will be written."""
        columns = Columns(with_kinds=self.plan.form.container == "parquet")
        with open_input(self.data) as stream:
            if not stream.seekable():
                raise InputError(
                    f"{self.data}: {self.plan.form.format} takes two looks at the input, and a "
                    "pipe gives one; write it into a file first"
                )
        for _, row in self._chosen(MergeSummary()):
            columns.add(row)
        return columns

    def write(self, columns: Columns | None) -> MergeSummary:
        """Write all rows, and return what was done."""
        plan, summary = self.plan, MergeSummary()
        with contextlib.ExitStack() as stack:
            streams = stack.enter_context(replacing_all(list(plan.paths.values())))
            sinks = {
                part: stack.enter_context(sink_into(stream, plan.form, columns))
                for part, stream in zip(plan.paths, streams, strict=True)
            }
            counts, toolless = dict.fromkeys(plan.paths, 0), 0
            names = columns.names if columns else ()
            for part, row in self._chosen(summary):
                sinks[part].write(plan.filled(row, names))
                counts[part] += 1
                toolless += plan.form.is_example and lacks_tools(row)
            self._check_fields()
            summary.written = sum(counts.values())
            summary.parts = counts if plan.split else {}
            summary.notes += self._notes(counts)
            if toolless:
                summary.notes.append(
                    f"{toolless:,} examples call tools and do not say which there are: "
                    "--tools FILE gives those of the run"
                )
        return summary

    def _chosen(self, summary: MergeSummary) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield each row that is to be written, as it is to be written, with its part."""
        plan, drops, seen = self.plan, self.drops, IndexSet()
        if drops:
            drops.begin()
        for source, row, folder in self._joined(summary):
            if plan.fields:
                plan.fields.note(row)
            if row["output"] is None and not self.keep_null:
                continue
            spoilt = drops and row["output"] is not None and drops.reason_of(row)
            if spoilt:
                summary.leave_out(spoilt)
                continue
            if not self._is_approved(row, source, folder):
                summary.leave_out(JUDGED)
                continue
            try:
                shaped = plan.shape(row, folder)
            except Unfit as verdict:
                summary.leave_out(verdict.reason)
                continue
            if self.dedupe and not seen.put(_digest_of(row)):
                summary.leave_out(REPEATED)
                continue
            yield plan.split.part_of(row) if plan.split else "", shaped

    def _is_approved(
        self, row: dict[str, Any], source: dict[str, Any], folder: Callable[[], Path]
    ) -> bool:
        """Put its verdict into a row; return whether it may be written."""
        if self.verdicts is None or self.asked is None:
            return True
        output = row["output"]
        is_stale = output is None or not self.asked.about(source, output, folder)
        return self.verdicts.put_into(row, is_stale=is_stale)

    def _joined(
        self, summary: MergeSummary
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any], Callable[[], Path]]]:
        """Yield each row, the same with its output, and what says the folder of its file."""
        bad = BadRows()
        hidden = 0
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(open_input(self.data))
            reader = RowReader(stream, str(self.data), checks_images=False)
            for row in reader.rows():
                if isinstance(row, BadRow):
                    bad.append(row)
                    continue
                output = self.answers.of(row["index"])
                summary.rows += 1
                summary.without_output += output is None
                hidden += row.get("output") is not None and "reference" in row
                yield row, _join(row, output), lambda: reader.folder
        summary.bad_rows = bad.lines()
        if bad and self.bad_rows != "skip":
            if self.bad_rows == "fail" or not skips_bad_rows(self.ledger):
                raise bad.error()
            summary.notes.append(
                "rows that cannot be used are left out, as the run did; --bad-rows fail stops at "
                "them"
            )
        if summary.rows == summary.without_output:
            raise InputError(
                f"{self.ledger}: it holds no output for any of the {summary.rows:,} rows of "
                f"{self.data}; is it the ledger of this input?"
            )
        if hidden:
            summary.notes.append(
                f'{hidden:,} rows have an "output" and a "reference" of their own; the model\'s '
                "output stands in place of the former"
            )

    def _check_fields(self) -> None:
        unseen = self.plan.fields.unseen if self.plan.fields else []
        if unseen:
            raise InputError(
                f"{self.data}: no row has a field {', '.join(map(repr, unseen))}; check the fields "
                "asked for"
            )

    def _notes(self, counts: Mapping[str, int]) -> Iterator[str]:
        if self.asked is not None and not self.asked.is_known:
            yield (
                f"{verdicts_on(self.ledger)}: its call log does not tell what was asked, so that "
                "verdicts on earlier outputs are not noticed (run --judge asks for them anew)"
            )
        for part, count in counts.items():
            path = self.plan.paths[part]
            if not count:
                yield f"{path}: not one row is in it"
            elif count < MIN_EXAMPLES and self.plan.form.format == "openai-chat":
                yield f"{path}: {count} examples; OpenAI takes no fewer than {MIN_EXAMPLES}"


def _join(row: dict[str, Any], output: Any) -> dict[str, Any]:
    joined = {
        "index": row["index"],
        "instruction": row.get("instruction") or "",
        "input": row.get("input") or "",
        "output": output,
    }
    for name, value in row.items():
        if name not in joined:
            joined[name] = value
        elif name == "output" and value is not None and "reference" not in row:
            joined["reference"] = value  # what the dataset itself knows of the answer
    return joined


def _digest_of(row: Mapping[str, Any]) -> bytes:
    return blake2b(
        prompt_of(row) + b"\n" + jsontext.dump(row["output"]), digest_size=_DIGEST
    ).digest()
