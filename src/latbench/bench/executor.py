"""Execution of a protocol: process after process, round after round, into traces.

In each round every part has one block, in random order. The parts are the models of a comparison,
or a model and its sentinel. Disturbances of the machine then affect all parts alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Literal, Protocol

import msgspec

from latbench.analysis.segments import Nested, longest_warmup
from latbench.analysis.sizes import cheapest_sentinel
from latbench.analysis.steady_state import WARM_NS
from latbench.bench.expectation import Expectation, memory_kept
from latbench.bench.job import Conversation, Job, JobRun
from latbench.bench.pace import FoundSizes, Pace, RoundValues, SharedBudget
from latbench.clock import now_ns
from latbench.errors import LatbenchError, StageError, failure_of
from latbench.events import Events
from latbench.schema.protocol import TimingProtocol, calls_that_fit
from latbench.schema.record import Outcome
from latbench.schema.trace import Trace

WARMUP_ROOM = 1.5
"""Later loads warm up for so many times what the slowest load of the first process needed. The
summary still searches each load for a warm-up that continues."""
TIMEOUT_HINT = "allow more time with --timeout, or try fewer threads"
Precise = Callable[[Sequence[Sequence[Trace]]], bool]
"""Whether the traces of each part so far are precise enough."""
Stopped = Literal["complete", "precise", "budget", "processes"]


def _until_the_limits(traces: Sequence[Sequence[Trace]]) -> bool:
    """No precision is enough: only the protocol's limits stop the timing."""
    return False


def _no_values(traces: Sequence[Sequence[Trace]]) -> Nested[float]:
    """Nothing is known of the variances: the sizes stay as the protocol states them."""
    return []


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How to time, and when to stop."""

    protocol: TimingProtocol
    timeout_s: float
    """Seconds to wait for each response of a worker."""
    order_seed: int = 0
    precise: Precise = _until_the_limits
    sentinel_protocol: TimingProtocol | None = None
    """How the sentinel warms up; ``None``: as ``protocol`` says."""
    values: RoundValues = _no_values
    """What the precision is about; for protocols that find their own sizes."""
    clock: Callable[[], int] = now_ns


class WorkerStarter(Protocol):
    """What the timing needs of a device."""

    def start_worker(self, timeout_hint: str) -> AbstractContextManager[Conversation]:
        """Start a worker. Raises :class:`StageError`."""
        ...


class ProtocolExecutor:
    """Times jobs alternately. Its traces are valid at every moment, whatever ends the timing."""

    def __init__(
        self,
        jobs: Sequence[Job],
        schedule: Schedule,
        device: WorkerStarter,
        events: Events,
        *,
        sentinel: Job | None = None,
    ) -> None:
        self._schedule = schedule
        self._protocol = schedule.protocol
        self._device = device
        self._events = events
        self._now = schedule.clock
        self.parts = [self._run(job, self._protocol) for job in jobs]
        # Its warm-up has a fixed length: the summary detects one that continues into the blocks.
        plain = msgspec.structs.replace(
            schedule.sentinel_protocol or self._protocol, warmup="fixed"
        )
        self._sentinel = self._run(sentinel, plain) if sentinel else None
        self._begun_ns = 0
        self._pace: Pace = SharedBudget(self._protocol, self._now)
        self._found: FoundSizes | None = None
        self._expectation: Expectation | None = None
        self._sentinel_calls: int | None = None
        self._rounds_done = 0
        self._cut_short = False
        self.loads_limited: str | None = None
        """Why the model is loaded fewer times in a process than the protocol says."""
        self._sentinel_traces: tuple[Trace, ...] = ()
        self.sentinel_failure: LatbenchError | None = None

    def _run(self, job: Job, protocol: TimingProtocol) -> JobRun:
        return JobRun(job, protocol, self._schedule.timeout_s, self._schedule.clock)

    def run(self) -> tuple[Outcome, ...]:
        """Time until the protocol is done, something fails, or the user interrupts."""
        self._begun_ns = self._now()
        if self._protocol.max_sessions is msgspec.UNSET:
            self._pace = SharedBudget(self._protocol, self._now)
        else:
            self._found = FoundSizes(self._protocol, self._now, self._schedule.values)
            self._pace = self._found
            self._expectation = Expectation(self._found, self._protocol, self._events)
        stopped: Stopped | None = None
        # The part that failed remembers how.
        with suppress(StageError, KeyboardInterrupt):
            stopped = self._processes()
        return tuple(self._outcome(part, stopped) for part in self.parts)

    @property
    def sentinel(self) -> JobRun | None:
        """The sentinel, unless there is none or it has failed."""
        return self._sentinel

    def _processes(self) -> Stopped:
        protocol = self._protocol
        for process in range(protocol.max_processes):
            self._pace.start_process(process)
            self._process(process)
            done = process + 1
            traces = [part.traces for part in self.parts]
            self._pace.end_process(traces)
            self._events.traces(traces)
            if done >= protocol.processes:
                if protocol.target_ppm is None:
                    return "budget" if self._cut_short else "complete"
                if self._schedule.precise(traces):
                    return "precise"
            if not self._pace.starts_again():
                return "budget"
            self._plan(done)
        return "processes"

    def _plan(self, done: int) -> None:
        """Take over what the processes so far have shown, and say what to expect."""
        if self._found is None:
            return
        if self._sentinel is not None:
            latest = [
                [trace for trace in part.traces if trace.process >= done - 3]
                for part in (self.parts[0], self._sentinel)
            ]
            self._sentinel_calls = cheapest_sentinel(*latest)
        if done == 1 and self._protocol.warmup == "found":
            for part in self._all():
                longest = longest_warmup(part.traces)
                part.known_warmup = None if longest is None else ceil(WARMUP_ROOM * longest)
        if self._expectation is not None:
            self._expectation.say(done)

    def _process(self, process: int) -> None:
        with ExitStack() as exits:
            for part in self._all():
                try:
                    part.start(exits.enter_context(self._device.start_worker(TIMEOUT_HINT)))
                except StageError as error:
                    part.failure = error
                    self._without_sentinel(part, error)
            session = 0
            while session == 0 or self._pace.loads_again():
                try:
                    self._session(process, session)
                except StageError as error:
                    if not self._loads_end(session, error):
                        raise
                    # Whatever state it is in: the next process has a new worker.
                    return
                session += 1
                if self._found is not None and (more := memory_kept(self.parts, process)):
                    self._limit_loads(max(2, session), f"each load keeps {more / 1e6:.0f} MB more")
            for part in self._all():
                self._do(part, lambda part: part.close())

    def _loads_end(self, session: int, error: StageError) -> bool:
        """Whether the run goes on with fewer loads, because a later load in a process failed."""
        if self._found is None or session == 0 or error.stage not in ("open", "warmup"):
            return False
        for part in self._all():
            part.drop_session()
        self._limit_loads(session, f"load {session + 1} of a process failed: {error.message}")
        return True

    def _limit_loads(self, loads: int, why: str) -> None:
        """Load the model at most so often in a process from now on, and tell it once."""
        assert self._found is not None
        self._found.limit_loads(loads)
        if self.loads_limited is None:
            times = "once" if loads == 1 else f"{loads} times"
            self.loads_limited = f"the model is loaded {times} in each process: {why}"
            self._events.warn(self.loads_limited)

    def _session(self, process: int, session: int) -> None:
        for part in self._all():
            self._turn(part, lambda part: part.open(process, session, self._begun_ns))
        for part in self._all():
            # Half of the remaining time is for the blocks.
            left = self._pace.warmup_left_ns()
            mine = None if left is None else max(left, 0) // (2 * len(self._all()))
            self._turn(part, partial(JobRun.warm_up, left_ns=mine))
        self._rounds(process, session)
        for part in self._all():
            self._do(part, lambda part: part.check_outputs())

    def _rounds(self, process: int, session: int) -> None:
        # A seeded order is not a secret.
        draw = random.Random(f"{self._schedule.order_seed}/{process}/{session}")  # noqa: S311
        least_ns = self._pace.start_rounds(max(part.typical_ns for part in self.parts))
        for part in self.parts:
            part.least_ns = least_ns
        total = self._pace.expected_rounds(max(part.expected_blocks() for part in self.parts))
        done = 0
        while calls := self._next_calls():
            left = self._pace.rounds_left_ns()
            out_of_time = left is not None and left <= 0 and done
            if out_of_time and not any(part.cold() for part in self.parts):
                self._cut_short = True
                break
            parts = self._all()
            if left is not None and (not done or self._found is not None):
                # A slow model gets fewer samples instead of too few processes, a fast one enough.
                room = max(left // len(parts), WARM_NS)
                calls = [
                    calls_that_fit(most, part.typical_ns, room)
                    for most, part in zip(calls, self.parts, strict=True)
                ]
            draw.shuffle(parts)
            for part in parts:
                if part is self._sentinel:
                    self._turn(part, self._sentinel_block)
                else:
                    most = calls[self.parts.index(part)]
                    self._turn(part, partial(JobRun.block, calls=most))
            done += 1
            self._rounds_done += 1
            self._events.progress(min(self._rounds_done, total), total)
        self._pace.end_load(done)

    def _sentinel_block(self, sentinel: JobRun) -> None:
        calls = (self._protocol.sentinel_ns or 0) // max(sentinel.typical_ns, 1)
        if self._sentinel_calls is not None:
            calls = min(calls, self._sentinel_calls)
        sentinel.block(max(1, min(calls, self._protocol.block_calls)))

    def _next_calls(self) -> list[int]:
        """Calls of each part's next block; empty once no part needs more.

        A part that has enough continues as long as another one needs more: pairs are compared.
        """
        wanted = [part.next_calls() for part in self.parts]
        if not any(wanted):
            return []
        return [calls or part.whole_block() for part, calls in zip(self.parts, wanted, strict=True)]

    def _all(self) -> list[JobRun]:
        return [*self.parts, *([self._sentinel] if self._sentinel else [])]

    def _turn(self, part: JobRun, action: Callable[[JobRun], None]) -> None:
        """Run ``action`` on one part while the others are stopped."""
        for other in self._all():
            if other is not part:
                other.pause()
        self._do(part, action)

    def _do(self, part: JobRun, action: Callable[[JobRun], None]) -> None:
        """Run ``action`` on one part; a failure of the sentinel only removes the sentinel."""
        try:
            action(part)
        except LatbenchError as error:
            self._without_sentinel(part, error)

    def _without_sentinel(self, part: JobRun, error: LatbenchError) -> None:
        """Continue without the sentinel if it is what failed, else raise ``error``."""
        if part is not self._sentinel:
            raise error
        self._sentinel_traces = part.traces
        self._sentinel, self.sentinel_failure = None, error

    def _outcome(self, part: JobRun, stopped: Stopped | None) -> Outcome:
        failed = part.failure is not None
        return Outcome(
            status="measured" if stopped else "failed" if failed else "interrupted",
            stopped=stopped,
            traces=part.traces,
            sentinel=self._sentinel.traces if self._sentinel else self._sentinel_traces,
            checks=tuple(part.checks),
            failure=failure_of(part.failure) if part.failure else None,
            loads_limited=msgspec.UNSET if self.loads_limited is None else self.loads_limited,
        )
