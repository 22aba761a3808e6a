"""Detect where the warm-up of a process ends, and where its level changes afterwards.

Both use only the samples, and both can find that there is no steady state. Barrett et al. 2017
(*Virtual machine warmup blows hot and cold*, OOPSLA) show why a steady state must not be assumed.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

from latbench.analysis.stats import (
    lag1,
    middle,
    quantile,
    robust_deviation,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

FEWEST_SAMPLES = 16
"""With fewer samples, no warm-up is detected and all samples are used."""
WARM_NS = 50_000_000
"""A process that has executed for so long is past its first calls, however few there were."""
SCANS = ((0.75, 0.61, 2.3), (0.95, 0.44, 1.1))
"""Quantile of the later half; the share of samples above it at which a slow start is more likely
than steady; and the score needed to accept it: six and two samples in a row."""
CHANGE = 0.02
"""Smallest relative change of level that is detected."""
SCORE = 5.0
"""Number of standard errors by which two levels must differ."""
BATCHES = 40
FEWEST_IN_LEVEL = 8
"""Least number of batches in a level. A level lasts a fifth of the run; interference is shorter."""
FEWEST_IN_BURST = 8
"""Least number of samples in a burst."""
MOST_CORRELATION = 0.5
"""Autocorrelation of the residuals of two levels below which batches are treated as independent."""
LEVEL_OVERLAP = 0.75
"""Share of pairs of batches (one before, one after) that must differ in the levels' direction."""
LEVELS = 3
"""A process with more levels than this has no steady state."""


def warmup_end(samples: Array) -> int | None:
    """Return how many of the first ``samples`` of a process are warm-up; ``None`` if it does not
    end.

    The later half of the samples is the reference. Warm-up lasts as long as samples above one of
    its high quantiles are more likely under "nine of ten are slow" than under its own share: the
    place where the running sum of log-likelihood ratios is largest (a scan for one change of a
    Bernoulli share; Page 1954). Samples count by rank, so that outliers of any size weigh the same.
    """
    import numpy as np

    n = len(samples)
    if n < FEWEST_SAMPLES:
        return 0
    later = np.sort(samples[n // 2 :])
    end = 0
    for share, threshold, believed in SCANS:
        high = quantile(later, share)
        score = np.cumsum((samples > high) - threshold)
        top = int(np.argmax(score))
        if score[top] >= believed:
            end = max(end, top + 1)
    return end if end <= n // 2 else None


def burst_end(samples: Array) -> int:
    """Return how many of the first ``samples`` of a process are a burst; 0 if there is none.

    A burst is faster than the rest, as on a phone before it throttles.

    This is the scan of :func:`warmup_end` with inverted signs. A burst has at least
    :data:`FEWEST_IN_BURST` samples and is faster by :data:`CHANGE`. A fifth of the samples or more
    is a level of its own, which :func:`levels` finds.
    """
    import numpy as np

    end = warmup_end(-samples) or 0
    if not FEWEST_IN_BURST <= end <= len(samples) // 5:
        return 0
    fast, rest = middle(samples[:end]), np.sort(samples[end:])
    # Correlated samples drift: a start that is not faster than the fastest later samples is no
    # burst.
    wander = quantile(rest, 0.01)
    return end if fast < min(wander, (1 - CHANGE) * middle(rest)) else 0


def levels(samples: Array) -> tuple[int, ...]:
    """Return the indices into ``samples`` at which a level begins; the first is 0.

    Binary segmentation (Scott & Knott 1974; Fryzlewicz 2014 reviews it) of the medians of up to
    :data:`BATCHES` batches. A split is accepted if its two medians differ by :data:`CHANGE` and by
    :data:`SCORE` standard errors. These are computed from the median absolute deviation within the
    two sides and widened for the remaining autocorrelation.
    """
    medians, size = _batch_medians(samples)
    if len(medians) < 2 * FEWEST_IN_LEVEL:
        return (0,)
    starts = _split(medians, 0, len(medians))
    return (0, *(start * size for start in starts))


def fast_start(samples: Array) -> int:
    """Return how many of the first ``samples`` came before the last level, if they are faster.

    0 if they are not. A short one is a burst, a longer one a level.
    """
    if end := burst_end(samples):
        return end
    starts = levels(samples)
    if len(starts) < 2 or not has_steady_state(len(samples), starts):
        return 0
    first, last = middle(samples[: starts[1]]), middle(samples[starts[-1] :])
    return starts[-1] if first < (1 - CHANGE) * last else 0


def trend(samples: Array) -> float:
    """Return the relative change from the first to the last sample of a fitted line; 0 if none.

    Least squares through the medians of batches, accepted by the same two rules as a change of
    level: at least :data:`CHANGE`, and :data:`SCORE` standard errors of the slope, widened for the
    autocorrelation of the residuals.
    """
    import numpy as np

    medians, _ = _batch_medians(samples)
    count = len(medians)
    if count < 2 * FEWEST_IN_LEVEL:
        return 0.0
    at = np.linspace(-0.5, 0.5, count)
    middle = float(np.mean(medians))
    slope = float(np.dot(at, medians - middle) / np.dot(at, at))
    rest = medians - middle - slope * at
    correlated = min(max(lag1(rest), 0.0), 0.9)
    error = float(np.sqrt(np.dot(rest, rest) / (count - 2) / np.dot(at, at)))
    error = max(error * sqrt((1 + correlated) / (1 - correlated)), 1e-6 * abs(middle))
    change = slope / middle if middle else 0.0
    return change if abs(slope) > SCORE * error and abs(change) >= CHANGE else 0.0


def has_steady_state(samples: int, starts: tuple[int, ...]) -> bool:
    """Whether the last level that :func:`levels` found is long enough to be a steady state."""
    return len(starts) <= LEVELS and samples - starts[-1] >= samples // 4


def _batch_medians(samples: Array) -> tuple[Array, int]:
    """Return medians of up to :data:`BATCHES` batches of equal size, and that size."""
    import numpy as np

    size = max(1, -(-len(samples) // BATCHES))
    count = len(samples) // size
    return np.median(samples[: count * size].reshape(count, size), axis=1), size


def _split(medians: Array, start: int, stop: int) -> list[int]:
    import numpy as np

    best, where, change = 0.0, None, 0.0
    part = medians[start:stop]
    for k in range(FEWEST_IN_LEVEL, len(part) - FEWEST_IN_LEVEL + 1):
        left, right = middle(part[:k]), middle(part[k:])
        rest = np.concatenate((part[:k] - left, part[k:] - right))
        error = robust_deviation(rest) * sqrt(1 / k + 1 / (len(part) - k))
        # The clock's resolution limits the precision of a level.
        error = max(error, 1e-6 * abs(left), 1e-9)
        score = abs(right - left) / error
        if score > best:
            correlated = min(max(lag1(rest), 0.0), 0.9)
            score /= sqrt((1 + correlated) / (1 - correlated))
            if score > best:
                best, where = score, start + k
                change = abs(right - left) / min(abs(left), abs(right)) if left and right else 0.0
    if where is None or best < SCORE or change < CHANGE:
        return []
    if _alternates(part[: where - start], part[where - start :]):
        return []
    return [*_split(medians, start, where), where, *_split(medians, where, stop)]


def _alternates(left: Array, right: Array) -> bool:
    """Whether batches on either side take values of the other side, as with two alternating modes.

    In that case more than half of the batches are equal and the median deviation is 0. The test is
    Mann & Whitney's share of pairs that differ in one direction. Correlated residuals have levels
    of their own.
    """
    import numpy as np

    if lag1(np.concatenate((left - np.mean(left), right - np.mean(right)))) >= MOST_CORRELATION:
        return False
    above = np.sign(right[:, None] - left[None, :])
    return abs(float(above.mean())) < 2 * LEVEL_OVERLAP - 1
