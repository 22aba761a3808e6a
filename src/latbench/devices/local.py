"""This machine as the device that models are timed on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from latbench.host.info import (
    read_conditions,
    read_machine,
    read_software,
    this_device,
    usable_cpus,
)
from latbench.schema.environment import Conditions, Device, Machine, Software
from latbench.worker.client import WorkerClient

if TYPE_CHECKING:
    from latbench.api import Capability, Runner

WORKER = "latbench.worker.inference"
"""The module that is the Python worker."""


class LocalDevice:
    """This machine. ``row`` is what the user calls it, and by default what its processor is."""

    link = None

    def __init__(self, row: Device | None = None) -> None:
        self._row = row

    @property
    def row(self) -> Device:
        """The user's row for this machine, or one derived from its facts."""
        return self._row or this_device(self.machine)

    @cached_property
    def machine(self) -> Machine:
        """Facts that stay the same while the machine is up, read once."""
        return read_machine()

    def conditions(self) -> Conditions:
        """Read what can change from one minute to the next. Takes a few milliseconds."""
        return read_conditions()

    def software(self, packages: Iterable[str]) -> Software:
        """Return the versions of those ``packages`` that are installed, and the commit."""
        return read_software(packages)

    def usable_cpus(self) -> int:
        """Return the number of CPUs available to this process (affinity, cgroup quota)."""
        return usable_cpus()

    def probe(self, runner: Runner) -> Capability:
        """Whether the backend can run here."""
        return runner.probe()

    def place(self, path: Path) -> PurePath:
        """The path itself."""
        return path

    def start_worker(self, timeout_hint: str) -> WorkerClient:
        """Start a worker with this interpreter."""
        return WorkerClient.with_module(WORKER, timeout_hint=timeout_hint)
