"""async-batch-llm: `process_prompts` over chat completions, the answers in a list."""

from __future__ import annotations

import asyncio

from async_batch_llm import llm, process_prompts  # type: ignore[import-not-found]

from benchmarks.contestants.rows import KEY, MODEL, job, read, write


async def run() -> None:
    """Do one job. It takes texts, so instruction and input go as one."""
    wanted = job()
    rows = list(read(wanted.data))
    batch = await process_prompts(
        llm(
            f"openai-compatible:{MODEL}",
            base_url=wanted.base_url,
            api_key=KEY,
            max_connections=wanted.in_flight,
        ),
        [f"{row['instruction']}\n{row['input']}" for row in rows],
        concurrency=wanted.in_flight,
    )
    indices = [row["index"] for row in rows]
    answers = [str(result.output) for result in batch.results if result.success]
    write(wanted.output, list(zip(indices, answers, strict=False)))


if __name__ == "__main__":
    asyncio.run(run())
