"""The stage: one core for the server, one for the client, and what a process cost.

Memory is a process's `ru_maxrss`, which Linux starts at the size of the process that spawned it.
That is why this package keeps nothing large: no rows, no answers, no third-party modules.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CLIENT_CPU, SERVER_CPU = 0, 1
#: Seconds that a program which is ended gets to put its things away.
_GRACE_S = 5.0
#: Characters of a failed program's last words that are kept.
_TAIL = 600


def cache_folder() -> Path:
    """Return the folder for what may be made once: the server, the peers' environments."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "jsonl-runner-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def allow_many_files() -> None:
    """Let every contestant open as many connections as the system allows; they inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def build_server() -> Path:
    """Compile the server if its source is newer than the program."""
    program = cache_folder() / "server"
    newest = max(source.stat().st_mtime for source in HERE.glob("server*.[ch]"))
    if program.exists() and program.stat().st_mtime > newest:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("benchmarks: no C compiler here; the Debian package gcc (with libc6-dev) has one")
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(HERE / "server.c")]
    subprocess.run(command, check=True)
    return program


class Server:
    """A running server.

    Args:
        process: the server's process.
        port: where it listens on 127.0.0.1.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def stats(self) -> dict[str, Any]:
        """Return what the server saw since the last reset."""
        return dict(json.loads(self._get("/stats")))

    def reset(self) -> None:
        """Forget what was seen."""
        self._get("/stats/reset")

    def settle(self) -> None:
        """Wait until the connections of an ended client are gone, then forget what was seen."""
        for _ in range(100):
            if self.stats()["open"] <= 1:
                break
            time.sleep(0.05)
        self.reset()

    def cpu_seconds(self) -> float:
        """Return the processor time that the server used so far."""
        text = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii")
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _get(self, path: str) -> bytes:
        # No proxy of this machine may come between.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=30) as reply:
            return bytes(reply.read())


@contextlib.contextmanager
def server(latency_ms: float = 0) -> Iterator[Server]:
    """Run the server on its own core."""
    command = [str(build_server()), "--latency-ms", str(latency_ms), "--cpu", str(SERVER_CPU)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Server(process, int(process.stdout.readline()))
        finally:
            process.terminate()


@dataclass
class Cost:
    """What a process cost, start-up included.

    Attributes:
        wall_s, cpu_s: its seconds; user and system, with children that it waited for.
        peak_mb: most resident memory of the largest single process, in MB of 10^6 bytes.
        code: its exit code, None when it was ended for taking too long.
        started: monotonic time of its start.
        tail: its last words on standard error.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    code: int | None
    started: float
    tail: str


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Have processes that are started meanwhile run on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without keys, addresses and proxies, and with `extra`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "JSONL_RUNNER_", "PYTHON"))
        and not name.lower().endswith("_proxy")
    }
    return kept | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | dict(extra)


def measure(
    command: Sequence[str], folder: Path, bound_s: float, extra: Mapping[str, str] | None = None
) -> Cost:
    """Run a command on the client's core until it ends, or until it took too long."""
    log = folder / "stderr.txt"
    with log.open("wb") as errors, pinned(CLIENT_CPU):
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=clean_environment(extra or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    watched = os.pidfd_open(process.pid)
    try:
        in_time = False
        try:
            in_time = _ended(watched, bound_s)
        finally:  # also when these benchmarks are interrupted
            if not in_time:
                _end(process.pid, watched)
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
    finally:
        os.close(watched)
        process.returncode = 0  # it is waited for; Popen must not try again
    tail = log.read_bytes()[-_TAIL:].decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status) if in_time else None
    peak_mb = usage.ru_maxrss * 1024 / 1e6
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak_mb, code, started, tail)


def _ended(watched: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _end(group: int, watched: int) -> None:
    """End the process that leads a group, and with it the group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        _ended(watched, _GRACE_S)
        os.killpg(group, signal.SIGKILL)
    _ended(watched, 60)


def facts() -> dict[str, str]:
    """Return what a reader must know of the machine; nothing that names it."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        check=False,
        text=True,
    ).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": sys.version.split()[0],
        "processor": f"{os.cpu_count()} x {model}",
        "commit": commit,
        "load": f"{os.getloadavg()[0]:.1f}",
    }
