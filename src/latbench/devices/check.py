"""Each step of the way to a device, tried in order: what works, and what to do if it does not."""

from __future__ import annotations

import time
from collections.abc import Iterator

from latbench.devices.adb_check import android_steps
from latbench.devices.addresses import AppleAddress, LocalAddress, read_address
from latbench.devices.apple_setup import check_iphone
from latbench.devices.check_step import CheckStep
from latbench.devices.connections import Connection, load_connections
from latbench.devices.installation import check_surroundings, look_around
from latbench.devices.local_shell import LocalShell
from latbench.devices.opening import connect
from latbench.devices.preparation import RESTORE_COMMAND, Target, find_preparation
from latbench.devices.remote import RemoteDevice
from latbench.devices.setup import default_worker
from latbench.devices.transport import Transport
from latbench.errors import LatbenchError
from latbench.plugins import load_runner
from latbench.schema.environment import Machine

CLOCK_TOLERANCE_NS = 60 * 10**9
"""Records of a device whose clock is off by more are hard to place in time."""


def check_device(connection: Connection) -> Iterator[CheckStep]:
    """Try each step until one fails, which is the last one."""
    if isinstance(read_address(connection.address), AppleAddress):
        yield from check_iphone(connection)
        return
    try:
        if isinstance(read_address(connection.address), LocalAddress):
            yield CheckStep(name="connection", works=True, found="this machine")
            yield from _preparation(Target(id=connection.id, shell=LocalShell()))
            return
        transport = connect(connection)
    except LatbenchError as error:
        yield _failed("connection", error)
        return
    yield CheckStep(name="connection", works=True, found=connection.address)
    try:
        if transport.kind == "adb":
            yield from android_steps(transport)
        yield from _surroundings(connection, transport)
        yield from _preparation(Target(id=connection.id, shell=transport))
    except LatbenchError as error:
        yield _failed("surroundings", error)
        transport.close()
        return
    try:
        device = RemoteDevice(connection, transport)
    except LatbenchError as error:
        yield _failed("worker", error)
        transport.close()
        return
    with device:
        yield from _worker(connection, device)


def _surroundings(connection: Connection, transport: Transport) -> Iterator[CheckStep]:
    found = look_around(connection, transport)
    libc = f", glibc {'.'.join(map(str, found.libc))}" if found.libc else ""
    system = f"{found.system} {found.architecture}{libc}"
    yield CheckStep(name="system", works=True, found=system)
    if found.free_bytes is not None:
        yield CheckStep(name="free space", works=None, found=f"{found.free_bytes / 1e9:.1f} GB")
    if default_worker(connection) == "python":
        check_surroundings(connection, found)
        assert found.python is not None
        version = ".".join(map(str, found.python))
        yield CheckStep(name="python", works=True, found=f"{version}, {found.interpreter}")


def _preparation(target: Target) -> Iterator[CheckStep]:
    """Say that the clocks of the device are not its own."""
    left = find_preparation(target)
    if left is None:
        return
    when = (
        ""
        if left.made_unix_s is None
        else time.strftime(" on %Y-%m-%d %H:%M", time.localtime(left.made_unix_s))
    )
    differs = ", ".join(each.text for each in left.differing)
    yield CheckStep(
        name="clocks",
        works=None,
        found=f"set by an earlier prepare{when}; {differs or 'all is as before it'}",
        hint=RESTORE_COMMAND.format(target.id),
    )


def _worker(connection: Connection, device: RemoteDevice) -> Iterator[CheckStep]:
    link, installed = device.link, connection.installed
    assert installed is not None
    trip = f"an exchange takes {link.round_trip_ns / 1e6:.1f} ms"
    yield CheckStep(name="worker", works=True, found=f"{link.worker}, {trip}")
    yield from _machine(connection, device.machine)
    offset = link.clock_offset_ns
    late = abs(offset) > CLOCK_TOLERANCE_NS
    yield CheckStep(
        name="clock",
        works=None if late else True,
        found=f"{abs(offset) / 1e9:.1f} s {'ahead of' if offset > 0 else 'behind'} this machine's",
        hint="records keep both; set the clock for times of day that agree" if late else None,
    )
    for backend in installed.backends:
        able = device.probe(load_runner(backend))
        found = f"{backend} {able.version}" if able.available else f"{backend}: {able.reason}"
        hint = None if able.available else able.hint
        yield CheckStep(name="backend", works=able.available, found=found, hint=hint)


def _machine(connection: Connection, machine: Machine) -> Iterator[CheckStep]:
    yield CheckStep(name="processor", works=None, found=machine.cpu_model or "unknown")
    if machine.emulated:
        yield CheckStep(
            name="emulated",
            works=None,
            found="the processor is emulated",
            hint="its latencies mean nothing; no claim is decided by them",
        )
    twins = [
        each.id
        for each in load_connections()
        if each.id != connection.id and machine.identity and each.identity == machine.identity
    ]
    if twins:
        yield CheckStep(
            name="identity",
            works=None,
            found=f"{connection.id} is the same machine as {', '.join(twins)}",
            hint="latbench devices remove one of them, or give each its own machine id",
        )


def _failed(name: str, error: LatbenchError) -> CheckStep:
    return CheckStep(name=name, works=False, found=error.message, hint=error.hint)
