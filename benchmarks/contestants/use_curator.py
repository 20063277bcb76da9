"""bespokelabs-curator: `curator.LLM` over a list of rows, its online processor.

Its token counter's vocabulary comes with litellm, on which it depends, so nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.contestants.rows import KEY, job, messages, read

#: A minute's worth that nobody reaches.
_UNLIMITED = 1_000_000_000


def main() -> None:
    """Do one job. Limits are raised as its documentation says, the rich display is off."""
    wanted = job()
    found = importlib.util.find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    vocabulary = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(vocabulary)
    os.environ["CURATOR_CACHE_DIR"] = f"{wanted.output}.cache"
    from bespokelabs import curator  # type: ignore[import-not-found]  # noqa: PLC0415

    class Chat(curator.LLM):  # type: ignore[misc]
        """A prompt and a parser, as its quickstart has them."""

        def prompt(self, row: dict[str, Any]) -> list[dict[str, str]]:
            """Return a row's messages."""
            return messages(row)

        def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
            """Return the columns of a row's answer."""
            return {"index": row["index"], "output": response}

    model = Chat(
        model_name="gpt-4o-mini",  # it must know the model's price
        backend="openai",
        backend_params={
            "base_url": wanted.base_url,
            "api_key": KEY,
            "max_requests_per_minute": _UNLIMITED,
            "max_tokens_per_minute": _UNLIMITED,
            "max_concurrent_requests": wanted.in_flight,
        },
    )
    done = model(list(read(wanted.data)))
    with open(wanted.output, "w", encoding="utf-8") as file:  # noqa: PTH123
        rows = getattr(done, "dataset", done)
        file.writelines(json.dumps({str(row["index"]): row["output"]}) + "\n" for row in rows)


if __name__ == "__main__":
    main()
