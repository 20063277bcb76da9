"""The steps of random walks that edit the input and harm the files, and the look after each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machine_stage import Row, World, first_answers

from jsonl_runner.indexfile import path_for as index_file_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from machine_model import Added, Book
    from machine_processes import Processes

    from jsonl_runner.simulator import Call

#: What a row's text may ask the simulator for; `*1` passes with the next call.
MARKS = ["500*1", "429*1", "reset*1", "truncated*1", "null_answer*1", "empty_answer*1"]
MARKS += ["content_policy", "context_length*1", "content_filter*1", "429_bare*2", "malformed*1"]
RARELY = st.integers(0, 3).map(lambda number: number == 0)


class Walk(RuleBasedStateMachine):
    """See above; `test_machine` has the commands."""

    processes: Processes

    @initialize(
        kind=st.sampled_from(["plain", "plain", "samples", "turns"]),
        naming=st.sampled_from(["index", "index", "line", "content"]),
        is_large=RARELY,
        count=st.integers(1, 8),
    )
    def begin(self, *, kind: str, naming: str, is_large: bool, count: int) -> None:
        self.world = World(kind, naming, self.processes, is_large=is_large)
        self.born = 0
        #: An index file as it was some steps ago.
        self.old: bytes | None = None
        self.world.rows = [self.row("") for _ in range(count)]
        self.world.write()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.close()

    def row(self, mark: str, like: Row | None = None) -> Row:
        """Return a row that nobody has seen, or one that asks what another does."""
        self.born += 1
        number = self.born
        name: int | str = number if number % 3 else f"r{number}ü"
        if like is not None:
            return Row(name, list(like.texts))
        turns = 1 + number % 3 if self.world.kind == "turns" else 1
        text = f"row {number}" + (f" [[fault:{mark}]]" if mark else "")
        return Row(name, [text, *(f"row {number}, turn {t}" for t in range(2, turns + 1))])

    # -- the input -------------------------------------------------------------------------------

    @rule(mark=st.sampled_from(["", *MARKS]))
    def append(self, mark: str) -> None:
        self.world.rows += [self.row(mark), self.row(""), self.row("")]
        self.world.write()

    @rule(
        how=st.sampled_from(["put in", "take out", "change", "change", "turn", "back"]),
        place=st.integers(0, 20),
        mark=st.sampled_from(["", "", "", *MARKS]),
        twin=RARELY,
    )
    def edit(self, *, how: str, place: int, mark: str, twin: bool) -> None:
        rows = self.world.rows
        which = place % len(rows)
        if how == "put in":
            rows.insert(place, self.row(mark, rows[which] if twin else None))
        elif how == "take out" and len(rows) > 1:
            del rows[which]
        elif how == "change":
            self.born += 1
            texts = rows[which].texts
            texts[place % len(texts)] = f"changed {self.born}"
        elif how == "turn":
            self.world.rows = rows[which:] + rows[:which]
        else:
            rows.reverse()
        self.world.write()

    @precondition(lambda self: not self.world.is_large)
    @rule(form=st.sampled_from(["jsonl", "jsonl.gz", "json", "csv", "parquet"]))
    def rewrite(self, form: str) -> None:
        world = self.world
        if world.naming == "line" and form not in {"jsonl", "jsonl.gz"}:
            return
        if form in {"csv", "parquet"} and (world.kind == "turns" or world.naming != "index"):
            return
        world.input.unlink()
        world.form = form
        world.write()

    @precondition(lambda self: self.world.kind == "samples")
    @rule(n=st.integers(2, 4))
    def ask_more_often(self, n: int) -> None:
        self.world.n = n

    # -- what is done to the files ---------------------------------------------------------------

    @rule(
        how=st.sampled_from(["cut", "cut", "log", "keep", "swap", "delete", "spoil"]),
        size=st.integers(1, 400),
        of_verdicts=RARELY,
    )
    def harm(self, *, how: str, size: int, of_verdicts: bool) -> None:
        """Cut a ledger (a power cut), or do something to what no result may hang on."""
        book = self.world.verdicts if of_verdicts else self.world.book
        if how == "log":
            book.forget_log()
        elif how != "cut":
            self._touch_index_file(how)
        elif book.path.exists():  # these rows, and no others, are to be done again
            book.path.write_bytes(book.path.read_bytes()[:-size])
            book.read_anew()

    def _touch_index_file(self, how: str) -> None:
        path = index_file_of(self.world.output)
        if how == "swap" and self.old is not None:
            path.write_bytes(self.old)
        elif path.exists():
            data = path.read_bytes()
            if how == "keep":
                self.old = data
            elif how == "spoil":
                path.write_bytes(data[:-7])
            elif how == "delete":
                path.unlink()

    @invariant()
    def nothing_is_left_behind(self) -> None:
        if hasattr(self, "world"):
            self.world.check_files()

    # -- looks ------------------------------------------------------------------------------------

    def take(
        self, *, shape: Any = None, redo: bool = False, torn: bool = False
    ) -> tuple[Added, Added]:
        """Take what a command has added to both ledgers."""
        world = self.world
        books: list[tuple[Book, Callable[[str], Any], Any, bool]] = [
            (world.book, world.task_of, shape, redo),
            (world.verdicts, world.verdict_of, None, True),
        ]
        found = []
        for book, task_of, of_shape, again in books:
            entries = book.added(torn=torn)
            before = {index: book.held.get(index) for index, _ in entries}
            added = book.take(entries, task_of, redo=again, shape=of_shape, known=world.known)
            if torn:
                book.unlogged(before)
            book.note_raws()
            world.known |= {book.held[index].output for index in added.outputs}
            found.append(added)
        return found[0], found[1]

    def check_bill(
        self,
        calls: list[Call],
        added: Added,
        verdicts: Added,
        *,
        shaped: bool = False,
        cached: bool = False,
        lost: int = 0,
    ) -> None:
        """Each answer that was billed stands in a ledger, but for what was in flight at a kill."""
        good, paid = first_answers(calls), added.billed + verdicts.billed
        free = added.free + verdicts.free
        least = Counter(set(paid)) if cached else paid  # rows that ask the same may share one
        assert not least - good, f"nobody has sent: {least - good}"
        over = good - paid - free
        if shaped:  # complaints about answers are other prompts
            over = Counter({p: n for p, n in over.items() if p.startswith(("row", "changed"))})
        assert over.total() <= lost, f"paid, and in no ledger: {over}"
        assert not self.world.batch_bill(), "a batch came to its end meanwhile"
