"""Harness side of the worker protocol: start a program, send requests, read responses."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
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
from latbench.worker.process import Program, python_module

A = TypeVar("A", bound=messages.Message)

START_TIMEOUT_S = 120.0
"""A cold machine took 20 s to start Python from a slow disk."""
LOOK_S = 0.5
"""How often a waiting harness looks whether the program has ended: something that the program
started may keep its output open."""
BANNER_LINES = 200
"""How much a device may print before the program speaks: greetings of its login shell."""


class WorkerClient:
    """One program that answers requests in JSON lines. Leaving the ``with`` block ends the program.

    ``stage`` is the stage of a failure to start it. ``timeout_hint`` says what to do about a
    response that takes too long. With ``banners``, lines before the program's first message are
    skipped.
    """

    def __init__(
        self,
        program: Program,
        *,
        stage: Stage = "open",
        timeout_hint: str | None = None,
        banners: bool = False,
    ) -> None:
        self._timeout_hint = timeout_hint
        self._paused = False
        self.ended = False
        """Whether the program has ended, so that it can no longer be asked."""
        self._hello: messages.Hello | None = None
        self._process = program.start(stage)
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._wanted: SimpleQueue[int] = SimpleQueue()
        try:
            threading.Thread(target=self._read, daemon=True).start()
            self._hello = self._greeted(stage, banners)
        except BaseException:
            # Ctrl-C too: nobody has entered the `with` block that would end the program.
            self._end()
            raise

    @property
    def hello(self) -> messages.Hello:
        """What the program said about itself first."""
        assert self._hello is not None
        return self._hello

    def _greeted(self, stage: Stage, banners: bool) -> messages.Hello:
        line = b""
        for _ in range(BANNER_LINES if banners else 1):
            line = self._line(messages.Hello.LONGEST_BYTES, stage, START_TIMEOUT_S)
            if not line or line.replace(b" ", b"").startswith(b'{"type":'):
                break
        hello = self._understood(line, messages.Hello, stage)
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
        return cls(python_module(module, environment), stage=stage, timeout_hint=timeout_hint)

    def __enter__(self) -> WorkerClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._end()

    def ask(
        self, request: messages.RequestMessage, expect: type[A], *, stage: Stage, timeout_s: float
    ) -> A:
        """Send ``request`` and wait for its response.

        Raises :class:`StageError` if the program reports a failure, ends, sends anything but an
        ``expect``, or does not respond within ``timeout_s`` seconds; in the last three cases it is
        killed. Raises :class:`UsageError` if the program refuses the request as invalid.
        """
        self._resume()
        self._process.write(msgspec.json.encode(request) + b"\n")
        return self._expect(expect, stage, timeout_s)

    def pause(self) -> None:
        """Stop the program (SIGSTOP) until the next request or its end.

        Idle threads of a runtime keep spinning for longer than a block of another program takes.
        Does nothing except on Linux, where a stopped program is certain to end together with the
        thread that started it (:mod:`latbench.worker.server`).
        """
        if self.hello.stoppable and not self._paused:
            self._paused = True
            self._process.signal("stop", self.hello.pid)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._process.signal("continue", self.hello.pid)

    def _expect(self, expect: type[A], stage: Stage, timeout_s: float) -> A:
        line = self._line(expect.LONGEST_BYTES, stage, timeout_s)
        return self._understood(line, expect, stage)

    def _understood(self, line: bytes, expect: type[A], stage: Stage) -> A:
        """The message in ``line``, which must be an ``expect``."""
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
                failure = msgspec.structs.replace(failure, detail=self._process.detail())
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
                ended = self._has_ended()
            if not ended and time.monotonic() >= until:
                self._end()
                raise StageError(
                    stage,
                    f"no response within {timeout_s:g} s; the program was ended",
                    hint=self._timeout_hint,
                    kind="timeout",
                    detail=self._process.detail(),
                )

    def _has_ended(self) -> bool:
        """Whether nothing more can come: it has ended, or the connection to it is lost."""
        try:
            return self._process.status(0) is not None
        except StageError:
            return True

    def _read(self) -> None:
        """Read a line for each response that is wanted; what nobody asked for stays in the pipe."""
        while longest := self._wanted.get():
            self._lines.put(self._process.read_line(longest + 1))

    def _died(self, stage: Stage) -> StageError:
        self.ended = True
        try:
            status = self._process.status(5)
        except StageError as error:
            self._end()
            return StageError(stage, error.message, hint=error.hint, kind=error.kind)
        self._end()
        if status is None:
            return StageError(stage, "the program closed its output but did not end", kind="crash")
        kind, message, hint = _explain(status, self._process.out_of_memory())
        return StageError(stage, message, hint=hint, kind=kind, detail=self._process.detail())

    def _end(self) -> None:
        """End the program and whatever it started."""
        self.ended = True
        self._wanted.put(0)
        with suppress(StageError):  # Over a lost connection.
            self._resume()  # A stopped program does not see the end of its input.
        self._process.end(self._hello.pid if self._hello else None)


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
    if name == "SIGINT":  # nobody else sends it: the program has a process group of its own
        return (
            "crash",
            "the program interrupted itself (SIGINT)",
            "OpenBLAS does so if it cannot start threads: raise ulimit -u or ulimit -v",
        )
    return (
        "crash",
        f"the runtime crashed ({name})",
        "a fault in native code: try another version of the runtime or other options",
    )
