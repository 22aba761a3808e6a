"""One job, timed in one worker after another, and its traces so far, which are always valid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path, PurePath
from statistics import median
from typing import TYPE_CHECKING, Literal, Protocol

from latbench.analysis.parity import (
    check_outputs,
    cosine,
    denormals,
    finite,
    output_difference,
    tolerance_of,
)
from latbench.analysis.segments import is_cold
from latbench.analysis.steady_state import FEWEST_SAMPLES, WARM_NS, warmup_end
from latbench.bench.required_units import RequiredUnits
from latbench.clock import now_ns
from latbench.errors import Stage, StageError, first_line
from latbench.files import read_arrays
from latbench.schema.artifact import Artifact
from latbench.schema.codec import LONGEST_NS
from latbench.schema.cpu_choice import CPUS_SETTING, cpu_list, numbers_of
from latbench.schema.protocol import TimingProtocol, block_calls, calls_that_fit
from latbench.schema.record import Runtime
from latbench.schema.trace import Block, OutputCheck, Trace
from latbench.worker import messages
from latbench.worker.client import A

if TYPE_CHECKING:
    from latbench.api import Array

SEEN = 4
"""A warm-up counts as over once this many times its length has been observed."""
DECLINE = 1.01
"""It is not over while the first half of what follows is slower than the second by this factor."""
WARMUP_CHUNK_NS = 25_000_000
"""The warm-up is analyzed after every so much time."""

SPREAD_NS = 8_000_000
"""Calls at the start of a block are discarded for so long with several threads, if the protocol
discards any. Of two threads that wake on one CPU, the scheduler moves one to an idle CPU only at
the end of a time slice; blocks began with 3 to 10 ms of that."""


class Conversation(Protocol):
    """What a job needs of a worker. Besides a :class:`~latbench.worker.client.WorkerClient` it may
    be one that is rehearsed or replayed."""

    def ask(
        self, request: messages.RequestMessage, expect: type[A], *, stage: Stage, timeout_s: float
    ) -> A:
        """Return the response. Raises :class:`StageError`."""
        ...

    def pause(self) -> None:
        """Stop the worker until the next request."""
        ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model that can be timed: an artifact on a backend, with its settings."""

    backend: str
    artifact: Artifact
    path: PurePath
    """The artifact on the device."""
    reference: Path
    """``.npz`` file, on this machine, of the outputs that the seeded inputs must produce."""
    inputs: PurePath | None = None
    """``.npz`` file, on the device, of the inputs that come from files; ``None`` if there are none.
    """
    cpus: tuple[int, ...] | None = None
    """CPUs that the worker restricts itself to; ``None``: no restriction."""
    tolerance: float | None = None
    """Relative error of outputs that the user accepts; ``None`` for that of the precision."""
    threads: int
    seed: int
    extra: dict[str, str]
    required: RequiredUnits = field(default_factory=RequiredUnits)

    def request(self, *, process: int, pinned: bool = False) -> messages.Open:
        """Return the request with which a worker loads the job."""
        return messages.Open(
            backend=self.backend,
            artifact=self.artifact,
            path=str(self.path),
            inputs=None if self.inputs is None else str(self.inputs),
            threads=self.threads,
            seed=self.seed,
            process=process,
            extra=self.extra,
            pinned=pinned,
            cpus=self.cpus,
        )


class JobRun:
    """A job being timed. Whatever ends it, :attr:`traces` holds what was measured until then.

    ``clock`` returns the nanoseconds by which the timing is limited.
    """

    def __init__(
        self,
        job: Job,
        protocol: TimingProtocol,
        timeout_s: float,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        self._job = job
        self._now = clock
        self._protocol = protocol
        self._timeout_s = timeout_s
        self._worker: Conversation | None = None
        self._done: list[Trace] = []
        self._current: _TraceSoFar | None = None
        self.checks: list[OutputCheck] = []
        self.runtime: Runtime | None = None
        self.failure: StageError | None = None
        self.counted = 0
        """Calls of the current session, without the discarded ones."""
        self.timed_ns = 0
        self.typical_ns = 1
        self.least_ns = protocol.min_ns
        """Least timed duration of the current session."""
        self.known_warmup: int | None = None
        """Calls after which earlier sessions were warm, so that none of them is searched for again;
        ``None``: unknown."""

    @property
    def job(self) -> Job:
        """The job."""
        return self._job

    @property
    def traces(self) -> tuple[Trace, ...]:
        """Traces of the finished sessions, and of the open one."""
        return (*self._done, *(() if self._current is None else (self._current.value(),)))

    def start(self, worker: Conversation) -> None:
        """Use ``worker`` from now on."""
        self._worker = worker

    def open(self, process: int, session: int, begun_ns: int) -> None:
        """Load the model and run its first inference."""
        self.load(process, session, begun_ns)
        self.run_first()

    def load(self, process: int, session: int, begun_ns: int) -> None:
        """Load the model."""
        job, protocol = self._job, self._protocol
        request = job.request(process=process, pinned=protocol.pinned)
        opened = self._ask(request, messages.SessionOpened, "open")
        with self._blamed():
            if opened.load_ns < 0:
                raise _backwards("open", opened.load_ns, "loading the model")
        self.runtime = Runtime(
            name=job.backend,
            version=opened.version,
            settings=dict(opened.settings),
            placement=opened.placement,
        )
        with self._blamed():
            _check_cpus(job.cpus, opened.settings)
            job.required.check(job.backend, opened.placement)
        self._current = _TraceSoFar(process, session, self._now() - begun_ns, opened.load_ns)

    def run_first(self) -> None:
        """Run the first inference."""
        trace = self._live()
        trace.first_ns = self._time(1, "warmup").sample_ns[0]
        self.counted, self.timed_ns, self.typical_ns = 0, 0, trace.first_ns

    def warm_up(self, left_ns: int | None) -> None:
        """Warm up for the protocol's time, or until the samples no longer change.

        The warm-up takes at most ``left_ns`` unless that is ``None``; a model that needs little
        time to get warm gets it even so.
        """
        trace = self._live()
        limit = self._protocol.warmup_limit_ns
        spent = trace.first_ns or 0
        if left_ns is not None:
            least = WARM_NS if self.typical_ns < WARM_NS else 0
            limit = min(limit, spent + max(left_ns, least))
        while spent < limit and (calls := self._warmup_calls(spent)):
            spent += self.warm_by(calls_that_fit(calls, self.typical_ns, limit - spent))

    def warm_by(self, calls: int) -> int:
        """Run ``calls`` calls of the warm-up; return the nanoseconds that they took."""
        begun = self._now()
        timed = self._time(calls, "warmup").sample_ns
        self._live().warmup_ns += timed
        # Only the latest calls: the first ones may have been many times slower.
        self.typical_ns = round(median(timed[-20:]))
        # Wall-clock time counts too: gaps take time, and a broken runner may report zeros.
        return max(sum(timed), self._now() - begun)

    def _warmup_calls(self, spent_ns: int) -> int:
        """Number of calls before the next analysis; 0 once it is warm."""
        import numpy as np

        protocol, samples = self._protocol, self._live().warmup_ns
        if (left := protocol.warmup_calls - len(samples)) > 0:
            return left
        chunk = max(1, WARMUP_CHUNK_NS // max(self.typical_ns, protocol.period_ns or 1, 1))
        chunk = min(chunk, protocol.block_calls)
        if (short := protocol.warmup_ns - spent_ns) > 0:
            return max(1, min(chunk, -(-short // max(self.typical_ns, 1))))
        if self.known_warmup is not None:
            return max(0, self.known_warmup - len(samples))
        if protocol.warmup == "fixed":
            return 0
        few = len(samples) < FEWEST_SAMPLES and spent_ns < WARM_NS
        end = warmup_end(np.asarray(samples, dtype=np.float64))
        if few or end is None or len(samples) < SEEN * end:
            return chunk
        # A slow decline looks like a short warm-up, or like none, until much more is observed.
        rest = samples[end:]
        if len(rest) < 2:
            return 0
        earlier, later = median(rest[: len(rest) // 2]), median(rest[len(rest) // 2 :])
        return chunk if earlier > DECLINE * later else 0

    def block(self, calls: int) -> None:
        """Time one block of ``calls`` calls, and the discarded ones before them."""
        self.time_block(calls, self._settle_calls())

    def time_block(self, calls: int, settle: int) -> None:
        """Time one block of ``calls`` calls after ``settle`` discarded ones."""
        begun = self._now()
        timed = self._time(calls + settle, "time", settle)
        block = Block(
            start_ns=timed.start_ns,
            sample_ns=timed.sample_ns,
            settle_calls=settle,
            readings=timed.readings,
            beside_ns=dict(timed.beside_ns),
        )
        self._live().blocks.append(block)
        self.counted += calls
        self.timed_ns += max(sum(timed.sample_ns), self._now() - begun)
        # Without a warm-up, only the first inference determines the size of the first block.
        self.typical_ns = round(median(timed.sample_ns[settle:]))

    def _settle_calls(self) -> int:
        least = self._protocol.settle_calls
        if not least or self._job.threads == 1:
            return least
        wanted = max(least, -(-SPREAD_NS // max(self.typical_ns, 1)))
        return min(wanted, self._protocol.block_calls)

    def cold(self) -> bool:
        """Whether the session's samples so far would not count, because it is not warm."""
        return is_cold(self._live().value(), self._protocol)

    def pause(self) -> None:
        """Stop the worker until the next request."""
        assert self._worker is not None
        self._worker.pause()

    def next_calls(self) -> int:
        """Number of calls of the next block; 0 if the session needs no more."""
        protocol = self._protocol
        calls = protocol.min_calls - self.counted
        short_ns = self.least_ns - self.timed_ns
        if (calls <= 0 and short_ns <= 0) or self.timed_ns >= protocol.max_ns:
            return 0
        whole = block_calls(protocol, self.typical_ns)
        if protocol.block_ns is None or self.least_ns == 0:
            whole = min(whole, max(calls, -(-short_ns // max(self.typical_ns, 1))))
        return calls_that_fit(whole, self.typical_ns, protocol.max_ns - self.timed_ns)

    def whole_block(self) -> int:
        """Calls of a block while only another part needs more."""
        return block_calls(self._protocol, self.typical_ns)

    def expected_blocks(self) -> int:
        """Estimated number of blocks of a session."""
        protocol = self._protocol
        calls = block_calls(protocol, self.typical_ns)
        by_time = -(-self.least_ns // max(calls * self.typical_ns, 1))
        by_limit = -(-protocol.max_ns // max(calls * self.typical_ns, 1))
        return max(1, min(max(-(-protocol.min_calls // calls), by_time), by_limit))

    def check_outputs(self) -> None:
        """Compare the outputs of the timed session with the reference, and end its trace."""
        with self._blamed():
            self._check_outputs()
        self._done.append(self._live().value())
        self._current = None

    def drop_session(self) -> None:
        """Forget the current session, which did not get as far as a block, and its failure."""
        self._current, self.failure = None, None

    def close(self) -> None:
        """Close the worker."""
        self._ask(messages.Close(), messages.Closed, "outputs")

    def _check_outputs(self) -> None:
        trace = self._live()
        given = self._ask(messages.Outputs(), messages.OutputsGiven, "outputs")
        trace.peak_rss_bytes = given.peak_rss_bytes
        arrays = tuple(_array(tensor) for tensor in given.tensors)
        expected = read_arrays(self._job.reference, "outputs", "the outputs to compare with")
        reference = tuple(expected.values())
        near = cosine(reference, arrays)
        assert self.runtime is not None
        settings = self.runtime.settings
        # A runtime may compute in a lower precision than the file's, or take inputs rounded to 8
        # bits (images); its settings report that. The file says if outputs are rounded to 16.
        halved = self._job.artifact.details.get("output_bits") == "16"
        rounded = "fp16" if halved or settings.get("input_bits") == "8" else "fp32"
        precision = max(
            (self._job.artifact.precision, settings.get("precision", "fp32"), rounded),
            key=tolerance_of,
        )
        found = output_difference(reference, arrays, precision, self._job.tolerance)
        self.checks.append(
            OutputCheck(
                process=trace.process,
                finite=finite(arrays),
                denormals=denormals(arrays),
                max_rel_error=found.relative if isfinite(found.relative) else None,
                tolerance=found.bound,
                cosine=near,
            )
        )
        if "unchecked" in self._job.artifact.details:
            return
        problem = "the outputs of the timed session are wrong"
        check_outputs(found, near, precision, "outputs", problem, self._job.tolerance)

    def _time(
        self, calls: int, stage: Literal["warmup", "time"], settle: int = 0
    ) -> messages.BlockTimed:
        request = messages.Time(calls=calls, settle=settle, period_ns=self._protocol.period_ns)
        timed = self._ask(request, messages.BlockTimed, stage)
        with self._blamed():
            _check_times(timed, calls, stage)
        return timed

    def _ask(
        self,
        request: messages.RequestMessage,
        expect: type[A],
        stage: Literal["open", "warmup", "time", "outputs"],
    ) -> A:
        assert self._worker is not None
        with self._blamed():
            return self._worker.ask(request, expect, stage=stage, timeout_s=self._timeout_s)

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Remember a failure, to know which of several parts failed."""
        try:
            yield
        except StageError as error:
            self.failure = error
            raise

    def _live(self) -> _TraceSoFar:
        assert self._current is not None
        return self._current


def _check_cpus(cpus: tuple[int, ...] | None, settings: Mapping[str, str]) -> None:
    """Refuse a worker that did not restrict itself. Raises :class:`StageError`."""
    if cpus is None:
        return
    told = settings.get(CPUS_SETTING, "")
    # Protocols that pin a worker use some of them only.
    if not numbers_of(told) or not set(numbers_of(told)) <= set(cpus):
        raise StageError(
            "open",
            f"the worker runs on {f'the CPUs {told}' if told else 'all CPUs'} instead of "
            f"{cpu_list(sorted(cpus))}",
            hint="it may not know --cpus: latbench devices install ID puts today's worker there",
            kind="unavailable",
        )


def _check_times(timed: messages.BlockTimed, calls: int, stage: Stage) -> None:
    """Refuse times that cannot be right. Raises :class:`StageError`."""
    if len(timed.sample_ns) != calls:
        raise StageError(
            stage, f"the runner returned {len(timed.sample_ns)} times instead of {calls}"
        )
    if min(timed.sample_ns) < 0:
        raise _backwards(stage, min(timed.sample_ns), "one inference")
    if timed.start_ns < 0:
        raise _backwards(stage, timed.start_ns, "the start of the block")
    for name, values in timed.beside_ns.items():
        if len(values) != calls or not 0 <= min(values) <= max(values) < LONGEST_NS:
            raise StageError(
                stage, f"the runner's other clock {name!r} does not return {calls} valid times"
            )
    if max(timed.sample_ns) >= LONGEST_NS:
        raise StageError(stage, f"the runner reported an inference of {max(timed.sample_ns)} ns")


def _backwards(stage: Stage, ns: int, action: str) -> StageError:
    return StageError(
        stage,
        f"the clock went backwards: {action} took {ns} ns",
        hint="the runner's clock must be monotonic",
    )


class _TraceSoFar:
    """The trace of the session being timed."""

    def __init__(self, process: int, session: int, opened_ns: int, load_ns: int) -> None:
        self.process = process
        self._session = session
        self._opened_ns = opened_ns
        self._load_ns = load_ns
        self.first_ns: int | None = None
        self.warmup_ns: tuple[int, ...] = ()
        self.blocks: list[Block] = []
        self.peak_rss_bytes: int | None = None

    def value(self) -> Trace:
        return Trace(
            process=self.process,
            session=self._session,
            opened_ns=self._opened_ns,
            load_ns=self._load_ns,
            first_ns=self.first_ns,
            warmup_ns=self.warmup_ns,
            blocks=tuple(self.blocks),
            peak_rss_bytes=self.peak_rss_bytes,
        )


def _array(tensor: messages.Tensor) -> Array:
    """The array that a worker sent. Raises :class:`StageError` if it is not one of numbers."""
    import numpy as np

    try:
        dtype = np.dtype(tensor.dtype)
        if dtype.type is np.void or dtype.kind in "OSUMm":
            raise TypeError(f"{tensor.dtype!r} is not a type of numbers")
        return np.frombuffer(tensor.data, dtype=dtype.newbyteorder("<")).reshape(tensor.shape)
    except (TypeError, ValueError, SyntaxError, OverflowError) as error:
        raise StageError(
            "outputs",
            f"an output of the worker is not an array: {first_line(error)}",
            hint="shape, type and bytes must fit together (docs/PROTOCOL.md)",
        ) from error
