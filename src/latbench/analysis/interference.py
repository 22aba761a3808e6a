"""Which blocks something else disturbed, by rules that look at readings and never at the block's
own samples: leaving out what was slow would make any number look good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from latbench.analysis.stats import quantile
from latbench.schema.record import Record
from latbench.schema.trace import Readings, Trace

WAIT = 0.02
"""Share of a block that the worker's threads, together, waited for a CPU."""
STEAL = 0.10
"""Share of the CPUs' time taken by the hypervisor."""
TICKS_NS = 20_000_000
"""Two ticks of the kernel's counter: one may be of before the block."""
SPARE = 0.25
"""CPUs by which the worker's threads and everything else together may exceed the machine's."""
SWITCHES_PER_S = 50
"""Involuntary switches; the rule where run-queue wait is not known."""
SLOWER = 0.9
"""Share of the run's highest frequency below which the CPUs count as slowed down."""
SENTINEL = 1.10
"""How much slower than undisturbed the sentinel may be beside a block."""

Marks = tuple[tuple[frozenset[str], ...], ...]
"""For each trace, for each of its blocks, why it counts as disturbed; empty: it does not."""


def disturbed(record: Record) -> Marks:
    """Why each block of the model counts as disturbed."""
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
    beside = _slow_sentinel(record.outcome.sentinel)
    cpus = record.environment.machine.logical_cpus or record.environment.before.usable_cpus
    return tuple(
        tuple(
            frozenset(
                (*_by_readings(block.readings, cpus, highest), *beside.get(_place(trace, i), ()))
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
        # What the worker would have used; others alone are no disturbance while there are CPUs
        # to spare. All that is busy cannot exceed the CPUs, hence the threads and not their time.
        threads = max(1, round((readings.cpu_ns + (readings.wait_ns or 0)) / wall))
        if readings.others_ns > max(cpus - threads + SPARE, SPARE) * wall:
            reasons.append("others used the CPUs")
    if readings.frequency_khz is not None and readings.frequency_khz < SLOWER * highest_khz:
        reasons.append("the CPUs were clocked down")
    return reasons


def _slow_sentinel(traces: Sequence[Trace]) -> Mapping[tuple[int, int, int], Sequence[str]]:
    """Places at which the sentinel, which does the same work each time, was slow."""
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
