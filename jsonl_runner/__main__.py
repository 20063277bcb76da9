"""`python -m jsonl_runner`, and the command `jsonl-runner`."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    # Until the command line takes over, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli.main import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
