"""``latbench claims explain``: why two latencies of one model differ, factor by factor."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from latbench.analysis.estimators import statistic_name
from latbench.artifacts import calibration
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
    limited,
    switch,
)
from latbench.attribution.shapley import Account, Difference, configurations
from latbench.attribution.subject import Side, check_same_model
from latbench.bench.run import TIMEOUT_S, run
from latbench.errors import (
    LatbenchError,
    RegistryError,
    StageError,
    UsageError,
)
from latbench.events import Warn
from latbench.host.info import read_machine, this_device, usable_cpus
from latbench.plugins import exporter_for, load_runner, runner_names
from latbench.schema.precision import PRECISIONS
from latbench.schema.protocol_options import LONGEST_DEADLINE_S, check_protocol
from latbench.schema.record import Record
from latbench.zoo.resolver import identify, ready_suffix

ROUNDS = 3
"""The fewest that give an interval."""
BUDGET_S = 15.0
Tell = Callable[[str], None]


def explain(
    a: Side,
    b: Side,
    *,
    measure: bool = True,
    rounds: int = ROUNDS,
    budget_s: float = BUDGET_S,
    order_seed: int = 0,
    deadline_s: float = TIMEOUT_S,
    registry: str | None = None,
    tell: Tell = lambda message: None,
    warn: Warn = lambda message: None,
) -> Account:
    """Account for the ratio of two numbers, which :func:`latbench.attribution.subject.side_of` and
    :func:`~latbench.attribution.subject.side_of_claim` make of records and claims.

    Where the hardware is here, factors are switched one after another and measured, all
    configurations once a round in random order, each a stored record. ``budget_s`` bounds each
    measurement of a protocol that goes on until it is precise. Raises :class:`UsageError` where the
    two cannot be compared, and :class:`StageError` where nothing could be measured.
    """
    check_same_model(a, b)
    if rounds < 1 or not 0 < budget_s < LONGEST_DEADLINE_S:
        raise UsageError(
            f"rounds and the budget must be above 0 and sensible, not {rounds} and {budget_s:g} s"
        )
    plan, base = _plan(a, b, measure)
    notes: list[str] = []
    setups = _setups(a, b, plan, base.setup)
    measured: Sequence[Round] = ()
    if setups:
        for setup in setups.values():
            check_protocol(setup.protocol, deadline_s)
        for side, at_b in ((a, ()), (b, plan.measured)):
            end = configured(base.setup, a.setup, b.setup, plan.measured, at_b)
            notes += _changes(side, end)
        measuring = Measuring(setups, budget_s, deadline_s, registry, tell, warn)
        measured = measuring.rounds(rounds, order_seed)
        notes += measuring.notes
        if not measured:
            raise StageError("time", "not one round could be measured", hint="; ".join(notes))
    found = account(a, b, plan, measured, notes)
    if found is None:
        raise StageError(
            "time",
            "what could be measured takes no factor apart from the others",
            hint="; ".join(notes) or None,
        )
    return found


def _plan(a: Side, b: Side, measure: bool) -> tuple[AttributionPlan, Side]:
    """What can be found out how, and the side whose setup measurements start from."""
    here = this_device(read_machine()).id
    there = [side.facts.get("device") != here for side in (a, b)]
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
        why = _why_not(each, a, b, there)
        if why is None and not measure:
            why = "not measured (--no-measure)"
        if why is not None:
            reasons[each.name] = why
    plan = AttributionPlan(
        between=between,
        measured=tuple(e.name for e in between.differ if e.name not in (*reasons, *COMPUTED)),
        computed=computed,
        alternatives=_alternatives(between.differ, b) if measure and not there[1] else (),
        reasons=reasons,
        here=(not there[0], not there[1]),
    )
    return plan, base


def _why_not(factor: Difference, a: Side, b: Side, there: Sequence[bool]) -> str | None:
    """Why nothing can be switched here; ``None`` where it can."""
    name, (one, two) = factor.name, (a.setup, b.setup)
    if factor.a is None and a.record is None:
        return "the source leaves it open"
    if factor.a is None or factor.b is None:
        return "the record does not say"
    if name == "device" and any(there):
        other = factor.b if there[1] else factor.a
        return f"not measurable here: the other device is {other}"
    if name in COMPUTED:
        return "the source does not say how it is made"
    if not can_switch(name):
        return "not measurable here: known from the fields alone"
    if all(there):
        return "not measurable here: neither device is here"
    most = max(one.request.threads or 1, two.request.threads or 1)
    if name == "threads" and most > (cpus := usable_cpus()):
        return f"not measurable here: {most} threads on {cpus} CPU{'' if cpus == 1 else 's'}"
    backends = (one.request.backend, two.request.backend)
    of_backend = name in ("backend", FORM) or name.startswith(OPTION)
    if of_backend and any(there) and a.facts.get("backend") != b.facts.get("backend"):
        return "not measurable here: the other device had another backend"
    if name == "backend" and (lacking := [x for x in backends if not _runs_here(x)]):
        return f"not measurable here: {', '.join(lacking)} cannot run"
    shapes = (a.facts.get("input shape"), b.facts.get("input shape"))
    if name in ("batch", "resolution") and shapes[0] != shapes[1]:
        return "not measurable here: not apart from the input shape"
    if switch(two, name, one) == two:
        return f"not measurable here: {factor.a} cannot be asked for"
    if name == "precision" and one.request.precision not in PRECISIONS:
        return f"not measurable here: there is no {factor.a}"
    return None


def _runs_here(backend: str) -> bool:
    return backend in runner_names() and load_runner(backend).probe().available


def _alternatives(differ: Sequence[Difference], b: Side) -> tuple[Alternative, ...]:
    """Plausible values of what a claim leaves open and one more measurement each can tell."""
    open = {each.name for each in differ if each.a is None}
    request, found = b.setup.request, []
    if "threads" in open:
        found += [("threads", str(n)) for n in sorted({1, usable_cpus()}) if n != request.threads]
    if "precision" in open and ready_suffix(request.model) is None:
        able = exporter_for(load_runner(request.backend)).precisions
        found += [
            ("precision", each)
            for each in ("fp32", "fp16", "int8")
            if each in able and each != request.precision
        ]
    return tuple(Alternative(factor=factor, value=value) for factor, value in found)


def _setups(a: Side, b: Side, plan: AttributionPlan, base: Setup) -> dict[Key, Setup]:
    """What is to be measured once a round; empty where nothing is."""
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


def _changes(side: Side, end: Setup) -> list[str]:
    """What differs, a little, at the ``end`` that is to be measured from what was measured. Raises
    :class:`UsageError` where that is another thing now."""
    if side.record is None:
        return []
    request, asked, then = end.request, side.setup.request, side.record.model
    now, changed, notes = identify(request), "", list[str]()
    if now.architecture != then.architecture and then.source == "file":
        changed = f"{then.name} is another file"
    elif now.architecture != then.architecture:
        notes.append(f"the source of {then.name} has changed since {side.label} was taken")
    # A setting that is not switched is the other side's, and is checked there.
    own = (request.weights, request.seed) == (asked.weights, asked.seed)
    if own and now.weights != then.weights:
        changed = f"the weights are {now.weights[:15]}: others"
    used = side.record.artifact.details.get("calibration") if side.record.artifact else None
    own = (request.precision, request.calibration) == ("int8", asked.calibration)
    if used and own and (images := calibration.identify_calibration(request.calibration)) != used:
        changed = f"the calibration is {images}: another one"
    if changed:
        raise UsageError(
            f"{changed} now than of {side.label}",
            hint="--no-measure explains what the records themselves tell",
        )
    return notes


class Measuring:
    """Measures setups in rounds; one that fails is left out from then on."""

    def __init__(
        self,
        setups: Mapping[Key, Setup],
        budget_s: float,
        deadline_s: float,
        registry: str | None,
        tell: Tell,
        warn: Warn,
    ) -> None:
        self._setups = dict(setups)
        self._budget_ns = round(budget_s * 1e9)
        self._deadline_s = deadline_s
        self._registry = registry
        self._tell = tell
        self._warn = warn
        self._warned: set[str] = set()
        self._doubted = 0
        self.notes: list[str] = []

    def rounds(self, number: int, order_seed: int) -> list[Round]:
        """The whole rounds: of one that is interrupted nothing counts."""
        draw = random.Random(order_seed)  # noqa: S311 - an order, no secret
        done: list[Round] = []
        try:
            for i in range(number):
                order = list(self._setups)
                draw.shuffle(order)
                found: dict[Key, Record] = {}
                for j, key in enumerate(order):
                    self._tell(f"round {i + 1} of {number}, {j + 1} of {len(order)}: {named(key)}")
                    record = self._measured(key)
                    if record is not None:
                        found[key] = record
                if found:
                    done.append(found)
        except KeyboardInterrupt:
            self.notes.append(f"interrupted: {len(done)} whole rounds of {number} count")
        if self._doubted:
            self.notes.append(
                f"{self._doubted} of the measurements are not trusted by themselves "
                "(latbench show says why)"
            )
        return done

    def _measured(self, key: Key) -> Record | None:
        """A record, or ``None`` and it is never tried again."""
        setup = self._setups[key]
        request = setup.request
        try:
            result = run(
                request.model,
                backend=request.backend,
                weights=request.weights,
                batch=request.batch,
                resolution=request.resolution,
                precision=request.precision,
                threads=request.threads,
                seed=request.seed,
                options=request.options,
                dims=request.dims,
                protocol=limited(setup.protocol, self._budget_ns),
                calibration=request.calibration,
                strict=True,
                deadline_s=self._deadline_s,
                registry=self._registry,
                warn=self._warn_once,
            )
        except RegistryError:
            raise
        except LatbenchError as error:
            self._leave_out(key, error.message)
            return None
        outcome = result.record.outcome
        if outcome.status == "interrupted":
            raise KeyboardInterrupt
        if outcome.failure is not None:
            self._leave_out(key, outcome.failure.message)
            return None
        self._doubted += result.summary is not None and result.summary.reliability == "unreliable"
        return result.record

    def _leave_out(self, key: Key, why: str) -> None:
        del self._setups[key]
        self.notes.append(f"{named(key)} could not be measured: {why}")

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self._warn(message)


def named(key: Key) -> str:
    """A configuration in words."""
    if isinstance(key, Alternative):
        return f"{key.factor} {key.value}"
    return f"B's {', '.join(sorted(key))}" if key else "as recorded"
