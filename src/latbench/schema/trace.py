"""Measurements of one session: samples, blocks, readings, operator times, placement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from latbench.schema.thermal import ThermalStatus
from latbench.schema.value import Value

MOST_EXAMPLES = 12
"""Operators of a unit that a placement names."""
UNDER_VOLTAGE = 1
"""Bit of a Raspberry Pi's flags. The other ones mean a lower clock: 2 capped, 4 throttled, 8 at the
soft temperature limit."""


class Placement(Value, frozen=True, kw_only=True):
    """The compute units that the operators ran on, and how certain that is."""

    units: dict[str, int | None]
    """Compute unit, execution provider or delegate -> operators placed on it (``None``: not
    known)."""
    known: Literal["proven", "planned", "unknown"]
    """``proven``: observed in a profile, or only one unit is possible. ``planned``: reported by the
    runtime before execution."""
    note: str | None = None
    partitions: int | None = None
    """Number of consecutive groups on the same unit, at least 1; each border may cost a copy."""
    examples: dict[str, tuple[str, ...]] | msgspec.UnsetType = msgspec.UNSET
    """Unit -> names of the first operators on it, at most :data:`MOST_EXAMPLES`."""


def examples_of(operators: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """:attr:`Placement.examples` of the operators, each given as its unit and its name."""
    found: dict[str, list[str]] = {}
    for unit, name in operators:
        names = found.setdefault(unit, [])
        if len(names) < MOST_EXAMPLES:
            names.append(name)
    return {unit: tuple(names) for unit, names in found.items()}


class Capability(Value, frozen=True, kw_only=True):
    """Whether a backend can run here and on which units; otherwise the reason and a hint."""

    available: bool
    version: str | None = None
    units: tuple[str, ...] = ()
    reason: str | None = None
    hint: str | None = None


class Readings(Value, frozen=True, kw_only=True, omit_defaults=True):
    """State of the machine during one block, read just before and just after it.

    Values are differences between the two readings unless noted otherwise.
    """

    wall_ns: int
    cpu_ns: int | None
    """CPU time of the worker, all its threads."""
    wait_ns: int | None
    """Time that the worker's threads were ready to run but had no CPU (Linux: run-queue wait)."""
    involuntary_switches: int | None
    others_ns: int | None
    """CPU time of everything else on the machine, over all CPUs; resolution about 10 ms."""
    steal_ns: int | None
    """CPU time that the hypervisor gave to others, over all CPUs; resolution about 10 ms."""
    throttled_ns: int | None
    frequency_khz: int | None
    """Frequency of the fastest CPU after the block, because idle CPUs clock down."""
    temperature_mc: int | None
    """The hottest CPU sensor, after the block."""
    cluster_khz: tuple[int, ...] | None = None
    """Frequency of each group of CPUs that share a clock, after the block, where there are
    several."""
    throttle_events: int | None = None
    """How often the system counted that it throttled the device."""
    throttle_ms: int | None = None
    """How long it had throttled the device, which it adds at the end of each such time."""
    throttle_flags: int | None = None
    """What a Raspberry Pi reported before, after or of the time in between: bit 0 under-voltage, 1
    clock capped, 2 throttled, 3 soft temperature limit."""
    cooling_state: int | None = None
    """The highest state, at either reading, of what slows the device down to cool it; 0: none
    does."""
    thermal_status: ThermalStatus | None = None
    """What the operating system reported about heat after the block; ``None`` also while the
    status is faked."""
    skin_temperature_mc: int | None = None
    """The hottest sensor of a phone's skin, after the block."""


class Block(Value, frozen=True, kw_only=True):
    """Back-to-back inferences. ``start_ns`` is relative to the opening of the session."""

    start_ns: int
    sample_ns: tuple[int, ...]
    settle_calls: int = 0
    """Number of discarded first samples, which follow another program's or model's work."""
    readings: Readings | None = None
    beside_ns: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """Times of the same inferences from other clocks, by name: ``call`` (around the call from the
    host), ``device`` (from the device itself), ``transfers`` (copies in and out). They are used
    only for values with the same name."""


class Trace(Value, frozen=True, kw_only=True):
    """Times measured in one session, in order."""

    process: int
    session: int = 0
    """Index of the session in its process, from 0: some protocols reload the model."""
    opened_ns: int | None = None
    """Time at which the session was open, since the start of the run."""
    load_ns: int
    first_ns: int | None
    warmup_ns: tuple[int, ...]
    blocks: tuple[Block, ...]
    peak_rss_bytes: int | None


class OperatorTime(Value, frozen=True, kw_only=True):
    """One operator of a profiled inference."""

    name: str
    kind: str
    """The runtime's name for the kind: ``Conv``, ``XNNPACK GEMM``, …"""
    time_ns: int
    """Mean over the profiled calls."""
    unit: str | None = None
    precision: str | None = None


class Profile(Value, frozen=True, kw_only=True):
    """Time per operator, measured after and separately from the timed samples."""

    source: str
    """The profiler, with its version."""
    calls: int
    total_ns: int
    """Mean of the profiled inferences; operators need not sum to it."""
    operators: tuple[OperatorTime, ...]
    """In the order of execution."""


class PlannedOperator(Value, frozen=True, kw_only=True):
    """One operator of a plan, which says where it is expected to run; nothing was measured."""

    name: str
    kind: str
    unit: str
    cost_ppm: int | None
    """Its share of the estimated cost of an inference, in millionths."""


class OperatorPlan(Value, frozen=True, kw_only=True):
    """What a runtime expects of each operator, where it cannot measure them."""

    source: str
    operators: tuple[PlannedOperator, ...]
    """In the order of execution."""


class OutputCheck(Value, frozen=True, kw_only=True):
    """Check of the timed session's outputs after timing."""

    process: int
    finite: bool
    denormals: int
    max_rel_error: float | None
    """Error relative to the reference; ``None`` if shapes differ or values are not finite."""
    tolerance: float
    cosine: float | None = None
