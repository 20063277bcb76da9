"""The calls of files and batches from their arrival to their answer: mishaps, the key, the work.

The work is done in threads, one call at a time, so that a large file does not hold up the server.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from contextlib import closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from .batches import Batches
from .breakage import BREAK
from .calls import Asked, Download, RefusedError
from .fault_answers import FaultyCall, faulty_response, invalid_key, refuse
from .faults import KEY_REFUSALS
from .files import Files
from .http import Connection, Request, Response
from .message_batches import MessageBatches
from .messages import translated
from .mishaps import Mishaps
from .routes import MESSAGE_BATCHES, MESSAGES_PATH, find_route

if TYPE_CHECKING:
    from collections.abc import Callable

    from .faults import Markers
    from .journal import Entry, Journal
    from .settings import SimulatorSettings

_BLOCK_BYTES = 256 * 1024
# With these, a call is done all the same.
_DONE = (None, "lost answer", "lost answer_500")
Reply = dict[str, Any] | Download | Response


class Management:
    """Answers the calls of files and batches by the settings in force."""

    def __init__(
        self,
        journal: Journal,
        markers: Markers,
        now: Callable[[], float],
        settings: Callable[[], SimulatorSettings],
    ) -> None:
        self.mishaps = Mishaps()
        self._journal = journal
        self._lock = threading.RLock()
        began_s = time.time() - now()
        nonce = secrets.token_hex(4)

        def wall(at_s: float) -> int:
            return int(began_s + at_s)

        self.files = Files(now, wall, journal.batches)
        given = (self.files, journal.batches, markers, nonce)
        self.batches = Batches(*given, now=now, wall=wall, settings=settings, lock=self._lock)
        self.message_batches = MessageBatches(
            *given, now=now, wall=wall, settings=settings, lock=self._lock
        )
        self._work: dict[str, Callable[[Asked], Reply]] = {
            "POST /v1/files": lambda asked: self.files.upload(asked, nonce),
            "GET /v1/files": self.files.listing,
            "GET /v1/files/{id}": self.files.retrieve,
            "GET /v1/files/{id}/content": self.files.content,
            "DELETE /v1/files/{id}": self.files.delete,
            "POST /v1/batches": self.batches.create,
            "GET /v1/batches": self.batches.listing,
            "GET /v1/batches/{id}": self.batches.retrieve,
            "POST /v1/batches/{id}/cancel": self.batches.cancel,
            "POST /v1/messages/batches": self.message_batches.create,
            "GET /v1/messages/batches": self.message_batches.listing,
            "GET /v1/messages/batches/{id}": self.message_batches.retrieve,
            "GET /v1/messages/batches/{id}/results": self.message_batches.results,
            "POST /v1/messages/batches/{id}/cancel": self.message_batches.cancel,
            "DELETE /v1/messages/batches/{id}": self.message_batches.delete,
        }

    def handle(self, connection: Connection, request: Request, settings: SimulatorSettings) -> None:
        """Write the request down and see to it that it ends (server's thread)."""
        key = key_of(request)
        entry = self._journal.begin(
            key=key, method=request.method, path=request.path, model="", prompt=""
        )
        route, ident = find_route(request.method, request.path)
        upload = request.upload
        refusal = _refusal(key, route, request, settings)
        mishap = None if refusal is not None else self.mishaps.draw(route, settings)
        entry.fault = mishap
        if refusal is not None or mishap not in _DONE:
            if upload is not None:
                upload.close()
            if refusal is not None:
                self._send(connection, entry, refusal)
            else:
                self._misbehave(connection, entry, mishap or "")
            return
        asked = Asked(key, ident, request, settings)
        loop = asyncio.get_running_loop()
        # Begun here, so that it is done even if the client leaves at once.
        work = loop.run_in_executor(None, partial(self._do, self._work[route], asked))
        task = loop.create_task(self._answer(connection, entry, work, mishap))

        def gone() -> None:
            task.cancel()
            self._journal.finish(entry, None)

        connection.on_gone = gone

    def _do(self, work: Callable[[Asked], Reply], asked: Asked) -> Reply:
        upload = asked.request.upload
        with self._lock, nullcontext() if upload is None else closing(upload):
            try:
                return work(asked)
            except RefusedError as error:
                return error.response

    async def _answer(
        self,
        connection: Connection,
        entry: Entry,
        work: asyncio.Future[Reply],
        mishap: str | None,
    ) -> None:
        try:
            reply = await asyncio.shield(work)
        except Exception:
            # A defect of ours: the client need not wait, and the loop reports it.
            self._lose(connection, entry)
            raise
        if mishap == "lost answer_500":
            reply = refuse(500, "The server had an error.", type_="server_error")
        elif mishap is not None and not isinstance(reply, Download):
            self._lose(connection, entry)
            return
        if isinstance(reply, Download):
            await self._stream(connection, entry, reply, is_lost=mishap is not None)
        elif isinstance(reply, Response):
            self._send(connection, entry, reply)
        else:
            self._send(connection, entry, Response(200, orjson.dumps(reply)))

    async def _stream(
        self, connection: Connection, entry: Entry, reply: Download, *, is_lost: bool
    ) -> None:
        """Send a file in blocks; half of it, if the answer is to be lost."""
        missing = reply.size // 2 if is_lost else reply.size
        try:
            file = reply.path.open("rb")
        except FileNotFoundError:  # deleted a moment ago
            self._send(connection, entry, refuse(404, "No such File object."))
            return
        with file:
            connection.begin(_headers(entry), length=reply.size, content_type=reply.content_type)
            while missing > _BLOCK_BYTES:
                connection.write(file.read(_BLOCK_BYTES))
                missing -= _BLOCK_BYTES
                await connection.drain()
            self._journal.finish(entry, None if is_lost else 200)
            connection.write(file.read(missing))
        if is_lost:
            connection.close()
        else:
            connection.end()

    def _misbehave(self, connection: Connection, entry: Entry, kind: str) -> None:
        if kind == "lost request" or kind in ("close", "truncated"):
            self._lose(connection, entry)
        elif kind == "reset":
            self._journal.finish(entry, None)
            connection.reset()
        elif kind in BREAK:  # the others never come to an end
            connection.on_gone = partial(self._journal.finish, entry, None)
        else:
            call = FaultyCall(entry.number, entry.key, {})
            self._send(connection, entry, faulty_response(kind, call))

    def _lose(self, connection: Connection, entry: Entry) -> None:
        self._journal.finish(entry, None)
        connection.close()

    def _send(self, connection: Connection, entry: Entry, response: Response) -> None:
        if entry.path.startswith(MESSAGE_BATCHES):
            response = translated(response, entry.number, None)
        response.headers = _headers(entry) + response.headers
        status = response.status if connection.is_open else None
        self._journal.finish(entry, status, response.retry_after_s)
        connection.respond(response)


def key_of(request: Request) -> str:
    """The key a request comes with, in OpenAI's header or Anthropic's; or an empty string."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return request.headers.get("x-api-key", "") if request.path.startswith(MESSAGES_PATH) else ""


def _refusal(
    key: str, route: str, request: Request, settings: SimulatorSettings
) -> Response | None:
    """The answer to a call that is none, or whose key is not accepted."""
    if not key or (settings.keys is not None and key not in settings.keys):
        return invalid_key(key)
    fault = settings.key_faults.get(key)
    if fault in KEY_REFUSALS:
        return faulty_response(fault, FaultyCall(0, key, {}))
    if not route:
        message = f"Unknown request URL: {request.method} {request.path}."
        return refuse(404, message, code="unknown_url")
    return None


def _headers(entry: Entry) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", f"req_sim_{entry.number}"), ("request-id", f"req_sim_{entry.number}"))
