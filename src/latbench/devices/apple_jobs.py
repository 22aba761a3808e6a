"""Scripts that were left on a phone because their harness ended: what `latbench collect` needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from latbench.devices.apple import BUNDLE, INSTALL, control_of
from latbench.devices.apple_control import DeviceControl
from latbench.devices.apple_scripts import fetch_answers
from latbench.devices.connections import Connection
from latbench.devices.opening import mac_of
from latbench.errors import StageError
from latbench.worker.apple import APP
from latbench.worker.job_folder import FoundJob, JobStatus, ScriptAnswer


class Closable(Protocol):
    """A connection."""

    def close(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True, kw_only=True)
class JobsOnPhone:
    """The scripts of one phone. All raise :class:`StageError`."""

    connection: Connection
    control: DeviceControl

    @property
    def transport(self) -> Closable:
        """What has to be closed in the end."""
        return self.control

    def listed(self) -> tuple[FoundJob, ...]:
        """Nothing: a phone does not list its files; only who has left a script can collect it."""
        return ()

    def find(self, id: str) -> FoundJob | None:
        """One script; ``None`` if it never started."""
        status, answers = self._fetched(id)
        if status is None:
            return None
        running = status.state == "running" and self.control.runs(APP)
        size = sum(len(bytes(each.response)) for each in answers.values())
        return FoundJob(id=id, about=None, status=status, running=running, answers_bytes=size)

    def answers(self, job: FoundJob) -> bytes:
        """What it has written."""
        _, answers = self._fetched(job.id)
        return b"".join(msgspec.json.encode(answers[n]) + b"\n" for n in sorted(answers))

    def cancel(self, id: str) -> FoundJob:
        """A phone goes on by itself to the end of the process that it times, and no further."""
        found = self.find(id)
        if found is None:
            raise StageError("probe", f"the job {id} did not start on {self.connection.id}")
        return found

    def remove(self, id: str) -> None:
        """Do nothing: what was copied to a phone goes with the app."""

    def _fetched(self, id: str) -> tuple[JobStatus | None, dict[int, ScriptAnswer]]:
        installed = self.connection.installed
        assert installed is not None
        return fetch_answers(self.control, installed.variables[BUNDLE], id)


def connect_to_phone(connection: Connection) -> JobsOnPhone:
    """Connect to a phone for its scripts. Raises :class:`StageError`."""
    if connection.installed is None:
        raise StageError(
            "probe",
            f"latbench's app is not installed on {connection.id}",
            hint=INSTALL.format(connection.id),
            kind="unavailable",
        )
    return JobsOnPhone(connection=connection, control=control_of(connection, mac_of(connection)))
