"""A plan as lines: what the wanted precision takes first."""

from __future__ import annotations

from latbench.analysis.power import Estimate, Plan
from latbench.report.text.layout import labeled
from latbench.report.units import seconds, time


def plan_lines(plan: Plan, name: str) -> list[str]:
    """What the goals take, then where the variance comes from; ``name`` describes the pilot."""
    first, *others = plan.estimates
    lines = [f"{first.goal} takes {_cost(first)}"]
    if first.how is not None:
        lines.append(labeled("command", first.how))
    lines += [
        labeled("also" if i == 0 else "", f"{each.goal} takes {_cost(each)}{_how(each)}")
        for i, each in enumerate(others)
    ]
    for i, part in enumerate(plan.components):
        value = "not varied" if part.deviation is None else f"{part.deviation:.2%}"
        note = f" ({part.note})" if part.note else ""
        label = "variation" if i == 0 else ""
        lines.append(labeled(label, f"{part.level.ljust(10)} {value}{note}"))
    efficient = f"{plan.best_blocks} blocks per process reach a precision in the least time"
    lines.append(labeled("efficient", efficient))
    pilot = (
        f"{plan.processes} processes of {plan.blocks_per_process} blocks of "
        f"{plan.calls_per_block} calls, {time(plan.median_ns)} per call"
    )
    return [*lines, labeled("pilot", pilot), labeled("", name)]


def _cost(estimate: Estimate) -> str:
    return f"about {seconds(estimate.seconds)} ({estimate.processes} processes)"


def _how(estimate: Estimate) -> str:
    return f": {estimate.how}" if estimate.how is not None else ""
