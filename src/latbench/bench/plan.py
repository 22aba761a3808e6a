"""``latbench plan``: a short pilot, and what it says of the time that a goal takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from latbench.analysis.power import Plan, plan
from latbench.bench.run import RunResult
from latbench.errors import UsageError
from latbench.schema.protocol import MS
from latbench.schema.protocol_catalog import WARM
from latbench.schema.record import Record

PILOT = msgspec.structs.replace(
    WARM,
    name="latbench-pilot",
    what="a short pilot for planning: as latbench-warm@1, six processes, aiming at no precision",
    max_processes=6,
    target_ppm=None,
    sentinel_ns=None,
    block_ns=25 * MS,
    min_ns=300 * MS,
)


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """The plan, and the pilot records that it rests on."""

    plan: Plan | None
    """``None`` where a pilot failed or gave too little: see the records' outcomes."""
    pilots: tuple[Record, ...]


def make_plan(
    run: Callable[..., RunResult],
    *,
    builds: int = 1,
    target: float = 0.01,
    effect: float = 0.03,
    **request: Any,
) -> PlanResult:
    """Measure ``builds`` pilots by ``run`` (each exported anew after the first) and plan from them.

    ``target`` is the wanted half-width of the interval and ``effect`` the smallest change to be
    found, both relative; ``request`` holds the arguments of
    :func:`latbench.run`.
    """
    for name, value in (("target", target), ("effect", effect)):
        if not 0 < value < 1:
            raise UsageError(f"the {name} must be above 0 and below 100 %, not {100 * value:g} %")
    pilots = []
    for build in range(builds):
        result = run(**{"protocol": PILOT, **request, "fresh": build > 0})
        pilots.append(result.record)
        if result.record.outcome.status != "measured":
            return PlanResult(plan=None, pilots=tuple(pilots))
    digests = {record.artifact.sha256 for record in pilots if record.artifact}
    made = plan(pilots, precision=target, effect=effect, same_build=len(digests) == 1)
    return PlanResult(plan=made, pilots=tuple(pilots))
