"""Running programs that hold a conversation: what the harness needs of one, and local ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from latbench.errors import Stage, StageError
from latbench.worker.messages import SignalName
from latbench.worker.process_tree import MARK, end_marked, new_mark

WORKER = "latbench.worker.inference"
"""The module that is the Python worker."""
DETAIL_BYTES = 4000
"""How much of the end of standard error a failure keeps."""
NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""Variables with which runtimes send nothing and leave no device id in the user's cache folder."""
WITHHELD = ("LATBENCH_REGISTRY",)
"""Variables that a program does not get: the URL of the registry may contain a password."""
GRACE_S = 0.5
"""How long a program whose input ends may take to end by itself."""


class Process(Protocol):
    """A running program, on this machine or at the other end of a connection."""

    def write(self, data: bytes) -> None:
        """Write to its standard input. What it no longer reads is dropped."""
        ...

    def read_line(self, longest: int) -> bytes:
        """Wait for a line of its standard output, at most ``longest`` bytes of it.

        Empty once the output has ended.
        """
        ...

    def status(self, timeout_s: float) -> int | None:
        """The exit status, negative for a signal; ``None`` if it still runs after ``timeout_s``.

        Raises :class:`StageError` if the connection to it is lost.
        """
        ...

    def signal(self, name: SignalName, pid: int) -> None:
        """Send a signal to the program, whose process is ``pid``, and to whatever it started.

        Does nothing where that is not possible.
        """
        ...

    def end(self, pid: int | None) -> None:
        """End the program and whatever it started. It may be called again.

        ``pid`` is its process as it says; ``None`` before it has said so.
        """
        ...

    def detail(self) -> str | None:
        """The end of what it wrote to standard error."""
        ...

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process for lack of memory since the start."""
        ...


class Program(Protocol):
    """A program that can be started."""

    def start(self, stage: Stage) -> Process:
        """Start it. Raises :class:`StageError` with ``stage``."""
        ...


@dataclass(frozen=True)
class LocalProgram:
    """A command line on this machine. ``environment`` adds to the variables of this process."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, stage: Stage) -> Process:
        """Start it. Raises :class:`StageError` with ``stage``."""
        return LocalProcess(self, stage)


def python_module(module: str, environment: Mapping[str, str] | None = None) -> LocalProgram:
    """``python -m module`` with this interpreter."""
    # -P: a file in the working directory must not replace a module of the standard library.
    return LocalProgram((sys.executable, "-P", "-m", module), environment or {})


class LocalProcess:
    """A child process."""

    def __init__(self, program: LocalProgram, stage: Stage) -> None:
        self._oom_kills = oom_kills()
        self._mark = new_mark()
        given = {name: value for name, value in os.environ.items() if name not in WITHHELD}
        try:
            # A file, not a pipe: a program that writes much must not block because nobody reads.
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        except OSError as error:
            raise StageError(
                stage,
                f"cannot create a temporary file: {error.strerror or error}",
                hint="free space in the folder for temporary files, or set TMPDIR to another one",
            ) from error
        try:
            self._process = subprocess.Popen(
                program.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**given, **NO_TELEMETRY, **program.environment, MARK: self._mark},
                # Its own group: Ctrl-C reaches only the harness, which then ends the program.
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise StageError(
                stage,
                f"cannot start the program: {error.strerror or error}",
                hint="too many processes, or not enough memory",
            ) from error

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        # The program may have ended; waiting for its response finds out how.
        with suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def read_line(self, longest: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline(longest)

    def status(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, name: SignalName, pid: int) -> None:
        # Its own word for its process is not trusted: it leads the group that it was started in.
        self._kill_group(
            {"stop": signal.SIGSTOP, "continue": signal.SIGCONT, "kill": signal.SIGKILL}[name]
        )

    def end(self, pid: int | None) -> None:
        if self._stderr.closed:
            return
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self.status(GRACE_S)
        self._kill_group(signal.SIGKILL)
        self._process.wait()
        end_marked(self._mark)
        self._told = self.detail()
        self._stderr.close()

    def detail(self) -> str | None:
        if self._stderr.closed:
            return self._told
        # pread: the program shares the file's offset, which must not move.
        file = self._stderr.fileno()
        end = os.fstat(file).st_size
        tail = os.pread(file, DETAIL_BYTES, max(0, end - DETAIL_BYTES))
        return tail.decode(errors="replace").strip() or None

    def out_of_memory(self) -> bool:
        before, now = self._oom_kills, oom_kills()
        return before is not None and now is not None and now > before

    def _kill_group(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def oom_kills() -> int | None:
    """Number of processes in this control group (v2) that the kernel killed for lack of memory."""
    try:
        groups = Path("/proc/self/cgroup").read_text()
        path = next(line[3:] for line in groups.splitlines() if line.startswith("0::"))
        events = Path(f"/sys/fs/cgroup{path}/memory.events").read_text()
        return int(
            next(line for line in events.splitlines() if line.startswith("oom_kill ")).split()[1]
        )
    except (OSError, StopIteration, ValueError):
        return None
