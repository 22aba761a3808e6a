"""Compute one value from a record's samples, with its own statistic or another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from latbench.analysis.interference import disturbed
from latbench.analysis.segments import (
    SegmentedSession,
    by_process,
    process_samples,
    sessions,
    warm_traces,
)
from latbench.analysis.stats import (
    FEWEST,
    interpolated,
    order_interval,
    quantile,
    serial_interval,
    student_interval,
)
from latbench.schema.protocol import Statistic
from latbench.schema.record import Record
from latbench.schema.trace import Trace

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


SampleScope = Literal["cold", "all timed calls", "warm", "last level"]
"""Samples that a value is computed from: load and first inference; all calls after the protocol's
warm-up; calls after the detected warm-up; calls of the last level."""
SCOPE_BY_KIND: dict[str, SampleScope] = {
    "cold": "cold",
    "median": "warm",
    "last level": "last level",
}


def regime_of(statistic: Statistic) -> SampleScope:
    """Return the samples that a protocol with this statistic uses."""
    return SCOPE_BY_KIND.get(statistic.kind, "all timed calls")


def statistic_name(statistic: Statistic) -> str:
    """Return the name of the statistic, without its samples."""
    if statistic.kind == "quantile":
        return f"p{(statistic.quantile_milli or 500) / 10:g}"
    if statistic.kind not in ("mean", "throughput"):
        return "median over processes"
    if not statistic.trim_low and not statistic.trim_high:
        return "mean"
    return f"mean without {statistic.trim_low} lowest, {statistic.trim_high} highest"


def restated_ns(record: Record, scope: SampleScope, statistic: Statistic) -> float | None:
    """Return nanoseconds per inference; ``None`` if the record has no such samples."""
    if scope != "cold" and record.protocol.statistic.kind == "cold":
        return None
    return estimate_ns(sessions(record, disturbed(record)), scope, statistic)


def estimate_ns(
    runs: Sequence[SegmentedSession], scope: SampleScope, statistic: Statistic
) -> float | None:
    """Estimate nanoseconds per inference from all samples of a scope; ``None`` if there are
    none."""
    parts = [(run.trace.process, _samples(run, scope)) for run in runs]
    parts = [part for part in parts if len(part[1])]
    value = _estimate(parts, statistic) if parts else 0.0
    return value if value > 0 else None


def process_numbers(record: Record) -> list[float]:
    """Return the protocol's own statistic for each process, in nanoseconds per inference."""
    return numbers_by_process(sessions(record, disturbed(record)), record.protocol.statistic)


def numbers_by_process(runs: Sequence[SegmentedSession], statistic: Statistic) -> list[float]:
    """Return a statistic for each process from segmented sessions."""
    parts: dict[int, list[tuple[int, Array]]] = {}
    for run in runs:
        kept = _samples(run, regime_of(statistic))
        if len(kept):
            parts.setdefault(run.trace.process, []).append((run.trace.process, kept))
    return [_estimate(part, statistic) for part in parts.values()]


def _samples(run: SegmentedSession, scope: SampleScope) -> Array:
    import numpy as np

    if scope == "cold":
        first = run.trace.first_ns
        return np.asarray([] if first is None else [run.trace.load_ns + first], dtype=np.float64)
    if scope == "last level":
        return run.all[run.starts[-1] :]
    return run.steady if scope == "warm" else run.counted


def _estimate(parts: Sequence[tuple[int, Array]], statistic: Statistic) -> float:
    import numpy as np

    if statistic.kind in SCOPE_BY_KIND:
        return median(float(np.median(part)) for part in by_process(parts).values())
    kept = np.sort(np.concatenate([_trimmed(part, statistic) for _, part in parts]))
    if statistic.kind == "quantile":
        return quantile(kept, (statistic.quantile_milli or 500) / 1000)
    return float(np.mean(kept))


def _trimmed(values: Array, statistic: Statistic) -> Array:
    """Trim the samples of a session, unless it is too short."""
    import numpy as np

    low, high = statistic.trim_low, statistic.trim_high
    return values if low + high >= len(values) else np.sort(values)[low : len(values) - high]


BEST_CASE = 0.1
"""Quantile of the best-case latency. Lower quantiles depend on single lucky samples, higher ones on
the share of time that was disturbed: ``benchmarks/truth/README.md`` has the comparison."""


SEQUENTIAL_CONFIDENCE = 0.965
"""Stopping when the interval is narrow favors intervals that are narrow by chance. With 95 %, they
contained the true value in 91 to 93 % of simulated runs; with 96.5 %, in 92 to 97 %."""


def typical_ns(record: Record) -> int | None:
    """Return the median latency of a measured record; ``None`` if it failed or was interrupted."""
    if record.outcome.status != "measured":
        return None
    parts = list(process_samples(warm_traces(record)).values())
    if not parts:
        return None
    # A float next to 2**63 rounds up to it, which does not fit a signed 64-bit integer.
    return min(round(median(median_of(part) for part in parts)), 2**63 - 1)


def estimate_so_far(traces: Sequence[Trace]) -> tuple[float, float | None] | None:
    """The latency of these processes in ns and the relative half-width of its interval, while more
    are timed; ``None`` without a timed block."""
    parts = list(process_samples(traces).values())
    if not parts:
        return None
    value, interval, level = over_processes(parts, median_of, SEQUENTIAL_CONFIDENCE, 0.5)
    if interval is None or level != "processes" or not value:
        return value, None
    return value, (interval[1] - interval[0]) / 2 / value


def run_is_precise(traces: Sequence[Trace], target: float) -> bool:
    """Whether the interval of the latency over these processes is within ±``target``."""
    parts = list(process_samples(traces).values())
    if not parts:
        return False
    typical, interval, level = over_processes(parts, median_of, SEQUENTIAL_CONFIDENCE, 0.5)
    if interval is None or level != "processes" or len(parts) < FEWEST or not typical:
        return False
    return (interval[1] - interval[0]) / 2 / typical <= target


def interval_of(numbers: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Return the interval of the median over processes; ``None`` if there are too few."""
    return order_interval(numbers, confidence) or student_interval(numbers, confidence)


def half_width_of(numbers: Sequence[float], confidence: float) -> float | None:
    """Return the half-width of the interval of the median over processes, relative to the
    median."""
    interval = interval_of(numbers, confidence)
    middle = median(numbers) if numbers else 0
    return (interval[1] - interval[0]) / 2 / middle if interval and middle else None


def over_processes(
    parts: Sequence[Array], of: Callable[[Array], float], confidence: float, q: float
) -> tuple[float, tuple[float, float] | None, Literal["processes", "within"] | None]:
    """Return the median over processes, its interval, and the level that the interval covers."""
    values = [of(part) for part in parts]
    interval = interval_of(values, confidence)
    if interval is not None:
        return median(values), interval, "processes"
    # Too few processes for an interval between them: use the hull of the intervals within each.
    alone = [serial_interval([part], q, confidence)[0] for part in parts]
    known = [each for each in alone if each is not None]
    if len(known) < len(parts):
        return median(values), None, None
    hull = min(low for low, _ in known), max(high for _, high in known)
    return median(values), hull, "within"


def median_of(values: Array) -> float:
    """Return the interpolated median."""
    import numpy as np

    return float(np.median(values))


def low_quantile(values: Array) -> float:
    """Return the best-case latency (10th percentile)."""
    return interpolated(values, BEST_CASE)
