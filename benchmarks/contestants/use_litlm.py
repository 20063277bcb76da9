"""litlm: its command over a file of conversations, answers written as they come."""

from __future__ import annotations

import json
import sys

import litlm_cli  # type: ignore[import-not-found]

from benchmarks.contestants.rows import KEY, MODEL, job, messages, read


def main() -> None:
    """Do one job."""
    wanted = job()
    conversations = f"{wanted.data}.conversations"
    with open(conversations, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.writelines(json.dumps(messages(row)) + "\n" for row in read(wanted.data))
    options = ["--input-jsonl", "--no-progress", "--max-concurrency", str(wanted.in_flight)]
    options += ["--param", f"api_base={wanted.base_url}", "--param", f"api_key={KEY}"]
    files = ["-i", conversations, "-o", wanted.output]
    sys.exit(litlm_cli.main(["-m", f"openai/{MODEL}", *files, *options]))


if __name__ == "__main__":
    main()
