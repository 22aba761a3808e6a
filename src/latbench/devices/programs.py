"""Running a program of the user's on a device once, while nobody else measures there."""

from __future__ import annotations

import math
import os
import platform
import secrets
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from latbench.defaults import LOCAL
from latbench.devices.addresses import LocalAddress, read_address
from latbench.devices.connections import Connection, find_connection, known_connection
from latbench.devices.installation import look_around
from latbench.devices.local import LocalDevice
from latbench.devices.opening import connect
from latbench.devices.placing import push_by_digest
from latbench.devices.remote import RemoteDevice, user_name
from latbench.devices.transport import COMMAND_TIMEOUT_S, DEVICE_LOCK, Channel, Transport
from latbench.devices.unreachable import named_device
from latbench.devices.wheels import own_sha256
from latbench.errors import StageError, UsageError
from latbench.events import Warn
from latbench.schema.environment import Conditions, Device, Machine
from latbench.worker.agent import release_locks, take_lock

MOST_OUTPUT_BYTES = 16 * 2**20
_LATE_S = 15.0
"""How much longer than the device the harness waits."""
_ENDS_WITHIN_S = 5.0
SUPERVISE = r"""
mark=$1 limit=$2 lock=$3 owner=$4; shift 4
if [ -n "$lock" ] && command -v flock >/dev/null 2>&1; then
    if ( : 9<>"$lock" ) 2>/dev/null; then exec 9<>"$lock"
    elif ( : 9<"$lock" ) 2>/dev/null; then exec 9<"$lock"
    else echo "$mark lockless $lock"; exit 1; fi
    flock -n 9 9<&9 || { echo "$mark busy $(head -c 400 "$lock" | tr '\n' ' ')"; exit 1; }
    ( echo "$owner" >"$lock" ) 2>/dev/null
    echo "$mark reserved"
else
    echo "$mark unreserved"
fi
exec 3<&0 </dev/null
apart= group=
command -v setsid >/dev/null 2>&1 && apart=setsid group=-
$apart "$@" 2>&1 3<&- &
program=$!
$apart sh -c 'sleep "$1"; kill -s KILL -- "$2"' sh "$limit" "$group$program" \
    >/dev/null 2>&1 3<&- 9<&- &
clock=$!
$apart sh -c 'cat; kill -s KILL -- "$1"' sh "$group$program" <&3 >/dev/null 2>&1 9<&- &
watch=$!
wait "$program" 2>/dev/null
status=$?
kill -s KILL -- "$group$clock" "$group$watch" 2>/dev/null
echo
echo "$mark ended $status"
"""
"""Shell program that runs another one with a time limit, and ends it when its own input ends.

Its first line says whether the lock is held, the last one with which status the program ended; both
begin with a mark that nobody else knows. What is between them is the program's.
"""


@dataclass(frozen=True, kw_only=True)
class ProgramEnd:
    """How a program ended that was run on a device."""

    status: int
    """Exit status, negative for a signal."""
    output: str
    """All that it wrote, to standard output and standard error."""
    timed_out: bool
    reserved: bool
    """Whether the device was reserved meanwhile."""
    started_unix_ns: int
    wall_ns: int


class ProgramHost(Protocol):
    """Where a program runs: this machine or a device, reserved if it can be."""

    row: Device
    machine: Machine | None
    architecture: str
    """As ``uname -m`` names it."""
    address: str | None
    lock: str
    """The file that :data:`SUPERVISE` locks if it can; empty if it is locked already."""

    def put(self, path: Path, *, executable: bool = False) -> str:
        """Make a file or folder available there; return its path. Raises :class:`StageError`."""
        ...

    def sha256(self, path: str) -> str | None:
        """Digest of a file that is there already. Raises :class:`StageError` if there is none."""
        ...

    def conditions(self) -> Conditions | None:
        """What can change from one minute to the next, if somebody tells it."""
        ...

    def start(self, command: Sequence[str]) -> Channel:
        """Start a program. Raises :class:`StageError`."""
        ...


@contextmanager
def program_host(name: str, warn: Warn) -> Iterator[ProgramHost]:
    """The device called ``name``; an empty name is this machine.

    Its worker, if it is installed, reserves the device and tells facts; without one, the program
    ``flock`` of the device reserves it. Raises :class:`UsageError` for an unknown device and
    :class:`StageError`, also while somebody measures there.
    """
    connection = find_connection(name)
    if connection is None and name not in ("", LOCAL, LocalDevice().row.id):
        known_connection(name)  # Raises.
    if connection is None or isinstance(read_address(connection.address), LocalAddress):
        row = named_device(connection, LocalDevice().row) if connection else None
        yield from _local(row)
    else:
        yield from _remote(connection, warn)


def run_program(host: ProgramHost, command: Sequence[str], *, limit_s: float) -> ProgramEnd:
    """Run ``command`` to its end, for at most ``limit_s`` seconds.

    Raises :class:`StageError` if the device is in use, the connection is lost, or the program
    writes too much. Whatever happens, the program ends.
    """
    mark = f"latbench-{secrets.token_hex(8)}"
    limit = f"{math.ceil(limit_s)}"  # POSIX's sleep takes whole seconds.
    words = ("sh", "-c", SUPERVISE, "sh", mark, limit, host.lock, _owner(), *command)
    started, begun = time.time_ns(), time.monotonic_ns()
    channel = host.start(words)
    late = threading.Timer(limit_s + _LATE_S, channel.close)
    late.daemon = True
    late.start()
    try:
        first, output, last = _conversation(channel, mark, host.row.id)
        if last is None:
            channel.status(1.0)  # Raises if the connection is lost.
    finally:
        late.cancel()
        channel.close()
    wall_ns = time.monotonic_ns() - begun
    if first.startswith("busy"):
        raise _busy(first.removeprefix("busy").strip())
    if first.startswith("lockless"):
        raise StageError(
            "probe",
            f"cannot open the lock of {host.row.id}, {first.removeprefix('lockless').strip()}",
            hint="its folder must be writable",
        )
    if last is None:
        raise StageError(
            "time",
            f"the shell on {host.row.id} ended before the program did: "
            f"{channel.detail() or 'it says nothing'}",
            kind="crash",
        )
    status = int(last)
    status = 128 - status if 128 < status < 192 else status
    return ProgramEnd(
        status=status,
        output=output,
        timed_out=status == -9 and wall_ns >= limit_s * 1e9,
        reserved=not host.lock or first == "reserved",
        started_unix_ns=started,
        wall_ns=wall_ns,
    )


def _conversation(channel: Channel, mark: str, where: str) -> tuple[str, str, str | None]:
    """What the shell said first, the program's output, and the status in the last line."""
    start, written = mark.encode() + b" ", bytearray()
    first = channel.read_line(1000).decode(errors="replace").removeprefix(f"{mark} ").strip()
    while line := channel.read_line(2**16):
        if line.startswith(start + b"ended "):
            # The line feed before it is the shell's.
            output = bytes(written).removesuffix(b"\n").decode(errors="replace")
            return first, output, line.split()[-1].decode()
        written += line
        if len(written) > MOST_OUTPUT_BYTES:
            raise StageError(
                "time",
                f"the program wrote more than {MOST_OUTPUT_BYTES // 2**20} MiB on {where}",
                hint="omit its verbose options",
            )
    return first, bytes(written).decode(errors="replace"), None


def _owner() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return f"{user_name()}@{platform.node()}, process {os.getpid()}, since {since}"


def _busy(other: str) -> StageError:
    return StageError(
        "probe",
        f"the device is in use by {other or 'another harness'}",
        hint="wait until it has finished, or end it",
        kind="unavailable",
    )


def _local(row: Device | None) -> Iterator[ProgramHost]:
    if os.name != "posix":
        raise StageError("probe", "tools can be run on Linux, macOS and devices only")
    take_lock(Path(DEVICE_LOCK), _owner())
    try:
        yield _LocalHost(row)
    finally:
        release_locks()


class _LocalHost:
    """This machine. Files are used where they are."""

    address: str | None = None
    lock = ""

    def __init__(self, row: Device | None) -> None:
        device = LocalDevice(row)
        self.row = device.row
        self.machine: Machine | None = device.machine
        self.architecture = platform.machine()
        self.conditions: Callable[[], Conditions | None] = device.conditions

    def put(self, path: Path, *, executable: bool = False) -> str:
        return str(path.absolute())

    def sha256(self, path: str) -> str | None:
        raise UsageError("on this machine, name the program with --binary")

    def start(self, command: Sequence[str]) -> Channel:
        return _LocalChannel(command)


class _LocalChannel:
    """The standard streams of a program on this machine, a session of its own."""

    def __init__(self, command: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise StageError("open", f"cannot start {command[0]}: {error.strerror}") from error

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(data)

    def read_line(self, longest: int) -> bytes:
        assert self._process.stdout is not None
        with suppress(ValueError):  # Closed by the timer.
            return self._process.stdout.readline(longest)
        return b""

    def status(self, timeout_s: float) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def detail(self) -> str | None:
        return None

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        if self.status(_ENDS_WITHIN_S) is None:
            self._process.kill()


def _remote(connection: Connection, warn: Warn) -> Iterator[ProgramHost]:
    transport = connect(connection)
    try:
        installed = connection.installed
        if installed is not None and installed.latbench == own_sha256():
            with RemoteDevice(connection, transport) as device:
                yield _DeviceHost(connection, transport, installed.folder, device)
            return
        found = look_around(connection, transport)
        warn(
            f"{connection.id} has no worker of this latbench, so nothing is known about its state "
            f"(latbench devices install {connection.id})"
        )
        folder = str(PurePosixPath(found.home, connection.folder))
        yield _DeviceHost(connection, transport, folder, architecture=found.architecture)
    finally:
        transport.close()


class _DeviceHost:
    """A device at the end of a connection, with its worker or without."""

    def __init__(
        self,
        connection: Connection,
        transport: Transport,
        folder: str,
        device: RemoteDevice | None = None,
        *,
        architecture: str = "",
    ) -> None:
        self._transport, self._folder, self._device = transport, folder, device
        self.address: str | None = connection.address
        self.row = named_device(connection) if device is None else device.row
        self.machine = None if device is None else device.machine
        told = self.machine and self.machine.architecture
        self.architecture = told or architecture
        self.lock = "" if device is not None else transport.device_lock

    def put(self, path: Path, *, executable: bool = False) -> str:
        place = str(push_by_digest(self._transport, self._folder, path))
        if executable:
            self._transport.run(("chmod", "700", place), timeout_s=COMMAND_TIMEOUT_S)
        return place

    def sha256(self, path: str) -> str | None:
        program = f"test -f {shlex.quote(path)} && {{ sha256sum {shlex.quote(path)} || :; }}"
        done = self._transport.run(("sh", "-c", program), timeout_s=COMMAND_TIMEOUT_S)
        if done.status != 0:
            raise StageError(
                "open",
                f"there is no file {path} on {self.row.id}",
                hint="give the absolute path of the program there, or one of yours with --binary",
            )
        return next(iter(done.stdout.decode(errors="replace").split()), None)

    def conditions(self) -> Conditions | None:
        return None if self._device is None else self._device.conditions()

    def start(self, command: Sequence[str]) -> Channel:
        if self._device is None:
            return self._transport.start(command, {})
        return self._device.start_program(command)
