"""Published accuracy against measured latency, and published latency ratios against measured ones.

Pure functions of records and claims; :mod:`latbench.report.plot.pareto` draws their results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from latbench.analysis.rank_correlation import Tau
from latbench.analysis.settings import own_options, precision_of, shape_of
from latbench.analysis.summary import summarize
from latbench.audit.papers import Top1
from latbench.claims.matching import is_of
from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.quantities import parse_figure, stated_figure
from latbench.claims.statements import StatedValue
from latbench.claims.verdict import CheckContext
from latbench.errors import UsageError
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import Record
from latbench.schema.value import Value
from latbench.zoo import catalog


class Measured(Value, frozen=True, kw_only=True):
    """The latency (median) of one record."""

    record: str
    model: str
    median_ns: int
    interval_ns: tuple[int, int] | None
    reliability: Literal["reliable", "unreliable", "inconclusive"]


class Accuracy(Value, frozen=True, kw_only=True):
    """A published top-1 accuracy in percent."""

    top1: float
    source: str
    resolution: int | None = None
    """Pixels per side; ``None``: the source does not state it, so the model's own."""


class ParetoPoint(Value, frozen=True, kw_only=True):
    """One model: accuracy in percent as published."""

    measured: Measured
    top1: float
    source: str


class MeasuredPair(Value, frozen=True, kw_only=True):
    """Two models of one published table: latency of ``model`` divided by that of ``reference``."""

    model: str
    reference: str
    source: str
    published: float
    published_interval: tuple[float, float]
    """Interval of the printed digits."""
    measured: float
    measured_interval: tuple[float, float] | None
    """From the opposite ends of both latencies' intervals, so wider than a 95 % interval."""


def alike(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return the newest record of each model under the most frequent setting.

    The setting is precision, threads, batch, and so on. Also returns why each other record is left
    out. Raises :class:`UsageError` for records of several devices or backends.
    """
    for name, values in (
        ("--device", {record.device.id for record in records}),
        ("--backend", {record.backend for record in records}),
    ):
        if len(values) > 1:
            raise UsageError(
                f"there are records of several: {', '.join(sorted(values))}",
                hint=f"name one with {name}: latencies of different ones are not comparable",
            )
    if not records:
        return [], []
    most = Counter(map(setting, records)).most_common(1)[0][0]
    left = [f"{r.model.name}: {setting(r)}, not {most}" for r in records if setting(r) != most]
    newest: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: record.created_unix_ns):
        if setting(record) == most:
            newest[record.model.name] = record
    return list(newest.values()), left


def setting(record: Record) -> str:
    """Return the settings that two latencies must share to be drawn together."""
    shape = shape_of(record)
    threads = record.runtime.settings.get("threads") if record.runtime else None
    parts = [
        precision_of(record),
        f"{threads} thread{'' if threads == '1' else 's'}" if threads else "",
        f"batch {shape[0] if shape else record.model.batch or 1}",
        f"resolution {record.model.resolution}" if record.model.resolution is not None else "",
        *(f"{key}={value}" for key, value in own_options(record).items()),
        record.protocol.label if _in_another_state(record.protocol) else "",
    ]
    return ", ".join(part for part in parts if part)


def _in_another_state(protocol: TimingProtocol) -> bool:
    """Whether a protocol times something else than inferences back to back for seconds."""
    return protocol.period_ns is not None or protocol.statistic.kind in ("cold", "last level")


def measured_of(record: Record) -> Measured | None:
    """Return the latency of a record, ``None`` if it has no warm samples."""
    summary = summarize(record) if record.outcome.status == "measured" else None
    if summary is None or not summary.warm:
        return None
    over = summary.interval_level == "processes"
    return Measured(
        record=record.id,
        model=record.model.name,
        median_ns=summary.median_ns,
        interval_ns=summary.interval_ns if over else None,
        reliability=summary.reliability,
    )


def accuracies(
    claims: Sequence[Claim], models: Mapping[str, ClaimedModel], stated: Sequence[Top1]
) -> dict[str, tuple[Accuracy, ...]]:
    """Return the published top-1 accuracies of each model, by the name of the builder.

    Accuracies of claims override those of papers.yaml, which are of the model's own resolution.
    """
    found: dict[str, dict[int | None, Accuracy]] = {}
    for top1 in stated:
        figure = parse_figure(top1.figure)
        if figure is not None and figure.value is not None:
            found[top1.model] = {None: Accuracy(top1=figure.value, source=top1.source)}
    for claim in claims:
        figure = stated_figure(claim) if isinstance(claim.says, StatedValue) else None
        build = models[claim.model].build
        if claim.says.metric == "accuracy" and figure and figure.value and build is not None:
            at = claim.conditions.resolution
            found.setdefault(build, {})[at] = Accuracy(
                top1=figure.value, source=claim.id, resolution=at
            )
    return {name: tuple(each.values()) for name, each in found.items()}


def pareto_points(
    records: Sequence[Record], published: Mapping[str, Sequence[Accuracy]]
) -> tuple[list[ParetoPoint], dict[str, str]]:
    """Return the models that have a latency and an accuracy at one resolution, the fastest first,
    and why each other model is left out."""
    found, left = [], {}
    for record in records:
        name, measured = record.model.name, measured_of(record)
        known = published.get(name, ())
        fitting = next((each for each in reversed(known) if _applies(each, record)), None)
        if measured is None:
            left[name] = "no warm latency"
        elif fitting is not None:
            found.append(ParetoPoint(measured=measured, top1=fitting.top1, source=fitting.source))
        elif known:
            at = ", ".join(str(each.resolution or "its own resolution") for each in known)
            left[name] = f"measured at {_pixels(record)}, and its accuracy is published for {at}"
        else:
            left[name] = "no published accuracy"
    return sorted(found, key=lambda point: point.measured.median_ns), left


def _applies(accuracy: Accuracy, record: Record) -> bool:
    """Whether an accuracy was published for the resolution of a record."""
    if accuracy.resolution is not None:
        return set(_sides(record)) == {accuracy.resolution}
    return record.model.resolution in (None, _own_sides(record.model.name))


def _own_sides(name: str) -> tuple[int, ...] | None:
    """Height and width of a model of the zoo; ``None`` for any other model."""
    return next((entry.input_shape[1:] for entry in catalog.ZOO if entry.name == name), None)


def _sides(record: Record) -> tuple[int, ...]:
    shape = shape_of(record)
    return tuple(shape[2:]) if len(shape) == 4 else record.model.resolution or ()


def _pixels(record: Record) -> str:
    return "x".join(map(str, _sides(record)))


def frontier(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """Return the points on the Pareto frontier; ``points`` are sorted by latency."""
    best: list[ParetoPoint] = []
    for point in points:
        if not best or point.top1 > best[-1].top1:
            if best and best[-1].measured.median_ns == point.measured.median_ns:
                best.pop()
            best.append(point)
    return best


def ratio_pairs(
    claims: Sequence[Claim], records: Sequence[Record], models: Mapping[str, ClaimedModel]
) -> list[MeasuredPair]:
    """Return the latency ratios of models that were published in one table and measured here.

    A table is one source under one set of conditions. Each model is divided by the first measured
    one of its table, so that no ratio follows from the others.
    """
    bench = CheckContext(models=models, counts={})
    timed = [(record, each) for record in records if (each := measured_of(record)) is not None]
    tables: dict[object, dict[str, tuple[Claim, Measured]]] = {}
    for claim in claims:
        if not isinstance(claim.says, StatedValue) or claim.says.metric != "latency":
            continue
        figure = stated_figure(claim)
        if figure is None or figure.value is None:
            continue
        for record, measured in timed:
            if _is_same(record, claim, bench):
                table = tables.setdefault(_table(claim), {})
                table.setdefault(claim.model, (claim, measured))
    found: list[MeasuredPair] = []
    for table in tables.values():
        first, *others = table.values()
        found += [_pair(models, other, first) for other in others]
    return found


def tau_text(tau: Tau | None) -> str:
    """Return the rank correlation in one line."""
    if tau is None:
        return "Kendall's tau: none, too few different ratios"
    if tau.interval is None:
        return f"Kendall's tau {tau.value:.2f} ({_many(tau)}: too few for an interval)"
    low, high = tau.interval
    detail = f"95 % interval {low:.2f} to {high:.2f}, {_many(tau)}"
    return f"Kendall's tau {tau.value:.2f} ({detail})"


def _pair(
    models: Mapping[str, ClaimedModel], each: tuple[Claim, Measured], first: tuple[Claim, Measured]
) -> MeasuredPair:
    one, two = stated_figure(each[0]), stated_figure(first[0])
    ours, theirs = each[1].interval_ns, first[1].interval_ns
    assert one is not None
    assert two is not None
    assert one.value is not None
    assert two.value is not None
    where = each[0].conditions.device
    return MeasuredPair(
        model=models[each[0].model].name,
        reference=models[first[0].model].name,
        source=f"{each[0].source.id}{f' on {where}' if where else ''}",
        published=one.value / two.value,
        published_interval=(one.low / two.high, one.high / two.low),
        measured=each[1].median_ns / first[1].median_ns,
        measured_interval=(ours[0] / theirs[1], ours[1] / theirs[0]) if ours and theirs else None,
    )


def _table(claim: Claim) -> object:
    """What published values of one table share."""
    had = claim.conditions
    where = (had.device, had.os, had.backend, had.provider, had.compute_unit)
    return claim.source.id, claim.source.version, where, had.precision, had.batch, had.threads


def _is_same(record: Record, claim: Claim, bench: CheckContext) -> bool:
    """Whether a record has the claim's model, batch and resolution."""
    wanted, shape = claim.conditions, shape_of(record)
    return (
        is_of(record, claim.model, claim, bench)
        and len(shape) == 4
        and wanted.batch in (None, shape[0])
        and wanted.resolution in (None, max(shape[2:]))
    )


def _many(tau: Tau) -> str:
    return f"{tau.pairs} ratios of {tau.groups} pairs of models"
