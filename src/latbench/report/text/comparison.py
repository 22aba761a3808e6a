"""A comparison as lines: the verdict first."""

from __future__ import annotations

from collections.abc import Mapping

from latbench.analysis.comparison import Comparison
from latbench.analysis.stats import CONFIDENCE
from latbench.analysis.summary import Summary
from latbench.report.tables import row
from latbench.report.text.answer import STOPPED, measured, title
from latbench.report.text.columns import COLUMNS, SETTINGS
from latbench.report.text.device import conditions
from latbench.report.text.layout import labeled
from latbench.report.units import decimals, seconds
from latbench.schema.record import Record
from latbench.schema.value import Value

QUANTITY = {"typical": "latency (median)", "best-case": "best case (10th percentile)"}


class ComparedSide(Value, frozen=True, kw_only=True):
    """One side of a comparison, for people and programs."""

    id: str
    name: str
    """Model, runtime, precision, input, threads, options and device."""
    latency_ns: int | None
    latency_interval_ns: tuple[int, int] | None
    best_case_ns: int | None
    best_case_interval_ns: tuple[int, int] | None
    reliability: str | None
    """Of its own latency; an interleaved comparison tolerates disturbances."""
    reasons: tuple[str, ...]
    artifact_sha256: str | None
    settings: dict[str, str]
    """What a list of records would show of it, by column."""
    hint: str | None
    """What to do about its failure."""


def side(record: Record, summary: Summary | None) -> ComparedSide:
    """What a comparison reports of one side."""
    warm = summary if summary is not None and summary.warm else None
    return ComparedSide(
        id=record.id,
        name=title(record),
        latency_ns=warm.median_ns if warm else None,
        latency_interval_ns=warm.interval_ns if warm else None,
        best_case_ns=warm.best_case_ns if warm else None,
        best_case_interval_ns=warm.best_case_interval_ns if warm else None,
        reliability=warm.reliability if warm else None,
        reasons=warm.reasons if warm else (),
        artifact_sha256=record.artifact.sha256 if record.artifact else None,
        settings=_settings(record, summary),
        hint=record.outcome.failure.hint if record.outcome.failure else None,
    )


def comparison_lines(
    a: ComparedSide, b: ComparedSide, found: Comparison, short: Mapping[str, str]
) -> list[str]:
    """The verdict, what was compared, and what to try; ``short`` gives short forms of the ids."""
    other = "typical" if found.quantity == "best-case" else "best-case"
    pairs = f"{found.processes} pair{'' if found.processes == 1 else 's'} of processes"
    turns = "interleaved" if found.interleaved else "not interleaved"
    lines = [
        verdict_line(found),
        *(labeled(name, _side(each)) for name, each in zip("AB", (a, b), strict=True)),
    ]
    if differing := _differing(a, b):
        lines.append(labeled("differ in", differing))
    if found.ratio is not None:
        ratio = _ratio(found.ratio, found.interval)
        lines.append(labeled("ratio", f"B/A {ratio} of the {QUANTITY[found.quantity]}"))
    if found.other_ratio is not None:
        text = f"B/A {_ratio(found.other_ratio, found.other_interval)} of the {QUANTITY[other]}"
        lines.append(labeled("", text))
    lines.append(labeled("based on", f"{pairs}, {turns}"))
    notes = found.reasons[1:] if found.verdict == "inconclusive" else found.reasons
    lines += [labeled("note" if i == 0 else "", why) for i, why in enumerate(notes)]
    if disagree(found):
        lines.append(
            labeled(
                "warning",
                "median and best case disagree: the disturbances may differ between A and B; "
                "run it again on a quiet machine",
            )
        )
    if a.artifact_sha256 is not None and a.artifact_sha256 == b.artifact_sha256:
        lines.append(labeled("artifact", f"A and B are the same file ({a.artifact_sha256[:12]})"))
    elif a.artifact_sha256 is not None and b.artifact_sha256 is not None:
        text = f"A sha256 {a.artifact_sha256[:12]}, B sha256 {b.artifact_sha256[:12]}"
        lines.append(labeled("artifact", text))
    if found.verdict == "inconclusive":
        lines.append(labeled("try", a.hint or b.hint or _advice(found)))
    lines.append(labeled("records", f"{short[a.id]} {short[b.id]} (latbench show ID)"))
    return lines


def _settings(record: Record, summary: Summary | None) -> dict[str, str]:
    shown = row(record, summary)
    return {name: COLUMNS[name].show(shown) for name in ("model", "backend", *SETTINGS)}


def _differing(a: ComparedSide, b: ComparedSide) -> str:
    """The settings in which the sides differ, with both values."""
    return " · ".join(
        f"{name} {a.settings[name] or 'none'} and {b.settings[name] or 'none'}"
        for name in a.settings
        if a.settings[name] != b.settings[name]
    )


def detail_lines(a: Record, found: Comparison, registry: str) -> list[str]:
    """What ``--verbose`` adds."""
    return [
        labeled("protocol", _protocol(a, found)),
        labeled("conditions", conditions(a)),
        labeled("registry", registry),
    ]


def disagree(found: Comparison) -> bool:
    """Whether the ratios of median and best case exclude each other by more than the margin."""
    one, two = found.interval, found.other_interval
    if one is None or two is None or found.ratio is None or found.other_ratio is None:
        return False
    apart = one[1] < two[0] or two[1] < one[0]
    low, high = sorted((found.ratio, found.other_ratio))
    return apart and high / low > 1 + found.margin


def verdict_line(found: Comparison) -> str:
    """The answer in one sentence."""
    if found.verdict == "same":
        return f"A and B are the same within ±{100 * found.margin:g}%"
    if found.verdict == "inconclusive" or found.ratio is None:
        if found.reasons:
            return f"INCONCLUSIVE: {found.reasons[0]}"
        if found.interval is None:
            return "INCONCLUSIVE"
        low, high = found.interval
        digits = max(2, decimals((high - low) / 2))
        return f"INCONCLUSIVE: B takes {low:.{digits}f} to {high:.{digits}f} times as long as A"
    ratio, interval = found.ratio, found.interval
    if found.verdict == "faster":
        ratio, interval = 1 / ratio, interval and (1 / interval[1], 1 / interval[0])
    value, _, ends = _ratio(ratio, interval).partition(" ")
    return f"B is {value} {found.verdict} than A {ends}".rstrip()


def _advice(found: Comparison) -> str:
    """What a verdict takes, or in which direction to look."""
    if found.to_tell is None:
        if not found.interleaved:
            return "measure both interleaved: latbench compare A B"
        return "a larger --budget, a larger --margin, or a quiet machine"
    took, how = "", f"--processes {found.to_tell.processes}"
    if found.to_tell.seconds is not None:
        took = f", about {seconds(found.to_tell.seconds)}"
        how += f" --budget {max(1, round(1.2 * found.to_tell.seconds))}"
    return f"about {found.to_tell.processes} pairs of processes{took}: {how}"


def _side(side: ComparedSide) -> str:
    if side.latency_ns is None:
        return f"not measured · {side.name}"
    value = measured(side.latency_ns, side.latency_interval_ns, CONFIDENCE)
    alone = f", {side.reliability} on its own" if side.reliability != "reliable" else ""
    return f"{value}{alone} · {side.name}"


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


def _ratio(ratio: float, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return f"{ratio:.3g}x"
    low, high = interval
    digits = max(1 if ratio >= 2 else 2, decimals((high - low) / 2))
    return f"{ratio:.{digits}f}x ({CONFIDENCE:.0%} CI {low:.{digits}f}-{high:.{digits}f}x)"
