"""Name what disturbs latencies on a machine, from slices of fixed work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, log, sqrt
from statistics import NormalDist, median, quantiles, variance

from latbench.analysis.comparison import POWER
from latbench.analysis.estimators import SEQUENTIAL_CONFIDENCE
from latbench.analysis.interference import STEAL, WAIT
from latbench.analysis.sizes import MEDIAN_COST
from latbench.schema.noise import NoiseCause, NoiseReport, NoiseSettings, NoiseSlice
from latbench.schema.protocol_catalog import COMPARE

COMPARISON_S = 30.0
STARTUP_S = 0.5
"""Time to start a process and load a model in the comparison that is foreseen."""
BUSY_CPUS = 0.1
"""Number of CPUs that other processes use from which they count as a cause."""
SPEED_STEP = 0.03
"""Relative difference in speed from which CPUs, or moments of one CPU, count as different."""
LATE_NS = 500_000
"""Delay of a sleep of 1 ms that counts; Linux allows 50 us by default, and scheduling adds some."""
CLOCK_STEP_NS = 1_000_000
"""Change of the calendar clock in one slice that cannot be a gradual adjustment."""
FAST_CLOCKS = {"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "xen"}
FEWEST_PAIRS = 8
FEWEST_SLICES = 5
"""Calm slices of a CPU from which its speed is judged."""


def judge_noise(
    slices: Sequence[NoiseSlice], settings: NoiseSettings, *, seconds: float, cpus: int
) -> NoiseReport:
    """Report the causes and the smallest difference that a comparison could find.

    ``cpus`` is the number of CPUs of the machine.
    """
    measured = sorted(_measured(slices, settings, cpus), key=lambda each: -each[0])
    return NoiseReport(
        seconds=seconds,
        smallest_difference=smallest_difference(slices),
        comparison_s=COMPARISON_S,
        causes=(*(cause for _, cause in measured), *_configured(settings)),
        settings=settings,
    )


def smallest_difference(slices: Sequence[NoiseSlice]) -> float | None:
    """Return the relative difference that a comparison of 30 s finds in 4 of 5 cases.

    Neighboring slices of one CPU stand for the two models of a pair of processes. Their ratio
    contains what the machine does and not what differs from process to process of a model, so the
    result is a lower bound. ``None`` for fewer than eight pairs.
    """
    ratios = []
    for own in _by_cpu(slices).values():
        centers = [median(each.probe_ns) for each in own]
        pairs = zip(centers[::2], centers[1::2], strict=False)
        ratios += [log(two / one) for one, two in pairs]
    if len(ratios) < FEWEST_PAIRS:
        return None
    z = NormalDist().inv_cdf(0.5 + SEQUENTIAL_CONFIDENCE / 2) + NormalDist().inv_cdf(POWER)
    pairs_in_time = COMPARISON_S / (2 * (STARTUP_S + COMPARE.min_ns / 1e9))
    return exp(z * sqrt(MEDIAN_COST * variance(ratios) / pairs_in_time)) - 1


def _measured(
    slices: Sequence[NoiseSlice], settings: NoiseSettings, cpus: int
) -> Iterator[tuple[float, NoiseCause]]:
    """Yield each cause that was measured, with the share of speed that it may cost."""
    readings = [each.readings for each in slices]
    wall = sum(each.wall_ns for each in readings)
    if wall <= 0:
        return
    others = sum(each.others_ns or 0 for each in readings) / wall
    waited = sum(each.wait_ns or 0 for each in readings) / wall
    if others > BUSY_CPUS or waited > WAIT:
        sibling = "; two logical CPUs share a core here" if settings.smt else ""
        yield (
            max(waited, others / max(cpus, 1)),
            NoiseCause(
                cause="neighbors",
                found=f"other processes used {others:.2g} of {cpus} CPUs, and the probe waited "
                f"{waited:.1%} of its time for a CPU{sibling}",
                advice="end them or wait until they are done; `latbench compare`, which "
                "alternates, suffers least from them",
            ),
        )
    stolen = sum(each.steal_ns or 0 for each in readings) / (wall * max(cpus, 1))
    if stolen > STEAL / 10:
        yield (
            stolen,
            NoiseCause(
                cause="steal",
                found=f"the hypervisor gave {stolen:.1%} of the CPU time to other guests",
                advice="use a machine with CPUs of its own, or another time of day",
            ),
        )
    throttled = sum(each.throttled_ns or 0 for each in readings) / wall
    if throttled > 0:
        yield (
            throttled,
            NoiseCause(
                cause="CPU quota",
                found=f"the quota of the control group stopped its processes for {throttled:.1%} "
                "of the time",
                advice="raise the quota (`cpus` of the container), or use fewer threads",
            ),
        )
    yield from _speeds(slices)
    yield from _clocks(slices)


def _speeds(slices: Sequence[NoiseSlice]) -> Iterator[tuple[float, NoiseCause]]:
    """Yield CPUs that differ in speed, and CPUs whose speed changes.

    Slices in which the probe had to wait for its CPU say nothing about its speed.
    """
    calm = [s for s in slices if (s.readings.wait_ns or 0) <= WAIT * s.readings.wall_ns]
    by_cpu = {cpu: own for cpu, own in _by_cpu(calm).items() if len(own) >= FEWEST_SLICES}
    yield from _throttled(slices)
    if not by_cpu:
        return
    centers = {cpu: median(median(each.probe_ns) for each in own) for cpu, own in by_cpu.items()}
    fastest, slowest = min(centers, key=centers.__getitem__), max(centers, key=centers.__getitem__)
    apart = centers[slowest] / centers[fastest] - 1
    if apart > SPEED_STEP:
        yield (
            apart,
            NoiseCause(
                cause="CPUs of different speed",
                found=f"CPU {slowest} took {apart:.0%} longer than CPU {fastest} for the same work",
                advice="choose CPUs of one kind with --cpus; if they are of one kind, something "
                "else uses the slower one",
            ),
        )
    spreads = []
    for own in by_cpu.values():
        tenths = quantiles([median(each.probe_ns) for each in own], n=10)
        spreads.append(tenths[-1] / tenths[0] - 1)
    if max(spreads) > SPEED_STEP:
        yield (
            max(spreads),
            NoiseCause(
                cause="changing speed",
                found=f"the same work on one CPU took {max(spreads):.0%} longer in the slowest "
                "tenth of the slices than in the fastest",
                advice="fix the clocks with `latbench devices prepare local`; on a virtual machine "
                "they are the host's, and only another machine helps",
            ),
        )


def _throttled(slices: Sequence[NoiseSlice]) -> Iterator[tuple[float, NoiseCause]]:
    hot = [each.readings for each in slices]
    if any(each.throttle_events or each.throttle_flags or each.cooling_state for each in hot):
        yield (
            SPEED_STEP,
            NoiseCause(
                cause="throttling",
                found="the device slowed itself down to cool, or for want of voltage",
                advice="better cooling or supply; `latbench run --cooldown` waits",
            ),
        )


def _clocks(slices: Sequence[NoiseSlice]) -> Iterator[tuple[float, NoiseCause]]:
    step = max((abs(each.clock_step_ns) for each in slices), default=0)
    if step > CLOCK_STEP_NS:
        yield (
            0.0,
            NoiseCause(
                cause="clock steps",
                found=f"the calendar clock was set by {step / 1e6:.3g} ms",
                advice="latencies are taken with the monotonic clock; only dates of records "
                "change. Let the clock be adjusted gradually (chrony, systemd-timesyncd)",
            ),
        )
    late = median(each.sleep_late_ns for each in slices)
    if late > LATE_NS:
        yield (
            0.0,
            NoiseCause(
                cause="late timers",
                found=f"a sleep of 1 ms lasted {late / 1e6:.2g} ms longer",
                advice="only runs with a pause between calls (a protocol with a period) are "
                "affected; see timer slack, and how busy the machine is",
            ),
        )


def _configured(settings: NoiseSettings) -> Iterator[NoiseCause]:
    """Yield settings that can make latencies vary, whether or not they did during the probe."""
    governors = sorted(set(settings.governors or ()) - {"performance"})
    if governors:
        yield NoiseCause(
            cause="governor",
            found=f"the clock of idle CPUs is lowered ({', '.join(governors)})",
            advice="latbench devices prepare local (sets `performance`, and restores it)",
        )
    if settings.turbo:
        yield NoiseCause(
            cause="turbo",
            found="clocks above the nominal one are allowed; they depend on heat and other cores",
            advice="latbench devices prepare local",
        )
    if settings.huge_pages == "always":
        yield NoiseCause(
            cause="huge pages",
            found="transparent huge pages are always on: whether a process gets them is chance",
            advice="echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (as root)",
        )
    if (settings.timer_slack_ns or 0) > LATE_NS:
        yield NoiseCause(
            cause="timer slack",
            found=f"timers may be {(settings.timer_slack_ns or 0) / 1e6:.2g} ms late",
            advice="start latbench from a process whose timer slack is the default (50 us)",
        )
    if settings.clock_source is not None and settings.clock_source not in FAST_CLOCKS:
        yield NoiseCause(
            cause="clock source",
            found=f"the kernel's clock is {settings.clock_source}, which takes about 1 us to read",
            advice="trust no latency below 0.1 ms here",
        )


def _by_cpu(slices: Sequence[NoiseSlice]) -> dict[int | None, list[NoiseSlice]]:
    found: dict[int | None, list[NoiseSlice]] = {}
    for each in slices:
        found.setdefault(each.cpu, []).append(each)
    return found
