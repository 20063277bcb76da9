"""What happens in a run, as JSON lines for programs (`--log-file`).

Each line has `time` (UTC) and `event`. Keys are named by their labels; should one ever stand in a
text, it is taken out. A disk that is full costs lines, never the run.
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import jsontext
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .clock import Clock
    from .snapshot import Snapshot


class EventLog:
    """A log that is appended to; readable by its owner alone when it is made.

    Args:
        path: the file.
        redact: takes keys out of a text.
        clock: where the time comes from.
        warn: is told, once, that lines are lost.

    Raises:
        ConfigError: it cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        redact: Callable[[str], str],
        clock: Clock,
        warn: Callable[[str], None],
    ) -> None:
        self._path = path
        self._redact = redact
        self._clock = clock
        self._warn = warn
        self._lock = threading.Lock()
        self._is_torn = self._has_warned = False
        self._before: Snapshot | None = None
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        # A pipe that nobody reads is an error, or lost lines; to wait for a reader is neither.
        for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
            flags |= getattr(os, name, 0)
        try:
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise ConfigError(f"{path}: the log cannot be written ({error.strerror})") from None

    def write(self, event: str, **facts: Any) -> None:
        """Write a line. Any thread may; whatever goes wrong, the caller goes on."""
        wall = datetime.fromtimestamp(self._clock.wall(), UTC)
        time = wall.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = jsontext.dump({"time": time, "event": event, **facts}).decode()
        line = self._redact(text).encode() + b"\n"
        why = ""
        with self._lock:
            try:
                # What was cut off stands alone in a line, and not before this one.
                whole = b"\n" + line if self._is_torn else line
                written = os.write(self._file, whole)
                self._is_torn = written < len(whole)
                if self._is_torn:
                    why = "only a part was taken"
            except OSError as error:
                why = error.strerror or str(error)
            told, self._has_warned = self._has_warned, self._has_warned or bool(why)
        if why and not told:
            self._warn(f"{self._path}: lines of the log are lost ({why})")

    def look(self, snapshot: Snapshot) -> None:
        """Write what has become of the keys since the last look; for one thread."""
        before = self._before
        self._before = snapshot
        old = {key.label: key for key in before.keys} if before is not None else {}
        for key in snapshot.keys:
            last = old.get(key.label)
            state = last.state if last is not None else "ready"
            if key.state not in {state, "ready"}:
                event = "key_cooled" if key.state == "cooling" else "key_retired"
                self.write(
                    event,
                    key=key.label,
                    reason=key.reason,
                    cooldown_s=round(key.cooldown_s, 3),
                    calls=key.calls,
                    errors=key.errors,
                    refused=key.refused,
                )
            limit = last.limit if last is not None else 1
            if key.limit != limit and key.why:
                self.write(
                    "concurrency_moved", key=key.label, before=limit, after=key.limit, why=key.why
                )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            os.close(self._file)
            self._file = -1  # what is said later is lost, and harms nobody's file
            self._has_warned = True
