"""``latbench claims explain``: attribute the ratio of two latencies to the settings that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from latbench.analysis.estimators import statistic_name
from latbench.artifacts.calibration import identify_calibration
from latbench.attribution.decomposition import (
    COMPUTED,
    Alternative,
    AttributionPlan,
    Key,
    Round,
    account,
)
from latbench.attribution.factors import FORM, OPTION, compare_factors
from latbench.attribution.setup import (
    Setup,
    can_switch,
    configured,
    switch,
)
from latbench.attribution.shapley import Account, Difference, configurations
from latbench.attribution.subject import Side, check_same_model
from latbench.bench.context import RunContext
from latbench.bench.explain_rounds import Measuring, WarnOnce
from latbench.defaults import LOCAL, TIMEOUT_S
from latbench.devices.opening import Devices
from latbench.errors import (
    StageError,
    UsageError,
)
from latbench.events import SILENT, Events
from latbench.plugins import exporter_for, load_runner, runner_names
from latbench.schema.precision import PRECISIONS
from latbench.schema.protocol_options import LONGEST_TIMEOUT_S, check_protocol

if TYPE_CHECKING:
    from latbench.devices.measured import MeasuredDevice

ROUNDS = 3
"""The smallest number of rounds that gives an interval."""
BUDGET_S = 15.0


def explain(
    a: Side,
    b: Side,
    *,
    measure: bool = True,
    rounds: int = ROUNDS,
    budget_s: float = BUDGET_S,
    order_seed: int = 0,
    timeout_s: float = TIMEOUT_S,
    device: str = LOCAL,
    registry: str | None = None,
    events: Events = SILENT,
) -> Account:
    """Break the ratio of two latencies of one model down into contributions of their differences.

    :func:`latbench.attribution.subject.side_of` and
    :func:`~latbench.attribution.subject.side_of_claim` make the two from records and claims. If the
    hardware is here, or is the user's ``device``, factors are switched one after another and
    measured there: all configurations once in each round, in random order, each as a stored record.
    ``budget_s`` limits every measurement whose protocol stops at a target precision.
    ``events.step`` receives a line of text before each measurement. Raises :class:`UsageError` if
    the two are not comparable, and :class:`StageError` if nothing could be measured.
    """
    check_same_model(a, b)
    if rounds < 1:
        raise UsageError(f"at least 1 round is required, not {rounds}")
    if not 0 < budget_s < LONGEST_TIMEOUT_S:
        raise UsageError(
            f"the budget must be above 0 and below {LONGEST_TIMEOUT_S} s, not {budget_s:g} s"
        )
    with Devices() as devices:
        place = devices.open(device)
        plan, base = _plan(a, b, measure, place)
        notes: list[str] = []
        measured: Sequence[Round] = ()
        if setups := _setups(a, b, plan, base.setup):
            for setup in setups.values():
                check_protocol(setup.protocol, timeout_s)
            measuring = Measuring(setups, budget_s, place)
            for side, at_b in ((a, ()), (b, plan.measured)):
                notes += _changes(side, measuring, frozenset(at_b))
            measured = _measure(measuring, rounds, order_seed, timeout_s, registry, events)
            notes += measuring.notes
            if not measured:
                raise StageError("time", "not one round could be measured", hint="; ".join(notes))
        found = account(a, b, plan, measured, notes)
        if found is None:
            raise StageError(
                "time",
                "what could be measured separates no factor from the others",
                hint="; ".join(notes) or None,
            )
        return found


def _measure(
    measuring: Measuring,
    rounds: int,
    order_seed: int,
    timeout_s: float,
    registry: str | None,
    events: Events,
) -> list[Round]:
    from latbench.store.registry import Registry

    with Registry.open(registry) as store:
        context = RunContext(
            device=measuring.device,
            registry=store,
            events=replace(events, warn=WarnOnce(events.warn)),
            timeout_s=timeout_s,
            strict=True,
        )
        return measuring.rounds(rounds, order_seed, context)


def _plan(a: Side, b: Side, measure: bool, device: MeasuredDevice) -> tuple[AttributionPlan, Side]:
    """How each factor can be determined, and the side whose setup measurements start from."""
    here = (device.row.id, device.row.hardware)
    there = [side.facts.get("device") not in here for side in (a, b)]
    base = a if there[1] and a.record is not None else b
    between = compare_factors(a.facts, b.facts, options=a.record is not None)
    computed = tuple(
        each.name
        for each in between.differ
        if each.name in COMPUTED
        and all(side.facts.get("statistic") == statistic_name(side.statistic) for side in (a, b))
    )
    reasons: dict[str, str] = {}
    for each in between.differ:
        why = _why_not(each, a, b, there, device)
        if why is None and not measure:
            why = "not measured (--no-measure)"
        if why is not None:
            reasons[each.name] = why
    plan = AttributionPlan(
        between=between,
        measured=tuple(e.name for e in between.differ if e.name not in (*reasons, *COMPUTED)),
        computed=computed,
        alternatives=_alternatives(between.differ, b, device) if measure and not there[1] else (),
        reasons=reasons,
        here=(not there[0], not there[1]),
    )
    return plan, base


def _why_not(
    factor: Difference, a: Side, b: Side, there: Sequence[bool], device: MeasuredDevice
) -> str | None:
    """Why the factor cannot be switched here; ``None`` if it can."""
    name, (one, two) = factor.name, (a.setup, b.setup)
    if factor.a is None and a.record is None:
        return "the source leaves it open"
    if factor.a is None or factor.b is None:
        return "the record does not state it"
    if name == "device" and any(there):
        other = factor.b if there[1] else factor.a
        return f"not measurable here: the other device is {other}"
    if name in COMPUTED:
        return "the source does not say how it is computed"
    if not can_switch(name):
        return "not measurable here: known from the fields alone"
    if all(there):
        return "not measurable here: neither device is here"
    most = max(one.request.threads or 1, two.request.threads or 1)
    if name == "threads" and most > (cpus := device.usable_cpus()):
        return f"not measurable here: {most} threads on {cpus} CPU{'' if cpus == 1 else 's'}"
    backends = (one.request.backend, two.request.backend)
    of_backend = name in ("backend", FORM) or name.startswith(OPTION)
    if of_backend and any(there) and a.facts.get("backend") != b.facts.get("backend"):
        return "not measurable here: the other device had another backend"
    if name == "backend" and (missing := [x for x in backends if not _runs(x, device)]):
        return f"not measurable here: {', '.join(missing)} cannot run"
    shapes = (a.facts.get("input shape"), b.facts.get("input shape"))
    if name in ("batch", "resolution") and shapes[0] != shapes[1]:
        return "not measurable here: not separable from the input shape"
    if switch(two, name, one) == two:
        return f"not measurable here: {factor.a} cannot be requested"
    if name == "precision" and one.request.precision not in PRECISIONS:
        return f"not measurable here: {factor.a} is not supported"
    return None


def _runs(backend: str, device: MeasuredDevice) -> bool:
    return backend in runner_names() and device.probe(load_runner(backend)).available


def _alternatives(
    differ: Sequence[Difference], b: Side, device: MeasuredDevice
) -> tuple[Alternative, ...]:
    """Plausible values of what a claim leaves open, each worth one more measurement."""
    open = {each.name for each in differ if each.a is None}
    request, found = b.setup.request, []
    if "threads" in open:
        counts = sorted({1, device.usable_cpus()})
        found += [("threads", str(n)) for n in counts if n != request.threads]
    exported = b.record is None or b.record.model.source != "file"
    if "precision" in open and exported:
        able = exporter_for(load_runner(request.backend)).precisions
        found += [
            ("precision", each)
            for each in ("fp32", "fp16", "int8")
            if each in able and each != request.precision
        ]
    return tuple(Alternative(factor=factor, value=value) for factor, value in found)


def _setups(a: Side, b: Side, plan: AttributionPlan, base: Setup) -> dict[Key, Setup]:
    """The setups to measure once a round; empty if there is nothing to measure."""
    if not plan.measured and not plan.alternatives:
        return {}
    found: dict[Key, Setup] = {
        at_b: configured(base, a.setup, b.setup, plan.measured, at_b)
        for at_b in configurations(plan.measured)
    }
    end = found[frozenset(plan.measured)]
    for each in plan.alternatives:
        changed = {each.factor: int(each.value) if each.factor == "threads" else each.value}
        request = msgspec.structs.replace(end.request, **changed)
        found[each] = msgspec.structs.replace(end, request=request)
    return found


def _changes(side: Side, measuring: Measuring, key: Key) -> list[str]:
    """Notes on small differences between the record of ``side`` and what is measured for it now.

    ``key`` is the setup that stands for the side. Raises :class:`UsageError` if it would measure
    something else than the record did.
    """
    if side.record is None:
        return []
    resolved = measuring.resolved(key)
    request, asked, then = resolved.request, side.setup.request, side.record.model
    now, changed, notes = resolved.identity, "", list[str]()
    if now.architecture != then.architecture and then.source == "file":
        changed = f"{then.name} is another file"
    elif now.architecture != then.architecture:
        notes.append(f"the source of {then.name} has changed since {side.label} was measured")
    # A setting that is not switched has the other side's value, and is checked there.
    own = (request.weights, request.seed) == (asked.weights, asked.seed)
    if own and now.weights != then.weights:
        changed = f"the weights are {now.weights[:15]}: others"
    used = side.record.artifact.details.get("calibration") if side.record.artifact else None
    own = (request.precision, request.calibration) == ("int8", asked.calibration)
    if used and own and (images := identify_calibration(request.calibration)) != used:
        changed = f"the calibration is {images}: another one"
    if changed:
        raise UsageError(
            f"{changed} now than in {side.label}",
            hint="--no-measure explains what follows from the records alone",
        )
    return notes
