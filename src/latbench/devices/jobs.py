"""Jobs on a device: runs that were left there alone."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from latbench.devices.addresses import LocalAddress, read_address
from latbench.devices.connections import Connection, Installed, load_connections
from latbench.devices.opening import connect
from latbench.devices.remote import NOT_INSTALLED, worker_command
from latbench.devices.transport import Completed, Transport
from latbench.errors import StageError, listed
from latbench.worker import job_folder as files
from latbench.worker.process import NO_TELEMETRY
from latbench.worker.script import CANCEL_WAIT_S, MODULE, START_WAIT_S

ABLE = ("python", "native")
"""The workers that have a program which runs scripts."""
NOT_KNOWN = (b"No module named", b"not found", b"No such file")
"""What is said where the program is missing: a worker that was installed before, or deleted."""
VERB_TIMEOUT_S = 30.0
T = TypeVar("T", files.JobStatus, files.FoundJob)
SLOW_BYTES_PER_S = 500_000
"""A slow link carries half a megabyte a second."""


@dataclass(frozen=True, kw_only=True)
class JobsOnDevice:
    """The jobs of one device, at the end of an open connection. All raise :class:`StageError`."""

    connection: Connection
    transport: Transport

    def start(self, about: files.JobAbout, script: Sequence[files.ScriptLine]) -> files.JobStatus:
        """Put a job there and start it. The lock of the device must be free."""
        folder = self._folder(about.id)
        with tempfile.TemporaryDirectory(prefix="latbench-job-") as temporary:
            for name, content in (
                (files.SCRIPT, files.write_script(tuple(script))),
                (files.JOB, msgspec.json.encode(about)),
            ):
                source = Path(temporary, name)
                source.write_bytes(content)
                self.transport.push(source, f"{folder}/{name}")
        done = self._done("start", folder, START_WAIT_S + VERB_TIMEOUT_S)
        status = self._read(done.stdout, files.JobStatus)
        if status.state == "failed" and status.failure is not None:
            raise StageError.of(status.failure)
        return status

    def listed(self) -> tuple[files.FoundJob, ...]:
        """All jobs there, the oldest first."""
        done = self._done("list", self._jobs, VERB_TIMEOUT_S)
        return tuple(self._read(line, files.FoundJob) for line in done.stdout.splitlines())

    def find(self, id: str) -> files.FoundJob | None:
        """One job; ``None`` if it is not there."""
        return next((job for job in self.listed() if job.id == id), None)

    def answers(self, job: files.FoundJob) -> bytes:
        """What it has written."""
        timeout_s = VERB_TIMEOUT_S + job.answers_bytes / SLOW_BYTES_PER_S
        path = f"{self._folder(job.id)}/{files.ANSWERS}"
        done = self.transport.run(("cat", "--", path), timeout_s=timeout_s)
        if done.status != 0 and job.answers_bytes:
            raise StageError("probe", f"cannot read {path} on {self.connection.id}: {done.said}")
        return done.stdout

    def cancel(self, id: str) -> files.FoundJob:
        """End a job and wait until nothing of it runs."""
        timeout_s = VERB_TIMEOUT_S + 2 * CANCEL_WAIT_S
        done = self._done("cancel", self._folder(id), timeout_s)
        return self._read(done.stdout, files.FoundJob)

    def remove(self, id: str) -> None:
        """Delete a job that has ended. Does nothing if it is not there."""
        folder = self._folder(id)
        done = self.transport.run(("rm", "-rf", "--", folder), timeout_s=VERB_TIMEOUT_S)
        if done.status != 0:
            raise StageError("probe", f"cannot delete {folder} there: {done.said}")

    @property
    def _jobs(self) -> str:
        return str(PurePosixPath(able_to_run_alone(self.connection).folder, "jobs"))

    def _folder(self, id: str) -> str:
        return f"{self._jobs}/{id}"

    def _read(self, line: bytes, type: type[T]) -> T:
        """The value in a line that the program has printed."""
        try:
            return msgspec.json.decode(line, type=type)
        except msgspec.DecodeError as error:
            # An older native worker knows no verbs, and says hello.
            raise StageError(
                "probe",
                f"the worker on {self.connection.id} has no jobs that this latbench can read",
                hint=f"install it again: {NOT_INSTALLED.format(self.connection.id)}",
            ) from error

    def _done(self, verb: str, folder: str, timeout_s: float) -> Completed:
        """The result of a verb of the program on the device."""
        command, own = script_command(able_to_run_alone(self.connection))
        variables = [f"{name}={value}" for name, value in {**NO_TELEMETRY, **own}.items()]
        line = ("env", *variables, *command, verb, folder)
        done = self.transport.run(line, timeout_s=timeout_s)
        if done.status != 0:
            missing = any(each in done.stderr for each in NOT_KNOWN)
            name = self.connection.id
            raise StageError(
                "probe",
                f"{name} cannot {verb} jobs: {done.said}",
                hint=f"install the worker again: {NOT_INSTALLED.format(name)}" if missing else None,
            )
        return done


def able_to_run_alone(connection: Connection) -> Installed:
    """What is installed on a device that jobs can be left on. Raises :class:`StageError`."""
    name, installed = connection.id, connection.installed
    if _is_here(connection):
        raise StageError(
            "probe",
            f"no jobs can be left on {name}, which is this machine",
            hint="nohup latbench run does the same here",
            kind="unavailable",
        )
    if installed is None or installed.worker not in ABLE:
        raise StageError(
            "probe",
            f"no worker that can run alone is installed on {name}",
            hint=f"{NOT_INSTALLED.format(name)}; the workers that can: {listed(ABLE)}",
            kind="unavailable",
        )
    return installed


def script_command(installed: Installed) -> tuple[Sequence[str], Mapping[str, str]]:
    """The command line of the program that runs scripts, without its verb, and its variables."""
    command, variables = worker_command(installed, MODULE)
    return (*command, "script") if installed.worker == "native" else command, variables


def may_have_jobs() -> tuple[Connection, ...]:
    """The user's devices that jobs can be left on."""
    return tuple(
        each
        for each in load_connections()
        if each.installed and each.installed.worker in ABLE and not _is_here(each)
    )


def _is_here(connection: Connection) -> bool:
    return isinstance(read_address(connection.address), LocalAddress)


def connect_to_jobs(connection: Connection) -> JobsOnDevice:
    """Connect to a device for its jobs, whoever measures there. Raises :class:`StageError`."""
    able_to_run_alone(connection)
    return JobsOnDevice(connection=connection, transport=connect(connection))
