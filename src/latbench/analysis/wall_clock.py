"""The wall clock of a machine may be set while something is measured."""

from __future__ import annotations

from latbench.schema.record import Record
from latbench.schema.trace import Trace

SLACK_NS = 1_000_000_000
"""Clocks that are adjusted gradually differ by less during a run."""


def set_back_ns(record: Record) -> int | None:
    """Return by how much the wall clock was at least set back during the run; ``None`` if not.

    All durations are from a monotonic clock, so they are right even so.
    """
    after = record.environment.after
    if after is None:
        return None
    wall_ns = after.unix_ns - record.environment.before.unix_ns
    least_ns = max(map(_elapsed_ns, record.outcome.traces), default=0)
    back_ns = least_ns - wall_ns
    return back_ns if back_ns > SLACK_NS else None


def _elapsed_ns(trace: Trace) -> int:
    """From the beginning of the timing to the end of the trace."""
    ends = [block.start_ns + sum(block.sample_ns) for block in trace.blocks]
    return (trace.opened_ns or 0) + max(ends, default=0)
