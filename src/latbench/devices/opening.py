"""From the name of a device to the device."""

from __future__ import annotations

from types import TracebackType

from latbench.defaults import LOCAL
from latbench.devices.addresses import (
    AdbAddress,
    AppleAddress,
    LocalAddress,
    SshAddress,
    address_form,
    read_address,
)
from latbench.devices.apple import AppleDevice, control_of
from latbench.devices.apple_control import MacShell
from latbench.devices.catalog import find_device, load_devices, user_devices_path
from latbench.devices.connections import Connection, known_connection, load_connections
from latbench.devices.local import LocalDevice
from latbench.devices.local_shell import LocalShell
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
        self._remote: dict[str, RemoteDevice | AppleDevice] = {}

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
            self._remote[name] = _connected(connection)
        except StageError as error:
            return UnreachableDevice(connection, error)
        return self._remote[name]


def _connected(connection: Connection) -> RemoteDevice | AppleDevice:
    if isinstance(read_address(connection.address), AppleAddress):
        return apple_device(connection)
    return remote_device(connection)


def apple_device(connection: Connection) -> AppleDevice:
    """Connect to a phone through its Mac. Raises :class:`StageError`."""
    control = control_of(connection, mac_of(connection))
    try:
        return AppleDevice(connection, control)
    except BaseException:
        control.close()
        raise


def mac_of(connection: Connection) -> MacShell:
    """Connect to the Mac of a phone. Raises :class:`StageError` and :class:`UsageError`."""
    address = read_address(connection.address)
    assert isinstance(address, AppleAddress)
    return open_mac(address.mac)


def open_mac(name: str) -> MacShell:
    """Connect to the Mac called ``name`` among the user's devices; ``local`` is this machine.

    Raises :class:`StageError` and :class:`UsageError`.
    """
    if name == LOCAL:
        return LocalShell()
    mac = known_connection(name)
    address = read_address(mac.address)
    if isinstance(address, LocalAddress):
        return LocalShell()
    if not isinstance(address, SshAddress):
        raise UsageError(
            f"{name} cannot be the Mac of a phone: it is reached by {mac.address}",
            hint="a Mac is this machine (local) or reached over ssh",
        )
    return connect(mac)


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
        f"{connection.id} runs an app and no commands: {connection.address}",
        hint="run, claims check and collect work there",
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
