"""Where the warm-up of a process ends, and where its level changes afterwards.

Both are found from the samples alone; both may answer that there is no steady state. Barrett et
al. 2017 (*Virtual machine warmup blows hot and cold*, OOPSLA) show why neither may be assumed.
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
"""Below this nothing is found: the samples are taken as they are."""
SCANS = ((0.75, 0.61, 2.3), (0.95, 0.44, 1.1))
"""Quantile of the later half; the share of samples above it from which slow at first is likelier
than steady; and the score that is believed: six and two samples in a row."""
CHANGE = 0.02
"""Relative change of level that matters."""
SCORE = 5.0
"""Standard errors by which two levels must differ."""
BATCHES = 40
FEWEST_IN_LEVEL = 8
"""Batches: a level lasts a fifth of what was timed, a burst of interference does not."""
FEWEST_IN_BURST = 8
"""Samples."""
HARDLY = 0.5
"""Autocorrelation of what two levels leave, below which the batches are taken as independent."""
LEVEL_OVERLAP = 0.75
"""Share of the pairs of batches, one before and one after, that must differ as the levels do."""
LEVELS = 3
"""A process with more levels than this has no steady state."""


def warmup_end(samples: Array) -> int | None:
    """How many of the first ``samples`` of a process are warm-up; ``None``: it does not end.

    The later half of the samples is the reference. Warm-up lasts as long as samples above one of
    its high quantiles are likelier under "nine of ten are slow" than under its own share: the place
    where the running sum of log-likelihood ratios is largest (a scan for one change of a Bernoulli
    share; Page 1954). Samples count by rank, so that outliers of any size weigh the same.
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
    """How many of the first ``samples`` of a process are a burst: faster than what follows, as on a
    phone before it slows itself down. 0: none is found.

    The scan of :func:`warmup_end` with the samples' signs changed. At least
    :data:`FEWEST_IN_BURST` of them, faster by :data:`CHANGE`; one of a fifth and more is a level of
    its own, for :func:`levels` to find.
    """
    import numpy as np

    end = warmup_end(-samples) or 0
    if not FEWEST_IN_BURST <= end <= len(samples) // 5:
        return 0
    fast, rest = middle(samples[:end]), np.sort(samples[end:])
    # Samples that hang together wander: what is no faster than they get is no burst.
    wander = quantile(rest, 0.01)
    return end if fast < min(wander, (1 - CHANGE) * middle(rest)) else 0


def levels(samples: Array) -> tuple[int, ...]:
    """Where a new level begins: indices into ``samples``, 0 the first.

    Binary segmentation (Scott & Knott 1974; Fryzlewicz 2014 reviews it) of the medians of up to
    :data:`BATCHES` batches. A split is believed where its two medians differ by :data:`CHANGE` and
    by :data:`SCORE` standard errors, these from the median absolute deviation within the two sides
    and widened for the autocorrelation that is left there.
    """
    medians, size = _batch_medians(samples)
    if len(medians) < 2 * FEWEST_IN_LEVEL:
        return (0,)
    starts = _split(medians, 0, len(medians))
    return (0, *(start * size for start in starts))


def trend(samples: Array) -> float:
    """Relative change from the first to the last sample by a straight line; 0 where none is found.

    Least squares through the medians of batches, believed by the same two rules as a change of
    level: at least :data:`CHANGE`, and :data:`SCORE` standard errors of the slope, widened for the
    autocorrelation of what the line leaves.
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
    """Whether the last of the levels that :func:`levels` found is one to speak of."""
    return len(starts) <= LEVELS and samples - starts[-1] >= samples // 4


def _batch_medians(samples: Array) -> tuple[Array, int]:
    """Medians of up to :data:`BATCHES` batches of equal size, and that size."""
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
        # A clock's resolution bounds how well a level can be known.
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
    if _comes_and_goes(part[: where - start], part[where - start :]):
        return []
    return [*_split(medians, start, where), where, *_split(medians, where, stop)]


def _comes_and_goes(left: Array, right: Array) -> bool:
    """Whether batches on either side take the other side's values by chance, as of two modes that
    alternate: more than half of them are equal, and the median deviation says that they do not
    vary. By Mann & Whitney's share of pairs that differ one way. Where what is left hangs together,
    it has levels of its own."""
    import numpy as np

    if lag1(np.concatenate((left - np.mean(left), right - np.mean(right)))) >= HARDLY:
        return False
    above = np.sign(right[:, None] - left[None, :])
    return abs(float(above.mean())) < 2 * LEVEL_OVERLAP - 1
