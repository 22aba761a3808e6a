"""The states that adb reports of a device, and what to do about each that is not ``device``."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from latbench.devices.adb_server import (
    PORT_VARIABLE,
    AdbServer,
    Listed,
    ask_server,
    last_line,
    listed_by,
    usual_port,
)
from latbench.errors import StageError

HOST_AND_PORT = re.compile(r"(?!usb:)(?P<host>\S+):(?P<port>\d{1,5})")
"""A serial that ``adb connect`` takes."""
EMULATOR = re.compile(r"emulator-(?P<console>\d+)")
_CONNECT_TIMEOUT_S = 20.0
_LOOK_S = 0.1
LISTED_WAIT_S = 3.0
"""How long a server may take to find devices, and devices to answer it."""
PASSING = ("connecting", "authorizing", "offline")
READY = "device"
NEEDED_FEATURE = "shell_v2"
STATE_WORDS = {
    "unauthorized": (
        "has not allowed this computer",
        "unlock it and accept `Allow USB debugging?`; if nothing is asked: Developer options, "
        "Revoke USB debugging authorizations, then plug it in again",
    ),
    "authorizing": ("waits for its owner", "unlock it and accept `Allow USB debugging?`"),
    "offline": (
        "does not answer adb",
        "plug it in again, or turn USB debugging (or wireless debugging) off and on",
    ),
    "connecting": ("is not connected yet", "try again in a moment"),
    "no permissions": (
        "may not be opened by this user",
        "Linux needs a udev rule: apt install android-sdk-platform-tools-common, join the group "
        "plugdev, and plug it in again",
    ),
    "recovery": ("runs its recovery system", "start Android: adb reboot, or its power button"),
    "rescue": ("runs its rescue system", "start Android with its power button"),
    "sideload": ("waits for an update", "finish it, then start Android"),
    "bootloader": ("is in its boot loader", "start Android: fastboot reboot"),
    "host": ("acts as a host", "choose USB for file transfer on it"),
}


def reach(server: AdbServer, serial: str, name: str, *, reconnect: bool = False) -> None:
    """Make the server ready for the device; ``reconnect`` drops its present connection.

    Raises :class:`StageError` (``unavailable``) with what is wrong.
    """
    said = None
    if HOST_AND_PORT.fullmatch(serial):
        before = with_serial(server.devices(), serial)
        if reconnect or any(each.state == "offline" for each in before):
            server.said("disconnect", serial, timeout_s=_CONNECT_TIMEOUT_S)
        said = _connected(server, serial, name)
    coming = said is not None and "connected to" in said
    found = with_serial(settled_devices(server, serial, wait=coming), serial)
    if not found:
        raise _absent(server, serial, name, said)
    if len(found) > 1:
        raise _refused(
            f"{name}: {len(found)} devices have the serial {serial}", twins_hint(name, found)
        )
    if found[0].state != READY:
        message, hint = state_words(found[0])
        raise _refused(f"{name}: {message}", hint)
    features = ask_server(server.port, f"host-serial:{serial}:features") or ""
    if NEEDED_FEATURE not in features.split(","):
        raise _refused(
            f"{name}: its adbd does not report how programs end",
            "Android 7 or newer can",
        )


def _connected(server: AdbServer, serial: str, name: str) -> str:
    try:
        return server.said("connect", serial, timeout_s=_CONNECT_TIMEOUT_S)
    except StageError as error:
        if error.kind != "timeout":
            raise
        raise _refused(
            f"{name}: {serial} does not answer within {_CONNECT_TIMEOUT_S:g} s",
            "is it on, and in the same network?",
        ) from error


def with_serial(devices: Sequence[Listed], serial: str) -> tuple[Listed, ...]:
    """Those that ``adb -s`` would take for ``serial``."""
    return tuple(each for each in devices if serial in (each.serial, each.path))


def settled_devices(
    server: AdbServer, serial: str | None = None, *, wait: bool = False
) -> tuple[Listed, ...]:
    """What the server sees, once ``serial`` (or all) has a state that stays.

    With ``wait``, or a server that has just started, one that is not there may still come.
    """
    until = time.monotonic() + LISTED_WAIT_S
    while True:
        devices = server.devices()
        found = devices if serial is None else with_serial(devices, serial)
        coming = (wait or server.is_new) if serial is not None and not found else False
        passing = any(each.state in PASSING for each in found)
        if not (coming or passing) or time.monotonic() >= until:
            return devices
        time.sleep(_LOOK_S)


def is_on_usb(device: Listed) -> bool:
    """Whether only one server can have it."""
    return not (HOST_AND_PORT.fullmatch(device.serial) or EMULATOR.fullmatch(device.serial))


def held_note(port: int) -> str:
    """What to do about a USB device of another server."""
    return (
        f"held by the adb server at port {port}: use that server ({PORT_VARIABLE}={port}), or end "
        "it: adb kill-server"
    )


def state_words(device: Listed) -> tuple[str, str | None]:
    """What a state means, and what to do."""
    message, hint = STATE_WORDS.get(
        device.state, (f"is in the state {device.state!r} of adb", None)
    )
    return f"{device.serial} {message}", hint


def twins_hint(name: str, twins: Sequence[Listed]) -> str:
    """How each of several devices with one serial is added."""
    paths = [each.path for each in twins if each.path]
    if not paths:
        return "unplug the others"
    commands = [f"latbench devices add {name} adb://{path}" for path in paths]
    return f"name the socket that it is plugged into: {' or '.join(commands)}"


def without_aliases(devices: Sequence[Listed]) -> tuple[Listed, ...]:
    """Every device once: adb lists an emulator under two names if it was also connected to."""
    connected = {each.serial for each in devices if HOST_AND_PORT.fullmatch(each.serial)}

    def is_alias(device: Listed) -> bool:
        emulator = EMULATOR.fullmatch(device.serial)
        if emulator is None:
            return False
        # An emulator with its console at 5554 takes adb at 5555.
        port = int(emulator["console"]) + 1
        return any(f"{host}:{port}" in connected for host in ("localhost", "127.0.0.1", "[::1]"))

    return tuple(each for each in devices if not is_alias(each))


def _absent(server: AdbServer, serial: str, name: str, said: str | None) -> StageError:
    if said is not None:
        return _refused(
            f"{name}: adb cannot connect to {serial}: {last_line(said)}",
            "is wireless debugging on, and the port the one that it shows now? Android 11 and "
            "newer first need `adb pair HOST:PORT`",
        )
    usual = usual_port()
    if server.port != usual and with_serial(listed_by(usual) or (), serial):
        return _refused(
            f"{name}: {serial} is held by the adb server at port {usual}; "
            "a USB device has one server at a time",
            f"let latbench use that server ({PORT_VARIABLE}={usual}), or end it: "
            "adb kill-server (and Android Studio, which starts it again)",
        )
    return _refused(
        f"{name}: adb sees no device {serial}",
        "plug it in, turn USB debugging on, choose `File transfer` for the cable; "
        "`latbench devices discover` lists what is there",
    )


def _refused(message: str, hint: str | None) -> StageError:
    return StageError("probe", message, hint=hint, kind="unavailable")
