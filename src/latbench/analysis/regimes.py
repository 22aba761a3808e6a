"""The regimes that the sessions of a record were in."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, get_args

from latbench.analysis.segments import (
    SegmentedSession,
)
from latbench.schema.record import Record
from latbench.schema.value import Value

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

from latbench.analysis.estimators import median_of

SUSTAINED_NS = 60_000_000_000


RegimeName = Literal["cold", "burst", "steady", "sustained", "duty-cycled", "changing"]


class Regime(Value, frozen=True, kw_only=True):
    """A state in which processes were seen, and its typical latency there.

    ``cold``: the first inference. ``burst``: a faster level before a slower one that stays.
    ``steady``: the last level. ``sustained``: a last level that goes on beyond a minute without a
    pause.
    ``duty-cycled``: with idle gaps. ``changing``: levels that come and go.
    """

    name: RegimeName
    processes: int
    median_ns: int


def regimes_of(record: Record, runs: Sequence[SegmentedSession]) -> tuple[Regime, ...]:
    """The regimes that the sessions of ``record`` were in, each with its median latency."""
    found: dict[RegimeName, list[float]] = {}
    for run in runs:
        if run.trace.first_ns is not None:
            found.setdefault("cold", []).append(run.trace.first_ns)
        if not run.trace.blocks:
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
        # One after another without a pause, so their sum is the time that has passed.
        last: RegimeName = "sustained" if run.all.sum() >= SUSTAINED_NS else "steady"
        found.setdefault(last, []).append(medians[-1])
    return tuple(
        Regime(name=name, processes=len(found[name]), median_ns=round(median(found[name])))
        for name in get_args(RegimeName)
        if name in found
    )
