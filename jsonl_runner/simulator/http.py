"""A small HTTP/1.1 server side: keep-alive, Content-Length bodies, `Expect: 100-continue`, uploads.

It knows nothing of models or faults. It is written by hand because the simulator must be able to
break the protocol on purpose (resets, short bodies, endless answers) and be cheap for each request.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import tempfile
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

# Bytes. Nobody sends larger heads; the usual limit of servers is 8 to 64 KiB.
MAX_HEAD_BYTES = 64 * 1024
# Bytes of a body kept in memory: Anthropic's limit for a batch, which is one JSON body.
MAX_BODY_BYTES = 256 * 1024 * 1024
# Bytes of an upload, which goes to disk: OpenAI's limit for any file, and its form around it.
MAX_UPLOAD_BYTES = 513 * 1024 * 1024
# Seconds a refused client has to read why, before the connection is closed under it.
LINGER_S = 1.0

JSON_TYPE = "application/json"

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Site Overloaded"}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BadRequestError(Exception):
    """What arrived is not a request this server can read; the connection closes after `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Request:
    """One complete request. `path` is without its query; header names are in lower case.

    A `multipart/form-data` body is in `upload`, a file without a name that the handler closes.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    query: str = ""
    upload: IO[bytes] | None = None


@dataclass(slots=True)
class Response:
    """One complete answer. `retry_after_s` repeats, for the journal, what the headers ask for."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = JSON_TYPE
    retry_after_s: float | None = None


@dataclass(slots=True)
class _Head:
    method: str
    path: str
    headers: dict[str, str]
    body_bytes: int
    keep_alive: bool
    query: str
    is_upload: bool


def render_head(
    status: int,
    headers: tuple[tuple[str, str], ...],
    *,
    content_type: str = JSON_TYPE,
    length: int | None,
    keep_alive: bool = True,
) -> bytes:
    """The bytes before a body of `length` bytes; None announces `Transfer-Encoding: chunked`."""
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}",
        f"content-type: {content_type}",
        size,
    ]
    lines += [f"{name}: {value}" for name, value in headers]
    if not keep_alive:
        lines.append("connection: close")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1", "replace")


def chunk(data: bytes) -> bytes:
    """`data` framed as one chunk of a chunked body; empty `data` is the end of the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class RequestParser:
    """Cuts a byte stream into Requests. Holds at most one head and one body plus what follows."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._continue_said = False
        self._upload: IO[bytes] | None = None
        self._upload_missing = 0

    def close(self) -> None:
        """Throw away a half of an upload."""
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.close()

    def feed(self, data: bytes) -> None:
        """Append what arrived. Raises BadRequestError when a client sends on without end."""
        self._buffer += data
        if len(self._buffer) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            raise BadRequestError(413, "too many bytes are waiting on this connection")

    def next_request(self) -> Request | None:
        """The next complete Request, or None until more bytes arrive. Raises BadRequestError."""
        head = self._head
        if head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    raise BadRequestError(431, "the request's head is too large")
                return None
            head = self._head = _parse_head(self._buffer[:end].decode("latin-1"))
            del self._buffer[: end + 4]
            self._continue_said = False
            if head.is_upload:
                self._upload = tempfile.TemporaryFile()  # noqa: SIM115 - the handler closes it
                self._upload_missing = head.body_bytes
        if self._upload is not None:
            self._upload_missing -= self._upload.write(self._take(self._upload_missing))
            if self._upload_missing > 0:
                return None
            body = b""
        elif len(self._buffer) < head.body_bytes:
            return None
        else:
            body = self._take(head.body_bytes)
        self._head = None
        upload, self._upload = self._upload, None
        return Request(
            head.method, head.path, head.headers, body, head.keep_alive, head.query, upload
        )

    def _take(self, size: int) -> bytes:
        """Cut off up to `size` bytes of what has arrived."""
        with memoryview(self._buffer) as view:
            taken = bytes(view[:size])
        del self._buffer[: len(taken)]
        return taken

    def owes_continue(self) -> bool:
        """True once per request whose client waits for `100 Continue` before sending its body."""
        if self._head is None or self._continue_said:
            return False
        self._continue_said = True
        return self._head.headers.get("expect", "").lower() == "100-continue"


def _parse_head(text: str) -> _Head:
    """Read the request line and headers. Raises BadRequestError for what RFC 9112 forbids."""
    first, *lines = text.lstrip("\r\n").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequestError(400, "the request line is not HTTP/1.x")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequestError(400, "a header line has no colon")
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise BadRequestError(411, "send a Content-Length, chunked requests are not read here")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequestError(400, "Content-Length is not a number")
    is_upload = headers.get("content-type", "").lower().startswith("multipart/form-data")
    most = MAX_UPLOAD_BYTES if is_upload else MAX_BODY_BYTES
    if int(length) > most:
        raise BadRequestError(413, f"the body is larger than {most} bytes")
    wish = headers.get("connection", "").lower()
    keep_alive = wish == "keep-alive" if parts[2] == "HTTP/1.0" else wish != "close"
    path, _, query = parts[1].partition("?")
    return _Head(parts[0], path, headers, int(length), keep_alive, query, is_upload)


class Connection(asyncio.Protocol):
    """One client connection; at most one request at a time is being answered.

    `handle(connection, request)` is called for each Request and must, now or later, end it with
    `respond`, `end`, `close` or `reset`. `on_gone` is called once if the client leaves before that.
    All methods belong to the loop's thread.
    """

    __slots__ = (
        "_busy",
        "_handle",
        "_keep_alive",
        "_open",
        "_parser",
        "_pumping",
        "_refused",
        "_transport",
        "_writable",
        "on_gone",
    )

    def __init__(
        self, handle: Callable[[Connection, Request], None], open_connections: set[Connection]
    ) -> None:
        self._handle = handle
        self._open = open_connections
        self._parser = RequestParser()
        self._transport: asyncio.Transport | None = None
        self._busy = False
        self._pumping = False
        self._refused = False
        self._keep_alive = True
        self._writable: asyncio.Event | None = None
        self.on_gone: Callable[[], None] | None = None

    # -- called by asyncio -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived; they wait while an earlier request is being answered."""
        if self._refused:
            return
        try:
            self._parser.feed(data)
        except BadRequestError as error:
            self._refuse(error)
            return
        if not self._busy:
            self._pump()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The connection is over, whoever ended it."""
        self._open.discard(self)
        self._transport = None
        self._parser.close()
        gone, self.on_gone = self.on_gone, None
        if gone is not None:
            gone()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is sent to."""
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    # -- called by the handler ---------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """False once the client is known to have left or the connection is being closed."""
        return self._transport is not None and not self._transport.is_closing()

    def respond(self, response: Response) -> None:
        """Send a complete answer in one write (two would cost 40 ms of delayed ACK)."""
        head = render_head(
            response.status,
            response.headers,
            content_type=response.content_type,
            length=len(response.body),
            keep_alive=self._keep_alive,
        )
        self.write(head + response.body)
        self.end()

    def begin(
        self,
        headers: tuple[tuple[str, str], ...],
        *,
        length: int | None,
        content_type: str = JSON_TYPE,
    ) -> None:
        """Send the head of a 200 whose body comes in parts; `length` None means in chunks."""
        head = render_head(
            200, headers, content_type=content_type, length=length, keep_alive=self._keep_alive
        )
        self.write(head)

    def write(self, data: bytes) -> None:
        """Send a part of an answer; nothing happens once the client has left."""
        if self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough for more to be written."""
        if self._writable is not None:
            await self._writable.wait()

    def end(self) -> None:
        """The answer is complete: take the next request, or close if the client wished so."""
        self._busy = False
        self.on_gone = None
        if not self._keep_alive:
            self.close()
        elif not self._pumping:
            self._pump()

    def close(self) -> None:
        """Send what was written, then close in an orderly way (FIN)."""
        self.on_gone = None
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close with a TCP RST, as a crashed server or a cutting firewall does."""
        self.on_gone = None
        if self._transport is None:
            return
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None:
            # struct linger {on=1, seconds=0}: two shorts on Windows, two ints elsewhere.
            layout = "hh" if sys.platform == "win32" else "ii"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(layout, 1, 0))
        self._transport.abort()

    def abort(self) -> None:
        """Drop the connection as the server stops; a pending answer counts as never sent."""
        if self._transport is not None:
            self._transport.abort()

    def _pump(self) -> None:
        """Handle complete requests until one waits for its answer (a loop, so no recursion)."""
        self._pumping = True
        try:
            while self.is_open and not self._busy and not self._refused:
                request = self._parser.next_request()
                if request is None:
                    if self._parser.owes_continue():
                        self.write(_CONTINUE)
                    return
                self._busy = True
                self._keep_alive = request.keep_alive
                self._handle(self, request)
        except BadRequestError as error:
            self._refuse(error)
        finally:
            self._pumping = False

    def _refuse(self, error: BadRequestError) -> None:
        body = f'{{"error": {{"message": "{error}", "type": "invalid_request_error"}}}}'.encode()
        head = render_head(error.status, (), length=len(body), keep_alive=False)
        self.write(head + body)
        transport = self._transport
        if transport is None:
            return
        # Closing with bytes unread would reset the connection before the client has the answer:
        # stop sending, read on without looking, close when the client does or soon after.
        self._refused = True
        transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, transport.close)
