"""Compute the verdict on a claim: a pure function of the claim, records and counts.

Three questions are answered separately, because they need different machines: whether the value
holds on exactly the device that the claim names, whether a comparison holds on any one device, and
whether the model has the claimed size, which any machine can count.
"""

from __future__ import annotations

from collections.abc import Sequence

from latbench.claims.latency import ordering_answers, value_answer
from latbench.claims.model import Claim
from latbench.claims.size import static_answer
from latbench.claims.statements import (
    COUNTED,
    TIMED,
    StatedOrdering,
    StatedParity,
    StatedScaling,
)
from latbench.claims.verdict import (
    Answer,
    AnswerName,
    CheckContext,
    Verdict,
    untestable_reason,
)
from latbench.schema.record import Record


def verdict(claim: Claim, records: Sequence[Record], bench: CheckContext) -> Verdict:
    """Return the verdict on ``claim`` from ``records`` and ``bench``."""
    unmeasured = _unmeasured(claim, bench)
    if isinstance(claim.says, StatedOrdering | StatedParity) and unmeasured is not None:
        return Verdict(claim=claim.id, value=None, ordering=(unmeasured,), static=None)
    if isinstance(claim.says, StatedScaling) and unmeasured is not None:
        return Verdict(claim=claim.id, value=unmeasured, ordering=(), static=None)
    return Verdict(
        claim=claim.id,
        value=value_answer(claim, records, bench),
        ordering=ordering_answers(claim, records, bench),
        static=static_answer(claim, bench),
    )


def _unmeasured(claim: Claim, bench: CheckContext) -> Answer | None:
    """Return the answer for a metric that is neither timed nor counted: memory, accuracy."""
    metric = claim.says.metric
    if metric in (*TIMED, *COUNTED):
        return None
    return untestable_reason(claim, bench) or Answer(
        answer="not testable here",
        reasons=(f"latbench does not measure {metric}",),
        needs=(f"a measurement of {metric}",),
    )


def restricted(verdict: Verdict, questions: Sequence[str]) -> Verdict:
    """Return a verdict with only the answers to these questions."""
    return Verdict(
        claim=verdict.claim,
        value=verdict.value if "value" in questions else None,
        ordering=verdict.ordering if "ordering" in questions else (),
        static=verdict.static if "static" in questions else None,
    )


def worst_answer(verdicts: Sequence[Verdict]) -> AnswerName:
    """Return the worst answer: refuted, else inconclusive, else confirmed.

    An answer about another device or other conditions neither confirms nor refutes the claim.
    """
    found = {answer.answer for each in verdicts for answer in each.answers()}
    if "refuted" in found:
        return "refuted"
    return "confirmed" if found == {"confirmed"} else "inconclusive"
