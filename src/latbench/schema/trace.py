"""What one session measured: samples, blocks, readings, operator times, placement."""

from __future__ import annotations

from typing import Literal

import msgspec

from latbench.schema.value import Value


class Placement(Value, frozen=True, kw_only=True):
    """What ran where, and how well that is known."""

    units: dict[str, int | None]
    """Compute unit, execution provider or delegate -> operators placed on it (``None``: not
    known)."""
    known: Literal["proven", "planned", "unknown"]
    """``proven``: seen in a profile, or nothing else was there to run on. ``planned``: what the
    runtime says that it will do."""
    note: str | None = None
    partitions: int | None = None
    """Runs of equal unit in the order of execution, 1 at least; each border may cost a copy."""


class Capability(Value, frozen=True, kw_only=True):
    """Whether a backend can run here, with what, and otherwise why not and what to do."""

    available: bool
    version: str | None = None
    units: tuple[str, ...] = ()
    reason: str | None = None
    hint: str | None = None


class Readings(Value, frozen=True, kw_only=True):
    """What the machine did while one block was timed; read just before and just after it.

    Differences between the two, unless a field says otherwise.
    """

    wall_ns: int
    cpu_ns: int | None
    """CPU time of the worker, all its threads."""
    wait_ns: int | None
    """How long the worker's threads were ready to run and had no CPU (Linux: run-queue wait)."""
    involuntary_switches: int | None
    others_ns: int | None
    """CPU time of everything else on the machine, all CPUs; known to some 10 ms."""
    steal_ns: int | None
    """CPU time that the hypervisor gave to others, all CPUs; known to some 10 ms."""
    throttled_ns: int | None
    frequency_khz: int | None
    """Of the fastest CPU, after the block: idle ones clock down and that means nothing."""
    temperature_mc: int | None
    """The hottest CPU sensor, after the block."""


class Block(Value, frozen=True, kw_only=True):
    """Back-to-back inferences. ``start_ns`` counts from the moment the session was open."""

    start_ns: int
    sample_ns: tuple[int, ...]
    settle_calls: int = 0
    """How many of the first samples are not counted: something else ran just before."""
    readings: Readings | None = None
    beside_ns: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """The same inferences by other clocks, by name: ``call`` (around the call from the host),
    ``device`` (by the device itself), ``transfers`` (copies in and out). Nothing is computed from
    them that is not named so."""


class Trace(Value, frozen=True, kw_only=True):
    """What the clock said in one session, in order."""

    process: int
    session: int = 0
    """Which of the process's sessions, from 0: some protocols load the model anew."""
    opened_ns: int | None = None
    """When the session was open, since the run began."""
    load_ns: int
    first_ns: int | None
    warmup_ns: tuple[int, ...]
    blocks: tuple[Block, ...]
    peak_rss_bytes: int | None


class OperatorTime(Value, frozen=True, kw_only=True):
    """One operator of a profiled inference."""

    name: str
    kind: str
    """As the runtime calls it: ``Conv``, ``XNNPACK GEMM``, …"""
    time_ns: int
    """Mean over the profiled calls."""
    unit: str | None = None
    precision: str | None = None


class Profile(Value, frozen=True, kw_only=True):
    """Where the time goes, by operator, taken after and apart from the timed samples."""

    source: str
    """What measured it, with its version."""
    calls: int
    total_ns: int
    """Mean of the profiled inferences; operators need not sum to it."""
    operators: tuple[OperatorTime, ...]
    """In the order of execution."""


class OutputCheck(Value, frozen=True, kw_only=True):
    """The outputs of the timed session, after timing, looked at."""

    process: int
    finite: bool
    denormals: int
    max_rel_error: float | None
    """Against the reference; ``None``: not comparable, for its shape or for what is not finite."""
    tolerance: float
    cosine: float | None = None
