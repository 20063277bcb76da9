"""litellm's Router: `acompletion` gathered under a semaphore, as its documentation shows."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from litellm import Router  # type: ignore[import-not-found]

from benchmarks.contestants.rows import KEY, MODEL, job, messages, read


async def run() -> None:
    """Do one job."""
    wanted = job()
    parameters = {"model": f"openai/{MODEL}", "api_key": KEY, "api_base": wanted.base_url}
    router = Router(model_list=[{"model_name": MODEL, "litellm_params": parameters}])
    gate = asyncio.Semaphore(wanted.in_flight)
    with open(wanted.output, "w", encoding="utf-8") as output:  # noqa: PTH123

        async def call(row: dict[str, Any]) -> None:
            async with gate:
                reply = await router.acompletion(model=MODEL, messages=messages(row))
            output.write(json.dumps({str(row["index"]): reply.choices[0].message.content}) + "\n")

        await asyncio.gather(*[call(row) for row in read(wanted.data)])


if __name__ == "__main__":
    asyncio.run(run())
