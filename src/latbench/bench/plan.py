"""``latbench plan``: a short pilot, and an estimate of the time that a target precision takes."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from latbench.analysis.power import Plan, plan
from latbench.bench.context import RunContext
from latbench.bench.measure import measure_request
from latbench.bench.opening import opened
from latbench.bench.prepare import read_request, resolve_protocol
from latbench.bench.rest import cooldown
from latbench.defaults import TIMEOUT_S
from latbench.errors import UsageError
from latbench.events import SILENT, Events
from latbench.schema.protocol import MS, TimingProtocol
from latbench.schema.protocol_catalog import WARM
from latbench.schema.record import Record
from latbench.schema.request import Request

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
    """``None`` if a pilot failed or gave too few samples: see the records' outcomes."""
    pilots: tuple[Record, ...]


def make_plan(
    request: Request | str,
    *,
    protocol: str | TimingProtocol = PILOT,
    builds: int = 1,
    target: float = 0.01,
    effect: float = 0.03,
    cooldown_s: float = 0.0,
    max_temperature_c: float | None = None,
    max_thermal_status: str | None = None,
    strict: bool = False,
    no_cache: bool = False,
    timeout_s: float = TIMEOUT_S,
    registry: str | None = None,
    events: Events = SILENT,
) -> PlanResult:
    """Measure ``builds`` pilots of ``request`` and estimate the effort from them.

    Each build after the first is exported again. ``target`` is the half-width of the interval to
    reach and ``effect`` the smallest change to detect, both relative. The other arguments and the
    errors are those of :func:`latbench.run`.
    """
    for name, value in (("target", target), ("effect", effect)):
        if not 0 < value < 1:
            raise UsageError(f"the {name} must be above 0 and below 100 %, not {100 * value:g} %")
    timing = resolve_protocol(protocol, timeout_s)
    wait = cooldown(cooldown_s, max_temperature_c, max_thermal_status)
    pilots: list[Record] = []
    with opened((read_request(request, timing),), registry) as bench:
        for build in range(builds):
            context = RunContext(
                device=bench.device,
                registry=bench.registry,
                events=events,
                timeout_s=timeout_s,
                strict=strict,
                no_cache=no_cache or build > 0,
                cooldown=wait,
            )
            pilots.append(measure_request(bench.requests[0], timing, context))
            if pilots[-1].outcome.status != "measured":
                return PlanResult(plan=None, pilots=tuple(pilots))
    digests = {record.artifact.sha256 for record in pilots if record.artifact}
    found = plan(pilots, precision=target, effect=effect, same_build=len(digests) == 1)
    return PlanResult(plan=found, pilots=tuple(pilots))
