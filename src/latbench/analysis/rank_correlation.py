"""Compute rank correlation: whether two lists of numbers have the same order."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

from latbench.analysis.stats import CONFIDENCE, FEWEST
from latbench.schema.value import Value

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

RESAMPLES = 2000


class Tau(Value, frozen=True, kw_only=True):
    """Kendall's rank correlation, and its 95 % interval if there are enough groups."""

    value: float
    interval: tuple[float, float] | None
    pairs: int
    groups: int
    """Number of groups of pairs that the bootstrap draws from."""


def kendall_tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Compute Kendall's tau-b, which allows for ties (Kendall 1945, *Biometrika* 33).

    ``None`` if one of the two lists does not vary.
    """
    return _tau(*_signs(pairs)) if pairs else None


def tau_with_interval(
    pairs: Sequence[tuple[float, float]], groups: Sequence[Hashable] | None = None, *, seed: int = 0
) -> Tau | None:
    """Compute Kendall's tau with a percentile bootstrap interval (Efron 1979) over ``groups``.

    Pairs of one group are drawn together, as they do not vary independently (Davison & Hinkley
    1997, *Bootstrap Methods and their Application*, 3.8); without groups each pair is one. ``None``
    where there is no tau; below :data:`~latbench.analysis.stats.FEWEST` groups there is no
    interval.
    """
    import numpy as np

    if (value := kendall_tau(pairs)) is None:
        return None
    members: dict[Hashable, list[int]] = {}
    for i in range(len(pairs)):
        members.setdefault(i if groups is None else groups[i], []).append(i)
    interval = None
    if len(members) >= FEWEST:
        first, second = _signs(pairs)
        parts = [np.asarray(each) for each in members.values()]
        again = []
        for draw in np.random.default_rng(seed).integers(len(parts), size=(RESAMPLES, len(parts))):
            chosen = np.concatenate([parts[i] for i in draw])
            at = np.ix_(chosen, chosen)
            again.append(_tau(first[at], second[at]))
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile([each for each in again if each is not None], (tail, 1 - tail))
        interval = float(low), float(high)
    return Tau(value=value, interval=interval, pairs=len(pairs), groups=len(members))


def _signs(pairs: Sequence[tuple[float, float]]) -> tuple[Array, Array]:
    """Return the signs of all pairwise differences, for each of the two lists."""
    import numpy as np

    values = np.asarray(pairs, dtype=np.float64)
    signs = np.sign(values[:, None, :] - values[None, :, :])
    return signs[:, :, 0], signs[:, :, 1]


def _tau(first: Array, second: Array) -> float | None:
    varying = float((first * first).sum()), float((second * second).sum())
    if not all(varying):
        return None
    return float((first * second).sum()) / sqrt(varying[0] * varying[1])
