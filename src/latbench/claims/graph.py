"""Check how MACs grow, and whether a method leaves the deployed graph unchanged."""

from __future__ import annotations

from itertools import pairwise

from latbench.claims.model import Claim
from latbench.claims.statements import StatedIdentity, StatedScaling
from latbench.claims.verdict import Answer, AnswerName, CheckContext
from latbench.schema.graph import Growth, MergeCheck, MergedGraphs

EXPONENT = 0.05
"""Tolerance of a local exponent. A classifier, whose cost does not depend on the size, or a padded
window shifts an exponent by less than 0.01. Softmax attention over all tokens of a ViT-B shifts it
by 0.08 at 224 pixels, and by more at larger sizes."""
FORWARD = 0.001
"""Least change per step for exponents to count as approaching the claimed one."""
GRAPH_TOLERANCE = 1e-9
"""Relative tolerance of outputs in float64. Observed: 2e-15 for equal graphs, and 1e-3 or more if a
scale or shift is lost."""


def scaling_answer(claim: Claim, bench: CheckContext) -> Answer:
    """Check the exponent with which MACs grow.

    Confirmed if all local exponents are near the claimed one; refuted if the last one is not and
    the exponents do not approach it.
    """
    assert isinstance(claim.says, StatedScaling)
    counted, model = bench.counts.get(claim.model), bench.models[claim.model]
    found = counted.growth if counted is not None else None
    if found is None:
        why = (counted.missing if counted else None) or model.absent or "its MACs were not counted"
        return Answer(
            answer="not testable here",
            reasons=(f"{model.name}: {why}",),
            needs=(f"counts of {model.name} over a range of {claim.says.over}",),
        )
    exponents, wanted = found.exponents(), claim.says.exponent
    off = [abs(each - wanted) for each in exponents]
    approaching = all(later < earlier - FORWARD for earlier, later in pairwise(off))
    answer: AnswerName = "inconclusive"
    if max(off) <= EXPONENT:
        answer = "confirmed"
    elif off[-1] > EXPONENT and not approaching:
        answer = "refuted"
    needs = ("larger sizes: the exponent has not converged",)
    return Answer(
        answer=answer,
        reasons=(_grown(bench.models[claim.model].build, found),),
        needs=needs if answer == "inconclusive" else (),
        claimed=(wanted - EXPONENT, wanted + EXPONENT),
        found=exponents[-1],
        interval=(min(exponents), max(exponents)),
        unit="exponent",
    )


def _grown(build: str | None, found: Growth) -> str:
    unit = "images" if found.over == "batch" else "pixels per side"
    return (
        f"{build} has {', '.join(f'{macs / 1e9:.4g}' for macs in found.macs)} GMACs (with products "
        f"of activations) at {', '.join(map(str, found.sizes))} {unit}: they scale with "
        f"{found.over} to the power {', then '.join(f'{each:.3f}' for each in found.exponents())}"
    )


def identity_answer(claim: Claim, bench: CheckContext) -> Answer:
    """Check that on every host the merged graph equals the plain one and computes the same
    outputs."""
    assert isinstance(claim.says, StatedIdentity)
    if claim.says.merges is None:
        return Answer(
            answer="not testable here",
            reasons=("the claim does not name a method that can be built here",),
            needs=("a method in `merges`, and networks in `hosts`",),
        )
    counted = bench.counts.get(claim.model)
    shown = counted.shown if counted is not None else ()
    built = [each for each in shown if each.built is not None]
    if not built:
        return Answer(
            answer="not testable here",
            reasons=_unbuilt(shown) or ("the claim does not name a network to check it on",),
            needs=("a network in `hosts` that can be built here",),
        )
    found = [_host_answer(each.host, each.built) for each in built if each.built is not None]
    answers = {answer for answer, _ in found}
    if "refuted" in answers:
        answer: AnswerName = "refuted"
    else:
        whole = answers == {"confirmed"} and len(built) == len(shown)
        answer = "confirmed" if whole else "inconclusive"
    return Answer(
        answer=answer,
        where=", ".join(each.host for each in built),
        reasons=(*(why for _, why in found), *_unbuilt(shown)),
        needs=("networks on which the merged and plain graphs can be compared",)
        if answer == "inconclusive"
        else (),
    )


def _unbuilt(shown: tuple[MergeCheck, ...]) -> tuple[str, ...]:
    return tuple(f"{each.host}: {each.missing}" for each in shown if each.built is None)


def _host_answer(host: str, found: MergedGraphs) -> tuple[AnswerName, str]:
    """Return the answer for one network, and its reason."""
    plain, merged, apart = found.plain, found.merged, found.apart
    if found.difference is not None or merged != plain:
        more = f"{merged.operators} operators, {merged.parameters:,} parameters, {merged.macs:,}"
        where = f": {found.difference}" if found.difference is not None else ""
        return "refuted", (
            f"{host}: the merged graph differs from the plain one: {more} MACs, but the plain one "
            f"has {plain.operators}, {plain.parameters:,} and {plain.macs:,}{where}"
        )
    if apart is not None and apart > GRAPH_TOLERANCE:
        return "refuted", (
            f"{host}: the merged graph equals the plain one, but its outputs differ from those "
            f"before merging by {apart:.1g} of the largest"
        )
    if found.unmerged_operators <= plain.operators:
        return "inconclusive", (
            f"{host}: the unmerged graph is not larger than the plain one, so the comparison is "
            "inconclusive"
        )
    agree = f"; outputs agree within {apart:.1g} of the largest" if apart is not None else ""
    return "confirmed", (
        f"{host}: the merged graph equals the plain one: {plain.operators} operators, same shapes, "
        f"{plain.parameters:,} parameters, {plain.macs:,} MACs ({found.unmerged_operators} "
        f"operators before merging){agree}"
    )
