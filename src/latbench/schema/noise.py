"""What ``latbench doctor --noise`` measures on a machine, and what it concludes."""

from __future__ import annotations

from latbench.schema.trace import Readings
from latbench.schema.value import Value


class NoiseSlice(Value, frozen=True, kw_only=True):
    """Fixed work, repeated on one CPU for about 0.1 s."""

    cpu: int | None
    """Number of the CPU; ``None`` where a thread cannot be bound to one."""
    probe_ns: tuple[int, ...]
    """Duration of each repetition."""
    readings: Readings
    sleep_late_ns: int
    """How much longer than asked for a sleep of 1 ms lasted."""
    clock_step_ns: int
    """How far the calendar clock moved against the monotonic one."""


class NoiseSettings(Value, frozen=True, kw_only=True):
    """Settings of the system that make latencies vary; ``None``: unknown."""

    governors: tuple[str, ...] | None = None
    turbo: bool | None = None
    smt: bool | None = None
    hypervisor: str | None = None
    timer_slack_ns: int | None = None
    huge_pages: str | None = None
    """Transparent huge pages: ``always``, ``madvise`` or ``never``."""
    clock_source: str | None = None


class NoiseCause(Value, frozen=True, kw_only=True):
    """Something that makes latencies vary here."""

    cause: str
    found: str
    """What was measured, with its unit."""
    advice: str


class NoiseReport(Value, frozen=True, kw_only=True):
    """What a machine can do for measurements."""

    seconds: float
    """Time that the probe took."""
    smallest_difference: float | None
    """Relative difference of two models that a comparison of ``comparison_s`` finds in 4 of 5
    cases, if the models vary as little as the probe does; ``None``: too few slices."""
    comparison_s: float
    causes: tuple[NoiseCause, ...]
    """The one that costs the most first."""
    settings: NoiseSettings
