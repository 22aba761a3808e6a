"""Evidence that travels: records, claims and the verdicts on them in one file.

Everything that is computed from it (summaries, verdicts) is computed again by who opens it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from latbench.audit.check import available_backends, check, models_to_count
from latbench.audit.model_counts import count_models
from latbench.bundle.archive import (
    CLAIMS,
    RECORD,
    REPORTED_MEMBER,
    ArtifactDigest,
    BundleError,
    Unpacked,
    pack,
    unpack,
)
from latbench.bundle.claim_evidence import (
    ClaimEvidence,
    Claims,
    decode_claims,
    require_same,
    verdicts_on,
)
from latbench.claims.model import Claim, ClaimedModel, ClaimSource
from latbench.claims.verdict import Verdict
from latbench.errors import LatbenchError, UsageError
from latbench.schema.codec import decode_record, encode_record
from latbench.schema.record import Record
from latbench.schema.reported import ReportedResult, decode_reported, encode_reported
from latbench.schema.value import Value
from latbench.version import latbench_version

if TYPE_CHECKING:
    from latbench.audit.library import ClaimLibrary
    from latbench.store.registry import Registry


class Evidence(Value, frozen=True, kw_only=True):
    """Records in the order of their ids, claims, and the verdicts that follow from just these."""

    records: tuple[Record, ...]
    claims: Claims | None = None
    verdicts: tuple[Verdict, ...] = ()
    reported: tuple[ReportedResult, ...] = ()
    """Results of other tools. No verdict follows from them."""

    def about(self, id: str) -> tuple[Claim, Verdict]:
        """The claim of that id and its verdict. Raises :class:`UsageError`."""
        known = {claim.id: (claim, found) for claim, found in self.pairs()}
        if id not in known:
            raise UsageError(
                f"the bundle holds no claim {id!r}", hint=f"it holds {', '.join(known) or 'none'}"
            )
        return known[id]

    @property
    def models(self) -> dict[str, ClaimedModel]:
        """By id."""
        return {model.id: model for model in self.claims.models} if self.claims else {}

    @property
    def sources(self) -> dict[str, ClaimSource]:
        """By id."""
        return {source.id: source for source in self.claims.sources} if self.claims else {}

    def pairs(self) -> list[tuple[Claim, Verdict]]:
        """Each claim with its verdict."""
        evidence = self.claims.evidence if self.claims else ()
        return [(e.claim, found) for e, found in zip(evidence, self.verdicts, strict=True)]


class OpenedBundle(Value, frozen=True, kw_only=True):
    """A bundle that verifies."""

    archive: Unpacked
    evidence: Evidence


class ChosenEntries(Value, frozen=True, kw_only=True):
    """What a bundle will hold, and why more could not be read."""

    records: tuple[Record, ...]
    reported: tuple[ReportedResult, ...]
    unread: tuple[str, ...] = ()


def chosen(
    store: Registry,
    registered: ClaimLibrary,
    claims: Sequence[Claim],
    *,
    ids: Sequence[str],
    sweep: str | None,
    device: str,
) -> ChosenEntries:
    """The records named; where none are, those that a check of the claims cites. Results of other
    tools are there only if they are named."""
    unread: tuple[str, ...] = ()
    entries = {each.id: each for each in map(store.entry, ids)}
    reported = {id: each for id, each in entries.items() if isinstance(each, ReportedResult)}
    found = {id: each for id, each in entries.items() if isinstance(each, Record)}
    if sweep is not None:
        of_sweep = store.of_sweep(sweep)
        if not of_sweep:
            raise UsageError(f"no records of a sweep {sweep!r} in {store.url}")
        found |= {record.id: record for record in of_sweep}
    if not found and claims:
        checked = check(claims, registered, store, device=device, static=False)
        cited = {id for v in checked.verdicts for a in v.answers() for id in a.records}
        found, unread = {id: store.get(id) for id in cited}, checked.unread
    return ChosenEntries(
        records=tuple(found[id] for id in sorted(found)),
        reported=tuple(reported[id] for id in sorted(reported)),
        unread=unread,
    )


def gather(
    records: Sequence[Record], claims: Sequence[Claim], registered: ClaimLibrary, *, device: str
) -> Evidence:
    """The verdicts on ``claims`` from just these records, and what they are computed from."""
    if not claims:
        return Evidence(records=tuple(records))
    ids = sorted({id for c in claims for id in (c.model, c.against) if id is not None})
    sources = sorted({claim.source.id for claim in claims})
    backends = sorted(available_backends(claims))
    wanted = {claim.id: models_to_count([claim], registered) for claim in claims}
    counted = count_models(dict.fromkeys(each for group in wanted.values() for each in group))
    given = []
    for claim in sorted(claims, key=lambda claim: claim.id):
        counts = {each.model.id: counted[each] for each in wanted[claim.id]}
        given.append(ClaimEvidence(claim=claim, counts=counts, answers=()))
    frame = Claims(
        device=device,
        backends=tuple(backends),
        sources=tuple(registered.sources[id] for id in sources),
        models=tuple(registered.models[id] for id in ids),
        evidence=tuple(given),
    )
    verdicts = verdicts_on(frame, records)
    answered = tuple(
        msgspec.structs.replace(each, answers=found.given())
        for each, found in zip(given, verdicts, strict=True)
    )
    return Evidence(
        records=tuple(records),
        claims=msgspec.structs.replace(frame, evidence=answered),
        verdicts=verdicts,
    )


def pack_evidence(evidence: Evidence, *, key: bytes | None) -> bytes:
    """The bundle as bytes, the same for the same evidence and key."""
    members = {}
    for record in evidence.records:
        path = f"records/{record.id}.json"
        if not RECORD.fullmatch(path):
            raise UsageError(f"a record of the id {record.id!r} cannot be bundled")
        members[path] = encode_record(record)
    for result in evidence.reported:
        members[f"reported/{result.id}.json"] = encode_reported(result)
    if evidence.claims is not None:
        members[CLAIMS] = msgspec.json.encode(evidence.claims, order="deterministic")
    return pack(
        members, latbench=latbench_version(), artifacts=_artifacts(evidence.records), key=key
    )


def open_bundle(data: bytes, *, key: bytes | None = None) -> OpenedBundle:
    """Check everything that can be checked here. Raises :class:`BundleError`."""
    archive = unpack(data, key=key)
    records = []
    for path, content in sorted(archive.members.items()):
        if named := RECORD.fullmatch(path):
            try:
                record = decode_record(content)
            except LatbenchError as error:
                raise BundleError(f"{path}: {error.message}", hint=error.hint) from error
            if record.id != named[1]:
                raise BundleError(f"{path} is the record {record.id}")
            records.append(record)
    reported = _reported(archive.members)
    if _artifacts(records) != archive.manifest.artifacts:
        raise BundleError("the artifacts of the manifest are not those of the records")
    claims = decode_claims(archive.members.get(CLAIMS))
    verdicts = verdicts_on(claims, records) if claims is not None else ()
    for each, found in zip(claims.evidence if claims else (), verdicts, strict=True):
        require_same(each, found.given(), archive.manifest.latbench)
    return OpenedBundle(
        archive=archive,
        evidence=Evidence(
            records=tuple(records), claims=claims, verdicts=verdicts, reported=reported
        ),
    )


def _reported(members: Mapping[str, bytes]) -> tuple[ReportedResult, ...]:
    """The results of other tools. Raises :class:`BundleError`."""
    found = []
    for path, content in sorted(members.items()):
        if named := REPORTED_MEMBER.fullmatch(path):
            try:
                result = decode_reported(content)
            except LatbenchError as error:
                raise BundleError(f"{path}: {error.message}", hint=error.hint) from error
            if result.id != named[1]:
                raise BundleError(f"{path} is the result {result.id}")
            found.append(result)
    return tuple(found)


def import_records(opened: OpenedBundle, store: Registry) -> tuple[list[str], list[str], list[str]]:
    """Ids that were stored, that were there already, and that are there with other content."""
    new: list[Record] = []
    there: list[str] = []
    other: list[str] = []
    for record in opened.evidence.records:
        try:
            stored = store.get(record.id)
        except UsageError:
            new.append(record)
            continue
        same = encode_record(stored) == encode_record(record)
        (there if same else other).append(record.id)
    known = {each.id: each for each in store.reported()}
    results = [each for each in opened.evidence.reported if each.id not in known]
    for each in opened.evidence.reported:
        if each.id in known:
            (there if known[each.id] == each else other).append(each.id)
    store.add_many(new, results)
    stored_ids = [record.id for record in new] + [result.id for result in results]
    return stored_ids, there, other


def _artifacts(records: Sequence[Record]) -> tuple[ArtifactDigest, ...]:
    found = {
        artifact.sha256: ArtifactDigest(
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            format=artifact.format,
            precision=artifact.precision,
        )
        for record in records
        if (artifact := record.artifact) is not None
    }
    return tuple(found[sha256] for sha256 in sorted(found))
