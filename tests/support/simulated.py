"""A simulated machine with known variation at each level, on a clock of its own.

The executor runs on it as on a device, in a fraction of the time that it simulates and with the
same result for the same seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp
from pathlib import Path

import msgspec
import numpy as np

from latbench.analysis.comparison import ratio_is_precise
from latbench.analysis.estimators import run_is_precise
from latbench.bench.executor import ProtocolExecutor, Schedule
from latbench.bench.job import Job
from latbench.bench.measure import block_values, round_values
from latbench.errors import Stage, StageError
from latbench.events import SILENT, Events
from latbench.files import read_arrays
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import Interleaved, Record, Sentinel
from latbench.schema.trace import Placement, Trace
from latbench.worker import messages
from latbench.worker.client import A
from support.bench import fake_job
from support.records import make_record

MS = 1_000_000
SENTINEL_MS = 3.4
PLACED = Placement(units={}, known="unknown")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What inferences and starts take here, and how much that varies. Times are in milliseconds,
    variations are standard deviations relative to the latency."""

    start_ms: float = 120
    """To start a worker."""
    awake_ms: float = 150
    """To import the runtime, at the first load in a worker."""
    load_ms: float = 60
    typical_ms: float = 8
    process: float = 0.004
    load: float = 0.008
    noise: float = 0.02
    rho: float = 0.3
    """Autocorrelation of the noise from call to call."""
    skew: float = 0.0
    """Processes and loads are log-normal with this shape instead of normal, if it is not 0."""
    warmup: int = 5
    """Calls over which half of the latency is gained."""
    common: float = 0.0
    """Slower by this while a neighbor is busy, for the model and the sentinel alike."""
    busy_ms: tuple[float, float] = (20, 600)
    idle_ms: tuple[float, float] = (50, 1200)
    burst: float = 0.0
    """Faster by this for ``burst_ms`` after the start of a process."""
    burst_ms: float = 500
    burst_each_load: bool = False
    kept_mb: int = 0
    """Memory that each load does not return."""
    fails_at_load: int | None = None


class SimulatedDevice:
    """A device whose workers answer at once and move its clock."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self.machine = machine
        self.draw = np.random.default_rng(seed)
        self._clock_ns = 0
        self.latencies: dict[str, float] = {}
        self.outputs: tuple[messages.Tensor, ...] = ()
        self._until_ns, self._busy = 0.0, False

    def clock(self) -> int:
        return self._clock_ns

    def pass_ms(self, ms: float) -> None:
        self._clock_ns += round(ms * MS)

    def varied(self, deviation: float) -> float:
        """A level around 1 whose median is 1."""
        z = float(self.draw.standard_normal())
        skew = self.machine.skew
        return 1 + deviation * ((exp(skew * z) - 1) / skew if skew else z)

    def slowed(self) -> float:
        """By what a neighbor slows everything now."""
        if not self.machine.common:
            return 1.0
        while self._until_ns < self._clock_ns:
            self._busy = not self._busy
            low, high = self.machine.busy_ms if self._busy else self.machine.idle_ms
            self._until_ns += MS * float(self.draw.uniform(low, high))
        return 1 + self.machine.common * self._busy

    @contextmanager
    def start_worker(self, timeout_hint: str) -> Iterator[SimulatedWorker]:
        self.pass_ms(self.machine.start_ms)
        yield SimulatedWorker(self)


class SimulatedWorker:
    """A worker whose latency has a level of its own, and one of each load."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device, self._machine = device, device.machine
        self._level = device.varied(self._machine.process)
        self._loads = self._calls = 0
        self._last = 0.0
        self._started_ns = self._opened_ns = device.clock()

    def pause(self) -> None:
        """Do nothing."""

    def ask(
        self, request: messages.RequestMessage, expect: type[A], *, stage: Stage, timeout_s: float
    ) -> A:
        response = self._response(request, stage)
        assert isinstance(response, expect)
        return response

    def _response(self, request: messages.RequestMessage, stage: Stage) -> messages.Message:
        device, machine = self._device, self._machine
        match request:
            case messages.Open():
                if self._loads == machine.fails_at_load:
                    raise StageError(stage, "the runtime is a singleton")
                device.pass_ms(machine.load_ms + (0 if self._loads else machine.awake_ms))
                self._loads += 1
                self._calls = 0
                self._load_level = self._level * device.varied(machine.load)
                self._typical_ms = device.latencies[request.path]
                self._opened_ns = device.clock()
                return messages.SessionOpened(
                    load_ns=round(machine.load_ms * MS), version=None, settings={}, placement=PLACED
                )
            case messages.Time():
                begun = device.clock()
                times = tuple(self._call() for _ in range(request.calls))
                return messages.BlockTimed(start_ns=begun - self._opened_ns, sample_ns=times)
            case messages.Outputs():
                device.pass_ms(2)
                peak = (150 + 40 + machine.kept_mb * (self._loads - 1)) * 10**6
                return messages.OutputsGiven(tensors=device.outputs, peak_rss_bytes=peak)
            case _:
                device.pass_ms(5)
                return messages.Closed()

    def _call(self) -> int:
        device, machine = self._device, self._machine
        fresh = (1 - machine.rho**2) ** 0.5 * float(device.draw.standard_normal())
        self._last = machine.rho * self._last + fresh
        warming = 0.5 * exp(-3 * self._calls / machine.warmup) if machine.warmup else 0.0
        self._calls += 1
        begun = self._opened_ns if machine.burst_each_load else self._started_ns
        fast = machine.burst if device.clock() - begun < machine.burst_ms * MS else 0.0
        factor = (1 + warming) * (1 - fast) * device.slowed()
        ms = self._typical_ms * self._load_level * factor * (1 + machine.noise * self._last)
        device.pass_ms(ms)
        return max(1, round(ms * MS))


@dataclass(frozen=True, kw_only=True)
class SimulatedRun:
    """What a run on a simulated machine gave."""

    records: tuple[Record, ...]
    """One for each model."""
    wall_ms: float
    executor: ProtocolExecutor


class Bench:
    """Jobs that are timed on simulated machines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: dict[float, Job] = {}

    def run(
        self,
        machine: Machine,
        protocol: TimingProtocol,
        seed: int,
        *,
        other: float | None = None,
        events: Events = SILENT,
    ) -> SimulatedRun:
        """Time a model beside a sentinel, or beside a second one that takes ``other`` times as
        long."""
        device = SimulatedDevice(machine, seed)
        jobs = [self._job(device, machine.typical_ms)]
        if other is not None:
            jobs.append(self._job(device, machine.typical_ms * other))
        target = (protocol.target_ppm or 0) / 1e6

        def precise(parts: Sequence[Sequence[Trace]]) -> bool:
            if other is None:
                return run_is_precise(parts[0], target)
            return ratio_is_precise(parts[0], parts[1], target)

        schedule = Schedule(
            protocol=protocol,
            timeout_s=60,
            order_seed=seed,
            precise=precise,
            values=block_values if other is None else round_values,
            clock=device.clock,
        )
        beside = other is None and protocol.sentinel_ns is not None
        executor = ProtocolExecutor(
            jobs,
            schedule,
            device,
            events,
            sentinel=self._job(device, SENTINEL_MS) if beside else None,
        )
        base = make_record()
        records = tuple(
            msgspec.structs.replace(
                base,
                protocol=protocol,
                sentinel=Sentinel(name="fake@1", sha256="0") if beside else None,
                interleaved=None
                if other is None
                else Interleaved(comparison="c", part=part, parts=2, order_seed=seed),
                outcome=outcome,
            )
            for part, outcome in enumerate(executor.run())
        )
        return SimulatedRun(records=records, wall_ms=device.clock() / MS, executor=executor)

    def _job(self, device: SimulatedDevice, latency_ms: float) -> Job:
        """A job of that latency; the reference outputs of all are the same file."""
        job = self._jobs.get(latency_ms) or fake_job(self._folder, round(latency_ms * MS))
        self._jobs[latency_ms] = job
        device.latencies[str(job.path)] = latency_ms
        device.outputs = tuple(
            messages.Tensor(dtype=array.dtype.name, shape=array.shape, data=array.tobytes())
            for array in read_arrays(job.reference, "outputs", "the outputs").values()
        )
        return job
