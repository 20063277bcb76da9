"""The table of a run over the whole terminal, drawn anew a few times a second."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO

from .terminal import harmless

if TYPE_CHECKING:
    from rich.live import Live as RichLive

    from .clock import Clock
    from .snapshot import Snapshot

#: Seconds between two drawings at the least.
DRAW_EVERY_S = 0.25
#: A drawing may take this part of the processor: the next one waits for the rest. On a slow machine
#: or a large terminal the table is drawn more rarely, and the run is not held up.
_SHARE = 0.01
#: Notes that are kept for the pane; all are printed at the end.
_SHOWN_NOTES = 20


def why_not(stream: TextIO) -> str:
    """Return why a stream cannot show the table, in a few words; empty when it can."""
    if not stream.isatty():
        return "this is no terminal"
    if os.environ.get("TERM", "dumb" if os.name != "nt" else "") == "dumb":
        return "the terminal is dumb"
    encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
    return "" if encoding == "utf8" else "the terminal's encoding is not UTF-8"


class Live:
    """A table over the whole terminal, that leaves what stood there as it was.

    It begins with the first `look`. Anybody may say something; all else is for one thread.

    Args:
        clock: tells when to draw again.
        stream: the terminal; None: stderr.
    """

    def __init__(self, clock: Clock, stream: TextIO | None = None) -> None:
        self._clock = clock
        self._stream = sys.stderr if stream is None else stream
        self._live: RichLive | None = None
        self._lock = threading.Lock()
        self._notes: list[str] = []
        self._kept: list[str] = []
        self._due = self._drawn = float("-inf")
        self._is_closed = False

    @property
    def is_due(self) -> bool:
        """Whether it is time for another `look`."""
        return self._clock.now() >= self._due

    def look(self, snapshot: Snapshot, word: str = "") -> None:
        """Draw the table, if it is time.

        Args:
            snapshot: how the run goes.
            word: what stands beside the title.

        Raises:
            OSError, ValueError: the terminal is gone.
        """
        if not self.is_due or self._is_closed:
            return
        began = time.thread_time()
        self._draw(snapshot, word)
        spent = time.thread_time() - began
        self._drawn = self._clock.now()
        self._due = self._drawn + max(DRAW_EVERY_S, spent / _SHARE)

    def _draw(self, snapshot: Snapshot, word: str) -> None:
        from rich.console import ConsoleDimensions  # noqa: PLC0415  # rich is for those who look

        from .table import screen  # noqa: PLC0415

        if self._live is None:
            self._live = self._start()
        # Of this terminal: rich asks stdin first, and COLUMNS of long ago. It may have changed.
        width, height = os.get_terminal_size(self._stream.fileno())
        self._live.console.size = ConsoleDimensions(width, height)
        with self._lock:
            notes = self._notes[-_SHOWN_NOTES:]
        table = screen(snapshot, width=width, height=height, notes=notes, word=word)
        self._live.update(table, refresh=True)

    def _start(self) -> RichLive:
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live as RichLive  # noqa: PLC0415

        console = Console(file=self._stream, force_terminal=True)
        live = RichLive(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start()
        return live

    def say(self, text: str) -> None:
        """Show a line among the notes, and print it when the table is gone."""
        with self._lock:
            is_on = self._live is not None and not self._is_closed
            self._notes.append(text)
            if is_on:
                self._kept.append(text)
                self._due = min(self._due, self._drawn + DRAW_EVERY_S)  # news are shown soon
        if not is_on:
            self._print(text)

    def keep(self, text: str) -> None:
        """Print a text when the table is gone, without showing it now."""
        with self._lock:
            self._kept.append(text)

    def close(self) -> None:
        """Take the table away, and print what was said meanwhile."""
        if self._is_closed:
            return
        try:
            if self._live is not None:
                self._live.stop()
        finally:
            with self._lock:
                self._is_closed = True
                kept, self._kept = self._kept, []
            for text in kept:
                self._print(text)

    def _print(self, text: str) -> None:
        print(harmless(text), file=self._stream, flush=True)
