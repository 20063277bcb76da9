"""The floor: threads, one libcurl handle each, bodies made beforehand, answers thrown away.

Nothing is parsed, logged or kept, and no row is ever tried again: what a program adds to this is
what its promises cost.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pycurl

from benchmarks.contestants.rows import KEY, job

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes; thousands of threads with the usual 8 MB would only reserve addresses, but that too costs.
_STACK = 256 * 1024
#: Seconds between two forced switches: hundreds of busy threads livelock on Python's 5 ms.
_SWITCH_S = 0.1


def work(bodies: Iterator[bytes], lock: threading.Lock, gate: threading.Event, url: str) -> None:
    """Send bodies until there are none."""
    curl = pycurl.Curl()
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.TCP_NODELAY, 1)
    curl.setopt(pycurl.URL, url)
    curl.setopt(
        pycurl.HTTPHEADER,
        ["Content-Type: application/json", f"Authorization: Bearer {KEY}", "Expect:"],
    )
    curl.setopt(pycurl.NOPROXY, "*")
    curl.setopt(pycurl.CONNECTTIMEOUT, 30)
    curl.setopt(pycurl.WRITEFUNCTION, len)
    gate.wait()
    while True:
        with lock:
            body = next(bodies, None)
        if body is None:
            return
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.perform()


def main() -> None:
    """Do one job; the bodies stand beside the data."""
    wanted = job()
    threading.stack_size(_STACK)
    sys.setswitchinterval(_SWITCH_S)
    lock, gate = threading.Lock(), threading.Event()
    url = f"{wanted.base_url}/chat/completions"
    with open(f"{wanted.data}.bodies", "rb") as bodies:  # noqa: PTH123
        arguments = (iter(bodies), lock, gate, url)
        threads = [threading.Thread(target=work, args=arguments) for _ in range(wanted.in_flight)]
        for thread in threads:
            thread.start()
        gate.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
