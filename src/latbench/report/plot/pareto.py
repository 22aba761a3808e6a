"""Pictures of :mod:`latbench.audit.pareto`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.audit.pareto import MeasuredPair, ParetoPoint, frontier
from latbench.report.plot.picture import MS, SCREEN, Style, save_picture
from latbench.report.plot.record import COUNTED, INTERVAL, LEVEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "os^D"


def save_pareto(
    points: Sequence[ParetoPoint],
    title: str,
    path: Path,
    *,
    names: Mapping[str, str] | None = None,
    style: Style = SCREEN,
) -> None:
    """Draw accuracy over latency with its interval; hollow markers are not reliable.

    ``names`` gives display names for models, here and in :func:`save_ratios`.
    """
    shown = names or {}

    def draw(axes: Axes) -> None:
        for point in points:
            x = point.measured.median_ns / MS
            low, high = point.measured.interval_ns or (point.measured.median_ns,) * 2
            axes.errorbar(
                x,
                point.top1,
                xerr=[[max(x - low / MS, 0)], [max(high / MS - x, 0)]],
                fmt="o",
                color=COUNTED,
                markerfacecolor=COUNTED if point.measured.reliability == "reliable" else "none",
                markersize=4,
                capsize=4,
            )
            _name(axes, shown.get(point.measured.model, point.measured.model), x, point.top1)
        best = frontier(points)
        axes.step(
            [point.measured.median_ns / MS for point in best],
            [point.top1 for point in best],
            where="post",
            color=INTERVAL,
            zorder=0,
            label="Pareto frontier",
        )
        axes.set_xlabel("measured latency (ms); hollow: not reliable")
        axes.set_ylabel("published top-1 accuracy (%)")
        axes.legend(loc="lower right")

    _save(draw, title, path, style)


def save_ratios(
    pairs: Sequence[MeasuredPair],
    title: str,
    path: Path,
    *,
    names: Mapping[str, str] | None = None,
    style: Style = SCREEN,
) -> None:
    """Draw measured over published ratios, a color for each source, with the line of equality."""
    shown = names or {}

    def draw(axes: Axes) -> None:
        sources = list(dict.fromkeys(pair.source for pair in pairs))
        for i, source in enumerate(sources):
            own = [pair for pair in pairs if pair.source == source]
            axes.errorbar(
                [pair.published for pair in own],
                [pair.measured for pair in own],
                xerr=_arms([(pair.published, pair.published_interval) for pair in own]),
                yerr=_arms([(pair.measured, pair.measured_interval) for pair in own]),
                fmt=MARKERS[i // 10 % len(MARKERS)],
                color=f"C{i % 10}",
                markersize=4,
                capsize=2,
                label=source,
            )
        # Several sources give the same two models: they lie side by side, and are named once.
        rightmost: dict[tuple[str, str], MeasuredPair] = {}
        for pair in sorted(pairs, key=lambda pair: pair.published):
            rightmost[pair.model, pair.reference] = pair
        for (model, reference), pair in rightmost.items():
            text = f"{shown.get(model, model)} / {shown.get(reference, reference)}"
            _name(axes, text, pair.published, pair.measured)
        ends = [r for pair in pairs for r in (pair.published, pair.measured)]
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=LEVEL, linewidth=1)
        axes.set_xlabel("published ratio of latencies")
        axes.set_ylabel("measured ratio of latencies")
        axes.set_yscale("log")
        _plain(axes.yaxis)
        axes.legend(loc="best")

    _save(draw, title, path, style)


def _arms(values: Sequence[tuple[float, tuple[float, float] | None]]) -> list[list[float]]:
    """Lengths of error bars below and above; 0 where there is no interval."""
    ends = [(value, interval or (value, value)) for value, interval in values]
    return [[max(v - low, 0) for v, (low, _) in ends], [max(high - v, 0) for v, (_, high) in ends]]


def _plain(axis: Any) -> None:
    """Plain numbers on a logarithmic axis, also where it spans less than a decade."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _name(axes: Axes, text: str, x: float, y: float) -> None:
    axes.annotate(text, (x, y), xytext=(4, 4), textcoords="offset points")


def _save(draw: Callable[[Axes], None], title: str, path: Path, style: Style) -> None:
    def draw_figure(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(alpha=0.3)
        axes.set_xscale("log")
        _plain(axes.xaxis)
        draw(axes)
        axes.margins(x=0.15)

    save_picture(path, style, title=title, size=(10, 7), draw=draw_figure)
