"""What the random walks of `test_machine` go by: which rows are owed, and what each may have cost.

A `Book` is a ledger as it must be: every byte that was ever in it, and the last output of each
index with what it was asked. It reads what a command has added, line by line, and says which
prompts must have been billed for it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jsonl_runner.calllog import path_for
from jsonl_runner.simulator import answer_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MODEL = "gpt-4.1-mini"
SHAPE = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "schema": {
            "type": "object",
            "properties": {"answer": {"type": "string"}},
            "required": ["answer"],
        },
    },
}

#: What is asked: messages.
Asked = tuple[tuple[str, str], ...]


def asked(text: str, system: str | None = "Repeat.") -> Asked:
    """Return what a row of a text asks."""
    return ((("system", system),) if system else ()) + (("user", text),)


def answer_to(question: Asked, shape: Any = None) -> str:
    """Return what the simulator answers."""
    messages = [{"role": role, "content": content} for role, content in question]
    body: dict[str, Any] = {"model": MODEL, "messages": messages}
    return answer_text(body if shape is None else {**body, "response_format": shape})


@dataclass(frozen=True)
class Task:
    """One call that is owed: the index in the ledger, and what is asked."""

    index: str
    question: Asked

    @property
    def prompt(self) -> str:
        """What the simulator's journal calls it."""
        return self.question[-1][1]


@dataclass
class Held:
    """An output that stands in a ledger, and what it answers; None: nobody knows any more."""

    output: str
    question: Asked | None


@dataclass
class Added:
    """What a command has added to a ledger.

    Attributes:
        outputs, nulls: the indices, in their order.
        billed: prompts whose first answer stands in it, and was paid for by a call now.
        free: prompts whose output may have come without a call: from the cache, or the log.
        repaired: outputs that are an answer to a complaint about another one.
    """

    outputs: list[str] = field(default_factory=list)
    nulls: list[str] = field(default_factory=list)
    billed: Counter[str] = field(default_factory=Counter)
    free: Counter[str] = field(default_factory=Counter)
    repaired: int = 0


class Book:
    """See above.

    Args:
        path: the ledger.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = self._tail = b""
        self.held: dict[str, Held] = {}
        self.nulls: set[str] = set()
        #: Answers in the call log that some row may be given without a call.
        self.raws: dict[str, set[str]] = {}
        #: Outputs that the call log tells of.
        self._logged: Counter[str] = Counter()

    def is_owed(self, task: Task, *, redo: bool = False) -> bool:
        """Whether a run has to ask it."""
        return task.index not in self.held or (redo and self.is_changed(task))

    def is_changed(self, task: Task) -> bool:
        """Whether it has an output that answers something else."""
        held = self.held.get(task.index)
        return held is not None and held.question not in (None, task.question)

    def added(self, *, torn: bool = False) -> list[tuple[str, str | None]]:
        """Return the entries that have come since the last look; everything else is as it was.

        Args:
            torn: whether the last line may have been cut off, or lack its newline.
        """
        data = self.path.read_bytes() if self.path.exists() else b""
        assert data.startswith(self.bytes), f"{self.path.name}: lines have changed or are lost"
        more = data[len(self.bytes) :]
        if self.bytes and not self.bytes.endswith(b"\n"):
            more = more.removeprefix(b"\n")  # the newline that was missing
        lines = more.split(b"\n")
        tail = lines.pop()
        self.bytes = data[: len(data) - len(tail)]
        if tail:
            was_there = tail == self._tail  # and nobody has written since
            assert torn or was_there, f"{self.path.name}: half a line is left: {tail!r}"
            lines += [tail] if _is_whole(tail) else []
        self._tail = tail
        entries = [json.loads(line) for line in lines]
        assert all(len(entry) == 1 for entry in entries)
        if tail and lines and lines[-1] == tail:
            self.bytes = data  # the next run gives it its newline
        return [item for entry in entries for item in entry.items()]

    def take(
        self,
        entries: list[tuple[str, str | None]],
        task_of: Callable[[str], Task],
        *,
        redo: bool = False,
        shape: Any = None,
        known: set[str] | None = None,
    ) -> Added:
        """Check what has come against what was owed, and count it.

        Args:
            entries: of a command.
            task_of: returns what an index asks; raises KeyError for one that asks nothing.
            redo: whether changed rows were to be asked again.
            shape: the `response_format` of the run.
            known: the texts that stand in the cache.
        """
        found = Added()
        assert len({index for index, _ in entries}) == len(entries), "a row came twice"
        for index, output in entries:
            task = task_of(index)
            is_unknown = index in self.held and self.held[index].question is None
            is_owed = self.is_owed(task, redo=redo) or (redo and is_unknown)
            assert is_owed, f"{index} was done, and is done again"
            if output is None:
                found.nulls.append(index)
                self.nulls |= {index} - self.held.keys()
                continue
            found.outputs.append(index)
            self.nulls.discard(index)
            self._weigh(found, task, output, shape, known or set())
            self.held[index] = Held(output, task.question)
        return found

    def _weigh(self, found: Added, task: Task, output: str, shape: Any, known: set[str]) -> None:
        """Count what an output must have cost; refuse one that the simulator never gave."""
        if output == answer_to(task.question, shape):
            is_free = output in known or output in self.raws.get(task.index, ())
            (found.free if is_free else found.billed)[task.prompt] += 1
        elif output not in self.raws.get(task.index, ()):
            assert shape is not None, f"{task.index} has an output that is not its own: {output}"
            assert isinstance(json.loads(output)["answer"], str)
            found.repaired += 1

    def note_raws(self) -> None:
        """Remember the answers that the call log keeps of rows without an output."""
        self._logged.clear()
        for entry in self.log():
            self._logged[entry["index"]] += entry["status"] == "ok"
            if isinstance(entry.get("raw"), str):
                self.raws.setdefault(entry["index"], set()).add(entry["raw"])

    def log(self) -> Iterator[dict[str, Any]]:
        """Yield the entries of the call log."""
        path = path_for(self.path)
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                if _is_whole(line) and "run" not in (entry := json.loads(line)):
                    yield entry

    def unlogged(self, before: dict[str, Held | None]) -> None:
        """After a kill: of what the call log does not know, nobody knows what it answered."""
        known = Counter(entry["index"] for entry in self.log() if entry["status"] == "ok")
        for index, held in before.items():
            if index in self.held and known[index] <= self._logged[index]:
                self.held[index].question = held.question if held else None

    def forget_log(self) -> None:
        """The call log is gone: nobody knows what the outputs answered."""
        path_for(self.path).unlink(missing_ok=True)
        self.raws.clear()
        self._logged.clear()
        for held in self.held.values():
            held.question = None

    def read_anew(self) -> set[str]:
        """Take the ledger as it stands, after somebody cut it; return the indices that are lost."""
        before = self.held
        self.bytes, self.held, self.nulls = b"", {}, set()
        for index, output in self.added(torn=True):
            if output is not None:
                same = before.get(index)
                question = same.question if same and same.output == output else None
                self.held[index] = Held(output, question)
                self.nulls.discard(index)
            else:
                self.nulls |= {index} - self.held.keys()
        return before.keys() - self.held.keys()


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
