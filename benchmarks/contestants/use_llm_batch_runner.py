"""llm-batch-runner: a thread pool over the openai SDK, one cache file a row."""

from __future__ import annotations

import logging

from llm_batch_runner import LLMBatchRunner  # type: ignore[import-not-found]

from benchmarks.contestants.rows import KEY, MODEL, job, messages, read, write


def main() -> None:
    """Do one job. The client's connections are raised as the SDK documents it."""
    import httpx2  # noqa: PLC0415
    import openai  # noqa: PLC0415

    wanted = job()
    logging.getLogger("llm_batch_runner").setLevel(logging.WARNING)
    limits = httpx2.Limits(
        max_connections=wanted.in_flight, max_keepalive_connections=wanted.in_flight
    )
    rows = list(read(wanted.data))
    results = LLMBatchRunner(
        base_model=None,
        messages=[messages(row) for row in rows],
        max_workers=wanted.in_flight,
        client_config={
            "api_key": KEY,
            "base_url": wanted.base_url,
            "http_client": openai.DefaultHttpxClient(limits=limits),
        },
        model_name=MODEL,
        cache_dir=f"{wanted.output}.cache",
        show_progress=False,
    ).run()
    write(wanted.output, [(rows[result["index"]]["index"], result["output"]) for result in results])


if __name__ == "__main__":
    main()
