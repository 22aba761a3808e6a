"""What a measurement needs to know of the device that models are timed on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Protocol

from latbench.schema.environment import Conditions, Device, Link, Machine, Software

if TYPE_CHECKING:
    from latbench.api import Capability, Runner
    from latbench.worker.client import WorkerClient


class MeasuredDevice(Protocol):
    """A device that models are timed on: this machine, or one at the end of a connection.

    Everything that a measurement needs to know about the hardware goes through this value.
    """

    @property
    def row(self) -> Device:
        """What the device is called and known to be."""
        ...

    @property
    def machine(self) -> Machine:
        """Facts that stay the same while the device is up."""
        ...

    @property
    def link(self) -> Link | None:
        """How it is reached; ``None`` for this machine."""
        ...

    def conditions(self) -> Conditions:
        """Read what can change from one minute to the next. Raises :class:`StageError`."""
        ...

    def software(self, packages: Iterable[str]) -> Software:
        """Return the versions of those ``packages`` that are installed there."""
        ...

    def usable_cpus(self) -> int:
        """Return the number of CPUs available to a worker: the default number of threads."""
        ...

    def probe(self, runner: Runner) -> Capability:
        """Whether the backend can run there."""
        ...

    def place(self, path: Path) -> PurePath:
        """Make a file or folder of the artifact cache available there, and return its path there.

        Raises :class:`StageError`.
        """
        ...

    def start_worker(self, timeout_hint: str) -> WorkerClient:
        """Start a worker program there. Raises :class:`StageError`."""
        ...
