"""What would spoil training: empty, cut off, refused, repeated, echoing and malformed outputs.

Each output is judged by itself, with its row and its finish reason where they are known, in the
order in which they come; no more is kept of it than a few bytes (`repeats`). A reason is a hint: an
answer that repeats the question is wrong in a question-answering dataset and right in one that
corrects spelling. So nothing is dropped unless somebody asks for it by the reason's name.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from . import jsontext
from .attempts import CALLS
from .refusals import is_refusal
from .repeats import Frequent, Repeats
from .schemas import check_of_format

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .schemas import Check

#: Every reason, in the order in which they are told.
REASONS = ("empty", "length", "refusal", "duplicate", "echo", "schema")

#: What they mean.
MEANINGS = {
    "empty": "nothing but white space",
    "length": "cut off at max_tokens",
    "refusal": "the model refused, or its answer was filtered",
    "duplicate": "the same output as an earlier row that asks something else",
    "echo": "the output begins with the question",
    "schema": "not the JSON that was asked for",
}
#: What to do about them.
ADVICE = {
    "empty": "Ask these rows in other words, or another model, in a ledger of their own.",
    "length": "Run with a higher --max-tokens into a new ledger; what is cut off stays so here.",
    "refusal": "Ask these rows in other words, with another --system, or another model.",
    "duplicate": "Look whether the rows ask different things at all; more temperature may help.",
    "echo": "Say in the instruction that the answer alone is wanted. Where answers are meant to "
    "repeat the question (corrections, continuations), this is no fault.",
    "schema": "These outputs came without being checked, and stay: leave them out of the merge, or "
    "run their rows with --response-format into a ledger of their own, where each is checked.",
}
#: Finish reasons that tell of some; a call of a tool is none, but no JSON of a schema either.
ODD_ENDS = ("length", "content_filter", *sorted(CALLS))

#: Characters from which on an output that another row has too is no mere label ("yes", "42").
LONG_ENOUGH = 40
#: Characters from which on a question that stands at the beginning of its answer is an echo; "2 +
#: 2" or a name may well begin its answer.
LONG_ECHO = 24
#: Examples of each reason, and of the most frequent outputs.
EXAMPLES, FREQUENT = 5, 5
#: Characters of a text in an example.
_SHOWN = 300

#: What the call log's code of a null means here.
_CODES = {
    "empty_answer": "empty",
    "length": "length",
    "refusal": "refusal",
    "content_filter": "refusal",
    "content_policy": "refusal",
    "json": "schema",
    "schema": "schema",
}


class Origin(NamedTuple):
    """Where an output comes from, as far as that is known.

    Attributes:
        finish_reason: as the provider gave it; None: nothing odd, or not known.
        check: of what the run asked of all answers; what a row asks for itself goes before it.
            None: nothing.
        is_made: whether a function of the user's (`post`) made it of an answer: no check is for it.
    """

    finish_reason: str | None = None
    check: Check | None = None
    is_made: bool = False


_UNKNOWN = Origin()


@dataclass(slots=True)
class Spoilt:
    """A row as an example: texts are cut."""

    index: str
    output: str
    input: str | None = None


@dataclass
class Finding:
    """The rows with one reason.

    Attributes:
        reason: one of `REASONS`.
        outputs: that stand in the ledger and have it; a merge writes them.
        nulls: rows without an output for this reason; a merge leaves them out.
        examples: the first few of the outputs.
    """

    reason: str
    outputs: int = 0
    nulls: int = 0
    examples: list[Spoilt] = field(default_factory=list)


@dataclass
class Quality:
    """What was found.

    Attributes:
        outputs: that were looked at.
        spoilt: those of them with one reason or more.
        has_rows: whether they were looked at together with their rows: `echo` and `schema` need
            them, and without them `duplicate` counts rows that ask the same, too.
        findings: each reason, in the order of `REASONS`, those that nothing has included.
        frequent: outputs that stand in the most rows, whatever their length.
        at_least: whether counts of `frequent` may be too low.
    """

    outputs: int = 0
    spoilt: int = 0
    has_rows: bool = False
    findings: list[Finding] = field(default_factory=lambda: [Finding(r) for r in REASONS])
    frequent: list[Frequent] = field(default_factory=list)
    at_least: bool = False

    def __getitem__(self, reason: str) -> Finding:
        """Return what was found of one reason."""
        return self.findings[REASONS.index(reason)]

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {**asdict(self), "frequent": [item._asdict() for item in self.frequent]}


class Inspection:
    """Looks at outputs one by one and counts; in memory ten bytes each."""

    def __init__(self) -> None:
        self._repeats = Repeats()
        self._found = Quality()
        self._outputs, self._has_rows = 0, False

    def look(
        self,
        index: str,
        output: Any,
        row: Mapping[str, Any] | None = None,
        origin: Origin = _UNKNOWN,
    ) -> tuple[str, ...]:
        """Judge a row's output and count it; return its reasons, none for a good one.

        Of outputs that repeat each other, the first is good.

        Args:
            index: of the row.
            output: as the ledger has it, no null.
            row: the row as a JSON object; None: not known.
            origin: see there.
        """
        self._outputs += 1
        text = output if isinstance(output, str) else jsontext.dump(output).decode()
        reasons = []
        if not text or text.isspace():
            reasons.append("empty")
        if origin.finish_reason == "length":
            reasons.append("length")
        if is_refusal(text) or origin.finish_reason == "content_filter":
            reasons.append("refusal")
        if row is None:
            asked = hash(index)
        else:
            self._has_rows = True
            asked = _asked(row)
            if repeats_question(row, text):
                reasons.append("echo")
        if self._repeats.add(text, asked) and len(text) >= LONG_ENOUGH:
            reasons.append("duplicate")
        check = None if row is None else check_of(row, origin)
        if check is not None and not check.fits(text):
            reasons.append("schema")
        if reasons:
            self._count(reasons, index, text, row)
        return tuple(reasons)

    def _count(
        self, reasons: list[str], index: str, text: str, row: Mapping[str, Any] | None
    ) -> None:
        self._found.spoilt += 1
        for reason in reasons:
            finding = self._found[reason]
            finding.outputs += 1
            if len(finding.examples) < EXAMPLES:
                asked = None if row is None else " ".join(questions(row))[:_SHOWN]
                finding.examples.append(Spoilt(index[:_SHOWN], text[:_SHOWN], asked))

    def add_null(self, code: str, count: int = 1) -> None:
        """Count rows that have no output, by the call log's code for it."""
        reason = _CODES.get(code)
        if reason is not None:
            self._found[reason].nulls += count

    def result(self) -> Quality:
        """Return what was found so far."""
        self._found.outputs, self._found.has_rows = self._outputs, self._has_rows
        self._found.frequent = self._repeats.most_frequent(FREQUENT)
        self._found.at_least = self._repeats.has_forgotten
        return self._found


def questions(row: Mapping[str, Any]) -> list[str]:
    """Return what a row asks: the last message of the user, or its instruction and its input."""
    messages = row.get("messages")
    if messages is None:
        return [text for text in (row.get("instruction"), row.get("input")) if text]
    for message in reversed(messages):
        if message.get("role") == "user":
            return [text for text in _parts(message.get("content")) if text]
    return []


def _parts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return [text for text in texts if isinstance(text, str)]


def _asked(row: Mapping[str, Any]) -> int:
    messages = row.get("messages")
    asked = None if messages is None else str(messages)
    return hash((row.get("instruction") or "", row.get("input") or "", asked))


def repeats_question(row: Mapping[str, Any], text: str) -> bool:
    """Return whether an output begins with all of a row's question, white space and case apart.

    The question is the row's input, its instruction, or both with the instruction first; one of
    fewer than `LONG_ECHO` characters is never repeated.
    """
    if row.get("messages") is not None:
        return any(_begins_with(text, question) for question in questions(row))
    first, given = row.get("instruction"), row.get("input")
    letter = text[:1]
    if letter.isspace():
        letter = text.lstrip()[:1]
    letter = letter.casefold()[:1]  # it tells nearly always
    if first and (first[0].casefold()[0] == letter or first[0].isspace()):
        both = f"{first} {given}" if given else first
        if _begins_with(text, first) or _begins_with(text, both):
            return True
    if given and (given[0].casefold()[0] == letter or given[0].isspace()):
        return _begins_with(text, given)
    return False


def _begins_with(text: str, question: str) -> bool:
    """Return whether one text begins with another that is long enough."""
    if len(question) < LONG_ECHO:
        return False
    # A look at the beginnings spares most of the whole texts.
    beginning, asked = (_plain(some[: 2 * LONG_ECHO])[:LONG_ECHO] for some in (text, question))
    if len(beginning) == len(asked) == LONG_ECHO and beginning != asked:
        return False
    asked = _plain(question)
    return len(asked) >= LONG_ECHO and _plain(text).startswith(asked)


def _plain(text: str) -> str:
    """Return a text with single spaces and no capitals."""
    return " ".join(text.split()).casefold()


def check_of(row: Mapping[str, Any], origin: Origin = _UNKNOWN) -> Check | None:
    """Return what was asked of a row's output; None: there is nothing to check.

    Args:
        row: whose own `response_format` goes before the run's.
        origin: of the output.
    """
    if origin.is_made or origin.finish_reason in CALLS:
        return None
    params = row.get("params")
    if not params or "response_format" not in params:
        return origin.check
    try:
        return check_of_format(params["response_format"])
    except ValueError:  # no schema: who asks for it is told when the row is sent
        return None
