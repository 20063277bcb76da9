"""`jsonl-runner interactive`."""

from __future__ import annotations

import contextlib
import difflib
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import (
    ConfigError,
    InputError,
    JsonlRunnerError,
    RunInterruptedError,
    RunStoppedError,
)
from ..terminal import harmless
from .calling import config_of, model_of, param_option, simulate_option
from .help import Sectioned
from .options import config_options, console, console_options, place_of, say
from .shaping import system_text
from .typing_in import typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..config import Config
    from ..conversation import Conversation
    from .typing_in import Typed

#: Seconds an answer of `--simulate` takes: long enough to see it come.
_SIMULATED_LATENCY_S = 1.5
_ENDS = frozenset({"exit", "quit", "/exit", "/quit"})
#: A first word with another slash is a path, and part of a question.
_COMMAND = re.compile(r"/([A-Za-z]+)(?:\s+(.*))?", re.DOTALL)
#: Seconds of silence after which it is said what holds an answer up, and then said again; and after
#: which it is said that nothing does but the model.
_PATIENCE_S, _MORE_PATIENCE_S, _THINKING_S = 4.0, 30.0, 10.0


@click.command(cls=Sectioned, short_help="Talk to a model.")
@click.option("--system", default="", metavar="TEXT|@FILE", help="System message.")
@click.option("--temperature", type=float, help="Sampling temperature.")
@click.option("--max-tokens", type=int, help="Longest answer, in tokens.")
@param_option
@click.option(
    "--cache/--no-cache",
    default=None,
    help="Whether what was asked before, word for word, is answered from the cache.  "
    "[default: no, unless the configuration says cache: true]",
)
@config_options
@simulate_option
@console_options
def interactive(**options: Any) -> int:
    """Talk to a model that remembers what was said.

    Answers are shown while they come; Ctrl-C stops one, exit, quit or Ctrl-D ends. /help lists the
    commands. With a pipe on stdin each line is a turn, and nothing but the answers is on stdout.

    \b
    Example:
      jsonl-runner interactive --simulate
      printf 'My name is Ann.\\nWho am I?\\n' | jsonl-runner interactive --simulate
    """
    from ..conversation import Conversation  # noqa: PLC0415  # --help need not wait for it

    if sys.stdin is None or sys.stdout is None:
        raise click.UsageError("there is nobody to talk to: stdin or stdout is closed")
    options = {"threads": 1, "max_retries": None, "timeout": None, **options}
    options["simulated_latency_s"] = _SIMULATED_LATENCY_S
    with config_of(options) as config:
        screen = Screen()
        source = typed(tuple(f"/{name}" for name in _COMMANDS), screen.note)
        config = replace(config, post=None)  # noqa: PLW2901  # what is shown is what was said
        conversation = Conversation(config, system=system_text(options["system"]), note=screen.note)
        with contextlib.closing(conversation), _terminating():
            return Talk(config, conversation, screen, source).run()


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
    """In this block SIGTERM ends as an error does, so that the terminal is left as it was found."""

    def handle(number: int, _frame: object) -> None:
        raise SystemExit(number)  # the one error that the line editor's event loop lets through

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except SystemExit as error:
        raise RunInterruptedError(int(error.code or 0)) from None
    finally:
        signal.signal(signal.SIGTERM, before)


class Screen:
    """What the user sees: answers on stdout, everything else on stderr."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._lock = threading.RLock()  # notes come from other threads
        self._is_answering = self._is_inside_line = False
        self._notes: list[str] = []

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """In this block notes are shown at once, and at its end the line is."""
        with self._lock:
            self._is_answering = True
            self._show_notes()
        try:
            yield
        finally:
            with self._lock:
                self._is_answering = False
                self._end_line()

    def text(self, piece: str) -> None:
        """Show a piece of an answer: on a terminal what it cannot obey, else as it is."""
        with self._lock:
            self._write(harmless(piece) if self.is_terminal else piece)

    def tell(self, text: str) -> None:
        """Show a line that is no answer."""
        with self._lock:
            self._end_line()
            click.echo(harmless(text), err=True)

    def note(self, text: str) -> None:
        """Show a line that the user should know, unless told to be quiet; from any thread.

        Between answers it waits for the next one: a line being typed must not be written over.
        """
        if not console.quiet:
            with self._lock:
                self._notes.append(text)
                if self._is_answering:
                    self._show_notes()

    def _show_notes(self) -> None:
        notes, self._notes = self._notes, []
        for text in notes:
            self.tell(f"note: {text}")

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.buffer.write(text.encode("utf-8", "replace"))
            sys.stdout.buffer.flush()
            self._is_inside_line = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._is_inside_line:
            self._write("\n")


_MORE_HELP = """\
  exit, quit       end (so does Ctrl-D); Ctrl-C stops an answer
  Alt-Enter        begins a new line; the arrow keys bring back questions
  a blank before / makes it part of a question"""


class _Patience:
    """Shows an answer, and says what it waits for when nothing comes for long.

    Args:
        conversation: knows what it waits for.
        screen: shows it.
    """

    def __init__(self, conversation: Conversation, screen: Screen) -> None:
        self._conversation = conversation
        self._screen = screen
        now_s = time.monotonic()
        self._due_s = now_s + _PATIENCE_S
        self._thinking_until_s: float | None = now_s + _THINKING_S

    def text(self, piece: str) -> None:
        """Show a piece of the answer."""
        self._screen.text(piece)
        self._due_s = time.monotonic() + _PATIENCE_S
        self._thinking_until_s = None

    def wait(self) -> None:
        """Say what is waited for, if it is time."""
        now_s = time.monotonic()
        if now_s >= self._due_s and (why := self._conversation.waiting_for):
            self._due_s = now_s + _MORE_PATIENCE_S
            self._screen.note(why)
        elif self._thinking_until_s is not None and now_s >= self._thinking_until_s:
            self._thinking_until_s = None
            self._screen.note("no answer yet; Ctrl-C stops it")


class Talk:
    """Reads what is typed, asks, obeys commands.

    Args:
        config: the settings.
        conversation: remembers what was said.
        screen: shows answers.
        source: where what is typed comes from.
    """

    def __init__(
        self, config: Config, conversation: Conversation, screen: Screen, source: Typed
    ) -> None:
        self._config = config
        self._conversation = conversation
        self._screen = screen
        self._source = source
        self._failed = 0
        #: Files that this conversation has written, and may write again.
        self._saved: set[Path] = set()

    def run(self) -> int:
        """Talk until the end; return the exit code.

        Raises:
            JsonlRunnerError: from a pipe, what leaves no sense in going on.
            KeyboardInterrupt: Ctrl-C where nobody sits at stdin.
        """
        if self._source.is_terminal:
            model = model_of(self._config)
            say(f"{model} at {place_of(self._config)}; /help lists the commands, Ctrl-D ends")
        while True:
            try:
                text = self._source.read()
                if text is None or text.strip().lower() in _ENDS:
                    return 1 if self._failed and not self._source.is_terminal else 0
                if text.strip():
                    self._take(text.rstrip("\r\n"))
            except KeyboardInterrupt:
                if not self._source.is_terminal:
                    raise
                # As in a shell: what was typed is dropped. Or it came a moment after an answer.
            except InputError as error:
                self._fail(error)

    def _take(self, text: str) -> None:
        command = _COMMAND.fullmatch(text.rstrip())
        try:
            if command is None:
                self._ask(text)
            else:
                self._obey(command[1].lower(), (command[2] or "").strip())
        except (RunInterruptedError, BrokenPipeError):
            raise
        except JsonlRunnerError as error:
            self._fail(error)

    def _ask(self, text: str) -> None:
        screen = self._screen
        try:
            with self._source.silent(), screen.answering():
                if screen.is_terminal:
                    patience = _Patience(self._conversation, screen)
                    outcome = self._conversation.say(
                        text, patience.text, self._restart, patience.wait
                    )
                else:  # where nothing can be taken back, only what is whole
                    outcome = self._conversation.say(text)
                    screen.text(outcome.output or "")
        except KeyboardInterrupt:
            if not self._source.is_terminal:
                raise
            screen.tell("(stopped; this turn is not remembered)")
            return
        if outcome.output is None:
            self._failed += 1
            hint = "; /clear begins anew" if outcome.code == "context_length_exceeded" else ""
            screen.tell(f"error: {outcome.code}: {outcome.message}{hint}")
        elif outcome.message:
            screen.tell(f"({outcome.message})")

    def _restart(self) -> None:
        self._screen.tell("(the answer broke off; asked again)")

    def _fail(self, error: JsonlRunnerError) -> None:
        """Tell an error, and go on where somebody can do something about it."""
        if not self._source.is_terminal and isinstance(error, (RunStoppedError, ConfigError)):
            raise error
        self._failed += 1
        self._screen.tell(f"error: {error}")

    def _obey(self, name: str, rest: str) -> None:
        command = _COMMANDS.get(name)
        if command is None:
            near = difflib.get_close_matches(name, _COMMANDS, 1, 0.5)
            hint = f"did you mean /{near[0]}?" if near else "there are " + ", ".join(_NAMES)
            self._failed += 1
            self._screen.tell(f"error: there is no command /{name}; {hint}")
        else:
            command.do(self, rest)

    def model(self, name: str) -> None:
        """Show the model, or take another one."""
        if name:
            self._conversation.model = name
        shown = model_of(replace(self._config, model=self._conversation.model))
        self._screen.tell(f"model: {shown}")

    def system(self, text: str) -> None:
        """Show the system message, or take another one."""
        if text:
            self._conversation.system = "" if text == "-" else text
        self._screen.tell(f"system: {self._conversation.system or '(none)'}")

    def save(self, name: str) -> None:
        """Write the conversation into a file."""
        if not name:
            self._screen.tell("error: name the file: /save FILE")
            return
        path = Path(name.strip("\"'")).expanduser()
        known = path.resolve()
        self._conversation.save(path, overwrite=known in self._saved)
        self._saved.add(known)
        self._screen.tell(f"saved {_turns(self._conversation.turns)} in {path}")

    def clear(self, _rest: str) -> None:
        """Forget what was said."""
        turns = self._conversation.turns
        self._conversation.clear()
        self._saved.clear()
        self._screen.tell(f"forgot {_turns(turns)}; model and system message stay")

    def help(self, _rest: str) -> None:
        """List the commands."""
        for name, command in _COMMANDS.items():
            usage = f"/{name} {command.takes}".rstrip()
            self._screen.tell(f"  {usage:<16} {command.what}")
        self._screen.tell(_MORE_HELP)


class _Command(NamedTuple):
    do: Callable[[Talk, str], None]
    takes: str
    what: str


_COMMANDS = {
    "model": _Command(Talk.model, "[NAME]", "show the model, or ask another one from now on"),
    "system": _Command(Talk.system, "[TEXT]", "show the system message, or set it (- for none)"),
    "save": _Command(Talk.save, "FILE", "write the conversation as a row that run takes"),
    "clear": _Command(Talk.clear, "", "forget what was said"),
    "help": _Command(Talk.help, "", "show this"),
}
_NAMES = [f"/{name}" for name in _COMMANDS]


def _turns(count: int) -> str:
    return f"{count} turn" if count == 1 else f"{count} turns"
