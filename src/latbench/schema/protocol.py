"""Timing protocols as data: latbench's own and those of other tools.

A protocol is a named, versioned value. A record stores it *resolved*, with its hash, because the
meaning of a tool's command can change between versions. :mod:`latbench.bench.executor` executes a
protocol, and :mod:`latbench.analysis.summary` computes its statistic.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from latbench.schema.value import Value

MS = 1_000_000
S = 1_000_000_000


class Statistic(Value, frozen=True, kw_only=True):
    """How a value is computed from the samples.

    ``median``: median of the processes' medians. ``last level``: median of the medians of their
    last levels, if the latency changes during the run. ``mean`` and ``quantile``: over all samples.
    ``throughput``: images per second, from the mean. ``cold``: median over processes of load time
    plus first inference.
    """

    kind: Literal["median", "last level", "mean", "quantile", "throughput", "cold"]
    quantile_milli: int | None = None
    trim_low: int = 0
    """Number of lowest samples of each session that are dropped first."""
    trim_high: int = 0


class TimingProtocol(Value, frozen=True, kw_only=True):
    """A load pattern with its warm-up, stopping rule and statistic.

    A run has processes; a process has sessions, each of which loads the model; a session has the
    first inference, warm-up, and blocks of back-to-back calls.
    """

    name: str
    version: int
    what: str
    source: str
    assumed: tuple[str, ...] = ()
    """Assumptions for what the source leaves open."""

    processes: int
    """Least number of new processes."""
    max_processes: int
    """Largest number of processes, if ``target_ppm`` is not reached with fewer."""
    sessions: int = 1
    """Number of times that each process loads the model."""
    max_sessions: int | msgspec.UnsetType = msgspec.UNSET
    """Largest number of loads of a process in a run that finds its own sizes. The first process
    has ``sessions`` loads; later ones have as many, and as long ones, as are cheapest for the
    costs and variances found so far (:mod:`latbench.analysis.sizes`), at least two of at least
    ``min_ns``. The sentinel's share of a round is found too, up to ``sentinel_ns``. Unset: each
    process has ``sessions`` loads of the same size."""
    threads: int | None = None
    """Number of threads if the source states it; the request can override it."""
    pinned: bool = False
    """Whether a process is limited to as many CPUs as it has threads."""

    warmup: Literal["fixed", "found"]
    """``fixed``: warm-up ends by the fields below. ``found``: it ends when the samples no longer
    change, but not before these limits."""
    warmup_calls: int
    """Least number of calls after the first inference, which is always stored separately."""
    warmup_ns: int = 0
    """Least duration, including the first inference."""
    warmup_limit_ns: int
    """Largest duration, even if the end of warm-up was not detected."""

    period_ns: int | None = None
    """Time from the start of one inference to the next; ``None``: back to back."""
    block_calls: int
    """Largest number of calls in a block. Readings are taken and models alternate between
    blocks."""
    block_ns: int | None = None
    """Approximate duration of a block if that is fewer calls; ``None``: always ``block_calls``."""
    settle_calls: int = 0
    """Discarded calls at the start of each block: timed and stored, but not counted, because the
    caches hold another model's data. On ONNX Runtime the first call of a block was 5 to 13 %
    slower, the second 1 %."""
    min_calls: int
    """Least number of counted calls in a session."""
    min_ns: int = 0
    """Least timed duration of a session."""
    max_ns: int
    """Timed duration after which a session does not start another block."""

    target_ppm: int | None = None
    """Target half-width of the interval, in millionths of the latency."""
    budget_ns: int | None = None
    """Total duration, including process starts, after which no other session starts."""
    sentinel_ns: int | None = None
    """Duration of the sentinel in each round; ``None``: no sentinel."""

    statistic: Statistic
    clock: str = "perf_counter_ns"
    timed_region: str = (
        "one synchronous inference; inputs resident; ends when the outputs can be read"
    )

    @property
    def label(self) -> str:
        """The protocol's name and version: ``name@version``."""
        return f"{self.name}@{self.version}"


def protocol_sha256(protocol: TimingProtocol) -> str:
    """Return the hexadecimal SHA-256 of the canonical JSON of the resolved protocol."""
    return hashlib.sha256(msgspec.json.encode(protocol, order="sorted")).hexdigest()


def calls_that_fit(calls: int, call_ns: int, left_ns: int) -> int:
    """Return how many of ``calls`` calls of ``call_ns`` fit into ``left_ns``, at least one.

    A model that takes seconds must not run for an hour with a protocol designed for milliseconds.
    """
    return max(1, min(calls, left_ns // max(call_ns, 1)))


def block_calls(protocol: TimingProtocol, call_ns: int) -> int:
    """Return the calls per block for a model that takes about ``call_ns``.

    A block with discarded calls has at least four times as many counted calls, so that the
    discarded ones are a small part of it.
    """
    if protocol.block_ns is None:
        return protocol.block_calls
    fewest = max(1, 4 * protocol.settle_calls)
    wanted = max(fewest, protocol.block_ns // max(call_ns, protocol.period_ns or 1, 1))
    return min(protocol.block_calls, wanted)
