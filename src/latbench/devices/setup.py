"""Installing on one of the user's devices, and removing everything from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from latbench.devices.addresses import AdbAddress, AppleAddress, LocalAddress, read_address
from latbench.devices.apple_setup import remove_phone_app
from latbench.devices.connections import (
    Connection,
    Installed,
    load_connections,
    store_connection,
)
from latbench.devices.installation import install_python_worker, look_around
from latbench.devices.native_installation import NativeOptions, install_native_worker
from latbench.devices.opening import connect
from latbench.devices.remote import RemoteDevice
from latbench.devices.transport import COMMAND_TIMEOUT_S
from latbench.devices.wheels import own_sha256
from latbench.errors import StageError, UsageError
from latbench.events import Warn
from latbench.files import content_sha256
from latbench.worker.native import build_native, native_libraries

CLEAN = """
cd "$1" || exit 1
rm -rf artifacts wheels
for each in environments/* native/*; do
    [ "${each#*/}" = "$2" ] || rm -rf "$each"
done
"""


def default_worker(connection: Connection) -> Literal["python", "native"]:
    """The worker that is installed unless the user says which: that which is there.

    Phones have no Python.
    """
    there = connection.installed.worker if connection.installed else None
    if there == "python" or there == "native":
        return there
    return "native" if isinstance(read_address(connection.address), AdbAddress) else "python"


def install_worker(
    connection: Connection,
    backends: Sequence[str],
    *,
    worker: Literal["python", "native"] = "python",
    from_index: bool = False,
    native: NativeOptions | None = None,
    warn: Warn,
) -> Installed:
    """Install a worker, start it once, and store what is there.

    Raises :class:`StageError` and :class:`UsageError`.
    """
    if isinstance(read_address(connection.address), LocalAddress):
        return _installed_here(connection, backends, worker, native)
    transport = connect(connection)
    try:
        if worker == "native":
            installed = install_native_worker(
                connection, transport, backends, native or NativeOptions(), warn
            )
        else:
            installed = install_python_worker(
                connection, transport, backends, from_index=from_index, warn=warn
            )
        connection = msgspec.structs.replace(connection, installed=installed)
        with RemoteDevice(connection, transport) as device:
            identity = device.machine.identity
        for each in load_connections():
            if identity is not None and each.id != connection.id and each.identity == identity:
                warn(f"{connection.id} is the same machine as {each.id}")
        store_connection(msgspec.structs.replace(connection, identity=identity))
    finally:
        transport.close()
    return installed


def _installed_here(
    connection: Connection,
    backends: Sequence[str],
    worker: Literal["python", "native"],
    native: NativeOptions | None,
) -> Installed:
    """Choose the worker of this machine under the name that the user gave it."""
    if native not in (None, NativeOptions()):
        raise UsageError(
            f"{connection.id} is this machine: the native worker uses its own libraries",
            hint="--ndk, --glibc and --library are for devices at the end of a connection",
        )
    if worker == "python":
        raise UsageError(f"{connection.id} is this machine: nothing has to be installed")
    program = build_native()
    installed = Installed(
        worker=worker,
        sha256=content_sha256(program),
        latbench=own_sha256(),
        folder=str(program.parent),
        backends=tuple(backends),
        variables=native_libraries(),
    )
    store_connection(msgspec.structs.replace(connection, installed=installed))
    return installed


def clean_device(connection: Connection) -> None:
    """Delete artifacts, wheels and older workers on the device.

    Raises :class:`StageError`, also while somebody measures there.
    """
    if isinstance(read_address(connection.address), AppleAddress):
        return remove_phone_app(connection)
    installed = connection.installed
    if installed is None:
        return purge_device(connection)
    transport = connect(connection)
    try:
        command = ("sh", "-c", CLEAN, "sh", installed.folder, installed.sha256)
        # A run that was left there needs its files: the lock is held meanwhile.
        with RemoteDevice(connection, transport):
            done = transport.run(command, timeout_s=COMMAND_TIMEOUT_S * 4)
        if done.status != 0:
            raise StageError(
                "probe",
                f"cannot delete files in {installed.folder} on {connection.id}: {done.said}",
            )
    finally:
        transport.close()


def purge_device(connection: Connection) -> None:
    """Delete latbench's folder on the device. Raises :class:`StageError`."""
    if isinstance(read_address(connection.address), AppleAddress):
        return remove_phone_app(connection)
    transport = connect(connection)
    try:
        home = look_around(connection, transport).home
        folder = str(PurePosixPath(home, connection.folder))
        done = transport.run(("rm", "-rf", "--", folder), timeout_s=COMMAND_TIMEOUT_S * 4)
        if done.status != 0:
            raise StageError("probe", f"cannot delete {folder} on {connection.id}: {done.said}")
    finally:
        transport.close()
