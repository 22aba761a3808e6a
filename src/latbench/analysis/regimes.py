"""Find the regimes of a record's sessions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, get_args

from latbench.analysis.segments import SegmentedSession
from latbench.analysis.steady_state import CHANGE, FEWEST_IN_BURST, fast_start
from latbench.schema.record import Record
from latbench.schema.value import Value

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

from latbench.analysis.estimators import median_of

SUSTAINED_NS = 60_000_000_000


RegimeName = Literal["cold", "burst", "steady", "sustained", "duty-cycled", "changing"]


class Regime(Value, frozen=True, kw_only=True):
    """A state of the processes, and the median latency in it.

    ``cold``: the first inference. ``burst``: a faster level before a slower one that stays.
    ``steady``: the last level. ``sustained``: a last level that continues beyond a minute without a
    pause.
    ``duty-cycled``: with idle gaps. ``changing``: levels that alternate.
    """

    name: RegimeName
    processes: int
    median_ns: int


def regimes_of(record: Record, runs: Sequence[SegmentedSession]) -> tuple[Regime, ...]:
    """Return the regimes of the sessions of ``record``, each with its median latency."""
    found: dict[RegimeName, list[float]] = {}
    for run in runs:
        if run.trace.first_ns is not None:
            found.setdefault("cold", []).append(run.trace.first_ns)
        if not run.trace.blocks:
            continue
        if run.in_burst:
            found.setdefault("burst", []).append(median_of(run.all))
            continue
        medians = run.level_medians()
        if record.protocol.period_ns is not None:
            found.setdefault("duty-cycled", []).append(median_of(run.steady))
            continue
        if not run.steady_state:
            found.setdefault("changing", []).append(median_of(run.steady))
            continue
        if run.burst:
            found.setdefault("burst", []).append(median_of(run.all[: run.burst]))
        elif len(medians) > 1 and medians[0] < medians[-1]:
            found.setdefault("burst", []).append(medians[0])
        elif end := _fast_warmup(run, medians[0]):
            found.setdefault("burst", []).append(median_of(run.all[:end]))
        # Inferences run back to back, so their sum is the elapsed time.
        last: RegimeName = "sustained" if run.all.sum() >= SUSTAINED_NS else "steady"
        found.setdefault(last, []).append(medians[-1])
    return tuple(
        Regime(name=name, processes=len(found[name]), median_ns=round(median(found[name])))
        for name in get_args(RegimeName)
        if name in found
    )


def _fast_warmup(run: SegmentedSession, typical: float) -> int:
    """How many of the first samples were a burst that was over before the samples that count."""
    before = run.all[: len(run.all) - len(run.steady)]
    # Most warm-ups are slower, and need no further look.
    if len(before) < FEWEST_IN_BURST or median_of(before) >= (1 - CHANGE / 2) * typical:
        return 0
    return min(fast_start(run.all), len(before))
