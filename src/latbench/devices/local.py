"""This machine as the device that models are timed on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from latbench.worker.native import build_native
from latbench.worker.process import WORKER, LocalProgram

if TYPE_CHECKING:
    from latbench.api import Capability, Runner

PROBE_TIMEOUT_S = 120.0


class LocalDevice:
    """This machine. ``row`` is what the user calls it, and by default what its processor is."""

    link = None

    def __init__(self, row: Device | None = None, native: Mapping[str, str] | None = None) -> None:
        self._row = row
        self._native = native
        """Variables of the native worker, if that is what times here."""

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
        if self._native is None:
            return runner.probe()
        with self.start_worker("try again") as worker:
            wanted = messages.ProbeBackends(backends=(runner.name,))
            told = worker.ask(
                wanted, messages.CapabilitiesTold, stage="probe", timeout_s=PROBE_TIMEOUT_S
            )
        return told.backends[runner.name]

    def place(self, path: Path) -> PurePath:
        """The path itself."""
        return path

    def start_worker(self, timeout_hint: str) -> WorkerClient:
        """Start a worker: with this interpreter, or the native one."""
        if self._native is not None:
            program = LocalProgram((str(build_native()),), self._native)
            return WorkerClient(program, timeout_hint=timeout_hint)
        return WorkerClient.with_module(WORKER, timeout_hint=timeout_hint)
