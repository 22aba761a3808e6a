"""Whether timed claims hold: the figure on just what it names, a comparison on any device.

Which records are looked at, and what they say together where there are several.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from latbench.analysis.settings import (
    batch,
    own_options,
    precision_of,
    threads,
)
from latbench.claims.conditions import condition_mismatches
from latbench.claims.equivalence import (
    check_order,
    check_ratio,
    check_value,
    direction,
)
from latbench.claims.matching import (
    RecordPair,
    in_turn,
    is_of,
    pairing_problems,
    pairs_of,
    place_of,
    unused,
)
from latbench.claims.model import Claim
from latbench.claims.pooling import Found, agreed, pool_answers
from latbench.claims.statements import (
    COUNTED,
    TIMED,
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
from latbench.claims.verdict import Answer, CheckContext, Place, untestable_reason
from latbench.schema.record import Record


def value_answer(claim: Claim, records: Sequence[Record], bench: CheckContext) -> Answer | None:
    """On exactly the named device, backend, precision, batch and resolution.

    ``None`` where the claim gives no figure of its own that is timed.
    """
    says = claim.says
    if isinstance(says, StatedIdentity | StatedScaling):
        if says.metric not in TIMED:
            return None
        why, needs = "no records of one model over a range of sizes are compared", "such records"
        if isinstance(says, StatedIdentity):
            why = "no record says that its model is merged; whether the graphs are the same, the "
            why += "static question tells"
            needs = "records of a merged model and of its plain one"
        return untestable_reason(claim, bench) or Answer(
            answer="not testable here", reasons=(why,), needs=(needs,)
        )
    figured = StatedValue | StatedBound | StatedRatio | StatedDifference | StatedSize
    if not isinstance(says, figured):
        return None
    if says.metric in COUNTED:
        return None
    if (out := untestable_reason(claim, bench)) is not None:
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
    if isinstance(says, StatedRatio | StatedDifference):
        pairs = [
            pair
            for pair in pairs_of(claim, records, bench)
            if not condition_mismatches(pair[1], claim)
            and not condition_mismatches(pair[0], claim, other=True)
        ]
        # Those that were not timed in turn tell no size, and are only named where there are no
        # others.
        pairs = [pair for pair in pairs if in_turn(pair)] or pairs[:1]
        found = [Found(check_ratio(claim, pair), pair[1]) for pair in pairs]
    else:
        fit = [
            r
            for r in records
            if is_of(r, claim.model, claim, bench) and not condition_mismatches(r, claim)
        ]
        found = [Found(check_value(claim, record), record) for record in fit]
    return pool_answers(claim, found) or _none_yet(
        claim, bench, claim.conditions.device, unused(claim, records, bench)
    )


def ordering_answers(
    claim: Claim, records: Sequence[Record], bench: CheckContext
) -> tuple[Answer, ...]:
    """For each device and backend that has records of both models, whether the comparison holds."""
    says = claim.says
    comparing = StatedRatio | StatedDifference | StatedOrdering | StatedParity
    if not isinstance(says, comparing) or says.metric not in TIMED:
        return ()
    if not isinstance(says, StatedParity) and direction(says) is None:
        return ()
    if (out := untestable_reason(claim, bench)) is not None:
        return (out,)
    places: dict[Place, list[RecordPair]] = {}
    for pair in pairs_of(claim, records, bench):
        places.setdefault(place_of(pair[1]), []).append(pair)
    found = tuple(_at(claim, pairs) for pairs in places.values())
    return found or (_none_yet(claim, bench, None, pairing_problems(claim, records, bench)),)


def _at(claim: Claim, pairs: Sequence[RecordPair]) -> Answer:
    """What all pairs of one place say that were taken alike: in turn if any were, under the claim's
    own precision and threads if any were, else as the newest."""

    def rank(pair: RecordPair) -> tuple[bool, ...]:
        had = claim.conditions
        return (
            in_turn(pair),
            all(record.outcome.status == "measured" for record in pair),
            not own_options(pair[1]),
            precision_of(pair[1]) == had.precision,
            had.threads is not None and threads(pair[1]) == str(had.threads),
        )

    best = max(pairs, key=rank)
    if not in_turn(best):
        # Any two records of the models make such a pair: the newest two stand for all.
        return _elsewhere(claim, check_order(claim, best), best)
    alike = [
        pair
        for pair in pairs
        if (rank(pair), precision_of(pair[1]), threads(pair[1]), batch(pair[1]))
        == (rank(best), precision_of(best[1]), threads(best[1]), batch(best[1]))
    ]
    told = agreed([check_order(claim, pair) for pair in alike])
    assert told is not None
    return _elsewhere(claim, told, best)


def _elsewhere(claim: Claim, answer: Answer, pair: RecordPair) -> Answer:
    """The answer, which says so where it is not of what the source timed."""
    had, mine = claim.conditions, pair[1]
    told = [
        f"{name} here: {here}, in the source: {there}"
        for name, there, here in (
            ("precision", had.precision, precision_of(mine)),
            ("threads", had.threads and str(had.threads), threads(mine)),
        )
        if there and there != here
    ]
    if had.statistic not in (None, "median") and isinstance(claim.says, StatedRatio):
        told.append(f"of medians; the source's are of the {had.statistic}")
    named = ", ".join(name for name in (had.device, had.backend) if name is not None)
    if named and (had.device, had.backend) != (mine.device.id, mine.backend):
        told.append(f"the source says it of {named}")
    return msgspec.structs.replace(answer, reasons=(*answer.reasons, *told))


def _none_yet(claim: Claim, bench: CheckContext, device: str | None, left: Sequence[str]) -> Answer:
    """Without records: what is missing for there to be any, and why some were ``left`` out."""
    missing = []
    for id in (claim.model, claim.against):
        model = bench.models.get(id) if id is not None else None
        if model is not None and model.build is None:
            missing.append(f"{model.name}: {model.absent}")
    if device is not None and device not in bench.devices:
        missing.append(f"the device {device}")
    backend = claim.conditions.backend
    if device is not None and backend is not None and backend not in bench.backends:
        missing.append(f"the backend {backend}")
    if missing:
        return Answer(
            answer="not testable here",
            reasons=("no records of it", *left),
            needs=tuple(missing),
        )
    return Answer(
        answer="inconclusive",
        reasons=("no records of just this yet" if left else "no records yet", *left),
        needs=(f"latbench claims check {claim.id} --measure",),
    )
