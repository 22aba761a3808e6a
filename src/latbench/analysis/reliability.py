"""Whether to trust a record's number, and why not in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from latbench.analysis.segments import samples
from latbench.analysis.stats import FEWEST, kendall_p
from latbench.analysis.steady_state import FEWEST_SAMPLES
from latbench.schema.environment import Conditions
from latbench.schema.record import Record
from latbench.schema.trace import Trace
from latbench.schema.value import Value

DISAGREEMENT = 0.05
"""Half-width of the interval above which the processes disagree."""
UNSTEADY = 0.25
"""Share of the sessions that may change while they are timed."""
DISTURBED = 1 / 3
"""Share of the blocks that may be disturbed."""
MOVED = 0.03
"""How far the disturbed blocks may move the typical latency."""
GROUPS = 0.03
"""Gap between two groups of processes that matters, relative."""
TREND_P = 0.01
TREND = DISAGREEMENT
"""Change over the run's processes, in their order, that matters."""
CLOCK_STEPS = 0.01
"""Least difference between two samples, relative to the latency."""
MOST_STEAL = 0.02
"""Share of the CPUs' time, over the whole run."""


class Findings(Value, frozen=True, kw_only=True):
    """What a summary found that bears on trust."""

    processes: int
    half_width: float | None
    """Of an interval over processes, of the number that the protocol reports."""
    process_numbers: tuple[float, ...]
    """That number, of each process."""
    too_few: int
    """Sessions with too few samples to look for a warm-up or a change of level."""
    long_warmup: int
    """Sessions whose warm-up is more than a third of their samples."""
    unsteady: int
    """Sessions whose warm-up does not end, or whose level keeps changing."""
    changed: int
    """Sessions with more than one level."""
    drifted: int
    sessions: int
    blocks: int
    disturbed: int
    reasons: Mapping[str, int]
    typical: float
    quiet: float | None
    enough: bool
    """Whether there is an interval that assumes no shape."""


class Judgement(Value, frozen=True, kw_only=True):
    """The answer; ``reasons`` are empty where it is yes."""

    reliability: Literal["reliable", "unreliable", "inconclusive"]
    reasons: tuple[str, ...]


def judge(record: Record, found: Findings) -> Judgement:
    """Yes, no with every reason, or cannot tell."""
    against = (
        *_of_the_outcome(record),
        *_of_the_traces(found),
        *_of_the_neighbours(found),
        *_of_the_conditions(record),
    )
    if against:
        return Judgement(reliability="unreliable", reasons=against)
    if not found.enough:
        few = f"{found.processes} process{'es' if found.processes > 1 else ''}"
        why = f"{few}: an interval that holds beyond them needs at least {FEWEST}"
        return Judgement(reliability="inconclusive", reasons=(why,))
    if found.too_few > UNSTEADY * found.sessions:
        why = f"too few samples to look for a warm-up or a change of level in {found.too_few} of "
        return Judgement(reliability="inconclusive", reasons=(f"{why}{found.sessions} sessions",))
    return Judgement(reliability="reliable", reasons=())


def unsound(record: Record) -> tuple[str, ...]:
    """What spoils a comparison in turn too, which disturbances of both models do not."""
    return (*_of_the_outcome(record), *_of_the_setting(record))


def _of_the_outcome(record: Record) -> Sequence[str]:
    reasons: list[str] = []
    if record.outcome.status != "measured":
        reasons.append("the run was not completed")
    if any(check.denormals for check in record.outcome.checks):
        reasons.append("the outputs hold denormal numbers, which some units compute slowly")
    reasons += clock_faults(record)
    return reasons


def clock_faults(record: Record) -> tuple[str, ...]:
    """What the times themselves say against the clock, with which nothing can be told."""
    traces = record.outcome.traces
    times = [min(b.sample_ns, default=1) for t in traces for b in t.blocks]
    if record.protocol.statistic.kind == "cold":
        times += [t.first_ns for t in traces if t.first_ns is not None]
    least = min(times, default=1)
    if least < 0 or any(_backwards(trace) for trace in traces):
        return ("the clock went backwards",)
    if least == 0:
        return ("some inferences took no time: the clock is too coarse for this model",)
    steps = _coarse_steps(record)
    if steps is None:
        return ()
    return (f"the clock's steps are {steps:.0%} of the latency: it is too coarse for this model",)


def _coarse_steps(record: Record) -> float | None:
    """The clock's steps relative to the latency, where they are more than :data:`CLOCK_STEPS`: the
    least difference between two samples. ``None`` where it is less, there are too few, or no two
    differ."""
    values: list[int] = []
    steps: float | None = None
    for trace in record.outcome.traces:
        values += samples(trace)
        steps = _least_step(values)
        if steps is not None and steps <= CLOCK_STEPS:
            return None  # More samples lie only closer together.
    return steps


def _least_step(values: Sequence[int]) -> float | None:
    import numpy as np

    distinct = np.unique(np.asarray(values, dtype=np.float64))
    if len(values) < FEWEST_SAMPLES or len(distinct) < 2 or distinct[0] <= 0:
        return None
    return float(np.min(np.diff(distinct)) / np.median(values))


def _backwards(trace: Trace) -> bool:
    """Whether a block began before the one before it. (A runtime that times itself has a clock of
    its own, so how long a block took says nothing of when the next one can begin.)"""
    starts = [block.start_ns for block in trace.blocks]
    return any(later < earlier for earlier, later in pairwise(starts))


def _of_the_traces(found: Findings) -> Sequence[str]:
    reasons = []
    if found.half_width is not None and found.half_width > DISAGREEMENT:
        reasons.append(
            f"processes disagree: the interval is ±{found.half_width:.0%} of the latency"
        )
    if apart := _two_groups(found.process_numbers):
        reasons.append(apart)
    allowed = UNSTEADY * found.sessions
    of = f"{found.sessions} session{'s' if found.sessions > 1 else ''}"
    if found.unsteady > allowed:
        reasons.append(f"no steady state in {found.unsteady} of {of}")
    elif found.changed > allowed:
        reasons.append(f"the level changed while it was timed in {found.changed} of {of}")
    if found.long_warmup > allowed:
        reasons.append(f"warm-up is over a third of the samples in {found.long_warmup} of {of}")
    if found.drifted > allowed:
        reasons.append(f"not steady: {found.drifted} of {of} drifted while timed")
    numbers = found.process_numbers
    if len(numbers) >= FEWEST and kendall_p(numbers) < TREND_P:
        third = max(1, len(numbers) // 3)
        first, last = sum(numbers[:third]) / third, sum(numbers[-third:]) / third
        if first > 0 and abs(last / first - 1) > TREND:
            reasons.append(
                f"the machine drifted: the last processes were {last / first - 1:+.0%} "
                "against the first"
            )
    return reasons


def _two_groups(numbers: Sequence[float]) -> str | None:
    """Processes that fall into two groups, further apart than either is wide: which one a fresh
    process falls into is luck, and no interval around one number says that."""
    ordered = sorted(numbers)
    if len(ordered) < FEWEST or ordered[0] <= 0:
        return None
    gap, at = max((ordered[i] - ordered[i - 1], i) for i in range(1, len(ordered)))
    low, high = ordered[:at], ordered[at:]
    widest = max(low[-1] - low[0], high[-1] - high[0])
    if gap <= widest or gap < GROUPS * ordered[0]:
        return None
    apart = sum(high) / len(high) / (sum(low) / len(low)) - 1
    return f"processes fall into two groups: {len(high)} of {len(ordered)} are {apart:.0%} slower"


def _of_the_neighbours(found: Findings) -> Sequence[str]:
    if not found.blocks or not found.disturbed:
        return ()
    share = found.disturbed / found.blocks
    why = ", ".join(sorted(found.reasons, key=lambda reason: -found.reasons[reason]))
    if share > DISTURBED:
        return (f"{share:.0%} of the blocks were disturbed ({why})",)
    if found.quiet and abs(found.typical / found.quiet - 1) > MOVED:
        return (
            f"disturbed blocks moved the latency by {found.typical / found.quiet - 1:+.0%} ({why})",
        )
    return ()


def _of_the_conditions(record: Record) -> Sequence[str]:
    before, after = record.environment.before, record.environment.after
    if after is None:
        return _of_the_setting(record)
    cpus = record.environment.machine.logical_cpus or 1
    return (*_of_the_setting(record), *_between(before, after, cpus))


def _of_the_setting(record: Record) -> Sequence[str]:
    before, reasons = record.environment.before, []
    threads = record.runtime.settings.get("threads", "") if record.runtime else ""
    if threads.isdecimal() and int(threads) > before.usable_cpus:
        reasons.append(f"{threads} threads on {before.usable_cpus} usable CPUs")
    if before.on_battery:
        reasons.append("on battery")
    return reasons


def _between(before: Conditions, after: Conditions, cpus: int) -> Sequence[str]:
    reasons = []
    if None not in (before.throttled_ns, after.throttled_ns) and (
        (after.throttled_ns or 0) > (before.throttled_ns or 0)
    ):
        reasons.append("the control group's CPU quota throttled the run")
    if before.steal_ns is not None and after.steal_ns is not None:
        wall = (after.unix_ns - before.unix_ns) * cpus
        share = (after.steal_ns - before.steal_ns) / wall if wall > 0 else 0.0
        if share > MOST_STEAL:
            reasons.append(f"the hypervisor took {share:.0%} of the CPU time for others")
    return reasons
