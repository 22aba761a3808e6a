"""Profiles in the trace event format, which Perfetto and Chrome's ``about:tracing`` open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latbench.analysis.operator_shares import ProfileShares
from latbench.report.json import to_json

MICROSECOND_NS = 1000


def chrome_trace(named: Sequence[tuple[str, ProfileShares]]) -> str:
    """One process for each named profile: the mean inference, and its operators in order.

    Operators follow each other without gaps, because a profile has durations only. Times are those
    of the profiled inference; ``args`` have the share and the time scaled to the latency.
    """
    events: list[dict[str, Any]] = []
    for pid, (name, shares) in enumerate(named, 1):
        events.append({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}})
        for tid, thread in ((1, "inference"), (2, "operators")):
            label = {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid}
            events.append({**label, "args": {"name": thread}})
        spent = sum(operator.profiled_ns for operator in shares.operators)
        whole = {"calls": shares.calls, "source": shares.source, "latency_ns": shares.latency_ns}
        events.append(_event("inference", pid, 1, 0, max(shares.profiled_ns, spent), "", whole))
        start = 0
        for operator in shares.operators:
            facts = {
                "share": operator.share,
                "latency_ns": operator.latency_ns,
                "unit": operator.unit,
                "precision": operator.precision,
            }
            event = (operator.name or operator.kind, pid, 2, start, operator.profiled_ns)
            events.append(_event(*event, operator.kind, facts))
            start += operator.profiled_ns
    return to_json({"traceEvents": events, "displayTimeUnit": "ms"}) + "\n"


def _event(
    name: str, pid: int, tid: int, start_ns: int, ns: int, kind: str, args: dict[str, Any]
) -> dict[str, Any]:
    """A complete event. The format counts in microseconds."""
    return {
        "ph": "X",
        "name": name,
        "cat": kind or "inference",
        "pid": pid,
        "tid": tid,
        "ts": start_ns / MICROSECOND_NS,
        "dur": ns / MICROSECOND_NS,
        "args": args,
    }
