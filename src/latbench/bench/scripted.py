"""A measurement on a device that takes scripts only, such as a phone behind a Mac.

Two short pilot runs say how long the model takes and when it is warm. The protocol is then
rehearsed into a script of fixed numbers, as for a run that is left on a device alone.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import msgspec

from latbench.analysis.steady_state import fast_start
from latbench.bench.context import RunContext
from latbench.bench.job import Job, JobRun
from latbench.bench.left_jobs import LeftJob, forget_job, job_lock, keep_job, record_bytes
from latbench.bench.operator_profile import CALLS, with_operators
from latbench.bench.prepare import PreparedJob, ResolvedRequest, find_fallback, prepare_job
from latbench.bench.record_factory import PACKAGES, Measurement, make_record, new_comparison_id
from latbench.bench.rehearsal import A_LOOK, PilotTimes, Rehearsed, fixed_protocol, rehearse
from latbench.bench.replay import MODELS, SENTINEL_WORKER, Answered, Ending, Expected, replay
from latbench.bench.required_units import RequiredUnits
from latbench.bench.rest import check_rest, rest
from latbench.bench.sentinel import NO_SENTINEL, sentinel_for, without_sentinel
from latbench.devices.measured import MeasuredDevice, ScriptedDevice, ScriptUnderWay
from latbench.devices.remote import user_name
from latbench.devices.unreachable import unread_conditions
from latbench.errors import Failure, LatbenchError, Stage, StageError, UsageError, failure_of
from latbench.schema.environment import Conditions, Rest
from latbench.schema.protocol import TimingProtocol, calls_that_fit, protocol_sha256
from latbench.schema.record import Interleaved, Outcome, Record, Runtime
from latbench.schema.trace import Placement, Trace
from latbench.store.rescue import keep
from latbench.worker import messages
from latbench.worker.client import A
from latbench.worker.job_folder import JobAbout, Role, ScriptLine, WorkerName

PILOT_WARM_NS = 3_000_000_000
"""The second pilot run warms up for no longer: bursts of a phone take half a second."""
BEYOND = 1.1
"""The warm-up of a script is so many times longer than the fast start that it leaves out."""
SLOWEST_WARM = 4
"""In a comparison the slower model may warm up for so many times that."""
LIMIT_FACTOR, LIMIT_MORE_S = 3, 120.0
"""A script may take so many times as long as expected, and so much longer."""
NO_PLACEMENT = Placement(units={}, known="unknown")


def measure_scripted(
    parts: Sequence[ResolvedRequest],
    protocol: TimingProtocol,
    context: RunContext,
    *,
    order_seed: int,
) -> tuple[Record, ...]:
    """Time one request, or two alternately, on a :class:`ScriptedDevice`; return the records.

    As :func:`~latbench.bench.measure.measure_request` and
    :func:`~latbench.bench.measure.measure_parts`, without a fallback.
    """
    measurement = _ScriptedMeasurement(parts, protocol, context, order_seed)
    try:
        measurement.run()
        records = measurement.records()
        keep(records, context.registry)
    finally:
        # Only a harness that is killed leaves a job for `latbench collect`.
        measurement.forget()
    return records


@dataclass(kw_only=True)
class _Part:
    """One of the models, as far as it has come."""

    name: WorkerName
    resolved: ResolvedRequest
    prepared: PreparedJob | None = None
    outcome: Outcome = field(default_factory=lambda: Outcome(status="interrupted"))
    runtime: Runtime | None = None

    @property
    def job(self) -> Job:
        """As it is rehearsed: requirements are checked where answers are replayed."""
        assert self.prepared is not None
        return replace(self.prepared.job, required=RequiredUnits())

    @property
    def expected(self) -> Expected:
        """What its answers are checked against."""
        assert self.prepared is not None
        job = self.prepared.job
        return Expected(reference=job.reference, tolerance=job.tolerance, required=job.required)


class _ScriptedMeasurement:
    """A measurement under way. Whatever ends it, its records hold what was fetched until then."""

    def __init__(
        self,
        parts: Sequence[ResolvedRequest],
        protocol: TimingProtocol,
        context: RunContext,
        order_seed: int,
    ) -> None:
        assert isinstance(context.device, ScriptedDevice)
        self._device: ScriptedDevice = context.device
        self._parts = [
            _Part(name=name, resolved=each) for name, each in zip(MODELS, parts, strict=False)
        ]
        self._asked = protocol
        self._context = replace(context, strict=True)
        self._order_seed = order_seed
        self._created_unix_ns = time.time_ns()
        self._software = context.device.software(PACKAGES)
        self._before = self._after = _conditions_of(context.device)
        self._protocol = protocol
        self._rest: Rest | None = None
        self._left: str | None = None
        self._comparison = new_comparison_id() if len(parts) > 1 else None
        alone = len(parts) == 1 or protocol.sentinel_ns is None
        self._sentinel = None if alone else NO_SENTINEL
        self._sentinel_job: Job | None = None

    def run(self) -> None:
        """Prepare the jobs and time them. Raises :class:`UsageError`."""
        try:
            self._time()
        except LatbenchError as error:
            if self._context.sweep is None and isinstance(error, UsageError):
                raise
            self._failed(error)
        except KeyboardInterrupt:
            for part in self._parts:
                part.outcome = msgspec.structs.replace(
                    part.outcome, status="interrupted", stopped=None, failure=None
                )

    def records(self) -> tuple[Record, ...]:
        """One record for each model; all have the same environment."""
        return tuple(self._record(number, part) for number, part in enumerate(self._parts))

    def forget(self) -> None:
        """Leave nothing to collect."""
        if self._left is not None:
            forget_job(self._left)

    def _time(self) -> None:
        for part in self._parts:
            find_fallback(part.resolved, self._context)
            part.prepared = prepare_job(part.resolved, None, self._asked, self._context)
        if (first := self._parts[0].prepared) is not None and len(self._parts) == 1:
            warn = self._context.events.warn
            self._sentinel_job, self._sentinel = sentinel_for(
                first, self._asked, self._context.device, warn
            )
        self._say("a first look at the model" + "s" * (len(self._parts) > 1))
        guesses = {part.name: _guess(part.job) for part in self._parts}
        if self._sentinel_job is not None:
            guesses[SENTINEL_WORKER] = _guess(self._sentinel_job)
        looked = self._pilot(A_LOOK, guesses)
        if looked is None:
            return
        times = self._times(looked)
        if self._asked.warmup != "fixed":
            self._say("a pilot run finds out when it is warm")
            # The sentinel warms up for a fixed time.
            models = {name: each for name, each in times.items() if name != SENTINEL_WORKER}
            again = self._pilot(self._warmup_calls(models), models)
            if again is None:
                return
            looked, times = again, {**times, **self._times(again)}
        if self._context.cooldown is not None:
            self._rest = rest(self._context.device, self._context.cooldown, self._context.events)
            check_rest(self._rest)
        rehearsed = self._rehearsed(self._asked, times, looked.start_ns // len(times))
        self._protocol = rehearsed.protocol
        self._executed(rehearsed, left=True)
        if self._context.profile and self._parts[0].outcome.status == "measured":
            self._profile(self._parts[0])

    def _warmup_calls(self, times: Mapping[WorkerName, PilotTimes]) -> int:
        """So many that the quickest model works for :data:`PILOT_WARM_NS`."""
        room = min(self._asked.warmup_limit_ns, PILOT_WARM_NS)
        typical = [each.typical_ns for each in times.values()]
        calls = calls_that_fit(10**6, min(typical), room)
        return max(A_LOOK, min(calls, calls_that_fit(10**6, max(typical), SLOWEST_WARM * room)))

    def _pilot(self, warmup_calls: int, times: Mapping[WorkerName, PilotTimes]) -> _Looked | None:
        """One process of fixed numbers; ``None`` if a model failed."""
        protocol = fixed_protocol(self._asked, warmup_calls)
        planned = {name: replace(each, warmup_calls=warmup_calls) for name, each in times.items()}
        self._protocol = protocol
        begun = time.perf_counter_ns()
        self._executed(self._rehearsed(protocol, planned, 0), left=False)
        took_ns = time.perf_counter_ns() - begun
        outcomes = [part.outcome for part in self._parts]
        if any(outcome.status != "measured" for outcome in outcomes):
            return None
        traces = {p.name: p.outcome.traces[0] for p in self._parts}
        if self._sentinel_job is not None and outcomes[0].sentinel:
            traces[SENTINEL_WORKER] = outcomes[0].sentinel[0]
        known_ns = sum(map(_known_ns, traces.values()))
        return _Looked(traces=traces, start_ns=max(0, took_ns - known_ns))

    def _times(self, looked: _Looked) -> dict[WorkerName, PilotTimes]:
        """What a pilot run says about each worker that it had."""
        jobs = {part.name: part.job for part in self._parts}
        if self._sentinel_job is not None:
            jobs[SENTINEL_WORKER] = self._sentinel_job
        return {
            name: PilotTimes(
                job=jobs[name],
                first_ns=trace.first_ns or 0,
                load_ns=trace.load_ns,
                typical_ns=_typical_ns(trace),
                warmup_calls=0
                if name == SENTINEL_WORKER
                else warm_after(jobs[name], self._asked, trace),
            )
            for name, trace in looked.traces.items()
        }

    def _rehearsed(
        self, protocol: TimingProtocol, times: Mapping[WorkerName, PilotTimes], start_ns: int
    ) -> Rehearsed:
        """The script of ``protocol``. Raises :class:`StageError`."""
        return rehearse(
            protocol,
            times["model"],
            times.get(SENTINEL_WORKER),
            second=times.get("second"),
            start_ns=start_ns,
            timeout_s=self._context.timeout_s,
            order_seed=self._order_seed,
        )

    def _executed(self, rehearsed: Rehearsed, *, left: bool) -> None:
        """Execute a script; what was fetched becomes the outcome, whatever ends the execution.

        If it is ``left``, `latbench collect` makes the record should this harness be killed.
        """
        for part in self._parts:
            part.outcome = Outcome(status="interrupted")
        empty = self.records()
        id = empty[0].id if left else f"{empty[0].id}-pilot-{time.time_ns():x}"
        about = self._about(id, rehearsed.protocol, rehearsed.expected_ns / 1e9)
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
            self._take(script, rehearsed, canceled)

    def _about(self, id: str, protocol: TimingProtocol, expected_s: float) -> JobAbout:
        jobs = [part.job for part in self._parts]
        names = " and ".join(part.resolved.request.model for part in self._parts)
        return JobAbout(
            id=id,
            what=f"{names} on {jobs[0].backend}",
            harness=f"{user_name()}@{platform.node()}",
            lock="",
            created_unix_ns=self._created_unix_ns,
            limit_s=LIMIT_FACTOR * expected_s + LIMIT_MORE_S + self._context.timeout_s,
            expected_s=expected_s,
            protocol=protocol.label,
            protocol_sha256=protocol_sha256(protocol),
            artifact_sha256=jobs[0].artifact.sha256,
        )

    def _run_as_job(
        self,
        script: ScriptUnderWay,
        about: JobAbout,
        rehearsed: Rehearsed,
        empty: Sequence[Record],
    ) -> None:
        job = LeftJob(
            device=self._context.device.row.id,
            about=about,
            record=record_bytes(empty[0]),
            others=tuple(map(record_bytes, empty[1:])),
            script=rehearsed.script,
        )
        self._left = about.id
        with job_lock(about.id):
            keep_job(job, {name: each.reference for name, each in self._expected().items()})
            script.run(self._context.events.progress)
            forget_job(about.id)

    def _profile(self, part: _Part) -> None:
        """Add what is known of the operators; nothing measured is lost without."""
        assert part.prepared is not None
        asked: tuple[tuple[Role, messages.InferenceRequest], ...] = (
            ("open", part.job.request(process=0)),
            ("operators", messages.TimeOperators(calls=CALLS)),
            ("close", messages.Close()),
        )
        limit_s, warn = self._context.timeout_s, self._context.events.warn
        lines = tuple(
            ScriptLine(worker=part.name, role=role, timeout_s=limit_s, request=request)
            for role, request in asked
        )
        about = self._about(f"{self._left}-operators", self._protocol, 1.0)
        script = self._device.script(about, lines)
        try:
            script.run()
            answered = Answered(lines, script.answers)
            answered.number = 1
            found = answered.ask(asked[1][1], messages.OperatorsTimed, stage="time", timeout_s=0)
        except LatbenchError as error:
            warn(f"no times by operator: {(script.failure or error).message}")
        except KeyboardInterrupt:
            warn("no times by operator: interrupted")
        else:
            name = part.prepared.runner.name
            part.outcome = with_operators(part.outcome, found, name, warn)

    def _expected(self) -> dict[WorkerName, Expected]:
        found = {part.name: part.expected for part in self._parts}
        if self._sentinel_job is not None:
            found[SENTINEL_WORKER] = Expected(reference=self._sentinel_job.reference)
        return found

    def _take(self, script: ScriptUnderWay, rehearsed: Rehearsed, canceled: bool) -> None:
        """Let the parts have what was fetched."""
        missing = Failure(
            stage="time", kind="crash", message="the answers of the device are incomplete"
        )
        told = replay(
            rehearsed.script,
            script.answers,
            Ending(canceled=canceled, failure=script.failure or missing),
            rehearsed.protocol,
            self._expected(),
        )
        for part, outcome, runtime in zip(self._parts, told.outcomes, told.runtimes, strict=True):
            part.outcome = outcome
            part.runtime = runtime or part.runtime
        self._before = told.before or self._before
        self._after = told.after or self._after
        if (failure := told.sentinel_failure) is not None:
            self._sentinel, self._sentinel_job = without_sentinel(failure, self._sentinel), None
            self._context.events.warn(f"the sentinel failed and was left out: {failure.message}")

    def _failed(self, error: LatbenchError) -> None:
        """The part that could not be prepared has failed; the others never began."""
        unprepared = [part for part in self._parts if part.prepared is None]
        stage: Stage = "export" if unprepared else "open"
        failed = (unprepared or self._parts)[0]
        failed.outcome = Outcome(status="failed", failure=failure_of(error, stage))

    def _say(self, what: str) -> None:
        self._context.events.waiting(f"{self._context.device.row.id}: {what}")

    def _record(self, number: int, part: _Part) -> Record:
        context, prepared = self._context, part.prepared
        made = make_record(
            part.resolved,
            Measurement(
                created_unix_ns=self._created_unix_ns + number,
                machine=context.device.machine,
                link=context.device.link,
                software=self._software,
                before=self._before,
                after=self._after,
                rest=self._rest,
                protocol=self._protocol,
                outcome=part.outcome,
                artifact=prepared.cached.artifact if prepared else None,
                runtime=part.runtime,
                sentinel=self._sentinel,
                interleaved=self._interleaved(number),
                sweep=context.sweep,
            ),
        )
        # One measurement has one id, which is the job's too.
        if self._left is None or number:
            return made
        return msgspec.structs.replace(made, id=self._left)

    def _interleaved(self, part: int) -> Interleaved | None:
        if self._comparison is None:
            return None
        return Interleaved(
            comparison=self._comparison,
            part=part,
            parts=len(self._parts),
            order_seed=self._order_seed,
        )


def _conditions_of(device: MeasuredDevice) -> Conditions:
    """The conditions; unknown ones if it does not answer, which its script will say."""
    try:
        return device.conditions()
    except StageError:
        return unread_conditions()


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """What a pilot run has found out."""

    traces: Mapping[WorkerName, Trace]
    start_ns: int
    """What launching and fetching took."""


def _typical_ns(trace: Trace) -> int:
    samples = [ns for block in trace.blocks for ns in block.sample_ns[block.settle_calls :]]
    return max(1, round(median(samples)))


def _known_ns(trace: Trace) -> int:
    """How long loading and inferences took."""
    blocks = sum(sum(block.sample_ns) for block in trace.blocks)
    return trace.load_ns + (trace.first_ns or 0) + sum(trace.warmup_ns) + blocks


def _guess(job: Job) -> PilotTimes:
    """Times of a model that nobody has seen yet; only the script's expected duration needs them."""
    return PilotTimes(
        job=job, first_ns=10**9, load_ns=5 * 10**9, typical_ns=10**8, warmup_calls=A_LOOK
    )


def warm_after(job: Job, protocol: TimingProtocol, pilot: Trace) -> int:
    """The warm-up calls after which ``protocol`` finds the samples of a pilot run warm.

    The analysis of a live run is fed with them. Where they do not suffice, the typical latency
    follows, as if the model were warm by then. A fast start, as a phone has it, is left out too:
    what comes after it can only be seen by looking that far.
    """
    import numpy as np

    samples = _Recorded((pilot.first_ns or 0, *pilot.warmup_ns))
    run = JobRun(job, protocol, 1.0, clock=lambda: samples.at_ns)
    run.start(samples)
    run.open(0, 0, 0)
    run.warm_up(None)
    found = len(run.traces[0].warmup_ns)
    if protocol.warmup == "fixed":
        return found
    fast = fast_start(np.asarray(pilot.warmup_ns, dtype=np.float64))
    return max(found, round(BEYOND * fast))


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
