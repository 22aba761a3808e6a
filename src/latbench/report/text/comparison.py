"""A comparison and a plan as lines that a person reads."""

from __future__ import annotations

from latbench.analysis.comparison import Comparison
from latbench.analysis.power import Plan
from latbench.analysis.stats import CONFIDENCE
from latbench.report.text.answer import STOPPED, title
from latbench.report.text.device import conditions
from latbench.report.text.layout import labelled
from latbench.report.units import decimals, seconds, time
from latbench.schema.record import Record


def comparison_lines(a: Record, b: Record, found: Comparison, registry: str) -> list[str]:
    """The verdict first."""
    turns = "in turn" if found.interleaved else "not in turn"
    lines = [
        verdict_line(found),
        labelled("A", title(a)),
        labelled("B", title(b)),
        labelled(
            "ratio",
            f"B / A {_ratio(found.ratio, found.interval)} of the {found.quantity} latency, "
            f"{found.processes} pair{'' if found.processes == 1 else 's'} of processes, {turns}",
        ),
    ]
    other = "typical" if found.quantity == "best-case" else "best-case"
    if found.other_ratio is not None:
        lines.append(
            labelled("", f"B / A {_ratio(found.other_ratio, found.other_interval)} of the {other}")
        )
    lines += [labelled("because" if i == 0 else "", why) for i, why in enumerate(found.reasons)]
    if found.to_tell is not None:
        took = "" if found.to_tell.seconds is None else f", about {seconds(found.to_tell.seconds)}"
        lines.append(
            labelled(
                "to tell",
                f"about {found.to_tell.processes} pairs of processes{took}: --budget, --target",
            )
        )
    lines.append(labelled("protocol", _protocol(a, found)))
    lines.append(labelled("conditions", conditions(a)))
    lines.append(labelled("records", f"{a.id} {b.id} in {registry}"))
    return lines


def _protocol(record: Record, found: Comparison) -> str:
    parts = [f"{record.protocol.label} {record.protocol_sha256[:8]}"]
    if found.interleaved and record.protocol.target_ppm is not None:
        target = record.protocol.target_ppm / 1e6
        reached = found.half_width is not None and found.half_width <= target
        width = "unknown" if found.half_width is None else f"±{found.half_width:.2%}"
        parts.append(
            f"precision of the ratio {width}, target ±{100 * target:g}% "
            f"{'reached' if reached else 'not reached'}"
        )
    if found.interleaved and record.outcome.stopped is not None:
        parts.append(STOPPED[record.outcome.stopped])
    return "; ".join(parts)


def verdict_line(found: Comparison) -> str:
    """One sentence."""
    if found.verdict == "same":
        return f"B is the same as A within ±{100 * found.margin:g} %"
    if found.verdict == "inconclusive" or found.ratio is None:
        return "inconclusive"
    by = abs(found.ratio - 1)
    digits = 1 if found.interval is None else decimals(50 * (found.interval[1] - found.interval[0]))
    return f"B is {found.verdict} than A by {100 * by:.{digits}f} %"


def plan_lines(plan: Plan) -> list[str]:
    """Where the variance comes from, and what a goal takes."""
    lines = [
        labelled(
            "pilot",
            f"{plan.processes} processes of {plan.blocks_per_process} blocks of "
            f"{plan.calls_per_block} calls, {time(plan.median_ns)} a call",
        )
    ]
    for i, part in enumerate(plan.components):
        value = "not varied" if part.deviation is None else f"{part.deviation:.2%}"
        note = f" ({part.note})" if part.note else ""
        label = "variation" if i == 0 else ""
        lines.append(labelled(label, f"{part.level.ljust(10)} {value}{note}"))
    lines.append(
        labelled(
            "best",
            f"{plan.best_blocks} blocks in a process give any precision in the least time",
        )
    )
    for i, estimate in enumerate(plan.estimates):
        lines.append(
            labelled(
                "takes" if i == 0 else "",
                f"{estimate.goal}: {estimate.processes} processes, "
                f"about {seconds(estimate.seconds)}"
                + (f": {estimate.how}" if estimate.how is not None else ""),
            )
        )
    return lines


def _ratio(ratio: float | None, interval: tuple[float, float] | None) -> str:
    if ratio is None:
        return "unknown"
    if interval is None:
        return f"{ratio:.3g}"
    digits = decimals((interval[1] - interval[0]) / 2)
    low, high = interval
    return f"{ratio:.{digits}f} ({CONFIDENCE:.0%} interval {low:.{digits}f} to {high:.{digits}f})"
