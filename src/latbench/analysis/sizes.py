"""How many loads and blocks are cheapest for a target precision, from costs and variances.

Repeated measurements vary at three levels: processes, loads of the model in a process, blocks in a
load. Kalibera & Jones 2013 (*Rigorous benchmarking in reasonable time*, ISMM) estimate the variance
at each level without that of the levels below it, and weigh it against what a repetition at that
level costs. The estimates only choose sizes: the interval itself is
:func:`latbench.analysis.stats.order_interval` over processes, which assumes nothing about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import ceil, log, sqrt
from statistics import NormalDist, median

from latbench.analysis.estimators import SEQUENTIAL_CONFIDENCE
from latbench.analysis.segments import Nested, nested_ratios, nested_samples
from latbench.analysis.stats import FEWEST, order_interval
from latbench.schema.trace import Trace
from latbench.schema.value import Value

MEDIAN_COST = 1.571
"""pi / 2: how much more the median of normal values varies than their mean does."""
ROOM = 1.25
"""The widths of intervals from equal runs differ. Six normal values have an interval narrower than
1.25 times the expected one in four of five runs."""
LEAST_LOADS = 2
"""Loads of a process from which its loads' variance can be seen."""
GROWTH = 1.3
"""Steps in the search for the number of blocks."""
FEWEST_LAGGED = 8
"""Blocks of a load from which their autocorrelation is estimated."""
LARGE = 200
"""Processes from which the interval's width follows the normal approximation."""


class Variances(Value, frozen=True, kw_only=True):
    """Relative variance at each level, without that of the levels below."""

    process: float
    load: float
    block: float
    """Of a block's median, widened for the autocorrelation of blocks."""

    def of_process(self, loads: int, blocks: int) -> float:
        """Return the variance of the latency of a process with so many loads and blocks in each."""
        return self.process + (self.load + MEDIAN_COST * self.block / blocks) / loads


class Costs(Value, frozen=True, kw_only=True):
    """What a repetition at each level takes, without the repetitions in it."""

    process_ns: int
    load_ns: int
    block_ns: int
    """A round: the model's block, and that of the sentinel or the other model."""


class Limits(Value, frozen=True, kw_only=True):
    """The smallest and largest sizes, and the time for all processes."""

    fewest_processes: int
    most_loads: int
    fewest_blocks: int
    most_blocks: int
    budget_ns: int | None


class Sizes(Value, frozen=True, kw_only=True):
    """Numbers at each level, and the duration of the whole run."""

    processes: int
    loads: int
    blocks: int
    """In each load."""
    wall_ns: int


def variances(values: Nested[float]) -> Variances | None:
    """Estimate the variances from a positive value of each block, by process and load.

    ``None`` if no process has two loads. A single process does not show how processes vary; they
    are taken to vary as loads do, and this counts as one more process later.
    """
    logs = [[[log(v) for v in load] for load in process if load] for process in values]
    loads = [load for process in logs for load in process]
    if not any(len(process) >= LEAST_LOADS for process in logs):
        return None
    block = _pooled(loads) * _inflation(loads)
    blocks = len(loads) / sum(1 / len(load) for load in loads)
    below = MEDIAN_COST * block / blocks
    centers = [[median(load) for load in process] for process in logs if process]
    load = max(0.0, _pooled(centers) - below)
    between, count = load, len(centers)
    if count > 1:
        per_process = count / sum(1 / len(each) for each in centers)
        of_all = _squares([median(each) for each in centers]) / (count - 1)
        found = of_all - (load + below) / per_process
        between = (load + (count - 1) * max(0.0, found)) / count
    return Variances(process=between, load=load, block=block)


def process_deviation(values: Nested[float]) -> float:
    """Return the standard deviation of two or more processes, relative to their latency."""
    centers = [median(log(v) for load in process for v in load) for process in values]
    return sqrt(_squares(centers) / (len(centers) - 1))


def _pooled(groups: Sequence[Sequence[float]]) -> float:
    """Return the variance within groups, each with its degrees of freedom."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    return sum(_squares(g) for g in several) / freedom if freedom else 0.0


def _squares(values: Sequence[float]) -> float:
    """Return the sum of squares around the mean."""
    center = sum(values) / len(values)
    return sum((value - center) ** 2 for value in values)


def _inflation(loads: Sequence[Sequence[float]]) -> float:
    """Return by how much autocorrelation widens the variance of a mean of blocks."""
    products, squares = 0.0, 0.0
    for load in loads:
        if len(load) >= FEWEST_LAGGED:
            center = sum(load) / len(load)
            rest = [value - center for value in load]
            products += sum(a * b for a, b in pairwise(rest))
            squares += sum(a * a for a in rest)
    correlated = min(max(products / squares, 0.0), 0.9) if squares else 0.0
    return (1 + correlated) / (1 - correlated)


@cache
def expected_half_width(processes: int) -> float:
    """Return the half-width of the interval over normal processes, in their standard deviations.

    The interval of the expected order statistics (Blom 1958).
    """
    normal = NormalDist()
    if processes > LARGE:
        z = normal.inv_cdf(0.5 + SEQUENTIAL_CONFIDENCE / 2)
        return z * sqrt(MEDIAN_COST / processes)
    scores = [normal.inv_cdf((i + 0.625) / (processes + 0.25)) for i in range(processes)]
    low, high = order_interval(scores, SEQUENTIAL_CONFIDENCE) or (-1.0, 1.0)
    return (high - low) / 2


def cheapest(costs: Costs, found: Variances, target: float, limits: Limits) -> Sizes:
    """Return the sizes with which an interval within ±``target`` takes the least time.

    If not even the fewest processes fit the budget, these are the smallest sizes.
    """
    best: Sizes | None = None
    for loads in range(LEAST_LOADS, max(limits.most_loads, LEAST_LOADS) + 1):
        for blocks in _steps(limits.fewest_blocks, limits.most_blocks):
            each_ns = costs.process_ns + loads * (costs.load_ns + blocks * costs.block_ns)
            fits = limits.budget_ns is None or (
                limits.fewest_processes * each_ns <= limits.budget_ns
            )
            if best is not None and not fits:
                break
            deviation = sqrt(found.of_process(loads, blocks))
            processes = processes_needed(deviation, target, limits.fewest_processes)
            wall_ns = processes * each_ns
            if best is None or wall_ns < best.wall_ns:
                best = Sizes(processes=processes, loads=loads, blocks=blocks, wall_ns=wall_ns)
    assert best is not None
    return best


def _steps(fewest: int, most: int) -> list[int]:
    found = [max(fewest, 1)]
    while found[-1] < most:
        found.append(min(most, ceil(found[-1] * GROWTH)))
    return found


def processes_needed(deviation: float, target: float, fewest: int) -> int:
    """Return the processes with which the interval is probably within ±``target``."""
    allowed = target / (ROOM * deviation) if deviation > 0 else 1e9
    if expected_half_width(fewest) <= allowed:
        return max(fewest, FEWEST)
    low, high = fewest, 2 * fewest
    while expected_half_width(high) > allowed:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if expected_half_width(middle) <= allowed else (middle, high)
    return high


def cheapest_sentinel(model: Sequence[Trace], sentinel: Sequence[Trace]) -> int | None:
    """Return how many calls of the sentinel in each round are cheapest for the ratio to it.

    More calls lower the part of the variance that is the sentinel's, and make each round longer.
    The product of variance and duration is least at the square root of their two ratios. ``None``
    while a variance is not known.
    """
    ratios = [load for process in nested_ratios(sentinel, model) for load in process]
    blocks = [block for process in nested_samples(sentinel) for load in process for block in load]
    of_rounds = _pooled([[log(ratio) for ratio in load] for load in ratios])
    of_calls = _pooled([[log(ns) for ns in block if ns > 0] for block in blocks])
    if not of_rounds or not of_calls:
        return None
    call_ns = median(ns for block in blocks for ns in block)
    calls = median(len(block) for block in blocks)
    beside_ns = call_ns + median(sum(b.sample_ns) for trace in model for b in trace.blocks)
    # The estimates are rough: at least a twentieth of a round's variance is not the sentinel's.
    others = max(of_rounds - of_calls / calls, of_rounds / 20)
    return max(1, round(sqrt(of_calls / others * beside_ns / call_ns)))
