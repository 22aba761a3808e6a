"""Executes a protocol: process after process, block after block, into traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from latbench.core.checks import TOLERANCE, check_parity, denormals, errors, finite
from latbench.core.errors import StageError
from latbench.core.protocols import calls_that_fit
from latbench.core.records import (
    Artifact,
    Block,
    Failure,
    Outcome,
    OutputCheck,
    Runtime,
    TimingProtocol,
    Trace,
)
from latbench.measure import wire
from latbench.measure.conversation import Conversation

if TYPE_CHECKING:
    from latbench.api import Array

WORKER = "latbench.measure.worker"
Progress = Callable[[int, int], None]
"""Called between blocks with how many blocks are done, of how many."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to time and how."""

    backend: str
    artifact: Artifact
    path: Path
    reference: Path
    """``.npz`` of the outputs that the seeded inputs must give."""
    threads: int
    seed: int
    extra: dict[str, str]
    protocol: TimingProtocol
    deadline_s: float
    """How long any one answer may take."""


class Execution:
    """The traces so far: whole at every moment, so that whatever ends it loses nothing."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self._job = job
        self._progress = progress
        self._traces: list[Trace] = []
        self._checks: list[OutputCheck] = []
        self._current: _TraceSoFar | None = None
        self.runtime: Runtime | None = None

    def run(self) -> Outcome:
        """Time until the protocol is done, something fails, or the user interrupts."""
        try:
            for process in range(self._job.protocol.processes):
                with Conversation.with_module(WORKER) as worker:
                    self._session(worker, process)
        except StageError as error:
            return self._outcome("failed", failure_of(error))
        except KeyboardInterrupt:
            return self._outcome("interrupted", None)
        return self._outcome("measured", None)

    def _session(self, worker: Conversation, process: int) -> None:
        """One process: load, first inference, warm-up, blocks, outputs."""
        protocol = self._job.protocol
        trace = self._current = _TraceSoFar(process, self._open(worker, process))
        trace.first_ns = self._time(worker, 1, "warmup").sample_ns[0]
        calls = calls_that_fit(
            protocol.warmup_calls, trace.first_ns, protocol.process_budget_ns // 4
        )
        trace.warmup_ns = self._time(worker, calls, "warmup").sample_ns
        typical_ns = sorted(trace.warmup_ns)[len(trace.warmup_ns) // 2]
        left_ns = protocol.process_budget_ns - sum(trace.warmup_ns)
        for block in range(protocol.blocks):
            if block and left_ns <= 0:
                break
            calls = calls_that_fit(protocol.block_calls, typical_ns, left_ns)
            timed = self._time(worker, calls, "time")
            trace.blocks.append(Block(start_ns=timed.start_ns, sample_ns=timed.sample_ns))
            left_ns -= sum(timed.sample_ns)
            done = process * protocol.blocks + block + 1
            self._progress(done, protocol.processes * protocol.blocks)
        self._check_outputs(worker, process, trace)
        self._traces.append(trace.value())
        self._current = None
        worker.ask(wire.Close(), wire.Closed, stage="outputs", deadline_s=self._job.deadline_s)

    def _open(self, worker: Conversation, process: int) -> int:
        """Open the session and learn what it is; the load time in ns."""
        job = self._job
        opened = worker.ask(
            wire.Open(
                backend=job.backend,
                artifact=job.artifact,
                path=str(job.path),
                threads=job.threads,
                seed=job.seed,
                process=process,
                extra=job.extra,
            ),
            wire.Opened,
            stage="open",
            deadline_s=job.deadline_s,
        )
        self.runtime = Runtime(
            name=job.backend,
            version=opened.version,
            settings=dict(opened.settings),
            placement=opened.placement,
        )
        return opened.load_ns

    def _time(
        self, worker: Conversation, calls: int, stage: Literal["warmup", "time"]
    ) -> wire.Timed:
        timed = worker.ask(
            wire.Time(calls=calls), wire.Timed, stage=stage, deadline_s=self._job.deadline_s
        )
        if len(timed.sample_ns) != calls or any(ns < 0 for ns in timed.sample_ns):
            raise StageError(
                stage, f"asked for {calls} times, the runner gave {len(timed.sample_ns)}"
            )
        return timed

    def _check_outputs(self, worker: Conversation, process: int, trace: _TraceSoFar) -> None:
        """Compare the outputs of the session that was timed with the reference."""
        given = worker.ask(
            wire.Outputs(), wire.OutputsGiven, stage="outputs", deadline_s=self._job.deadline_s
        )
        trace.peak_rss_bytes = given.peak_rss_bytes
        arrays = tuple(_array(tensor) for tensor in given.tensors)
        _, error = errors(_reference(self._job.reference), arrays)
        tolerance = TOLERANCE[self._job.artifact.precision]
        self._checks.append(
            OutputCheck(
                process=process,
                finite=finite(arrays),
                denormals=denormals(arrays),
                max_rel_error=error if isfinite(error) else None,
                tolerance=tolerance,
            )
        )
        check_parity(error, tolerance, "outputs", "the outputs of the timed session are wrong")

    def _outcome(
        self, status: Literal["measured", "failed", "interrupted"], failure: Failure | None
    ) -> Outcome:
        unfinished = () if self._current is None else (self._current.value(),)
        return Outcome(
            status=status,
            traces=(*self._traces, *unfinished),
            checks=tuple(self._checks),
            failure=failure,
        )


class _TraceSoFar:
    """The trace of the process that is being timed."""

    def __init__(self, process: int, load_ns: int) -> None:
        self._process = process
        self._load_ns = load_ns
        self.first_ns: int | None = None
        self.warmup_ns: tuple[int, ...] = ()
        self.blocks: list[Block] = []
        self.peak_rss_bytes: int | None = None

    def value(self) -> Trace:
        return Trace(
            process=self._process,
            load_ns=self._load_ns,
            first_ns=self.first_ns,
            warmup_ns=self.warmup_ns,
            blocks=tuple(self.blocks),
            peak_rss_bytes=self.peak_rss_bytes,
        )


def failure_of(error: StageError) -> Failure:
    """The error as the value that a record holds."""
    return Failure(
        stage=error.stage,
        kind=error.kind,
        message=error.message,
        hint=error.hint,
        detail=error.detail,
    )


def _array(tensor: wire.Tensor) -> Array:
    import numpy as np

    dtype = np.dtype(tensor.dtype).newbyteorder("<")
    return np.frombuffer(tensor.data, dtype=dtype).reshape(tensor.shape)


def _reference(path: Path) -> tuple[Array, ...]:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return tuple(arrays[name] for name in arrays.files)
