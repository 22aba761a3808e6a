"""The samples of a record as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.analysis.interference import disturbed
from latbench.analysis.segments import samples as samples_of
from latbench.analysis.summary import Summary
from latbench.report.plot.picture import MS, SCREEN, Style, save_picture
from latbench.report.text.answer import measured, title
from latbench.report.units import time
from latbench.schema.record import Record
from latbench.schema.trace import Trace

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Array = np.ndarray[Any, np.dtype[Any]]

WARM_UP, COUNTED, DISTURBED, LEVEL, INTERVAL = "#b0b0b0", "#1f5fa8", "#d1495b", "#111111", "#f2b134"
MOST_POINTS = 20_000
"""More than this hides more than it shows, and makes a vector file of many megabytes."""
FEW_POINTS = 500
"""Up to this many, points are drawn larger."""


def save_plot(record: Record, summary: Summary, path: Path, style: Style = SCREEN) -> None:
    """Draw ``record`` to ``path``: samples in order by process with warm-up, levels and disturbed
    blocks; their distribution; each process's median with the interval.

    Raises :class:`UsageError` as :func:`latbench.report.plot.picture.save_picture` does.
    """

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(2, 2, width_ratios=(3, 1), height_ratios=(3, 1))
        samples = figure.add_subplot(grid[0, 0])
        spread = figure.add_subplot(grid[0, 1], sharey=samples)
        processes = figure.add_subplot(grid[1, :])
        counted = _draw_samples(samples, record, summary)
        _draw_spread(spread, counted, summary)
        _draw_processes(processes, summary)
        samples.set_ylabel("latency (ms)")
        processes.set_ylabel("median (ms)")

    text = f"{title(record)}\n{_headline(record, summary)}"
    save_picture(path, style, title=text, size=(12, 7), draw=draw)


def _headline(record: Record, summary: Summary) -> str:
    interval = summary.interval_ns
    shown = f"median {measured(summary.median_ns, interval, summary.confidence)}"
    if summary.interval_level == "within":
        shown += " within processes only"
    reliability = summary.reliability + (f": {summary.reasons[0]}" if summary.reasons else "")
    regimes = ", ".join(f"{each.name} {time(each.median_ns)}" for each in summary.regimes)
    return f"{shown} · {regimes} · {record.protocol.label} · {reliability}"


def _draw_samples(axes: Axes, record: Record, summary: Summary) -> Array:
    """Draw every sample in order, process after process; return the counted ones in ns."""
    import numpy as np

    total = sum(_length(trace) for trace in record.outcome.traces)
    thin = -(-total // MOST_POINTS)
    at, counted, labeled = 0, [], set[str]()

    def draw(values: Sequence[int], color: str, label: str) -> None:
        nonlocal at
        if values:
            axes.plot(
                np.arange(at, at + len(values))[::thin],
                np.asarray(values)[::thin] / MS,
                ".",
                markersize=2 if total > FEW_POINTS else 4,
                color=color,
                label=None if label in labeled else label,
                rasterized=True,
            )
            labeled.add(label)
        at += len(values)

    levels = iter(summary.level_starts)
    warmups = iter(summary.warmup_calls)
    for trace, marks in zip(record.outcome.traces, disturbed(record), strict=True):
        begun = at
        if not samples_of(trace):
            continue
        # Warm-up may continue into the blocks: what the summary left out is drawn as warm-up.
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
        _draw_levels(axes, trace, begun, next(levels, ()))
        axes.axvline(at - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set_xlabel("samples in order, by process")
    axes.set_xlim(-0.5, max(at, 1) - 0.5)
    _count_axis(axes)
    _fit(axes, counted)
    axes.legend(loc="upper right", markerscale=5)
    return np.asarray(counted, dtype=np.float64)


def _draw_levels(axes: Axes, trace: Trace, begun: int, starts: Sequence[int]) -> None:
    """Draw the median of each level as a line."""
    import numpy as np

    joined = [*trace.warmup_ns, *(ns for b in trace.blocks for ns in b.sample_ns[b.settle_calls :])]
    for start, stop in zip(starts, (*starts[1:], len(joined)), strict=False):
        if stop > start:
            level = float(np.median(joined[start:stop])) / MS
            axes.plot([begun + start, begun + stop], [level] * 2, color=LEVEL, linewidth=1)


def _fit(axes: Axes, counted: Sequence[int]) -> None:
    """Limit the axis to most samples; single ones that are many times slower are only counted."""
    import numpy as np

    if not counted:
        return
    low, middle, high = np.quantile(counted, (0.0, 0.5, 0.99)) / MS
    top = max(high + 0.6 * (high - low), middle * 1.02)
    above = int(np.sum(np.asarray(counted) / MS > top))
    axes.set_ylim(low - 0.1 * (top - low) if top > low else low * 0.9, top)
    if above:
        axes.set_title(f"{above} of {len(counted)} samples are above", loc="right")


def _draw_spread(axes: Axes, counted: Array, summary: Summary) -> None:
    if len(counted):
        low, high = axes.get_ylim()
        shown = counted / MS
        axes.hist(
            shown[(shown >= low) & (shown <= high)],
            bins=60,
            orientation="horizontal",
            color=COUNTED,
        )
    axes.axhline(summary.median_ns / MS, color=LEVEL, linewidth=1, label="median")
    axes.axhline(
        summary.best_case_ns / MS, color=LEVEL, linewidth=1, linestyle=":", label="best case"
    )
    if summary.interval_ns is not None:
        low_ns, high_ns = summary.interval_ns
        axes.axhspan(low_ns / MS, high_ns / MS, color=INTERVAL, alpha=0.5, label="95% CI")
    axes.set_xlabel("samples")
    axes.tick_params(labelleft=False)
    axes.legend(loc="upper right")


def _draw_processes(axes: Axes, summary: Summary) -> None:
    medians = [ns / MS for ns in summary.process_median_ns]
    axes.plot(range(len(medians)), medians, "o", color=COUNTED, markersize=4)
    axes.axhline(summary.median_ns / MS, color=LEVEL, linewidth=1)
    if summary.interval_ns is not None:
        low, high = summary.interval_ns
        axes.axhspan(low / MS, high / MS, color=INTERVAL, alpha=0.5)
    axes.set_xlabel("process")
    axes.set_xlim(-0.5, max(len(medians) - 0.5, 0.5))
    _count_axis(axes)


def _count_axis(axes: Axes) -> None:
    """Label the x axis with whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _length(trace: Trace) -> int:
    return len(trace.warmup_ns) + sum(len(block.sample_ns) for block in trace.blocks)
