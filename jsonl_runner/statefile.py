"""How a run goes, in a small file beside its ledger, for whoever looks on from elsewhere.

Derived: to delete it loses nothing. It is there while a run is, and afterwards only if the run
ended early (then it says why) or was killed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import orjson

from .snapshot import Snapshot, from_dict

if TYPE_CHECKING:
    #: Of the process that wrote a state: at work, ended by itself, gone without a word, or on
    #: another machine, where nobody here can tell.
    Fate = Literal["running", "ended", "gone", "elsewhere"]

_VERSION = 1
#: Bytes; what is longer is no state of ours.
_MAX_BYTES = 64 * 1024 * 1024
#: Seconds that the end of a run waits for the disk.
_DISK_S = 2.0


@dataclass(frozen=True)
class State:
    """What a state file says.

    Attributes:
        snapshot: how the run goes.
        pid: its process.
        began: when that began, in the system's own count; None where it tells none. Numbers of
            processes come again.
        host: its machine.
        ended: why the run ended early; empty while it runs.
    """

    snapshot: Snapshot
    pid: int
    began: int | None
    host: str
    ended: str = ""

    @property
    def fate(self) -> Fate:
        """What became of its process."""
        if self.ended:
            return "ended"
        if self.host != socket.gethostname():
            return "elsewhere"
        return "running" if _is_there(self.pid, self.began) else "gone"


def path_for(ledger: Path) -> Path:
    """Return the state file's path: `output.state.json` for `output.jsonl`, links followed."""
    ledger = ledger.resolve() if ledger.is_symlink() else ledger
    return ledger.with_name(ledger.stem + ".state.json")


class StateFile:
    """The state file of a run that holds its ledger's lock.

    Nothing of it ever fails the run or holds it up: a thread of its own waits for the disk, and on
    a full one the file is old, or not there. What an earlier run left is removed.

    Args:
        ledger: path of the ledger it belongs to.
    """

    def __init__(self, ledger: Path) -> None:
        self._path = path_for(ledger)
        self._began = _began(os.getpid())
        #: Whether any state has been written.
        self.is_there = False
        self._latest: queue.SimpleQueue[Snapshot | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.remove()

    def offer(self, snapshot: Snapshot) -> None:
        """Have a state written soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_up, name="state", daemon=True)
            self._thread.start()
        self._latest.put(snapshot)

    def _keep_up(self) -> None:
        while (snapshot := self._latest.get()) is not None:
            if self._latest.empty():  # where the disk is slow, only the newest matters
                self.write(snapshot)

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._latest.put(None)
            self._thread.join(timeout=_DISK_S)
            self._thread = None

    def end(self, snapshot: Snapshot, ended: str) -> None:
        """Say in the file why the run has ended."""
        self._end_thread()
        self.write(snapshot, ended)

    def write(self, snapshot: Snapshot, ended: str = "") -> None:
        """Put a state in the place of the last one, in one step."""
        state = {
            "version": _VERSION,
            "pid": os.getpid(),
            "began": self._began,
            "host": socket.gethostname(),
            "ended": ended,
            "snapshot": snapshot,  # orjson writes a dataclass at a tenth of the cost of `asdict`
        }
        beside = self._path.with_name(f".{self._path.name}.tmp")
        # Not forced onto the disk: after a power cut nobody asks how the run goes.
        try:
            beside.write_bytes(orjson.dumps(state))
            beside.replace(self._path)
            self.is_there = True
        except (OSError, orjson.JSONEncodeError):
            with contextlib.suppress(OSError):
                beside.unlink()

    def remove(self) -> None:
        """Remove the file."""
        self._end_thread()
        with contextlib.suppress(OSError):
            self._path.unlink()


def read(ledger: Path) -> State | None:
    """Return what a ledger's state file says, None if there is none that can be read."""
    try:
        with path_for(ledger).open("rb") as stream:
            data = orjson.loads(stream.read(_MAX_BYTES))
        if data["version"] != _VERSION:
            return None
        pid, began, host, ended = data["pid"], data["began"], data["host"], data["ended"]
        if type(pid) is not int or pid <= 0 or not isinstance(began, (int, type(None))):
            return None
        return State(from_dict(data["snapshot"]), pid, began, str(host), str(ended))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_there(pid: int, began: int | None) -> bool:
    if os.name == "nt":  # where to ask after a process is to end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return began is None or _began(pid) in (None, began)


def _began(pid: int) -> int | None:
    """Return when a process began, in clock ticks since the system's start; None if unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
