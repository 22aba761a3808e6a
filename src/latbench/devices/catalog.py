"""devices.yaml: the shipped rows, and a user's own beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from latbench.errors import UsageError, suggest
from latbench.paths import config_folder
from latbench.schema.environment import Device
from latbench.schema.value import Value
from latbench.schema.yaml_document import Document, parse

SCHEMA = 1


class DevicesFile(Value, frozen=True, kw_only=True):
    """The form of the file."""

    schema: int
    devices: tuple[Device, ...]


def load_devices(user_file: Path | None = None) -> tuple[Device, ...]:
    """The shipped devices, then the user's.

    A user's file extends: a row whose id is taken is an error, because two records that name the
    same device must mean the same facts. Raises :class:`UsageError` with file, line and key.
    """
    shipped = parse(files("latbench.devices").joinpath("devices.yaml").read_bytes(), "devices.yaml")
    documents = [shipped]
    if user_file is not None:
        documents.append(parse(_read(user_file), str(user_file)))
    taken: dict[str, str] = {}
    devices: list[Device] = []
    for document in documents:
        for i, device in enumerate(_rows(document)):
            place = ("devices", i, "id")
            if device.id in taken:
                raise document.error(
                    place, f"the id {device.id!r} is taken: {taken[device.id]}", "choose another id"
                )
            taken[device.id] = document.place(place)
            devices.append(device)
    return tuple(devices)


def find_device(devices: Iterable[Device], id: str) -> Device:
    """The device of that id. Raises :class:`UsageError` with the nearest ids."""
    known = {device.id: device for device in devices}
    if id not in known:
        raise UsageError(f"unknown device {id!r}", hint=suggest(id, known))
    return known[id]


def user_devices_path() -> Path | None:
    """The user's own file: ``LATBENCH_DEVICES``, else that of the configuration folder if any."""
    if named := os.environ.get("LATBENCH_DEVICES"):
        return Path(named)
    path = config_folder() / "devices.yaml"
    return path if path.exists() else None


def _rows(document: Document) -> tuple[Device, ...]:
    found = document.tree.get("schema") if isinstance(document.tree, dict) else None
    if isinstance(found, int) and found > SCHEMA:
        raise document.error(
            ("schema",),
            f"the file is of schema {found}; this latbench reads up to {SCHEMA}",
            "upgrade latbench",
        )
    return document.convert(DevicesFile).devices


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read the devices file {path}: {error.strerror}",
            hint="LATBENCH_DEVICES or the configuration folder names it",
        ) from error
