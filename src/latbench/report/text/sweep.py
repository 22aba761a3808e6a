"""A sweep: a line for each finished point, and the table at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latbench.report.json import to_json
from latbench.report.tables import row
from latbench.report.text.columns import latency
from latbench.report.text.table import to_text
from latbench.report.units import seconds

if TYPE_CHECKING:
    from latbench.bench.sweep import SweepResult, SweepStep
    from latbench.errors import UnfitError
    from latbench.schema.request import Request


def step_line(step: SweepStep) -> str:
    """``[3/24] timm:resnet50 · tflite · fp32: 78.4 ms (77.9-78.9), 12 s; about 4 min left``."""
    assert step.point.record is not None
    result = latency(row(step.point.record, step.point.summary))
    left = f"; about {seconds(step.left_s)} left" if step.done < step.points else ""
    name = request_name(step.point.request)
    return f"[{step.done}/{step.points}] {name}: {result}, {seconds(step.seconds)}{left}"


def request_name(request: Request) -> str:
    """The settings of a point: model, backend, precision, batch, resolution, threads."""
    parts = [request.model, request.backend, request.precision]
    parts += [f"batch {request.batch}"] if request.batch is not None else []
    parts += ["x".join(map(str, request.resolution))] if request.resolution is not None else []
    if request.threads is not None:
        parts.append(f"{request.threads} thread{'' if request.threads == 1 else 's'}")
    return " · ".join(parts)


def swept_lines(swept: SweepResult, width: int | None = None) -> list[str]:
    """The table, fitted to ``width``; then the points that are not in it."""
    rows = [row(p.record, p.summary) for p in swept.points if p.record is not None]
    lines = to_text(rows, width=width)
    lines += [
        f"skipped: {request_name(point.request)}: {_why(point.unfit)}"
        for point in swept.points
        if point.unfit is not None
    ]
    missing = sum(point.record is None and point.unfit is None for point in swept.points)
    if missing:
        lines.append(f"{missing} points are not measured yet; --resume continues with them")
    return [
        *lines,
        f"sweep {swept.sweep} in {swept.registry}: latbench table --sweep {swept.sweep}",
    ]


def _why(unfit: UnfitError) -> str:
    return unfit.message if unfit.hint is None else f"{unfit.message} ({unfit.hint})"


def swept_json(swept: SweepResult) -> str:
    """``{"sweep": …, "rows": […], "passed_over": […], "missing": N}``."""
    return to_json(
        {
            "sweep": swept.sweep,
            "rows": [row(p.record, p.summary) for p in swept.points if p.record is not None],
            "passed_over": [
                {
                    "request": point.request,
                    "reason": point.unfit.message,
                    "hint": point.unfit.hint,
                }
                for point in swept.points
                if point.unfit is not None
            ],
            "missing": sum(p.record is None and p.unfit is None for p in swept.points),
        }
    )
