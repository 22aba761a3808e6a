"""Compare one record, or the two of a comparison, with a claim.

Two one-sided tests within the claim's margin (Schuirmann 1987) confirm a value. A 95 % interval
that lies outside of the margin refutes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from latbench.analysis.comparison import EQUIVALENCE, Comparison, compare
from latbench.analysis.estimators import SEQUENTIAL_CONFIDENCE, process_numbers
from latbench.analysis.reliability import unsound, unverified
from latbench.analysis.segments import process_samples, warm_traces
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
"""Stages at which a failure shows that a network does not run on a device."""
OUTSIDE = ("unavailable", "timeout")
"""Kinds of failure in these stages that do not show that the network cannot run."""
MARGIN_PERCENT = 5.0
"""Default margin of claims that declare none, which includes all published ones. Our choice."""
TRIMMED = 0.2
"""Share of the samples that a trimmed mean drops at either end if the source does not specify it.
MobileOne's ModelBench uses the same share."""


def check_value(claim: Claim, record: Record) -> Answer:
    """Compare a value or bound with one record."""
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
    """Check only the direction of a comparison; for a parity, equality within its tolerance."""
    says = claim.says
    if isinstance(says, StatedParity):
        return check_ratio(claim, pair)
    assert isinstance(says, StatedRatio | StatedDifference | StatedOrdering)
    result = compare(*pair, margin=0.0)
    if (why := _unsound(pair, result)) is not None:
        return _compared(result, pair, "inconclusive", (why,))
    if result.verdict in ("faster", "slower"):
        answer: AnswerName = (
            "confirmed" if (result.verdict == "faster") == direction(says) else "refuted"
        )
        return _compared(result, pair, answer, _exempt(pair))
    return _compared(result, pair, "inconclusive")


def check_ratio(claim: Claim, pair: RecordPair) -> Answer:
    """Compare the size of a ratio, difference or parity with two records."""
    says = claim.says
    result = compare(*pair)
    if (why := _unsound(pair, result)) is not None:
        return _compared(result, pair, "inconclusive", (why,))
    if not result.interleaved:
        return _compared(result, pair, "inconclusive", ("a ratio needs interleaved measurements",))
    if result.ratio is None or result.interval is None or result.equivalence is None:
        return _compared(result, pair, "inconclusive")
    place, ids = place_of(pair[1]), (pair[0].id, pair[1].id)
    if isinstance(says, StatedDifference):
        return _differed(claim, says, pair, place, ids)
    answer = combined(
        {
            name: _tested(
                result.equivalence, result.interval, wanted, result.ratio, place, ids, unit="ratio"
            )
            for name, wanted in _wanted_ratios(claim).items()
        }
    )
    return msgspec.structs.replace(answer, reasons=(*answer.reasons, *_exempt(pair)))


def direction(says: StatedRatio | StatedDifference | StatedOrdering) -> bool | None:
    """Whether the claim says that the model takes less time; ``None`` if it allows both."""
    if not isinstance(says, StatedRatio):
        return (says.sense == "less") == (says.metric == "latency")
    ends = [end for interval in quotients(says).values() for end in interval]
    below, above = all(end < 1 for end in ends), all(end > 1 for end in ends)
    return below == (says.metric == "latency") if below or above else None


def _failed(record: Record, place: Place) -> Answer:
    """Check the claim that the network does not run on the device."""
    failure, status = record.outcome.failure, record.outcome.status
    if status == "interrupted":
        return _cannot("the run was interrupted", place, record)
    if failure is not None and (failure.stage not in RAN or failure.kind in OUTSIDE):
        return _cannot(f"the run failed for another reason: {failure.message}", place, record)
    return Answer(
        answer="refuted" if status == "measured" else "confirmed",
        reasons=("the model runs here" if status == "measured" else "the model failed here too",),
        where=place.text,
        place=place,
        records=(record.id,),
    )


def _differed(
    claim: Claim, says: StatedDifference, pair: RecordPair, place: Place, ids: tuple[str, ...]
) -> Answer:
    """Compare the differences within each process, in the claim's sense, with the published one."""
    rate = says.metric == "throughput"
    one, two = (
        {
            process: batch(record) * 1e9 / _middle(part) if rate else _middle(part)
            for process, part in process_samples(warm_traces(record)).items()
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
    """Return the range of latencies, in ns, that confirms the claim.

    It is the range of the printed digits, widened by the margin. A bound is used as it is: a
    threshold is not rounded.
    """
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
    """Return, for each reading, the range in which the ratio of latencies must lie.

    The margin is at most half of the claimed effect: a slower model does not confirm "3 % less".
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
    """Return why a record cannot be used (or ``None``), and the latency of each of its
    processes."""
    summary = summarize(record)
    if record.outcome.status != "measured" or summary is None:
        failure = record.outcome.failure
        return f"the run {record.outcome.status}{f': {failure.message}' if failure else ''}", []
    if record.protocol.statistic.kind == "cold":
        return f"protocol {record.protocol.label} does not measure warm latency", []
    if record.protocol.period_ns is not None and record.protocol.label != claim.conditions.protocol:
        return f"protocol {record.protocol.label} does not run inferences back to back", []
    if open_question := unverified(record):
        return open_question[0], []
    if summary.reliability == "unreliable":
        return f"unreliable: {'; '.join(summary.reasons)}", []
    if record.protocol.label == claim.conditions.protocol:
        # The authors' protocol defines its own warm-up and statistic.
        return None, process_numbers(record)
    statistic = claim.conditions.statistic or "median"
    parts = process_samples(warm_traces(record)).values()
    values = [_statistic(part, statistic) for part in parts]
    if None in values:
        return f"the source reports the {statistic}, which latbench does not compute", []
    return None, [value for value in values if value is not None]


def _statistic(part: Array, name: str) -> float | None:
    """Return a statistic of one process's samples; ``None`` if its name is unknown."""
    import numpy as np

    if name == "median":
        return _middle(part)
    if name == "mean":
        return float(np.mean(part))
    if name == "trimmed mean":
        cut = int(len(part) * TRIMMED)
        return float(np.mean(np.sort(part)[cut : len(part) - cut]))
    return None


def _unsound(pair: RecordPair, result: Comparison) -> str | None:
    """Return why a pair decides nothing, or ``None``."""
    reasons = [why for record in pair for why in unsound(record)]
    if not result.interleaved:
        reasons += [why for record in pair for why in _unreliable(record)]
    return f"unreliable: {'; '.join(dict.fromkeys(reasons))}" if reasons else None


def _exempt(pair: RecordPair) -> tuple[str, ...]:
    """Return the note of an interleaved pair whose records are unreliable on their own."""
    reasons = list(dict.fromkeys(why for record in pair for why in _unreliable(record)))
    if not reasons:
        return ()
    more = f" ({len(reasons)} reasons in all)" if len(reasons) > 1 else ""
    return (
        "interleaved, so that what disturbs one model disturbs the other; the latencies alone are "
        f"unreliable: {reasons[0]}{more}",
    )


def _unreliable(record: Record) -> tuple[str, ...]:
    summary = summarize(record)
    return summary.reasons if summary and summary.reliability == "unreliable" else ()


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
    needs = ("more processes: the interval crosses the edge of the margin",)
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


def _compared(
    result: Comparison, pair: RecordPair, answer: AnswerName, reasons: Sequence[str] = ()
) -> Answer:
    needs: tuple[str, ...] = ()
    if answer == "inconclusive":
        complete = all(record.outcome.status == "measured" for record in pair)
        effort = result.to_tell.processes if result.to_tell and complete else None
        needs = (
            f"about {effort} processes"
            if effort
            else "an interleaved measurement of both models: latbench compare",
        )
    return Answer(
        answer=answer,
        reasons=(*reasons, *result.reasons),
        needs=needs,
        where=place_of(pair[1]).text,
        place=place_of(pair[1]),
        found=result.ratio,
        interval=result.interval,
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
