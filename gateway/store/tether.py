"""Becomes another program, one that the kernel ends when the gateway is gone.

Run as a file: `python -I -S tether.py <gateway's pid> <program> <argument>...`. The signal is asked
for here and not in a fork of the gateway, where other threads may hold locks (Linux only).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""prctl(2). It outlives execve(2); the parent is the *thread* that started us."""


def end_with_parent(parent: int) -> bool:
    """Have the kernel end this process with its parent. False if that has gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # It may have died before the line above.
    return os.getppid() == parent


def tethered(command: list[str]) -> list[str]:
    """The command line that runs `command` as a child of ours, and ends it when we are gone."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    parent, *command = sys.argv[1:]
    if end_with_parent(int(parent)):
        os.execv(command[0], command)  # noqa: S606 - the program that our parent chose


if __name__ == "__main__":
    main()
