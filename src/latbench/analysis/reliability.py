"""Whether a record's number is reliable; if not, why not and what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, comb
from typing import Literal

from latbench.analysis.parity import tolerance_of
from latbench.analysis.segments import samples
from latbench.analysis.settings import precision_of
from latbench.analysis.stats import FEWEST, kendall_p
from latbench.analysis.steady_state import FEWEST_SAMPLES
from latbench.schema.cpu_choice import CPUS_SETTING, numbers_of
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
"""How far the disturbed blocks may move the latency."""
GROUPS = 0.03
"""Gap between two groups of processes that matters, relative."""
TREND_P = 0.01
SHIFT_P = 0.05
TREND = DISAGREEMENT
"""Change over the run's processes, in their order, that matters."""
CLOCK_STEPS = 0.01
"""Least difference between two samples, relative to the latency."""
LOW_BATTERY = 20
"""Percent below which systems save power even while the battery is charged."""
MOST_STEAL = 0.02
"""Share of the CPUs' time, over the whole run."""


Kind = Literal[
    "incomplete",
    "denormals",
    "clock backwards",
    "clock coarse",
    "processes disagree",
    "two groups",
    "no steady state",
    "level changed",
    "burst",
    "long warm-up",
    "drift",
    "CPU contention",
    "hypervisor steal",
    "CPU quota",
    "CPU frequency",
    "throttling",
    "under-voltage",
    "slow sentinel",
    "too many threads",
    "battery",
    "emulated",
    "short budget",
    "few processes",
    "few samples",
]
QUIET = "stop other programs, lower --threads, or use `latbench compare`, which tolerates noise"
ADVICE: dict[Kind, str] = {
    "incomplete": "run it again to the end",
    "denormals": "use trained weights (--weights)",
    "clock backwards": "report it to the backend: its clock must be monotonic",
    "clock coarse": "a larger --batch, so that one inference takes longer",
    "processes disagree": "a larger --budget or more --processes",
    "two groups": "`latbench show ID --plot FILE` to see the groups, more --processes",
    "no steady state": "a larger --warmup; `latbench show ID --plot FILE` shows the samples",
    "level changed": "a fixed CPU frequency, cooling; `latbench show ID --plot FILE` shows it",
    "burst": "a longer --warmup leaves the fast start out; `latbench show ID --plot FILE` shows it",
    "long warm-up": "a larger --budget, or --protocol cold-start if the start is what matters",
    "drift": "let the machine cool down, fix the CPU frequency, run it again",
    "CPU contention": QUIET,
    "hypervisor steal": "a dedicated machine, or `latbench compare`, which tolerates noise",
    "CPU quota": "a larger CPU quota of the container, or fewer --threads",
    "CPU frequency": "a fixed CPU frequency (performance governor), cooling",
    "throttling": "better cooling, --cooldown with --max-temperature or --max-thermal-status, or a "
    "lower fixed clock (`latbench devices prepare`)",
    "under-voltage": "a stronger power supply and a short, thick cable",
    "slow sentinel": QUIET,
    "emulated": "a real device: an emulator's times say nothing about one",
    "too many threads": "--threads no larger than the usable CPUs",
    "battery": "connect the power supply and turn power saving off",
    "short budget": "a larger --budget",
    "few processes": f"--processes {FEWEST} or more",
    "few samples": "more --calls, or the default protocol",
}
"""What to try for each kind of reason."""
CAUSES: dict[str, Kind] = {
    "waited for a CPU": "CPU contention",
    "was switched out": "CPU contention",
    "others used the CPUs": "CPU contention",
    "the hypervisor took CPU time": "hypervisor steal",
    "the CPU quota throttled it": "CPU quota",
    "the CPUs were clocked down": "CPU frequency",
    "the device throttled itself": "throttling",
    "the supply voltage was too low": "under-voltage",
    "the sentinel was slow": "slow sentinel",
}
"""The kind of each disturbance that :mod:`latbench.analysis.interference` finds."""


class Reason(Value, frozen=True, kw_only=True):
    """One reason not to rely on a number."""

    kind: Kind
    text: str
    causes: tuple[Kind, ...] = ()
    """The kinds of disturbance, most frequent first, where the reason is about disturbed blocks."""

    @property
    def advice(self) -> tuple[str, ...]:
        """What to try."""
        return tuple(ADVICE[kind] for kind in self.causes or (self.kind,))


class Findings(Value, frozen=True, kw_only=True):
    """What a summary found that bears on reliability."""

    processes: int
    half_width: float | None
    """Of an interval over processes, of the number that the protocol reports."""
    process_numbers: tuple[float, ...]
    """That number, of each process."""
    cold: int
    """Sessions that the time budget ended before they were warm; they are not counted."""
    too_few: int
    """Sessions with too few samples to look for a warm-up or a change of level."""
    long_warmup: int
    """Sessions whose warm-up is more than a third of their samples; of a process with several
    loads, all or none."""
    unsteady: int
    """Sessions whose warm-up does not end, or whose level keeps changing."""
    changed: int
    """Sessions with more than one level."""
    bursts: int
    """Of these, sessions that began faster than they went on."""
    drifted: int
    shifts: tuple[int, ...]
    """For each process with several loads, whether later ones are slower (1) or faster (-1)."""
    sessions: int
    blocks: int
    disturbed: int
    reasons: Mapping[str, int]
    typical: float
    quiet: float | None
    enough: bool
    """Whether there is an interval that assumes no shape."""


class Judgement(Value, frozen=True, kw_only=True):
    """The reliability; ``reasons`` is empty only if it is "reliable"."""

    reliability: Literal["reliable", "unreliable", "inconclusive"]
    reasons: tuple[Reason, ...]

    @property
    def advice(self) -> tuple[str, ...]:
        """What to try, without repetitions."""
        return tuple(dict.fromkeys(text for reason in self.reasons for text in reason.advice))


def judge(record: Record, found: Findings) -> Judgement:
    """Decide whether the record's number is reliable, with every reason against it: what spoils
    the number itself first, then causes, then what they show as in the times."""
    against = (
        *_outcome_reasons(record),
        *_setting_reasons(record),
        *_disturbance_reasons(found),
        *_between_reasons(record),
        *_trace_reasons(found),
    )
    if against:
        return Judgement(reliability="unreliable", reasons=against)
    if not found.enough:
        return Judgement(reliability="inconclusive", reasons=(_too_few_processes(record, found),))
    if found.too_few > UNSTEADY * found.sessions:
        text = (
            f"too few samples to look for a warm-up or a change of level in {found.too_few} of "
            f"{found.sessions} sessions"
        )
        return Judgement(
            reliability="inconclusive", reasons=(Reason(kind="few samples", text=text),)
        )
    return Judgement(reliability="reliable", reasons=())


def _too_few_processes(record: Record, found: Findings) -> Reason:
    budget_ns, planned = record.protocol.budget_ns, record.protocol.processes
    kind: Kind = "few processes"
    few = f"{found.processes} process{'es' if found.processes > 1 else ''}"
    if budget_ns is not None and (found.cold or found.processes < planned):
        kind = "short budget"
        few = f"{found.processes} of {planned} processes fit the budget of {budget_ns / 1e9:g} s"
        if (needed_s := _sufficient_budget_s(record)) is not None:
            return Reason(kind=kind, text=f"{few}; use --budget {needed_s}")
    text = f"{few}: an interval that holds beyond them needs at least {FEWEST}"
    return Reason(kind=kind, text=text)


def _sufficient_budget_s(record: Record) -> int | None:
    """Seconds in which the protocol's least number of processes fit; ``None``: not known."""
    traces, planned = record.outcome.traces, record.protocol.processes
    last = traces[-1] if traces else None
    if last is None or last.opened_ns is None:
        return None
    timed = sum(last.warmup_ns) + sum(sum(block.sample_ns) for block in last.blocks)
    spent_ns = last.opened_ns + (last.first_ns or 0) + timed
    each_ns = spent_ns / len({trace.process for trace in traces})
    # With room for a tenth, to two digits: more would promise too much.
    seconds = 1.1 * planned * each_ns / 1e9
    step: int = 10 ** max(0, len(str(int(seconds))) - 2)
    return ceil(seconds / step) * step


def unsound(record: Record) -> tuple[str, ...]:
    """Reasons that spoil an interleaved comparison too; disturbances of both models do not."""
    reasons = (*_outcome_reasons(record), *_setting_reasons(record))
    return (*unverified(record), *(reason.text for reason in reasons))


def unverified(record: Record) -> tuple[str, ...]:
    """Reasons why it is open whether the artifact is the model: a latency, but of which function?

    They say nothing about how reliable the latency is.
    """
    artifact, stated = record.artifact, record.request.tolerance
    if artifact is None:
        return ()
    if (why := artifact.details.get("unchecked")) is not None:
        return (f"the outputs were not checked: {why}",)
    why = artifact.details.get("not_executed")
    # The timed session is compared with the network too.
    if why is not None and not record.outcome.checks:
        return (f"the outputs were not checked: {why}",)
    usual = tolerance_of(precision_of(record))
    errors = [check.max_rel_error or 0 for check in record.outcome.checks]
    errors += [artifact.parity.max_rel_error] if artifact.parity else []
    if stated is None or stated <= usual or max(errors, default=0) <= usual:
        return ()
    return (
        f"the outputs have a relative error of {max(errors):.2g}, which only --tolerance "
        f"{stated:g} accepts",
    )


def clock_faults(record: Record) -> tuple[str, ...]:
    """What the times themselves show against the clock; with such a clock nothing is conclusive."""
    return tuple(reason.text for reason in _clock_reasons(record))


def _outcome_reasons(record: Record) -> Sequence[Reason]:
    reasons: list[Reason] = []
    if record.outcome.status != "measured":
        reasons.append(Reason(kind="incomplete", text="the run was not completed"))
    if any(check.denormals for check in record.outcome.checks):
        text = "the outputs contain denormal numbers, which some units compute slowly"
        reasons.append(Reason(kind="denormals", text=text))
    return [*reasons, *_clock_reasons(record)]


def _clock_reasons(record: Record) -> Sequence[Reason]:
    traces = record.outcome.traces
    times = [min(b.sample_ns, default=1) for t in traces for b in t.blocks]
    if record.protocol.statistic.kind == "cold":
        times += [t.first_ns for t in traces if t.first_ns is not None]
    least = min(times, default=1)
    if least < 0 or any(_backwards(trace) for trace in traces):
        return (Reason(kind="clock backwards", text="the clock went backwards"),)
    if least == 0:
        text = "some inferences took no time: the clock is too coarse for this model"
        return (Reason(kind="clock coarse", text=text),)
    steps = _coarse_steps(record)
    if steps is None:
        return ()
    text = f"the clock's steps are {steps:.0%} of the latency: it is too coarse for this model"
    return (Reason(kind="clock coarse", text=text),)


def _coarse_steps(record: Record) -> float | None:
    """The least difference between two samples relative to the latency, if it is more than
    :data:`CLOCK_STEPS`; ``None`` if it is less, samples are too few, or no two differ."""
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
    """Whether a block began before the previous one. (A runtime that times itself has its own
    clock, so the duration of a block does not bound the start of the next one.)"""
    starts = [block.start_ns for block in trace.blocks]
    return any(later < earlier for earlier, later in pairwise(starts))


def _trace_reasons(found: Findings) -> Sequence[Reason]:
    reasons: list[Reason] = []
    if found.half_width is not None and found.half_width > DISAGREEMENT:
        text = f"processes disagree: the interval is ±{found.half_width:.0%} of the latency"
        reasons.append(Reason(kind="processes disagree", text=text))
    if apart := _two_groups(found.process_numbers):
        reasons.append(Reason(kind="two groups", text=apart))
    allowed = UNSTEADY * found.sessions
    of = f"{found.sessions} session{'s' if found.sessions > 1 else ''}"
    if found.unsteady > allowed:
        text = f"no steady state in {found.unsteady} of {of}"
        reasons.append(Reason(kind="no steady state", text=text))
    elif found.changed > allowed:
        text = f"the level changed during timing in {found.changed} of {of}"
        kind: Kind = "level changed"
        if 2 * found.bursts > found.changed:
            text = f"two levels: {found.bursts} of {of} began faster than they went on"
            kind = "burst"
        reasons.append(Reason(kind=kind, text=text))
    if shift := _shift(found.shifts):
        reasons.append(Reason(kind="level changed", text=shift))
    if found.long_warmup > allowed:
        text = f"warm-up is over a third of the samples in {found.long_warmup} of {of}"
        reasons.append(Reason(kind="long warm-up", text=text))
    if found.drifted > allowed:
        text = f"not steady: {found.drifted} of {of} drifted during timing"
        reasons.append(Reason(kind="drift", text=text))
    if trend := _trend(found.process_numbers):
        reasons.append(Reason(kind="drift", text=trend))
    return reasons


def _shift(shifts: Sequence[int]) -> str | None:
    """A change from the first loads of a process to later ones, in many processes and more often in
    this direction than by chance (sign test): single loads differ by luck, in either."""
    changed = len(shifts) - shifts.count(0)
    for direction, how in ((1, "slower"), (-1, "faster")):
        count = shifts.count(direction)
        chance = sum(comb(changed, more) for more in range(count, changed + 1)) / 2**changed
        if count > UNSTEADY * len(shifts) and chance < SHIFT_P:
            return (
                f"later loads are {how} than the first ones in {count} of {len(shifts)} processes"
            )
    return None


def _trend(numbers: Sequence[float]) -> str | None:
    """A change over the run's processes, in their order."""
    if len(numbers) < FEWEST or kendall_p(numbers) >= TREND_P:
        return None
    third = max(1, len(numbers) // 3)
    first, last = sum(numbers[:third]) / third, sum(numbers[-third:]) / third
    if first <= 0 or abs(last / first - 1) <= TREND:
        return None
    return (
        f"the machine drifted: the last processes differ from the first by {last / first - 1:+.0%}"
    )


def _two_groups(numbers: Sequence[float]) -> str | None:
    """Processes that fall into two groups, further apart than either is wide: which group a new
    process falls into is luck, and no interval around one number shows that."""
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


def _disturbance_reasons(found: Findings) -> Sequence[Reason]:
    if not found.blocks or not found.disturbed:
        return ()
    frequent = sorted(found.reasons, key=lambda reason: -found.reasons[reason])
    causes = tuple(dict.fromkeys(CAUSES[cause] for cause in frequent))
    why = ", ".join(causes)
    text = None
    if found.disturbed > DISTURBED * found.blocks:
        text = f"{found.disturbed} of {found.blocks} blocks disturbed ({why})"
    elif found.quiet and abs(found.typical / found.quiet - 1) > MOVED:
        change = found.typical / found.quiet - 1
        text = f"disturbed blocks moved the latency by {change:+.0%} ({why})"
    return () if text is None else (Reason(kind=causes[0], text=text, causes=causes),)


def _setting_reasons(record: Record) -> Sequence[Reason]:
    before, reasons = record.environment.before, []
    had = record.runtime.settings if record.runtime else {}
    threads, usable = had.get("threads", ""), before.usable_cpus
    chosen = len(numbers_of(had.get(CPUS_SETTING, "")))
    usable = min((each for each in (usable, chosen) if each), default=None)
    if usable and threads.isdecimal() and int(threads) > usable:
        cpus = f"{usable} usable CPU{'s' if usable > 1 else ''}"
        reasons.append(Reason(kind="too many threads", text=f"{threads} threads on {cpus}"))
    if record.environment.machine.emulated:
        reasons.append(Reason(kind="emulated", text="the processor is emulated"))
    if (power := power_problem(before)) is not None:
        reasons.append(Reason(kind="battery", text=power))
    elif (later := power_problem(record.environment.after or before)) is not None:
        reasons.append(Reason(kind="battery", text=f"at the end of the run: {later}"))
    return reasons


def power_problem(now: Conditions) -> str | None:
    """What is wrong with the power: systems save it on a battery, when it is low, and when told."""
    level = now.battery_percent
    if now.on_battery:
        return "on battery" if level is None else f"on battery, at {level} %"
    if level is not None and level < LOW_BATTERY:
        return f"the battery is at {level} %"
    return "power saving is on" if now.low_power_mode else None


def _between_reasons(record: Record) -> Sequence[Reason]:
    """What changed from before the run to after it."""
    before, after = record.environment.before, record.environment.after
    cpus = record.environment.machine.logical_cpus or 1
    reasons: list[Reason] = []
    if after is None:
        return reasons
    if None not in (before.throttled_ns, after.throttled_ns) and (
        (after.throttled_ns or 0) > (before.throttled_ns or 0)
    ):
        text = "the control group's CPU quota throttled the run"
        reasons.append(Reason(kind="CPU quota", text=text))
    if before.steal_ns is not None and after.steal_ns is not None:
        wall = (after.unix_ns - before.unix_ns) * cpus
        share = (after.steal_ns - before.steal_ns) / wall if wall > 0 else 0.0
        if share > MOST_STEAL:
            text = f"the hypervisor gave {share:.0%} of the CPU time to other guests"
            reasons.append(Reason(kind="hypervisor steal", text=text))
    return reasons
