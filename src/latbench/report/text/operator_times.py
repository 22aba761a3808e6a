"""Times by operator as a line of text."""

from __future__ import annotations

from collections import Counter

from latbench.analysis.operator_shares import profile_shares
from latbench.report.units import time
from latbench.schema.trace import OperatorPlan, Profile

MOST_KINDS = 5
"""Kinds that a text lists."""


def operators(profile: Profile, latency_ns: float | None) -> str:
    """The kinds of operators that take most of the time, scaled to the latency, and how much the
    profiler slowed it down."""
    found = profile_shares(profile, latency_ns)
    shown = [
        f"{each.operators} {each.kind} {each.share:.0%}"
        + ("" if latency_ns is None else f" ({time(each.latency_ns)})")
        for each in found.kinds[:MOST_KINDS]
    ]
    if len(found.kinds) > MOST_KINDS:
        shown.append(f"{len(found.kinds) - MOST_KINDS} more kinds")
    if found.outside >= 0.005:
        shown.append(f"between operators {found.outside:.0%}")
    profiled = f"{time(profile.total_ns)} with {profile.source}, {profile.calls} calls"
    if found.ratio is not None:
        profiled += f": {found.ratio:.2g}x the latency"
    return f"{', '.join(shown)}; {profiled}"


def planned_text(plan: OperatorPlan) -> str:
    """How many operators are planned for each unit, most first."""
    units = Counter(each.unit for each in plan.operators)
    shown = ", ".join(f"{count} on {unit}" for unit, count in units.most_common())
    return f"planned by {plan.source}, not timed: {shown}"
