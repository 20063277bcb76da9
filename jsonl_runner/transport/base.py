"""What every transport promises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..attempts import Reply

#: Bytes. A longer answer is cut off as a fault: the longest outputs of today's models are below
#: 2 MiB of text, and a server gone mad must not fill the memory of four thousand threads.
MAX_REPLY_BYTES = 64 * 1024 * 1024
#: Bytes of an answer that must come within each `body_timeout` once it has begun; of a stream, one.
MIN_BODY_PROGRESS = 1024


@dataclass(frozen=True)
class TransportSettings:
    """Where calls go, and how long they may take (all in seconds).

    Attributes:
        base_url: the address before `/chat/completions`.
        timeout_s: one call in all.
        connect_timeout_s: until a connection stands, TLS included.
        body_timeout_s: for each `MIN_BODY_PROGRESS` bytes (or the end) of an answer that has
            begun; blanks at its start are a server's sign of life and do not begin it.
        proxy: address of a proxy; None takes the environment's.
        http2: whether HTTP/2 is asked for, over TLS.
    """

    base_url: str
    timeout_s: float = 300.0
    connect_timeout_s: float = 30.0
    body_timeout_s: float = 60.0
    proxy: str | None = field(default=None, repr=False)
    http2: bool = False


class Transport(Protocol):
    """Makes attempts, from many threads at once."""

    def post(
        self,
        path: str,
        body: bytes,
        key: str,
        *,
        with_head: bool = True,
        on_chunk: Callable[[bytes], None] | None = None,
    ) -> Reply:
        """Send JSON and return the answer, whatever its status.

        Args:
            path: behind the base URL, such as `/chat/completions`.
            body: the JSON.
            key: for the Authorization header; empty for none.
            with_head: whether the headers are wanted; if not, a transport that saves time without
                them may keep back all but Retry-After.
            on_chunk: is given the body of a 200 in parts, as they come, in this thread. Any byte
                then counts as progress: events are small. What it raises ends the call and comes
                out of here.

        Raises:
            TransportError: no whole answer came.
        """

    def get(self, path: str, key: str) -> Reply:
        """Fetch and return the answer; as `post`."""

    def abort(self) -> None:
        """End every call under way, and every later one, at once."""

    def hang_up(self, thread: int) -> None:
        """End the call that a thread (its `threading.get_ident()`) is making, if it makes one.

        One that begins at this very moment may go on.
        """

    def close(self) -> None:
        """Let go of what is shared; each thread's connection closes with the thread."""
