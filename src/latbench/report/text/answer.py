"""The answer of a record in its first line, and the few lines that most readers need."""

from __future__ import annotations

from latbench.analysis.reliability import unverified
from latbench.analysis.segments import has_samples
from latbench.analysis.settings import input_texts, own_options
from latbench.analysis.summary import Reported, Summary
from latbench.report.placement import placed
from latbench.report.text.artifact import parity
from latbench.report.text.layout import labeled
from latbench.report.text.operator_times import operators, planned_text
from latbench.report.units import decimals, duration, size, time
from latbench.schema.record import Record

STATISTIC = {
    "median": "",
    "last level": " (last level)",
    "cold": " cold start",
}
"""How a protocol's number is named after its value, unless by its statistic."""
STOPPED = {
    "complete": "all calls done",
    "precise": "stopped when precise enough",
    "budget": "time budget spent",
    "processes": "most processes reached",
}
MOST_REASONS = 2
"""Reasons and pieces of advice that the short output shows."""


def brief_lines(record: Record, summary: Summary | None, id: str) -> list[str]:
    """The answer and what is needed to judge it; ``id`` is a short form of the record's."""
    lines = head_lines(record, summary)
    failed = record.outcome.failure is not None
    if summary is not None and failed:
        lines.append(labeled("until then", latency_text(summary)))
    elif summary is not None:
        lines += number_lines(record, summary)
        lines.append(labeled("cold start", _start(record, summary)))
        lines += _extra_lines(record, summary)
        lines += [labeled("outputs", why) for why in unverified(record)]
        lines += reliability_lines(summary, most=MOST_REASONS)
    elif not failed:
        lines.append(labeled("outcome", _without_samples(record)))
    lines.append(labeled("record", f"{id} (latbench show {id}; --verbose for all details)"))
    return lines


def _without_samples(record: Record) -> str:
    if any(has_samples(trace) for trace in record.outcome.traces):
        return "no process got warm within its time budget; try a larger --budget"
    return f"{record.outcome.status}, without one timed sample"


def head_lines(record: Record, summary: Summary | None) -> list[str]:
    """The answer first: a fallback, a failure, or the number with a mark unless it is reliable."""
    lines = _fallback_lines(record) if record.backend != record.request.backend else []
    failure = record.outcome.failure
    if failure is not None:
        lines.append(f"FAILED at {failure.stage} ({failure.kind}): {failure.message}")
        if failure.hint:
            lines.append(labeled("try", failure.hint))
        return [*lines, labeled("measured", title(record))]
    if summary is None:
        status = "no result" if record.outcome.status == "measured" else record.outcome.status
        return [*lines, f"{status.upper()}  {title(record)}"]
    mark = ""
    if record.outcome.status == "interrupted":
        mark = "INTERRUPTED  "
    elif summary.reliability != "reliable":
        mark = f"{summary.reliability.upper()}  "
    return [*lines, f"{mark}{answer(record, summary)}  {title(record)}"]


def answer(record: Record, summary: Summary) -> str:
    """The protocol's own number, e.g. ``9.9 ms`` or ``32.8 ms cold start``."""
    reported, kind = summary.reported, record.protocol.statistic.kind
    if kind == "median":
        return measured(summary.median_ns, summary.interval_ns, None)
    if reported.unit != "ns":
        return f"{reported.value:.4g} {reported.unit}"
    return measured(reported.value, reported.interval, None) + STATISTIC.get(
        kind, f" {reported.statistic}"
    )


def _fallback_lines(record: Record) -> list[str]:
    """First of all: that this is not what was asked for."""
    asked, why = record.request.backend, record.fallback
    reason = f" ({why.reason})" if why else ""
    lines = [
        f"FALLBACK: {asked} could not run here{reason}; what follows is {record.backend} on this "
        f"CPU and says nothing about {asked}"
    ]
    if why is not None and why.artifact is not None:
        lines.append(
            labeled(
                f"for {asked}",
                f"exported and checked, not executed: {why.artifact.format} "
                f"{why.artifact.precision}, {size(why.artifact.size_bytes)}, "
                f"{parity(why.artifact)}, sha256 {why.artifact.sha256[:12]}",
            )
        )
    if why is not None and why.failure is not None:
        lines += [labeled(f"for {asked}", f"not exported: {why.failure.message}")]
    return lines


def title(record: Record) -> str:
    """Model, runtime, precision, input, threads, options and device."""
    parts = [record.model.name, record.backend]
    if record.runtime is not None:
        parts[1] += f" {record.runtime.version or ''}".rstrip()
    precision = record.artifact.precision if record.artifact else record.request.precision
    computed_in = (
        record.runtime.settings.get("precision", precision) if record.runtime else precision
    )
    parts.append(precision + (f" (computed in {computed_in})" if computed_in != precision else ""))
    parts += input_texts(record.artifact)
    if record.runtime is not None and (threads := record.runtime.settings.get("threads")):
        parts.append(f"{threads} thread{'' if threads == '1' else 's'}")
    if options := own_options(record):
        parts.append(" ".join(f"{key}={value}" for key, value in options.items()))
    parts.append(_device(record))
    return " · ".join(parts)


def _device(record: Record) -> str:
    link = record.environment.link
    level = None if link is None else link.level
    return record.device.name if level is None else f"{record.device.name} ({level})"


def number_lines(record: Record, summary: Summary) -> list[str]:
    """The protocol's own number if it is not the latency, then latency and best case."""
    lines = []
    if record.protocol.statistic.kind not in ("median", "cold"):
        lines.append(labeled("result", _reported(summary.reported, summary.confidence)))
    if not summary.warm:
        value = _reported(summary.reported, summary.confidence)
        return [labeled("latency", f"{value}, {_counts(summary)}")]
    text = latency_text(summary)
    if summary.target is not None and not summary.reached:
        stopped = record.outcome.stopped
        why = f" ({STOPPED[stopped]})" if stopped is not None else ""
        text += f"; target ±{100 * summary.target:g}% not reached{why}"
    return [*lines, labeled("latency", text), labeled("best case", _best_case(summary))]


def latency_text(summary: Summary) -> str:
    """The median with its interval, and what it rests on."""
    value = measured(summary.median_ns, summary.interval_ns, summary.confidence)
    if summary.interval_level == "within":
        value += " within processes only"
    return f"{value}, median of {_counts(summary)}"


def _counts(summary: Summary) -> str:
    processes = f"{summary.processes} process{'es' if summary.processes > 1 else ''}"
    return f"{processes}, {summary.samples} inference{'s' if summary.samples > 1 else ''}"


def _reported(reported: Reported, confidence: float) -> str:
    if reported.unit == "ns":
        value = measured(reported.value, reported.interval, confidence)
    elif reported.interval is None:
        value = f"{reported.value:.4g} {reported.unit}"
    else:
        low, high = reported.interval
        digits = decimals((high - low) / 2)
        value = (
            f"{reported.value:.{digits}f} {reported.unit} "
            f"({confidence:.0%} CI {low:.{digits}f}-{high:.{digits}f})"
        )
    return f"{value}, {reported.statistic}"


def _best_case(summary: Summary) -> str:
    interval = summary.best_case_interval_ns
    value = measured(summary.best_case_ns, interval, summary.confidence, "10th percentile, ")
    if interval is None:
        value += " (10th percentile)"
    return "; ".join([value, *([shown] if (shown := percentiles(summary)) else [])])


def percentiles(summary: Summary, *, intervals: bool = False) -> str:
    """``p90 11 ms, p95 13 ms``: those that the samples support, with as many digits."""
    shown = []
    for each in summary.percentiles:
        low, high = each.interval_ns
        (value, lower, upper), unit = duration(
            each.value_ns, low, high, uncertainty_ns=max((high - low) / 2, 1)
        )
        ends = f" ({lower}-{upper})" if intervals else ""
        shown.append(f"p{each.quantile_milli / 10:g} {value} {unit}{ends}")
    return ", ".join(shown)


def measured(
    value_ns: float,
    interval_ns: tuple[float, float] | None,
    confidence: float | None,
    what: str = "",
) -> str:
    """A value with as many digits as its interval supports; the interval too with a confidence."""
    if interval_ns is None:
        return time(value_ns)
    low, high = interval_ns
    (middle, lower, upper), unit = duration(
        value_ns, low, high, uncertainty_ns=max((high - low) / 2, 1)
    )
    if confidence is None:
        return f"{middle} {unit}"
    return f"{middle} {unit} ({what}{confidence:.0%} CI {lower}-{upper})"


def start_text(summary: Summary) -> str:
    """Cold start: loading the model and the first inference."""
    if summary.first_ns is None:
        return f"load {time(summary.load_ns)}"
    return (
        f"{time(summary.load_ns + summary.first_ns)} (load {time(summary.load_ns)} + "
        f"first inference {time(summary.first_ns)})"
    )


def _start(record: Record, summary: Summary) -> str:
    text = start_text(summary)
    if summary.peak_rss_bytes is not None:
        text += f"; peak memory {size(summary.peak_rss_bytes)}"
    return text


def _extra_lines(record: Record, summary: Summary) -> list[str]:
    """Details that change how a number is read: accuracy, a split placement, operators."""
    lines = []
    if record.artifact is not None and record.artifact.precision != "fp32":
        lines.append(labeled("accuracy", parity(record.artifact)))
    placement = record.runtime.placement if record.runtime is not None else None
    if placement is not None and len(placement.units) > 1:
        lines.append(labeled("placement", placed(placement)))
    if record.outcome.profile is not None:
        text = operators(record.outcome.profile, summary.median_ns)
        lines.append(labeled("operators", text))
    elif record.outcome.plan is not None:
        lines.append(labeled("operators", planned_text(record.outcome.plan)))
    return lines


def reliability_lines(summary: Summary, *, most: int | None = None) -> list[str]:
    """The reliability with its reasons, and what to try; at most ``most`` of each."""
    if summary.reliability == "reliable":
        return [labeled("reliability", "reliable")]
    reasons, advice = summary.reasons[:most], summary.advice[:most]
    hidden = len(summary.reasons) - len(reasons)
    more = f"; {hidden} more reason{'s' if hidden > 1 else ''}" if hidden else ""
    lines = [labeled("reliability", f"{summary.reliability.upper()}: {'; '.join(reasons)}{more}")]
    return [*lines, *([labeled("", f"try: {'; '.join(advice)}")] if advice else [])]
