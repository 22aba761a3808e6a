"""Processes of a namespace, as this machine sees them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LONGEST_WAIT_S = 20
"""For what takes milliseconds, or many of them on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process on a device: its number there and outside, and its command line."""

    pid: int
    outside: int
    command: str


def namespace(pid: int | str, kind: str) -> Path | None:
    """Which namespace a process is in; ``None`` if the process is gone."""
    try:
        return Path(f"/proc/{pid}/ns/{kind}").readlink()
    except OSError:
        return None


def processes_beside(pid: int) -> list[Process]:
    """All processes in the process namespace of ``pid``, itself included; no zombies."""
    inside = namespace(pid, "pid")
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if inside is None or namespace(folder.name, "pid") != inside:
            continue
        with suppress(OSError):
            status = (folder / "status").read_text()
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            arguments = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if arguments[0] and not fields["State"].startswith(("Z", "X")):
                found.append(
                    Process(
                        pid=int(fields["NSpid"].split()[-1]),
                        outside=int(folder.name),
                        command=" ".join(os.fsdecode(each) for each in arguments),
                    )
                )
    return sorted(found, key=lambda each: each.pid)


def until(reached: Callable[[], object]) -> None:
    """Wait until ``reached()`` is true."""
    end = time.monotonic() + LONGEST_WAIT_S
    while not reached():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)
