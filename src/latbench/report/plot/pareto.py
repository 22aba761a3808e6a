"""Pictures of :mod:`latbench.audit.pareto`. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.audit.pareto import MeasuredPair, ParetoPoint, frontier
from latbench.errors import UsageError
from latbench.files import write_beside
from latbench.report.plot.record import (
    COUNTED,
    FORMATS,
    INTERVAL,
    LEVEL,
)
from latbench.report.units import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "os^D"


def save_pareto(points: Sequence[ParetoPoint], title: str, path: Path) -> None:
    """Accuracy over typical latency with its interval; hollow where the latency is not trusted."""
    _, unit = duration(points[0].measured.median_ns)
    scale = {"s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1.0}[unit]

    def draw(axes: Axes) -> None:
        for point in points:
            x = point.measured.median_ns / scale
            low, high = point.measured.interval_ns or (point.measured.median_ns,) * 2
            axes.errorbar(
                x,
                point.top1,
                xerr=[[max(x - low / scale, 0)], [max(high / scale - x, 0)]],
                fmt="o",
                color=COUNTED,
                markerfacecolor=COUNTED if point.measured.reliability == "reliable" else "none",
                markersize=4,
                capsize=4,
            )
            _name(axes, point.measured.model, x, point.top1)
        best = frontier(points)
        axes.step(
            [point.measured.median_ns / scale for point in best],
            [point.top1 for point in best],
            where="post",
            color=INTERVAL,
            zorder=0,
            label="no other is faster and more accurate",
        )
        axes.set_xlabel(f"typical latency as measured here, {unit} (hollow: not trusted)")
        axes.set_ylabel("top-1 as published, of the trained network, %")
        axes.legend(loc="lower right", fontsize=8)

    _save(draw, title, path)


def save_ratios(pairs: Sequence[MeasuredPair], title: str, path: Path) -> None:
    """Measured over published ratio, one colour for each source, with the line of equality."""

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
            _name(axes, f"{model} / {reference}", pair.published, pair.measured)
        ends = [r for pair in pairs for r in (pair.published, pair.measured)]
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=LEVEL, linewidth=1)
        axes.set_xlabel("ratio of latencies as published")
        axes.set_ylabel("the same ratio as measured here")
        axes.set_yscale("log")
        _plain(axes.yaxis)
        axes.legend(loc="best", fontsize=7)

    _save(draw, title, path)


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
    axes.annotate(text, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)


def _save(draw: Callable[[Any], None], title: str, path: Path) -> None:
    """Raises :class:`UsageError` for an ending that is none of FORMATS, or without matplotlib."""
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
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.set_xscale("log")
    _plain(axes.xaxis)
    draw(axes)
    axes.margins(x=0.15)
    write_beside(
        path, lambda target: figure.savefig(target, format=path.suffix[1:].lower(), dpi=120)
    )
