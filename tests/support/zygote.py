"""Workers that start in milliseconds: forked from a process that has imported their libraries.

Half of the time of all tests was Python importing torch and the converters for each of hundreds of
workers. A process here imports them once; each worker is a fork of it, with the standard streams,
environment, working directory and session of a program of its own, and real signals and exit
statuses. Commands that tests start as programs start their workers as users do.
"""

from __future__ import annotations

import array
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import IO, NoReturn

EXPORTING = (
    *("torch", "onnx", "onnxruntime", "onnxscript", "torch.export", "torch._dynamo"),
    *("coremltools", "litert_torch", "executorch.exir", "latbench.artifacts.export_worker"),
    "latbench.audit.count_worker",
)
MODULES = {
    "latbench.artifacts.export_worker": EXPORTING,
    "latbench.audit.count_worker": EXPORTING,
    "latbench.worker.inference": ("numpy", "latbench.worker.inference"),
}
"""Worker -> what its parent imports; an extra that is not installed is left out."""
READ_AT_START = ("PYTHON", "LD_", "OMP_", "MKL_", "OPENBLAS_", "GOMP_", "MALLOC_")
"""Prefixes of variables that a running process no longer follows."""


class Forked:
    """What :class:`subprocess.Popen` offers of a running worker."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes], status: int) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status

    def __del__(self) -> None:
        if self._status >= 0:
            os.close(self._status)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; as ``Popen.wait``."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            found = os.read(self._status, 4)
            # Nothing: the parent of all workers was killed, and its workers with it.
            self.returncode = struct.unpack("i", found)[0] if found else -signal.SIGKILL
            os.close(self._status)
            self._status = -1
        return self.returncode

    def poll(self) -> int | None:
        """The exit status; ``None`` while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None


class Zygote:
    """The parent of forked workers. It ends with this process."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno()), *modules],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Threads that spin while they wait take the CPU of the tests beside them.
            env={**environment, "OMP_WAIT_POLICY": "PASSIVE"},
            start_new_session=True,
        )
        theirs.close()
        if self._socket.recv(16) != b"ready":
            raise RuntimeError("the parent of the workers did not start")

    def close(self) -> None:
        """End it and its workers."""
        self._socket.close()
        self._process.wait()

    def start(self, module: str, environment: Mapping[str, str], stderr: int) -> Forked:
        """Start ``python -m module``."""
        their_in, our_in = os.pipe()
        our_out, their_out = os.pipe()
        our_status, their_status = os.pipe()
        theirs = array.array("i", (their_in, their_out, stderr, their_status))
        asked = {"module": module, "environment": dict(environment), "folder": os.getcwd()}  # noqa: PTH109
        request = os.memfd_create("request")
        os.write(request, json.dumps(asked).encode())
        theirs.append(request)
        self._socket.sendmsg([b"start"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, theirs)])
        pid = int(self._socket.recv(16))
        for descriptor in (their_in, their_out, their_status, request):
            os.close(descriptor)
        return Forked(pid, os.fdopen(our_in, "wb"), os.fdopen(our_out, "rb"), our_status)


class Zygotes:
    """Stands in for the module ``subprocess`` of the worker client."""

    PIPE = subprocess.PIPE
    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self) -> None:
        self._started: dict[tuple[str, ...], Zygote] = {}
        self._environment = dict(os.environ)

    def close(self) -> None:
        for each in self._started.values():
            each.close()

    def Popen(
        self, command: Sequence[str], *, env: Mapping[str, str], stderr: IO[bytes], **rest: object
    ) -> Forked | subprocess.Popen[bytes]:
        """Fork a worker of latbench's own; start anything else as a program."""
        head, module = list(command[:-1]), command[-1]
        forked = head == [sys.executable, "-P", "-m"] and module in MODULES
        if not forked or self._differs(env):
            return subprocess.Popen(command, env=env, stderr=stderr, **rest)  # type: ignore[call-overload,no-any-return]
        needed = MODULES[module]
        if needed not in self._started:
            # Not that of the test, which others would inherit.
            self._started[needed] = Zygote(needed, self._environment)
        return self._started[needed].start(module, env, stderr.fileno())

    def _differs(self, environment: Mapping[str, str]) -> bool:
        names = {
            name
            for name in environment.keys() | self._environment.keys()
            if name.startswith(READ_AT_START) and name not in ("PYTHONPATH", "OMP_WAIT_POLICY")
        }
        return any(environment.get(name) != self._environment.get(name) for name in names)


def _serve(connection: socket.socket, modules: Sequence[str]) -> None:
    """Import, then fork a worker for each request until the other side is gone."""
    for module in modules:
        with suppress(ImportError):
            import_module(module)
    path = [each for each in sys.path if each not in os.environ.get("PYTHONPATH", "").split(":")]
    running: dict[int, int] = {}

    def reap(*_: object) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pipe = running.pop(ended[0])
                with suppress(BrokenPipeError):
                    os.write(pipe, struct.pack("i", os.waitstatus_to_exitcode(ended[1])))
                os.close(pipe)

    signal.signal(signal.SIGCHLD, reap)
    connection.send(b"ready")
    while True:
        size = socket.CMSG_LEN(5 * struct.calcsize("i"))
        data, (*ancillary,), *_ = connection.recvmsg(16, size)
        if not data:
            break
        descriptors = struct.unpack("5i", ancillary[0][2])
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            _become(descriptors, path)
        running[pid] = descriptors[3]
        for each in (*descriptors[:3], descriptors[4]):
            os.close(each)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        connection.send(str(pid).encode())
    for pid in running:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _become(descriptors: Sequence[int], path: Sequence[str]) -> NoReturn:
    """Run the module in a forked process as a program of its own."""
    status = 1
    try:
        os.setsid()
        for number, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, number)
        with os.fdopen(descriptors[4], "rb") as file:
            file.seek(0)
            asked = json.load(file)
        for descriptor in descriptors[:4]:
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        tempfile.tempdir = None  # read again from the environment
        sys.path[:] = [*filter(None, os.environ.get("PYTHONPATH", "").split(":")), *path]
        with suppress(ImportError):
            import_module("sitecustomize")
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
            ended.code = 1
        status = int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
