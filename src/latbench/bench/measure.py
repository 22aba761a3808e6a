"""One measurement, from resolved requests to stored records.

``run``, ``compare``, ``sweep``, ``plan``, ``explain`` and the measurements for claims all pass
through here. Records are stored before anything is computed from them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from latbench.analysis.comparison import Quantity, ratio_is_precise
from latbench.analysis.estimators import run_is_precise
from latbench.analysis.reliability import power_problem
from latbench.analysis.segments import Nested, nested_ratios, nested_samples
from latbench.bench.context import RunContext
from latbench.bench.executor import ProtocolExecutor, Schedule
from latbench.bench.job import Job, JobRun
from latbench.bench.operator_profile import time_operators, with_operators
from latbench.bench.prepare import PreparedJob, ResolvedRequest, find_fallback, prepare_job
from latbench.bench.record_factory import PACKAGES, Measurement, make_record, new_comparison_id
from latbench.bench.rest import check_rest, rest
from latbench.bench.scripted import measure_scripted
from latbench.bench.sentinel import NO_SENTINEL, sentinel_for, without_sentinel
from latbench.devices.measured import ScriptedDevice
from latbench.devices.unreachable import unread_conditions
from latbench.errors import LatbenchError, Stage, StageError, UsageError, failure_of
from latbench.schema.environment import Conditions, Rest
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import Fallback, Interleaved, Outcome, Record
from latbench.schema.trace import Trace
from latbench.store.rescue import keep


def measure_request(
    resolved: ResolvedRequest, protocol: TimingProtocol, context: RunContext
) -> Record:
    """Time one request, store its record and return it.

    A failure or an interruption is the outcome of the record. Raises :class:`UsageError` if only
    the exporter or the runtime finds out that the request is invalid, except in a sweep, where that
    is a failed point, and :class:`RegistryError` if the record cannot be stored.
    """
    if isinstance(context.device, ScriptedDevice):
        seed = resolved.request.seed
        (record,) = measure_scripted((resolved,), protocol, context, order_seed=seed)
        return record
    target = (protocol.target_ppm or 0) / 1e6

    def precise(traces: Sequence[Sequence[Trace]]) -> bool:
        return run_is_precise(traces[0], target)

    schedule = Schedule(
        protocol=protocol,
        timeout_s=context.timeout_s,
        order_seed=resolved.request.seed,
        precise=precise,
        values=block_values,
    )
    (record,) = _measure((resolved,), schedule, context)
    return record


def block_values(parts: Sequence[Sequence[Trace]]) -> Nested[float]:
    """The median of each block of the model."""
    return [
        [[median(block) for block in load if median(block) > 0] for load in process]
        for process in nested_samples(parts[0])
    ]


def round_values(parts: Sequence[Sequence[Trace]]) -> Nested[float]:
    """The ratio of the two models in each round."""
    return nested_ratios(parts[0], parts[1])


@dataclass(frozen=True, kw_only=True)
class PilotRun:
    """A short measurement whose record is not stored."""

    record: Record
    model: JobRun | None
    """``None`` if it never began."""
    sentinel: JobRun | None


def measure_pilot(
    resolved: ResolvedRequest, protocol: TimingProtocol, context: RunContext
) -> PilotRun:
    """Time one request as :func:`measure_request` does, without storing its record."""
    schedule = Schedule(
        protocol=protocol, timeout_s=context.timeout_s, order_seed=resolved.request.seed
    )
    measurement = _Measurement((resolved,), schedule, context)
    measurement.run()
    (record,) = measurement.records()
    executor = measurement.executor
    return PilotRun(
        record=record,
        model=executor.parts[0] if executor else None,
        sentinel=executor.sentinel if executor else None,
    )


def measure_parts(
    parts: tuple[ResolvedRequest, ResolvedRequest],
    protocol: TimingProtocol,
    context: RunContext,
    *,
    quantity: Quantity,
    order_seed: int,
) -> tuple[Record, Record]:
    """Time two requests block by block, alternating; store both records and return them.

    No fallback replaces a backend: the verdict would be about something that nobody asked for. If
    one part fails, the other one is interrupted. Otherwise as :func:`measure_request`.
    """
    if isinstance(context.device, ScriptedDevice):
        alone = replace(context, profile=False)
        one, two = measure_scripted(parts, protocol, alone, order_seed=order_seed)
        return one, two
    target = (protocol.target_ppm or 0) / 1e6

    def precise(traces: Sequence[Sequence[Trace]]) -> bool:
        return ratio_is_precise(traces[0], traces[1], target, quantity)

    schedule = Schedule(
        protocol=protocol,
        timeout_s=context.timeout_s,
        order_seed=order_seed,
        precise=precise,
        values=round_values,
    )
    one, two = _measure(parts, schedule, replace(context, strict=True, profile=False))
    return one, two


def _measure(
    parts: Sequence[ResolvedRequest], schedule: Schedule, context: RunContext
) -> tuple[Record, ...]:
    measurement = _Measurement(parts, schedule, context)
    measurement.run()
    records = measurement.records()
    keep(records, context.registry)
    return records


@dataclass(kw_only=True)
class _Part:
    """One of the requests that are timed together, as far as it has been prepared."""

    resolved: ResolvedRequest
    fallback: Fallback | None = None
    prepared: PreparedJob | None = None


class _Measurement:
    """A measurement under way. Whatever ends it, its records hold what was measured until then."""

    def __init__(
        self, parts: Sequence[ResolvedRequest], schedule: Schedule, context: RunContext
    ) -> None:
        self._schedule = schedule
        self._protocol = schedule.protocol
        self._context = context
        self._parts = [_Part(resolved=each) for each in parts]
        self._created_unix_ns = time.time_ns()
        self._software = context.device.software(PACKAGES)
        self._before = self._conditions_now() or unread_conditions()
        self._after: Conditions | None = None
        self._rest: Rest | None = None
        self.executor: ProtocolExecutor | None = None
        self._outcomes: tuple[Outcome, ...] = ()
        alone = len(parts) == 1 or self._protocol.sentinel_ns is None
        self._sentinel = None if alone else NO_SENTINEL

    def run(self) -> None:
        """Prepare the jobs and time them. Raises :class:`UsageError`."""
        try:
            self._time(*self._prepared())
            if self._context.profile:
                self._profile()
        except LatbenchError as error:
            # Only the exporting program or the runtime can find such a request invalid.
            if self._context.sweep is None and isinstance(error, UsageError):
                raise
            self._outcomes = self._outcomes or self._failed(error)
        except KeyboardInterrupt:
            # After the timing, an interruption costs what was still to come, not what was measured.
            interrupted = Outcome(status="interrupted")
            self._outcomes = self._outcomes or tuple(interrupted for _ in self._parts)

    def records(self) -> tuple[Record, ...]:
        """One record for each part; all have the same environment."""
        after = self._after or self._conditions_now()
        comparison = new_comparison_id() if len(self._parts) > 1 else None
        return tuple(
            make_record(
                part.resolved,
                Measurement(
                    # One later than the other: records are sorted by this time.
                    created_unix_ns=self._created_unix_ns + i,
                    machine=self._context.device.machine,
                    link=self._context.device.link,
                    software=self._software,
                    before=self._before,
                    after=after,
                    rest=self._rest,
                    protocol=self._protocol,
                    outcome=self._outcomes[i],
                    artifact=part.prepared.cached.artifact if part.prepared else None,
                    runtime=self.executor.parts[i].runtime if self.executor else None,
                    sentinel=self._sentinel,
                    interleaved=self._interleaved(comparison, i),
                    fallback=part.fallback,
                    sweep=self._context.sweep,
                ),
            )
            for i, part in enumerate(self._parts)
        )

    def _conditions_now(self) -> Conditions | None:
        """The conditions; ``None`` if the device no longer answers. What was measured stays."""
        try:
            return self._context.device.conditions()
        except StageError:
            return None

    def _prepared(self) -> tuple[list[Job], Job | None]:
        """The jobs of the parts, and that of the sentinel if there is one."""
        jobs = []
        for part in self._parts:
            part.fallback = find_fallback(part.resolved, self._context)
            part.prepared = prepare_job(part.resolved, part.fallback, self._protocol, self._context)
            jobs.append(part.prepared.job)
        first = self._parts[0].prepared
        if len(jobs) > 1 or first is None:
            return jobs, None
        sentinel, self._sentinel = sentinel_for(
            first, self._protocol, self._context.device, self._context.events.warn
        )
        return jobs, sentinel

    def _time(self, jobs: Sequence[Job], sentinel: Job | None) -> None:
        device, events = self._context.device, self._context.events
        if self._context.cooldown is not None:
            self._rest = rest(device, self._context.cooldown, events)
            check_rest(self._rest)
        self._before = device.conditions()
        if (power := power_problem(self._before)) is not None:
            events.warn(f"{power}: systems save power then; connect the power supply")
        if self._before.thermal_override:
            events.warn(
                "the thermal status is faked, so throttling stays unseen: `adb shell cmd "
                "thermalservice reset` ends that"
            )
        self.executor = ProtocolExecutor(jobs, self._schedule, device, events, sentinel=sentinel)
        self._outcomes = self.executor.run()
        self._after = self._conditions_now()
        if (failure := self.executor.sentinel_failure) is not None:
            self._sentinel = without_sentinel(failure, self._sentinel)
            events.warn(f"the sentinel failed and was left out: {failure.message}")

    def _profile(self) -> None:
        self._outcomes = tuple(
            self._profiled(outcome, part.prepared)
            if part.prepared is not None and outcome.status == "measured"
            else outcome
            for outcome, part in zip(self._outcomes, self._parts, strict=True)
        )

    def _profiled(self, outcome: Outcome, prepared: PreparedJob) -> Outcome:
        """``outcome`` with times by operator if there are any; nothing measured is lost without."""
        warn = self._context.events.warn
        try:
            found = time_operators(
                prepared.job,
                self._context.device,
                timeout_s=self._context.timeout_s,
                pinned=self._protocol.pinned,
            )
        except LatbenchError as error:
            warn(f"no times by operator: {error.message}")
            return outcome
        except KeyboardInterrupt:
            warn("no times by operator: interrupted")
            return outcome
        return with_operators(outcome, found, prepared.runner.name, warn)

    def _failed(self, error: LatbenchError) -> tuple[Outcome, ...]:
        """The part that could not be prepared has failed; the others never began."""
        unprepared = [part for part in self._parts if part.prepared is None]
        failed = (unprepared or self._parts)[0]
        stage: Stage = "export" if unprepared else "open"
        return tuple(
            Outcome(status="failed", failure=failure_of(error, stage))
            if part is failed
            else Outcome(status="interrupted")
            for part in self._parts
        )

    def _interleaved(self, comparison: str | None, part: int) -> Interleaved | None:
        if comparison is None:
            return None
        return Interleaved(
            comparison=comparison,
            part=part,
            parts=len(self._parts),
            order_seed=self._schedule.order_seed,
        )
