"""Everything about a record, and lists of records, as lines."""

from __future__ import annotations

import msgspec

from latbench.analysis.summary import SentinelRatio, Summary
from latbench.analysis.wall_clock import set_back_ns
from latbench.report.placement import placed
from latbench.report.text.answer import (
    STOPPED,
    head_lines,
    measured,
    number_lines,
    percentiles,
    reliability_lines,
    start_text,
)
from latbench.report.text.artifact import parity
from latbench.report.text.device import conditions, link_line
from latbench.report.text.layout import labeled
from latbench.report.text.operator_times import operators, planned_text
from latbench.report.units import decimals, duration, size, time
from latbench.schema.record import Record


def record_lines(record: Record, summary: Summary | None, registry: str | None) -> list[str]:
    """The full listing, the answer first."""
    lines = head_lines(record, summary)
    failure = record.outcome.failure
    if summary is not None:
        lines += _numbers(record, summary)
        lines += reliability_lines(summary)
    elif failure is None:
        lines.append(labeled("outcome", f"{record.outcome.status}, without one timed sample"))
    if failure is not None and failure.detail:
        lines += ["", *(f"    {line}" for line in failure.detail.rstrip().splitlines()), ""]
    lines += _setup(record, summary)
    lines.append(labeled("conditions", conditions(record)))
    if (link := record.environment.link) is not None:
        lines.append(labeled("reached by", link_line(link)))
    if (back_ns := set_back_ns(record)) is not None:
        text = f"set back by {time(back_ns)} or more during the run; durations are not affected"
        lines.append(labeled("clock", text))
    where = f" in {registry}" if registry else ""
    lines.append(labeled("record", f"{record.id}{where}"))
    return lines


def _numbers(record: Record, summary: Summary) -> list[str]:
    lines = number_lines(record, summary) if summary.warm or not record.outcome.failure else []
    if summary.warm:
        if summary.normalized is not None:
            text = _normalized(summary.normalized, summary.confidence)
            lines.append(labeled("normalized", text))
        lines.append(labeled("spread", _spread(summary)))
    lines.append(labeled("cold start", start_text(summary)))
    if summary.warm:
        lines.append(labeled("warm-up", _warmup(summary)))
    if summary.peak_rss_bytes is not None:
        lines.append(labeled("peak memory", f"{size(summary.peak_rss_bytes)} (worker process)"))
    if len(summary.regimes) > 2 or "changing" in {regime.name for regime in summary.regimes}:
        lines.append(labeled("regimes", _regimes(summary)))
    if any(len(levels) > 1 for levels in summary.level_ns):
        lines.append(labeled("levels", _levels(summary)))
    if summary.disturbed_blocks:
        lines.append(labeled("disturbed", _disturbed(summary)))
    return lines


def _setup(record: Record, summary: Summary | None) -> list[str]:
    """What ran, where, and how it was timed."""
    lines = []
    artifact, runtime = record.artifact, record.runtime
    if artifact is not None:
        text = (
            f"{artifact.format} {artifact.precision}, {size(artifact.size_bytes)}, "
            f"sha256 {artifact.sha256[:12]}"
        )
        lines.append(labeled("artifact", text))
        if artifact.precision != "fp32":
            lines.append(labeled("accuracy", parity(artifact)))
    if runtime is not None and runtime.placement is not None:
        lines.append(labeled("placement", placed(runtime.placement)))
    if record.outcome.profile is not None:
        latency = None if summary is None else summary.median_ns
        lines.append(labeled("operators", operators(record.outcome.profile, latency)))
    elif record.outcome.plan is not None:
        lines.append(labeled("operators", planned_text(record.outcome.plan)))
    return [*lines, labeled("protocol", _protocol(record, summary))]


def _normalized(ratio: SentinelRatio, confidence: float) -> str:
    drift = f", drift {ratio.drift:+.1%}" if ratio.drift is not None else ""
    ends, text = "", f"{ratio.ratio:.4g}x"
    if ratio.interval is not None:
        low, high = ratio.interval
        digits = decimals((high - low) / 2)
        text = f"{ratio.ratio:.{digits}f}x"
        ends = f" ({confidence:.0%} CI {low:.{digits}f}-{high:.{digits}f})"
    return f"{text} the sentinel{ends}; {ratio.name} {time(ratio.sentinel_ns)}{drift}"


def _spread(summary: Summary) -> str:
    (p10, p90), unit = duration(summary.p10_ns, summary.p90_ns)
    shown = f"{p10}-{p90} {unit} (10th to 90th percentile of all inferences)"
    more = percentiles(summary, intervals=True)
    return f"{shown}; {more}" if more else shown


def _warmup(summary: Summary) -> str:
    """How many calls the warm-up takes, in how many of the sessions it ends."""
    found = [calls for calls in summary.warmup_calls if calls is not None]
    sessions = len(summary.warmup_calls)
    if len(found) < sessions:
        return f"does not end in {sessions - len(found)} of {sessions} sessions"
    least, most = min(found), max(found)
    calls = f"{least} to {most}" if least != most else f"{most}"
    return f"{calls} call{'' if most == 1 else 's'} after the first inference"


def _regimes(summary: Summary) -> str:
    return ", ".join(
        f"{regime.name} {time(regime.median_ns)} ({regime.processes} of "
        f"{len(summary.warmup_calls)} sessions)"
        for regime in summary.regimes
    )


def _levels(summary: Summary) -> str:
    """In how many sessions the level changed, and the levels of the first of them."""
    changed = [levels for levels in summary.level_ns if len(levels) > 1]
    first = " then ".join(time(ns) for ns in changed[0])
    whose = "in the first of them" if len(changed) > 1 else "there"
    return f"changed in {len(changed)} of {len(summary.level_ns)} sessions; {whose} {first}"


def _disturbed(summary: Summary) -> str:
    why = ", ".join(f"{reason} {count}" for reason, count in summary.disturbances.items())
    text = f"{summary.disturbed_blocks} of {summary.blocks} blocks ({why})"
    if summary.quiet_median_ns is None:
        return text
    quiet = measured(summary.quiet_median_ns, summary.quiet_interval_ns, summary.confidence)
    return f"{text}; median without them {quiet}"


def _protocol(record: Record, summary: Summary | None) -> str:
    protocol = record.protocol
    parts = [f"{protocol.label} {record.protocol_sha256[:8]}"]
    if summary is not None and summary.target is not None:
        width = "unknown" if summary.half_width is None else f"±{summary.half_width:.2%}"
        reached = "reached" if summary.reached else "not reached"
        parts.append(f"precision {width}, target ±{100 * summary.target:g}% {reached}")
    elif protocol.statistic.kind == "median" and record.interleaved is None:
        parts.append("no target precision")
    if record.outcome.stopped is not None:
        parts.append(STOPPED[record.outcome.stopped])
    if record.outcome.loads_limited is not msgspec.UNSET:
        parts.append(record.outcome.loads_limited)
    if record.environment.detached:
        parts.append("left on the device, which measured alone")
    if record.interleaved is not None:
        parts.append(
            f"interleaved with the other part of comparison {record.interleaved.comparison}"
        )
    if record.sentinel is not None and record.sentinel.absent is not None:
        gone = "sentinel lost" if record.sentinel.name else "no sentinel"
        parts.append(f"{gone}: {record.sentinel.absent}")
    return "; ".join(parts)
