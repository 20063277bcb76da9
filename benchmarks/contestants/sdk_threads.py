"""What many write by hand: the openai SDK in a thread pool, one shared client, JSONL out."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai

from benchmarks.contestants.rows import KEY, MODEL, job, messages, read


def main() -> None:
    """Do one job."""
    wanted = job()
    sys.setswitchinterval(0.05)  # hundreds of busy threads livelock on Python's 5 ms
    # The SDK's own limits are 1,000 connections, 100 of them kept alive.
    limits = httpx2.Limits(
        max_connections=wanted.in_flight, max_keepalive_connections=wanted.in_flight
    )
    client = openai.OpenAI(
        api_key=KEY,
        base_url=wanted.base_url,
        max_retries=0,
        timeout=300,
        http_client=openai.DefaultHttpxClient(limits=limits),
    )
    lock = threading.Lock()
    with open(wanted.output, "w", encoding="utf-8") as output:  # noqa: PTH123

        def call(row: dict[str, Any]) -> None:
            asked: Any = messages(row)
            reply = client.chat.completions.create(model=MODEL, messages=asked)
            line = json.dumps({str(row["index"]): reply.choices[0].message.content}) + "\n"
            with lock:
                output.write(line)

        with ThreadPoolExecutor(wanted.in_flight) as pool:
            for done in [pool.submit(call, row) for row in read(wanted.data)]:
                done.result()


if __name__ == "__main__":
    main()
