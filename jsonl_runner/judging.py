"""Outputs judged by a model: rows that ask a template's question about each output.

The verdicts have a ledger of their own beside the first, `output.judge.jsonl`, with a call log:
they are resumed, merged and looked at as any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import jsontext
from .answers import Answers, judged_in, verdicts_on
from .calllog import fingerprints, last_input
from .dataset import dataset_of
from .errors import ConfigError, InputError
from .indexes import IndexMap
from .prompts import messages_of
from .reader import open_input
from .records import fingerprint, fingerprint_number, has_lost_images, to_record
from .rows import check_row, parse_row
from .survey import survey
from .turns import conversations

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Config
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
    text: str = field(init=False, repr=False, compare=False)
    compiled: Template = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from .templates import Template  # noqa: PLC0415  # most runs have no judge

        text, name = self._read()
        object.__setattr__(self, "text", text)
        template = Template(text, name)
        template.check_takes(OUTPUT)
        object.__setattr__(self, "compiled", template)

    def _read(self) -> tuple[str, str]:
        """Return the template's text, and what messages call it."""
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
        return text, name

    def question(self, row: dict[str, Any], output: str) -> dict[str, Any]:
        """Return the row that asks for a verdict on a row's output.

        Raises:
            ValueError: the row cannot be used, or asked about; the message says why.
        """
        check_row(row)
        fields = {**row, OUTPUT: output}
        if row.get(OUTPUT) is not None:
            fields.setdefault(REFERENCE, row[OUTPUT])
        fields.setdefault(ASKED, _question_of(row))
        return {"index": row["index"], **self.compiled.render(fields)}


def rows_to_judge(
    judge: Judge, data: Data, output: Path | None, *, unknown: str | None = None
) -> Dataset:
    """Return the rows that ask for a verdict on each output, with the index of the output.

    Args:
        judge: says how.
        data: the input.
        output: its ledger; None: there is none.
        unknown: stands for an output that is not there yet; None: nobody asks about it.
    """
    answers = None if output is None else Answers(output)

    def output_of(row: dict[str, Any]) -> str | None:
        found = None if answers is None else answers.of(row["index"])
        return unknown if found is None else found

    return _asking(judge, data, output, output_of, unknown)


def as_judge(judge: Judge, config: Config) -> Config:
    """Return the settings of a run as they are for its judge."""
    params = {name: value for name, value in config.params.items() if name != "response_format"}
    return replace(
        config,
        model=judge.model or config.model,
        params={**params, **(judge.params or {})},
        post=None,
    )


def as_judged(dataset: Dataset, ledger: Path) -> Dataset:
    """Return an input as what a judge's ledger answers: its questions; for any other, as it is.

    Args:
        dataset: the input.
        ledger: any.
    """
    outputs = judged_in(ledger)
    seen = None if outputs is None else last_input(ledger)
    if seen is None or seen.judge is None:
        return dataset
    return rows_to_judge(Judge(seen.judge), dataset, outputs)


def check_judge(
    judge: Judge, data: Data, output: Path | None, bad_rows: BadRowsPolicy = "fail"
) -> None:
    """Render a judge's template for each row with some output, before any output is paid.

    Args:
        judge: says how.
        data: the input.
        output: its ledger; None: there is none.
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


class Asked:
    """What a judge was asked when it gave its verdicts.

    Args:
        output: the ledger that it judged.
    """

    def __init__(self, output: Path) -> None:
        verdicts = verdicts_on(output)
        seen = last_input(verdicts)
        text = None if seen is None else seen.judge
        self._judge = None if text is None else Judge(text)
        self._fingerprints = IndexMap() if text is None else fingerprints(verdicts)

    @property
    def is_known(self) -> bool:
        """Whether the call log of the verdicts tells it."""
        return self._judge is not None

    def about(self, row: dict[str, Any], output: str, folder: Callable[[], Path]) -> bool:
        """Return whether that was about a row and an output as they are now, as far as is known.

        Args:
            row: of the input.
            output: its output now.
            folder: returns what the paths of the row's images are relative to.
        """
        asked = self._fingerprints.get(row["index"])
        if self._judge is None or asked is None:
            return True
        try:
            question = parse_row(jsontext.dump(self._judge.question(row, output)))
            record = to_record(question, 0, folder())
        except ValueError:
            return False
        return has_lost_images(record) or asked == fingerprint_number(fingerprint(record))


def _asking(
    judge: Judge,
    data: Data,
    output: Path | None,
    output_of: Callable[[dict[str, Any]], str | None],
    unknown: str | None = None,
) -> Dataset:
    dataset = conversations(dataset_of(data), output, unknown=unknown)
    then = dataset.then

    def expand(row: dict[str, Any]) -> list[dict[str, Any]]:
        questions = []
        for answered in [row] if then is None else then(row):
            check_row(answered)
            found = output_of(answered)
            if found is not None:
                questions.append(judge.question(answered, found))
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
