"""Ids shortened to a prefix, and errors about prefixes that name none or several."""

from __future__ import annotations

from latbench.errors import UsageError
from latbench.schema.reported import ReportedResult

SHORT_ID = 8
"""Minimum length of a shortened id: then it stays unique unless another record begins within the
same second (1,024 ms)."""
MOST_CANDIDATES = 3
"""Candidates that an error lists."""


def shared_start(one: str, two: str) -> int:
    """The length of the common prefix of two ids."""
    pairs = zip(one, two, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))


def not_measured(result: ReportedResult) -> UsageError:
    """The error for a result of another tool where a record is needed."""
    return UsageError(
        f"{result.id} is reported by {result.tool}, not measured by latbench: without raw samples "
        "it cannot be compared, plotted, profiled or used as evidence",
        hint=f"`latbench show {result.id}` shows what the tool reports",
    )


def none_or_many(id: str, found: list[str], where: str) -> UsageError:
    """The error for a prefix with which no id, or several ``found`` ones, begin."""
    if found:
        more = ", ..." if len(found) > MOST_CANDIDATES else ""
        return UsageError(
            f"several records begin with {id!r}: {', '.join(found[:MOST_CANDIDATES])}{more}",
            hint="give more characters of the id",
        )
    return UsageError(
        f"no record {id!r} in {where}", hint="`latbench show` lists the latest of each group"
    )
