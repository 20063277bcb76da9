"""Many questions, one a line: answered in their order on flat memory, or kept in a ledger."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from . import jsontext
from .atomic import replacing
from .errors import InputError
from .indexes import IndexMap
from .job import Job, check_paths
from .locking import locked
from .records import Outcome, Record
from .rows import MAX_ROW_BYTES
from .runner import run
from .watching import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

    from .assembly import StandIn
    from .clock import Clock, Stop
    from .config import Config
    from .session import Call, Session
    from .summary import RunSummary

#: Questions that may be asked or answered ahead of the one whose answer is waited for, a thread:
#: a call that takes eight times as long as the others holds nobody up, and the answers kept
#: meanwhile are few whatever the file's length.
_AHEAD = 8
_LEAST_WINDOW = 64
#: Seconds between two looks at the wish to stop.
_LOOK_S = 0.1

#: Characters of an index that is the question itself, and of its beginning in a longer one.
_WHOLE, _BEGINNING = 80, 60
_MARK = re.compile(r"#\d+@[0-9a-f]{16}$")


class Question(NamedTuple):
    """A question of a file.

    Attributes:
        line: its line number, from 1.
        text: without blanks around it.
    """

    line: int
    text: str


def read_questions(stream: IO[bytes], name: str) -> Iterator[Question]:
    r"""Yield the question in each line that is not blank; no line is read ahead of it.

    Args:
        stream: UTF-8, opened for reading bytes; a byte order mark and `\r\n` are no part of it.
        name: what messages call it.

    Raises:
        InputError: a line is no UTF-8 or too long, or there is no question at all.
    """
    number, found = 0, False
    while line := stream.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            size = f"{MAX_ROW_BYTES / 2**20:g} MiB"
            raise InputError(
                f"{name}:{number}: the line is longer than {size}; one question a line"
            )
        try:
            text = line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").decode().strip()
        except UnicodeDecodeError:
            raise InputError(
                f"{name}:{number}: this is no UTF-8 text; convert the file (iconv -t UTF-8)"
            ) from None
        if text:
            found = True
            yield Question(number, text)
    if not found:
        raise InputError(f"{name}: there is no question in it; write one a line")


@contextlib.contextmanager
def open_questions(source: Path | None, stdin: IO[bytes] | None = None) -> Iterator[IO[bytes]]:
    """Open a file of questions.

    Args:
        source: the file; None: standard input.
        stdin: read then; None: the process's own.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        if source is not None:
            stream: IO[bytes] = source.open("rb")
        else:
            # Not sys.stdin: a thread that waits in it for ever would make Python abort at its end.
            stream = stdin or open(0, "rb", closefd=False)  # noqa: SIM115
    except FileNotFoundError:
        raise InputError(f"{source}: there is no such file; check the path") from None
    except OSError as error:
        name = "standard input" if source is None else source
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None
    if source is None:
        yield stream
        return
    with stream:
        yield stream


def count_questions(stream: IO[bytes], name: str) -> int | None:
    """Look at all questions before any is paid for, and go back to where it began.

    Returns:
        How many there are; None for a pipe, which can be read once only.

    Raises:
        InputError: see `read_questions`.
    """
    if not stream.seekable():
        return None
    start = stream.tell()
    count = sum(1 for _ in read_questions(stream, name))
    stream.seek(start)
    return count


def record_of(question: Question, system: str | None) -> Record:
    """Return a question as a Record whose index is its line; `system` is the system message."""
    if system:
        return Record(str(question.line), system, question.text, line=question.line)
    return Record(str(question.line), question.text, line=question.line)


def window_of(threads: int) -> int:
    """Return how many questions may be under way, waiting, or answered ahead of their turn."""
    return max(_LEAST_WINDOW, _AHEAD * threads)


def answers_in_order(
    session: Session,
    records: Iterable[Record],
    *,
    window: int | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> Generator[tuple[Record, Outcome]]:
    """Yield each Record with its Outcome, in the order of the Records, as soon as can be.

    At most `session.threads` calls are under way. The Records are taken in a thread of its own, as
    there is room for them, so that a slow source holds up no answer. When the generator is closed,
    what is under way is given up.

    Args:
        session: makes the calls.
        records: what is asked.
        window: Records taken whose answer has not been yielded and dealt with, at the most; this
            alone bounds the memory. None: see `window_of`.
        waiting: is called every 0.1 s while an answer is waited for.

    Raises:
        RunStoppedError: no key or endpoint can serve, or the session was ended; what was answered
            ahead of the first question without an answer has been yielded.
        BaseException: what `records` raised, after the answers to what it gave before.
    """
    asking = _Asking(session, records, window_of(session.threads) if window is None else window)
    try:
        while (asked := asking.next(waiting)) is not None:
            record, call = asked
            outcome = _outcome(call, waiting)
            del call, asked
            yield record, replace(outcome, index=record.index)
            asking.room.release()
    finally:
        asking.end()


class _Asking:
    """Takes Records and asks them, a window's width ahead of the answers."""

    def __init__(self, session: Session, records: Iterable[Record], window: int) -> None:
        self._session = session
        self._records = records
        self._ended = False
        #: What has been asked, in order; at the end None or what the source raised.
        self._asked: queue.SimpleQueue[tuple[Record, Call] | BaseException | None]
        self._asked = queue.SimpleQueue()
        self.room = threading.Semaphore(window)
        threading.Thread(target=self._ask, name="questions", daemon=True).start()

    def _ask(self) -> None:
        error: BaseException | None = None
        try:
            for record in self._records:
                self.room.acquire()
                if self._ended:
                    return
                call = self._session.submit(record)
                self._asked.put((record, call))
                if self._ended:  # meanwhile: `end` may have come before it was put
                    call.end()
        except BaseException as raised:  # noqa: BLE001  # raised again where answers are wanted
            error = raised
        finally:
            self._asked.put(error)

    def next(self, waiting: Callable[[], None]) -> tuple[Record, Call] | None:
        """Return what was asked next, None at the end."""
        while True:
            try:
                asked = self._asked.get(timeout=_LOOK_S)
            except queue.Empty:
                waiting()
                if self._session.is_over:  # the source may hang for ever
                    # A session that is over answers with its reason, and asks nobody.
                    return Record("0"), self._session.submit(Record("0"))
                continue
            if isinstance(asked, BaseException):
                raise asked
            return asked

    def end(self) -> None:
        """Give up what is under way, and take no more."""
        self._ended = True
        self.room.release()
        with contextlib.suppress(queue.Empty):
            while True:
                asked = self._asked.get_nowait()
                if isinstance(asked, tuple):
                    asked[1].end()


def _outcome(call: Call, waiting: Callable[[], None]) -> Outcome:
    try:
        while True:
            try:
                return call.answered.result(_LOOK_S)
            except TimeoutError:
                if call.answered.done():
                    raise
                waiting()
    finally:
        call.end()


def questions_path(output: Path) -> Path:
    """Return the data file that goes with a ledger of answers."""
    return output.with_name(output.stem + ".questions.jsonl")


def index_of(text: str, repeat: int) -> str:
    """Return the index of a question, which depends on nothing but its words.

    So questions may be put into another order, added and taken out, and none ever meets another's
    answer. A short question is its own index.

    Args:
        text: the question.
        repeat: 1, 2, … where the file asks it several times.
    """
    if repeat == 1 and len(text) <= _WHOLE and text.isprintable() and not _MARK.search(text):
        return text
    digest = blake2b(text.encode(), digest_size=8).hexdigest()
    beginning = "".join(char if char.isprintable() else " " for char in text[:_BEGINNING])
    return f"{beginning}{'…' if len(text) > _BEGINNING else ''} #{repeat}@{digest}"


@dataclass(frozen=True)
class QuestionsJob:
    """What a run over a file of questions is about.

    Attributes:
        source: a question a line; None: standard input, which is read to its end first.
        output: the ledger.
        system: the system message. Another one makes all questions changed ones.
        redo_changed: whether these are called again.
        quiet: whether nothing is shown on the way.
        views: how it is watched, beside its progress.
    """

    source: Path | None
    output: Path
    system: str | None = None
    redo_changed: bool = False
    quiet: bool = False
    views: Views = Views()  # noqa: RUF009  # frozen

    @property
    def name(self) -> str:
        """What messages call the source."""
        return "standard input" if self.source is None else str(self.source)


def run_questions(
    config: Config,
    job: QuestionsJob,
    *,
    function: StandIn | None = None,
    clock: Clock | None = None,
    stdin: IO[bytes] | None = None,
    stop: Stop | None = None,
) -> RunSummary:
    """Do every question that has no answer in a ledger yet; see `runner.run`.

    The questions become the rows of a data file beside the ledger (`questions_path`), with which
    status, merge and compact can be used.

    Args:
        config: the settings.
        job: the questions, the ledger and how to treat them.
        function: stands in for the provider.
        clock: where the time comes from.
        stdin: read when there is no source; None: the process's own.
        stop: ends the run; None: a wish of its own.

    Raises:
        JsonlRunnerError: nothing was begun, or the run stopped early (see its `summary`).
    """
    data = questions_path(job.output)
    check_paths(Job(job.source, job.output))
    _check_data_file(data, job.source)
    with locked(data):
        with open_questions(job.source, stdin) as stream, replacing(data) as rows:
            for row in _rows(stream, job):
                rows.write(row)
        work = Job(
            data,
            job.output,
            redo_changed=job.redo_changed,
            name="jsonl-runner query",
            quiet=job.quiet,
            views=job.views,
        )
        return run(config, work, function=function, clock=clock, stop=stop)


def _rows(stream: IO[bytes], job: QuestionsJob) -> Iterator[bytes]:
    repeats = IndexMap()
    for question in read_questions(stream, job.name):
        repeat = (repeats.get(question.text) or 0) + 1
        repeats.set(question.text, repeat)
        record = record_of(question, job.system)
        row: dict[str, Any] = {"index": index_of(question.text, repeat), "line": question.line}
        row["instruction"] = record.instruction
        if record.input:
            row["input"] = record.input
        line = jsontext.dump(row)
        if len(line) > MAX_ROW_BYTES:
            raise InputError(f"{job.name}:{question.line}: the question is too long")
        yield line + b"\n"


def _check_data_file(data: Path, source: Path | None) -> None:
    """Refuse to write over a file that is not ours.

    Raises:
        InputError: it is the questions' own, or somebody else's.
    """
    try:
        if source is not None and source.exists() and data.exists() and data.samefile(source):
            raise InputError(f"{data}: the rows of the questions go there; name another output")
        with data.open("rb") as stream:
            row = jsontext.load(stream.readline(MAX_ROW_BYTES) or b'{"index": "", "line": 0}')
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        row = None
    if not isinstance(row, dict) or not {"index", "line"} <= row.keys():
        raise InputError(
            f"{data}: the rows of the questions go there, but it holds something else; move it "
            "away, or name another output"
        )
