"""Leaving a run on a device: a short pilot run here, then a script that the device runs alone."""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from latbench.bench.context import RunContext
from latbench.bench.job import JobRun
from latbench.bench.left_jobs import LeftJob, forget_job, job_lock, keep_job, record_bytes
from latbench.bench.measure import PilotRun, measure_pilot
from latbench.bench.opening import opened
from latbench.bench.prepare import read_request, resolve_protocol
from latbench.bench.rehearsal import PilotTimes, Rehearsed, pilot_protocol, rehearse
from latbench.bench.required_units import RequiredUnits
from latbench.defaults import RUN_PROTOCOL, TIMEOUT_S
from latbench.devices.jobs import JobsOnDevice, able_to_run_alone
from latbench.devices.local import LocalDevice
from latbench.devices.measured import MeasuredDevice, ScriptedDevice
from latbench.devices.remote import RemoteDevice, user_name
from latbench.errors import StageError, UsageError
from latbench.events import SILENT, Events
from latbench.schema.protocol import TimingProtocol, protocol_sha256
from latbench.schema.record import Outcome, Record
from latbench.schema.request import Request
from latbench.schema.trace import Trace
from latbench.store.rescue import keep
from latbench.worker.job_folder import JobAbout

LIMIT_FACTOR = 3
LIMIT_MORE_S = 600.0
"""A job may take so many times as long as expected, and so much longer."""


@dataclass(frozen=True, kw_only=True)
class DetachResult:
    """A job that runs on a device, or the stored record of why there is none."""

    job: LeftJob | None
    record: Record
    """Without measurements if there is a job."""
    registry: str


def detach_request(
    request: Request | str,
    *,
    protocol: str | TimingProtocol = RUN_PROTOCOL,
    budget_s: float | None = None,
    target: float | None = None,
    strict: bool = False,
    no_cache: bool = False,
    timeout_s: float = TIMEOUT_S,
    limit_s: float | None = None,
    registry: str | None = None,
    events: Events = SILENT,
) -> DetachResult:
    """Leave the measurement of ``request`` on its device, which goes on without this machine.

    A pilot run finds out how long the model takes; a protocol that adapts itself to the samples
    becomes one of fixed numbers that fits the time budget. ``limit_s`` is the most seconds that the
    job may take, by default three times as many as expected and ten minutes. Other arguments are
    those of :func:`~latbench.bench.run.run_request`. A pilot run that fails is a stored record.

    Raises :class:`UsageError` for an invalid request and for a device that is this machine, and
    :class:`StageError` if the job does not start.
    """
    timing = resolve_protocol(protocol, timeout_s, budget_s=budget_s, target=target)
    asked = read_request(request, timing)
    with opened((asked,), registry, require=_check_can_be_left) as bench:
        context = RunContext(
            device=bench.device,
            registry=bench.registry,
            events=events,
            timeout_s=timeout_s,
            strict=strict,
            no_cache=no_cache,
        )
        pilot = measure_pilot(bench.requests[0], pilot_protocol(timing), context)
        if pilot.record.outcome.status != "measured" or pilot.model is None:
            keep((pilot.record,), bench.registry)
            return DetachResult(job=None, record=pilot.record, registry=bench.registry.url)
        device = bench.device
        assert isinstance(device, RemoteDevice)
        rehearsed = _rehearsed(pilot, pilot.model, timing, timeout_s)
        job = _job(pilot.record, rehearsed, device, limit_s)
        references = {"model": pilot.model.job.reference}
        if pilot.sentinel is not None:
            references["sentinel"] = pilot.sentinel.job.reference
        with job_lock(job.id):
            keep_job(job, references)
            _start(job, device)
        return DetachResult(job=job, record=job.empty_record(), registry=bench.registry.url)


def _check_can_be_left(device: MeasuredDevice) -> None:
    """Raises :class:`UsageError` for a device that cannot run a job alone."""
    if isinstance(device, LocalDevice):
        raise UsageError(
            "a run can be left only on a device at the end of a connection",
            hint="add one: latbench devices add; on this machine nohup does it",
        )
    if isinstance(device, ScriptedDevice):
        raise UsageError(
            f"a run cannot be left on {device.row.id}: its Mac launches each process",
            hint="leave out --detach, or run latbench on the Mac itself with nohup; if it is "
            "killed, latbench collect fetches what was measured until then",
        )
    if isinstance(device, RemoteDevice):
        able_to_run_alone(device.connection)


def _rehearsed(
    pilot: PilotRun, model: JobRun, protocol: TimingProtocol, timeout_s: float
) -> Rehearsed:
    environment = pilot.record.environment
    sentinel = pilot.sentinel
    parts = [run for run in (model, sentinel) if run is not None]
    after = environment.after or environment.before
    total_ns = after.unix_ns - environment.before.unix_ns
    known_ns = sum(_known_ns(trace) for run in parts for trace in run.traces)
    return rehearse(
        protocol,
        _times(model),
        None if sentinel is None else _times(sentinel),
        start_ns=max(0, total_ns - known_ns) // len(parts),
        timeout_s=timeout_s,
        order_seed=pilot.record.request.seed,
    )


def _times(run: JobRun) -> PilotTimes:
    (trace,) = run.traces
    return PilotTimes(
        # The pilot run has met what is required; a rehearsed worker reports no placement.
        job=replace(run.job, required=RequiredUnits()),
        first_ns=trace.first_ns or 0,
        load_ns=trace.load_ns,
        typical_ns=run.typical_ns,
        warmup_calls=len(trace.warmup_ns),
    )


def _known_ns(trace: Trace) -> int:
    """How long loading and inferences took."""
    blocks = sum(sum(block.sample_ns) for block in trace.blocks)
    return trace.load_ns + (trace.first_ns or 0) + sum(trace.warmup_ns) + blocks


def _job(
    pilot: Record, rehearsed: Rehearsed, device: RemoteDevice, limit_s: float | None
) -> LeftJob:
    protocol = rehearsed.protocol
    digest = protocol_sha256(protocol)
    empty = msgspec.structs.replace(
        pilot,
        protocol=protocol,
        protocol_sha256=digest,
        outcome=Outcome(status="interrupted"),
        environment=msgspec.structs.replace(pilot.environment, after=None, detached=True),
    )
    assert pilot.artifact is not None
    expected_s = rehearsed.expected_ns / 1e9
    return LeftJob(
        device=device.connection.id,
        about=JobAbout(
            id=pilot.id,
            what=f"{pilot.request.model} on {pilot.backend}",
            harness=f"{user_name()}@{platform.node()}",
            lock=device.lock,
            created_unix_ns=pilot.created_unix_ns,
            limit_s=limit_s or LIMIT_FACTOR * expected_s + LIMIT_MORE_S,
            expected_s=expected_s,
            protocol=protocol.label,
            protocol_sha256=digest,
            artifact_sha256=pilot.artifact.sha256,
        ),
        record=record_bytes(empty),
        script=rehearsed.script,
    )


def _start(job: LeftJob, device: RemoteDevice) -> None:
    """Start a job that is kept here. Raises :class:`StageError`."""
    on_device = JobsOnDevice(connection=device.connection, transport=device.release())
    try:
        on_device.start(job.about, job.script)
    except StageError as error:
        if error.kind in ("disconnected", "timeout"):
            raise StageError(
                "probe",
                f"{error.message} while the job {job.id} was being started; it may be running",
                hint=f"once {job.device} can be reached: latbench collect {job.id}",
                kind=error.kind,
            ) from error
        with suppress(StageError):
            on_device.remove(job.id)
        forget_job(job.id)
        raise
