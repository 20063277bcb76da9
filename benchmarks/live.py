"""What `run --live` costs: processor seconds of the same run with and without the table, in turn.

    python benchmarks/live.py --rows 20000 --keys 50 --rounds 6

Both run on a pseudo terminal of 200 x 50 characters against a simulator in another process. The
least of each is compared: whatever else a machine does only adds. Not for Windows.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

#: What a terminal sends first for a table over all of it.
TABLE = b"\x1b[?1049h"


def seconds_of(words: list[str], folder: Path) -> float:
    """Return the processor seconds of a program on a terminal of its own."""
    seen = b""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ |= {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
        os.execv(words[0], words)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    try:
        while piece := os.read(terminal, 65536):
            seen = seen if TABLE in seen else seen[-16:] + piece
    except OSError:  # its end, on Linux
        pass
    os.close(terminal)
    _, status, usage = os.wait4(child, 0)
    if (TABLE in seen) != ("--live" in words):
        raise SystemExit(f"{' '.join(words)}: the terminal shows something else")
    if status:
        raise SystemExit(f"{' '.join(words)}: exit code {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--keys", type=int, default=50)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds an answer takes")
    given = parser.parse_args()
    program = [sys.executable, "-m", "jsonl_runner"]
    keys = [f"sk-live-{number:04}" for number in range(given.keys)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = ({"index": n, "instruction": f"Say {n}."} for n in range(given.rows))
        (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        serve = [*program, "simulate", "--port", "0", "--latency", str(given.latency)]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                address = server.stdout.readline().split()[-1]
                config = {"api_base": address, "api_keys": keys, "threads": given.threads}
                (folder / "config.json").write_text(json.dumps(config))
                found: dict[str, list[float]] = {"bar": [], "live": []}
                for _ in range(given.rounds):
                    for view, more in (("bar", []), ("live", ["--live"])):
                        words = [*program, "run", "data.jsonl", "output.jsonl", *more]
                        found[view].append(seconds_of(words, folder))
                        for path in folder.glob("output*"):
                            path.unlink()
            finally:
                server.terminate()
    for view, seconds in found.items():
        print(f"{view}: least {min(seconds):.2f} s of {', '.join(f'{s:.2f}' for s in seconds)}")
    print(f"live costs {100 * (min(found['live']) / min(found['bar']) - 1):+.1f} %")


if __name__ == "__main__":
    main()
