"""An iPhone or iPad behind a Mac.

An app has no standard input, so nothing can be asked live: the Mac copies a script of requests to
the phone, launches the app, and copies the answers back. Facts of the phone come from a script too.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

import msgspec

from latbench.devices.addresses import AppleAddress, read_address
from latbench.devices.apple_control import DeviceControl, MacShell, Phone
from latbench.devices.apple_errors import UNLOCK
from latbench.devices.apple_scripts import PhoneScript
from latbench.devices.connections import Connection, Installed, row_of
from latbench.devices.unreachable import named_device
from latbench.errors import StageError
from latbench.files import content_sha256
from latbench.host.info import read_machine, this_device
from latbench.schema.environment import Conditions, Device, Link, Machine, Software
from latbench.worker import messages
from latbench.worker.apple import APP, sources_sha256
from latbench.worker.job_folder import JobAbout, ScriptLine

if TYPE_CHECKING:
    from latbench.api import Capability, Runner
    from latbench.worker.client import WorkerClient

INSTALL = "latbench devices install {} --team TEAMID"
BUNDLE = "bundle"
"""Key of the app's identifier among the variables of what is installed."""
FACTS_TIMEOUT_S = 60.0
FREE_WAIT_S = 20.0
"""An app that another harness has left ends by itself after the process that it times."""
BUSY_POLL_S = 2.0
FRESH_S = 15.0
"""So long the app's answer about its phone is good for: launching it warms the phone a little."""


class AppleDevice:
    """A phone that takes scripts. Leaving the ``with`` block ends the connection to its Mac."""

    def __init__(self, connection: Connection, control: DeviceControl) -> None:
        self._connection = connection
        self._control = control
        self._places: dict[Path, PurePath] = {}
        self._installed = _installed(connection)
        begun = time.perf_counter_ns()
        self.phone = control.details()
        self._exchange_ns = time.perf_counter_ns() - begun
        check_phone(connection, self.phone)
        if control.locked():
            raise _unready(f"{connection.id} is locked", UNLOCK)
        self._wait_until_free()
        self._machine, self._conditions = self._facts()

    def __enter__(self) -> AppleDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()

    @property
    def connection(self) -> Connection:
        """How it is reached."""
        return self._connection

    @property
    def machine(self) -> Machine:
        """Facts that the app has told, and what the Mac knows of the phone."""
        return self._machine

    @cached_property
    def row(self) -> Device:
        """The user's name for it, with the facts of the row that it is the same as."""
        return named_device(self._connection, this_device(self.machine))

    @cached_property
    def link(self) -> Link:
        """How it is reached."""
        return Link(
            transport="apple",
            address=self._connection.address,
            worker=f"{APP.removesuffix('.app')} through devicectl {self._control.version}".strip(),
            worker_sha256=self._installed.sha256,
            round_trip_ns=self._exchange_ns,
            clock_offset_ns=self._clock_offset_ns,
            harness=read_machine(),
        )

    def conditions(self) -> Conditions:
        """What the app tells, which is asked again after :data:`FRESH_S`. Each takes a launch."""
        if time.monotonic() >= self._asked_s + FRESH_S:
            self._machine, self._conditions = self._facts()
        return self._conditions

    def software(self, packages: Iterable[str]) -> Software:
        """The versions of what runs the app."""
        from latbench.version import latbench_version

        known = {"devicectl": self._control.version} if self._control.version else {}
        return Software(latbench=latbench_version(), python="", packages=known, commit=None)

    def usable_cpus(self) -> int:
        """The CPUs of the phone."""
        return self._conditions.usable_cpus or self._machine.logical_cpus or 1

    def probe(self, runner: Runner) -> Capability:
        """Whether the app runs the backend."""
        from latbench.schema.trace import Capability

        backends = self._installed.backends
        if runner.name in backends:
            return Capability(available=True, version=self.phone.system)
        return Capability(
            available=False,
            reason=f"latbench's app runs {', '.join(backends)}",
            hint=f"--backend {backends[0]}",
        )

    def place(self, path: Path) -> PurePath:
        """Push what is not yet there, under its digest; the path is relative to the app's data."""
        if path not in self._places:
            target = PurePosixPath("Documents", f"artifact-{content_sha256(path)}")
            if not self._control.copy_from(self._bundle, f"{target}-complete", "mark"):
                size = push_folder(self._control, path, f"{self._control.folder()}/artifact")
                source = f"{self._control.folder()}/artifact"
                self._control.copy_to(self._bundle, source, str(target), size=size)
                self._mark(f"{target}-complete")
            self._places[path] = target / path.name
        return self._places[path]

    def start_worker(self, timeout_hint: str) -> WorkerClient:
        """An app cannot be talked to. Raises :class:`StageError`."""
        self._refuse()

    def script(self, about: JobAbout, script: tuple[ScriptLine, ...]) -> PhoneScript:
        """A script that can be executed on the phone."""
        return PhoneScript(self._control, self._bundle, self._connection.id, about, script)

    def is_lost(self) -> bool:
        """Each call makes its own connection."""
        return False

    @property
    def _bundle(self) -> str:
        return self._installed.variables[BUNDLE]

    def _refuse(self) -> NoReturn:
        raise StageError(
            "open",
            f"{self._connection.id} takes scripts only, and this needs a conversation",
            hint="`latbench run`, `compare` and `sweep` work there",
            kind="unavailable",
        )

    def _mark(self, target: str) -> None:
        """Say that a folder was copied to its end: a cable may be cut in the middle."""
        source = f"{self._control.folder()}/complete"
        made = ("sh", "-c", 'mkdir -p "$1" && echo complete >"$1/mark"', "sh", source)
        self._control.shell.run(made, timeout_s=FACTS_TIMEOUT_S)
        self._control.copy_to(self._bundle, source, target, size=0)

    def _wait_until_free(self) -> None:
        until = time.monotonic() + FREE_WAIT_S
        while self._control.runs(APP):
            if time.monotonic() >= until:
                raise _unready(
                    f"latbench's app is open on {self._connection.id}: "
                    "another run measures there, or somebody has opened it",
                    "wait until it has finished, or close the app on the phone",
                )
            time.sleep(BUSY_POLL_S)

    def _facts(self) -> tuple[Machine, Conditions]:
        """Ask the app what the phone is. Raises :class:`StageError`."""
        lines = tuple(
            ScriptLine(role="conditions", timeout_s=FACTS_TIMEOUT_S, request=request)
            for request in (messages.DescribeMachine(), messages.ReadConditions())
        )
        about = JobAbout(
            id=f"facts-{time.time_ns():x}",
            what="facts of the phone",
            harness="",
            lock="",
            created_unix_ns=time.time_ns(),
            limit_s=FACTS_TIMEOUT_S,
            expected_s=1.0,
            protocol="",
            protocol_sha256="",
            artifact_sha256="",
        )
        script = self.script(about, lines)
        before = time.time_ns()
        script.run()
        told = [messages.decode_response(bytes(each.response)) for each in script.in_order()]
        machine = next((each for each in told if isinstance(each, messages.MachineTold)), None)
        now = next((each for each in told if isinstance(each, messages.ConditionsTold)), None)
        if machine is None or now is None:
            if script.failure is not None:
                raise StageError.of(msgspec.structs.replace(script.failure, stage="probe"))
            failed = next((each for each in told if isinstance(each, messages.Failed)), None)
            if failed is not None:
                raise StageError.of(failed.failure)
            raise StageError("probe", f"the app on {self._connection.id} does not tell its phone")
        self._asked_s = time.monotonic()
        self._clock_offset_ns = now.conditions.unix_ns - (before + time.time_ns()) // 2
        return self._completed(machine.machine), now.conditions

    def _completed(self, told: Machine) -> Machine:
        """What the app has told, and what only the Mac can tell."""
        phone = self.phone
        digest = hashlib.sha256(b"latbench\0" + phone.udid.encode()).hexdigest()
        return msgspec.structs.replace(
            told,
            os=told.os or phone.system,
            cpu_model=told.cpu_model or phone.described,
            identity=told.identity or digest[:32],
            emulated=told.emulated or self._connection.emulated or phone.reality != "physical",
        )


def check_phone(connection: Connection, phone: Phone) -> None:
    """Refuse a phone that cannot be measured on as it is. Raises :class:`StageError`."""
    name = connection.id
    if phone.pairing and phone.pairing != "paired":
        raise _unready(
            f"{name} is not paired with its Mac",
            "connect it by cable, unlock it and tap Trust",
        )
    if phone.connection == "unavailable":
        raise _unready(
            f"{name} cannot be reached by its Mac",
            "connect it by cable, or bring both into one network; is it switched on?",
        )
    if phone.developer_mode == "disabled":
        raise _unready(
            f"developer mode is off on {name}",
            "on the phone: Settings, Privacy & Security, Developer Mode; then restart it",
        )
    if (problem := other_hardware(connection, phone)) is not None:
        raise _unready(problem, f"latbench devices add {name} {connection.address} --same-as ROW")


def other_hardware(connection: Connection, phone: Phone) -> str | None:
    """Why the phone is not what the user says that it is, or ``None``: claims rest on it."""
    row = row_of(connection.same_as)
    known = row.product.value if row is not None and row.product is not None else None
    if row is None or known is None or not phone.product:
        return None
    products = known if isinstance(known, tuple) else (str(known),)
    if phone.product in products:
        return None
    return (
        f"{connection.id} is {phone.described}, not {row.id} ({', '.join(products)}) "
        "as --same-as says"
    )


def control_of(connection: Connection, shell: MacShell) -> DeviceControl:
    """The Mac's tool for the phone of a connection."""
    address = read_address(connection.address)
    assert isinstance(address, AppleAddress)
    words = {"phone": connection.id, "id": connection.id, "device": address.identifier}
    mac = "this machine" if address.mac == "local" else address.mac
    return DeviceControl(shell, mac, words)


def push_folder(control: DeviceControl, path: Path, folder: str) -> int:
    """Put a file or folder into a new folder on the Mac; the bytes of its files."""
    control.shell.run(("rm", "-rf", "--", folder), timeout_s=FACTS_TIMEOUT_S)
    parts = sorted(each for each in path.rglob("*") if each.is_file()) or [path]
    for part in parts:
        inside = PurePosixPath(path.name, *part.relative_to(path).parts)
        control.shell.push(part, f"{folder}/{inside}")
    return sum(part.stat().st_size for part in parts)


def _installed(connection: Connection) -> Installed:
    installed = connection.installed
    if installed is None or installed.worker != "apple":
        raise _unready(
            f"latbench's app is not installed on {connection.id}", INSTALL.format(connection.id)
        )
    if installed.latbench != sources_sha256():
        raise _unready(
            f"another state of latbench's app is installed on {connection.id} than here",
            INSTALL.format(connection.id),
        )
    return installed


def _unready(message: str, hint: str) -> StageError:
    return StageError("probe", message, hint=hint, kind="unavailable")
