"""One number of a record's samples: its own protocol's, or as another would have made it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from latbench.analysis.interference import disturbed
from latbench.analysis.segments import Session, by_process, sessions
from latbench.analysis.stats import quantile
from latbench.schema.protocol import Statistic
from latbench.schema.record import Record

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

Regime = Literal["cold", "all timed calls", "warm", "last level"]
"""Of which samples a number is made: load and first inference; all calls after the protocol's
warm-up; those after the warm-up that is found in them; those of the last level."""
OF_KIND: dict[str, Regime] = {"cold": "cold", "median": "warm", "last level": "last level"}


def regime_of(statistic: Statistic) -> Regime:
    """Which samples a protocol with this statistic counts."""
    return OF_KIND.get(statistic.kind, "all timed calls")


def statistic_name(statistic: Statistic) -> str:
    """What is made of them, whichever they are."""
    if statistic.kind == "quantile":
        return f"p{(statistic.quantile_milli or 500) / 10:g}"
    if statistic.kind not in ("mean", "throughput"):
        return "median over processes"
    if not statistic.trim_low and not statistic.trim_high:
        return "mean"
    return f"mean without {statistic.trim_low} lowest, {statistic.trim_high} highest"


def restated_ns(record: Record, regime: Regime, statistic: Statistic) -> float | None:
    """Nanoseconds an inference; ``None`` where the record has no such samples."""
    if regime != "cold" and record.protocol.statistic.kind == "cold":
        return None
    return made_ns(sessions(record, disturbed(record)), regime, statistic)


def made_ns(runs: Sequence[Session], regime: Regime, statistic: Statistic) -> float | None:
    """Of all samples of a regime, nanoseconds an inference; ``None`` where there are none."""
    parts = [(run.trace.process, _samples(run, regime)) for run in runs]
    parts = [part for part in parts if len(part[1])]
    value = _made(parts, statistic) if parts else 0.0
    return value if value > 0 else None


def process_numbers(record: Record) -> list[float]:
    """What the record's own protocol makes of each process alone, in nanoseconds an inference."""
    return numbers_by_process(sessions(record, disturbed(record)), record.protocol.statistic)


def numbers_by_process(runs: Sequence[Session], statistic: Statistic) -> list[float]:
    """The same of sessions in which their warm-up and levels are found already."""
    parts: dict[int, list[tuple[int, Array]]] = {}
    for run in runs:
        kept = _samples(run, regime_of(statistic))
        if len(kept):
            parts.setdefault(run.trace.process, []).append((run.trace.process, kept))
    return [_made(part, statistic) for part in parts.values()]


def _samples(run: Session, regime: Regime) -> Array:
    import numpy as np

    if regime == "cold":
        first = run.trace.first_ns
        return np.asarray([] if first is None else [run.trace.load_ns + first], dtype=np.float64)
    if regime == "last level":
        return run.all[run.starts[-1] :]
    return run.steady if regime == "warm" else run.counted


def _made(parts: Sequence[tuple[int, Array]], statistic: Statistic) -> float:
    import numpy as np

    if statistic.kind in OF_KIND:
        return median(float(np.median(part)) for part in by_process(parts).values())
    kept = np.sort(np.concatenate([_trimmed(part, statistic) for _, part in parts]))
    if statistic.kind == "quantile":
        return quantile(kept, (statistic.quantile_milli or 500) / 1000)
    return float(np.mean(kept))


def _trimmed(values: Array, statistic: Statistic) -> Array:
    """Of each session; of one too short to be trimmed, all."""
    import numpy as np

    low, high = statistic.trim_low, statistic.trim_high
    return values if low + high >= len(values) else np.sort(values)[low : len(values) - high]
