"""The openai-cookbook's parallel processor, as parareq packages it.

Three things stand between the package and a run here, none of them on its path of work: it imports
a module of its author's for the default key, takes the endpoint from https addresses only, and
counts tokens with a vocabulary that tiktoken would download (litellm ships the same file).
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

from benchmarks.contestants.rows import KEY, MODEL, job, messages, read

#: A minute's worth that nobody reaches.
_UNLIMITED = 1e9


def load() -> Any:
    """Import the package, its three needs met."""
    found = importlib.util.find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    vocabulary = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(vocabulary)
    secret: Any = types.ModuleType("synthgpt.secret")
    secret.OPENAI_API_KEY = KEY
    sys.modules["synthgpt"] = types.ModuleType("synthgpt")
    sys.modules["synthgpt.secret"] = secret
    from parareq import parareq  # type: ignore[import-not-found]  # noqa: PLC0415

    parareq.api_endpoint_from_url = lambda _url: "chat/completions"
    return parareq


def main() -> None:
    """Do one job; it takes a file of ready requests."""
    wanted, parareq = job(), load()
    requests = f"{wanted.data}.requests"
    with open(requests, "w", encoding="utf-8") as file:  # noqa: PTH123
        for row in read(wanted.data):
            body = {
                "model": MODEL,
                "messages": messages(row),
                "metadata": {"row_id": row["index"]},
            }
            file.write(json.dumps(body) + "\n")
    parareq.APIRequestProcessor(
        requests_filepath=requests,
        save_filepath=wanted.output,
        request_url=f"{wanted.base_url}/chat/completions",
        api_key=KEY,
        max_requests_per_minute=_UNLIMITED,
        max_tokens_per_minute=_UNLIMITED,
        logging_level=30,
    ).run()


if __name__ == "__main__":
    main()
