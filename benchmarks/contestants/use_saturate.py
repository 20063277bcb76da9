"""saturate: `pump` with a fixed window. Its answers are parquet parts."""

from __future__ import annotations

from typing import Any

from saturate import Fixed, pump  # type: ignore[import-not-found]

from benchmarks.contestants.rows import KEY, MODEL, job, messages, read


def to_request(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's request body."""
    return {"model": MODEL, "messages": messages(row)}


def parse(row: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a row's answer."""
    return {"index": row["index"], "output": reply["choices"][0]["message"]["content"]}


def main() -> None:
    """Do one job. Its default of a file every ten rows is for rows that take minutes."""
    wanted = job()
    stats = pump(
        ((str(row["index"]), row) for row in read(wanted.data)),
        to_request,
        parse,
        endpoint=wanted.base_url,
        output=f"{wanted.output}.parts",
        window=Fixed(wanted.in_flight),
        flush_every=1000,
        headers={"Authorization": f"Bearer {KEY}"},
        signal_source="none",
    )
    with open(f"{wanted.output}.count", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(str(stats.rows_processed))


if __name__ == "__main__":
    main()
