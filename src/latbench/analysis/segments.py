"""Segment each session of a record into warm-up, levels and counted samples.

:mod:`latbench.analysis.summary` computes values from the segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

from latbench.analysis.interference import Marks
from latbench.analysis.steady_state import (
    FEWEST_SAMPLES,
    WARM_NS,
    burst_end,
    has_steady_state,
    levels,
    trend,
    warmup_end,
)
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import Record
from latbench.schema.trace import Block, Trace

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

T = TypeVar("T")
Nested = list[list[list[T]]]
"""A value of each block, by process and by load of the model in it, in the order of timing."""


class SegmentedSession:
    """One session with its warm-up, burst and levels."""

    def __init__(self, trace: Trace, marks: Sequence[frozenset[str]]) -> None:
        import numpy as np

        self.trace = trace
        self.counted, self.all, self.warmup, self.burst, first = _warmed(trace)
        self.steady = self.all[first:]
        """Counted samples: those after the warm-up phase and after the detected warm-up."""
        counts = [len(block.sample_ns) - block.settle_calls for block in trace.blocks]
        undisturbed = np.repeat([not why for why in marks], counts)
        self.quiet = np.flatnonzero(undisturbed) + len(self.all) - len(undisturbed)
        """Indices of the counted samples in undisturbed blocks."""
        self.quiet = self.quiet[self.quiet >= first]
        # A known disturbance is not a change of the model's own level.
        at = (
            self.quiet
            if 2 * len(self.quiet) > len(self.steady)
            else np.arange(first, len(self.all))
        )
        found = levels(self.all[at])
        self.starts = (first, *(int(at[start]) for start in found[1:]))
        self.steady_state = has_steady_state(len(at), found)
        self.trend = trend(self.all[at]) if len(found) == 1 else 0.0
        self.in_burst = False
        """Whether all of it belongs to a burst that continues into the next load."""

    def leave_out(self, count: int) -> None:
        """Treat the first ``count`` counted samples as part of a burst."""
        self.in_burst = count == len(self.steady)
        self.steady = self.steady[count:]
        first = len(self.all) - len(self.steady)
        self.quiet = self.quiet[self.quiet >= first]
        if not self.in_burst:
            self.burst = max(self.burst, first)
            self.starts = (first, *(start for start in self.starts[1:] if start > first))

    def level_medians(self) -> list[float]:
        """Return the median of each level."""
        import numpy as np

        stops = (*self.starts[1:], len(self.all))
        return [
            float(np.median(self.all[start:stop]))
            for start, stop in zip(self.starts, stops, strict=True)
        ]


def burst_ns(traces: Sequence[Trace]) -> int:
    """Return how long the longest burst at the start of these loads takes; 0 if there is none."""
    longest = 0.0
    for trace in traces:
        if has_samples(trace):
            run = SegmentedSession(trace, [frozenset()] * len(trace.blocks))
            medians = run.level_medians()
            end = run.starts[-1] if medians[0] < medians[-1] else run.burst
            longest = max(longest, float(run.all[:end].sum()))
    return round(longest)


def longest_warmup(traces: Sequence[Trace]) -> int | None:
    """Return the most calls that one of these loads needed to get warm; ``None`` if one never
    did."""
    ends = [_warmed(trace)[2] for trace in traces if has_samples(trace)]
    known = [end for end in ends if end is not None]
    return max(known, default=None) if len(known) == len(ends) else None


def sessions(record: Record, marks: Marks) -> list[SegmentedSession]:
    """Return warm sessions with samples; for cold-start protocols, those with a first inference."""
    cold = record.protocol.statistic.kind == "cold"
    found = [
        SegmentedSession(trace, why)
        for trace, why in zip(record.outcome.traces, marks, strict=True)
        if (has_samples(trace) and not is_cold(trace, record.protocol))
        or (cold and trace.first_ns is not None)
    ]
    for loads in by_load(found):
        for run, count in zip(loads, bursts_across([run.steady for run in loads]), strict=True):
            if count:
                run.leave_out(count)
    return found


def by_load(runs: Sequence[SegmentedSession]) -> list[list[SegmentedSession]]:
    """Return the sessions of each process, which are its loads of the model."""
    grouped: dict[int, list[SegmentedSession]] = {}
    for run in runs:
        grouped.setdefault(run.trace.process, []).append(run)
    return list(grouped.values())


def bursts_across(loads: Sequence[Array]) -> list[int]:
    """Return how many of the first samples of each load of a process belong to a burst that began
    with the process. It may last longer than a load."""
    import numpy as np

    if len(loads) < 2:
        return [0] * len(loads)
    left = burst_end(np.concatenate(loads))
    counts = []
    for load in loads:
        counts.append(min(left, len(load)))
        left -= counts[-1]
    return counts


def shifts_across(runs: Sequence[SegmentedSession]) -> list[int]:
    """Return for each process with several loads whether later loads are slower (1), faster (-1) or
    neither (0): a level or a trend that one load is too short to show."""
    import numpy as np

    found = []
    for loads in by_load(runs):
        if len(loads) > 1:
            joined = np.concatenate([run.steady for run in loads])
            starts = levels(joined)
            change = trend(joined) if len(starts) == 1 else 0.0
            if len(starts) > 1:
                change = float(np.median(joined[starts[-1] :]) - np.median(joined[: starts[1]]))
            found.append((change > 0) - (change < 0))
    return found


def warm_traces(record: Record) -> tuple[Trace, ...]:
    """Return the traces of a record whose samples count: all but those that :func:`is_cold`."""
    return tuple(each for each in record.outcome.traces if not is_cold(each, record.protocol))


def is_cold(trace: Trace, protocol: TimingProtocol) -> bool:
    """Whether the time budget ended a session before it was warm.

    Loading the model may use up a process's share of the budget. The first calls of a block can be
    many times slower than the latency: 17 against 2.3 microseconds for a small model. A session
    that has all the calls of its protocol counts, and so does one of :data:`WARM_NS`.
    """
    if protocol.budget_ns is None or protocol.statistic.kind == "cold":
        return False
    timed = samples(trace)
    complete = len(timed) >= protocol.min_calls and sum(timed) >= protocol.min_ns
    return not complete and len(timed) < FEWEST_SAMPLES and sum(timed) < WARM_NS


def process_samples(traces: Sequence[Trace]) -> dict[int, Array]:
    """Return the samples after the detected warm-up, by process."""
    import numpy as np

    grouped: dict[int, list[Array]] = {}
    for trace in traces:
        if has_samples(trace):
            _, joined, _, _, first = _warmed(trace)
            grouped.setdefault(trace.process, []).append(joined[first:])
    return {
        process: np.concatenate(loads)[sum(bursts_across(loads)) :]
        for process, loads in grouped.items()
    }


def by_process(values: Sequence[tuple[int, Array]]) -> dict[int, Array]:
    """Return the samples of each process, with its sessions concatenated."""
    import numpy as np

    grouped: dict[int, list[Array]] = {}
    for process, array in values:
        grouped.setdefault(process, []).append(array)
    return {process: np.concatenate(arrays) for process, arrays in grouped.items()}


def samples(trace: Trace) -> list[int]:
    """Return all samples of one session in order, without warm-up and discarded calls."""
    return [ns for block in trace.blocks for ns in counted(block)]


def has_samples(trace: Trace) -> bool:
    """Whether :func:`samples` has any."""
    return any(len(block.sample_ns) > block.settle_calls for block in trace.blocks)


def counted(block: Block) -> tuple[int, ...]:
    """Return a block's samples without its discarded calls."""
    return block.sample_ns[block.settle_calls :]


def paired_ratios(below: Sequence[Trace], above: Sequence[Trace]) -> list[float]:
    """Return the ratio of ``above`` to ``below`` for each process that both have.

    The two blocks of a round, timed one after the other, give the ratio of their medians; a process
    gives the median of these ratios. Disturbances that last longer than a round affect both blocks.
    On a shared two-core machine where the processes' medians varied by 2.2 %, these ratios varied
    by 0.5 to 0.6 %, and ratios of 10th percentiles by 0.8 to 1.2 % (``docs/decisions/0007``).
    """
    return [median(chain.from_iterable(loads)) for loads in nested_ratios(below, above)]


def nested_ratios(below: Sequence[Trace], above: Sequence[Trace]) -> Nested[float]:
    """Return the ratio of ``above`` to ``below`` in each round, where both have warm samples."""
    partners = {(trace.process, trace.session): trace for trace in below}
    found: dict[int, list[list[float]]] = {}
    for trace in above:
        other = partners.get((trace.process, trace.session))
        if other is None:
            continue
        bottoms, tops = warm_blocks(other), warm_blocks(trace)
        pairs = [
            (median(bottoms[i]), median(tops[i])) for i in sorted(bottoms.keys() & tops.keys())
        ]
        if ratios := [top / bottom for bottom, top in pairs if bottom > 0 and top > 0]:
            found.setdefault(trace.process, []).append(ratios)
    return list(found.values())


def nested_samples(traces: Sequence[Trace]) -> Nested[Sequence[int]]:
    """Return the samples of each block after the detected warm-up."""
    found: dict[int, list[list[Sequence[int]]]] = {}
    for trace in traces:
        if blocks := list(warm_blocks(trace).values()):
            found.setdefault(trace.process, []).append(blocks)
    return list(found.values())


def warm_blocks(trace: Trace) -> dict[int, Sequence[int]]:
    """Return the samples of each block after the detected warm-up."""
    if not has_samples(trace):
        return {}
    *_, first = _warmed(trace)
    at, warm = len(trace.warmup_ns), dict[int, Sequence[int]]()
    for i, block in enumerate(trace.blocks):
        values = counted(block)
        if kept := values[max(0, first - at) :]:
            warm[i] = kept
        at += len(values)
    return warm


def _warmed(trace: Trace) -> tuple[Array, Array, int | None, int, int]:
    """Return the counted samples, all samples with warm-up, the ends of warm-up and burst, and the
    index of the first sample to use."""
    import numpy as np

    counted = samples(trace)
    # A cold-start protocol has only the first inference.
    values = np.asarray(counted or [trace.first_ns or 0], dtype=np.float64)
    before = np.asarray(trace.warmup_ns if counted else (), dtype=np.float64)
    joined = np.concatenate((before, values))
    warmup, burst = warmup_end(joined), burst_end(joined)
    return values, joined, warmup, burst, max(warmup or 0, burst, len(before))
