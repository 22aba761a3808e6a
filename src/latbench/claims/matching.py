"""Select the stored records that can be used to check a claim.

A record of a fallback backend is never used: it is not evidence about the requested backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from latbench.analysis.comparability import incomparable
from latbench.claims.conditions import (
    Condition,
    Mismatch,
    condition_mismatches,
    unlike_each_other,
)
from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.verdict import CheckContext, Place
from latbench.defaults import SIMULATED
from latbench.schema.record import Record

COMPARISON_CONDITIONS: frozenset[Condition] = frozenset({"batch", "resolution"})
"""Conditions of the claim that a comparison on another device must meet too."""
RecordPair = tuple[Record, Record]
"""A record of the other model, and one of the claim's model."""


def is_of(record: Record, id: str | None, claim: Claim, bench: CheckContext) -> bool:
    """Whether the record measured that model and can be used for ``claim``."""
    model = bench.models.get(id) if id is not None else None
    return (
        model is not None
        and model.build is not None
        and record.model.name == model.build
        and _another_network(record, model) is None
        and (record.backend not in SIMULATED or record.backend == claim.conditions.backend)
        and record.fallback is None
        and record.backend == record.request.backend
        and not record.environment.machine.emulated
    )


def pairs_of(claim: Claim, records: Sequence[Record], bench: CheckContext) -> list[RecordPair]:
    """Return pairs of records that can be compared: interleaved ones first, then the newest."""
    ours, theirs = _both(claim, records, bench)
    found = [
        (other, mine)
        for mine in ours
        for other in theirs
        if not unlike_each_other(other, mine, claim) and not incomparable(other, mine)
    ]
    return sorted(
        found,
        key=lambda pair: (is_interleaved(pair), pair[1].created_unix_ns, pair[0].created_unix_ns),
        reverse=True,
    )


def is_interleaved(pair: RecordPair) -> bool:
    """Whether the two models were timed in alternating blocks."""
    a, b = pair[0].interleaved, pair[1].interleaved
    return a is not None and b is not None and a.comparison == b.comparison


def unused(claim: Claim, records: Sequence[Record], bench: CheckContext) -> tuple[str, ...]:
    """Return why records of the claim's models were not used to check the published value.

    Each kind of reason is given once, with the number of records. Records of other devices are
    omitted, because most records are of other devices.
    """
    here = [record for record in records if record.device.hardware == claim.conditions.device]
    found = {**_others(claim, records, bench), **_by_text(_reasons(claim, here, bench))}
    return (*_counted(found), *_newest_pair_mismatch(claim, here, bench))


def pairing_problems(
    claim: Claim, records: Sequence[Record], bench: CheckContext
) -> tuple[str, ...]:
    """Return why records of the two models cannot be compared on any device."""
    kept = {
        mismatch: ids
        for mismatch, ids in _reasons(claim, records, bench).items()
        if mismatch.condition in COMPARISON_CONDITIONS
    }
    found = {**_others(claim, records, bench), **_by_text(kept)}
    return (*_counted(found), *_newest_pair_mismatch(claim, records, bench))


def place_of(record: Record) -> Place:
    """Return the device and backend of a record."""
    return Place(device=record.device.hardware, backend=record.backend)


def _called(record: Record, claim: Claim, bench: CheckContext) -> ClaimedModel | None:
    """Return the claim's model that has the record's model name."""
    for id in (claim.model, claim.against):
        model = bench.models.get(id) if id is not None else None
        if model is not None and model.build == record.model.name:
            return model
    return None


def _others(claim: Claim, records: Sequence[Record], bench: CheckContext) -> dict[str, list[str]]:
    """Group records that have the model's name but measured another network, by reason."""
    found: dict[str, list[str]] = {}
    for record in records:
        model = _called(record, claim, bench)
        why = _another_network(record, model) if model and record.fallback is None else None
        if why is not None:
            found.setdefault(why, []).append(record.id)
    return found


def _reasons(
    claim: Claim, records: Sequence[Record], bench: CheckContext
) -> dict[Mismatch, list[str]]:
    """Group records of the claim's models by the conditions that they do not meet."""
    found: dict[Mismatch, list[str]] = {}
    for record in records:
        other = not is_of(record, claim.model, claim, bench)
        if not other or is_of(record, claim.against, claim, bench):
            for mismatch in condition_mismatches(record, claim, other=other):
                found.setdefault(mismatch, []).append(record.id)
    return found


def _by_text(found: Mapping[Mismatch, list[str]]) -> dict[str, list[str]]:
    return {mismatch.text: ids for mismatch, ids in found.items()}


def _newest_pair_mismatch(
    claim: Claim, records: Sequence[Record], bench: CheckContext
) -> tuple[str, ...]:
    """Return why the newest usable records of the two models are not compared, or which are
    missing."""
    if claim.against is None:
        return ()
    ours, theirs = _both(claim, records, bench)
    if not ours and not theirs:
        return ()
    if not ours or not theirs:
        there, missing = (claim.against, claim.model) if theirs else (claim.model, claim.against)
        return (f"there are records of {there} but none of {missing}",)
    one, two = (max(side, key=lambda record: record.created_unix_ns) for side in (theirs, ours))
    unlike = (mismatch.text for mismatch in unlike_each_other(one, two, claim))
    reasons = (*unlike, *incomparable(one, two))
    return tuple(f"records {one.id} and {two.id} are not compared: {why}" for why in reasons)


def _counted(found: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    reasons = []
    for why, ids in found.items():
        more = f" and {len(ids) - 1} other{'s' if len(ids) > 2 else ''}" if len(ids) > 1 else ""
        reasons.append(f"record {ids[0]}{more} not used: {why}")
    return tuple(reasons)


def _both(
    claim: Claim, records: Sequence[Record], bench: CheckContext
) -> tuple[list[Record], list[Record]]:
    """Return records of the claim's model and of the one it is compared with, at their sizes."""
    return (
        [r for r in records if _fits(r, claim.model, claim, bench, other=False)],
        [r for r in records if _fits(r, claim.against, claim, bench, other=True)],
    )


def _another_network(record: Record, model: ClaimedModel) -> str | None:
    """Return why a record did not measure the model's network; ``None`` if it did.

    The form and the number of parameters decide, because a builder's name can change its meaning.
    """
    artifact = record.artifact
    form = record.request.options.get("form", artifact.details.get("form") if artifact else None)
    if form not in (None, "deploy"):
        return f"it measured the {form} form, but claims are about the deploy form"
    if artifact is None:
        return None
    deployed = artifact.model_counts.parameters if artifact.model_counts else None
    return model.another(artifact.trained_parameters, deployed)


def _fits(
    record: Record, id: str | None, claim: Claim, bench: CheckContext, *, other: bool
) -> bool:
    """Whether a record measured that model at the batch and resolution that the claim names."""
    if not is_of(record, id, claim, bench):
        return False
    missed = {each.condition for each in condition_mismatches(record, claim, other=other)}
    return missed.isdisjoint(COMPARISON_CONDITIONS)
