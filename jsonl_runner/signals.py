"""Ctrl-C and SIGTERM as a wish to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from .errors import RunInterruptedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .clock import Stop

#: SIGHUP comes when a terminal closes; Windows has none.
_SIGNALS = [
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if (number := getattr(signal, name, None)) is not None
]


@contextlib.contextmanager
def stopping(stop: Stop) -> Iterator[None]:
    """Within this block the first SIGINT, SIGTERM or SIGHUP requests the stop, the second aborts.

    Only the main thread may set signal handlers; in any other the signals stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    seen = 0

    def handle(number: int, _frame: object) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            stop.abort()
        else:
            stop.request(RunInterruptedError(number))

    before = {
        number: signal.signal(number, handle)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN  # nohup: let it
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def reporting(ask: Callable[[], None]) -> Iterator[None]:
    """Within this block SIGUSR1 calls `ask`, in the main thread between two steps of Python.

    Nothing is changed where there is no such signal (Windows), in other threads than the main one,
    and in a program that has a use of its own for it.
    """
    number = getattr(signal, "SIGUSR1", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(number) is not signal.SIG_DFL:
        yield
        return
    signal.signal(number, lambda *_: ask())
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)
