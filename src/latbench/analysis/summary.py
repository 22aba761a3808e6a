"""The summary of a record: a pure function of it, computed each time it is shown.

Three quantities are kept apart (``docs/METHODOLOGY.md`` argues for them):

* **latency** (``typical`` as an option's value): the median over processes of each process's median
  after its warm-up. What a user of this machine gets, disturbances by other programs included.
* **best case**: the same with each process's 10th percentile. What the model takes if nothing
  disturbs it.
* **normalized**: the latency divided by the sentinel's, from blocks timed next to each other. What
  is left if the machine's own ups and downs are divided out.

Processes are the level at which repeated runs differ (Kalibera & Jones 2013, ISMM), so intervals
are computed over them (:func:`latbench.analysis.stats.order_interval`). One process alone gives
only an interval within it; it is labeled so and is never enough to call a number reliable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from latbench.analysis.estimators import (
    BEST_CASE,
    SEQUENTIAL_CONFIDENCE,
    estimate_ns,
    half_width_of,
    interval_of,
    low_quantile,
    median_of,
    numbers_by_process,
    over_processes,
    regime_of,
)
from latbench.analysis.interference import disturbed
from latbench.analysis.regimes import Regime, regimes_of
from latbench.analysis.reliability import Findings, judge
from latbench.analysis.segments import (
    SegmentedSession,
    by_load,
    by_process,
    counted,
    paired_ratios,
    process_samples,
    sessions,
    shifts_across,
    warm_traces,
)
from latbench.analysis.stats import (
    CONFIDENCE,
    FEWEST,
    order_interval,
    quantile,
    serial_interval,
    student_interval,
    supported,
)
from latbench.analysis.steady_state import FEWEST_SAMPLES
from latbench.schema.record import Record
from latbench.schema.value import Value

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

PERCENTILES = (0.9, 0.95, 0.99, 0.999)
REPORTED = {
    "median": "median of process medians",
    "last level": "median of last levels",
    "cold": "median of load and first inference",
}
"""Names of statistics that need more than their kind."""


class Percentile(Value, frozen=True, kw_only=True):
    """A percentile that the samples support."""

    quantile_milli: int
    value_ns: int
    interval_ns: tuple[int, int]


class SentinelRatio(Value, frozen=True, kw_only=True):
    """Latency divided by the sentinel's, from blocks timed next to each other."""

    name: str
    ratio: float
    interval: tuple[float, float] | None
    sentinel_ns: int
    drift: float | None
    """Relative change of the sentinel from the first to the last third of its blocks."""


class Reported(Value, frozen=True, kw_only=True):
    """The value of the protocol's own statistic."""

    statistic: str
    value: float
    unit: Literal["ns", "images/s"]
    interval: tuple[float, float] | None
    """Over processes; ``None`` if there are too few, or if it does not contain the value."""


class Summary(Value, frozen=True, kw_only=True):
    """Values in nanoseconds; ``None`` if the samples do not support one."""

    processes: int
    samples: int
    """Counted ones: without warm-up and discarded calls."""
    median_ns: int
    """The latency: median over processes of their medians."""
    interval_ns: tuple[int, int] | None
    interval_level: Literal["processes", "within"] | None
    """``within``: computed inside one process, or as if several did not differ."""
    confidence: float
    best_case_ns: int
    best_case_interval_ns: tuple[int, int] | None
    normalized: SentinelRatio | None
    p10_ns: int
    """10th percentile of all samples, as ``p90_ns``: a description, not an estimate."""
    p90_ns: int
    percentiles: tuple[Percentile, ...]
    process_median_ns: tuple[int, ...]
    reported: Reported
    load_ns: int
    first_ns: int | None
    warmup_calls: tuple[int | None, ...]
    """For each process, without the first inference; ``None``: no steady state."""
    regimes: tuple[Regime, ...]
    level_starts: tuple[tuple[int, ...], ...]
    """For each trace, where its levels begin: indices into warm-up and blocks joined."""
    level_ns: tuple[tuple[int, ...], ...]
    """For each trace, the medians of its levels."""
    blocks: int
    disturbed_blocks: int
    disturbances: dict[str, int]
    """Number of blocks for each kind of disturbance."""
    quiet_median_ns: int | None
    """The latency computed from the blocks that were not disturbed."""
    quiet_interval_ns: tuple[int, int] | None
    half_width: float | None
    """Half-width of the interval, relative to the latency."""
    target: float | None
    reached: bool | None
    """Whether the protocol's target was reached; ``None``: it has none."""
    reliability: Literal["reliable", "unreliable", "inconclusive"]
    reasons: tuple[str, ...]
    """Why it is not reliable."""
    advice: tuple[str, ...]
    """What to try, one entry for each kind of reason."""
    peak_rss_bytes: int | None
    """The most memory that a worker process used; ``None``: not known."""

    @property
    def warm(self) -> bool:
        """Whether more than first inferences was timed; if not, the values describe those."""
        return any(regime.name != "cold" for regime in self.regimes)


def summarize(record: Record) -> Summary | None:
    """The summary, or ``None`` without a single timed sample."""
    marks = disturbed(record)
    runs = sessions(record, marks)
    if not runs:
        return None
    protocol = record.protocol
    confidence = SEQUENTIAL_CONFIDENCE if protocol.target_ppm is not None else CONFIDENCE
    parts = list(by_process([(run.trace.process, run.steady) for run in runs]).values())
    typical, interval, level = over_processes(parts, median_of, confidence, 0.5)
    low, low_interval, _ = over_processes(parts, low_quantile, confidence, BEST_CASE)
    pooled = _sorted(parts)
    quiet = _quiet(runs)
    quiet_value, quiet_interval = None, None
    if quiet:
        quiet_value, quiet_interval, _ = over_processes(quiet, median_of, confidence, 0.5)
    reasons = Counter(reason for trace in marks for block in trace for reason in block)
    blocks = sum(len(trace) for trace in marks)
    disturbed_blocks = sum(bool(block) for trace in marks for block in trace)
    half_width = (interval[1] - interval[0]) / 2 / typical if interval and typical else None
    # In a comparison the target is that of the ratio.
    alone = record.interleaved is None
    target = protocol.target_ppm / 1e6 if protocol.target_ppm is not None and alone else None
    between_processes = level == "processes" and len(parts) >= FEWEST
    numbers = numbers_by_process(runs, protocol.statistic)
    judgement = judge(
        record,
        Findings(
            processes=len(parts),
            half_width=half_width_of(numbers, confidence),
            process_numbers=tuple(numbers),
            cold=len(record.outcome.traces) - len(warm_traces(record)),
            too_few=sum(
                len(run.steady) < FEWEST_SAMPLES
                for run in runs
                if run.trace.blocks and not run.in_burst
            ),
            long_warmup=sum(len(loads) for loads in by_load(runs) if _warms_up_for_long(loads)),
            unsteady=sum(run.warmup is None or not run.steady_state for run in runs),
            changed=sum(len(run.starts) > 1 for run in runs),
            bursts=sum(run.level_medians()[0] < run.level_medians()[-1] for run in runs),
            drifted=sum(run.trend != 0 for run in runs),
            shifts=tuple(shifts_across(runs)),
            sessions=len(runs),
            blocks=blocks,
            disturbed=disturbed_blocks,
            reasons=dict(reasons),
            typical=typical,
            quiet=quiet_value,
            enough=between_processes,
        ),
    )
    return Summary(
        processes=len(parts),
        samples=len(pooled),
        median_ns=round(typical),
        interval_ns=_rounded(interval),
        interval_level=level,
        confidence=CONFIDENCE,
        best_case_ns=round(low),
        best_case_interval_ns=_rounded(low_interval),
        normalized=_normalized(record, confidence),
        p10_ns=round(quantile(pooled, 0.1)),
        p90_ns=round(quantile(pooled, 0.9)),
        percentiles=_percentiles(parts, pooled),
        process_median_ns=tuple(round(median_of(part)) for part in parts),
        reported=_reported(record, runs, interval_of(numbers, confidence)),
        load_ns=round(median(run.trace.load_ns for run in _first_loads(runs))),
        first_ns=_first(_first_loads(runs)),
        warmup_calls=tuple(run.warmup for run in runs),
        regimes=regimes_of(record, runs),
        level_starts=tuple(run.starts for run in runs),
        level_ns=tuple(tuple(map(round, run.level_medians())) for run in runs),
        blocks=blocks,
        disturbed_blocks=disturbed_blocks,
        disturbances=dict(sorted(reasons.items())),
        quiet_median_ns=None if quiet_value is None else round(quiet_value),
        quiet_interval_ns=_rounded(quiet_interval),
        half_width=half_width,
        target=target,
        reached=None
        if target is None
        else bool(between_processes and half_width is not None and half_width <= target),
        reliability=judgement.reliability,
        reasons=tuple(reason.text for reason in judgement.reasons),
        advice=judgement.advice,
        peak_rss_bytes=max(
            (t.peak_rss_bytes for t in record.outcome.traces if t.peak_rss_bytes is not None),
            default=None,
        ),
    )


def _quiet(runs: Sequence[SegmentedSession]) -> list[Array]:
    """The samples of undisturbed blocks, by process, without warm-up as everywhere."""
    quiet = [(run.trace.process, run.all[run.quiet]) for run in runs if len(run.quiet)]
    return list(by_process(quiet).values())


def _normalized(record: Record, confidence: float) -> SentinelRatio | None:
    """The ratio to the sentinel: of adjacent blocks, then over processes."""
    beside = record.outcome.sentinel
    if record.sentinel is None or record.sentinel.name is None:
        return None
    ratios = paired_ratios(beside, warm_traces(record))
    if not ratios:
        return None
    blocks = [median(counted(b)) for t in beside for b in t.blocks if counted(b)]
    third = len(blocks) // 3
    parts = list(process_samples(beside).values())
    return SentinelRatio(
        name=record.sentinel.name,
        ratio=median(ratios),
        interval=order_interval(ratios, confidence) or student_interval(ratios, confidence),
        sentinel_ns=round(median(median_of(part) for part in parts)),
        drift=median(blocks[-third:]) / max(median(blocks[:third]), 1) - 1 if third >= 3 else None,
    )


def _percentiles(parts: Sequence[Array], pooled: Array) -> tuple[Percentile, ...]:
    """The percentiles that the samples support; autocorrelation reduces their effective number."""
    found = []
    for q in PERCENTILES:
        interval, worth = serial_interval(parts, q, CONFIDENCE)
        if supported(q, worth) and interval is not None:
            found.append(
                Percentile(
                    quantile_milli=round(q * 1000),
                    value_ns=round(quantile(pooled, q)),
                    interval_ns=(round(interval[0]), round(interval[1])),
                )
            )
    return tuple(found)


def _reported(
    record: Record, runs: Sequence[SegmentedSession], interval: tuple[float, float] | None
) -> Reported:
    """The protocol's own statistic, of the samples that the protocol counts."""
    statistic = record.protocol.statistic
    ns = estimate_ns(runs, regime_of(statistic), statistic) or 0.0
    if interval is not None and not interval[0] <= ns <= interval[1]:
        # A mean over all calls may lie outside the interval for a median of processes.
        interval = None
    name = REPORTED.get(statistic.kind, statistic.kind)
    if statistic.kind == "quantile":
        name = f"p{(statistic.quantile_milli or 500) / 10:g}"
    elif statistic.kind == "mean" and (statistic.trim_low or statistic.trim_high):
        name = "trimmed mean"
    elif statistic.kind == "throughput":
        shapes = [spec.shape for spec in record.artifact.inputs] if record.artifact else []
        batch = shapes[0][0] if shapes and shapes[0] else 1
        ends = None
        if interval is not None and interval[0] > 0:
            ends = batch * 1e9 / interval[1], batch * 1e9 / interval[0]
        value = batch * 1e9 / ns if ns else 0.0
        return Reported(statistic=name, value=value, unit="images/s", interval=ends)
    return Reported(statistic=name, value=ns, unit="ns", interval=interval)


def _warms_up_for_long(loads: Sequence[SegmentedSession]) -> bool:
    """Whether warm-up is over a third of a process's samples. One short load may begin slowly by
    chance."""
    timed = [run for run in loads if run.trace.blocks]
    return 3 * sum(run.warmup or 0 for run in timed) > sum(len(run.all) for run in timed)


def _first_loads(runs: Sequence[SegmentedSession]) -> Sequence[SegmentedSession]:
    """The first load of each process: a later one finds memory and caches as that one left them."""
    return [run for run in runs if run.trace.session == 0] or runs


def _first(runs: Sequence[SegmentedSession]) -> int | None:
    first = [run.trace.first_ns for run in runs if run.trace.first_ns is not None]
    return round(median(first)) if first else None


def _sorted(parts: Sequence[Array]) -> Array:
    import numpy as np

    return np.sort(np.concatenate(parts))


def _rounded(interval: tuple[float, float] | None) -> tuple[int, int] | None:
    return None if interval is None else (round(interval[0]), round(interval[1]))
