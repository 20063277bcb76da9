"""flexllm: `LLMClient.chat_batch` with its JSONL output, as its documentation shows."""

from __future__ import annotations

import asyncio

from flexllm import LLMClient  # type: ignore[import-not-found]

from benchmarks.contestants.rows import KEY, MODEL, job, messages, read


async def run() -> None:
    """Do one job."""
    wanted = job()
    async with LLMClient(
        model=MODEL,
        base_url=wanted.base_url,
        api_key=KEY,
        concurrency_limit=wanted.in_flight,
    ) as client:
        await client.chat_batch(
            [messages(row) for row in read(wanted.data)],
            output_jsonl=wanted.output,
            save_input=False,  # less to write; its default repeats every input
            show_progress=False,
        )


if __name__ == "__main__":
    asyncio.run(run())
