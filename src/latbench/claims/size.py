"""Check claimed parameters, MACs and graphs by counting and building, on any machine.

The margin is only the rounding of the printed digits; a bound has none. Published counts (for
models that latbench cannot build) can refute a claim by the authors' own values; confirming it
needs a count.
"""

from __future__ import annotations

from typing import Literal

from latbench.claims.graph import identity_answer, scaling_answer
from latbench.claims.model import Claim
from latbench.claims.quantities import PrintedValue, quotients, stated_figure
from latbench.claims.statements import (
    COUNTED,
    StatedBound,
    StatedDifference,
    StatedIdentity,
    StatedOrdering,
    StatedParity,
    StatedRatio,
    StatedScaling,
    StatedSize,
)
from latbench.claims.verdict import (
    Answer,
    CheckContext,
    CountedModel,
    combined,
    untestable_reason,
)

Interval = tuple[float, float]
CONVENTIONS = {"macs": 0.03, "parameters": 0.005}
"""Relative difference between counting conventions. Profilers that also count normalization,
activations, pooling or biases give higher values: FBNet-B has 291.1 or 295.6 M with two profilers
of its authors, GreedyViG-B 5.06 or 5.2 G. Some count tables of positions as parameters: Pyramid
ViG-B has 92.98 M with them and 92.58 M without."""
WITH_PRODUCTS = ("fvcore",)
"""Profilers, as ``conditions.counting`` names them, that count products of two activations."""
MARK = {"parameters": "parameters", "macs": "MACs"}


def static_answer(claim: Claim, bench: CheckContext) -> Answer | None:
    """Check what can be counted; ``None`` if the claim states nothing countable."""
    metric, identity = claim.says.metric, isinstance(claim.says, StatedIdentity)
    if metric not in COUNTED and not identity:
        return None
    if (out := untestable_reason(claim, bench)) is not None:
        return out
    if identity:
        return identity_answer(claim, bench)
    if isinstance(claim.says, StatedScaling):
        return scaling_answer(claim, bench)
    metrics = ("parameters", "macs") if metric == "size" else (metric,)
    readings: dict[str, Answer] = {}
    for name in metrics:
        for more in _countings(claim, bench) if name == "macs" else (None,):
            found = _answer(claim, bench, name, bool(more))
            mark = MARK[name]
            if more is not None:
                mark += " with products of activations" if more else " of layers with weights only"
            readings[mark] = found
    return combined(readings)


def _countings(claim: Claim, bench: CheckContext) -> tuple[bool | None, ...]:
    """Return whether to count products of activations; ``(None,)`` if the models have none."""
    ids = (claim.model, claim.against)
    if not any(id in bench.counts and bench.counts[id].more_macs for id in ids if id is not None):
        return (None,)
    return (True,) if claim.conditions.counting in WITH_PRODUCTS else (False, True)


def _answer(claim: Claim, bench: CheckContext, metric: str, more: bool) -> Answer:
    one = _count(claim.model, bench, metric, more)
    two = _count(claim.against, bench, metric, more) if claim.against is not None else None
    for found in (one, two):
        if isinstance(found, str):
            return Answer(
                answer="not testable here", reasons=(found,), needs=(f"its {MARK[metric]}",)
            )
    assert isinstance(one, PrintedValue)
    assert not isinstance(two, str)
    interval = _found(claim, one, two)
    wanted = _claimed(claim, metric)
    place = _place(interval, wanted)
    needs = ("exact counts: the published counts are rounded",) if place == "inconclusive" else ()
    if place == "refuted" and "counting" in claim.open:
        slack = 1 + CONVENTIONS[metric]
        if _place(interval, (wanted[0] / slack, wanted[1] * slack)) != "refuted":
            place = "inconclusive"
            needs = ("the counting convention of the source: profilers differ by this much",)
    stated = _stated(claim, bench)
    ratio = isinstance(claim.says, StatedRatio | StatedParity | StatedOrdering)
    answer = Answer(
        answer=place,
        reasons=(*_shown(claim, bench, metric, one, two), *stated),
        claimed=wanted if all(abs(end) < 1e300 for end in wanted) else None,
        found=sum(interval) / 2,
        interval=interval,
        unit="ratio" if ratio else "count",
        needs=needs,
    )
    if place == "confirmed" and stated:
        return Answer(
            answer="inconclusive",
            reasons=("agrees with published counts", *answer.reasons),
            needs=("the architecture, to count it",),
            claimed=answer.claimed,
            found=answer.found,
            interval=answer.interval,
            unit=answer.unit,
        )
    return answer


def _count(id: str | None, bench: CheckContext, metric: str, more: bool) -> PrintedValue | str:
    """Return the count, or why it is missing."""
    assert id is not None
    model, counted = bench.models.get(id), bench.counts.get(id)
    name = model.name if model else id
    if counted is None:
        return f"{name}: {model.absent if model and model.absent else 'its size was not counted'}"
    if counted.missing is not None:
        return f"{name}: {counted.missing}"
    found: PrintedValue | None = getattr(counted, metric)
    if found is None:
        return f"{name}: its source does not give {MARK[metric]}"
    if more and counted.more_macs and found.value is not None:
        found = PrintedValue(
            value=found.value + counted.more_macs,
            low=found.low + counted.more_macs,
            high=found.high + counted.more_macs,
        )
    return found


def _found(claim: Claim, one: PrintedValue, two: PrintedValue | None) -> Interval:
    if two is None:
        return one.low, one.high
    if isinstance(claim.says, StatedDifference):
        sign = 1 if claim.says.sense == "more" else -1
        ends = (sign * (one.low - two.high), sign * (one.high - two.low))
        return min(ends), max(ends)
    return one.low / two.high, one.high / two.low


def _claimed(claim: Claim, metric: str) -> Interval:
    """Return the range in which the found value must lie; an open end is infinite."""
    says, infinite = claim.says, float("inf")
    if isinstance(says, StatedRatio):
        return quotients(says)[""]
    if isinstance(says, StatedOrdering):
        return (0.0, 1 - 1e-9) if says.sense == "less" else (1 + 1e-9, infinite)
    if isinstance(says, StatedParity):
        most = 1 + says.tolerance_percent / 100
        return 1 / most, most
    figure = stated_figure(claim, metric)
    assert figure is not None
    if isinstance(says, StatedBound):
        # A bound is a threshold: its digits are not rounded.
        assert figure.value is not None
        return (0.0, figure.value) if says.sense == "below" else (figure.value, infinite)
    assert isinstance(says, StatedSize | StatedDifference)
    return figure.low, figure.high


def _place(found: Interval, wanted: Interval) -> Literal["confirmed", "refuted", "inconclusive"]:
    if wanted[0] <= found[0] and found[1] <= wanted[1]:
        return "confirmed"
    return "refuted" if found[1] < wanted[0] or wanted[1] < found[0] else "inconclusive"


def _stated(claim: Claim, bench: CheckContext) -> tuple[str, ...]:
    """Return a reason for each count that is published and not counted here."""
    found = []
    for id in (claim.model, claim.against):
        counted: CountedModel | None = bench.counts.get(id) if id is not None else None
        if counted is not None and not counted.counted:
            assert id is not None
            found.append(
                f"{bench.models[id].name} has a published count, not one by latbench: "
                f"{counted.source}"
            )
    return tuple(found)


def _shown(
    claim: Claim, bench: CheckContext, metric: str, one: PrintedValue, two: PrintedValue | None
) -> tuple[str, ...]:
    parts = [f"{bench.models[claim.model].name} has {_number(one)}"]
    if two is not None and claim.against is not None:
        parts.append(f"{bench.models[claim.against].name} {_number(two)}")
    return (f"{' and '.join(parts)} {MARK[metric]}",)


def _number(figure: PrintedValue) -> str:
    middle = figure.value if figure.value is not None else (figure.low + figure.high) / 2
    if figure.low == figure.high:
        return f"{middle:,.0f}"
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if middle >= scale:
            return f"{middle / scale:g} {unit}"
    return f"{middle:g}"
