"""Answers heard while they come.

A transport that asks for events and hands back the completion they make: whoever reads the reply
(retry, the cache) sees the same body as without streaming. Who listens is told by a context
variable, so that nobody between the question and the wire need know of it.
"""

from __future__ import annotations

import queue
from contextvars import ContextVar
from typing import TYPE_CHECKING

from . import jsontext
from .attempts import Reply
from .errors import TransportError
from .events import StreamedCompletion

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

    from .transport.base import Transport

#: Seconds after which a waiting thread looks up: on Windows nothing else lets Ctrl-C through.
_LOOK_UP_S = 0.2
#: What a server that does not know a parameter answers.
_REFUSALS = frozenset({400, 422})


class Listener:
    """Hears one answer, whatever comes of its attempts.

    Args:
        on_text: is given each piece of the text.
        on_restart: is called when the answer begins anew, after some of it was heard.
    """

    def __init__(
        self, on_text: Callable[[str], None], on_restart: Callable[[], None] | None = None
    ) -> None:
        self._on_text = on_text
        self._on_restart = on_restart
        self._has_heard = self._has_text = False

    def text(self, piece: str) -> None:
        """Take a piece of the text."""
        self._has_heard = True
        self._has_text = self._has_text or not piece.isspace()
        self._on_text(piece)

    def restart(self) -> None:
        """Take note that an attempt begins."""
        if self._has_heard and self._on_restart is not None:
            self._on_restart()
        self._has_heard = self._has_text = False

    def whole(self, text: str) -> None:
        """Take the whole text, which counts if it was not heard piece by piece."""
        if not self._has_text:
            self.text(text)


#: Who hears the answer to the question that this thread is busy with.
listening: ContextVar[Listener | None] = ContextVar("listening", default=None)


class Streaming:
    """A transport whose answers may be heard while they come; see `Transport`.

    Args:
        inner: makes the calls.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        #: Models and the parameters of streaming that they have refused.
        self._refused: frozenset[tuple[Any, str]] = frozenset()

    def post(
        self,
        path: str,
        body: bytes,
        key: str,
        *,
        with_head: bool = True,
        on_chunk: Callable[[bytes], None] | None = None,
    ) -> Reply:
        """Send JSON; a listener hears the answer.

        Raises:
            TransportError: no whole answer came.
        """
        listener = listening.get()
        if listener is None or on_chunk is not None:
            return self._inner.post(path, body, key, with_head=with_head, on_chunk=on_chunk)
        listener.restart()
        asked = jsontext.load(body)
        model = str(asked.get("model"))
        while True:
            more = self._params(model)
            sent = jsontext.dump({**asked, **more}) if more else body
            reply = self._hear(path, sent, key, listener)
            refused = _refused(reply, more)
            if refused is None:
                return reply
            self._refused |= {(model, refused)}

    def get(self, path: str, key: str) -> Reply:
        """Fetch; see `Transport.get`."""
        return self._inner.get(path, key)

    def abort(self) -> None:
        """End every call; see `Transport.abort`."""
        self._inner.abort()

    def hang_up(self, thread: int) -> None:
        """End a thread's call; see `Transport.hang_up`."""
        self._inner.hang_up(thread)

    def close(self) -> None:
        """Let go of what is shared; see `Transport.close`."""
        self._inner.close()

    def _params(self, model: str) -> dict[str, Any]:
        if (model, "stream") in self._refused:
            return {}
        if (model, "stream_options") in self._refused:
            return {"stream": True}
        return {"stream": True, "stream_options": {"include_usage": True}}

    def _hear(self, path: str, body: bytes, key: str, listener: Listener) -> Reply:
        stream = StreamedCompletion(listener.text)
        headers = b""
        try:
            reply = self._inner.post(path, body, key, on_chunk=stream.feed)
        except TransportError:
            if not stream.is_whole:
                raise  # else only the end of the body is missing, and nothing of the answer
        else:
            if not stream.has_begun:  # an error, or a server that does not stream
                return reply
            headers = reply.raw_headers
        return Reply(200, headers, jsontext.dump(stream.result()))


def _refused(reply: Reply, sent: dict[str, Any]) -> str | None:
    """Return which of the parameters that were sent the server does not take."""
    if reply.status not in _REFUSALS:
        return None
    try:
        error = jsontext.load(reply.body)["error"]
        param = str(error.get("param"))
    except (ValueError, KeyError, TypeError, AttributeError):
        param = ""
    # Some name it in their message alone; no other reason for a refusal has this word.
    if "stream_options" in sent and b"stream_options" in reply.body:
        return "stream_options"
    return "stream" if "stream" in sent and param == "stream" else None


class Relay:
    """Brings what is heard in one thread to another, in its order."""

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[str | bool] = queue.SimpleQueue()
        self.text: Callable[[str], None] = self._heard.put

    def restart(self) -> None:
        """Pass on that the answer begins anew."""
        self._heard.put(item=True)

    def tell(
        self,
        until: Future[Any],
        on_text: Callable[[str], None],
        on_restart: Callable[[], None] | None,
        on_wait: Callable[[], None] | None,
    ) -> None:
        """Call back, in this thread, for all that is heard until a future has its result."""
        until.add_done_callback(lambda _: self._heard.put(item=False))
        while True:
            try:
                heard = self._heard.get(timeout=_LOOK_UP_S)
            except queue.Empty:
                if on_wait is not None:
                    on_wait()
                continue
            if isinstance(heard, str):
                on_text(heard)
            elif not heard:
                return
            elif on_restart is not None:
                on_restart()
