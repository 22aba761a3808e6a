"""What a measurement needs to know of the device that models are timed on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from latbench.schema.environment import Conditions, Device, Link, Machine, Software

if TYPE_CHECKING:
    from latbench.api import Capability, Runner
    from latbench.errors import Failure
    from latbench.worker.client import WorkerClient
    from latbench.worker.job_folder import JobAbout, ScriptAnswer, ScriptLine


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


class ScriptUnderWay(Protocol):
    """A script on a device that takes nothing else."""

    @property
    def answers(self) -> Mapping[int, ScriptAnswer]:
        """What was fetched, by line, whatever has ended the execution."""
        ...

    @property
    def failure(self) -> Failure | None:
        """Why answers are missing, if they are."""
        ...

    def run(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Execute the script up to its end or a failure; ``progress`` gets parts done and all."""
        ...


@runtime_checkable
class ScriptedDevice(Protocol):
    """A device whose worker cannot be talked to: it executes scripts and gives the answers."""

    def script(self, about: JobAbout, script: tuple[ScriptLine, ...]) -> ScriptUnderWay:
        """A script that can be executed there."""
        ...
