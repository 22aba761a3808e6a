"""The user's own devices: how each is reached, and what was installed on it.

``latbench devices add`` writes ``connections.yaml`` in the configuration folder. Facts about
hardware stay in ``devices.yaml``; a connection may name a row of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from latbench.defaults import LOCAL
from latbench.devices.addresses import AdbAddress, read_address
from latbench.devices.catalog import load_devices, user_devices_path
from latbench.errors import UsageError, suggest
from latbench.files import write_beside
from latbench.paths import config_folder
from latbench.schema.environment import Device, Level
from latbench.schema.value import Value
from latbench.schema.yaml_document import Document, parse

SCHEMA = 1
DEVICE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PHONE_FOLDER = "latbench"
"""Below the folder of `adb shell`'s files."""
HEADER = "# Devices that `latbench devices add` has written. It may be edited by hand.\n"


class Installed(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The worker that ``latbench devices install`` has put on a device."""

    worker: Literal["python", "native", "apple"]
    sha256: str
    """Digest of everything that was installed."""
    latbench: str
    """Digest of latbench's own part; a run needs the same."""
    folder: str
    """Absolute path on the device."""
    python: str | None = None
    """Absolute path of the interpreter on the device."""
    backends: tuple[str, ...] = ()
    variables: dict[str, str] = msgspec.field(default_factory=dict)
    """Environment variables of the native worker: where its libraries are."""
    level: Level | None = None
    """What the native worker stands on instead of the device's own C library."""
    loader: str | None = None
    """Absolute path of the dynamic loader that starts the native worker; its libraries lie beside
    it. ``None`` if the system starts it."""


class Connection(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One device of the user's."""

    id: str
    address: str
    """In one of the forms of :func:`~latbench.devices.addresses.read_address`."""
    same_as: str | None = None
    """Id of the row of facts that describes its hardware."""
    python: str = "python3"
    """The interpreter on the device."""
    folder: str = ".cache/latbench"
    """Where latbench keeps its files there, relative to the user's home folder."""
    emulated: bool = False
    """Whether the user knows its processor to be emulated."""
    identity: str | None = None
    """What told it from other machines when it was reached last."""
    installed: Installed | None = None


class ConnectionsFile(Value, frozen=True, kw_only=True):
    """The form of the file."""

    schema: int
    connections: tuple[Connection, ...]


def connections_path() -> Path:
    """The file. Raises :class:`LatbenchError` if there is no configuration folder."""
    return config_folder() / "connections.yaml"


def load_connections() -> tuple[Connection, ...]:
    """The user's devices, in the order in which they were added.

    Raises :class:`UsageError` with file, line and key.
    """
    path = connections_path()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    document = parse(content, str(path))
    found = document.tree.get("schema") if isinstance(document.tree, dict) else None
    if isinstance(found, int) and found > SCHEMA:
        raise document.error(
            ("schema",),
            f"the file is of schema {found}; this latbench reads up to {SCHEMA}",
            "upgrade latbench",
        )
    connections = document.convert(ConnectionsFile).connections
    _check_rows(document, connections)
    return connections


def save_connections(connections: Iterable[Connection]) -> None:
    """Write the file. Raises :class:`LatbenchError`."""
    import yaml

    tree = msgspec.to_builtins(ConnectionsFile(schema=SCHEMA, connections=tuple(connections)))
    text = HEADER + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    path = connections_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def store_connection(changed: Connection) -> None:
    """Replace the entry of that id in the file, or add it."""
    others = load_connections()
    if any(each.id == changed.id for each in others):
        save_connections(changed if each.id == changed.id else each for each in others)
    else:
        save_connections((*others, changed))


def find_connection(id: str) -> Connection | None:
    """The user's device of that id."""
    return next((each for each in load_connections() if each.id == id), None)


def known_connection(id: str) -> Connection:
    """The user's device of that id. Raises :class:`UsageError` with the nearest ids."""
    known = {each.id: each for each in load_connections()}
    if id not in known:
        raise UsageError(
            f"{id!r} is not one of your devices",
            hint=suggest(id, known, otherwise="latbench devices lists them")
            or f"add it: latbench devices add {id} ssh://USER@HOST",
        )
    return known[id]


def new_connection(id: str, address: str, *, same_as: str | None = None) -> Connection:
    """A checked connection. Raises :class:`UsageError`."""
    check_id(id)
    row_of(same_as)
    if any(id == row.id for row in load_devices(user_devices_path())):
        raise UsageError(
            f"{id!r} is a row of facts in devices.yaml: records of your device would count as its",
            hint=f"another id; if it is the same hardware: "
            f"latbench devices add my-{id} {address} --same-as {id}",
        )
    made = Connection(id=id, address=address, same_as=same_as)
    if isinstance(read_address(address), AdbAddress):
        return msgspec.structs.replace(made, folder=PHONE_FOLDER)
    return made


def check_id(id: str) -> None:
    """Refuse an id that cannot name a device. Raises :class:`UsageError`."""
    if id == LOCAL:
        raise UsageError(
            f"{id!r} always names the machine that latbench runs on", hint="choose another id"
        )
    if not DEVICE_ID.fullmatch(id):
        raise UsageError(
            f"{id!r} cannot name a device",
            hint="up to 64 lower-case letters, digits, dots, dashes and underscores",
        )


def check_folder(folder: str) -> None:
    """Refuse a folder that is not below the home folder. Raises :class:`UsageError`."""
    parts = PurePosixPath(folder).parts
    if not parts or folder.startswith(("/", "-", "~")) or ".." in parts:
        raise UsageError(
            f"{folder!r} is not a folder below the home folder of the device",
            hint="such as .cache/latbench",
        )


def row_of(id: str | None) -> Device | None:
    """The row of facts of that id. Raises :class:`UsageError` with the nearest ids."""
    if id is None:
        return None
    known = {device.id: device for device in load_devices(user_devices_path())}
    if id not in known:
        raise UsageError(f"no device {id!r} is described in devices.yaml", hint=suggest(id, known))
    return known[id]


def _check_rows(document: Document, connections: tuple[Connection, ...]) -> None:
    taken: set[str] = set()
    for i, each in enumerate(connections):
        place = ("connections", i)
        if each.id in taken:
            raise document.error((*place, "id"), f"the id {each.id!r} stands here twice")
        taken.add(each.id)
        try:
            check_id(each.id)
            read_address(each.address)
            check_folder(each.folder)
        except UsageError as error:
            raise document.error(place, error.message, error.hint) from error
