"""The doorway for coroutines: the same work in threads, ended when its task is cancelled.

Not a second engine: what a coroutine waits for is a run, or calls of a session, as anybody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from .clock import Stop
    from .records import Outcome
    from .session import Call

_T = TypeVar("_T")


async def in_thread(work: Callable[[], _T], stop: Stop) -> _T:
    """Do a piece of work in a thread of its own and return what it returns.

    When the task is cancelled, the work is aborted, and what it has begun to write is whole before
    the cancellation goes on.

    Args:
        work: what to do; ends soon after `stop` is aborted.
        stop: the work's.
    """
    done: Future[_T] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # raised again where it is awaited
            done.set_exception(error)
        else:
            done.set_result(result)

    # Not the loop's executor: its few threads are everybody's, and are waited for at exit.
    threading.Thread(target=run, name="async-run", daemon=True).start()
    waiting = asyncio.wrap_future(done)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        stop.abort()
        while not waiting.done():
            with contextlib.suppress(asyncio.CancelledError):  # impatience does not make it faster
                await asyncio.wait([waiting])
        waiting.exception()  # looked at, so that nobody complains that it was not
        raise


async def outcome_of(call: Call) -> Outcome:
    """Wait for a call's Outcome; when the task is cancelled, the call is given up.

    Raises:
        RunStoppedError: no key or endpoint can serve.
    """
    try:
        return await asyncio.wrap_future(call.answered)
    finally:
        call.end()


async def outcomes_of(
    calls: AsyncIterator[tuple[_T, Call]], *, width: int
) -> AsyncIterator[tuple[_T, Outcome]]:
    """Yield the Outcomes of calls as they come, each with what it was asked under.

    Args:
        calls: makes a call when the next one is taken.
        width: calls that are under way, or whose Outcome has not been taken yet.

    Raises:
        RunStoppedError: no key or endpoint can serve.
        Exception: what taking the next call raised.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[_T, Call] | None] = asyncio.Queue()
    room = asyncio.Semaphore(width)
    under_way: set[Call] = set()

    def tell(item: tuple[_T, Call]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(arrived.put_nowait, item)

    async def take() -> None:
        while True:
            await room.acquire()
            item = await anext(calls, None)
            if item is None:
                return
            under_way.add(item[1])
            item[1].answered.add_done_callback(lambda _, item=item: tell(item))  # type: ignore[misc]

    taking = asyncio.create_task(take())
    taking.add_done_callback(lambda _: arrived.put_nowait(None))
    has_more = True
    try:
        while has_more or under_way:
            item = await arrived.get()
            if item is None:
                has_more = False
                taking.result()
                continue
            name, call = item
            under_way.discard(call)
            yield name, call.answered.result()
            room.release()
    finally:
        taking.cancel()
        for call in under_way:
            call.end()
        await asyncio.gather(taking, return_exceptions=True)


async def each(items: Iterable[_T] | AsyncIterable[_T]) -> AsyncIterator[_T]:
    """Yield the items of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
