"""The product through its own command line: how it is called and how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
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


def in_subprocess(arguments: list[str], environment: Mapping[str, str], folder: Path) -> Ended:
    """Run the command as a program of its own."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
        timeout=300,
    )
    return Ended(status=done.returncode, out=done.stdout, err=done.stderr)


@contextmanager
def _redirected(descriptor: int, name: str) -> Iterator[Callable[[], str]]:
    """Send a standard stream, Python's and that of child processes, to a file; yields its reader."""
    with tempfile.TemporaryFile() as file:
        kept, stream = os.dup(descriptor), getattr(sys, name)
        stream.flush()
        os.dup2(file.fileno(), descriptor)
        replacement = os.fdopen(descriptor, "w", encoding="utf-8", closefd=False)
        setattr(sys, name, replacement)

        def read() -> str:
            replacement.flush()
            file.seek(0)
            return file.read().decode()

        try:
            yield read
        finally:
            replacement.close()
            setattr(sys, name, stream)
            os.dup2(kept, descriptor)
            os.close(kept)


def in_process(arguments: list[str], environment: Mapping[str, str], folder: Path) -> Ended:
    """Run the command in this interpreter, which saves starting another; workers are processes.

    It sees the same arguments, environment, working directory, standard streams and search path as
    a program; what was imported before remains imported.
    """
    from latbench.cli import main

    kept = (sys.argv, dict(os.environ), Path.cwd(), list(sys.path))
    sys.argv = ["latbench", *arguments]
    searched = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = dict.fromkeys((*searched, *sys.path))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        with _redirected(1, "stdout") as out, _redirected(2, "stderr") as err:
            try:
                main()
            except SystemExit as ended:
                return Ended(status=int(ended.code or 0), out=out(), err=err())
    finally:
        sys.argv = kept[0]
        os.environ.clear()
        os.environ.update(kept[1])
        os.chdir(kept[2])
        sys.path[:] = kept[3]
    raise AssertionError("the command line returned without an exit status")
