"""The harness's end: start a program, ask it, and turn whatever happens to it into a value."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TypeVar

import msgspec

from latbench.errors import (
    FailureKind,
    Stage,
    StageError,
    UsageError,
)
from latbench.worker import messages

A = TypeVar("A", bound=messages.Message)

START_DEADLINE_S = 120.0
"""A cold machine has been seen to take 20 s to start Python from a slow disk."""
DETAIL_BYTES = 4000


class WorkerClient:
    """One program, spoken to in JSON lines. Leaving the ``with`` block always ends the program."""

    def __init__(self, command: Sequence[str], *, temporary: Path | None = None) -> None:
        try:
            # A file, not a pipe: a program that writes much must not stop because nobody reads.
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        except OSError as error:
            raise StageError(
                "open",
                f"a temporary file cannot be made: {error.strerror or error}",
                hint="make room in the folder for temporary files, or name another with TMPDIR",
            ) from error
        self._oom_kills = _oom_kills()
        self._paused = False
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=None if temporary is None else {**os.environ, "TMPDIR": str(temporary)},
                # Its own group: Ctrl-C reaches the harness alone, which then ends it in order.
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise StageError(
                "open",
                f"the program cannot be started: {error.strerror or error}",
                hint="too many processes, or too little memory",
            ) from error
        self._answers: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.hello = self._greeted()
        except BaseException:
            # Whatever it is, Ctrl-C too: nobody has entered the `with` block that would end it.
            self._end()
            self._stderr.close()
            raise

    def _greeted(self) -> messages.Hello:
        hello = self._expect(messages.Hello, "open", START_DEADLINE_S)
        if hello.protocol != messages.VERSION:
            raise StageError(
                "open",
                f"{hello.program} {hello.version} speaks protocol {hello.protocol}, "
                f"this latbench speaks {messages.VERSION}",
                hint="install the same latbench version on both sides",
            )
        return hello

    @classmethod
    def with_module(cls, module: str, *, temporary: Path | None = None) -> WorkerClient:
        """Start ``python -m module`` with this interpreter; its temporary files go to a folder that
        outlives it, where one is named."""
        # -P: a file of the working directory must not stand in for a library.
        return cls([sys.executable, "-P", "-m", module], temporary=temporary)

    def __enter__(self) -> WorkerClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._end()
        self._stderr.close()

    def ask(
        self, request: messages.WorkerRequest, expect: type[A], *, stage: Stage, deadline_s: float
    ) -> A:
        """Send ``request`` and wait for its answer.

        Raises :class:`StageError` where the program says that it failed, ends, says something else,
        or has not answered after ``deadline_s`` seconds; in the last three cases it is killed.
        Raises :class:`UsageError` where it says that the request makes no sense.
        """
        assert self._process.stdin is not None
        self._resume()
        try:
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended; waiting for its answer finds out how.
        return self._expect(expect, stage, deadline_s)

    def pause(self) -> None:
        """Stop the program where it stands, until it is next asked or ended.

        Threads of a runtime that have nothing to do spin for a while, in case more comes: longer
        than another program's block takes. Only on Linux, where a stopped program is sure to end
        with its owner (:mod:`latbench.worker.server`), the thread that made this; elsewhere this
        does nothing.
        """
        if sys.platform == "linux" and not self._paused:
            self._paused = True
            self._signal(signal.SIGSTOP)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        """Send it to the program and whatever it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _expect(self, expect: type[A], stage: Stage, deadline_s: float) -> A:
        try:
            line = self._answers.get(timeout=deadline_s)
        except Empty:
            self._end()
            raise StageError(
                stage,
                f"no answer within {deadline_s:g} s; the program was ended",
                hint="allow more time with --timeout, or try fewer threads",
                kind="timeout",
                detail=self._detail(),
            ) from None
        if not line:
            raise self._died(stage)
        try:
            answer = msgspec.json.decode(line, type=messages.Response)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._end()
            raise StageError(
                stage,
                f"the program answered something that is not a message: {error}",
                kind="crash",
            ) from error
        if isinstance(answer, messages.Refused):
            raise UsageError(answer.message, hint=answer.hint)
        if isinstance(answer, messages.Failed):
            raise StageError(
                answer.stage,
                answer.message,
                hint=answer.hint,
                kind=answer.kind,
                detail=answer.detail or self._detail(),
            )
        if not isinstance(answer, expect):
            self._end()
            raise StageError(stage, f"the program answered {type(answer).__name__}", kind="crash")
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def _died(self, stage: Stage) -> StageError:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._end()
            return StageError(stage, "the program closed its output and went on", kind="crash")
        kind, message, hint = _explain(status, _oom_kills() > self._oom_kills)
        return StageError(stage, message, hint=hint, kind=kind, detail=self._detail())

    def _detail(self) -> str | None:
        # pread: the program shares the file's offset, which must stay where it writes next.
        file = self._stderr.fileno()
        end = os.fstat(file).st_size
        tail = os.pread(file, DETAIL_BYTES, max(0, end - DETAIL_BYTES))
        return tail.decode(errors="replace").strip() or None

    def _end(self) -> None:
        """End the program and whatever it started, and reap it."""
        self._resume()  # What is stopped does not notice that its input ends.
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0.5)
        self._signal(signal.SIGKILL)
        self._process.wait()


def _explain(status: int, out_of_memory: bool) -> tuple[FailureKind, str, str]:
    if out_of_memory and status == -signal.SIGKILL:
        return (
            "out_of_memory",
            "the kernel ended the program for lack of memory",
            "try a smaller batch or resolution, or a machine with more memory",
        )
    if status >= 0:
        return (
            "crash",
            f"the program ended by itself with status {status}",
            "its last words are in the record: latbench show ID --json",
        )
    name = next((s.name for s in signal.Signals if s == -status), f"signal {-status}")
    if name == "SIGKILL":
        return (
            "crash",
            "the program was killed (SIGKILL)",
            "often the kernel's answer to lack of memory: see dmesg; else somebody killed it",
        )
    return (
        "crash",
        f"the runtime crashed ({name})",
        "a fault in native code: try another version of the runtime or other options",
    )


def _oom_kills() -> int:
    """Processes of this control group that the kernel has killed for lack of memory (Linux, v2)."""
    try:
        groups = Path("/proc/self/cgroup").read_text()
        path = next(line[3:] for line in groups.splitlines() if line.startswith("0::"))
        events = Path(f"/sys/fs/cgroup{path}/memory.events").read_text()
        return int(
            next(line for line in events.splitlines() if line.startswith("oom_kill ")).split()[1]
        )
    except (OSError, StopIteration, ValueError):
        return 0
