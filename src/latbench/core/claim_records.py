"""Which stored records a claim may be checked with.

A record of a fallback backend never counts: it says nothing of the backend that was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from latbench.core.answers import Bench
from latbench.core.claim_conditions import unlike, unlike_each_other
from latbench.core.claims import Claim, ClaimedModel
from latbench.core.compare import incomparable
from latbench.core.records import Record

MADE_UP = frozenset({"fake"})
"""Backends that execute nothing: their times say nothing of any claim that does not name them."""
Pair = tuple[Record, Record]
"""Of the other model, and of the claim's."""


def is_of(record: Record, id: str | None, claim: Claim, bench: Bench) -> bool:
    """Whether the record is of that model, and can be used for ``claim`` at all."""
    model = bench.models.get(id) if id is not None else None
    return (
        model is not None
        and model.build is not None
        and record.model.name == model.build
        and _another_network(record, model) is None
        and (record.backend not in MADE_UP or record.backend == claim.conditions.backend)
        and record.fallback is None
        and record.backend == record.request.backend
    )


def pairs_of(claim: Claim, records: Sequence[Record], bench: Bench) -> list[Pair]:
    """Those that may be compared: timed in turn first, then the newest."""
    ours = [r for r in records if _fits(r, claim.model, claim, bench, other=False)]
    theirs = [r for r in records if _fits(r, claim.against, claim, bench, other=True)]
    found = [
        (other, mine)
        for mine in ours
        for other in theirs
        if not unlike_each_other(other, mine, claim) and not incomparable(other, mine)
    ]
    return sorted(
        found,
        key=lambda pair: (in_turn(pair), pair[1].created_unix_ns, pair[0].created_unix_ns),
        reverse=True,
    )


def in_turn(pair: Pair) -> bool:
    """Whether the two were timed block by block."""
    a, b = pair[0].interleaved, pair[1].interleaved
    return a is not None and b is not None and a.comparison == b.comparison


def unused(claim: Claim, records: Sequence[Record], bench: Bench) -> tuple[str, ...]:
    """Why records of the model's name were not used: each kind of reason once, with how many it is
    true of. Records of other devices are no news: most are."""
    found: dict[str, list[str]] = {}
    for record in records:
        model = _called(record, claim, bench)
        if model is None or record.fallback is not None:
            continue
        if (why := _another_network(record, model)) is not None:
            found.setdefault(why, []).append(record.id)
        elif record.device.id == claim.conditions.device and claim.against is None:
            for each in unlike(record, claim):
                found.setdefault(each, []).append(record.id)
    return tuple(
        f"record {ids[0]}{f' and {len(ids) - 1} others' if len(ids) > 1 else ''} not used: {why}"
        for why, ids in found.items()
    )


def place_of(record: Record) -> str:
    """Device and backend."""
    return f"{record.device.id}, {record.backend}"


def _called(record: Record, claim: Claim, bench: Bench) -> ClaimedModel | None:
    """The model of the claim that is built by the record's name."""
    for id in (claim.model, claim.against):
        model = bench.models.get(id) if id is not None else None
        if model is not None and model.build == record.model.name:
            return model
    return None


def _another_network(record: Record, model: ClaimedModel) -> str | None:
    """By its form, and by its parameters where they are known: builders' names come to mean other
    networks."""
    artifact = record.artifact
    form = record.request.options.get("form", artifact.details.get("form") if artifact else None)
    if form not in (None, "deploy"):
        return f"it is of the {form} form, and claims are of the deploy form"
    if artifact is None:
        return None
    deployed = artifact.model_counts.parameters if artifact.model_counts else None
    return model.another(artifact.trained_parameters, deployed)


def _fits(record: Record, id: str | None, claim: Claim, bench: Bench, *, other: bool) -> bool:
    """Of that model, at the batch and resolution that the claim names for it."""
    if not is_of(record, id, claim, bench):
        return False
    met = {each.partition(":")[0] for each in unlike(record, claim, other=other)}
    return not met & {"batch", "resolution"}
