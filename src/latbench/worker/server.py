"""The other end of the conversation: reads requests, answers them, and ends when nobody listens."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import BinaryIO

import msgspec

from latbench.errors import Stage, StageError, UsageError, is_out_of_memory
from latbench.version import latbench_version
from latbench.worker import messages

Handler = Callable[[messages.WorkerRequest], messages.Response]


def serve(program: str, handle: Handler) -> None:
    """Greet, then answer requests by ``handle`` until ``close`` or the end of the input."""
    _go_on_without_owner()
    lines, out = _streams()
    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(messages.WorkerRequest).decode

    def send(answer: messages.Response) -> None:
        out.write(encode(answer) + b"\n")
        out.flush()

    send(
        messages.Hello(
            protocol=messages.VERSION, program=program, version=latbench_version(), pid=os.getpid()
        )
    )
    while True:
        request = decode(lines.get())
        try:
            answer = handle(request)
        except StageError as error:
            answer = messages.Failed(
                stage=error.stage,
                kind=error.kind,
                message=error.message,
                hint=error.hint,
                detail=error.detail,
            )
        except UsageError as error:
            answer = messages.Refused(message=error.message, hint=error.hint)
        except Exception as error:  # noqa: BLE001 - foreign code runs below: runtimes, converters
            traceback.print_exc()
            answer = _foreign_failure(_stage_of(request), error)
        send(answer)
        if isinstance(answer, messages.Closed):
            os._exit(0)  # What Python would do now takes 25 ms and has no more use.


def _go_on_without_owner() -> None:
    """Have the kernel let this program go on once whoever started it is gone, which may have
    stopped it: what is stopped does not notice that its input ends. (Linux; nowhere else is it.)"""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGCONT)


def _foreign_failure(stage: Stage, error: Exception) -> messages.Failed:
    """A runtime's own exception as a failure; its traceback is on standard error."""
    message = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    if is_out_of_memory(error):
        return messages.Failed(
            stage=stage,
            kind="out_of_memory",
            message=message,
            hint="try a smaller batch or resolution, or a machine with more memory",
        )
    return messages.Failed(stage=stage, kind="error", message=message)


def _stage_of(request: messages.WorkerRequest) -> Stage:
    match request:
        case messages.Export() | messages.ExportSentinel():
            return "export"
        case messages.Open():
            return "open"
        case messages.Time() | messages.TimeOperators():
            return "time"
        case messages.Outputs() | messages.Close():
            return "outputs"


def _streams() -> tuple[queue.SimpleQueue[bytes], BinaryIO]:
    """Requests as they come in, and a private copy of standard output.

    Runtimes and converters print to standard output, from native code too; descriptor 1 is pointed
    at standard error so that nothing but answers reaches the harness. The reading thread sleeps in
    the kernel; when the harness is gone it ends the process at once, in mid-inference too, because
    a measuring process that outlives its owner spoils the next run.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    source = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def read() -> None:
        for line in source:
            lines.put(line)
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # A converter that it started must not go on either.
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines, out
