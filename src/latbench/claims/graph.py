"""Whether MACs grow as claimed, and whether a method leaves the deployed graph as it was."""

from __future__ import annotations

from itertools import pairwise

from latbench.claims.model import Claim
from latbench.claims.statements import StatedIdentity, StatedScaling
from latbench.claims.verdict import Answer, AnswerName, CheckContext
from latbench.schema.graph import Growth, MergeCheck, MergedGraphs

EXPONENT = 0.05
"""What a classifier, whose cost is the same at all sizes, or a padded window moves an exponent by
is below 0.01; a softmax attention over all tokens of a ViT-B moves it by 0.08 at 224 pixels, and by
more above."""
FORWARD = 0.001
"""By how much exponents that go towards the claimed one must do so in a step."""
GRAPH_TOLERANCE = 1e-9
"""Relative, in float64: seen are 2e-15, and 1e-3 or more where a scale or shift is lost."""


def scaling_answer(claim: Claim, bench: CheckContext) -> Answer:
    """Confirmed where all local exponents are near the claimed one; refuted where the last is not,
    and the way there does not lead to it."""
    assert isinstance(claim.says, StatedScaling)
    counted, model = bench.counts.get(claim.model), bench.models[claim.model]
    found = counted.growth if counted is not None else None
    if found is None:
        why = (counted.missing if counted else None) or model.absent or "it was not counted"
        return Answer(
            answer="not testable here",
            reasons=(f"{model.name}: {why}",),
            needs=(f"counts of {model.name} over a range of {claim.says.over}",),
        )
    exponents, wanted = found.exponents(), claim.says.exponent
    off = [abs(each - wanted) for each in exponents]
    nearing = all(later < earlier - FORWARD for earlier, later in pairwise(off))
    answer: AnswerName = "inconclusive"
    if max(off) <= EXPONENT:
        answer = "confirmed"
    elif off[-1] > EXPONENT and not nearing:
        answer = "refuted"
    needs = ("larger sizes: the exponent has not settled",)
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
    unit = "images" if found.over == "batch" else "pixels a side"
    return (
        f"{build} has {', '.join(f'{macs / 1e9:.4g}' for macs in found.macs)} GMACs, products of "
        f"activations included, at {', '.join(map(str, found.sizes))} {unit}: they grow with "
        f"{found.over} to the power {', then '.join(f'{each:.3f}' for each in found.exponents())}"
    )


def identity_answer(claim: Claim, bench: CheckContext) -> Answer:
    """Confirmed where on every host the merged graph is the plain one, and computes the same."""
    assert isinstance(claim.says, StatedIdentity)
    if claim.says.merges is None:
        return Answer(
            answer="not testable here",
            reasons=("the claim names no method that can be built here",),
            needs=("a method in `merges`, and networks in `hosts`",),
        )
    counted = bench.counts.get(claim.model)
    shown = counted.shown if counted is not None else ()
    built = [each for each in shown if each.built is not None]
    if not built:
        return Answer(
            answer="not testable here",
            reasons=_unbuilt(shown) or ("it names no network to show it on",),
            needs=("a network in `hosts` that can be built here",),
        )
    told = [_of_host(each.host, each.built) for each in built if each.built is not None]
    answers = {answer for answer, _ in told}
    if "refuted" in answers:
        answer: AnswerName = "refuted"
    else:
        whole = answers == {"confirmed"} and len(built) == len(shown)
        answer = "confirmed" if whole else "inconclusive"
    return Answer(
        answer=answer,
        where=", ".join(each.host for each in built),
        reasons=(*(why for _, why in told), *_unbuilt(shown)),
        needs=("networks on which it can be told",) if answer == "inconclusive" else (),
    )


def _unbuilt(shown: tuple[MergeCheck, ...]) -> tuple[str, ...]:
    return tuple(f"{each.host}: {each.missing}" for each in shown if each.built is None)


def _of_host(host: str, found: MergedGraphs) -> tuple[AnswerName, str]:
    """The answer for one network, and what it rests on."""
    plain, merged, apart = found.plain, found.merged, found.apart
    if found.difference is not None or merged != plain:
        more = f"{merged.operators} operators, {merged.parameters:,} parameters, {merged.macs:,}"
        where = f": {found.difference}" if found.difference is not None else ""
        return "refuted", (
            f"{host}: the merged graph is not the plain one: {more} MACs, and the plain one "
            f"{plain.operators}, {plain.parameters:,} and {plain.macs:,}{where}"
        )
    if apart is not None and apart > GRAPH_TOLERANCE:
        return "refuted", (
            f"{host}: the merged graph is the plain one, but its outputs are not those of the "
            f"method: they differ by {apart:.1g} of the largest"
        )
    if found.unmerged_operators <= plain.operators:
        return "inconclusive", (
            f"{host}: the graph is no larger with the method unmerged, so the comparison tells "
            "nothing"
        )
    agree = f"; outputs agree within {apart:.1g} of the largest" if apart is not None else ""
    return "confirmed", (
        f"{host}: the merged graph is the plain one: {plain.operators} operators, same shapes, "
        f"{plain.parameters:,} parameters, {plain.macs:,} MACs ({found.unmerged_operators} "
        f"operators before merging){agree}"
    )
