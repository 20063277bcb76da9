"""openai-parallel-toolkit, the program that jsonl-runner began as: keys, threads, JSONL."""

from __future__ import annotations

import json

from openai_parallel_toolkit import (  # type: ignore[import-not-found]
    OpenAIModel,
    ParallelToolkit,
)

from benchmarks.contestants.rows import MODEL, job


def main() -> None:
    """Do one job. It makes no more threads than it has keys, so it gets a key a thread."""
    wanted = job()
    config = f"{wanted.data}.config.json"
    keys = [f"sk-benchmark-{number:04}" for number in range(wanted.in_flight)]
    with open(config, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump({"api_keys": keys, "api_base": wanted.base_url}, file)
    ParallelToolkit(
        config_path=config,
        openai_model=OpenAIModel(MODEL),
        input_path=wanted.data,
        output_path=wanted.output,
        threads=wanted.in_flight,
    ).run()


if __name__ == "__main__":
    main()
