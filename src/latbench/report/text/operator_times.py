"""Times by operator as a line of text."""

from __future__ import annotations

from latbench.analysis.operator_shares import operator_shares
from latbench.report.units import time
from latbench.schema.trace import Profile

MOST_KINDS = 5


def operators(profile: Profile, latency_ns: float | None) -> str:
    """The kinds of operators that take most of the time, scaled to the latency, and how much the
    profiler slowed it down."""
    shares = operator_shares(profile, latency_ns)
    shown = [
        f"{each.operators} {each.kind} {each.share:.0%}"
        + ("" if each.time_ns is None else f" ({time(each.time_ns)})")
        for each in shares[:MOST_KINDS]
    ]
    if len(shares) > MOST_KINDS:
        shown.append(f"{len(shares) - MOST_KINDS} more kinds")
    between = 1 - sum(each.share for each in shares)
    if between >= 0.005:
        shown.append(f"between operators {between:.0%}")
    profiled = f"{time(profile.total_ns)} with {profile.source}, {profile.calls} calls"
    if latency_ns:
        profiled += f": {profile.total_ns / latency_ns:.2g}x the latency"
    return f"{', '.join(shown)}; {profiled}"
