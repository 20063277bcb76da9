"""Time and peak memory of merging into each format: `python benchmarks/formats.py [rows …]`.

Of 100,000 and 1,000,000 rows (or those given), answered in another order than they stand, each
merge a process of its own; memory is its peak resident size as the kernel counts it. Writes some
2 GB into the temporary folder and removes it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.batch_requests import measured

_INPUT = "The library opens at nine, and the reading room an hour later. "
_OUTPUT = "La bibliothèque ouvre à neuf heures, et la salle de lecture une heure plus tard."
#: What is merged: the target, and options of the command.
_CASES = (
    ("m.json",),
    ("m.jsonl",),
    ("m.jsonl.gz",),
    ("m.jsonl.zst",),
    ("m.csv",),
    ("m.parquet",),
    ("m.json", "--format", "alpaca"),
    ("m.json", "--format", "sharegpt"),
    ("m.jsonl", "--format", "openai-chat"),
    ("m.jsonl", "--split", "train=0.95,test=0.05", "--dedupe"),
    ("m.jsonl", "--drop-reasons", "empty,length,refusal,duplicate,echo"),
)


def lay(folder: Path, count: int) -> None:
    """Write a dataset, its ledger and its call log."""
    with (folder / "data.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(count):
            stream.write(
                f'{{"index": {number}, "instruction": "Translate into French.", '
                f'"input": "{_INPUT}{number}", "score": {number % 7}, "tags": ["a", "b"]}}\n'
            )
    # Blocks of a hundred in the wrong order, as many threads leave them behind.
    order = [start + 99 - k for start in range(0, count, 100) for k in range(100)]
    with (folder / "output.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(f'{{"{number}":"{_OUTPUT} {number}"}}\n' for number in order)
    with (folder / "output.calls.jsonl").open("w", encoding="utf-8") as stream:
        for number in order:
            end = "length" if number % 50 == 0 else "stop"
            stream.write(f'{{"index":"{number}","status":"ok","finish_reason":"{end}"}}\n')


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [100_000, 1_000_000]
    print("| rows | merge | seconds | of processor time | peak MB | MB written |")
    print("| --- | --- | --- | --- | --- | --- |")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lay(folder, count)
            for target, *options in _CASES:
                seconds, processor, peak = measured(
                    "-m", "jsonl_runner", "merge", folder / "data.jsonl", folder / "output.jsonl",
                    folder / target, "-q", *options,
                )  # fmt: skip
                written = sum(path.stat().st_size for path in folder.glob("m.*")) / 1e6
                for path in folder.glob("m.*"):
                    path.unlink()
                words = " ".join([target.partition(".")[2], *options])
                print(
                    f"| {count:,} | {words} | {seconds:.1f} | {processor:.1f} | {peak:.0f} | "
                    f"{written:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
