"""Ctrl-C and SIGTERM as a wish to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from .errors import RunInterruptedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .clock import Stop

_SIGNALS = [signal.SIGINT, signal.SIGTERM]


@contextlib.contextmanager
def stopping(stop: Stop) -> Iterator[None]:
    """Within this block the first SIGINT or SIGTERM requests the stop, the second aborts.

    Only the main thread may set signal handlers; in any other the signals stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: object) -> None:
        if stop.requested:
            stop.abort()
        else:
            stop.request(RunInterruptedError(number))

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
