"""A program that ends a run over a folder at its first file operation, at its second, and so on.

After each of these crashes it looks at what is there, runs to the end, and looks again. It prints
how many there were. Arguments: `folder` or `texts`, a folder to work in, the simulator's address.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonl_runner.transport.curl  # noqa: F401  # not in each of the processes
from jsonl_runner import config as settings
from jsonl_runner.clock import Stop
from jsonl_runner.folder import FolderJob, Steps, run_folder
from jsonl_runner.keys import KeysView
from jsonl_runner.progress import Silent
from jsonl_runner.texts import TextsJob, run_texts
from jsonl_runner.tokens import split_string_by_tokens
from jsonl_runner.tree import WORK

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}
NAMES = ("s/a", "b")
CRASHED = 9
LINES = 3


class Folders:
    """The input and the output folder, and what must be there in the end."""

    endings: tuple[str, ...] = ("",)

    def __init__(self, folder: Path) -> None:
        self.source, self.target = folder / "in", folder / "out"

    def begin(self, number: int) -> None:
        """Make the input anew, with texts that no other crash has; remove the output."""
        shutil.rmtree(self.target, ignore_errors=True)
        for name in NAMES:
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"text {number} of {name}\n" * LINES)

    def run(self) -> None:
        """Do the files."""

    def is_whole(self, number: int, name: str, text: str) -> bool:
        """Return whether an output is the whole one of its file."""
        raise NotImplementedError

    def check(self, number: int, *, complete: bool) -> None:
        """Look at the outputs, and in the end at what else is left."""
        for path, name in [(self.target / f"{n}{e}", n) for n in NAMES for e in self.endings]:
            if path.exists():
                assert self.is_whole(number, name, path.read_text()), (number, path)
            else:
                assert not complete, (number, path)
        left = {path.name for path in self.target.glob(f"{WORK}/*")} - {"ledger.calls.jsonl"}
        assert not (complete and left), (number, left)


class ByFunctions(Folders):
    """Three functions; each output is two files."""

    endings = (".more", ".out")

    def run(self) -> None:
        def write(data: str, path: str) -> None:
            for ending in self.endings:
                Path(path + ending).write_text(data)

        def read(stream: Any) -> str:
            return str(stream.read())

        config = settings.load(None, {}, {})
        run_folder(
            config,
            FolderJob(self.source, self.target, threads=1),
            Steps(read, str.upper, write),
            stop=Stop(),
            view=lambda: KeysView(0, 0, 0, 0, 0, "", ""),
            shown_on=Silent(),
        )

    def is_whole(self, number: int, name: str, text: str) -> bool:
        return text == f"TEXT {number} OF {name.upper()}\n" * LINES


class ByInstruction(Folders):
    """An instruction; each output comes in parts."""

    def __init__(self, folder: Path, address: str) -> None:
        super().__init__(folder)
        self._address = address
        split_string_by_tokens("once, before there are many processes", 1, "\n")

    def run(self) -> None:
        given = {"api_base": self._address, "api_keys": ["sk-any-key"], "threads": 1, "proxy": ""}
        job = TextsJob(self.source, self.target, "Repeat.", split_tokens=5, quiet=True)
        run_texts(settings.load(None, given, {}), job)

    def is_whole(self, number: int, name: str, text: str) -> bool:
        return text.count("\n") == text.count(f" text {number} of {name}\n") == LINES


def ends(run: Callable[[], None], last: int = 0) -> int:
    """Run in a process that ends at an operation of that number (0: never); return its code."""
    process = os.fork()
    if process == 0:
        seen = 0

        def watch(event: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            # Names without a folder are those of a tree that is being removed.
            if event in OPERATIONS and ("out" in str(args[0]) or "/" not in str(args[0])):
                seen += 1
                if seen == last:
                    os._exit(CRASHED)

        sys.addaudithook(watch)
        try:
            run()
        except BaseException as error:  # noqa: BLE001
            print(f"operation {last}: {error!r}", file=sys.stderr)  # noqa: T201
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(mode: str, folder: str, *address: str) -> None:
    """Crash everywhere."""
    place = Path(folder)
    folders = ByFunctions(place) if mode == "folder" else ByInstruction(place, *address)
    number, code = 0, CRASHED
    while code == CRASHED:
        number += 1
        folders.begin(number)
        code = ends(folders.run, number)
        assert code in {0, CRASHED}
        folders.check(number, complete=code == 0)
        assert ends(folders.run) == 0
        folders.check(number, complete=True)
    print(number - 1)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
