"""A device that did not answer: its record says so, with the reason."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NoReturn

import msgspec

from latbench.devices.addresses import read_address
from latbench.devices.connections import Connection, row_of
from latbench.errors import StageError
from latbench.schema.environment import Conditions, Device, Machine, Software
from latbench.version import latbench_version
from latbench.worker.client import WorkerClient

if TYPE_CHECKING:
    from latbench.api import Capability, Runner


_UNKNOWN_MACHINE = msgspec.convert(
    dict.fromkeys(field.name for field in msgspec.structs.fields(Machine) if field.required),
    Machine,
)
"""A machine that has told nothing."""


def named_device(connection: Connection, told: Device | None = None) -> Device:
    """The user's name for a device, with the facts of the row that it is the same as.

    Without such a row the facts are those that the device has ``told``.
    """
    id, facts = connection.id, row_of(connection.same_as)
    transport = read_address(connection.address).transport
    known = facts or told
    if known is None:
        return Device(id=id, name=id, kind="unknown", transport=transport)
    return msgspec.structs.replace(
        known,
        id=id,
        name=f"{id} ({known.name})",
        transport=transport,
        same_as=facts.id if facts else None,
    )


def unread_conditions() -> Conditions:
    """Conditions of which nothing is known but the time, by the clock of the harness."""
    names = [field.name for field in msgspec.structs.fields(Conditions)]
    return msgspec.convert({**dict.fromkeys(names), "unix_ns": time.time_ns()}, Conditions)


class UnreachableDevice:
    """A device of which only the connection is known. Whatever needs it raises ``error``."""

    link = None
    machine = _UNKNOWN_MACHINE

    def __init__(self, connection: Connection, error: StageError) -> None:
        self._connection = connection
        self._error = error

    @property
    def row(self) -> Device:
        """The user's name for it, and the facts of the row that it is the same as."""
        return named_device(self._connection)

    def conditions(self) -> Conditions:
        """Nothing but the time is known, by the clock of the harness."""
        return unread_conditions()

    def software(self, packages: Iterable[str]) -> Software:
        """Only that of the harness."""
        return Software(latbench=latbench_version(), python="", packages={}, commit=None)

    def usable_cpus(self) -> NoReturn:
        raise self._error

    def probe(self, runner: Runner) -> Capability:
        raise self._error

    def place(self, path: Path) -> PurePath:
        raise self._error

    def start_worker(self, timeout_hint: str) -> WorkerClient:
        raise self._error
