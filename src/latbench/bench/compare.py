"""``latbench compare``: two requests timed alternately, block by block, and the verdict on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from latbench.analysis.comparability import incomparable
from latbench.analysis.comparison import Comparison, Quantity
from latbench.analysis.comparison import compare as verdict_on
from latbench.analysis.stats import FEWEST
from latbench.bench.context import RunContext
from latbench.bench.measure import measure_parts
from latbench.bench.opening import opened
from latbench.bench.prepare import read_request, resolve_protocol
from latbench.bench.rest import cooldown
from latbench.defaults import COMPARE_PROTOCOL, MARGIN, TIMEOUT_S
from latbench.errors import UsageError
from latbench.events import SILENT, Events, Warn
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import Record
from latbench.schema.request import Request
from latbench.zoo.in_memory import AnyModel, Examples, name_of


@dataclass(frozen=True, kw_only=True)
class CompareResult:
    """The two stored records, and the verdict on them."""

    a: Record
    b: Record
    comparison: Comparison
    registry: str


def compare(
    a: Request | AnyModel,
    b: Request | AnyModel,
    *,
    example_inputs: Examples | None = None,
    threads: int | None = None,
    protocol: str | TimingProtocol = COMPARE_PROTOCOL,
    budget_s: float | None = None,
    target: float | None = None,
    margin: float = MARGIN,
    quantity: Quantity = "typical",
    order_seed: int = 0,
    cooldown_s: float = 0.0,
    max_temperature_c: float | None = None,
    max_thermal_status: str | None = None,
    no_cache: bool = False,
    timeout_s: float = TIMEOUT_S,
    registry: str | None = None,
    events: Events = SILENT,
) -> CompareResult:
    """Time ``a`` and ``b`` alternately, store a record of each, and compare them.

    Each is a request, a text such as ``mobilevig_ti,threads=1`` (a model, and keys with values), or
    a ``torch.nn.Module``. ``example_inputs``, as for :func:`latbench.run`, are for modules, and
    ``threads`` for each side that does not set its own.
    ``margin`` is the relative difference up to which two latencies count as the same, ``target``
    the relative half-width of the ratio's interval at which to stop, and ``order_seed`` determines
    the order of the two in each round. The other arguments and the errors are those of
    :func:`latbench.run`; there is no fallback backend.
    """
    timing = resolve_protocol(protocol, timeout_s, budget_s=budget_s, target=target)
    _check_comparable(timing, events.warn)
    check_margin(margin)
    wait = cooldown(cooldown_s, max_temperature_c, max_thermal_status)
    sides = tuple(_side(side, example_inputs, threads, timing) for side in (a, b))
    _check_one_device(sides)
    with opened(sides, registry) as bench:
        context = RunContext(
            device=bench.device,
            registry=bench.registry,
            events=events,
            timeout_s=timeout_s,
            no_cache=no_cache,
            cooldown=wait,
        )
        side_a, side_b = bench.requests
        parts = (side_a, side_b)
        one, two = measure_parts(parts, timing, context, quantity=quantity, order_seed=order_seed)
        verdict = verdict_on(one, two, margin=margin, quantity=quantity)
        return CompareResult(a=one, b=two, comparison=verdict, registry=bench.registry.url)


def _side(
    side: Request | AnyModel,
    example_inputs: Examples | None,
    threads: int | None,
    protocol: TimingProtocol,
) -> Request:
    if isinstance(side, Request):
        return read_request(side, protocol)
    examples = None if isinstance(side, str | Path) else example_inputs
    found = read_request(name_of(side, examples), protocol)
    return found if found.threads else msgspec.structs.replace(found, threads=threads)


def _check_one_device(sides: Sequence[Request]) -> None:
    """Raises :class:`UsageError` if the two sides are for two devices."""
    one, two = (side.device for side in sides)
    if one != two:
        raise UsageError(
            f"the two sides are for two devices, {one} and {two}, which cannot take turns",
            hint="measure each with `latbench run`, then look at both: latbench compare --records",
        )


def _check_comparable(protocol: TimingProtocol, warn: Warn) -> None:
    """Refuse a protocol without blocks; warn about one with too few processes for a verdict."""
    if protocol.statistic.kind == "cold":
        raise UsageError(
            f"{protocol.label} times first inferences only: there are no blocks to interleave",
            hint="time the two separately with `latbench run`",
        )
    if protocol.max_processes < FEWEST:
        warn(
            f"{protocol.label} has {protocol.max_processes} process"
            f"{'' if protocol.max_processes == 1 else 'es'}; a verdict needs at least {FEWEST}: "
            f"--processes {FEWEST}"
        )


def compare_records(
    a: Record, b: Record, *, margin: float = MARGIN, quantity: Quantity = "typical"
) -> Comparison:
    """Compare stored records. Raises :class:`UsageError` if they are not comparable."""
    check_margin(margin)
    if a.id == b.id:
        raise UsageError(f"record {a.id} cannot be compared with itself", hint="name two records")
    if fields := incomparable(a, b):
        raise UsageError(
            f"these records cannot be compared: {'; '.join(fields)}",
            hint="measure both, interleaved: latbench compare A B",
        )
    return verdict_on(a, b, margin=margin, quantity=quantity)


def check_margin(margin: float) -> None:
    """Refuse a margin at which everything or nothing is the same. Raises :class:`UsageError`."""
    if not 0 < margin < 1:
        raise UsageError(f"the margin must be above 0 and below 100 %, not {100 * margin:g} %")
