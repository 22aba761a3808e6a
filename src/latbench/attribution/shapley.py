"""Compute how much each factor contributes to the ratio of two latencies.

A *configuration* is the set of factors that have B's value; the others have A's. All computations
use logarithms of latencies, in which shares add up; ratios multiply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from math import exp
from typing import Literal

from latbench.analysis.stats import CONFIDENCE, student_interval
from latbench.schema.value import Value

Configuration = frozenset[str]
Design = Literal["factorial", "one at a time", "none"]
MOST = 3
"""Largest number of factors for which every combination is measured: eight configurations."""
How = Literal["measured", "computed", "fields", "open"]
"""``computed``: from stored samples. ``fields``: only known to differ. ``open``: the source does
not give A's value."""


class Difference(Value, frozen=True, kw_only=True):
    """A factor in which the two sides differ or may differ. ``None`` is unknown."""

    name: str
    a: str | None
    b: str | None


class Share(Value, frozen=True, kw_only=True):
    """Contribution to the ratio of B's latency to A's."""

    ratio: float
    interval: tuple[float, float] | None
    """Interval over rounds; ``None`` if there are too few."""


class Part(Value, frozen=True, kw_only=True):
    """A row of a breakdown."""

    factor: str
    a: str | None
    b: str | None
    how: How
    why: str
    """How the contribution was obtained, or why it is unknown."""
    share: Share | None = None
    range: tuple[float, float] | None = None
    """For an open factor: its contribution over the plausible values of A."""


class Account(Value, frozen=True, kw_only=True):
    """Breakdown of the difference between two latencies. All ratios are B over A."""

    a: str
    b: str
    a_ns: float
    b_ns: float
    """The claimed or recorded latencies."""
    a_again_ns: float | None
    b_again_ns: float | None
    """Latencies measured again; ``None`` if not measured, or if the device is not available."""
    ratio: float
    parts: tuple[Part, ...]
    explained: Share
    """All contributions multiplied."""
    residual: Share
    """Unexplained part: the ratio divided by ``explained``."""
    rounds: int
    configurations: int
    """Configurations measured in each round."""
    design: Design
    orders: int
    """Number of orders of switching the factors, over which a factorial design averages."""
    alike: dict[str, str]
    records: tuple[str, ...]
    notes: tuple[str, ...]


def configurations(factors: Sequence[str]) -> list[Configuration]:
    """Return the configurations to measure.

    For up to :data:`MOST` factors, all combinations; for more, both ends and the configurations
    that differ from an end in one factor.
    """
    if len(factors) <= MOST:
        return list(subsets(factors))
    ends = (frozenset[str](), frozenset(factors))
    return [*ends, *(end ^ {name} for end in ends for name in factors)]


def shapley(
    factors: Collection[str], logs: Mapping[Configuration, float]
) -> dict[str, float] | None:
    """Return the share of each factor in log(B / A).

    It is the average change when the factor is switched, over all orders in which the factors can
    be switched one after another (Shapley 1953, *A value for n-person games*). The shares add up to
    the whole and do not depend on an order.

    A configuration that is not in ``logs`` could not be measured; orders through it are omitted.
    ``None`` if no order is left.
    """
    whole = frozenset(factors)
    before = _orders(whole, logs, frozenset())
    after = _orders(whole, logs, whole)
    total = before.get(whole, 0)
    if not total:
        return None
    shares = dict.fromkeys(sorted(whole), 0.0)
    for start, ways in before.items():
        for name in whole - start:
            end = start | {name}
            if end in after:
                shares[name] += ways * after[end] / total * (logs[end] - logs[start])
    return shares


def orders(factors: Collection[str], logs: Mapping[Configuration, float]) -> int:
    """Return the number of orders of switching the factors through measured configurations."""
    whole = frozenset(factors)
    return _orders(whole, logs, frozenset()).get(whole, 0)


def one_at_a_time(
    factors: Collection[str], logs: Mapping[Configuration, float]
) -> dict[str, float]:
    """Return the change from switching each factor alone, averaged over both ends.

    The shares need not add up. A factor that could not be switched from either end is omitted.
    """
    whole, nothing = frozenset(factors), Configuration()
    shares: dict[str, float] = {}
    for name in sorted(whole):
        steps = ((nothing, nothing | {name}), (whole - {name}, whole))
        found = [logs[end] - logs[start] for start, end in steps if start in logs and end in logs]
        if found:
            shares[name] = sum(found) / len(found)
    return shares


def over_rounds(logs: Sequence[float]) -> Share:
    """Return the mean over rounds with Student's interval.

    Log latencies of repeated runs are approximately normal, and there are few of them.
    """
    interval = student_interval([exp(value) for value in logs], CONFIDENCE)
    return Share(ratio=exp(sum(logs) / len(logs)), interval=interval)


def unexplained(ratio: float, explained: Share) -> Share:
    """Return the part of ``ratio`` that ``explained`` does not cover."""
    low, high = explained.interval or (None, None)
    return Share(
        ratio=ratio / explained.ratio,
        interval=None if low is None or high is None else (ratio / high, ratio / low),
    )


def _orders(
    whole: Configuration, logs: Mapping[Configuration, float], end: Configuration
) -> dict[Configuration, int]:
    """Return in how many orders each configuration is reached from ``end`` (empty or whole)."""
    ways = {end: 1} if end in logs else {}
    for size in range(len(whole)):
        for start in [each for each in ways if len(each ^ end) == size]:
            for name in whole - (start ^ end):
                step = start ^ {name}
                if step in logs:
                    ways[step] = ways.get(step, 0) + ways[start]
    return ways


def subsets(names: Sequence[str]) -> Iterator[Configuration]:
    """Yield all subsets, the empty one first."""
    for size in range(len(names) + 1):
        yield from map(frozenset, combinations(names, size))
