"""Outputs judged by a model: rows that ask a template's question about each output.

The verdicts have a ledger of their own beside the first, `output.judge.jsonl`, with a call log:
they are resumed, merged and looked at as any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .answers import Answers
from .dataset import dataset_of
from .errors import ConfigError, InputError
from .prompts import messages_of
from .reader import open_input
from .records import to_record
from .rows import check_row
from .survey import survey
from .turns import conversations

if TYPE_CHECKING:
    from collections.abc import Callable

    from .dataset import Data, Dataset
    from .survey import BadRowsPolicy
    from .templates import Template

#: What stands in place of an output while a template is tried.
_TRIAL = "an output"
#: What a template calls the output, and what the row itself knows of the answer.
OUTPUT, REFERENCE = "output", "reference"
#: What it calls the question, in whatever form a row has put it.
ASKED = "asked"


@dataclass(frozen=True)
class Judge:
    """Who judges outputs, and how.

    Args:
        template: a Jinja2 template (see `templates`) over the row's fields, `output` and `asked`,
            which is what the row was asked as one text; a Path: a file that holds it. A row's own
            `output` is `reference`.
        model: who is asked; None: the model of the run.
        params: of the request beside the run's; None: none.

    Raises:
        ConfigError: the template cannot be read or used; names its line.
    """

    template: str | Path
    model: str | None = None
    params: dict[str, Any] | None = None
    #: Read and compiled once: what is tried before a run is what is asked hours later.
    compiled: Template = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compiled", self._compiled())

    def _compiled(self) -> Template:
        from .templates import Template  # noqa: PLC0415  # most runs have no judge

        text, name = self.template, "judge"
        if isinstance(text, Path):
            name = str(text)
            try:
                text = text.read_text(encoding="utf-8-sig")
            except OSError as error:
                raise ConfigError(f"{name}: cannot be read ({error.strerror})") from None
            except UnicodeDecodeError:
                raise ConfigError(f"{name}: is no UTF-8 text; save it as such") from None
        if not text.strip():
            raise ConfigError(f"{name}: the judge's template is empty; write what is to be asked")
        template = Template(text, name)
        template.check_takes(OUTPUT)
        return template


def rows_to_judge(judge: Judge, data: Data, output: Path) -> Dataset:
    """Return the rows that ask for a verdict on each output, with the index of the output.

    Args:
        judge: says how.
        data: the input.
        output: its ledger.
    """
    answers = Answers(output)
    return _asking(judge, data, output, lambda row: answers.of(row["index"]))


def check_judge(judge: Judge, data: Data, output: Path, bad_rows: BadRowsPolicy = "fail") -> None:
    """Render a judge's template for each row with some output, before any output is paid.

    Args:
        judge: says how.
        data: the input.
        output: its ledger.
        bad_rows: what to do about rows that it cannot be rendered for, and any other bad ones.

    Raises:
        BadRowsError: some rows are bad and not to be skipped, or all are; names the first.
        InputError: the input is a pipe, which would be empty by then.
    """
    with open_input(_asking(judge, data, output, lambda _row: _TRIAL)) as stream:
        if not stream.seekable():
            raise InputError(f"{data}: a judge reads the rows once more; give a file, not a pipe")
        found = survey(stream, str(data), checks_images=False)
    found.check(bad_rows if found.rows else "fail")


def _asking(
    judge: Judge, data: Data, output: Path, output_of: Callable[[dict[str, Any]], str | None]
) -> Dataset:
    dataset, template = conversations(dataset_of(data), output), judge.compiled
    then = dataset.then

    def expand(row: dict[str, Any]) -> list[dict[str, Any]]:
        questions = []
        for answered in [row] if then is None else then(row):
            check_row(answered)
            found = output_of(answered)
            if found is not None:
                fields = {**answered, OUTPUT: found}
                if answered.get(OUTPUT) is not None:
                    fields.setdefault(REFERENCE, answered[OUTPUT])
                fields.setdefault(ASKED, _question_of(answered))
                questions.append({"index": answered["index"], **template.render(fields)})
        return questions

    return replace(dataset, then=expand)


def _question_of(row: dict[str, Any]) -> str:
    """Return what a row that was checked was asked, its messages one after the other."""
    texts = []
    for message in messages_of(to_record(row)):
        content = message.get("content")
        parts: list[dict[str, Any]] = content if isinstance(content, list) else [{"text": content}]
        texts += [str(part["text"]) for part in parts if isinstance(part.get("text"), str)]
    return "\n\n".join(texts)
