"""Rehearsal of a protocol: the executor runs on a clock of its own, with the times of a pilot run.

What it asks the rehearsed workers for is the script of a run that is left on a device alone. A
protocol that adapts itself to the samples is rehearsed first as it is; the numbers that come out
are those of a fixed protocol, which the script follows exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import msgspec

from latbench.bench.executor import ProtocolExecutor, Schedule
from latbench.bench.job import Job
from latbench.errors import Stage, StageError
from latbench.events import SILENT
from latbench.files import read_arrays
from latbench.schema.codec import LONGEST_NS
from latbench.schema.cpu_choice import CPUS_SETTING, cpu_list
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import Outcome
from latbench.schema.trace import Placement
from latbench.worker import messages
from latbench.worker.client import A
from latbench.worker.job_folder import Role, ScriptLine, WorkerName

FIXED_NUMBERS = "with numbers fixed in advance, for a device without its harness"
PILOT_CALLS = 20
A_LOOK = 5
"""Calls of the warm-up, and of the only block, of a run that takes a first look at a model."""
PILOT_NS = 1_000_000_000
"""The pilot run times no longer than this, except a single call."""


@dataclass(frozen=True, kw_only=True)
class PilotTimes:
    """What a pilot run found out about one job, in nanoseconds."""

    job: Job
    first_ns: int
    load_ns: int
    typical_ns: int
    warmup_calls: int


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """A script, the protocol that it follows, and how long it will take."""

    protocol: TimingProtocol
    script: tuple[ScriptLine, ...]
    expected_ns: int


def pilot_protocol(protocol: TimingProtocol) -> TimingProtocol:
    """One process with its usual warm-up and few calls, in a process's share of the budget."""
    budget = protocol.budget_ns
    return msgspec.structs.replace(
        protocol,
        processes=1,
        max_processes=1,
        sessions=1,
        max_sessions=msgspec.UNSET,
        min_calls=min(protocol.min_calls, PILOT_CALLS),
        min_ns=0,
        max_ns=min(protocol.max_ns, PILOT_NS),
        target_ppm=None,
        budget_ns=None if budget is None else budget // protocol.processes,
    )


def fixed_protocol(protocol: TimingProtocol, warmup_calls: int) -> TimingProtocol:
    """One process of fixed numbers: ``warmup_calls`` calls of warm-up and one short block."""
    return msgspec.structs.replace(
        pilot_protocol(protocol),
        warmup="fixed",
        warmup_calls=warmup_calls,
        warmup_ns=0,
        warmup_limit_ns=LONGEST_NS,
        min_calls=A_LOOK,
        block_calls=A_LOOK,
        block_ns=None,
        max_ns=LONGEST_NS,
        budget_ns=None,
    )


def rehearse(
    protocol: TimingProtocol,
    model: PilotTimes,
    sentinel: PilotTimes | None,
    *,
    second: PilotTimes | None = None,
    start_ns: int,
    timeout_s: float,
    order_seed: int,
) -> Rehearsed:
    """Return the script of ``protocol`` for a device on which a worker starts in ``start_ns``.

    ``second`` is the other model of a comparison. Raises :class:`StageError` if the rehearsal
    fails.
    """

    parts = [model] if second is None else [model, second]

    def played(by: TimingProtocol) -> tuple[tuple[Outcome, ...], _Stage]:
        stage = _Stage(model, second, sentinel, start_ns)
        schedule = Schedule(
            protocol=by,
            timeout_s=timeout_s,
            order_seed=order_seed,
            sentinel_protocol=protocol,
            clock=stage.clock,
        )
        executor = ProtocolExecutor(
            [part.job for part in parts],
            schedule,
            stage,
            SILENT,
            sentinel=sentinel.job if sentinel else None,
        )
        outcomes = executor.run()
        missing = [outcome for outcome in outcomes if outcome.status != "measured"]
        if missing or executor.sentinel_failure is not None:
            failure = next((each.failure for each in missing if each.failure), None)
            why = failure.message if failure else str(executor.sentinel_failure or "interrupted")
            raise StageError("time", f"the protocol cannot be rehearsed: {why}")
        return outcomes, stage

    # A script is written in advance: its sizes are those that the protocol states.
    planned = msgspec.structs.replace(protocol, max_sessions=msgspec.UNSET)
    warm = max(part.warmup_calls for part in parts)
    likely, _ = played(_with_warmup(planned, parts, warm))
    fixed = _fixed(planned, parts, likely)
    _, stage = played(fixed)
    around = ScriptLine(role="conditions", timeout_s=timeout_s, request=messages.ReadConditions())
    return Rehearsed(
        protocol=fixed, script=(around, *stage.script, around), expected_ns=stage.clock()
    )


def _with_warmup(
    protocol: TimingProtocol, parts: Sequence[PilotTimes], calls: int
) -> TimingProtocol:
    """``protocol`` with ``calls`` warm-up calls, which fit into the limits of the warm-up."""
    needed_ns = max(part.first_ns + 2 * calls * part.typical_ns for part in parts)
    return msgspec.structs.replace(
        protocol,
        warmup="fixed",
        warmup_calls=calls,
        warmup_ns=0,
        warmup_limit_ns=max(protocol.warmup_limit_ns, needed_ns),
    )


def _fixed(
    protocol: TimingProtocol, parts: Sequence[PilotTimes], likely: Sequence[Outcome]
) -> TimingProtocol:
    """The protocol of fixed numbers that the rehearsed outcomes amount to."""
    traces = [trace for outcome in likely for trace in outcome.traces]
    counted = [
        [len(block.sample_ns) - block.settle_calls for block in trace.blocks] for trace in traces
    ]
    processes = len({trace.process for trace in traces})
    largest = max((calls for blocks in counted for calls in blocks), default=0)
    # Of two models, each has its own number of calls in a block: the time stays in the protocol.
    timed = protocol.block_ns is not None and len(parts) > 1
    warm = max(min(len(trace.warmup_ns) for trace in outcome.traces) for outcome in likely)
    fixed = msgspec.structs.replace(
        _with_warmup(protocol, parts, warm),
        processes=processes,
        max_processes=processes,
        block_calls=protocol.block_calls if timed else largest or protocol.block_calls,
        block_ns=protocol.block_ns if timed else None,
        min_calls=min(map(sum, counted)),
        min_ns=0,
        target_ppm=None,
        budget_ns=None,
    )
    if fixed == protocol:
        return protocol
    return msgspec.structs.replace(fixed, what=f"{protocol.what}; here {FIXED_NUMBERS}")


class _Stage:
    """A device without workers: it writes down what is asked, and its clock runs as expected."""

    def __init__(
        self,
        model: PilotTimes,
        second: PilotTimes | None,
        sentinel: PilotTimes | None,
        start_ns: int,
    ) -> None:
        self._cast: list[tuple[WorkerName, PilotTimes]] = [("model", model)]
        if second is not None:
            self._cast.append(("second", second))
        if sentinel is not None:
            self._cast.append(("sentinel", sentinel))
        self._start_ns = start_ns
        self._started = 0
        self._clock_ns = 0
        self.script: list[ScriptLine] = []

    def clock(self) -> int:
        return self._clock_ns

    def pass_time(self, ns: int) -> None:
        self._clock_ns += ns

    @contextmanager
    def start_worker(self, timeout_hint: str) -> Iterator[_Player]:
        # The executor starts one worker for each part, in this order, for every process.
        name, times = self._cast[self._started % len(self._cast)]
        self._started += 1
        self.pass_time(self._start_ns)
        yield _Player(name, times, self.script.append, self.pass_time)


class _Player:
    """A worker that answers at once with what the pilot run lets expect."""

    def __init__(
        self,
        name: WorkerName,
        times: PilotTimes,
        write: Callable[[ScriptLine], None],
        pass_time: Callable[[int], None],
    ) -> None:
        self._name = name
        self._times = times
        self._write = write
        self._pass_time = pass_time
        self._cold = True

    def ask(
        self, request: messages.RequestMessage, expect: type[A], *, stage: Stage, timeout_s: float
    ) -> A:
        asked = cast(messages.InferenceRequest, request)
        role = self._role(asked, stage)
        self._write(ScriptLine(worker=self._name, role=role, timeout_s=timeout_s, request=asked))
        response = self._response(asked)
        assert isinstance(response, expect)
        return response

    def pause(self) -> None:
        """Whoever executes a script stops the other workers by itself."""

    def _role(self, request: messages.InferenceRequest, stage: Stage) -> Role:
        match request:
            case messages.Open():
                return "open"
            case messages.Outputs():
                return "outputs"
            case messages.Close():
                return "close"
        if stage == "time":
            return "block"
        return "first" if self._cold else "warmup"

    def _response(self, request: messages.InferenceRequest) -> messages.Message:
        times = self._times
        match request:
            case messages.Open():
                self._cold = True
                self._pass_time(times.load_ns)
                unknown = Placement(units={}, known="unknown")
                cpus = {} if request.cpus is None else {CPUS_SETTING: cpu_list(request.cpus)}
                return messages.SessionOpened(
                    load_ns=times.load_ns, version=None, settings=cpus, placement=unknown
                )
            case messages.Time():
                ns = times.first_ns if self._cold else times.typical_ns
                self._cold = False
                self._pass_time(request.calls * max(ns, request.period_ns or 0))
                return messages.BlockTimed(start_ns=0, sample_ns=(ns,) * request.calls)
            case messages.Outputs():
                return messages.OutputsGiven(tensors=_expected(times.job), peak_rss_bytes=None)
            case _:
                return messages.Closed()


def _expected(job: Job) -> tuple[messages.Tensor, ...]:
    """The right outputs, as a worker sends them. Raises :class:`StageError`."""
    import numpy as np

    arrays = read_arrays(job.reference, "outputs", "the outputs to compare with")
    return tuple(
        messages.Tensor(
            dtype=array.dtype.name, shape=array.shape, data=np.ascontiguousarray(array).tobytes()
        )
        for array in arrays.values()
    )
