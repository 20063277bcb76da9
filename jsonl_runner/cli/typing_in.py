"""What a user types: edited with history where the terminal can, plain lines where it cannot."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings

_PROMPT = "> "
#: Stands before the further lines of a text.
_CONTINUED = "  "
#: Terminals that obey no escape sequence: M-x shell, logs of CI.
_DUMB = frozenset({"dumb", "unknown", ""})


class Typed(Protocol):
    """Where a user's texts come from.

    Attributes:
        is_terminal: whether somebody sits there.
    """

    is_terminal: bool

    def read(self) -> str | None:
        """Return the next text, None at the end.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            InputError: it is no text.
        """

    def silent(self) -> AbstractContextManager[None]:
        """Return a block in which what is typed is not shown amid an answer, but kept for later."""


def typed(words: tuple[str, ...], note: Callable[[str], None]) -> Typed:
    """Return where texts come from: the best that stdin and stdout allow.

    Args:
        words: are completed with the tab key.
        note: is told what the user should know.
    """
    if not sys.stdin.isatty():
        return Piped()
    if not (sys.stdout.isatty() and _obeys()):
        return Plain()
    try:
        return Edited(words, note)
    except Exception as error:  # noqa: BLE001  # a console of a kind the library does not know
        note(f"lines cannot be edited here ({type(error).__name__}: {error})")
        return Plain()


def _obeys() -> bool:
    """Return whether the terminal knows escape sequences; Windows' console has no TERM."""
    return sys.platform == "win32" or os.environ.get("TERM", "") not in _DUMB


class Piped:
    """One text a line from a pipe or a file, UTF-8; nothing is asked for."""

    is_terminal = False

    def __init__(self) -> None:
        # Not sys.stdin: its encoding hangs on the system.
        self._stream = open(0, "rb", closefd=False)  # noqa: SIM115
        self._number = 0

    def read(self) -> str | None:
        """Return the next line; see `Typed.read`."""
        from ..rows import MAX_ROW_BYTES  # noqa: PLC0415  # --help need not wait for it

        line = self._stream.readline(MAX_ROW_BYTES + 1)
        self._number += 1
        if not line:
            return None
        if len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = self._stream.readline(MAX_ROW_BYTES)
            size = f"{MAX_ROW_BYTES / 2**20:g} MiB"
            raise InputError(f"standard input:{self._number}: the line is longer than {size}")
        try:
            return line.removeprefix(b"\xef\xbb\xbf" if self._number == 1 else b"").decode()
        except UnicodeDecodeError:
            raise InputError(
                f"standard input:{self._number}: this is no UTF-8 text; convert it (iconv -t UTF-8)"
            ) from None

    def silent(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return contextlib.nullcontext()


class Plain:
    """One text a line from a terminal that can do no more; its own line editing is all there is."""

    is_terminal = True

    def read(self) -> str | None:
        """Ask for the next line; see `Typed.read`."""
        click.echo(_PROMPT, err=True, nl=False)  # stdout may be a file
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            click.echo(err=True)
            raise
        except UnicodeDecodeError:
            raise InputError("this is no text in the terminal's encoding") from None
        if not line:
            click.echo(err=True)
            return None
        return line

    def silent(self) -> AbstractContextManager[None]:
        """Do nothing: there may be no such thing here."""
        return contextlib.nullcontext()


class Edited:
    """Texts of any number of lines, with editing, history and completion.

    Args:
        words: are completed with the tab key.
        note: is told when the history cannot be kept.
    """

    is_terminal = True

    def __init__(self, words: tuple[str, ...], note: Callable[[str], None]) -> None:
        # 0.1 s that no other command need wait for.
        from prompt_toolkit import PromptSession  # noqa: PLC0415
        from prompt_toolkit.completion import WordCompleter  # noqa: PLC0415
        from prompt_toolkit.history import FileHistory, InMemoryHistory  # noqa: PLC0415

        class Kept(FileHistory):
            """A file that a full disk does not turn into the end of the conversation."""

            def load_history_strings(self) -> Iterator[str]:
                with contextlib.suppress(OSError):
                    yield from super().load_history_strings()

            def store_string(self, string: str) -> None:
                with contextlib.suppress(OSError):
                    super().store_string(string)

        try:
            history: FileHistory | InMemoryHistory = Kept(str(history_file()))
        except OSError as error:
            note(f"what is typed will not be remembered ({error.filename}: {error.strerror})")
            history = InMemoryHistory()
        self._found = _flags()
        self._session: PromptSession[str] = PromptSession(
            _PROMPT,
            multiline=True,  # so that what is pasted stays one text
            prompt_continuation=_CONTINUED,
            key_bindings=_keys(),
            history=history,
            completer=WordCompleter(list(words), sentence=True),
            complete_while_typing=False,
            enable_suspend=True,
        )

    def read(self) -> str | None:
        """Ask for the next text; see `Typed.read`."""
        try:
            return self._session.prompt()
        except EOFError:
            return None

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Switch the terminal's echo off within a block; see `Typed.silent`."""
        _set_flags(self._found, echo=False)
        try:
            yield
        finally:
            _set_flags(self._found, echo=True)


def _flags() -> list[Any]:
    """Return the terminal's settings as found; empty on Windows, whose console has no such echo."""
    if sys.platform == "win32":
        return []
    import termios  # noqa: PLC0415  # Windows has none

    return termios.tcgetattr(0)


def _set_flags(found: list[Any], *, echo: bool) -> None:
    """Set the terminal as it was found, or without echo."""
    if sys.platform != "win32":
        import termios  # noqa: PLC0415

        flags = [*found]
        if not echo:
            flags[3] &= ~termios.ECHO
        # A terminal that is gone will be told by the next read.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, flags)


def _keys() -> KeyBindings:
    """Return the keys that differ from the library's: Enter sends, Alt-Enter begins a line."""
    from prompt_toolkit.filters import is_searching  # noqa: PLC0415
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent  # noqa: PLC0415

    keys = KeyBindings()

    @keys.add("enter", filter=~is_searching)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def history_file() -> Path:
    """Return the file of what was typed, which its owner alone may read.

    Raises:
        OSError: it cannot be made.
    """
    import platformdirs  # noqa: PLC0415

    folder = Path(platformdirs.user_state_path("jsonl-runner", appauthor=False))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "history"
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    return path
