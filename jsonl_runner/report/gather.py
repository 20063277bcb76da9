"""A report's numbers, from the files: each is read once, the ledger twice where rows failed.

Memory holds a bit for each row, a number for each failed one, and what is shown; no text of a row
but the sample's beginnings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from .. import jsontext
from ..calllog import path_for
from ..errors import InputError
from ..indexes import IndexSet, place_of, places_of
from ..judging import as_judged
from ..ledger import entries_of, parse_line
from ..lines import LineReader, read_blocks
from ..outputs import Outputs
from ..prompts import messages_of, readable
from ..reader import GroupReader, open_input
from ..recipes import dataset_for
from ..secret import shorten
from ..summary import turns_line
from ..terminal import counted
from ..turns import TurnCount, turn_by_turn
from .calls import MAX_NAME, Calls, amount, name_of, tokens_of, whole
from .numbers import Example, Report, Row, Rows, Text
from .reasons import EXAMPLES, NOT_SAID, UNKNOWN, Reasons, code_of, message_of
from .sample import Lottery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..dataset import Data, Dataset
    from ..indexes import Place
    from ..ledger import Damage
    from ..lines import Lines
    from ..pricing import Prices
    from ..records import Record

#: Rows of a sample, and the most of them.
SAMPLE, MAX_SAMPLE = 200, 2000
#: Characters kept of all texts of a sample, and of one text.
_ALL_TEXTS, _LONGEST_TEXT = 2_400_000, 4000
_STATUSES = ("ok", "failed")
#: Stands in every entry of a failed row.
_FAILED = b'"failed"'


def gather(
    ledger: Path, data: Data | None = None, *, sample: int = SAMPLE, prices: Prices | None = None
) -> Report:
    """Return what can be said of a ledger.

    Args:
        ledger: `output.jsonl`; its call log is looked for beside it.
        data: its input; None: what only it tells is not said.
        sample: rows to look at, up to `MAX_SAMPLE`.
        prices: of the user's own, for calls of which the log tells no cost; None: such calls have
            none.

    Raises:
        InputError: the ledger or the input is not there, or cannot be used.
        LedgerError: a file cannot be read, or is no ledger.
    """
    if not ledger.is_file():
        raise InputError(f"{ledger}: there is no such ledger; make it with jsonl-runner run")
    files = _Files(ledger, min(sample, MAX_SAMPLE), prices)
    files.read_ledger()
    files.read_log()
    if data is None:
        files.look_at_outputs()
    else:
        files.read_data(as_judged(dataset_for(data, ledger), ledger))
    return files.report()


class _Files:
    """The files of one report, and what is known of them so far."""

    def __init__(self, ledger: Path, sample: int, prices: Prices | None) -> None:
        self._ledger = ledger
        self._size = sample
        self._cut = max(100, min(_LONGEST_TEXT, _ALL_TEXTS // max(1, 3 * sample)))
        self._done = IndexSet()
        self._failed = IndexSet()
        self._rows = Rows()
        self._outputs = Outputs(ledger)
        self._calls = Calls(prices)
        self._reasons = Reasons()
        self._sample: dict[Place, Row] = {}
        #: Of the input, by the rows of the sample; and which turn of the row there it is.
        self._lines: dict[Place, tuple[int, int]] = {}
        self._data: str | None = None

    def read_ledger(self) -> None:
        """Count the outcomes and choose the sample."""
        damage: list[Damage] = []
        lottery, nulls = Lottery(self._size), False
        for entries in entries_of(self._ledger, damage):
            self._outputs.note(entries)
            if entries.outputs is None:
                self._done.put_all(entries.places)
                lottery.put((place, at) for place, at, _ in entries)
                continue
            for place, at, has_output in entries:
                if has_output:
                    self._done.put(place)
                    lottery.put([(place, at)])
                else:
                    nulls = True
        failed = self._failed_ones() if nulls else {}
        self._rows = Rows(len(self._done), len(self._failed), damaged=len(damage))
        # Failed rows take half of the sample at the most, unless there are too few others.
        others = lottery.chosen()
        failed = dict(list(failed.items())[: max(self._size // 2, self._size - len(others))])
        others = lottery.chosen(self._size - len(failed))
        reader = LineReader(self._ledger)
        try:
            for place, at in (*failed.items(), *others.items()):
                self._take(place, reader.line_at(at))
        finally:
            reader.close()

    def _failed_ones(self) -> dict[Place, int]:
        """Find the rows that have nulls only; return some of them."""
        lottery = Lottery(self._size)
        for entries in entries_of(self._ledger, []):
            if entries.outputs is None:
                continue
            for place, at, has_output in entries:
                if not has_output and not self._done.has(place):
                    self._failed.put(place)
                    lottery.put([(place, at)])
        return lottery.chosen()

    def _take(self, place: Place, line: bytes) -> None:
        try:
            index, output = parse_line(line)
        except ValueError:
            return
        if place_of(index) != place:  # the ledger was rewritten meanwhile
            return
        row = Row(shorten(index, MAX_NAME))
        if output is None:
            row.code, row.message = UNKNOWN, NOT_SAID
        else:
            row.output = self._text(output)
        self._sample[place] = row

    def _text(self, value: object) -> Text:
        text = value if isinstance(value, str) else jsontext.dump(value).decode()
        return Text(text[: self._cut], len(text))

    def read_log(self) -> None:
        """Count what the call log holds."""
        path = path_for(self._ledger)
        self._calls.log.found = path.is_file()
        for block in read_blocks(path):
            for entries in self._entries_of(block):
                self._take_entries(entries)
        if not len(self._failed):
            return
        for block in read_blocks(path):
            for line in block.lines:
                found: Any = _load(line) if _FAILED in line else None
                if _is_entry(found) and found["status"] == "failed":
                    self._reasons.exemplify(found)

    def _take_entries(self, entries: list[dict[str, Any]]) -> None:
        """Count entries of the call log."""
        places = places_of([entry["index"] for entry in entries])
        for entry, place in zip(entries, places, strict=True):
            self._calls.add(entry)
            self._outputs.provenance.add(entry, place)
            has_failed = entry["status"] == "failed"
            if has_failed and self._failed.has(place):
                self._reasons.add(place, entry)
            row = self._sample.get(place)
            if row is not None and has_failed == (row.output is None):
                _tell(row, entry)

    def _entries_of(self, block: Lines) -> Iterator[list[dict[str, Any]]]:
        """Yield the entries of a block, those of each run by themselves; count the other lines."""
        log, entries = self._calls.log, []
        for item in _loaded(block.lines):
            if _is_entry(item):
                entries.append(item)
            elif isinstance(item, dict) and "run" in item and "index" not in item:
                yield entries
                entries = []
                self._outputs.provenance.began(item)
                log.runs += 1
            elif not block.torn:  # a line that is being written is no damage
                log.passed_over += 1
        yield entries

    def look_at_outputs(self) -> None:
        """Look at the quality of the outputs, where there is no input to compare them with."""
        self._outputs.look_at_all()

    def read_data(self, data: Dataset) -> None:
        """Compare with the input, and take the sample's rows from it."""
        self._data = data.name
        rows, total, bad, without = self._rows, 0, 0, 0
        turns = TurnCount(data)
        for turn, part in enumerate(turn_by_turn(data, self._ledger)):
            with open_input(part) as stream:
                for group in GroupReader(stream, str(data), checks_images=False).groups():
                    self._outputs.look(group)
                    total += len(group.places)
                    if not turn:  # of later turns the same rows are bad
                        bad += len(group.bad)
                        turns.see(group)
                    lacking = self._done.lacking(group.places)
                    without += sum(not self._failed.has(group.places[k]) for k in lacking)
                    for k, place in enumerate(group.places):
                        if place in self._sample:
                            self._show(place, group.record(k), turn)
        rows.total, rows.bad, rows.left = total, bad, without
        rows.foreign = rows.done + rows.failed - (total - without)
        rows.turns, rows.conversations = turns.turns, turns.conversations

    def _show(self, place: Place, record: Record, turn: int) -> None:
        row = self._sample[place]
        self._lines[place] = record.line, turn
        if record.messages is not None or record.images:
            turns = [_turn(message) for message in messages_of(record)]
            row.input = self._text("\n\n".join(turns))
        elif record.input:
            row.input = self._text(record.input)
        if record.instruction and not record.images:
            row.instruction = self._text(record.instruction)

    def report(self) -> Report:
        """Return all of it."""
        calls = self._calls
        places = list(self._sample)
        if self._lines:  # the order of the input, where there is one
            places.sort(key=lambda place: self._lines.get(place, (2**63, 0)))
        rows = [self._sample[place] for place in places]
        rows.sort(key=lambda row: row.output is not None)
        failures = self._reasons.groups(self._rows.failed)
        for group in failures:
            self._outputs.add_null(group.code, group.count)
        report = Report(
            ledger=self._ledger.name,
            data=self._data,
            rows=self._rows,
            log=calls.log,
            work=calls.work,
            total=calls.total,
            price_source=calls.price_source,
            spent=calls.spent(),
            timeline=calls.clockwork.result(),
            latency=calls.latency.result(),
            failures=failures,
            quality=self._outputs.result(),
            batches=calls.batches(),
            keys=calls.keys(),
            sample=rows,
        )
        for group in report.failures:
            if group.code == UNKNOWN and not group.examples:
                unknown = [row for row in rows if row.code == UNKNOWN][:EXAMPLES]
                group.examples = [Example(row.index, NOT_SAID) for row in unknown]
        report.notes = list(_notes(report, path_for(self._ledger).name))
        return report


def _loaded(lines: list[bytes]) -> list[Any]:
    try:
        return list(map(orjson.loads, lines))
    except orjson.JSONDecodeError:
        return [_load(line) for line in lines if line.strip()]


def _load(line: bytes) -> Any:
    try:
        return jsontext.load(line)
    except ValueError:
        return None


def _is_entry(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("index"), str)
        and item.get("status") in _STATUSES
    )


def _tell(row: Row, entry: dict[str, Any]) -> None:
    """Note what an entry says of a row of the sample."""
    prompt, completion = tokens_of(entry.get("usage"))
    seconds, attempts = amount(entry.get("latency_s")), whole(entry.get("attempts"))
    facts = {
        "model": name_of(entry.get("model")),
        "took": f"{seconds:.2f} s" if seconds else "",
        "tokens": f"{prompt:,} in, {completion:,} out" if prompt or completion else "",
        "calls": f"{attempts:,}" if attempts > 1 else "",
        "finish reason": name_of(entry.get("finish_reason")),
        "key": name_of(entry.get("key")),
        "batch": name_of(entry.get("batch")),
        "from": "the cache" if entry.get("cached") is True else "",
    }
    row.facts = {name: value for name, value in facts.items() if value}
    if row.output is None:
        row.code, row.message = code_of(entry), message_of(entry)


def _turn(message: dict[str, Any]) -> str:
    return f"{message['role']}: {readable(message)}"


def _notes(report: Report, log_name: str) -> Iterator[str]:
    rows, log = report.rows, report.log
    if not log.found:
        yield (
            f"There is no call log ({log_name}) beside the ledger. Times, latency, tokens, cost, "
            "keys and the reasons of failures stand in it alone, so nothing is said of them."
        )
    elif log.entries < rows.done + rows.failed:
        yield (
            f"The call log has {log.entries:,} entries for {rows.done + rows.failed:,} rows of the "
            "ledger: what is said of calls, tokens, cost and times is of these alone."
        )
    if report.data is None:
        yield "No input was given (--data): inputs, and rows that are left, are not shown."
    if rows.conversations:
        line = turns_line(rows.total or 0, rows.turns, rows.conversations)
        yield f"{line[0].upper()}{line[1:]}: each is counted, as a run does."
    for count, text in (
        (log.passed_over, "of the call log, damaged or of another version, are passed over."),
        (rows.damaged, "of the ledger cannot be read; their rows count as not done."),
    ):
        if count:
            yield f"{counted(count, 'line')} {text}"
    for count, text in (
        (rows.foreign or 0, "of the ledger, counted here, not found in the input."),
        (rows.bad or 0, "of the input cannot be used (jsonl-runner validate names them)."),
        (report.work.cached, "answered from the cache, without a call and at no cost."),
        (
            report.work.batch,
            "came in batches, and count neither in rows a second nor in latency.",
        ),
    ):
        if count:
            yield f"{counted(count, 'row')} {text}"
    if report.total.unpriced:
        yield (
            f"The log tells no cost of {report.total.unpriced:,} entries with tokens, since no "
            "price of their model was known: the cost leaves them out (--price, --prices give one)."
        )
