"""litellm's `batch_completion`: a thread pool over `completion`, the answers in a list."""

from __future__ import annotations

from litellm import batch_completion  # type: ignore[import-not-found]

from benchmarks.contestants.rows import KEY, MODEL, job, messages, read, write


def main() -> None:
    """Do one job."""
    wanted = job()
    rows = list(read(wanted.data))
    replies = batch_completion(
        model=f"openai/{MODEL}",
        messages=[messages(row) for row in rows],
        max_workers=wanted.in_flight,
        api_key=KEY,
        api_base=wanted.base_url,
    )
    pairs = zip(rows, replies, strict=True)
    write(
        wanted.output,
        [
            (row["index"], reply.choices[0].message.content)
            for row, reply in pairs
            if not isinstance(reply, Exception)
        ],
    )


if __name__ == "__main__":
    main()
