"""Runs a command to which the system refuses some calls: `refusing.py flock=ENOLCK COMMAND …`.

The kernel itself refuses them (seccomp), as it does on disks and file systems that no test has.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import platform
import struct
import sys

#: Numbers of the system's calls.
_CALLS = {
    "x86_64": {"fsync": 74, "fdatasync": 75, "flock": 73},
    "aarch64": {"fsync": 82, "fdatasync": 83, "flock": 32},
}
#: Whether there is anything here that can refuse.
IS_ABLE = sys.platform == "linux" and platform.machine() in _CALLS

_NO_NEW_PRIVILEGES, _SECCOMP, _BY_FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


def refuse(refused: dict[str, int]) -> None:
    """Have each of some calls fail with an error number, for this process and its children."""
    step = struct.Struct("HBBI")
    steps = [step.pack(_LOAD, 0, 0, 0)]  # the number of the call
    for name, number in refused.items():
        steps.append(step.pack(_EQUAL, 0, 1, _CALLS[platform.machine()][name]))
        steps.append(step.pack(_RETURN, 0, 0, _FAIL | number))
    steps.append(step.pack(_RETURN, 0, 0, _ALLOW))
    program = ctypes.create_string_buffer(b"".join(steps))
    filters = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    )
    system = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    for words in (
        (_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), zero, zero, zero),
        (_SECCOMP, ctypes.c_ulong(_BY_FILTER), filters, zero, zero),
    ):
        if system.prctl(*words):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    asked = list(itertools.takewhile(lambda word: "=" in word, sys.argv[1:]))
    refuse({name: getattr(errno, code) for name, _, code in (w.partition("=") for w in asked)})
    os.execv(sys.argv[len(asked) + 1], sys.argv[len(asked) + 1 :])
