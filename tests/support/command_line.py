"""The product through its own command line: how it is called and how it ended."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "latbench"]
QUICK = (
    *("--protocol", "latbench-fixed@1", "--processes", "2"),
    *("--warmup", "3", "--calls", "10", "--block-calls", "5"),
)


def workers_of(pid: int) -> set[int]:
    """Workers that a running command has (Linux); it starts other programs too."""
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):
                if b"latbench.worker.inference" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.add(int(child))
    return found


def wait_for_workers(pid: int, number: int) -> set[int]:
    """Wait until a command has started its ``number``-th worker; those that are alive then."""
    seen: set[int] = set()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        alive = workers_of(pid)
        seen |= alive
        if len(seen) >= number:
            return alive
        time.sleep(0.01)
    raise AssertionError(f"{len(seen)} workers were started in 60 s")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Latbench = Callable[..., Ended]
