"""The faults below HTTP: answers that never come, never end, or end too early.

Each is a coroutine run as a task; the server cancels it when the client leaves or the server stops.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .http import JSON_TYPE, Connection, chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# Seconds between two bytes of a drip or two newlines of a keep-alive: often enough to keep a
# client's read timeout from ever firing.
BEAT_S = 0.2
# Seconds of newlines before the answer, as DeepSeek sends them while a request waits in its queue.
WHITESPACE_S = 1.0
# Bytes announced by a drip: at 5 a second, three weeks.
DRIP_BYTES = 10_000_000
# Bytes of text in a huge answer, and of one chunk of it.
HUGE_BYTES = 80_000_000
HUGE_CHUNK_BYTES = 250_000


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a fault is played: the connection, the good body (JSON or events), its headers.

    `finished` writes the call down in the journal with its status, None for an incomplete answer;
    it is called before the last bytes go out, so that who has seen them finds it written.
    """

    connection: Connection
    body: bytes
    headers: tuple[tuple[str, str], ...]
    finished: Callable[[int | None], None]
    content_type: str = JSON_TYPE

    def begin(self, *, length: int | None) -> None:
        """Send the head."""
        self.connection.begin(self.headers, length=length, content_type=self.content_type)


async def _hang(_stage: Stage) -> None:
    await asyncio.Event().wait()


async def _drip(stage: Stage) -> None:
    stage.begin(length=DRIP_BYTES)
    for position in range(DRIP_BYTES):
        await asyncio.sleep(BEAT_S)
        stage.connection.write(stage.body[position : position + 1] or b" ")
    stage.finished(200)
    stage.connection.end()


async def _stall(stage: Stage) -> None:
    stage.begin(length=len(stage.body))
    stage.connection.write(stage.body[: len(stage.body) // 2])
    await asyncio.Event().wait()


async def _reset(stage: Stage) -> None:
    stage.finished(None)
    stage.connection.reset()


async def _close(stage: Stage) -> None:
    stage.finished(None)
    stage.connection.close()


async def _truncated(stage: Stage) -> None:
    stage.finished(None)
    stage.begin(length=len(stage.body))
    stage.connection.write(stage.body[: len(stage.body) // 2])
    stage.connection.close()


async def _whitespace(stage: Stage) -> None:
    stage.begin(length=None)
    for _ in range(round(WHITESPACE_S / BEAT_S)):
        stage.connection.write(chunk(b"\n"))
        await asyncio.sleep(BEAT_S)
    stage.finished(200)
    stage.connection.write(chunk(stage.body) + chunk(b""))
    stage.connection.end()


async def _huge(stage: Stage) -> None:
    """A valid answer whose text is the good one and 80 MB of `x`, never in memory as a whole."""
    mark = b'","refusal"'
    start, _, rest = stage.body.partition(mark)
    stage.begin(length=None)
    stage.connection.write(chunk(start))
    filler = chunk(b"x" * HUGE_CHUNK_BYTES)
    for _ in range(HUGE_BYTES // HUGE_CHUNK_BYTES):
        stage.connection.write(filler)
        await stage.connection.drain()
    stage.finished(200)
    stage.connection.write(chunk(mark + rest) + chunk(b""))
    stage.connection.end()


BREAK: dict[str, Callable[[Stage], Coroutine[None, None, None]]] = {
    "hang": _hang,
    "drip": _drip,
    "stall": _stall,
    "reset": _reset,
    "close": _close,
    "truncated": _truncated,
    "huge": _huge,
    "whitespace": _whitespace,
}
