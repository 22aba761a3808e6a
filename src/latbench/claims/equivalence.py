"""One record, or two of a comparison, held against what a claim says.

A value is confirmed by two one-sided tests within the claim's margin (Schuirmann 1987), refuted
where its 95 % interval lies outside of it.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from latbench.analysis.comparison import EQUIVALENCE, Comparison, compare
from latbench.analysis.estimators import SEQUENTIAL_CONFIDENCE, process_numbers
from latbench.analysis.reliability import unsound
from latbench.analysis.segments import process_samples
from latbench.analysis.settings import batch
from latbench.analysis.stats import FEWEST, order_interval
from latbench.analysis.summary import summarize
from latbench.claims.matching import RecordPair, place_of
from latbench.claims.model import Claim
from latbench.claims.quantities import FAILED, quotients, stated_figure
from latbench.claims.statements import (
    StatedBound,
    StatedDifference,
    StatedOrdering,
    StatedParity,
    StatedRatio,
)
from latbench.claims.verdict import Answer, AnswerName, Place, Unit, combined
from latbench.schema.record import Record

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

RatioInterval = tuple[float, float]
RAN = ("open", "warmup", "time")
"""Stages at which a network that does not run on a device fails."""
OUTSIDE = ("unavailable", "timeout")
"""Failures there that say nothing of it all the same."""
MARGIN_PERCENT = 5.0
"""Of claims that declare none, as published ones do: our choice."""
TRIMMED = 0.2
"""Share of the samples that a trimmed mean leaves out at either end, where the source says no
more: as MobileOne's ModelBench does."""


def check_value(claim: Claim, record: Record) -> Answer:
    """A value or bound against one record."""
    place = place_of(record)
    if claim.figure == FAILED:
        return _failed(record, place)
    why, values = _usable(claim, record)
    if why:
        return _cannot(why, place, record)
    wide = order_interval(values, SEQUENTIAL_CONFIDENCE)
    narrow = order_interval(values, EQUIVALENCE)
    if wide is None or narrow is None:
        return _cannot(
            f"processes: {len(values)}; an interval needs at least {FEWEST}",
            place,
            record,
            f"a run under {record.protocol.label} with --processes {FEWEST} or more",
        )
    return _tested(
        narrow, wide, _wanted(claim, record), median(values), place, (record.id,), unit="ns"
    )


def check_order(claim: Claim, pair: RecordPair) -> Answer:
    """The direction alone; of a parity, sameness within its tolerance."""
    says = claim.says
    if isinstance(says, StatedParity):
        return check_ratio(claim, pair)
    assert isinstance(says, StatedRatio | StatedDifference | StatedOrdering)
    told = compare(*pair, margin=0.0)
    if (why := _unsound(pair)) is not None:
        return _of(told, pair, "inconclusive", why)
    if told.verdict in ("faster", "slower"):
        answer: AnswerName = (
            "confirmed" if (told.verdict == "faster") == direction(says) else "refuted"
        )
        return _of(told, pair, answer)
    return _of(told, pair, "inconclusive")


def check_ratio(claim: Claim, pair: RecordPair) -> Answer:
    """The size of a ratio, difference or parity against two records."""
    says = claim.says
    told = compare(*pair)
    if (why := _unsound(pair)) is not None:
        return _of(told, pair, "inconclusive", why)
    if not told.interleaved:
        return _of(told, pair, "inconclusive", "a size is told of models timed in turn only")
    if told.ratio is None or told.interval is None or told.equivalence is None:
        return _of(told, pair, "inconclusive")
    place, ids = place_of(pair[1]), (pair[0].id, pair[1].id)
    if isinstance(says, StatedDifference):
        return _differed(claim, says, pair, place, ids)
    return combined(
        {
            name: _tested(
                told.equivalence, told.interval, wanted, told.ratio, place, ids, unit="ratio"
            )
            for name, wanted in _wanted_ratios(claim).items()
        }
    )


def direction(says: StatedRatio | StatedDifference | StatedOrdering) -> bool | None:
    """Whether the claim is that the model takes less time; ``None`` where it may be either."""
    if not isinstance(says, StatedRatio):
        return (says.sense == "less") == (says.metric == "latency")
    ends = [end for interval in quotients(says).values() for end in interval]
    below, above = all(end < 1 for end in ends), all(end > 1 for end in ends)
    return below == (says.metric == "latency") if below or above else None


def _failed(record: Record, place: Place) -> Answer:
    """Against the claim that the network does not run there."""
    failure, status = record.outcome.failure, record.outcome.status
    if status == "interrupted":
        return _cannot("it was interrupted", place, record)
    if failure is not None and (failure.stage not in RAN or failure.kind in OUTSIDE):
        return _cannot(f"it failed for another reason: {failure.message}", place, record)
    return Answer(
        answer="refuted" if status == "measured" else "confirmed",
        reasons=("it runs here" if status == "measured" else "it failed here as well",),
        where=place.text,
        place=place,
        records=(record.id,),
    )


def _differed(
    claim: Claim, says: StatedDifference, pair: RecordPair, place: Place, ids: tuple[str, ...]
) -> Answer:
    """The difference within each process, in the claim's sense, against the printed one."""
    rate = says.metric == "throughput"
    one, two = (
        {
            process: batch(record) * 1e9 / _middle(part) if rate else _middle(part)
            for process, part in process_samples(record.outcome.traces).items()
        }
        for record in pair
    )
    sign = -1 if says.sense == "less" else 1
    found = [sign * (two[process] - one[process]) for process in one.keys() & two.keys()]
    wide, narrow = order_interval(found, SEQUENTIAL_CONFIDENCE), order_interval(found, EQUIVALENCE)
    figure = stated_figure(claim)
    assert figure is not None
    if wide is None or narrow is None:
        return _cannot(f"pairs of processes: {len(found)}", place, pair[1])
    base = median(one[process] for process in one.keys() & two.keys())
    middle = (figure.low + figure.high) / 2
    margin = min(base * _margin(claim), middle / 2)
    wanted = min(figure.low, middle - margin), max(figure.high, middle + margin)
    unit: Unit = "images/s" if rate else "ns"
    return _tested(narrow, wide, wanted, median(found), place, ids, unit=unit)


def _wanted(claim: Claim, record: Record) -> RatioInterval:
    """Between what latency, in ns, confirms: the printed digits, widened by the margin; of a bound
    the figure itself, which is a threshold and was not rounded."""
    figure = stated_figure(claim)
    assert figure is not None
    rate = claim.says.metric == "throughput"
    images = claim.conditions.batch or batch(record)
    if isinstance(claim.says, StatedBound):
        limit = figure.value if figure.value is not None else figure.high
        limit = images * 1e9 / limit if rate else limit
        below = (claim.says.sense == "below") != rate
        return (0.0, limit) if below else (limit, float("inf"))
    low, high = figure.low, figure.high
    if rate:
        low, high = images * 1e9 / high, images * 1e9 / low
    if figure.value is not None:
        middle, margin = (low + high) / 2, 1 + _margin(claim)
        low, high = min(low, middle / margin), max(high, middle * margin)
    return low, high


def _wanted_ratios(claim: Claim) -> dict[str, RatioInterval]:
    """For each reading, between what the ratio of latencies must lie.

    The margin is at most half of the claimed effect: "3 % less" is not confirmed by more.
    """
    says = claim.says
    if isinstance(says, StatedParity):
        most = 1 + says.tolerance_percent / 100
        return {"": (1 / most, most)}
    assert isinstance(says, StatedRatio)
    found = quotients(says)
    if says.metric == "throughput":
        found = {name: (1 / high, 1 / low) for name, (low, high) in found.items()}
    wanted = {}
    for name, (low, high) in found.items():
        middle = (low + high) / 2
        half = max(middle, 1 / middle) ** 0.5
        margin = min(1 + _margin(claim), half)
        wanted[name] = min(low, middle / margin), max(high, middle * margin)
    return wanted


def _margin(claim: Claim) -> float:
    return (claim.margin_percent or MARGIN_PERCENT) / 100


def _usable(claim: Claim, record: Record) -> tuple[str | None, list[float]]:
    """Why a record cannot carry an answer, and the latency of each of its processes."""
    summary = summarize(record)
    if record.outcome.status != "measured" or summary is None:
        failure = record.outcome.failure
        return f"the run {record.outcome.status}{f': {failure.message}' if failure else ''}", []
    if record.protocol.statistic.kind == "cold":
        return f"under {record.protocol.label} there is no warm latency", []
    if record.protocol.period_ns is not None and record.protocol.label != claim.conditions.protocol:
        return f"under {record.protocol.label} inferences are not back to back", []
    if summary.reliability == "unreliable":
        return f"not to be trusted: {'; '.join(summary.reasons)}", []
    if record.protocol.label == claim.conditions.protocol:
        # As the authors' tool counts: its own warm-up, its own statistic.
        return None, process_numbers(record)
    statistic = claim.conditions.statistic or "median"
    parts = process_samples(record.outcome.traces).values()
    values = [_statistic(part, statistic) for part in parts]
    if None in values:
        return f"no latency here is a {statistic}, as the source's is", []
    return None, [value for value in values if value is not None]


def _statistic(part: Array, name: str) -> float | None:
    """Of the samples of one process; ``None`` for a statistic of another name."""
    import numpy as np

    if name == "median":
        return _middle(part)
    if name == "mean":
        return float(np.mean(part))
    if name == "trimmed mean":
        cut = int(len(part) * TRIMMED)
        return float(np.mean(np.sort(part)[cut : len(part) - cut]))
    return None


def _unsound(pair: RecordPair) -> str | None:
    reasons = [why for record in pair for why in unsound(record)]
    return f"not to be trusted: {'; '.join(dict.fromkeys(reasons))}" if reasons else None


def _middle(part: Array) -> float:
    import numpy as np

    return float(np.median(part))


def _tested(
    narrow: RatioInterval,
    wide: RatioInterval,
    wanted: RatioInterval,
    found: float,
    place: Place,
    records: tuple[str, ...],
    *,
    unit: Unit,
) -> Answer:
    inside = wanted[0] <= narrow[0] and narrow[1] <= wanted[1]
    outside = wide[1] < wanted[0] or wanted[1] < wide[0]
    answer: AnswerName = "confirmed" if inside else "refuted" if outside else "inconclusive"
    needs = ("more processes: its interval reaches over the edge of the margin",)
    return Answer(
        answer=answer,
        needs=needs if answer == "inconclusive" else (),
        where=place.text,
        place=place,
        claimed=wanted,
        found=found,
        interval=wide,
        unit=unit,
        records=records,
    )


def _of(told: Comparison, pair: RecordPair, answer: AnswerName, why: str = "") -> Answer:
    needs: tuple[str, ...] = ()
    if answer == "inconclusive":
        complete = all(record.outcome.status == "measured" for record in pair)
        effort = told.to_tell.processes if told.to_tell and complete else None
        needs = (f"about {effort} processes" if effort else "both timed in turn: latbench compare",)
    return Answer(
        answer=answer,
        reasons=(*([why] if why else []), *told.reasons),
        needs=needs,
        where=place_of(pair[1]).text,
        place=place_of(pair[1]),
        found=told.ratio,
        interval=told.interval,
        unit="ratio",
        records=(pair[0].id, pair[1].id),
    )


def _cannot(why: str, place: Place, record: Record, needs: str = "another run") -> Answer:
    return Answer(
        answer="inconclusive",
        reasons=(why,),
        needs=(needs,),
        where=place.text,
        place=place,
        records=(record.id,),
    )
