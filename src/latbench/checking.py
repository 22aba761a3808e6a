"""Claims checked with what there is: stored records, counts, this machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from latbench.core.answers import Bench, Verdict
from latbench.core.claims import COUNTED, TIMED, Claim, ClaimedModel
from latbench.core.errors import LatbenchError
from latbench.core.values import Value
from latbench.core.verdicts import verdict
from latbench.counted import ToCount, count_models
from latbench.plugins import load_runner, runner_names

if TYPE_CHECKING:
    from latbench.claims_file import Registered
    from latbench.core.records import Record
    from latbench.store.registry import Registry

NEWEST = 20
"""Records of one model on one device and backend that are looked at."""


class Checked(Value, frozen=True, kw_only=True):
    """Verdicts in the order of the claims, and the records that could not be read."""

    verdicts: tuple[Verdict, ...]
    unread: tuple[str, ...]


def check(
    claims: Sequence[Claim],
    registered: Registered,
    store: Registry | None,
    *,
    device: str,
    timed: bool = True,
    static: bool = True,
) -> Checked:
    """A verdict on each claim; ``device`` is this machine. ``store`` is ``None`` where no records
    are to be looked at."""
    counts = count_models(models_to_count(claims, registered)) if static else {}
    ids = {id for claim in claims for id in (claim.model, claim.against) if id is not None}
    of_models = [registered.models[id] for id in ids]
    read = _records(store, of_models) if store is not None and timed else ([], [])
    records, unread = read
    backends = frozenset(available_backends(claims)) if timed else frozenset()
    found = []
    for claim in claims:
        bench = Bench(
            models=registered.models,
            counts={
                wanted.model.id: counts[wanted]
                for wanted in models_to_count([claim], registered)
                if wanted in counts
            },
            devices=frozenset({device}),
            backends=backends,
        )
        found.append(verdict(claim, records, bench))
    return Checked(verdicts=tuple(found), unread=tuple(unread))


def models_to_count(claims: Iterable[Claim], registered: Registered) -> list[ToCount]:
    """The models of claims about sizes, each once."""
    found: dict[ToCount, None] = {}
    for claim in claims:
        if claim.says.metric not in COUNTED or claim.unverifiable or claim.out_of_scope:
            continue
        own = claim.conditions.resolution
        other = claim.conditions.against_resolution or own
        for id, resolution in ((claim.model, own), (claim.against, other)):
            model = registered.models.get(id) if id is not None else None
            if model is not None and not model.unreleased:
                found[ToCount(model=model, resolution=resolution)] = None
    return list(found)


def _records(store: Registry, models: Iterable[ClaimedModel]) -> tuple[list[Record], list[str]]:
    """Those of the models, of no fallback; and those that cannot be read, with the reason."""
    names = {model.build for model in models}
    found: dict[str, None] = {}
    for row in store.latest():
        if row.model in names and row.backend == row.requested_backend:
            for each in store.history(row.model, row.device, row.backend, limit=NEWEST):
                found[each.id] = None
    records, unread = [], []
    for id in found:
        try:
            records.append(store.get(id))
        except LatbenchError as error:
            unread.append(f"record {id}: {error.message}")
    return records, unread


def available_backends(claims: Iterable[Claim]) -> set[str]:
    """The backends that claims name and that can run here."""
    named = {c.conditions.backend for c in claims if c.says.metric in TIMED}
    return {
        name for name in runner_names() if name in named and load_runner(name).probe().available
    }
