"""The one number that stands for a result of another tool. Nothing is estimated from it."""

from __future__ import annotations

from statistics import median

from latbench.schema.reported import LATENCY, ToolResult
from latbench.schema.value import Value

PREFERRED = ("median", "mean")
"""Statistics of a tool, the one nearest to latbench's own first. Others only stand for a result
without times: AI Hub's estimate is the least of its times."""


class ReportedLatency(Value, frozen=True, kw_only=True):
    """A latency and what the tool calls it."""

    statistic: str
    value_ns: int


def reported_latency(result: ToolResult) -> ReportedLatency | None:
    """The median or mean that the tool gives, else the median of the times that it gives, else the
    first other statistic.

    ``None`` if it gives neither, such as in a profile by layer.
    """
    given = result.statistics_ns.get(LATENCY, {})
    for statistic in PREFERRED:
        if statistic in given:
            return ReportedLatency(statistic=statistic, value_ns=given[statistic])
    if times := result.times_ns.get(LATENCY):
        statistic = f"median of its {len(times)} times"
        return ReportedLatency(statistic=statistic, value_ns=round(median(times)))
    for statistic, value_ns in given.items():
        return ReportedLatency(statistic=statistic, value_ns=value_ns)
    return None
