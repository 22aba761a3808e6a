"""Collecting what was measured by runs that were left on devices: each becomes one record."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import msgspec

from latbench.bench.left_jobs import LeftJob, find_left_job, forget_job, job_lock
from latbench.bench.replay import MODELS, SENTINEL_WORKER, Ending, Expected, replay
from latbench.bench.required_units import required_units
from latbench.bench.sentinel import without_sentinel
from latbench.devices.addresses import AppleAddress, read_address
from latbench.devices.apple_jobs import JobsOnPhone, connect_to_phone
from latbench.devices.connections import Connection, find_connection, known_connection
from latbench.devices.jobs import JobsOnDevice, connect_to_jobs, may_have_jobs
from latbench.errors import Failure, StageError, UsageError
from latbench.events import Warn
from latbench.plugins import load_runner
from latbench.schema.record import Record
from latbench.store.registry import Registry
from latbench.store.rescue import keep
from latbench.worker.job_folder import FoundJob, read_answers

POLL_S = 3.0
OnDevice = JobsOnDevice | JobsOnPhone


@dataclass(frozen=True, kw_only=True)
class CollectResult:
    """What came of one job."""

    job: LeftJob
    state: Literal["collected", "running", "already collected"]
    records: tuple[Record, ...] = ()
    """The stored records, if they were collected now: two of a comparison."""

    @property
    def record(self) -> Record | None:
        """That of the model, or of the first one."""
        return self.records[0] if self.records else None


def collect_job(job: LeftJob, store: Registry, warn: Warn, *, wait: bool = False) -> CollectResult:
    """Fetch what a job has measured, store its record, and then delete the job on its device.

    With ``wait``, wait for its end, also while the device cannot be reached. A job that another
    program has collected meanwhile is left as it is. Raises :class:`StageError` if the device
    cannot be reached or does not have the job, and :class:`RegistryError`.
    """
    said = None
    while True:
        try:
            result = _collected(job, store, warn)
        except StageError as error:
            if not wait or error.kind not in ("unavailable", "disconnected", "timeout"):
                raise
            if error.message != said:
                warn(f"{error.message}; trying again")
            said = error.message
        else:
            if not wait or result.state != "running":
                return result
        time.sleep(POLL_S)


def _connected(connection: Connection) -> OnDevice:
    if isinstance(read_address(connection.address), AppleAddress):
        return connect_to_phone(connection)
    return connect_to_jobs(connection)


def _collected(job: LeftJob, store: Registry, warn: Warn) -> CollectResult:
    with job_lock(job.id):
        if find_left_job(job.id) is None:
            return CollectResult(job=job, state="already collected")
        on_device = _connected(known_connection(job.device))
        try:
            return _stored(job, on_device, store, warn)
        finally:
            on_device.transport.close()


def _stored(job: LeftJob, on_device: OnDevice, store: Registry, warn: Warn) -> CollectResult:
    found = on_device.find(job.id)
    if job.id in store.ids(job.id):
        # An earlier program ended between storing the record and deleting the job.
        records: tuple[Record, ...] = ()
    elif found is None:
        raise StageError(
            "probe",
            f"the job {job.id} is not on {job.device} any more",
            hint=f"somebody has deleted it there; forget it: latbench devices cancel {job.id}",
        )
    elif found.running:
        return CollectResult(job=job, state="running")
    else:
        records = _records(job, found, on_device.answers(found), warn)
        keep(records, store)
    with suppress(StageError):  # The next call deletes it: the record is stored.
        on_device.remove(job.id)
        forget_job(job.id)
    state: Literal["collected", "already collected"] = (
        "collected" if records else "already collected"
    )
    return CollectResult(job=job, state=state, records=records)


def _records(job: LeftJob, found: FoundJob, answers: bytes, warn: Warn) -> tuple[Record, ...]:
    empty = job.empty_records()
    expected = {
        name: Expected(
            reference=job.reference(name),
            tolerance=each.request.tolerance,
            required=required_units(each.request, load_runner(each.backend)),
        )
        for name, each in zip(MODELS, empty, strict=False)
    }
    told = replay(
        job.script,
        read_answers(answers),
        _ending(job, found),
        empty[0].protocol,
        {**expected, SENTINEL_WORKER: Expected(reference=job.reference(SENTINEL_WORKER))},
    )
    sentinel = empty[0].sentinel
    if told.sentinel_failure is not None:
        sentinel = without_sentinel(told.sentinel_failure, sentinel)
        warn(f"the sentinel failed and was left out: {told.sentinel_failure.message}")
    return tuple(
        msgspec.structs.replace(
            record,
            runtime=runtime or record.runtime,
            environment=msgspec.structs.replace(
                record.environment,
                before=told.before or record.environment.before,
                after=told.after,
            ),
            sentinel=sentinel,
            outcome=outcome,
        )
        for record, outcome, runtime in zip(empty, told.outcomes, told.runtimes, strict=True)
    )


def _ending(job: LeftJob, found: FoundJob) -> Ending:
    """Why answers are missing, if they are."""
    status, device = found.status, job.device
    message, hint = f"the job did not start on {device}", None
    if status is not None and status.failure is not None:
        return Ending(canceled=False, failure=status.failure)
    if status is not None and status.state == "running":
        message = f"the job ended without a word: {device} was switched off or restarted"
        hint = "or its program was killed, or the disk there is full"
    elif status is not None:
        message = f"the answers of the job on {device} are incomplete"
        hint = (
            "the program that launched its parts has ended" if status.state == "finished" else None
        )
    failure = Failure(stage="time", kind="disconnected", message=message, hint=hint)
    canceled = status is not None and status.state == "canceled"
    return Ending(canceled=canceled, failure=failure)


def find_on_devices(id: str, device: str | None, warn: Warn) -> tuple[OnDevice, FoundJob] | None:
    """A job by the start of its id, on the user's devices; the caller closes the connection.

    Raises :class:`UsageError` if several jobs begin so.
    """
    for name in (device,) if device else [each.id for each in may_have_jobs()]:
        try:
            on_device = _connected(known_connection(name))
        except StageError as error:
            warn(error.message)
            continue
        kept = False
        try:
            found = [job for job in on_device.listed() if job.id.startswith(id.lower())]
            if len(found) > 1:
                raise UsageError(f"several jobs on {name} begin with {id!r}")
            if found:
                kept = True
                return on_device, found[0]
        except StageError as error:
            warn(error.message)
        finally:
            if not kept:
                on_device.transport.close()
    return None


def cancel_job(id: str, device: str | None, warn: Warn, *, discard: bool = False) -> str:
    """End a job and say what became of it, in words.

    What it has measured can be collected, unless ``discard`` deletes it. Raises
    :class:`UsageError` if there is no such job, and :class:`StageError`.
    """
    left = find_left_job(id)
    if left is None:
        there = find_on_devices(id, device, warn)
        if there is None:
            raise UsageError(f"no job {id!r} was found", hint="latbench devices jobs lists them")
        on_device, found = there
    else:
        if find_connection(left.device) is None:
            forget_job(left.id)
            return f"forgot the job {left.id}: {left.device} is not one of your devices any more"
        on_device = _connected(known_connection(left.device))
    try:
        known = found if left is None else on_device.find(left.id)
        if known is None:
            assert left is not None
            forget_job(left.id)
            return f"forgot the job {left.id}: it is not on {left.device} any more"
        return _canceled(on_device, known, discard=discard)
    finally:
        on_device.transport.close()


def _canceled(on_device: OnDevice, found: FoundJob, *, discard: bool) -> str:
    ended = on_device.cancel(found.id)
    if discard:
        on_device.remove(found.id)
        forget_job(found.id)
        return f"discarded the job {found.id} and what it has measured"
    if not found.running:
        return f"the job {found.id} had ended before: {ended.state}"
    return f"canceled the job {found.id}"


def foreign_job(found: FoundJob, device: str) -> UsageError:
    """The error for a job that another machine has left."""
    whose = found.about.harness if found.about else "another latbench"
    return UsageError(
        f"the job {found.id} on {device} was left by {whose}, which alone can collect it",
        hint="it has the outputs to compare with; latbench devices cancel ends the job",
    )
