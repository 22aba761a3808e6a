"""Harness side of the worker protocol: start a program, send requests, read responses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
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
from latbench.worker.process_tree import MARK, end_marked, new_mark

A = TypeVar("A", bound=messages.Message)

START_TIMEOUT_S = 120.0
"""A cold machine took 20 s to start Python from a slow disk."""
DETAIL_BYTES = 4000
"""How much of the end of standard error a failure keeps."""
LOOK_S = 0.5
"""How often a waiting harness looks whether the program has ended: something that the program
started may keep its output open."""
NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""Variables with which runtimes send nothing and leave no device id in the user's cache folder."""
WITHHELD = ("LATBENCH_REGISTRY",)
"""Variables that a program does not get: the URL of the registry may contain a password."""


class WorkerClient:
    """One program that answers requests in JSON lines. Leaving the ``with`` block ends the program.

    ``stage`` is the stage of a failure to start it. ``environment`` adds to the variables of this
    process. ``timeout_hint`` says what to do about a response that takes too long.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stage: Stage = "open",
        environment: Mapping[str, str] | None = None,
        timeout_hint: str | None = None,
    ) -> None:
        self._timeout_hint = timeout_hint
        self._oom_kills = _oom_kills()
        self._paused = False
        self._mark = new_mark()
        self.ended = False
        """Whether the program has ended, so that it can no longer be asked."""
        try:
            # A file, not a pipe: a program that writes much must not block because nobody reads.
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        except OSError as error:
            raise StageError(
                stage,
                f"cannot create a temporary file: {error.strerror or error}",
                hint="free space in the folder for temporary files, or set TMPDIR to another one",
            ) from error
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=self._environment(environment or {}),
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
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._wanted: SimpleQueue[int] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.hello = self._greeted(stage)
        except BaseException:
            # Ctrl-C too: nobody has entered the `with` block that would end the program.
            self._end()
            self._stderr.close()
            raise

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if name not in WITHHELD}
        return {**given, **NO_TELEMETRY, **more, MARK: self._mark}

    def _greeted(self, stage: Stage) -> messages.Hello:
        hello = self._expect(messages.Hello, stage, START_TIMEOUT_S)
        if hello.protocol != messages.VERSION:
            raise StageError(
                stage,
                f"{hello.program} {hello.version} speaks protocol {hello.protocol}, "
                f"this latbench speaks {messages.VERSION}",
                hint="install the same latbench version on both sides",
            )
        return hello

    @classmethod
    def with_module(
        cls,
        module: str,
        *,
        stage: Stage = "open",
        environment: Mapping[str, str] | None = None,
        timeout_hint: str | None = None,
    ) -> WorkerClient:
        """Start ``python -m module`` with this interpreter; arguments as for the class."""
        return cls(
            module_command(module), stage=stage, environment=environment, timeout_hint=timeout_hint
        )

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
        self, request: messages.RequestMessage, expect: type[A], *, stage: Stage, timeout_s: float
    ) -> A:
        """Send ``request`` and wait for its response.

        Raises :class:`StageError` if the program reports a failure, ends, sends anything but an
        ``expect``, or does not respond within ``timeout_s`` seconds; in the last three cases it is
        killed. Raises :class:`UsageError` if the program refuses the request as invalid.
        """
        assert self._process.stdin is not None
        self._resume()
        try:
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The program has ended; waiting for its response finds out how.
        return self._expect(expect, stage, timeout_s)

    def pause(self) -> None:
        """Stop the program (SIGSTOP) until the next request or its end.

        Idle threads of a runtime keep spinning for longer than a block of another program takes.
        Does nothing except on Linux, where a stopped program is certain to end together with the
        thread that started it (:mod:`latbench.worker.server`).
        """
        if sys.platform == "linux" and not self._paused:
            self._paused = True
            self._signal(signal.SIGSTOP)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        """Send the signal to the program and to whatever it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _expect(self, expect: type[A], stage: Stage, timeout_s: float) -> A:
        line = self._line(expect.LONGEST_BYTES, stage, timeout_s)
        if not line:
            raise self._died(stage)
        if len(line) > expect.LONGEST_BYTES:
            self._end()
            raise StageError(
                stage,
                f"the program sent more than {expect.LONGEST_BYTES:,} bytes as one message",
                kind="crash",
            )
        try:
            response = messages.decode_response(line)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            self._end()
            raise StageError(
                stage,
                f"the program sent a line that is not a message: {error}",
                kind="crash",
            ) from error
        if isinstance(response, messages.Refused):
            raise UsageError(response.message, hint=response.hint)
        if isinstance(response, messages.Failed):
            failure = response.failure
            if not failure.detail:
                failure = msgspec.structs.replace(failure, detail=self._detail())
            raise StageError.of(failure)
        if not isinstance(response, expect):
            self._end()
            raise StageError(
                stage, f"the program sent an unexpected {type(response).__name__}", kind="crash"
            )
        return response

    def _line(self, longest: int, stage: Stage, timeout_s: float) -> bytes:
        """The next line, at most a byte longer than ``longest``; empty if the program has ended."""
        self._wanted.put(longest)
        until = time.monotonic() + timeout_s
        ended = False
        while True:
            try:
                return self._lines.get(timeout=max(0.0, min(LOOK_S, until - time.monotonic())))
            except Empty:
                if ended:
                    return b""
                # What it wrote last is still on its way: one more look.
                ended = self._process.poll() is not None
            if not ended and time.monotonic() >= until:
                self._end()
                raise StageError(
                    stage,
                    f"no response within {timeout_s:g} s; the program was ended",
                    hint=self._timeout_hint,
                    kind="timeout",
                    detail=self._detail(),
                )

    def _read(self) -> None:
        """Read a line for each response that is wanted; what nobody asked for stays in the pipe."""
        assert self._process.stdout is not None
        while longest := self._wanted.get():
            self._lines.put(self._process.stdout.readline(longest + 1))

    def _died(self, stage: Stage) -> StageError:
        self.ended = True
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._end()
            return StageError(stage, "the program closed its output but did not end", kind="crash")
        self._end()
        kind, message, hint = _explain(status, _oom_kills() > self._oom_kills)
        return StageError(stage, message, hint=hint, kind=kind, detail=self._detail())

    def _detail(self) -> str | None:
        # pread: the program shares the file's offset, which must not move.
        file = self._stderr.fileno()
        end = os.fstat(file).st_size
        tail = os.pread(file, DETAIL_BYTES, max(0, end - DETAIL_BYTES))
        return tail.decode(errors="replace").strip() or None

    def _end(self) -> None:
        """End the program and whatever it started, and reap it."""
        self.ended = True
        self._wanted.put(0)
        self._resume()  # A stopped program does not see the end of its input.
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0.5)
        self._signal(signal.SIGKILL)
        self._process.wait()
        end_marked(self._mark)


def module_command(module: str) -> list[str]:
    """The command line of ``python -m module`` with this interpreter."""
    # -P: a file in the working directory must not replace a module of the standard library.
    return [sys.executable, "-P", "-m", module]


def _explain(status: int, out_of_memory: bool) -> tuple[FailureKind, str, str]:
    if out_of_memory and status == -signal.SIGKILL:
        return (
            "out_of_memory",
            "the kernel killed the program: out of memory",
            "try a smaller batch or resolution, or a machine with more memory",
        )
    if status >= 0:
        return (
            "crash",
            f"the program exited with status {status}",
            "the end of its standard error is in the record: latbench show ID --json",
        )
    name = next((s.name for s in signal.Signals if s == -status), f"signal {-status}")
    if name == "SIGKILL":
        return (
            "crash",
            "the program was killed (SIGKILL)",
            "often the kernel, for lack of memory: see dmesg",
        )
    return (
        "crash",
        f"the runtime crashed ({name})",
        "a fault in native code: try another version of the runtime or other options",
    )


def _oom_kills() -> int:
    """Number of processes in this control group (v2) that the kernel killed for lack of memory."""
    try:
        groups = Path("/proc/self/cgroup").read_text()
        path = next(line[3:] for line in groups.splitlines() if line.startswith("0::"))
        events = Path(f"/sys/fs/cgroup{path}/memory.events").read_text()
        return int(
            next(line for line in events.splitlines() if line.startswith("oom_kill ")).split()[1]
        )
    except (OSError, StopIteration, ValueError):
        return 0
