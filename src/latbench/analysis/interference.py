"""Find blocks that were disturbed by something else.

The rules use readings and never the block's own samples, because dropping slow samples would bias
the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from latbench.analysis.stats import quantile
from latbench.schema.record import Record
from latbench.schema.thermal import is_throttled
from latbench.schema.trace import UNDER_VOLTAGE, Readings, Trace

WAIT = 0.02
"""Share of a block's time that the worker's threads together may wait for a CPU."""
STEAL = 0.10
"""Share of the CPUs' time that the hypervisor may take."""
TICKS_NS = 20_000_000
"""Two ticks of the kernel's counter, because one may belong to the time before the block."""
SPARE = 0.25
"""Number of CPUs by which the worker's threads and other load together may exceed the machine's."""
SWITCHES_PER_S = 50
"""Limit of involuntary context switches, used if the run-queue wait is unknown."""
SLOWER = 0.9
"""Share of the run's highest frequency below which the CPUs count as slowed down."""
SENTINEL = 1.10
"""Limit of the sentinel's latency next to a block, relative to its best case."""

Marks = tuple[tuple[frozenset[str], ...], ...]
"""Reasons why each block of each trace counts as disturbed; empty if it does not."""


def disturbed(record: Record) -> Marks:
    """Return the reasons why each block of the model counts as disturbed."""
    traces = record.outcome.traces
    highest = max(
        (
            block.readings.frequency_khz or 0
            for trace in traces
            for block in trace.blocks
            if block.readings is not None
        ),
        default=0,
    )
    slow = _slow_sentinel(record.outcome.sentinel)
    machine, before = record.environment.machine, record.environment.before
    cpus = machine.logical_cpus or before.usable_cpus or 1
    return tuple(
        tuple(
            frozenset(
                (*_by_readings(block.readings, cpus, highest), *slow.get(_place(trace, i), ()))
            )
            for i, block in enumerate(trace.blocks)
        )
        for trace in traces
    )


def _by_readings(readings: Readings | None, cpus: int, highest_khz: int) -> Sequence[str]:
    if readings is None or readings.wall_ns <= 0:
        return ()
    wall = readings.wall_ns
    reasons = []
    if readings.wait_ns is not None:
        if readings.wait_ns > WAIT * wall:
            reasons.append("waited for a CPU")
    elif (readings.involuntary_switches or 0) * 1e9 > SWITCHES_PER_S * wall:
        reasons.append("was switched out")
    if (readings.steal_ns or 0) >= max(TICKS_NS, STEAL * wall * cpus):
        reasons.append("the hypervisor took CPU time")
    if readings.throttled_ns:
        reasons.append("the CPU quota throttled it")
    if readings.others_ns is not None and readings.cpu_ns is not None:
        # Other load is not a disturbance while CPUs are idle. Count the worker's threads and not
        # their CPU time, because the total CPU time cannot exceed the number of CPUs.
        threads = max(1, round((readings.cpu_ns + (readings.wait_ns or 0)) / wall))
        if readings.others_ns > max(cpus - threads + SPARE, SPARE) * wall:
            reasons.append("others used the CPUs")
    if readings.frequency_khz is not None and readings.frequency_khz < SLOWER * highest_khz:
        reasons.append("the CPUs were clocked down")
    flags = readings.throttle_flags or 0
    throttled = readings.throttle_events or readings.throttle_ms or readings.cooling_state
    if throttled or flags & ~UNDER_VOLTAGE or is_throttled(readings.thermal_status):
        reasons.append("the device throttled itself")
    if flags & UNDER_VOLTAGE:
        reasons.append("the supply voltage was too low")
    return reasons


def _slow_sentinel(traces: Sequence[Trace]) -> Mapping[tuple[int, int, int], Sequence[str]]:
    """Return the blocks next to which the sentinel, whose work never changes, was slow."""
    import numpy as np

    medians = {
        _place(trace, i): median(ns)
        for trace in traces
        for i, block in enumerate(trace.blocks)
        if (ns := block.sample_ns[block.settle_calls :])
    }
    if not medians:
        return {}
    level = quantile(np.sort(np.asarray(list(medians.values()))), 0.1)
    slow = ("the sentinel was slow",)
    return {place: slow for place, ns in medians.items() if ns > SENTINEL * level}


def _place(trace: Trace, block: int) -> tuple[int, int, int]:
    return trace.process, trace.session, block
