"""A measurement on a device that takes scripts only, such as a phone behind a Mac.

Two short pilot runs say how long the model takes and when it is warm. The protocol is then
rehearsed into a script of fixed numbers, as for a run that is left on a device alone.
"""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from statistics import median

import msgspec

from latbench.bench.context import RunContext
from latbench.bench.job import Job, JobRun
from latbench.bench.left_jobs import LeftJob, forget_job, job_lock, keep_job, record_bytes
from latbench.bench.prepare import PreparedJob, ResolvedRequest, find_fallback, prepare_job
from latbench.bench.record_factory import PACKAGES, Measurement, make_record
from latbench.bench.rehearsal import A_LOOK, PilotTimes, Rehearsed, fixed_protocol, rehearse
from latbench.bench.replay import Checked, Ending, Replayed, replay
from latbench.bench.required_units import RequiredUnits
from latbench.bench.rest import check_rest, rest
from latbench.devices.measured import ScriptedDevice, ScriptUnderWay
from latbench.devices.remote import user_name
from latbench.errors import Failure, LatbenchError, Stage, StageError, UsageError, failure_of
from latbench.schema.environment import Rest
from latbench.schema.protocol import TimingProtocol, calls_that_fit, protocol_sha256
from latbench.schema.record import Outcome, Record, Runtime, Sentinel
from latbench.schema.trace import Placement, Trace
from latbench.store.rescue import keep
from latbench.worker import messages
from latbench.worker.client import A
from latbench.worker.job_folder import JobAbout

PILOT_WARM_NS = 3_000_000_000
"""The second pilot run warms up for no longer: bursts of a phone take half a second."""
LIMIT_FACTOR, LIMIT_MORE_S = 3, 120.0
"""A script may take so many times as long as expected, and so much longer."""
NO_PLACEMENT = Placement(units={}, known="unknown")
NOTHING_BESIDE = Sentinel(
    name=None, sha256=None, absent="an app is one process: nothing can be timed beside the model"
)


def measure_scripted(
    resolved: ResolvedRequest, protocol: TimingProtocol, context: RunContext
) -> Record:
    """Time one request on a :class:`ScriptedDevice`, store its record and return it.

    As :func:`~latbench.bench.measure.measure_request`, without a fallback.
    """
    measurement = _ScriptedMeasurement(resolved, protocol, context)
    try:
        measurement.run()
        keep((measurement.record,), context.registry)
    finally:
        # Only a harness that is killed leaves a job for `latbench collect`.
        measurement.forget()
    return measurement.record


class _ScriptedMeasurement:
    """A measurement under way. Whatever ends it, its record holds what was fetched until then."""

    def __init__(
        self, resolved: ResolvedRequest, protocol: TimingProtocol, context: RunContext
    ) -> None:
        assert isinstance(context.device, ScriptedDevice)
        self._device: ScriptedDevice = context.device
        self._resolved = resolved
        self._asked = protocol
        self._context = replace(context, strict=True)
        self._created_unix_ns = time.time_ns()
        self._software = context.device.software(PACKAGES)
        self._before = context.device.conditions()
        self._after = self._before
        self._protocol = protocol
        self._outcome = Outcome(status="interrupted")
        self._runtime: Runtime | None = None
        self._prepared: PreparedJob | None = None
        self._rest: Rest | None = None
        self._left: str | None = None
        self._sentinel = None if protocol.sentinel_ns is None else NOTHING_BESIDE
        self.record = self._record()

    def run(self) -> None:
        """Prepare the job and time it. Raises :class:`UsageError`."""
        try:
            self._time()
        except LatbenchError as error:
            if self._context.sweep is None and isinstance(error, UsageError):
                raise
            stage: Stage = "open" if self._prepared else "export"
            self._outcome = Outcome(status="failed", failure=failure_of(error, stage))
        except KeyboardInterrupt:
            self._outcome = msgspec.structs.replace(
                self._outcome, status="interrupted", stopped=None, failure=None
            )
        self.record = self._record()
        if self._context.profile and self._outcome.status == "measured":
            self._context.events.warn("no times by operator: a script does not ask for them")

    def forget(self) -> None:
        """Leave nothing to collect."""
        if self._left is not None:
            forget_job(self._left)

    def _time(self) -> None:
        find_fallback(self._resolved, self._context)
        self._prepared = prepare_job(self._resolved, None, self._asked, self._context)
        # Requirements are checked where answers are replayed; rehearsed workers have no placement.
        job = replace(self._prepared.job, required=RequiredUnits())
        self._events_say("a first look at the model")
        looked, took_ns = self._pilot(A_LOOK, _guess(job))
        if looked is None:
            return
        times = _times(job, looked, warm_after(job, self._asked, looked.trace))
        if self._asked.warmup != "fixed":
            room = min(self._asked.warmup_limit_ns, PILOT_WARM_NS)
            calls = calls_that_fit(10**6, times.typical_ns, room)
            self._events_say("a pilot run finds out when the model is warm")
            looked, took_ns = self._pilot(max(calls, A_LOOK), times)
            if looked is None:
                return
            times = _times(job, looked, warm_after(job, self._asked, looked.trace))
        if self._context.cooldown is not None:
            self._rest = rest(self._context.device, self._context.cooldown, self._context.events)
            check_rest(self._rest)
        start_ns = max(0, took_ns - looked.known_ns)
        self._final(rehearse_for_phone(self._asked, times, start_ns, self._context, self._seed))

    @property
    def _seed(self) -> int:
        return self._resolved.request.seed

    def _pilot(self, warmup_calls: int, times: PilotTimes) -> tuple[_Looked | None, int]:
        """One process of fixed numbers, and the nanoseconds it took; ``None`` if it failed."""
        protocol = fixed_protocol(self._asked, warmup_calls)
        times = replace(times, warmup_calls=warmup_calls)
        rehearsed = rehearse_for_phone(protocol, times, 0, self._context, self._seed)
        self._protocol = protocol
        begun = time.perf_counter_ns()
        told = self._executed(rehearsed, left=False)
        took_ns = time.perf_counter_ns() - begun
        if told.outcome.status != "measured":
            return None, took_ns
        return _Looked(told.outcome.traces[0]), took_ns

    def _final(self, rehearsed: Rehearsed) -> None:
        self._protocol = rehearsed.protocol
        self._executed(rehearsed, left=True)

    def _executed(self, rehearsed: Rehearsed, *, left: bool) -> Replayed:
        """Execute a script; what was fetched becomes the outcome, whatever ends the execution.

        If it is ``left``, `latbench collect` makes the record should this harness be killed.
        """
        assert self._prepared is not None
        job = self._prepared.job
        expected_s = rehearsed.expected_ns / 1e9
        self._outcome = Outcome(status="interrupted")
        empty = self._record()
        about = JobAbout(
            id=empty.id if left else f"{empty.id}-pilot-{time.time_ns():x}",
            what=f"{self._resolved.request.model} on {job.backend}",
            harness=f"{user_name()}@{platform.node()}",
            lock="",
            created_unix_ns=self._created_unix_ns,
            limit_s=LIMIT_FACTOR * expected_s + LIMIT_MORE_S + self._context.timeout_s,
            expected_s=expected_s,
            protocol=rehearsed.protocol.label,
            protocol_sha256=protocol_sha256(rehearsed.protocol),
            artifact_sha256=job.artifact.sha256,
        )
        script = self._device.script(about, rehearsed.script)
        canceled = False
        try:
            if left:
                self._run_as_job(script, about, rehearsed, empty)
            else:
                script.run()
        except KeyboardInterrupt:
            canceled = True
            raise
        finally:
            told = self._replayed(script, rehearsed, canceled)
            self._outcome = told.outcome
            self._runtime = told.runtime or self._runtime
            self._before = told.before or self._before
            self._after = told.after or self._after
        return told

    def _run_as_job(
        self, script: ScriptUnderWay, about: JobAbout, rehearsed: Rehearsed, empty: Record
    ) -> None:
        assert self._prepared is not None
        job = LeftJob(
            device=self._context.device.row.id,
            about=about,
            record=record_bytes(empty),
            script=rehearsed.script,
        )
        self._left = about.id
        with job_lock(about.id):
            keep_job(job, {"model": self._prepared.job.reference})
            script.run(self._context.events.progress)
            forget_job(about.id)

    def _replayed(self, script: ScriptUnderWay, rehearsed: Rehearsed, canceled: bool) -> Replayed:
        assert self._prepared is not None
        job = self._prepared.job
        missing = Failure(
            stage="time", kind="crash", message="the answers of the device are incomplete"
        )
        return replay(
            rehearsed.script,
            script.answers,
            Ending(canceled=canceled, failure=script.failure or missing),
            Checked(
                protocol=rehearsed.protocol,
                references={"model": job.reference},
                tolerance=job.tolerance,
                required=job.required,
            ),
        )

    def _events_say(self, what: str) -> None:
        self._context.events.waiting(f"{self._context.device.row.id}: {what}")

    def _record(self) -> Record:
        prepared, context = self._prepared, self._context
        made = make_record(
            self._resolved,
            Measurement(
                created_unix_ns=self._created_unix_ns,
                machine=context.device.machine,
                link=context.device.link,
                software=self._software,
                before=self._before,
                after=self._after,
                rest=self._rest,
                protocol=self._protocol,
                outcome=self._outcome,
                artifact=prepared.cached.artifact if prepared else None,
                runtime=self._runtime,
                sentinel=self._sentinel,
                sweep=context.sweep,
            ),
        )
        # One measurement has one id, which is the job's too.
        return made if self._left is None else msgspec.structs.replace(made, id=self._left)


class _Looked:
    """What a pilot run has found out."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        samples = [ns for block in trace.blocks for ns in block.sample_ns[block.settle_calls :]]
        self.typical_ns = max(1, round(median(samples)))
        blocks = sum(sum(block.sample_ns) for block in trace.blocks)
        self.known_ns = trace.load_ns + (trace.first_ns or 0) + sum(trace.warmup_ns) + blocks


def _guess(job: Job) -> PilotTimes:
    """Times of a model that nobody has seen yet; only the script's expected duration needs them."""
    return PilotTimes(
        job=job, first_ns=10**9, load_ns=5 * 10**9, typical_ns=10**8, warmup_calls=A_LOOK
    )


def _times(job: Job, looked: _Looked, warmup_calls: int) -> PilotTimes:
    return PilotTimes(
        job=job,
        first_ns=looked.trace.first_ns or 0,
        load_ns=looked.trace.load_ns,
        typical_ns=looked.typical_ns,
        warmup_calls=warmup_calls,
    )


def rehearse_for_phone(
    protocol: TimingProtocol, times: PilotTimes, start_ns: int, context: RunContext, seed: int
) -> Rehearsed:
    """The script of ``protocol`` without a sentinel. Raises :class:`StageError`."""
    return rehearse(
        protocol,
        times,
        None,
        start_ns=start_ns,
        timeout_s=context.timeout_s,
        order_seed=seed,
    )


def warm_after(job: Job, protocol: TimingProtocol, pilot: Trace) -> int:
    """The warm-up calls after which ``protocol`` finds the samples of a pilot run warm.

    The analysis of a live run is fed with them. Where they do not suffice, the typical latency
    follows, as if the model were warm by then.
    """
    samples = _Recorded((pilot.first_ns or 0, *pilot.warmup_ns))
    run = JobRun(job, protocol, 1.0, clock=lambda: samples.at_ns)
    run.start(samples)
    run.open(0, 0, 0)
    run.warm_up(None)
    return len(run.traces[0].warmup_ns)


class _Recorded:
    """A worker whose calls take as long as those of a pilot run did, one after the other."""

    def __init__(self, sample_ns: tuple[int, ...]) -> None:
        self._sample_ns = sample_ns
        self._typical_ns = round(median(sample_ns[-20:]))
        self._done = 0
        self.at_ns = 0

    def ask(
        self, request: messages.RequestMessage, expect: type[A], *, stage: Stage, timeout_s: float
    ) -> A:
        response: messages.Message
        match request:
            case messages.Open():
                response = messages.SessionOpened(
                    load_ns=0, version=None, settings={}, placement=NO_PLACEMENT
                )
            case messages.Time():
                timed = tuple(self._next() for _ in range(request.calls))
                self.at_ns += sum(timed)
                response = messages.BlockTimed(start_ns=0, sample_ns=timed)
            case _:
                raise StageError(stage, f"unexpected {type(request).__name__}")
        assert isinstance(response, expect)
        return response

    def pause(self) -> None:
        """Do nothing: it does not run."""

    def _next(self) -> int:
        number, self._done = self._done, self._done + 1
        return self._sample_ns[number] if number < len(self._sample_ns) else self._typical_ns
