"""oaib: `Batch` with limits that nobody reaches. It has no bound on calls in flight."""

from __future__ import annotations

import asyncio

import httpx2
import openai
from oaib import Batch  # type: ignore[import-not-found]

from benchmarks.contestants.rows import KEY, MODEL, job, messages, read, write

#: A minute's worth that nobody reaches.
_UNLIMITED = 1_000_000_000


async def run() -> None:
    """Do one job. Arguments it does not know go to the SDK's client."""
    wanted = job()
    limits = httpx2.Limits(
        max_connections=wanted.in_flight, max_keepalive_connections=wanted.in_flight
    )
    batch = Batch(
        rpm=_UNLIMITED,
        tpm=_UNLIMITED,
        workers=wanted.in_flight,
        loglevel=0,
        timeout=300,
        api_key=KEY,
        base_url=wanted.base_url,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits),
    )
    for row in read(wanted.data):
        await batch.add(metadata={"index": row["index"]}, model=MODEL, messages=messages(row))
    done = await batch.run()
    answers = [result["choices"][0]["message"]["content"] for result in done["result"]]
    write(wanted.output, list(zip(done["index"], answers, strict=True)))


if __name__ == "__main__":
    asyncio.run(run())
