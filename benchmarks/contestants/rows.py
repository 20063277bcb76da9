"""What every adapter needs: its four arguments, the rows, the messages of a row.

An adapter is called as `python -m benchmarks.contestants.NAME data.jsonl output.jsonl BASE_URL N`
by the interpreter of its peer's environment, with this checkout in PYTHONPATH; N is the number of
calls in flight. It does what the peer's documentation tells its user to do.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "gpt-4.1-mini"
KEY = "sk-benchmark-0000"


class Job(NamedTuple):
    """What an adapter is to do."""

    data: str
    output: str
    base_url: str
    in_flight: int


def job() -> Job:
    """Return what the command line asks for."""
    data, output, base_url, in_flight = sys.argv[1:]
    return Job(data, output, base_url, int(in_flight))


def read(path: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSONL file."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - also for old interpreters
        for line in file:
            yield json.loads(line)


def messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row's messages, as all contestants send them."""
    return [
        {"role": "system", "content": row["instruction"]},
        {"role": "user", "content": row["input"]},
    ]


def write(path: str, answers: list[tuple[Any, str]]) -> None:
    """Write answers that a peer only returns, a line each."""
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.writelines(json.dumps({str(index): text}) + "\n" for index, text in answers)
