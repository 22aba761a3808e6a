"""Verdicts on claims from stored records, counted models and this machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from latbench.api import Capability, Runner
from latbench.audit.model_counts import ToCount, count_models
from latbench.audit.record_selection import read_for
from latbench.claims.judge import verdict
from latbench.claims.model import Claim
from latbench.claims.statements import (
    COUNTED,
    TIMED,
    StatedIdentity,
    StatedScaling,
)
from latbench.claims.verdict import CheckContext, StoredVerdict, Verdict
from latbench.plugins import load_runner, runner_names
from latbench.schema.value import Value
from latbench.version import latbench_version

if TYPE_CHECKING:
    from latbench.audit.library import ClaimLibrary
    from latbench.schema.record import Record
    from latbench.schema.reported import ReportedResult
    from latbench.store.registry import Registry


def stored_verdicts(
    claims: Sequence[Claim], checked: AuditResult, store: Registry, *, at_unix_ns: int
) -> tuple[StoredVerdict, ...]:
    """Return the verdicts of ``checked`` that differ from the newest ones in ``store``.

    A stored verdict that cannot be read does not count.
    """
    newest, _ = store.newest_verdicts([claim.id for claim in claims])
    before = {each.claim.id: each for each in newest}
    found = []
    for claim, each in zip(claims, checked.verdicts, strict=True):
        new = StoredVerdict(
            claim=claim,
            created_unix_ns=at_unix_ns,
            latbench=latbench_version(),
            device=checked.device,
            answers=each.given(),
        )
        old = before.get(claim.id)
        if new.answers and (old is None or not new.same_result(old)):
            found.append(new)
    return tuple(found)


class AuditResult(Value, frozen=True, kw_only=True):
    """Verdicts in the order of the claims, and the records that could not be read."""

    verdicts: tuple[Verdict, ...]
    unread: tuple[str, ...]
    device: str
    """Id of the machine on which the claims were checked."""


def check(
    claims: Sequence[Claim],
    registered: ClaimLibrary,
    store: Registry | None,
    *,
    device: str,
    timed: bool = True,
    static: bool = True,
) -> AuditResult:
    """Return a verdict on each claim.

    ``device`` is the id of this machine; without a ``store``, no records are considered.
    """
    models = registered.models
    counts = count_models(models_to_count(claims, registered)) if static else {}
    records: list[Record] = []
    unread: list[str] = []
    if store is not None and timed:
        records, unread = read_for(claims, models, store, described=registered.devices)
    of_build: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        of_build[record.model.name].append(record)
    backends = frozenset(available_backends(claims)) if timed else frozenset()
    found = []
    for claim in claims:
        bench = CheckContext(
            models=models,
            counts={
                wanted.model.id: counts[wanted]
                for wanted in models_to_count([claim], registered)
                if wanted in counts
            },
            devices=frozenset({device}),
            backends=backends,
        )
        ids = (claim.model, claim.against)
        builds = dict.fromkeys(models[id].build for id in ids if id in models)
        of_claim = [record for build in builds for record in of_build.get(build or "", ())]
        found.append(verdict(claim, of_claim, bench))
    return AuditResult(verdicts=tuple(found), unread=tuple(unread), device=device)


def reported_beside(
    claim: Claim, registered: ClaimLibrary, results: Iterable[ReportedResult]
) -> tuple[ReportedResult, ...]:
    """The results of other tools for the models of a claim about a latency.

    Verdicts do not depend on them.
    """
    if getattr(claim.says, "metric", None) not in TIMED:
        return ()
    models = (registered.models.get(id) for id in (claim.model, claim.against) if id is not None)
    names = {name for each in models if each is not None for name in (each.id, each.build) if name}
    return tuple(each for each in results if each.model in names and each.failure is None)


def models_to_count(claims: Iterable[Claim], registered: ClaimLibrary) -> list[ToCount]:
    """Models to count for claims about sizes, growth and graphs, without duplicates."""
    return list(dict.fromkeys(each for claim in claims for each in _to_count(claim, registered)))


def _to_count(claim: Claim, registered: ClaimLibrary) -> Iterator[ToCount]:
    if claim.unverifiable or claim.out_of_scope:
        return
    models, says = registered.models, claim.says
    if isinstance(says, StatedIdentity):
        plain = models[says.against].build if says.against in models else None
        hosts = says.hosts or ((plain,) if plain is not None else ())
        if claim.model in models and says.merges is not None and hosts:
            yield ToCount(model=models[claim.model], method=says.merges, hosts=hosts)
        return
    if says.metric not in COUNTED:
        return
    own = claim.conditions.resolution
    other = claim.conditions.against_resolution or own
    for id, resolution in ((claim.model, own), (claim.against, other)):
        model = models.get(id) if id is not None else None
        if model is None or model.unreleased:
            continue
        if isinstance(says, StatedScaling):
            yield ToCount(model=model, over=says.over)
        else:
            yield ToCount(model=model, resolution=resolution)


def available_backends(
    claims: Iterable[Claim],
    *,
    also: Iterable[str] = (),
    probe: Callable[[Runner], Capability] | None = None,
) -> set[str]:
    """Return the backends that can run, of those that claims name and of ``also``.

    ``probe`` asks about one; on this machine by default.
    """
    named = {c.conditions.backend for c in claims if c.says.metric in TIMED} | set(also)
    able = set()
    for name in runner_names():
        if name not in named:
            continue
        runner = load_runner(name)
        if (runner.probe() if probe is None else probe(runner)).available:
            able.add(name)
    return able
