"""Records, rows and catalogues as lines that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latbench.analysis.settings import own_options
from latbench.analysis.summary import Summary
from latbench.report.placement import placed
from latbench.report.text.artifact import failure_lines, parity
from latbench.report.text.device import conditions
from latbench.report.text.layout import labelled, moment, table
from latbench.report.units import decimals, duration, size, time
from latbench.schema.record import Record
from latbench.schema.trace import Profile

if TYPE_CHECKING:
    from latbench.store.registry import Row


def record_lines(record: Record, summary: Summary | None, registry: str | None) -> list[str]:
    """A record at a glance."""
    lines = [title(record)]
    if record.backend != record.request.backend:
        lines[:0] = _instead(record)
    if summary is not None:
        lines += _figures(record, summary)
    if record.outcome.failure is not None:
        lines += failure_lines(record.outcome.failure)
    lines.append(labelled("conditions", conditions(record)))
    if summary is not None:
        reasons = f": {'; '.join(summary.reasons)}" if summary.reasons else ""
        lines.append(labelled("reliability", summary.reliability + reasons))
    elif record.outcome.status != "failed":
        lines.append(labelled("outcome", f"{record.outcome.status}, without one timed sample"))
    where = f" in {registry}" if registry else ""
    lines.append(labelled("record", f"{record.id}{where}"))
    return lines


def _instead(record: Record) -> list[str]:
    """First of all: that this is not what was asked for."""
    asked, why = record.request.backend, record.fallback
    reason = f" ({why.reason})" if why else ""
    lines = [
        f"{asked} could not run here{reason}; what follows is {record.backend} on this CPU "
        f"and says nothing about {asked}"
    ]
    if why is not None and why.artifact is not None:
        lines.append(
            labelled(
                f"for {asked}",
                f"exported and checked, not executed: {why.artifact.format} "
                f"{why.artifact.precision}, {size(why.artifact.size_bytes)}, "
                f"{parity(why.artifact)}, sha256 {why.artifact.sha256[:12]}",
            )
        )
    if why is not None and why.failure is not None:
        lines += [labelled(f"for {asked}", f"not exported: {why.failure.message}")]
    return lines


def row_lines(rows: Sequence[Row]) -> list[str]:
    """Rows of the registry as a table."""
    if not rows:
        return ["no records"]
    header = ("record", "when", "model", "device", "backend", "input", "threads", "latency")
    return table(
        header,
        (
            (
                row.id,
                moment(row.created_unix_ns),
                row.model,
                row.device,
                row.backend
                + (
                    f" (for {row.requested_backend})"
                    if row.requested_backend != row.backend
                    else ""
                ),
                row.input or "",
                "" if row.threads is None else str(row.threads),
                time(row.median_ns) if row.median_ns is not None else row.status,
            )
            for row in rows
        ),
    )


def title(record: Record) -> str:
    """What was timed, on what."""
    parts = [record.model.name, record.backend]
    if record.runtime is not None:
        parts[1] += f" {record.runtime.version or ''}".rstrip()
    precision = record.artifact.precision if record.artifact else record.request.precision
    computed_in = (
        record.runtime.settings.get("precision", precision) if record.runtime else precision
    )
    parts.append(precision + (f" (computed in {computed_in})" if computed_in != precision else ""))
    if record.artifact is not None:
        parts += ["x".join(map(str, tensor.shape)) for tensor in record.artifact.inputs]
    if record.runtime is not None and (threads := record.runtime.settings.get("threads")):
        parts.append(f"{threads} thread{'' if threads == '1' else 's'}")
    if options := own_options(record):
        parts.append(" ".join(f"{key}={value}" for key, value in options.items()))
    parts.append(record.device.name)
    return " · ".join(parts)


def _figures(record: Record, summary: Summary) -> list[str]:
    lines = [labelled("start", _start(summary))]
    if record.outcome.traces and any(trace.blocks for trace in record.outcome.traces):
        lines = [*_quantities(summary), labelled("spread", _spread(summary)), *lines]
        if len(summary.regimes) > 2 or "changing" in {regime.name for regime in summary.regimes}:
            lines.append(labelled("regimes", _regimes(summary)))
        if any(len(levels) > 1 for levels in summary.level_ns):
            lines.append(labelled("levels", _levels(summary)))
        if summary.disturbed_blocks:
            lines.append(labelled("disturbed", _disturbed(summary)))
    if record.artifact is not None and record.artifact.precision != "fp32":
        lines.append(labelled("accuracy", parity(record.artifact)))
    if record.runtime is not None and record.runtime.placement is not None:
        lines.append(labelled("placement", placed(record.runtime.placement)))
    if record.outcome.profile is not None:
        lines.append(labelled("operators", _operators(record.outcome.profile)))
    lines.append(labelled("protocol", _protocol(record, summary)))
    return lines


def _operators(profile: Profile) -> str:
    """The kinds that take most."""
    kinds: dict[str, tuple[int, int]] = {}
    for operator in profile.operators:
        count, total = kinds.get(operator.kind, (0, 0))
        kinds[operator.kind] = (count + 1, total + operator.time_ns)
    whole = max(sum(total for _, total in kinds.values()), 1)
    most = sorted(kinds.items(), key=lambda item: -item[1][1])[:5]
    shown = ", ".join(f"{n} {kind} {total / whole:.0%}" for kind, (n, total) in most)
    rest = f", {len(kinds) - 5} more kinds" if len(kinds) > 5 else ""
    return f"{time(profile.total_ns)}: {shown}{rest} ({profile.source}, {profile.calls} calls)"


def _quantities(summary: Summary) -> list[str]:
    """Typical, undisturbed and referred latency, each with its interval."""
    count = f"{summary.samples} samples in {summary.processes} process"
    count += "es" if summary.processes > 1 else ""
    within = ", within them only" if summary.interval_level == "within" else ""
    lines = [
        labelled(
            "typical",
            f"{_measured(summary.median_ns, summary.interval_ns, summary.confidence, 'median')}"
            f"{within}, {count}",
        ),
        labelled(
            "best-case",
            _measured(
                summary.best_case_ns,
                summary.best_case_interval_ns,
                summary.confidence,
                "10th percentile",
            )
            + within,
        ),
    ]
    if (referred := summary.normalized) is not None:
        drift = f", which drifted {referred.drift:+.1%}" if referred.drift is not None else ""
        text = f"{referred.ratio:.4g} x"
        if referred.interval is not None:
            low, high = referred.interval
            digits = decimals((high - low) / 2)
            text = (
                f"{referred.ratio:.{digits}f} x ({summary.confidence:.0%} interval "
                f"{low:.{digits}f} to {high:.{digits}f})"
            )
        lines.append(
            labelled(
                "normalized",
                f"{text} the sentinel {referred.name}, {time(referred.sentinel_ns)}{drift}",
            )
        )
    return lines


def _measured(
    value_ns: int, interval_ns: tuple[int, int] | None, confidence: float, what: str
) -> str:
    """A value with as many digits as its interval supports."""
    if interval_ns is None:
        return f"{time(value_ns)} {what}"
    low, high = interval_ns
    (middle, lower, upper), unit = duration(
        value_ns, low, high, uncertainty_ns=max((high - low) / 2, 1)
    )
    return f"{middle} {unit} {what}, {confidence:.0%} interval {lower} to {upper}"


def _spread(summary: Summary) -> str:
    (p10, p90), unit = duration(summary.p10_ns, summary.p90_ns)
    shown = [f"{p10} to {p90} {unit} (10th to 90th percentile of these)"]
    for percentile in summary.percentiles:
        name = f"p{percentile.quantile_milli / 10:g}"
        low, high = percentile.interval_ns
        (value, lower, upper), unit = duration(
            percentile.value_ns, low, high, uncertainty_ns=max((high - low) / 2, 1)
        )
        shown.append(f"{name} {value} {unit} ({lower} to {upper})")
    return ", ".join(shown)


def _start(summary: Summary) -> str:
    parts = [f"load {time(summary.load_ns)}"]
    if summary.first_ns is not None:
        parts.append(f"first inference {time(summary.first_ns)}")
    found = [calls for calls in summary.warmup_calls if calls is not None]
    if len(found) < len(summary.warmup_calls):
        endless = len(summary.warmup_calls) - len(found)
        parts.append(f"warm-up does not end in {endless} of {len(summary.warmup_calls)} sessions")
    elif any(found):
        least, most = min(found), max(found)
        calls = f"{least} to {most}" if least != most else f"{most}"
        parts.append(f"warm-up {calls} call{'' if most == 1 else 's'}")
    return ", ".join(parts)


def _regimes(summary: Summary) -> str:
    return ", ".join(
        f"{regime.name} {time(regime.median_ns)} ({regime.processes} of "
        f"{len(summary.warmup_calls)})"
        for regime in summary.regimes
    )


def _levels(summary: Summary) -> str:
    """In how many sessions the level changed, and how in the first of these."""
    changed = [levels for levels in summary.level_ns if len(levels) > 1]
    first = " then ".join(time(ns) for ns in changed[0])
    whose = "in the first of these" if len(changed) > 1 else "there"
    return f"changed in {len(changed)} of {len(summary.level_ns)} sessions; {whose} {first}"


def _disturbed(summary: Summary) -> str:
    why = ", ".join(f"{reason} {count}" for reason, count in summary.disturbances.items())
    text = f"{summary.disturbed_blocks} of {summary.blocks} blocks ({why})"
    if summary.quiet_median_ns is None:
        return text
    quiet = _measured(
        summary.quiet_median_ns, summary.quiet_interval_ns, summary.confidence, "median"
    )
    return f"{text}; without them {quiet}"


STOPPED = {
    "complete": "all calls made",
    "precise": "stopped when precise enough",
    "budget": "budget spent",
    "processes": "as many processes as it allows",
}


def _protocol(record: Record, summary: Summary) -> str:
    protocol, reported = record.protocol, summary.reported
    parts = [f"{protocol.label} {record.protocol_sha256[:8]}"]
    if protocol.statistic.kind != "median":
        value = time(reported.value) if reported.unit == "ns" else f"{reported.value:.4g} images/s"
        parts.append(f"{reported.statistic} {value}")
    if summary.target is not None:
        width = "unknown" if summary.half_width is None else f"±{summary.half_width:.2%}"
        reached = "reached" if summary.reached else "not reached"
        parts.append(f"precision {width}, target ±{100 * summary.target:g}% {reached}")
    elif protocol.statistic.kind == "median" and record.interleaved is None:
        parts.append("aims at no precision")
    if record.outcome.stopped is not None:
        parts.append(STOPPED[record.outcome.stopped])
    if record.interleaved is not None:
        parts.append(f"in turn with the other part of comparison {record.interleaved.comparison}")
    if record.sentinel is not None and record.sentinel.absent is not None:
        parts.append(
            f"no sentinel{' any more' if record.sentinel.name else ''}: {record.sentinel.absent}"
        )
    return "; ".join(parts)
