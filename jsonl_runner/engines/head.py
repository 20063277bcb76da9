"""Whether a cluster's head node still answers.

Ray itself ends a process that leads, with exit code 1 and no word of ours, when the head has been
silent for a minute. We look for ourselves, and end the run before.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

from ..errors import RunStoppedError

if TYPE_CHECKING:
    from ..clock import Clock, Stop

#: Seconds between two looks, and for the head to take a connection.
_LOOK_S, _ANSWER_S = 2.0, 5.0
#: Of Ray's own patience: after the first no row is begun any more, and what is in flight comes
#: back; after the second nothing is waited for.
_STOP_SHARE, _ABORT_SHARE = 0.5, 0.75


def answers(address: str) -> bool:
    """Return whether anybody takes connections at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except (OSError, ValueError, OverflowError):  # the latter two of what is no address
        return False
    return True


class HeadWatch:
    """Looks at a cluster's head, from a thread of its own once it is started.

    Args:
        address: `host:port` where the head takes connections.
        patience_s: for how long Ray itself would bear its silence.
        clock: where the time comes from.
    """

    def __init__(self, address: str, patience_s: float, clock: Clock) -> None:
        self._address = address
        self._patience_s = patience_s
        self._clock = clock
        #: When the first look failed since the last that did not.
        self._silent_since: float | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="head", daemon=True).start()

    def _run(self) -> None:
        while not self._closed.is_set():
            self.look()
            self._clock.pause(self._closed, _LOOK_S)

    def look(self) -> None:
        """Look once."""
        began = self._clock.now()
        if answers(self._address):
            self._silent_since = None
        elif self._silent_since is None:
            # Not since the last look that did not fail: a computer may have slept.
            self._silent_since = began

    def check(self, stop: Stop) -> None:
        """Ask for the end of a run whose head has been silent for too long."""
        since = self._silent_since
        if since is None:
            return
        silent_s = self._clock.now() - since
        if silent_s >= self._patience_s * _STOP_SHARE and not stop.requested:
            stop.request(
                RunStoppedError(
                    f"the head of the Ray cluster ({self._address}) has not answered for "
                    f"{silent_s:.0f} s; the same command goes on where this run ended, on a "
                    "cluster that does"
                )
            )
        if silent_s >= self._patience_s * _ABORT_SHARE:
            stop.abort()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
