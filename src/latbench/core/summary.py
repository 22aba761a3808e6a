"""What a record says: a pure function of its traces and conditions, computed each time it is shown.

The estimator is deliberately simple. The *typical latency* is the median, over processes, of each
process's median. Processes are the level at which repeated runs on one machine differ (Kalibera &
Jones 2013, ISMM), so the interval is taken over them: order statistics of the process medians,
which assume only that the processes are independent and alike (Hahn & Meeker 1991, *Statistical
Intervals*, section 5.2). With six processes the smallest and the largest cover the median with
96.9 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import median
from typing import Literal

from latbench.core.records import Record, Trace, Value

CONFIDENCE = 0.95
DISAGREEMENT = 0.05
"""Half-width of the interval, relative to the median, above which the processes disagree."""
DRIFT = 0.05
"""Relative change from the first to the last third of a process that counts as drift."""
STEAL = 0.02
"""Share of the usable CPUs' time taken by the hypervisor above which a run is disturbed."""


class Summary(Value, frozen=True, kw_only=True):
    """Figures in nanoseconds; ``None`` where the samples do not support one."""

    processes: int
    samples: int
    median_ns: int
    interval_ns: tuple[int, int] | None
    confidence: float | None
    """What the interval really covers, at least :data:`CONFIDENCE`."""
    p10_ns: int
    p90_ns: int
    process_median_ns: tuple[int, ...]
    load_ns: int
    first_ns: int
    trust: Literal["yes", "no", "cannot tell"]
    reasons: tuple[str, ...]


def summarise(record: Record) -> Summary | None:
    """The summary, or ``None`` where not one timed sample is there."""
    traces = [trace for trace in record.outcome.traces if trace.blocks]
    if not traces:
        return None
    medians = tuple(round(median(samples(trace))) for trace in traces)
    pooled = sorted(ns for trace in traces for ns in samples(trace))
    interval, confidence = _interval(medians)
    typical = round(median(medians))
    against = tuple(_reasons_against(record, traces, typical, interval))
    return Summary(
        processes=len(traces),
        samples=len(pooled),
        median_ns=typical,
        interval_ns=interval,
        confidence=confidence,
        p10_ns=_quantile(pooled, 0.1),
        p90_ns=_quantile(pooled, 0.9),
        process_median_ns=medians,
        load_ns=round(median(trace.load_ns for trace in traces)),
        first_ns=round(median(trace.first_ns for trace in traces if trace.first_ns is not None)),
        trust="no" if against else "yes" if interval else "cannot tell",
        reasons=against or (() if interval else (_too_few(len(traces)),)),
    )


def typical_ns(record: Record) -> int | None:
    """The typical latency of a measured record; ``None`` for a failed or interrupted one."""
    if record.outcome.status != "measured":
        return None
    medians = [median(samples(trace)) for trace in record.outcome.traces if trace.blocks]
    return round(median(medians)) if medians else None


def samples(trace: Trace) -> list[int]:
    """All timed samples of one process, in order, without its warm-up."""
    return [ns for block in trace.blocks for ns in block.sample_ns]


def _interval(medians: Sequence[int]) -> tuple[tuple[int, int] | None, float | None]:
    """The narrowest pair of order statistics, symmetric in rank, that covers the median."""
    ordered, n = sorted(medians), len(medians)
    best: tuple[tuple[int, int] | None, float | None] = (None, None)
    for rank in range((n + 1) // 2):
        covered = 1 - 2 * sum(comb(n, k) for k in range(rank + 1)) / 2**n
        if covered < CONFIDENCE:
            break
        best = (ordered[rank], ordered[n - 1 - rank]), covered
    return best


def _quantile(ordered: Sequence[int], q: float) -> int:
    """The smallest sample that at least ``q`` of all are at or below (Hyndman & Fan 1996, 1)."""
    return ordered[max(0, -(-int(q * 1000) * len(ordered) // 1000) - 1)]


def _too_few(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}: an interval needs at least 6"


def _reasons_against(
    record: Record, traces: Sequence[Trace], typical: int, interval: tuple[int, int] | None
) -> list[str]:
    """Why the number should not be trusted, in plain words; empty where nothing was found."""
    reasons = []
    if record.outcome.status != "measured":
        reasons.append(f"the run was not completed ({record.outcome.status})")
    if interval and interval[1] - interval[0] > 2 * DISAGREEMENT * typical:
        spread = (interval[1] - interval[0]) / typical
        reasons.append(f"processes disagree: their medians span {spread:.0%} of the median")
    drifting = sum(abs(_drift(samples(trace))) > DRIFT for trace in traces)
    if drifting * 2 > len(traces):
        reasons.append(f"not steady: {drifting} of {len(traces)} processes drifted while timed")
    if any(check.denormals for check in record.outcome.checks):
        reasons.append("the outputs hold denormal numbers, which some units compute slowly")
    return reasons + _disturbances(record)


def _drift(values: Sequence[int]) -> float:
    """Relative change of the median from the first third to the last; 0 below 15 samples."""
    third = len(values) // 3
    if third < 5:
        return 0.0
    return median(values[-third:]) / median(values[:third]) - 1


def _disturbances(record: Record) -> list[str]:
    """What the conditions before and after say about the time between them."""
    before, after = record.environment.before, record.environment.after
    reasons = []
    threads = record.runtime.settings.get("threads", "") if record.runtime else ""
    if threads.isdecimal() and int(threads) > before.usable_cpus:
        reasons.append(f"{threads} threads on {before.usable_cpus} usable CPUs")
    if before.on_battery:
        reasons.append("on battery")
    if after is None:
        return reasons
    if (after.throttled_ns or 0) > (before.throttled_ns or 0):
        reasons.append("the control group's CPU quota throttled the run")
    if before.steal_ns is not None and after.steal_ns is not None:
        wall = (after.unix_ns - before.unix_ns) * (record.environment.machine.logical_cpus or 1)
        share = (after.steal_ns - before.steal_ns) / wall if wall > 0 else 0.0
        if share > STEAL:
            reasons.append(f"the hypervisor took {share:.0%} of the CPU time for others")
    return reasons
