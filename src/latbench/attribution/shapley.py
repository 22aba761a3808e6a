"""How much of the ratio of two latencies each of the factors that differ accounts for.

A *configuration* is named by the factors that have B's value in it; the others have A's. Everything
here is computed in logarithms of latencies: there shares add up, and ratios multiply.
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
"""Factors of which every combination is measured: eight configurations."""
How = Literal["measured", "computed", "fields", "open"]
"""``computed``: from samples that are there. ``fields``: only known to differ. ``open``: the source
does not say what A's value is."""


class Difference(Value, frozen=True, kw_only=True):
    """A factor in which the two sides differ, or may; ``None``: not known."""

    name: str
    a: str | None
    b: str | None


class Share(Value, frozen=True, kw_only=True):
    """B's latency over A's, as far as one thing accounts for it."""

    ratio: float
    interval: tuple[float, float] | None
    """Over rounds; ``None`` where there are too few."""


class Part(Value, frozen=True, kw_only=True):
    """A row of an account."""

    factor: str
    a: str | None
    b: str | None
    how: How
    why: str
    """How it is known, or why it is not."""
    share: Share | None = None
    range: tuple[float, float] | None = None
    """Of an open one: what it accounts for where A had one of the plausible values."""


class Account(Value, frozen=True, kw_only=True):
    """Why B's number is another than A's. All ratios are B over A."""

    a: str
    b: str
    a_ns: float
    b_ns: float
    """The claimed or recorded numbers."""
    a_again_ns: float | None
    b_again_ns: float | None
    """Measured again; ``None`` where that was not done, or the device is not here."""
    ratio: float
    parts: tuple[Part, ...]
    together: Share
    """All shares multiplied."""
    left: Share
    """What no share accounts for: the ratio over ``together``."""
    rounds: int
    configurations: int
    """Measured in each round."""
    design: Design
    orders: int
    """Of switching the factors, over which the shares of a factorial design are averaged."""
    alike: dict[str, str]
    records: tuple[str, ...]
    notes: tuple[str, ...]


def configurations(factors: Sequence[str]) -> list[Configuration]:
    """Those to measure: all of up to :data:`MOST` factors; of more, both ends and what is one
    factor away from an end."""
    if len(factors) <= MOST:
        return list(subsets(factors))
    ends = (frozenset[str](), frozenset(factors))
    return [*ends, *(end ^ {name} for end in ends for name in factors)]


def shapley(
    factors: Collection[str], logs: Mapping[Configuration, float]
) -> dict[str, float] | None:
    """The share of each factor in log(B / A): the average over all orders in which the factors can
    be switched, one after another, of what switching it changes (Shapley 1953, *A value for
    n-person games*). They add up to the whole and depend on no order.

    A configuration that is not in ``logs`` could not be had; orders that lead through one are left
    out. ``None`` where no order is left.
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
    """In how many orders the factors can be switched, through configurations that could be had."""
    whole = frozenset(factors)
    return _orders(whole, logs, frozenset()).get(whole, 0)


def one_at_a_time(
    factors: Collection[str], logs: Mapping[Configuration, float]
) -> dict[str, float]:
    """What switching each factor alone changes, the average of doing so from either end. These need
    not add up. A factor that could be switched from neither end is left out."""
    whole, nothing = frozenset(factors), Configuration()
    shares: dict[str, float] = {}
    for name in sorted(whole):
        steps = ((nothing, nothing | {name}), (whole - {name}, whole))
        found = [logs[end] - logs[start] for start, end in steps if start in logs and end in logs]
        if found:
            shares[name] = sum(found) / len(found)
    return shares


def over_rounds(logs: Sequence[float]) -> Share:
    """The mean over rounds, and Student's interval: log-latencies of repeated runs are near enough
    to normal, and there are few of them."""
    interval = student_interval([exp(value) for value in logs], CONFIDENCE)
    return Share(ratio=exp(sum(logs) / len(logs)), interval=interval)


def residual(ratio: float, together: Share) -> Share:
    """What is left of ``ratio``."""
    low, high = together.interval or (None, None)
    return Share(
        ratio=ratio / together.ratio,
        interval=None if low is None or high is None else (ratio / high, ratio / low),
    )


def _orders(
    whole: Configuration, logs: Mapping[Configuration, float], end: Configuration
) -> dict[Configuration, int]:
    """In how many orders each configuration is reached from ``end``, which is empty or whole."""
    ways = {end: 1} if end in logs else {}
    for size in range(len(whole)):
        for start in [each for each in ways if len(each ^ end) == size]:
            for name in whole - (start ^ end):
                step = start ^ {name}
                if step in logs:
                    ways[step] = ways.get(step, 0) + ways[start]
    return ways


def subsets(names: Sequence[str]) -> Iterator[Configuration]:
    """Each one, the empty one first."""
    for size in range(len(names) + 1):
        yield from map(frozenset, combinations(names, size))
