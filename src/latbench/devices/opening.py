"""From the name of a device to the device."""

from __future__ import annotations

from types import TracebackType

from latbench.defaults import LOCAL
from latbench.devices.addresses import (
    AdbAddress,
    LocalAddress,
    SshAddress,
    address_form,
    read_address,
)
from latbench.devices.catalog import find_device, load_devices, user_devices_path
from latbench.devices.connections import Connection, load_connections
from latbench.devices.local import LocalDevice
from latbench.devices.measured import MeasuredDevice
from latbench.devices.remote import RemoteDevice
from latbench.devices.transport import Transport
from latbench.devices.unreachable import UnreachableDevice, named_device
from latbench.errors import StageError, UsageError, suggest
from latbench.schema.environment import Device


class Devices:
    """The devices that an operation uses, each opened once. Leaving the ``with`` block ends them.

    A device at the end of a connection is connected to and reserved until then.
    """

    def __init__(self) -> None:
        self._local = LocalDevice()
        self._remote: dict[str, RemoteDevice] = {}

    def __enter__(self) -> Devices:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for device in self._remote.values():
            device.__exit__(kind, value, tb)

    def open(self, name: str) -> MeasuredDevice:
        """The device called ``name``; an empty name is this machine.

        One that does not answer is a device too, on which everything fails with the reason. Raises
        :class:`UsageError` for a device that is unknown or has no connection.
        """
        if name in ("", LOCAL, self._local.row.id):
            return self._local
        if name in self._remote:
            if not self._remote[name].is_lost():
                return self._remote[name]
            self._remote.pop(name).__exit__(None, None, None)
        connection = next((each for each in load_connections() if each.id == name), None)
        if connection is None:
            return LocalDevice(_local_row(name))
        if isinstance(read_address(connection.address), LocalAddress):
            installed = connection.installed
            return LocalDevice(
                named_device(connection, self._local.row),
                installed.variables if installed else None,
            )
        try:
            self._remote[name] = remote_device(connection)
        except StageError as error:
            return UnreachableDevice(connection, error)
        return self._remote[name]


def remote_device(connection: Connection) -> RemoteDevice:
    """Connect to a device and reserve it. Raises :class:`StageError`."""
    transport = connect(connection)
    try:
        return RemoteDevice(connection, transport)
    except BaseException:
        transport.close()
        raise


def connect(connection: Connection) -> Transport:
    """Connect to a device that is not this machine. Raises :class:`StageError`."""
    address = read_address(connection.address)
    match address:
        case SshAddress():
            from latbench.devices.ssh import ssh_connection

            return ssh_connection(address, connection.id)
        case AdbAddress():
            from latbench.devices.adb import adb_connection

            return adb_connection(address, connection.id)
    raise StageError(
        "probe",
        f"{connection.id} cannot be reached: {address.transport}:// is not supported yet",
        kind="unavailable",
    )


def _local_row(name: str) -> Device:
    """The user's row of facts for this machine. Raises :class:`UsageError` for any other device."""
    rows = load_devices(user_devices_path())
    connected = [each.id for each in load_connections()]
    known = [each.id for each in rows]
    if name not in known:
        known_by = "`latbench devices` lists them, `latbench devices add` adds yours"
        near = suggest(name, [LOCAL, *connected, *known], otherwise=known_by)
        raise UsageError(f"unknown device {name!r}", hint=near)
    device = find_device(rows, name)
    if device.transport == LOCAL:
        return device
    raise UsageError(
        f"{name} ({device.name}) is a description, not a device that latbench can reach",
        hint=f"say how yours is reached: latbench devices add my-{name} "
        f"{address_form(device.transport)} --same-as {name}",
    )
