"""Check timed claims: a value under exactly its conditions, a comparison on any device.

This module selects the records to use and combines their answers.
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
from latbench.claims.conditions import condition_mismatches, undeclared_options
from latbench.claims.equivalence import (
    check_order,
    check_ratio,
    check_value,
    direction,
)
from latbench.claims.matching import (
    RecordPair,
    is_interleaved,
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
from latbench.claims.verdict import (
    ELSEWHERE,
    Answer,
    CheckContext,
    Place,
    untestable_reason,
)
from latbench.schema.record import Record


def value_answer(claim: Claim, records: Sequence[Record], bench: CheckContext) -> Answer | None:
    """Check the value on exactly the named device, backend, precision, batch and resolution.

    ``None`` if the claim does not state a timed value.
    """
    says = claim.says
    if isinstance(says, StatedIdentity | StatedScaling):
        if says.metric not in TIMED:
            return None
        why, needs = (
            "latbench does not compare records of one model over a range of sizes",
            "such records",
        )
        if isinstance(says, StatedIdentity):
            why = (
                "records do not state whether their model is merged; the static question compares "
            )
            why += "the graphs"
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
            reasons=(f"latbench does not measure {says.metric}",),
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
        # Pairs that were not interleaved cannot confirm a ratio; one is reported if there are no
        # others.
        pairs = [pair for pair in pairs if is_interleaved(pair)] or pairs[:1]
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
    """Check the comparison on each device and backend that has records of both models."""
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
    """Combine the pairs of one place that were measured under the same conditions.

    Interleaved pairs are preferred, then pairs with the claim's own precision and threads, then the
    newest.
    """

    def rank(pair: RecordPair) -> tuple[bool, ...]:
        had = claim.conditions
        return (
            is_interleaved(pair),
            all(record.outcome.status == "measured" for record in pair),
            not own_options(pair[1]),
            precision_of(pair[1]) == had.precision,
            had.threads is not None and threads(pair[1]) == str(had.threads),
        )

    best = max(pairs, key=rank)
    if not is_interleaved(best):
        # Any two records of the models form such a pair, so the newest two represent all.
        return _about_claim_or_here(claim, check_order(claim, best), best)
    alike = [
        pair
        for pair in pairs
        if (rank(pair), precision_of(pair[1]), threads(pair[1]), batch(pair[1]))
        == (rank(best), precision_of(best[1]), threads(best[1]), batch(best[1]))
    ]
    found = agreed([check_order(claim, pair) for pair in alike])
    assert found is not None
    return _about_claim_or_here(claim, found, best)


def _about_claim_or_here(claim: Claim, answer: Answer, pair: RecordPair) -> Answer:
    """Say whether the answer is about the claim, or only about the device where it was found.

    Adds a reason for each condition that differs from the source's.
    """
    had, mine = claim.conditions, pair[1]
    notes = [
        f"{name} here: {here}, in the source: {there}"
        for name, there, here in (
            ("precision", had.precision, precision_of(mine)),
            ("threads", had.threads and str(had.threads), threads(mine)),
        )
        if there and there != here
    ]
    if had.statistic not in (None, "median") and isinstance(claim.says, StatedRatio):
        notes.append(f"ratio of medians; the source reports the {had.statistic}")
    named = ", ".join(name for name in (had.device, had.backend) if name is not None)
    if named and (had.device, had.backend) != (mine.device.hardware, mine.backend):
        notes.append(f"the source measured on {named}")
    called = answer.answer if _own_conditions(claim, pair) else ELSEWHERE.get(answer.answer)
    return msgspec.structs.replace(
        answer, answer=called or answer.answer, reasons=(*answer.reasons, *notes)
    )


def _own_conditions(claim: Claim, pair: RecordPair) -> bool:
    """Whether both records have the claim's device and all other conditions that it names."""
    other, mine = pair
    return (
        claim.conditions.device is not None
        and not condition_mismatches(mine, claim)
        and not condition_mismatches(other, claim, other=True)
        and not any(undeclared_options(record, claim) for record in pair)
    )


def _none_yet(claim: Claim, bench: CheckContext, device: str | None, left: Sequence[str]) -> Answer:
    """Return the answer if no record can be used: what is missing, and why some were left out."""
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
            reasons=("there are no records of it", *left),
            needs=tuple(missing),
        )
    return Answer(
        answer="inconclusive",
        reasons=(
            "no records under exactly these conditions yet" if left else "no records yet",
            *left,
        ),
        needs=(f"latbench claims check {claim.id} --measure",),
    )
