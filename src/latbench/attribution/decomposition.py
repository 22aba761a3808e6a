"""Compute the contribution of each factor to the ratio of two latencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from statistics import mean

from latbench.analysis.estimators import restated_ns, statistic_name
from latbench.attribution.factors import PRESENT_STATE, FactorComparison
from latbench.attribution.shapley import (
    Account,
    Configuration,
    Design,
    Difference,
    How,
    Part,
    Share,
    one_at_a_time,
    orders,
    over_rounds,
    shapley,
    subsets,
    unexplained,
)
from latbench.attribution.subject import Side
from latbench.schema.protocol import Statistic
from latbench.schema.record import Record
from latbench.schema.value import Value

COMPUTED = ("regime", "statistic")
PLAUSIBLE = (
    Statistic(kind="median"),
    Statistic(kind="mean"),
    Statistic(kind="quantile", quantile_milli=900),
)
"""Statistics that a source may have used if it does not name one."""
ORDER: tuple[How, ...] = ("measured", "computed", "open", "fields")


class Alternative(Value, frozen=True, kw_only=True):
    """A plausible value of a factor that the claim leaves open."""

    factor: str
    value: str


Key = Configuration | Alternative
Round = Mapping[Key, Record]
"""Records measured in one round."""


class AttributionPlan(Value, frozen=True, kw_only=True):
    """Factors to measure, to compute and to report only."""

    between: FactorComparison
    measured: tuple[str, ...]
    """Factors that can be switched here."""
    computed: tuple[str, ...]
    alternatives: tuple[Alternative, ...]
    reasons: dict[str, str]
    """Why each other factor has no contribution."""
    here: tuple[bool, bool] = (True, True)
    """Whether A's and B's devices are this one."""

    @property
    def settled(self) -> bool:
        """Whether a measurement at A's end has all of A's settings."""
        found = (*self.measured, *self.computed, *PRESENT_STATE)
        return all(each.name in found for each in self.between.differ)

    @property
    def where(self) -> str:
        """Text that names the device of the measurements if only one side's device is this one."""
        return "" if all(self.here) else f", on {'B' if self.here[1] else 'A'}'s device"


def account(
    a: Side, b: Side, plan: AttributionPlan, rounds: Sequence[Round], notes: Sequence[str]
) -> Account | None:
    """Compute the breakdown; ``None`` if the measurements do not separate any factor."""
    design: Design = "none"
    ways = 0
    cells = [_logs(each, a, b, plan) for each in rounds]
    if rounds and plan.measured:
        found = _shares(cells, plan)
        if found is None:
            return None
        per_round, design, ways = found
    else:
        per_round = _stored_shares(a, b, plan)
    names = per_round[0].keys() if per_round else ()
    shares = {name: over_rounds([each[name] for each in per_round]) for name in names}
    explained = over_rounds([sum(each.values()) for each in per_round] or [0.0])
    ratio = b.ns / a.ns
    parts = [_part(each, shares, plan, b, rounds) for each in plan.between.differ]
    return Account(
        a=a.label,
        b=b.label,
        a_ns=a.ns,
        b_ns=b.ns,
        a_again_ns=_again(cells, frozenset()) if plan.here[0] and plan.settled else None,
        b_again_ns=_again(cells, frozenset((*plan.measured, *plan.computed)))
        if plan.here[1]
        else None,
        ratio=ratio,
        parts=tuple(sorted(parts, key=lambda part: ORDER.index(part.how))),
        explained=explained,
        residual=unexplained(ratio, explained),
        rounds=len(rounds),
        configurations=min((len(each) for each in rounds), default=0),
        design=design,
        orders=ways,
        alike=plan.between.alike,
        records=tuple(record.id for each in rounds for record in each.values()),
        notes=tuple(notes),
    )


def _logs(measured: Round, a: Side, b: Side, plan: AttributionPlan) -> dict[Configuration, float]:
    """Return log latencies of each measured configuration, for each way to compute a value."""
    logs = {}
    for key, record in measured.items():
        if isinstance(key, Alternative):
            continue
        for ways in subsets(plan.computed):
            ns = _number(record, a, b, plan, ways)
            if ns is not None:
                logs[key | ways] = log(ns)
    return logs


def _again(cells: Sequence[Mapping[Configuration, float]], end: Configuration) -> float | None:
    """Return a side's latency measured again: the geometric mean over rounds."""
    found = [each[end] for each in cells if end in each]
    return exp(mean(found)) if found else None


def _number(
    record: Record, a: Side, b: Side, plan: AttributionPlan, at_b: Configuration
) -> float | None:
    regime = b if "regime" in at_b or "regime" not in plan.computed else a
    statistic = b if "statistic" in at_b or "statistic" not in plan.computed else a
    return restated_ns(record, regime.regime, statistic.statistic)


def _shares(
    rounds: Sequence[Mapping[Configuration, float]], plan: AttributionPlan
) -> tuple[list[dict[str, float]], Design, int] | None:
    """Return each factor's share in each round, the design and the number of orders.

    A configuration that is missing in one round is omitted from all.
    """
    factors = (*plan.measured, *plan.computed)
    common = set.intersection(*(set(each) for each in rounds))
    rounds = [{key: each[key] for key in common} for each in rounds]
    exact = [shapley(factors, each) for each in rounds]
    if all(each is not None for each in exact):
        return [each for each in exact if each is not None], "factorial", orders(factors, rounds[0])
    if not any(found := [one_at_a_time(factors, each) for each in rounds]):
        return None
    return found, "one at a time", 0


def _stored_shares(a: Side, b: Side, plan: AttributionPlan) -> list[dict[str, float]]:
    """Return shares of the computed factors: the mean over both sides' stored samples."""
    found = []
    for record in (a.record, b.record):
        if record is None:
            continue
        numbers = {ways: _number(record, a, b, plan, ways) for ways in subsets(plan.computed)}
        logs = {ways: log(ns) for ways, ns in numbers.items() if ns is not None}
        shares = shapley(plan.computed, logs)
        if shares:
            found.append(shares)
    if not found:
        return []
    return [{name: mean(each[name] for each in found) for name in plan.computed}]


def _part(
    difference: Difference,
    shares: Mapping[str, Share],
    plan: AttributionPlan,
    b: Side,
    rounds: Sequence[Round],
) -> Part:
    name = difference.name
    how: How = "fields"
    why, found = plan.reasons.get(name, "could not be measured"), None
    if name in shares:
        how = "computed" if name in plan.computed else "measured"
        why = "from stored samples"
        if rounds and plan.measured:
            times = f"{len(rounds)} round{'' if len(rounds) == 1 else 's'}"
            why = f"{how} in {times}{plan.where}"
    elif difference.a is None or difference.b is None:
        how = "open"
        why = plan.reasons.get(name, "the source leaves it open")
        if (ratios := _plausible(name, plan, b, rounds)) is not None:
            found = (min(1.0, *ratios.values()), max(1.0, *ratios.values()))
            tried = ", ".join(f"{value} {ratio:.3g}" for value, ratio in ratios.items())
            why += f"; A as {tried}{plan.where}"
    return Part(
        factor=name,
        a=difference.a,
        b=difference.b,
        how=how,
        why=why,
        share=shares.get(name),
        range=found,
    )


def _plausible(
    name: str, plan: AttributionPlan, b: Side, rounds: Sequence[Round]
) -> dict[str, float] | None:
    """Return the contribution of an open factor for each plausible value that A may have had."""
    found: dict[str, float] = {}
    if name == "statistic" and b.record is not None:
        for statistic in PLAUSIBLE:
            ns = restated_ns(b.record, b.regime, statistic)
            if ns is not None and statistic_name(statistic) != b.facts["statistic"]:
                found[statistic_name(statistic)] = b.ns / ns
    end = frozenset(plan.measured)
    for each in plan.alternatives:
        logs = []
        for measured in rounds:
            pair = [
                restated_ns(measured[key], b.regime, b.statistic)
                for key in (end, each)
                if key in measured
            ]
            if len(pair) == 2 and pair[0] and pair[1]:
                logs.append(log(pair[0] / pair[1]))
        if each.factor == name and logs:
            found[each.value] = over_rounds(logs).ratio
    return found or None
