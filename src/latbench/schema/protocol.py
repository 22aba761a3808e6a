"""How a number is taken: protocols as data, ours and those that others' numbers were taken by.

A protocol is a named, versioned value. A record stores it *resolved*, with its hash, because the
same command of a tool means something else a version later. Nothing here executes anything:
:mod:`latbench.bench.executor` carries a protocol out, :mod:`latbench.analysis.summary` computes
its statistic.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from latbench.schema.value import Value

MS = 1_000_000
S = 1_000_000_000


class Statistic(Value, frozen=True, kw_only=True):
    """What is made of the samples.

    ``median``: of the processes' medians. ``last level``: of the medians of their last levels,
    where the latency changes while it is timed. ``mean`` and ``quantile``: of all samples together.
    ``throughput``: images per second, from the mean. ``cold``: load time and first inference
    together, the median over processes.
    """

    kind: Literal["median", "last level", "mean", "quantile", "throughput", "cold"]
    quantile_milli: int | None = None
    trim_low: int = 0
    """How many of the lowest samples of each session are left out first."""
    trim_high: int = 0


class TimingProtocol(Value, frozen=True, kw_only=True):
    """A load pattern, what is left out, when to stop, and what is made of it.

    A run is processes; a process is sessions (the model loaded anew); a session is the first
    inference, warm-up, and blocks of back-to-back calls.
    """

    name: str
    version: int
    what: str
    source: str
    assumed: tuple[str, ...] = ()
    """What the source leaves open, and what was taken for it."""

    processes: int
    """Fresh processes, at least."""
    max_processes: int
    """As many at most, where ``target_ppm`` is not reached with fewer."""
    sessions: int = 1
    """How often each process loads the model."""
    threads: int | None = None
    """Where the source says it: as many, unless the request names another number."""
    pinned: bool = False
    """Whether a process may use only as many CPUs as it has threads."""

    warmup: Literal["fixed", "found"]
    """Whether warm-up ends as said below, or when the samples no longer change, but not before."""
    warmup_calls: int
    """At least so many calls after the first inference, which is always kept apart."""
    warmup_ns: int = 0
    """At least so long, the first inference included."""
    warmup_limit_ns: int
    """And no longer, found or not."""

    period_ns: int | None = None
    """From the start of one inference to the next; ``None``: back to back."""
    block_calls: int
    """Calls in a block at most; readings are taken and models alternate between blocks."""
    block_ns: int | None = None
    """A block takes about so long, if that is fewer calls; ``None``: always ``block_calls``."""
    settle_calls: int = 0
    """Calls at the start of each block that are timed and kept, not counted: another model's data
    were in the caches before. The first call of a block was 5 to 13 % slower on ONNX Runtime, the
    second 1 %."""
    min_calls: int
    """A session goes on until it has so many counted calls ..."""
    min_ns: int = 0
    """... and has timed for so long ..."""
    max_ns: int
    """... but begins no new block after it has timed for so long."""

    target_ppm: int | None = None
    """Half-width of the interval to reach, in millionths of the latency."""
    budget_ns: int | None = None
    """Begin nothing new after so long, process starts included."""
    sentinel_ns: int | None = None
    """The sentinel's share of each round; ``None``: no sentinel."""

    statistic: Statistic
    clock: str = "perf_counter_ns"
    timed_region: str = (
        "one synchronous inference; inputs resident; ends when the outputs can be read"
    )

    @property
    def label(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


def protocol_sha256(protocol: TimingProtocol) -> str:
    """Hexadecimal SHA-256 of the canonical JSON of the resolved protocol."""
    return hashlib.sha256(msgspec.json.encode(protocol, order="sorted")).hexdigest()


def calls_that_fit(calls: int, call_ns: int, left_ns: int) -> int:
    """How many of ``calls`` calls of ``call_ns`` each fit into ``left_ns``, at least one.

    A model of seconds must not take an hour because the protocol was written for milliseconds.
    """
    return max(1, min(calls, left_ns // max(call_ns, 1)))


def block_calls(protocol: TimingProtocol, call_ns: int) -> int:
    """Calls of a block, for a model that takes about ``call_ns``.

    Where a block begins with settling calls, never fewer than four times as many after them: they
    would otherwise be a large part of it.
    """
    if protocol.block_ns is None:
        return protocol.block_calls
    fewest = max(1, 4 * protocol.settle_calls)
    wanted = max(fewest, protocol.block_ns // max(call_ns, protocol.period_ns or 1, 1))
    return min(protocol.block_calls, wanted)
