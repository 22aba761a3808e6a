"""Whether timed claims hold: the figure on just what it names, a comparison on any device.

A value is confirmed by two one-sided tests within the claim's margin (Schuirmann 1987), refuted
where its 95 % interval lies outside of it. A record of a fallback backend says nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import msgspec

from latbench.core.answers import Answer, Bench, beyond, combined
from latbench.core.claim_records import is_of, left_open, pairs_of, place_of, shape_of, unlike
from latbench.core.claims import (
    COUNTED,
    TIMED,
    Claim,
    StatedBound,
    StatedDifference,
    StatedIdentity,
    StatedOrdering,
    StatedParity,
    StatedRatio,
    StatedScaling,
    StatedSize,
    StatedValue,
)
from latbench.core.compare import EQUIVALENCE, Comparison, compare
from latbench.core.figures import FAILED, quotients, stated_figure
from latbench.core.records import Record
from latbench.core.sessions import process_samples
from latbench.core.stats import FEWEST, order_interval
from latbench.core.summary import SEQUENTIAL_CONFIDENCE, summarise

Interval = tuple[float, float]
ELSEWHERE = ("build", "probe")
OUTSIDE = ("unavailable", "timeout")
"""Failures that say nothing of whether the network can run on the device."""
MARGIN_PERCENT = 5.0
"""Of claims that declare none, as published ones do: our choice."""


def value_answer(claim: Claim, records: Sequence[Record], bench: Bench) -> Answer | None:
    """On exactly the named device, backend, precision, batch and resolution.

    ``None`` where the claim gives no figure of its own that is timed.
    """
    says = claim.says
    if isinstance(says, StatedIdentity | StatedScaling):
        needs = "the method's own model and its plain one"
        if isinstance(says, StatedScaling):
            needs = f"records of the model over a range of {says.over}"
        if says.metric not in TIMED:
            return None
        return beyond(claim, bench) or Answer(
            answer="not testable here", reasons=("no record says which is which",), needs=(needs,)
        )
    figured = StatedValue | StatedBound | StatedRatio | StatedDifference | StatedSize
    if not isinstance(says, figured):
        return None
    if says.metric in COUNTED:
        return None
    if (out := beyond(claim, bench)) is not None:
        return out
    if says.metric not in TIMED:
        return Answer(
            answer="not testable here",
            reasons=(f"{says.metric} cannot be measured here",),
            needs=(f"a measurement of {says.metric}",),
        )
    unnamed = [n for n in ("device", "backend") if getattr(claim.conditions, n) is None]
    if unnamed:
        why = f"the source does not name the {' and the '.join(unnamed)}"
        return Answer(answer="unverifiable", reasons=(why,))
    fit = [r for r in records if is_of(r, claim.model, bench) and not unlike(r, claim)]
    if isinstance(says, StatedRatio | StatedDifference):
        pairs = [pair for pair in pairs_of(claim, records, bench) if not unlike(pair[1], claim)]
        found = [_compared(claim, pair) for pair in pairs]
    else:
        found = [_valued(claim, record) for record in fit]
    return _unanimous(found) or _none_yet(claim, bench, claim.conditions.device)


def ordering_answers(claim: Claim, records: Sequence[Record], bench: Bench) -> tuple[Answer, ...]:
    """For each device and backend that has records of both models, whether the comparison holds."""
    comparing = StatedRatio | StatedDifference | StatedOrdering | StatedParity
    if not isinstance(claim.says, comparing) or claim.says.metric not in TIMED:
        return ()
    if (out := beyond(claim, bench)) is not None:
        return (out,)
    newest: dict[str, tuple[Record, Record]] = {}
    for pair in pairs_of(claim, records, bench):
        newest.setdefault(place_of(pair[1]), pair)
    found = tuple(_elsewhere(claim, _ordered(claim, pair), pair) for pair in newest.values())
    return found or (_none_yet(claim, bench, None),)


def _valued(claim: Claim, record: Record) -> Answer:
    """A value or bound against one record."""
    where = place_of(record)
    if claim.figure == FAILED:
        failure = record.outcome.failure
        if failure is not None and (failure.stage in ELSEWHERE or failure.kind in OUTSIDE):
            return _cannot(f"it failed for another reason: {failure.message}", where, record)
        failed = failure is not None
        return Answer(
            answer="confirmed" if failed else "refuted",
            reasons=("it failed here as well" if failed else "it runs here",),
            where=where,
            records=(record.id,),
        )
    why, values = _usable(claim, record)
    if why:
        return _cannot(why, where, record)
    typical = median(values)
    wide = order_interval(values, SEQUENTIAL_CONFIDENCE)
    narrow = order_interval(values, EQUIVALENCE)
    wanted = _wanted(claim, record)
    if wide is None or narrow is None:
        return _cannot(
            f"{len(values)} processes; an interval needs at least {FEWEST}", where, record
        )
    return _tested(
        narrow, wide, wanted, typical, where, (record.id,), "ns", left_open(claim, record)
    )


def _wanted(claim: Claim, record: Record) -> Interval:
    """Between what latency, in ns, confirms: the printed digits, widened by the margin."""
    figure = stated_figure(claim)
    assert figure is not None
    low, high = figure.low, figure.high
    if claim.says.metric == "throughput":
        shape = shape_of(record)
        batch = claim.conditions.batch or (shape[0] if shape else 1)
        low, high = batch * 1e9 / high, batch * 1e9 / low
    if isinstance(claim.says, StatedBound):
        rate = claim.says.metric == "throughput"
        below = (claim.says.sense == "below") != rate
        return (0.0, high) if below else (low, float("inf"))
    if figure.value is not None:
        middle = (low + high) / 2
        margin = 1 + (claim.margin_percent or MARGIN_PERCENT) / 100
        low, high = min(low, middle / margin), max(high, middle * margin)
    return low, high


def _usable(claim: Claim, record: Record) -> tuple[str | None, list[float]]:
    """Why a record cannot carry an answer, and the latency of each of its processes."""
    import numpy as np

    summary = summarise(record)
    if record.outcome.status != "measured" or summary is None:
        failure = record.outcome.failure
        return f"the run {record.outcome.status}{f': {failure.message}' if failure else ''}", []
    if summary.trust == "no":
        return f"not to be trusted: {'; '.join(summary.reasons)}", []
    mean = claim.conditions.statistic == "mean"
    parts = process_samples(record.outcome.traces).values()
    return None, [float(np.mean(part) if mean else np.median(part)) for part in parts]


def _ordered(claim: Claim, pair: tuple[Record, Record]) -> Answer:
    """The direction alone; of a parity, sameness within its tolerance."""
    says = claim.says
    if isinstance(says, StatedParity):
        return _compared(claim, pair)
    assert isinstance(says, StatedRatio | StatedDifference | StatedOrdering)
    told = compare(*pair, margin=0.0)
    faster = _faster(says)
    if told.verdict in ("faster", "slower"):
        answer = "confirmed" if (told.verdict == "faster") == faster else "refuted"
        return _of(told, pair, answer)
    return _of(told, pair, "inconclusive")


def _elsewhere(claim: Claim, answer: Answer, pair: tuple[Record, Record]) -> Answer:
    """The answer, which says so where it is not of what the source timed."""
    device, backend = claim.conditions.device, claim.conditions.backend
    named = ", ".join(name for name in (device, backend) if name is not None)
    if (device, backend) == (pair[1].device.id, pair[1].backend) or not named:
        return answer
    told = (*answer.reasons, f"the source says it of {named}")
    return msgspec.structs.replace(answer, reasons=told)


def _compared(claim: Claim, pair: tuple[Record, Record]) -> Answer:
    """The size of a ratio, difference or parity against two records."""
    says = claim.says
    tolerance = says.tolerance_percent / 100 if isinstance(says, StatedParity) else 0.02
    told = compare(*pair, margin=tolerance)
    if told.ratio is None or told.interval is None or told.equivalence is None:
        return _of(told, pair, "inconclusive")
    if not told.interleaved:
        return _of(told, pair, "inconclusive", "a ratio is told of models timed in turn only")
    if told.verdict == "cannot tell" and told.reasons:
        return _of(told, pair, "inconclusive")
    readings = _wanted_ratios(claim, pair)
    where, ids = place_of(pair[1]), (pair[0].id, pair[1].id)
    return combined(
        {
            name: _tested(
                told.equivalence, told.interval, wanted, told.ratio, where, ids, "ratio", ()
            )
            for name, wanted in readings.items()
        }
    )


def _wanted_ratios(claim: Claim, pair: tuple[Record, Record]) -> dict[str, Interval]:
    """For each reading, between what the ratio of latencies must lie."""
    says = claim.says
    if isinstance(says, StatedParity):
        most = 1 + says.tolerance_percent / 100
        return {"": (1 / most, most)}
    if isinstance(says, StatedDifference):
        figure = stated_figure(claim)
        other = process_samples(pair[0].outcome.traces)
        assert figure is not None
        base = median(float(_middle(part)) for part in other.values())
        sign = -1 if says.sense == "less" else 1
        ends = sorted((1 + sign * figure.low / base, 1 + sign * figure.high / base))
        found = {"": (ends[0], ends[1])}
    else:
        assert isinstance(says, StatedRatio)
        found = quotients(says)
        if says.metric == "throughput":
            found = {name: (1 / high, 1 / low) for name, (low, high) in found.items()}
    margin = 1 + (claim.margin_percent or MARGIN_PERCENT) / 100
    return {
        name: (
            min(low, (low + high) / 2 / margin),
            max(high, (low + high) / 2 * margin),
        )
        for name, (low, high) in found.items()
    }


def _middle(part: Any) -> float:
    import numpy as np

    return float(np.median(part))


def _faster(says: StatedRatio | StatedDifference | StatedOrdering) -> bool:
    """Whether the claim is that the model takes less time."""
    if isinstance(says, StatedRatio) and says.sense == "of":
        return all(high < 1 for _, high in quotients(says).values()) == (says.metric == "latency")
    return (says.sense == "less") == (says.metric == "latency")


def _tested(
    narrow: Interval,
    wide: Interval,
    wanted: Interval,
    found: float,
    where: str,
    records: tuple[str, ...],
    unit: Any,
    reasons: tuple[str, ...],
) -> Answer:
    inside = wanted[0] <= narrow[0] and narrow[1] <= wanted[1]
    outside = wide[1] < wanted[0] or wanted[1] < wide[0]
    answer: Any = "confirmed" if inside else "refuted" if outside else "inconclusive"
    needs = ("more processes: its interval reaches over the edge of the margin",)
    return Answer(
        answer=answer,
        reasons=reasons,
        needs=needs if answer == "inconclusive" else (),
        where=where,
        claimed=wanted,
        found=found,
        interval=wide,
        unit=unit,
        records=records,
    )


def _of(told: Comparison, pair: tuple[Record, Record], answer: Any, why: str = "") -> Answer:
    needs: tuple[str, ...] = ()
    if answer == "inconclusive":
        effort = told.to_tell.processes if told.to_tell else None
        needs = (f"about {effort} processes" if effort else "both timed in turn: latbench compare",)
    return Answer(
        answer=answer,
        reasons=(*([why] if why else []), *told.reasons),
        needs=needs,
        where=place_of(pair[1]),
        found=told.ratio,
        interval=told.interval,
        unit="ratio",
        records=(pair[0].id, pair[1].id),
    )


def _unanimous(found: Sequence[Answer]) -> Answer | None:
    """What all records that can tell say; records that contradict each other say nothing."""
    told = [answer for answer in found if answer.answer in ("confirmed", "refuted")]
    if not told:
        return found[0] if found else None
    if len({answer.answer for answer in told}) == 1:
        return told[0]
    return Answer(
        answer="inconclusive",
        reasons=tuple(f"{', '.join(answer.records)}: {answer.answer}" for answer in told),
        needs=("a reason why records of the same conditions differ",),
        where=told[0].where,
        records=tuple(id for answer in told for id in answer.records),
    )


def _none_yet(claim: Claim, bench: Bench, device: str | None) -> Answer:
    """Without records: what is missing for there to be any."""
    missing = []
    for id in (claim.model, claim.against):
        model = bench.models.get(id) if id is not None else None
        if model is not None and model.build is None:
            missing.append(f"{model.name}: {model.absent}")
        elif model is not None and model.classes is not None:
            missing.append(f"{model.name}: its builder makes another number of classes")
    if device is not None and device not in bench.devices:
        missing.append(f"the device {device}")
    backend = claim.conditions.backend
    if device is not None and backend is not None and backend not in bench.backends:
        missing.append(f"the backend {backend}")
    if missing:
        return Answer(
            answer="not testable here", reasons=("no records of it",), needs=tuple(missing)
        )
    model = bench.models[claim.model]
    command = f"latbench run --model {model.build}"
    if claim.against is not None:
        command = f"latbench compare {bench.models[claim.against].build} {model.build}"
    return Answer(answer="inconclusive", reasons=("no records yet",), needs=(command,))


def _cannot(why: str, where: str, record: Record) -> Answer:
    return Answer(
        answer="inconclusive",
        reasons=(why,),
        needs=("another run",),
        where=where,
        records=(record.id,),
    )
