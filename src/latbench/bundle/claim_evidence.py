"""What a bundle stores of claims, and whether its answers follow from its records."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from latbench.bundle.archive import CLAIMS, BundleError, decode_checked
from latbench.claims.judge import verdict
from latbench.claims.model import Claim, ClaimedModel, ClaimSource
from latbench.claims.validation import Known, claim_problems
from latbench.claims.verdict import (
    ELSEWHERE,
    CheckContext,
    CountedModel,
    StoredAnswer,
    Verdict,
)
from latbench.schema.environment import Device
from latbench.schema.record import Record
from latbench.schema.value import Value
from latbench.version import latbench_version


class ClaimEvidence(Value, frozen=True, kw_only=True):
    """A claim, what its models were counted to consist of, and the answers."""

    claim: Claim
    counts: dict[str, CountedModel]
    answers: tuple[StoredAnswer, ...]


class Claims(Value, frozen=True, kw_only=True):
    """The member ``claims.json``: all that a verdict is computed from, except the records."""

    device: str
    """The machine that the bundle was made on: what is testable is seen from there."""
    backends: tuple[str, ...]
    sources: tuple[ClaimSource, ...]
    models: tuple[ClaimedModel, ...]
    evidence: tuple[ClaimEvidence, ...]


def decode_claims(raw: bytes | None) -> Claims | None:
    """The member ``claims.json``. Raises :class:`BundleError`."""
    if raw is None:
        return None
    try:
        claims = msgspec.convert(decode_checked(raw, CLAIMS), Claims)
    except msgspec.ValidationError as error:
        raise BundleError(
            f"{CLAIMS} has a wrong field: {error}",
            hint="it was changed, or a newer latbench wrote it",
        ) from error
    models = {model.id: model for model in claims.models}
    sources = frozenset(source.id for source in claims.sources)
    for each in claims.evidence:
        claim = each.claim
        named = {claim.model, claim.against} - {None}
        if not named <= models.keys() or claim.source.id not in sources:
            raise BundleError(f"claim {claim.id}: its model or source is missing from {CLAIMS}")
        _check_claim(each, Known(models=models, devices=_device(claim), sources=sources))
    ids = [each.claim.id for each in claims.evidence]
    if len(set(ids)) != len(ids):
        raise BundleError(f"{CLAIMS} holds a claim twice")
    return claims


def _check_claim(each: ClaimEvidence, known: Known) -> None:
    """Nothing that the verdicts cannot be asked of."""
    id = each.claim.id
    for problem in claim_problems(each.claim, known):
        place = ".".join(map(str, problem.path))
        raise BundleError(f"{CLAIMS}, claim {id}, {place}: {problem.message}", hint=problem.hint)
    for counts in each.counts.values():
        figures = [figure for figure in (counts.parameters, counts.macs) if figure is not None]
        grown = counts.growth is None or counts.growth.sound()
        if counts.more_macs < 0 or not grown or not all(0 < f.low <= f.high for f in figures):
            raise BundleError(f"{CLAIMS}, claim {id}: a count that cannot be")


def _device(claim: Claim) -> dict[str, Device]:
    """That it names: a bundle may be of a device that is not known here."""
    id = claim.conditions.device
    return {id: Device(id=id, name=id, kind="unknown")} if id is not None else {}


def verdicts_on(claims: Claims, records: Sequence[Record]) -> tuple[Verdict, ...]:
    """On each of the claims, from just these records."""
    return tuple(
        verdict(
            each.claim,
            records,
            CheckContext(
                models={model.id: model for model in claims.models},
                counts=each.counts,
                devices=frozenset({claims.device}),
                backends=frozenset(claims.backends),
            ),
        )
        for each in claims.evidence
    )


def require_same(stored: ClaimEvidence, now: Sequence[StoredAnswer], writer: str) -> None:
    """Raise where an answer, where it is of, its records or its figures are others.

    Its words are not compared.
    """
    claim, before = stored.claim.id, stored.answers
    hint = f"it was made by latbench {writer}; this is {latbench_version()}"
    if len(before) != len(now):
        raise BundleError(
            f"claim {claim}: {len(before)} answers are stored, and {len(now)} follow from the "
            "records",
            hint=hint,
        )
    for old, new in zip(before, now, strict=True):
        if old.question == "ordering" and new.answer == ELSEWHERE.get(old.answer):
            # Earlier versions did not tell the claim's own conditions from others.
            old = old.called(new.answer)
        if old.answer != new.answer:
            raise BundleError(
                f"claim {claim}, {old.question}: stored is {old.answer!r}, and from the records "
                f"follows {new.answer!r}",
                hint=hint,
            )
        if not old.same_result(new):
            raise BundleError(
                f"claim {claim}, {old.question}: the stored figures do not follow from the records",
                hint=hint,
            )
