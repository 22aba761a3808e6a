"""Decide whether B is faster than A, slower, the same within a margin, or inconclusive.

Interleaved parts are compared block by block: the ratio of the two blocks of a round, the median of
these ratios in a process, then the median over processes with an interval. Records that were
measured one after another have no such pairs, so their ratio includes changes of the machine in
between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, exp, log, sqrt
from statistics import NormalDist, median, stdev
from typing import TYPE_CHECKING, Any, Literal

from latbench.analysis.comparability import (
    comparability_notes,
    same_sentinel,
    sentinel_best_case,
)
from latbench.analysis.estimators import BEST_CASE, SEQUENTIAL_CONFIDENCE
from latbench.analysis.reliability import clock_faults
from latbench.analysis.segments import paired_ratios, process_samples, warm_traces
from latbench.analysis.stats import (
    FEWEST,
    interpolated,
    order_interval,
    student_quantile,
)
from latbench.defaults import MARGIN
from latbench.schema.record import Record
from latbench.schema.trace import Trace
from latbench.schema.value import Value

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

Quantity = Literal["typical", "best-case"]
QUANTILE: dict[Quantity, float] = {"typical": 0.5, "best-case": BEST_CASE}
EQUIVALENCE = 0.935
"""Two one-sided tests at 5 % each are one interval at 90 % (Schuirmann 1987, *J. Pharmacokinetics
and Biopharmaceutics* 15). As for the 95 % interval, stopping when it is narrow increases errors:
with 90 %, the verdict was "same" for a difference as large as the margin in up to 8 % of simulated
comparisons; with 93.5 %, in up to 5 %."""
SEPARATE_RUNS_MARGIN = 0.10
"""Least difference between records of one machine that were not interleaved. Their intervals do not
include changes between runs, which are 6 to 17 % on a shared machine (``docs/METHODOLOGY.md``)."""
LEAST_MARGIN = 0.001
POWER = 0.8
"""Target probability of a verdict after the estimated number of processes."""


class Effort(Value, frozen=True, kw_only=True):
    """The estimated effort for a verdict, if later processes vary like the measured ones."""

    processes: int
    seconds: float | None


class Comparison(Value, frozen=True, kw_only=True):
    """B compared with A. Ratios are B over A: above 1, B is slower."""

    verdict: Literal["faster", "slower", "same", "inconclusive"]
    """Verdict on B."""
    reasons: tuple[str, ...]
    quantity: Quantity
    """The quantity that the verdict is based on."""
    margin: float
    interleaved: bool
    processes: int
    """Pairs of processes; the smaller number of the two if they were not interleaved."""
    ratio: float | None
    interval: tuple[float, float] | None
    equivalence: tuple[float, float] | None
    """The interval for "same"."""
    half_width: float | None
    """Relative half-width of the interval."""
    other_ratio: float | None
    """Ratio of the other quantity."""
    other_interval: tuple[float, float] | None
    process_ratios: tuple[float, ...]
    to_tell: Effort | None
    """Effort for a verdict; ``None`` if there is one, or if the effort cannot be estimated."""


def compare(
    a: Record, b: Record, *, margin: float = MARGIN, quantity: Quantity = "typical"
) -> Comparison:
    """Compare two records, interleaved or not. Check :func:`incomparable` first."""
    pair = a.interleaved, b.interleaved
    together = (
        pair[0] is not None and pair[1] is not None and pair[0].comparison == pair[1].comparison
    )
    warm_a, warm_b = warm_traces(a), warm_traces(b)
    one, two = process_samples(warm_a), process_samples(warm_b)
    against = _failure_reasons(a, b)
    other: Quantity = "typical" if quantity == "best-case" else "best-case"
    if together:
        ratios, beside = paired_ratios(warm_a, warm_b), _low_ratios(one, two)
        if quantity == "best-case":
            ratios, beside = beside, ratios
        found = _verdict(ratios, margin)
        second = order_interval(beside, SEQUENTIAL_CONFIDENCE)
        ratio = median(ratios) if ratios else None
        other_ratio = median(beside) if beside else None
        reasons = [*against, *found.reasons]
        verdict = "inconclusive" if against else found.verdict
        effort = None if verdict != "inconclusive" else _effort(ratios, margin, a)
        interval, equivalence = found.interval, found.equivalence
    else:
        ratio, interval, equivalence = _apart(a, b, one, two, quantity)
        other_ratio, second, _ = _apart(a, b, one, two, other)
        verdict, reasons = _verdict_apart(a, b, ratio, interval, equivalence, margin)
        reasons = [*against, *reasons, *comparability_notes(a, b)]
        verdict = "inconclusive" if against else verdict
        ratios, effort = [], None
    return Comparison(
        verdict=verdict,
        reasons=tuple(reasons),
        quantity=quantity,
        margin=margin,
        interleaved=together,
        processes=len(ratios) if together else min(len(one), len(two)),
        ratio=ratio,
        interval=interval,
        equivalence=equivalence,
        half_width=None if interval is None else log(interval[1] / interval[0]) / 2,
        other_ratio=other_ratio,
        other_interval=second,
        process_ratios=tuple(ratios),
        to_tell=effort,
    )


def ratio_is_precise(
    a: Sequence[Trace], b: Sequence[Trace], target: float, quantity: Quantity = "typical"
) -> bool:
    """Whether the interval of the ratio of that ``quantity`` is within ±``target``.

    Only its width decides when an interleaved comparison ends, not its position: stopping as soon
    as a difference appears would find false differences.
    """
    interval = order_interval(_ratios(a, b, quantity), SEQUENTIAL_CONFIDENCE)
    return interval is not None and log(interval[1] / interval[0]) / 2 <= target


def ratio_so_far(
    a: Sequence[Trace], b: Sequence[Trace], quantity: Quantity = "typical"
) -> tuple[float, float | None] | None:
    """The ratio B over A of these processes and the relative half-width of its interval, while more
    are timed; ``None`` without a pair."""
    ratios = _ratios(a, b, quantity)
    if not ratios:
        return None
    interval = order_interval(ratios, SEQUENTIAL_CONFIDENCE)
    half = None if interval is None else log(interval[1] / interval[0]) / 2
    return median(ratios), half


class _Found(Value, frozen=True, kw_only=True):
    verdict: Literal["faster", "slower", "same", "inconclusive"]
    reasons: tuple[str, ...]
    interval: tuple[float, float] | None
    equivalence: tuple[float, float] | None


def _ratios(one: Sequence[Trace], two: Sequence[Trace], quantity: Quantity) -> list[float]:
    """Return the ratio B over A for each process that both have."""
    if quantity == "typical":
        return paired_ratios(one, two)
    return _low_ratios(process_samples(one), process_samples(two))


def _low_ratios(bottom: Mapping[int, Array], top: Mapping[int, Array]) -> list[float]:
    pairs = [
        (interpolated(bottom[i], BEST_CASE), interpolated(top[i], BEST_CASE))
        for i in bottom.keys() & top.keys()
    ]
    return [b / a for a, b in pairs if a > 0 and b > 0]


def _verdict(ratios: Sequence[float], margin: float) -> _Found:
    interval = order_interval(ratios, SEQUENTIAL_CONFIDENCE)
    equivalence = order_interval(ratios, EQUIVALENCE)
    if interval is None or equivalence is None:
        few = f"{len(ratios)} pair{'' if len(ratios) == 1 else 's'} of processes"
        return _Found(
            verdict="inconclusive",
            reasons=(f"{few}: at least {FEWEST} are needed",),
            interval=None,
            equivalence=None,
        )
    return _Found(
        verdict=_decide(interval, equivalence, margin),
        reasons=(),
        interval=interval,
        equivalence=equivalence,
    )


def _decide(
    interval: tuple[float, float], equivalence: tuple[float, float], margin: float
) -> Literal["faster", "slower", "same", "inconclusive"]:
    """Return the verdict. "same" has priority over a certain difference below the margin."""
    if 1 / (1 + margin) < equivalence[0] and equivalence[1] < 1 + margin:
        return "same"
    if interval[0] > 1:
        return "slower"
    return "faster" if interval[1] < 1 else "inconclusive"


def _apart(
    a: Record, b: Record, one: Mapping[int, Array], two: Mapping[int, Array], quantity: Quantity
) -> tuple[float | None, tuple[float, float] | None, tuple[float, float] | None]:
    """Return the ratio of two records' medians over processes, with intervals by Welch 1947 on
    logs.

    If both were measured next to the same sentinel, the latencies are normalized by it.
    """
    referred = same_sentinel(a, b)
    x, y = _values(a, one, quantity, referred), _values(b, two, quantity, referred)
    if not x or not y:
        return None, None, None
    ratio = median(y) / median(x)
    if min(len(x), len(y)) < FEWEST:
        return ratio, None, None
    u, v = [log(value) for value in x], [log(value) for value in y]
    # The median of normal values varies pi/2 times as much as their mean.
    p, q = 1.571 * stdev(u) ** 2 / len(u), 1.571 * stdev(v) ** 2 / len(v)
    error = sqrt(p + q)
    dof = (p + q) ** 2 / (p**2 / (len(u) - 1) + q**2 / (len(v) - 1)) if p + q > 0 else 100.0

    def around(confidence: float) -> tuple[float, float]:
        half = error * student_quantile(0.5 + confidence / 2, dof)
        return ratio * exp(-half), ratio * exp(half)

    return ratio, around(SEQUENTIAL_CONFIDENCE), around(EQUIVALENCE)


def _values(
    record: Record, parts: Mapping[int, Array], quantity: Quantity, referred: bool
) -> list[float]:
    if referred and quantity == "typical":
        return paired_ratios(record.outcome.sentinel, warm_traces(record))
    values = {i: interpolated(part, QUANTILE[quantity]) for i, part in parts.items()}
    if referred:
        beside = sentinel_best_case(record)
        values = {i: value / beside[i] for i, value in values.items() if beside.get(i, 0) > 0}
    return [value for value in values.values() if value > 0]


def _verdict_apart(
    a: Record,
    b: Record,
    ratio: float | None,
    interval: tuple[float, float] | None,
    equivalence: tuple[float, float] | None,
    margin: float,
) -> tuple[Literal["faster", "slower", "same", "inconclusive"], list[str]]:
    if ratio is None or interval is None or equivalence is None:
        return "inconclusive", [f"each record needs at least {FEWEST} processes"]
    if same_sentinel(a, b):
        return _decide(interval, equivalence, margin), [
            "not interleaved: compared through the sentinel that both were timed next to"
        ]
    why = (
        "not interleaved: the ratio includes changes of the machine between the runs, so only a "
        f"difference of more than {SEPARATE_RUNS_MARGIN:.0%} counts, and nothing counts as the same"
    )
    if interval[0] > 1 + SEPARATE_RUNS_MARGIN:
        return "slower", [why]
    return ("faster" if interval[1] < 1 / (1 + SEPARATE_RUNS_MARGIN) else "inconclusive"), [why]


def _failure_reasons(a: Record, b: Record) -> list[str]:
    """Return reasons that prevent a verdict regardless of the measured values."""
    reasons = []
    for name, record in (("A", a), ("B", b)):
        outcome = record.outcome
        if record.backend != record.request.backend:
            reasons.append(
                f"{name} was measured with {record.backend} because {record.request.backend} could "
                f"not run here: it is not evidence about {record.request.backend}"
            )
        if outcome.failure is not None:
            reasons.append(
                f"{name} failed at {outcome.failure.stage} ({outcome.failure.kind}): "
                f"{outcome.failure.message}"
            )
        reasons += [f"{name}: {fault}" for fault in clock_faults(record)]
    if not reasons and "interrupted" in (a.outcome.status, b.outcome.status):
        reasons.append("the comparison was interrupted")
    return reasons


def _effort(ratios: Sequence[float], margin: float, record: Record) -> Effort | None:
    """Estimate the processes needed for a verdict: a difference, or equality within the margin."""
    if len(ratios) < 3:
        return None
    logs = [log(ratio) for ratio in ratios]
    effect, spread = abs(median(logs)), stdev(logs)
    normal = NormalDist()
    power = normal.inv_cdf(POWER)
    difference = effect, normal.inv_cdf(0.5 + SEQUENTIAL_CONFIDENCE / 2) + power
    sameness = (
        log(1 + max(margin, LEAST_MARGIN)) - effect,
        normal.inv_cdf(0.5 + EQUIVALENCE / 2) + power,
    )
    needed = [
        # 1.2533: the median of normal values varies more than the mean by this factor.
        max(FEWEST, len(logs) + 1, ceil((1.2533 * z * spread / gap) ** 2))
        for gap, z in (difference, sameness)
        if gap > 0.1 * spread / sqrt(len(logs)) and gap > 0
    ]
    if not needed:
        return None
    each_s = seconds_per_process(record.outcome.traces)
    return Effort(processes=min(needed), seconds=each_s and min(needed) * each_s)


def seconds_per_process(traces: Sequence[Trace]) -> float | None:
    """Return the average time from the opening of one process to the next."""
    opened = [t.opened_ns for t in traces if t.session == 0 and t.opened_ns is not None]
    return (opened[-1] - opened[0]) / (len(opened) - 1) / 1e9 if len(opened) > 1 else None
