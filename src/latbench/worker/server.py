"""Worker side of the protocol: read requests, write one response each, exit at end of input."""

from __future__ import annotations

import importlib
import os
import queue
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from math import isinf
from typing import BinaryIO, TypeVar

import msgspec

from latbench.errors import Failure, Stage, StageError, UsageError, is_out_of_memory
from latbench.version import latbench_version
from latbench.worker import messages
from latbench.worker.process_tree import HARNESS_MARK, MARK, end_marked

OWNER_TIMEOUT = "LATBENCH_OWNER_TIMEOUT_S"
"""Variable: seconds without a line from the harness after which the program ends. It then ends the
other workers of this harness too, which may be stopped."""
R = TypeVar("R", bound=messages.RequestMessage)


def serve(
    program: str, decode: Callable[[bytes], R], handle: Callable[[R], messages.Response]
) -> None:
    """Send a greeting, then answer requests by ``handle`` until ``close`` or the end of the input.

    ``decode`` reads the requests that this program accepts.
    """
    # OpenBLAS never returns if other libraries have left it too little memory. Here it has most,
    # and the harness waits for the greeting only so long.
    _signal_without_owner(signal.SIGKILL)
    importlib.import_module("numpy")
    _signal_without_owner(signal.SIGCONT)
    lines, out = _streams(_owner_timeout_s())
    encode = msgspec.json.Encoder().encode

    def send(response: messages.Response) -> None:
        out.write(encode(response) + b"\n")
        out.flush()

    send(
        messages.Hello(
            protocol=messages.VERSION,
            program=program,
            version=latbench_version(),
            pid=os.getpid(),
            stoppable=sys.platform == "linux",
        )
    )
    while True:
        request = decode(lines.get())
        response = _response(request, handle)
        send(response)
        if isinstance(response, messages.Closed):
            os._exit(0)  # Python's own exit takes 25 ms and has nothing left to do.


def _owner_timeout_s() -> float:
    """What :data:`OWNER_TIMEOUT` says; a worker that ignored it would outlive its owner."""
    text = os.environ.get(OWNER_TIMEOUT) or "inf"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        sys.exit(f"{OWNER_TIMEOUT} cannot be {text!r}: it is a number of seconds")
    return seconds


def _from_owner(source: int, timeout_s: float) -> Iterator[bytes]:
    """The lines of the descriptor ``source``, until it ends or is silent for ``timeout_s``.

    A connection whose cable is cut stays open for hours.
    """
    rest = bytearray()
    while select.select([source], [], [], None if isinf(timeout_s) else timeout_s)[0]:
        data = os.read(source, 2**16)
        if not data:
            return
        rest += data
        if b"\n" in data:
            *whole, last = rest.split(b"\n")
            yield from map(bytes, whole)
            rest = last
    sys.stderr.write(f"nothing was heard of the harness for {timeout_s:g} s\n")


def _response(request: R, handle: Callable[[R], messages.Response]) -> messages.Response:
    """The response of ``handle``, or the failure that it raised."""
    try:
        return handle(request)
    except StageError as error:
        return messages.Failed.of(error.failure)
    except UsageError as error:
        return messages.Refused(message=error.message, hint=error.hint)
    except Exception as error:  # noqa: BLE001 - foreign code runs below: runtimes, converters
        traceback.print_exc()
        return messages.Failed.of(_foreign_failure(request.STAGE, error))


def _signal_without_owner(number: signal.Signals) -> None:
    """Ask the kernel for a signal when the parent dies (Linux only).

    SIGCONT once the input is read: the parent may have stopped this process, and a stopped process
    cannot see the end of its input. SIGKILL before that.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)


def _foreign_failure(stage: Stage, error: Exception) -> Failure:
    """The failure for a runtime's own exception, whose traceback is on standard error."""
    message = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    if is_out_of_memory(error):
        message = f"not enough memory: {message}"
        return Failure(
            stage=stage,
            kind="out_of_memory",
            message=message,
            hint="try a smaller batch or resolution, or a machine with more memory",
        )
    return Failure(stage=stage, kind="error", message=message)


def _streams(owner_timeout_s: float) -> tuple[queue.SimpleQueue[bytes], BinaryIO]:
    """The incoming requests, and a private copy of standard output.

    Runtimes and converters print to standard output, from native code too; descriptor 1 is
    redirected to standard error so that only responses reach the harness. The reading thread sleeps
    in the kernel; when the harness is gone it ends the process at once, even during an inference,
    because a measuring process that outlives its owner disturbs the next run.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    source = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def read() -> None:
        for line in _from_owner(source, owner_timeout_s):
            if line.strip():  # An empty line is a sign of life.
                lines.put(line)
        end_marked(os.environ.get(MARK, ""))
        if OWNER_TIMEOUT in os.environ:
            end_marked(os.environ.get(HARNESS_MARK, ""), HARNESS_MARK)
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # A converter started by this process must end too.
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines, out
