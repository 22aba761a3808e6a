"""The machine that is measured, and what the harness needs to know about it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from latbench.defaults import LOCAL
from latbench.devices.catalog import find_device, load_devices, user_devices_path
from latbench.errors import UsageError
from latbench.host.info import (
    read_conditions,
    read_machine,
    read_software,
    this_device,
    usable_cpus,
)
from latbench.schema.environment import Conditions, Device, Machine, Software


class MeasuredDevice(Protocol):
    """A device that models are timed on.

    Everything that a measurement needs to know about the hardware goes through this value, so that
    a device behind a connection can take the place of this machine. Only :class:`LocalDevice`
    exists so far: artifacts are still read by path, and workers are started as local programs.
    """

    @property
    def machine(self) -> Machine:
        """Facts that stay the same while the device is up."""
        ...

    def row(self, name: str) -> Device:
        """Return the device's row under ``name``. Raise :class:`UsageError` for another device."""
        ...

    def conditions(self) -> Conditions:
        """Read what can change from one minute to the next."""
        ...

    def software(self, packages: Iterable[str]) -> Software:
        """Return the versions of those ``packages`` that are installed."""
        ...

    def usable_cpus(self) -> int:
        """Return the number of CPUs available to a worker: the default number of threads."""
        ...

    def worker_command(self, module: str) -> tuple[str, ...]:
        """Return the command line that starts a worker program.

        :class:`~latbench.worker.client.WorkerClient` runs it, and stops and continues the program
        while another one is being timed.
        """
        ...


@dataclass(frozen=True)
class LocalDevice:
    """This machine."""

    @cached_property
    def machine(self) -> Machine:
        """Facts that stay the same while the machine is up, read once."""
        return read_machine()

    def row(self, name: str) -> Device:
        """Return this machine's row, or the user's row for it if ``name`` is one.

        Raise :class:`UsageError` for a device that is unknown or cannot be reached.
        """
        own = this_device(self.machine)
        if name in (LOCAL, own.id):
            return own
        device = find_device(load_devices(user_devices_path()), name)
        if device.transport == "local":
            return device
        raise UsageError(
            f"device {name!r} ({device.name}) cannot be reached from here: only this machine can",
            hint=f"leave --device out, or give {LOCAL} or {own.id}",
        )

    def conditions(self) -> Conditions:
        """Read what can change from one minute to the next. Takes a few milliseconds."""
        return read_conditions()

    def software(self, packages: Iterable[str]) -> Software:
        """Return the versions of those ``packages`` that are installed, and the commit."""
        return read_software(packages)

    def usable_cpus(self) -> int:
        """Return the number of CPUs available to this process (affinity, cgroup quota)."""
        return usable_cpus()

    def worker_command(self, module: str) -> tuple[str, ...]:
        """Return ``python -P -m module`` with this interpreter.

        ``-P``: a file in the working directory must not replace a library.
        """
        return (sys.executable, "-P", "-m", module)
