"""Fix the clocks of a device, or the state of a phone, and put everything back afterwards.

The device needs a shell, and for clocks root, but no Python: a program for its shell does the work
in one command, so that a lost connection leaves either nothing changed, or a journal on the device
from which :func:`restore_device` puts the old values back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Literal, NoReturn, Protocol

from latbench.defaults import LOCAL
from latbench.devices.addresses import AdbAddress, LocalAddress, read_address
from latbench.devices.connections import find_connection, known_connection
from latbench.devices.local import LocalDevice
from latbench.devices.local_shell import LocalShell
from latbench.devices.opening import connect
from latbench.devices.preparation_android import (
    PROGRAM,
    PhoneState,
    check_phone_state,
    phone_problem,
)
from latbench.devices.transport import Completed
from latbench.errors import StageError, UsageError
from latbench.schema.value import Value

TIMEOUT_S = 60.0
NOT_ROOT = 77
AS_ROOT = (
    'if [ "$(id -u)" -eq 0 ]; then exec sh -c "$@"; fi; '
    f'sudo -n true 2>/dev/null || exit {NOT_ROOT}; exec sudo -n sh -c "$@"'
)
AS_ANYBODY = 'exec sh -c "$@"'
RESTORE_COMMAND = "latbench devices restore {}"


class Shell(Protocol):
    """Whatever runs a command on a device: a transport, or this machine."""

    @property
    def kind(self) -> str:
        """``local``, or the kind of the transport: ``adb`` reaches phones."""
        ...

    def run(self, command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run a command to its end. Raises :class:`StageError`."""
        ...


class Setting(Value, frozen=True, kw_only=True):
    """A file of the device, or a setting of a phone, and two of its values."""

    path: str
    """Of a phone's setting: ``global/airplane_mode_on``."""
    before: str
    """What it held before the device was prepared."""
    now: str

    @property
    def text(self) -> str:
        """``policy0/scaling_governor schedutil -> performance``."""
        path = PurePosixPath(self.path)
        return f"{path.parent.name}/{path.name} {self.before} -> {self.now}"


class Preparation(Value, frozen=True, kw_only=True):
    """What an earlier ``prepare`` has left on a device."""

    made_unix_s: int | None
    differing: tuple[Setting, ...]
    """Files that do not hold what they held before; none after a reboot."""


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """How a device is to be clocked."""

    governor: str = "performance"
    frequency: str = ""
    """``max`` or kilohertz: the only clock that is allowed; empty to leave the limits alone."""
    turbo: Literal["", "off"] = ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A device whose clocks can be set."""

    id: str
    shell: Shell
    lock: str = ""
    """The file on it that is locked while somebody measures."""
    serial: str | None = None
    """Of a phone; ``None`` for other devices."""
    root: str = ""
    """Folder that is prepended to every path, for tests."""

    @property
    def is_phone(self) -> bool:
        """Whether Android's own programs set its state."""
        return self.shell.kind == "adb"


@contextmanager
def target_named(id: str) -> Iterator[Target]:
    """The device of the user's, or this machine for ``local``, until the block is left.

    Raises :class:`UsageError` for an unknown device and :class:`StageError`.
    """
    if find_connection(id) is None and id in (LOCAL, LocalDevice().row.id):
        yield Target(id=id, shell=LocalShell())
        return
    connection = known_connection(id)
    if isinstance(read_address(connection.address), LocalAddress):
        yield Target(id=id, shell=LocalShell())
        return
    address = read_address(connection.address)
    serial = address.serial if isinstance(address, AdbAddress) else None
    transport = connect(connection)
    try:
        yield Target(id=id, shell=transport, serial=serial, lock=transport.device_lock)
    finally:
        transport.close()


def prepare_phone(target: Target, asked: PhoneState) -> tuple[Setting, ...]:
    """Set the state of a phone; all or nothing. Returns the settings that changed.

    Raises :class:`UsageError` for what the device cannot have and :class:`StageError`.
    """
    check_phone_state(target.id, target.serial, asked)
    if asked == PhoneState():
        raise UsageError(
            f"nothing to set on {target.id}",
            hint="--stay-awake, --airplane, --brightness N, --fixed-performance",
        )
    done = _run(target, "prepare", asked.words)
    if done.status != 0:
        _explain(target, done)
    return _settings(done, "changed")


def prepare_device(target: Target, clocks: Clocks) -> tuple[Setting, ...]:
    """Set the clocks; all or none. Returns the files that changed.

    Raises :class:`UsageError` for a value that the device does not offer and :class:`StageError`.
    """
    if target.is_phone:
        raise UsageError(
            f"the clocks of {target.id} cannot be set: that needs root on a phone",
            hint="--fixed-performance chooses a clock that it holds for long",
        )
    if not re.fullmatch("[a-z_]{1,32}", clocks.governor):
        raise UsageError(f"{clocks.governor!r} is not the name of a governor")
    if not re.fullmatch("|max|[1-9][0-9]{0,8}", clocks.frequency):
        raise UsageError(
            f"{clocks.frequency!r} is not a frequency", hint="--frequency max, or kHz: 1800000"
        )
    done = _run(target, "prepare", (clocks.governor, clocks.frequency, clocks.turbo))
    if done.status != 0:
        _explain(target, done)
    return _settings(done, "changed")


def restore_device(target: Target) -> tuple[Setting, ...] | None:
    """Put back what was before :func:`prepare_device`; ``None`` if it was not prepared.

    Returns the files that had to be changed. Raises :class:`StageError`.
    """
    if find_preparation(target) is None:
        return None
    done = _run(target, "restore")
    if done.status != 0:
        _explain(target, done)
    return _settings(done, "restored")


def find_preparation(target: Target) -> Preparation | None:
    """What an earlier ``prepare`` has left; needs no root. Raises :class:`StageError`."""
    done = _run(target, "state")
    made = _lines(done, "made")
    if not made:
        return None
    since = made[0][0] if made[0] else ""
    return Preparation(
        made_unix_s=int(since) if since.isdecimal() else None,
        differing=_settings(done, "differs"),
    )


def _run(target: Target, action: str, asked: Sequence[str] = ()) -> Completed:
    name, count = (PROGRAM, 4) if target.is_phone else ("preparation.sh", 3)
    program = files("latbench.devices").joinpath(name).read_text(encoding="utf-8")
    wanted = asked or ("",) * count
    start = AS_ANYBODY if action == "state" or target.is_phone else AS_ROOT
    command = ("sh", "-c", start, "sh", program, "sh", action, target.root, *wanted, target.lock)
    return target.shell.run(command, timeout_s=TIMEOUT_S)


def _lines(done: Completed, word: str) -> list[list[str]]:
    """The fields after ``word`` of each line that begins with it."""
    rows = (line.split("\t") for line in done.stdout.decode(errors="replace").splitlines())
    return [row[1:] for row in rows if row[0] == word]


def _settings(done: Completed, word: str) -> tuple[Setting, ...]:
    return tuple(
        Setting(path=row[0], before=row[1], now=row[2])
        for row in _lines(done, word)
        if len(row) == 3
    )


def _explain(target: Target, done: Completed) -> NoReturn:
    """Raise what a failed command means."""
    id, restore = target.id, RESTORE_COMMAND.format(target.id)
    failed, left, no = (_lines(done, word) for word in ("failed", "left", "unavailable"))
    what = ", ".join(f"{path} (wanted {wanted}, is {now})" for path, wanted, now in failed)
    if target.is_phone:
        told = {"unreadable": _lines(done, "unreadable")}
        if (problem := phone_problem(id, done.status, told)) is not None:
            raise StageError("probe", problem[0], hint=problem[1], kind="unavailable")
    if done.status == 64:
        raise UsageError(*_not_offered(id, no))
    if done.status == 71:
        still = ", ".join(f"{path} (was {old}, is {now})" for path, old, now in left)
        raise StageError("probe", f"could not put back on {id}: {still}", hint=f"again: {restore}")
    message, hint = {
        69: (f"{id} offers no control of its clocks", "there is no cpufreq in its /sys"),
        70: (f"{id} did not accept {what}", "everything is as it was before"),
        73: (f"cannot write the journal on {id}: {done.said}", "free space in /var/lib there"),
        75: (f"an earlier prepare of {id} has not been restored", restore),
        76: (f"{id} is in use: somebody measures on it or prepares it", "try again later"),
        NOT_ROOT: (
            f"setting the clocks of {id} needs root, or sudo without a password",
            "add it as root (ssh://root@HOST), or permit `sudo -n sh` to its user",
        ),
    }.get(done.status, (f"preparing {id} failed: {done.said}", restore))
    raise StageError("probe", message, hint=hint, kind="unavailable")


def _not_offered(id: str, rows: list[list[str]]) -> tuple[str]:
    """What is missing there, and what it has instead."""
    path, value, *offered = rows[0] if rows else ("", "this")
    if value == "turbo":
        return (f"{id} has no file that turns turbo off",)
    has = " ".join(offered).strip() or "nothing"
    return (f"{id} does not offer {value} for {PurePosixPath(path).name}; it offers {has}",)
