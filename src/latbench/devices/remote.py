"""A device at the end of a connection.

Besides the workers that are timed, one worker stays open that never loads a model: the agent. It
tells facts and conditions, stops and continues the others, holds the lock of the device, and ends
all of them when it hears nothing of the harness for some seconds.
"""

from __future__ import annotations

import getpass
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

import msgspec

from latbench.devices.connections import Connection, Installed
from latbench.devices.placing import push_by_digest
from latbench.devices.transport import Channel, Transport
from latbench.devices.unreachable import named_device
from latbench.devices.wheels import own_sha256
from latbench.errors import Stage, StageError
from latbench.host.info import read_machine, this_device
from latbench.schema.environment import Conditions, Device, Link, Machine, Software
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from latbench.worker.native import PROGRAM
from latbench.worker.process import NO_TELEMETRY, WORKER
from latbench.worker.process_tree import HARNESS_MARK, MARK, new_mark
from latbench.worker.server import OWNER_TIMEOUT

if TYPE_CHECKING:
    from latbench.api import Capability, Runner

A = TypeVar("A", bound=messages.Message)

ALIVE_EVERY_S = 2.0
OWNER_TIMEOUT_S = 8.0
"""No worker runs on for longer without its harness."""
ASK_TIMEOUT_S = 30.0
EXCHANGES = 5
"""The shortest of so many is the round trip."""
NOT_INSTALLED = "latbench devices install {}"


class RemoteDevice:
    """One device, reached by a ``transport`` that it owns. Leaving the ``with`` block ends all."""

    def __init__(self, connection: Connection, transport: Transport) -> None:
        self._connection = connection
        self._transport = transport
        self._mark = new_mark()
        self._places: dict[Path, PurePath] = {}
        self._capabilities: dict[str, Capability] = {}
        self._oom_kills: int | None = None
        installed = connection.installed
        if installed is None:
            raise StageError(
                "probe",
                f"latbench is not installed on {connection.id}",
                hint=NOT_INSTALLED.format(connection.id),
                kind="unavailable",
            )
        if installed.latbench != own_sha256():
            raise StageError(
                "probe",
                f"another state of latbench is installed on {connection.id} than here",
                hint=NOT_INSTALLED.format(connection.id),
                kind="unavailable",
            )
        self._installed: Installed = installed
        self._agent = self._started_agent()
        try:
            self.reserve()
            self._told = self._asked(messages.DescribeMachine(), messages.MachineTold)
            self._oom_kills = self._told_conditions().oom_kills
            self.link = self._measured_link()
        except BaseException:
            self._agent.__exit__(None, None, None)
            raise

    def __enter__(self) -> RemoteDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self._agent.__exit__(None, None, None)
        self._transport.close()

    def release(self) -> Transport:
        """End the agent, and with it the lock of the device; return the connection, still open.

        Nothing more can be asked of the device by this value.
        """
        self._agent.__exit__(None, None, None)
        return self._transport

    @property
    def connection(self) -> Connection:
        """How it is reached."""
        return self._connection

    @property
    def lock(self) -> str:
        """The file there that reserves it."""
        return self._transport.device_lock

    @property
    def machine(self) -> Machine:
        """Facts that the device has told."""
        told = self._told.machine
        if self._connection.emulated and not told.emulated:
            return msgspec.structs.replace(told, emulated=True)
        return told

    @cached_property
    def row(self) -> Device:
        """The user's name for it, with the facts of the row that it is the same as."""
        return named_device(self._connection, this_device(self.machine))

    def conditions(self) -> Conditions:
        """Ask the device. Raises :class:`StageError`."""
        return self._told_conditions().conditions

    def software(self, packages: Iterable[str]) -> Software:
        """Return the versions that the device has told."""
        wanted = messages.DescribeMachine(packages=tuple(packages))
        # What is measured then says that the connection is lost.
        with suppress(StageError):
            software = self._asked(wanted, messages.MachineTold).software
            if software is not None:
                return software
        return Software(latbench=self._agent.hello.version, python="", packages={}, commit=None)

    def usable_cpus(self) -> int:
        """Return the number of CPUs that a worker there may use."""
        return self.conditions().usable_cpus or 1

    def probe(self, runner: Runner) -> Capability:
        """Whether the backend can run there."""
        name = runner.name
        if name not in self._capabilities:
            wanted = messages.ProbeBackends(backends=(name,))
            told = self._asked(wanted, messages.CapabilitiesTold).backends
            if name not in told:
                raise StageError("probe", f"the worker does not say whether {name} can run")
            found = told[name]
            if not found.available and name not in self._installed.backends:
                found = msgspec.structs.replace(
                    found,
                    hint=f"{NOT_INSTALLED.format(self._connection.id)} --backend {name}",
                )
            self._capabilities[name] = found
        return self._capabilities[name]

    def place(self, path: Path) -> PurePath:
        """Push what is not yet there, under its digest."""
        if path not in self._places:
            self._places[path] = push_by_digest(self._transport, self._installed.folder, path)
        return self._places[path]

    def start_worker(self, timeout_hint: str) -> WorkerClient:
        """Start a worker on the device. Raises :class:`StageError`."""
        return WorkerClient(
            _RemoteProgram(self, {MARK: new_mark()}), timeout_hint=timeout_hint, banners=True
        )

    def is_lost(self) -> bool:
        """Whether it can no longer be asked, so that a new connection is needed."""
        return self._agent.ended

    def reserve(self) -> None:
        """Take the lock of the device until the agent ends. Raises :class:`StageError`."""
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        owner = f"{user_name()}@{platform.node()}, process {os.getpid()}, since {since}"
        self._asked(messages.ReserveDevice(path=self.lock, owner=owner), messages.DeviceReserved)

    def signal(self, name: messages.SignalName, pid: int) -> None:
        """Signal a worker on the device. Raises :class:`StageError`."""
        self._asked(messages.SignalProcess(pid=pid, signal=name), messages.Signaled)

    def out_of_memory(self) -> bool:
        """Whether the kernel there has killed a process for lack of memory since the start."""
        try:
            now = self._told_conditions().oom_kills
        except StageError:
            return False
        before, self._oom_kills = self._oom_kills, now
        return before is not None and now is not None and now > before

    def launch(self, environment: Mapping[str, str], alive_every_s: float | None) -> Channel:
        """Start a worker program."""
        variables = {**NO_TELEMETRY, HARNESS_MARK: self._mark, **environment}
        if alive_every_s is not None:
            variables[OWNER_TIMEOUT] = f"{OWNER_TIMEOUT_S:g}"
        command, own = worker_command(self._installed)
        return self._transport.start(command, {**variables, **own}, alive_every_s=alive_every_s)

    def start_program(self, command: Sequence[str]) -> Channel:
        """Start a program other than a worker. The agent ends it as it ends workers."""
        return self._transport.start(command, {HARNESS_MARK: self._mark})

    @property
    def signs_of_life(self) -> float | None:
        """How often workers must hear of the harness; never where the agent can end them."""
        return None if self._agent.hello.stoppable else ALIVE_EVERY_S

    def _started_agent(self) -> WorkerClient:
        program = _RemoteProgram(self, {MARK: new_mark()}, agent=True)
        try:
            return WorkerClient(program, stage="probe", banners=True)
        except StageError as error:
            if error.kind != "crash":
                raise
            name = self._connection.id
            raise StageError(
                "probe",
                f"the worker on {name} does not start: {error.message}",
                hint=f"install it again: {NOT_INSTALLED.format(name)}",
                kind="unavailable",
                detail=error.detail,
            ) from error

    def _measured_link(self) -> Link:
        nothing = messages.ProbeBackends(backends=())
        took = []
        for _ in range(EXCHANGES):
            begun = time.perf_counter_ns()
            self._asked(nothing, messages.CapabilitiesTold)
            took.append(time.perf_counter_ns() - begun)
        before = time.time_ns()
        there = self.conditions().unix_ns
        hello = self._agent.hello
        return Link(
            transport=self._transport.kind,
            address=self._connection.address,
            worker=f"{hello.program} {hello.version}",
            worker_sha256=self._installed.sha256,
            round_trip_ns=min(took),
            clock_offset_ns=there - (before + time.time_ns()) // 2,
            harness=read_machine(),
            level=self._installed.level,
        )

    def _told_conditions(self) -> messages.ConditionsTold:
        return self._asked(messages.ReadConditions(), messages.ConditionsTold)

    def _asked(self, request: messages.RequestMessage, expect: type[A]) -> A:
        return self._agent.ask(request, expect, stage=request.STAGE, timeout_s=ASK_TIMEOUT_S)


def worker_command(
    installed: Installed, module: str = WORKER
) -> tuple[Sequence[str], Mapping[str, str]]:
    """The command line of a worker on a device, and its variables."""
    if installed.worker == "native":
        program = PurePosixPath(installed.folder, "native", installed.sha256, PROGRAM)
        loader = installed.loader
        prefix = () if loader is None else (loader, "--library-path", str(program.parent))
        return (*prefix, str(program)), installed.variables
    root = PurePosixPath(installed.folder, "environments", installed.sha256)
    # -P: nothing of the working directory stands in for a library; -s: nor of the user's folder.
    command = (installed.python or "python3", "-P", "-s", "-m", module)
    return command, {"PYTHONPATH": str(root), "PYTHONNOUSERSITE": "1"}


class _RemoteProgram:
    """A worker on a device, to be started."""

    def __init__(
        self, device: RemoteDevice, environment: Mapping[str, str], *, agent: bool = False
    ) -> None:
        self._device = device
        self._environment = environment
        self._agent = agent

    def start(self, stage: Stage) -> _RemoteProcess:
        """Start it. Raises :class:`StageError`."""
        alive = ALIVE_EVERY_S if self._agent else self._device.signs_of_life
        channel = self._device.launch(self._environment, alive)
        return _RemoteProcess(channel, None if self._agent else self._device)


class _RemoteProcess:
    """A running worker on a device: its channel, and the agent for what a channel cannot do."""

    def __init__(self, channel: Channel, device: RemoteDevice | None) -> None:
        self._channel = channel
        self._device = device
        """``None`` for the agent itself, which nothing else can signal."""
        self._pid: int | None = None
        self._ended = False

    def write(self, data: bytes) -> None:
        self._channel.write(data)

    def read_line(self, longest: int) -> bytes:
        return self._channel.read_line(longest)

    def status(self, timeout_s: float) -> int | None:
        return self._channel.status(timeout_s)

    def signal(self, name: messages.SignalName, pid: int) -> None:
        self._pid = pid
        if self._device is not None:
            self._device.signal(name, pid)

    def end(self, pid: int | None) -> None:
        if self._ended:
            return
        self._ended = True
        with suppress(StageError):
            self._channel.close()
            if pid is not None and self._device is not None and self._channel.status(0) is None:
                self._device.signal("kill", pid)

    def detail(self) -> str | None:
        return self._channel.detail()

    def out_of_memory(self) -> bool:
        return self._device is not None and self._device.out_of_memory()


def user_name() -> str:
    """The name of the user, or a number."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # A container whose user has no entry.
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
