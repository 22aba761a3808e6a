"""A record as a picture that a person can judge. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.analysis.interference import disturbed
from latbench.analysis.segments import samples as samples_of
from latbench.analysis.summary import Summary
from latbench.errors import UsageError
from latbench.files import write_beside
from latbench.report.text.answer import title
from latbench.report.units import UNITS, time
from latbench.schema.record import Record
from latbench.schema.trace import Trace

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    Array = np.ndarray[Any, np.dtype[Any]]

FORMATS = (".png", ".svg", ".pdf")
WARM_UP, COUNTED, DISTURBED, LEVEL, INTERVAL = "#b0b0b0", "#1f5fa8", "#d1495b", "#111111", "#f2b134"
MOST_POINTS = 20_000
"""More than this hides more than it shows, and makes a vector file of many megabytes."""


def save_plot(record: Record, summary: Summary, path: Path) -> None:
    """Draw ``record`` to ``path``: samples in order by process with warm-up, levels and disturbed
    blocks; their distribution; each process's median with the interval.

    Raises :class:`UsageError` for an ending that is none of :data:`FORMATS`, or without matplotlib.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"{path.name!r} is no picture that can be drawn",
            hint=f"name a file that ends in {', '.join(FORMATS)}",
        )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "drawing needs matplotlib, which is not installed", hint="pip install 'latbench[plot]'"
        ) from error
    scale, unit = next(
        ((scale, unit) for scale, unit in UNITS if summary.median_ns >= scale), UNITS[-1]
    )
    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 1), height_ratios=(3, 1))
    samples = figure.add_subplot(grid[0, 0])
    spread = figure.add_subplot(grid[0, 1], sharey=samples)
    processes = figure.add_subplot(grid[1, :])
    figure.suptitle(f"{title(record)}\n{_headline(record, summary)}", fontsize=10)
    counted = _draw_samples(samples, record, summary, scale)
    _draw_spread(spread, counted, summary, scale)
    _draw_processes(processes, summary, scale)
    samples.set_ylabel(f"latency, {unit}")
    processes.set_ylabel(f"median, {unit}")
    write_beside(
        path, lambda target: figure.savefig(target, format=path.suffix[1:].lower(), dpi=120)
    )


def _headline(record: Record, summary: Summary) -> str:
    interval = summary.interval_ns
    shown = f"typical {time(summary.median_ns)}"
    if interval is not None:
        level = ", within its processes only" if summary.interval_level == "within" else ""
        low, high = map(time, interval)
        shown += f" ({summary.confidence:.0%} interval {low} to {high}{level})"
    trust = summary.reliability + (f": {summary.reasons[0]}" if summary.reasons else "")
    regimes = ", ".join(f"{each.name} {time(each.median_ns)}" for each in summary.regimes)
    return f"{shown} · {regimes} · {record.protocol.label} · trust {trust}"


def _draw_samples(axes: Axes, record: Record, summary: Summary, scale: int) -> Array:
    """Every sample in order, process after process; the counted ones are returned."""
    import numpy as np

    total = sum(_length(trace) for trace in record.outcome.traces)
    thin = -(-total // MOST_POINTS)
    at, counted, labelled = 0, [], set[str]()

    def draw(values: Sequence[int], colour: str, label: str) -> None:
        nonlocal at
        if values:
            axes.plot(
                np.arange(at, at + len(values))[::thin],
                np.asarray(values)[::thin] / scale,
                ".",
                markersize=2,
                color=colour,
                label=None if label in labelled else label,
                rasterized=True,
            )
            labelled.add(label)
        at += len(values)

    levels = iter(summary.level_starts)
    warmups = iter(summary.warmup_calls)
    for trace, marks in zip(record.outcome.traces, disturbed(record), strict=True):
        begun = at
        if not samples_of(trace):
            continue
        # Warm-up may go on into the blocks: what the summary left out is drawn as such.
        left_out = max(next(warmups, 0) or 0, len(trace.warmup_ns))
        draw(trace.warmup_ns, WARM_UP, "warm-up")
        seen = len(trace.warmup_ns)
        for block, why in zip(trace.blocks, marks, strict=True):
            values = block.sample_ns[block.settle_calls :]
            early = max(0, min(len(values), left_out - seen))
            draw(values[:early], WARM_UP, "warm-up")
            draw(values[early:], DISTURBED if why else COUNTED, "disturbed" if why else "counted")
            counted += list(values[early:])
            seen += len(values)
        _draw_levels(axes, trace, begun, next(levels, ()), scale)
        axes.axvline(at, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set_xlabel("samples in order; a line ends each process")
    axes.set_xlim(0, max(at, 1))
    _fit(axes, counted, scale)
    axes.legend(loc="upper right", fontsize=8, markerscale=5)
    return np.asarray(counted, dtype=np.float64)


def _draw_levels(axes: Axes, trace: Trace, begun: int, starts: Sequence[int], scale: int) -> None:
    """The median of each level as a line."""
    import numpy as np

    joined = [*trace.warmup_ns, *(ns for b in trace.blocks for ns in b.sample_ns[b.settle_calls :])]
    for start, stop in zip(starts, (*starts[1:], len(joined)), strict=False):
        if stop > start:
            level = float(np.median(joined[start:stop])) / scale
            axes.plot([begun + start, begun + stop], [level] * 2, color=LEVEL, linewidth=1)


def _fit(axes: Axes, counted: Sequence[int], scale: int) -> None:
    """Show what most samples do; single ones that are many times slower are cut off and counted."""
    import numpy as np

    if not counted:
        return
    low, middle, high = np.quantile(counted, (0.0, 0.5, 0.99)) / scale
    top = max(high + 0.6 * (high - low), middle * 1.02)
    above = int(np.sum(np.asarray(counted) / scale > top))
    axes.set_ylim(low - 0.1 * (top - low) if top > low else low * 0.9, top)
    if above:
        axes.set_title(f"{above} of {len(counted)} samples are above", fontsize=8, loc="right")


def _draw_spread(axes: Axes, counted: Array, summary: Summary, scale: int) -> None:
    if len(counted):
        low, high = axes.get_ylim()
        shown = counted / scale
        axes.hist(
            shown[(shown >= low) & (shown <= high)],
            bins=60,
            orientation="horizontal",
            color=COUNTED,
        )
    axes.axhline(summary.median_ns / scale, color=LEVEL, linewidth=1, label="typical")
    axes.axhline(
        summary.best_case_ns / scale, color=LEVEL, linewidth=1, linestyle=":", label="best-case"
    )
    if summary.interval_ns is not None:
        low_ns, high_ns = summary.interval_ns
        axes.axhspan(low_ns / scale, high_ns / scale, color=INTERVAL, alpha=0.5, label="interval")
    axes.set_xlabel("samples")
    axes.tick_params(labelleft=False)
    axes.legend(loc="upper right", fontsize=8)


def _draw_processes(axes: Axes, summary: Summary, scale: int) -> None:
    medians = [ns / scale for ns in summary.process_median_ns]
    axes.plot(range(len(medians)), medians, "o", color=COUNTED, markersize=4)
    axes.axhline(summary.median_ns / scale, color=LEVEL, linewidth=1)
    if summary.interval_ns is not None:
        low, high = summary.interval_ns
        axes.axhspan(low / scale, high / scale, color=INTERVAL, alpha=0.5)
    axes.set_xlabel("process")
    axes.set_xlim(-0.5, max(len(medians) - 0.5, 0.5))


def _length(trace: Trace) -> int:
    return len(trace.warmup_ns) + sum(len(block.sample_ns) for block in trace.blocks)
