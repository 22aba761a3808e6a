"""End everything that a worker started, wherever it went.

A program that a worker starts may leave its process group and its parent. It keeps the environment,
where each worker has a mark of its own (Linux; elsewhere only the process group is ended).
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress

MARK = "LATBENCH_WORKER"
KILL_ROUNDS = 20
"""A process may fork while the others are being ended; the next round finds its child."""


def new_mark() -> str:
    """A value of :data:`MARK` that no other process has."""
    return secrets.token_hex(16)


def end_marked(mark: str) -> None:
    """Kill all other processes with this mark."""
    if sys.platform != "linux" or not mark:
        return
    for _ in range(KILL_ROUNDS):
        found = list(_marked(mark))
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    own = os.getpid()
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are enough
        if not name.isdecimal() or int(name) == own:
            continue
        # Processes of other users cannot be read, and one that has ended has no environment.
        with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
            if wanted in file.read().split(b"\0"):
                yield int(name)
