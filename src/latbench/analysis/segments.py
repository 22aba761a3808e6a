"""What is found in each session of a record: its warm-up, its levels, the samples that count.

The level below :mod:`latbench.analysis.summary`, which makes figures of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from latbench.analysis.interference import Marks
from latbench.analysis.steady_state import (
    burst_end,
    has_steady_state,
    levels,
    trend,
    warmup_end,
)
from latbench.schema.record import Record
from latbench.schema.trace import Block, Trace

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


class SegmentedSession:
    """One session with what was found in it."""

    def __init__(self, trace: Trace, marks: Sequence[frozenset[str]]) -> None:
        import numpy as np

        self.trace = trace
        self.counted, self.all, self.warmup, self.burst, first = _warmed(trace)
        self.steady = self.all[first:]
        """The samples that count: after the warm-up phase, and after warm-up as it was found."""
        counts = [len(block.sample_ns) - block.settle_calls for block in trace.blocks]
        undisturbed = np.repeat([not why for why in marks], counts)
        self.quiet = np.flatnonzero(undisturbed) + len(self.all) - len(undisturbed)
        """Where samples of undisturbed blocks are that count."""
        self.quiet = self.quiet[self.quiet >= first]
        # A disturbance that is known as such is no change of the model's own level.
        at = (
            self.quiet
            if 2 * len(self.quiet) > len(self.steady)
            else np.arange(first, len(self.all))
        )
        found = levels(self.all[at])
        self.starts = (first, *(int(at[start]) for start in found[1:]))
        self.steady_state = has_steady_state(len(at), found)
        self.trend = trend(self.all[at]) if len(found) == 1 else 0.0

    def level_medians(self) -> list[float]:
        """The median of each level."""
        import numpy as np

        stops = (*self.starts[1:], len(self.all))
        return [
            float(np.median(self.all[start:stop]))
            for start, stop in zip(self.starts, stops, strict=True)
        ]


def sessions(record: Record, marks: Marks) -> list[SegmentedSession]:
    """Those with samples; in a protocol of cold starts, those with a first inference."""
    cold = record.protocol.statistic.kind == "cold"
    return [
        SegmentedSession(trace, why)
        for trace, why in zip(record.outcome.traces, marks, strict=True)
        if has_samples(trace) or (cold and trace.first_ns is not None)
    ]


def process_samples(traces: Sequence[Trace]) -> dict[int, Array]:
    """The samples that count, by process: after warm-up as it was found."""
    found = []
    for trace in traces:
        if has_samples(trace):
            _, joined, _, _, first = _warmed(trace)
            found.append((trace.process, joined[first:]))
    return by_process(found)


def by_process(values: Sequence[tuple[int, Array]]) -> dict[int, Array]:
    """The samples of each process, its sessions one after another."""
    import numpy as np

    grouped: dict[int, list[Array]] = {}
    for process, array in values:
        grouped.setdefault(process, []).append(array)
    return {process: np.concatenate(arrays) for process, arrays in grouped.items()}


def samples(trace: Trace) -> list[int]:
    """All counted samples of one session, in order, warm-up and settling calls left out."""
    return [ns for block in trace.blocks for ns in counted(block)]


def has_samples(trace: Trace) -> bool:
    """Whether :func:`samples` has any."""
    return any(len(block.sample_ns) > block.settle_calls for block in trace.blocks)


def counted(block: Block) -> tuple[int, ...]:
    """A block's samples without its settling calls."""
    return block.sample_ns[block.settle_calls :]


def paired_ratios(below: Sequence[Trace], above: Sequence[Trace]) -> list[float]:
    """``above`` over ``below``, one ratio for each process that both have.

    Of two blocks of one round, timed one after the other, the ratio of their medians; of a process,
    the median of these. What the machine does for longer than a round is in both. On a shared
    two-core machine whose processes' medians varied by 2.2 %, these varied by 0.5 to 0.6 %; ratios
    of the two's 10th percentiles by 0.8 to 1.2 % (``docs/decisions/0007``).
    """
    beside = {(trace.process, trace.session): trace for trace in below}
    found: dict[int, list[float]] = {}
    for trace in above:
        other = beside.get((trace.process, trace.session))
        if other is None:
            continue
        bottoms, tops = warm_blocks(other), warm_blocks(trace)
        for i in sorted(bottoms.keys() & tops.keys()):
            bottom, top = median(bottoms[i]), median(tops[i])
            if bottom > 0 and top > 0:
                found.setdefault(trace.process, []).append(top / bottom)
    return [median(ratios) for ratios in found.values()]


def warm_blocks(trace: Trace) -> dict[int, Sequence[int]]:
    """The counted samples of each block that come after the warm-up as it was found."""
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
    """The counted samples; all with warm-up before them; the warm-up found; the burst found; where
    what counts begins."""
    import numpy as np

    counted = samples(trace)
    # In a protocol of cold starts the first inference is all there is.
    values = np.asarray(counted or [trace.first_ns or 0], dtype=np.float64)
    before = np.asarray(trace.warmup_ns if counted else (), dtype=np.float64)
    joined = np.concatenate((before, values))
    warmup, burst = warmup_end(joined), burst_end(joined)
    return values, joined, warmup, burst, max(warmup or 0, burst, len(before))
