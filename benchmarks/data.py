"""The rows: the same for every contestant, and a ledger as a run of the program leaves it.

Called as a program (`python benchmarks/data.py ledger …`) where what it needs would stay in the
memory of the process that measures (see machine.py).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "gpt-4.1-mini"
_BATCH = 1000
_ANSWER = (
    "The library opens at nine in the morning on weekdays and at ten on Saturdays; on Sundays and "
    "public holidays it stays closed, and books can be handed back at any time through the slot "
    "beside the main door. Ask at the desk about number "
)


def row(index: int | str, number: int) -> dict[str, Any]:
    """Return one row; its line has about 130 bytes."""
    question = f"When does the library in town number {number} open on a weekday?"
    return {"index": index, "instruction": "Answer in one sentence.", "input": question}


def write_rows(folder: Path, count: int) -> None:
    """Write data.jsonl, and beside it the ready request bodies for who sends only those."""
    data, bodies = folder / "data.jsonl", folder / "data.jsonl.bodies"
    with data.open("w", encoding="utf-8") as rows, bodies.open("w", encoding="utf-8") as requests:
        for number in range(count):
            record = row(number, number)
            messages = [
                {"role": "system", "content": record["instruction"]},
                {"role": "user", "content": record["input"]},
            ]
            rows.write(json.dumps(record) + "\n")
            requests.write(json.dumps({"model": MODEL, "messages": messages}) + "\n")


def written(output: Path) -> int | None:
    """Return how many rows have an output in a result file; None if there is no such file.

    A peer whose results are no JSONL leaves its own count beside it.
    """
    counted = output.with_name(output.name + ".count")
    if counted.exists():
        return int(counted.read_text(encoding="ascii"))
    if not output.exists():
        return None
    with output.open("rb") as lines:
        return sum(not line.rstrip().endswith(b"null}") for line in lines)


def write_input(folder: Path, count: int, indices: str) -> None:
    """Write data.jsonl with whole numbers or with texts as indices."""
    with (folder / "data.jsonl").open("w", encoding="utf-8") as data:
        for batch in _batches(count, indices):
            data.writelines(json.dumps(record) + "\n" for record in batch)


def fill_ledger(folder: Path, count: int, indices: str) -> None:
    """Go on with the ledger and the call log of a run that was stopped, up to the last row but one.

    The run wrote what stands at their beginning; the lines that follow are written by the classes
    that write them in a run.
    """
    from jsonl_runner.calllog import CallLog  # noqa: PLC0415 - only the child needs it
    from jsonl_runner.ledger import Ledger  # noqa: PLC0415

    output = folder / "output.jsonl"
    with output.open(encoding="utf-8") as lines:
        known = {next(iter(json.loads(line))) for line in lines}
    ledger, calls = Ledger(output, "off"), CallLog(output)
    last = str(_index(count - 1, indices))
    for batch in _batches(count, indices):
        missing = [record for record in batch if str(record["index"]) not in known | {last}]
        done = [_outcome(record) for record in missing]
        ledger.append(done)
        calls.append(done)
    calls.close()
    ledger.close()


def _index(number: int, indices: str) -> int | str:
    return f"doc-{number:06}" if indices == "texts" else number


def _batches(count: int, indices: str) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        yield [row(_index(number, indices), number) for number in numbers]


def _outcome(record: dict[str, Any]) -> Any:
    from jsonl_runner.records import Outcome, Record, fingerprint  # noqa: PLC0415

    whole = Record(str(record["index"]), record["instruction"], record["input"])
    started = 1760000000.0 + len(whole.index) / 1000
    return Outcome(
        index=whole.index,
        output=_ANSWER + whole.index,
        attempts=1,
        model=MODEL,
        finish_reason="stop",
        usage={"prompt_tokens": 34, "completion_tokens": 44, "total_tokens": 78},
        latency_s=0.5123,
        key="#1(…0000)",
        fingerprint=fingerprint(whole),
        started=started,
        ended=started + 0.513,
    )


if __name__ == "__main__":
    # `jsonl_runner` is this checkout's, as it is for the programs that are measured.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    _what, _folder, _count, _indices = sys.argv[1:]
    {"input": write_input, "fill": fill_ledger}[_what](Path(_folder), int(_count), _indices)
