"""Devices that can be added: hosts of the ssh configuration, and those that adb sees."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from latbench.devices.adb_server import NO_SERIAL, AdbServer, Listed, listed_by, usual_port
from latbench.devices.adb_state import (
    READY,
    held_note,
    is_on_usb,
    settled_devices,
    state_words,
    with_serial,
    without_aliases,
)
from latbench.devices.addresses import SshAddress, read_address
from latbench.devices.connections import DEVICE_ID, load_connections
from latbench.errors import UsageError
from latbench.schema.value import Value

LARGEST_BYTES = 2**20
LINE = re.compile(r"^\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*?)\s*$")
DEEPEST = 4
"""How many files may include each other."""


class SshHost(Value, frozen=True, kw_only=True):
    """A host, and the id that it would get here."""

    host: str
    id: str
    added: bool
    """Whether it is one of the user's devices already."""


class FoundAndroid(Value, frozen=True, kw_only=True):
    """An Android device that an adb server sees, and the id that it would get here."""

    address: str
    id: str
    added: bool
    """Whether it is one of the user's devices already."""
    state: str
    model: str | None
    note: str | None
    """What keeps it from being measured on, and what to do."""


def phones() -> tuple[FoundAndroid, ...]:
    """What latbench's adb server sees, and the USB devices that the user's server holds.

    Raises :class:`StageError` if there is no adb.
    """
    server = AdbServer()
    try:
        own = without_aliases(settled_devices(server))
    finally:
        server.close()
    usual = usual_port()
    theirs = () if server.port == usual else without_aliases(listed_by(usual) or ())
    held = [each for each in theirs if not with_serial(own, each.serial) and is_on_usb(each)]
    there = {each.address for each in load_connections()}
    found = [_phone(each, own, there, _state_note(each)) for each in own]
    found += [_phone(each, theirs, there, held_note(usual)) for each in held]
    return tuple(found)


def _phone(
    device: Listed, beside: Sequence[Listed], there: set[str], note: str | None
) -> FoundAndroid:
    twins = [each for each in beside if each.serial == device.serial]
    unclear = len(twins) > 1 or device.serial == NO_SERIAL
    name = device.path if unclear and device.path else device.serial
    return FoundAndroid(
        address=f"adb://{name}",
        id=_id_of(device.model or device.serial),
        added=f"adb://{name}" in there,
        state=device.state,
        model=device.model,
        note=note,
    )


def _state_note(device: Listed) -> str | None:
    if device.state == READY:
        return None
    message, hint = state_words(device)
    return f"{message}: {hint}" if hint else message


def ssh_hosts(config: Path | None = None) -> tuple[SshHost, ...]:
    """Hosts of ``~/.ssh/config`` and what it includes, without patterns, in their order.

    Raises :class:`UsageError` if the file cannot be read.
    """
    file = config or Path.home() / ".ssh" / "config"
    there = {_host(each.address) for each in load_connections()}
    return tuple(
        SshHost(host=name, id=_id_of(name), added=name in there)
        for name in dict.fromkeys(_named(file, DEEPEST))
    )


def _named(file: Path, deep: int) -> list[str]:
    try:
        text = file.read_bytes()[:LARGEST_BYTES].decode(errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    found: list[str] = []
    for line in text.splitlines():
        known = LINE.match(line)
        if known is None:
            continue
        keyword, rest = known[1].lower(), known[2]
        if keyword == "host":
            found += [name for name in _words(rest) if not re.search(r"[*?!]", name)]
        elif keyword == "include" and deep:
            for pattern in _words(rest):
                place = Path(pattern).expanduser()
                root = place if place.is_absolute() else file.parent / place
                for included in sorted(root.parent.glob(root.name)):
                    found += _named(included, deep - 1)
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def _id_of(host: str) -> str:
    id = re.sub(r"[^a-z0-9._-]+", "-", host.lower()).strip("-._")
    return id if DEVICE_ID.fullmatch(id) else "device"


def _host(address: str) -> str | None:
    found = read_address(address)
    return found.host if isinstance(found, SshAddress) else None
