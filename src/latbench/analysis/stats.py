"""Statistical estimators, each with its assumptions and source.

All of them take plain numbers and are independent of records.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, exp, log, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

CONFIDENCE = 0.95
"""Confidence level of every interval that is shown."""
FEWEST = 6
"""Least number of values for an interval without assuming a shape: 1 - 2 / 2**6 is 96.9 %."""
SUPPORT = 0.99
"""A percentile is shown if the largest sample lies above it with this probability."""
FEWEST_BATCHES = 8
CORRELATED = 0.35
"""Largest autocorrelation of the last few batches that still allows an interval."""


def order_interval(values: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Return an interval for the median of the distribution of independent ``values``.

    Order statistics at the ranks of the sign test, interpolated between the two neighboring
    coverages (Hettmansperger & Sheather 1986, *Statistics & Probability Letters* 4; Nyblom 1992).
    Assumes only independence: the interpolation is exact for symmetric shapes, and its coverage is
    off by less than 0.5 % for an exponential or log-normal shape (simulated for 6 to 30 values).
    ``None`` below :data:`FEWEST` values.
    """
    ordered, n = sorted(values), len(values)
    if n < FEWEST:
        return None
    below = [comb(n, k) / 2**n for k in range(n // 2 + 1)]
    covered = [1 - 2 * sum(below[: rank + 1]) for rank in range(n // 2)] + [0.0]
    rank = max((r for r in range(n // 2) if covered[r] >= confidence), default=0)
    d = rank + 1
    share = (covered[rank] - confidence) / (covered[rank] - covered[rank + 1])
    share = min(max(share, 0.0), 1.0)
    inward = (n - d) * share / (d + (n - 2 * d) * share)
    low = (1 - inward) * ordered[rank] + inward * ordered[min(rank + 1, n - 1)]
    high = (1 - inward) * ordered[n - 1 - rank] + inward * ordered[max(n - 2 - rank, 0)]
    return low, high


def student_interval(values: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Return an interval for the center of 3 or more positive ``values`` with normal logarithms.

    For fewer values than :func:`order_interval` needs. ``None`` below three values or if one is not
    positive.
    """
    n = len(values)
    if n < 3 or min(values) <= 0:
        return None
    logs = [log(value) for value in values]
    mean = sum(logs) / n
    deviation = sqrt(sum((value - mean) ** 2 for value in logs) / (n - 1))
    half = student_quantile(0.5 + confidence / 2, n - 1) * deviation / sqrt(n)
    return exp(mean - half), exp(mean + half)


def student_quantile(p: float, dof: float) -> float:
    """Return a quantile of Student's t, for 2 degrees of freedom and more.

    Expansion in powers of 1/dof (Abramowitz & Stegun 1964, 26.7.5); within 1.5 % at 2 degrees,
    within 0.1 % from 5 on.
    """
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / dof ** (i + 1) for i, term in enumerate(terms))


def quantile(ordered: Array, q: float) -> float:
    """Return the smallest of the ``ordered`` values that at least ``q`` of all do not exceed.

    Hyndman & Fan 1996, type 1: always a value that was measured.
    """
    rank = -(-round(q * 1_000_000) * len(ordered) // 1_000_000)
    return float(ordered[max(0, rank - 1)])


def interpolated(values: Array, q: float) -> float:
    """Return the ``q`` quantile, interpolated between neighbors (type 7, as ``numpy.quantile``).

    For a short array it takes a tenth of numpy's time; it is called for each process and record.
    """
    import numpy as np

    ordered = np.sort(values)
    at = (len(ordered) - 1) * q
    below = int(at)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    return low + (high - low) * (at - below)


def serial_interval(
    parts: Sequence[Array], q: float, confidence: float
) -> tuple[tuple[float, float] | None, float]:
    """Return an interval for the ``q`` quantile of autocorrelated samples, and their effective
    number.

    ``parts`` are stretches of samples in order, one for each process. The share of samples at or
    below the quantile is a mean. Its interval is Student's, and is turned into one for the quantile
    through the ordered samples (Woodruff 1952, *JASA* 47). Its variance comes from batches long
    enough not to be correlated any more (batch means, Conway 1963; Alexopoulos & Seila 1998) and,
    from three parts on, from the differences between parts as well; the wider one is taken.
    Assumes that each part is stationary. ``None`` where there are too few samples for
    :data:`FEWEST_BATCHES` batches that are hardly correlated, or where it would reach beyond the
    samples. The second value is the number of independent samples of equal worth, as far as
    autocorrelation goes.
    """
    import numpy as np

    pooled = np.sort(np.concatenate(parts))
    n = len(pooled)
    shares = [(part <= quantile(pooled, q)).astype(np.float64) for part in parts]
    # Each part around its own mean, because the variance between parts is computed separately.
    means = _batch_means([share - share.mean() for share in shares])
    if len(means) < FEWEST_BATCHES:
        return None, 0.0
    binomial = q * (1 - q) / n
    error = sqrt(binomial) * NormalDist().inv_cdf(0.5 + confidence / 2)
    for values in (means, np.asarray([share.mean() for share in shares])):
        if len(values) >= 3:
            student = student_quantile(0.5 + confidence / 2, len(values) - 1)
            error = max(error, float(np.std(values, ddof=1)) / sqrt(len(values)) * student)
    worth = n * binomial / max(binomial, float(np.var(means, ddof=1)) / len(means))
    low, high = q - error, q + error
    if low <= 0 or high >= 1:
        return None, worth
    return (quantile(pooled, low), quantile(pooled, high)), worth


def supported(q: float, worth: float) -> bool:
    """Whether ``worth`` independent samples support the ``q`` quantile, ``q`` >= 0.5.

    A p90 needs 44, a p99 459 (Hahn & Meeker 1991, *Statistical Intervals*).
    """
    return worth >= log(1 - SUPPORT) / log(q)


def kendall_p(values: Sequence[float]) -> float:
    """Return the two-sided p-value of a trend: Kendall's tau against order (Mann 1945).

    Exact up to 30 values, by the normal approximation beyond. Below 4 values, or with ties only, 1.
    """
    n = len(values)
    pairs = [
        (later > earlier) - (later < earlier)
        for i, earlier in enumerate(values)
        for later in values[i + 1 :]
    ]
    # The order of two equal values is unknown: half of the ties count against a trend.
    discordant = (len(pairs) - abs(sum(pairs))) // 2
    if n < 4 or not any(pairs):
        return 1.0
    if n > 30:
        spread = sqrt(n * (n - 1) * (2 * n + 5) / 18)
        return min(1.0, 2 * NormalDist().cdf(-(abs(sum(pairs)) - 1) / spread))
    counts = [1.0]  # share of the orders of k values with so many inversions
    for k in range(2, n + 1):
        longer = [0.0] * (len(counts) + k - 1)
        for inversions, share in enumerate(counts):
            for added in range(k):
                longer[inversions + added] += share / k
        counts = longer
    return min(1.0, 2 * sum(counts[: discordant + 1]))


def robust_deviation(values: Array) -> float:
    """Return the standard deviation estimated from the median absolute deviation."""
    import numpy as np

    return 1.4826 * middle(np.abs(values - middle(values)))


def middle(values: Array) -> float:
    """Return the median of a short array, in a fifth of the time of ``numpy.median``."""
    import numpy as np

    ordered, half = np.sort(values), len(values) // 2
    if len(values) % 2:
        return float(ordered[half])
    return (float(ordered[half - 1]) + float(ordered[half])) / 2


def lag1(values: Array) -> float:
    """Return the autocorrelation of each value with the next; 0 if the values do not vary."""
    import numpy as np

    centred = values - np.mean(values)
    total = float(np.dot(centred, centred))
    return float(np.dot(centred[1:], centred[:-1])) / total if total > 0 else 0.0


def _batch_means(parts: Sequence[Array]) -> Array:
    """Return means of equal batches, with the size doubled until neighbors are nearly
    uncorrelated."""

    total = sum(len(part) for part in parts)
    size = max(1, total // 256)
    means = _means(parts, size)
    while len(means) >= 2 * FEWEST_BATCHES and (lag1(means) > 0.1 or size < 4):
        means, size = _means(parts, size * 2), size * 2
    if len(means) < FEWEST_BATCHES:
        return means[:0]
    # Too few batches are left to make them longer, and they are still too correlated to use.
    return means if lag1(means) <= CORRELATED else means[:0]


def _means(parts: Sequence[Array], size: int) -> Array:
    import numpy as np

    whole = [part[: len(part) // size * size].reshape(-1, size).mean(axis=1) for part in parts]
    return np.concatenate(whole) if whole else np.empty(0)
