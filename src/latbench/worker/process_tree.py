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
"""Variable with a value of its own for each worker; what it starts inherits it."""
HARNESS_MARK = "LATBENCH_HARNESS"
"""Variable that all workers of one harness on a device at the end of a connection have in common.
"""
KILL_ROUNDS = 20
"""A process may fork while the others are being ended; the next round finds its child."""


def new_mark() -> str:
    """A value of :data:`MARK` that no other process has."""
    return secrets.token_hex(16)


def end_marked(mark: str, variable: str = MARK) -> None:
    """Kill all other processes in whose environment ``variable`` has this value."""
    if sys.platform != "linux" or not mark:
        return
    for _ in range(KILL_ROUNDS):
        found = list(_marked(mark, variable))
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def has_mark(pid: int, mark: str, variable: str = MARK) -> bool:
    """Whether the process has this value; ``False`` if it has ended or is another user's."""
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
        return bool(mark) and f"{variable}={mark}".encode() in file.read().split(b"\0")
    return False


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or one that is just ending: its memory is gone by then."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return not file.read()
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False  # Another user's.


def _marked(mark: str, variable: str) -> Iterator[int]:
    own = os.getpid()
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are enough
        if name.isdecimal() and int(name) != own and has_mark(int(name), mark, variable):
            yield int(name)
