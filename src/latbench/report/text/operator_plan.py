"""A plan of operators as lines: where a runtime expects each to run, and its estimated cost."""

from __future__ import annotations

from collections import Counter

from latbench.report.text.answer import title
from latbench.report.text.layout import GAP, labeled, table
from latbench.report.text.operator_times import MOST_KINDS, planned_text
from latbench.report.writers import csv_table, printable
from latbench.schema.record import Record
from latbench.schema.trace import OperatorPlan, PlannedOperator

PLAN_FIELDS = ("name", "kind", "unit", "cost_ppm")
PPM = 1e6


def operator_plan_lines(record: Record, plan: OperatorPlan, *, top: int, id: str) -> list[str]:
    """The units, the kinds with the largest estimated costs, and the ``top`` operators."""
    lines = [f"{len(plan.operators)} operators, {planned_text(plan)}  {title(record)}"]
    if costs := _costs(plan):
        shown = ", ".join(
            f"{printable(kind)} {cost / PPM:.0%}" for kind, cost in costs.most_common(MOST_KINDS)
        )
        more = len(costs) - MOST_KINDS
        shown += f", {more} more kinds" if more > 0 else ""
        lines.append(labeled("cost", f"estimated by kind: {shown}"))
    else:
        lines.append(labeled("cost", "no operator has an estimated cost"))
    most = sorted(plan.operators, key=lambda each: -(each.cost_ppm or 0))
    lines += [f"{GAP}{line}" for line in table(_HEAD, [_row(each) for each in most[:top]])]
    if most[top:]:
        lines.append(labeled("others", f"{len(most[top:])} more operators (--top, --format csv)"))
    return [*lines, labeled("record", f"{id} (latbench show {id})")]


def operator_plan_csv(plan: OperatorPlan) -> str:
    """Every operator in the order of execution."""
    rows = [[getattr(each, name) for name in PLAN_FIELDS] for each in plan.operators]
    return csv_table(PLAN_FIELDS, rows)


_HEAD = ["cost", "operator", "kind", "unit"]


def _row(operator: PlannedOperator) -> list[str]:
    cost = "-" if operator.cost_ppm is None else f"{operator.cost_ppm / PPM:.1%}"
    return [cost, printable(operator.name), printable(operator.kind), printable(operator.unit)]


def _costs(plan: OperatorPlan) -> Counter[str]:
    """The estimated cost of each kind that has one."""
    costs: Counter[str] = Counter()
    for each in plan.operators:
        if each.cost_ppm is not None:
            costs[each.kind] += each.cost_ppm
    return costs
