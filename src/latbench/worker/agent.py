"""Requests about the machine that a worker runs on, and about the other workers there.

On a device at the end of a connection, the harness keeps one more worker open that never loads a
model. It answers these while the others are timed or stopped.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from latbench.errors import StageError, UsageError
from latbench.host.info import read_conditions, read_machine, read_software
from latbench.schema.trace import Capability
from latbench.worker import messages
from latbench.worker.process import oom_kills
from latbench.worker.process_tree import HARNESS_MARK, has_ended, has_mark

_held: list[int] = []
"""Descriptors of files whose locks this process holds until it ends."""


def answer_about_machine(
    request: messages.DescribeMachine
    | messages.ReadConditions
    | messages.ProbeBackends
    | messages.SignalProcess
    | messages.ReserveDevice,
) -> messages.Response:
    """Answer one request. Raises :class:`StageError` and :class:`UsageError`."""
    match request:
        case messages.DescribeMachine():
            software = read_software(request.packages)
            return messages.MachineTold(machine=read_machine(), software=software)
        case messages.ReadConditions():
            return messages.ConditionsTold(conditions=read_conditions(), oom_kills=oom_kills())
        case messages.ProbeBackends():
            return messages.CapabilitiesTold(
                backends={name: _probed(name) for name in request.backends}
            )
        case messages.SignalProcess():
            return messages.Signaled(existed=_send(request))
        case messages.ReserveDevice():
            take_lock(Path(request.path), request.owner)
            return messages.DeviceReserved()


def _probed(name: str) -> Capability:
    from latbench.plugins import load_runner

    try:
        return load_runner(name).probe()
    except UsageError as error:
        return Capability(available=False, reason=error.message, hint=error.hint)


def _send(request: messages.SignalProcess) -> bool:
    """Signal the group of a worker of the same harness; whether there was one."""
    mark = os.environ.get(HARNESS_MARK, "")
    if sys.platform == "linux" and not has_mark(request.pid, mark, HARNESS_MARK):
        if has_ended(request.pid):
            return False
        raise UsageError(f"process {request.pid} is not a worker of this harness")
    number = {"stop": signal.SIGSTOP, "continue": signal.SIGCONT, "kill": signal.SIGKILL}
    try:
        # A worker leads its group; otherwise it was started by something that does.
        if os.getpgid(request.pid) == request.pid:
            os.killpg(request.pid, number[request.signal])
        else:
            os.kill(request.pid, number[request.signal])
    except ProcessLookupError:
        return False
    return True


def take_lock(path: Path, owner: str) -> None:
    """Take the lock at ``path`` until this process ends, and write ``owner`` into it.

    Raises :class:`StageError`, of kind ``unavailable`` while another program holds it.
    """
    import fcntl

    file = _opened_lock(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.read(file, 500).decode(errors="replace").strip() or "another harness"
        os.close(file)
        raise StageError(
            "probe",
            f"the device is in use by {other}",
            hint="wait until it has finished, or end it",
            kind="unavailable",
        ) from None
    with suppress(OSError):  # Of another user, it can be locked but not written.
        os.ftruncate(file, 0)
        os.write(file, owner.encode())
    _held.append(file)


def release_locks() -> None:
    """Release what :func:`take_lock` took, before the process ends."""
    while _held:
        os.close(_held.pop())


def _opened_lock(path: Path) -> int:
    try:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except PermissionError:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise StageError(
            "probe",
            f"cannot open the lock of this device, {path}: {error.strerror}",
            hint="the folder must be writable, with space left",
        ) from error
    return file
