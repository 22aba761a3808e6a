"""Define the two latencies whose ratio is broken down."""

from __future__ import annotations

from latbench.analysis.estimators import SampleScope, regime_of, restated_ns
from latbench.attribution.factors import Facts, facts_of, facts_of_claim
from latbench.attribution.setup import Setup, setup_of, setup_of_claim
from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.quantities import stated_figure
from latbench.errors import UsageError
from latbench.schema.protocol import Statistic
from latbench.schema.protocol_catalog import shipped
from latbench.schema.record import Record
from latbench.schema.value import Value

STATED = {"mean": Statistic(kind="mean"), "median": Statistic(kind="median")}
"""Meaning of a claim's statistic if its protocol is unknown."""


class Side(Value, frozen=True, kw_only=True):
    """One of the two latencies, with its conditions."""

    label: str
    ns: float
    facts: Facts
    setup: Setup
    regime: SampleScope
    statistic: Statistic
    record: Record | None
    """``None`` for a claim."""


def side_of(record: Record) -> Side:
    """Return a record's latency by its protocol's own statistic. Raise :class:`UsageError`."""
    if record.outcome.status != "measured":
        failure = record.outcome.failure
        why = f": {failure.message}" if failure else ""
        raise UsageError(f"record {record.id} has no latency: the run {record.outcome.status}{why}")
    if record.backend != record.request.backend:
        raise UsageError(
            f"record {record.id} was measured with {record.backend} because "
            f"{record.request.backend} could not run: it is not evidence about that backend",
            hint=f"measure with --backend {record.backend}",
        )
    statistic = record.protocol.statistic
    ns = restated_ns(record, regime_of(statistic), statistic)
    if ns is None:
        raise UsageError(f"record {record.id} has no samples for its statistic")
    return Side(
        label=f"record {record.id}",
        ns=ns,
        facts=facts_of(record),
        setup=setup_of(record),
        regime=regime_of(statistic),
        statistic=statistic,
        record=record,
    )


def side_of_claim(claim: Claim, model: ClaimedModel, against: Side) -> Side:
    """Return a claimed latency. Settings that the source omits are those of the other side, or
    open.

    Raise :class:`UsageError` if the claim is not about a latency or is about another model.
    """
    ns = _claimed_ns(claim)
    record = against.record
    if record is None or record.model.name != model.build:
        other = record.model.name if record is not None else "nothing"
        raise UsageError(
            f"claim {claim.id} is about {model.name} ({model.build or 'not built here'}), but the "
            f"record is about {other}",
            hint=f"latbench history --model {model.build}" if model.build else None,
        )
    protocol = shipped(claim.conditions.protocol)
    named = claim.conditions.statistic
    statistic = protocol.statistic if protocol else STATED.get(named or "", against.statistic)
    return Side(
        label=f"claim {claim.id}",
        ns=ns,
        facts=facts_of_claim(claim),
        setup=setup_of_claim(claim, against.setup),
        regime=regime_of(statistic) if protocol else against.regime,
        statistic=statistic,
        record=None,
    )


def _claimed_ns(claim: Claim) -> float:
    """Return the claimed nanoseconds per inference."""
    metric, figure = claim.says.metric, stated_figure(claim)
    batch = claim.conditions.batch
    if claim.kind != "value" or metric not in ("latency", "throughput"):
        raise UsageError(
            f"claim {claim.id} does not state a latency: it is a {claim.kind} of {metric}",
            hint="latbench claims list --kind value --metric latency",
        )
    if figure is None or not figure.value or (metric == "throughput" and batch is None):
        raise UsageError(f"the value of claim {claim.id}, {claim.figure}, is not a single latency")
    return figure.value if metric == "latency" else (batch or 1) * 1e9 / figure.value


def check_same_model(a: Side, b: Side) -> None:
    """Raise :class:`UsageError` for the same record twice or records of different models."""
    if a.record is None or b.record is None:
        return
    if a.record.id == b.record.id:
        raise UsageError(f"both sides are record {a.record.id}", hint="name two different records")
    one, two = a.record.model, b.record.model
    if "file" in (one.source, two.source):
        same = one.architecture == two.architecture
    else:
        same = one.name == two.name
    if not same:
        names = f"{one.name} and {two.name}"
        if one.name == two.name:
            names = f"two files named {one.name}"
        raise UsageError(
            f"these are records of different models: {names}",
            hint="use latbench compare --records to compare their latencies",
        )
