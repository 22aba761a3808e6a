"""Selection of stored records for a check of claims, from the list, before any is decoded.

Of a thousand records of one model, most have other conditions or are older than what counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.quantities import FAILED
from latbench.claims.statements import TIMED
from latbench.errors import LatbenchError

if TYPE_CHECKING:
    from latbench.schema.record import Record
    from latbench.store.listing import Row
    from latbench.store.registry import Registry

PER_GROUP = 500
"""Number of newest records of one model on one device and backend that are considered."""
NEWEST = 20
"""Number of records under equal conditions that are compared with those of another model."""
ALIKE = 5
"""Number of records under equal conditions that a published value is checked with."""

Group = tuple[str, str, str]
"""Name that builds the model, device, backend."""


def read_for(
    claims: Iterable[Claim],
    models: Mapping[str, ClaimedModel],
    store: Registry,
    *,
    described: Collection[str],
) -> tuple[list[Record], list[str]]:
    """Return the records that may be evidence for the claims, and messages on unreadable ones.

    Records of a fallback backend are left out, and of other devices that are ``described``. One
    without a row of facts may be the user's own, of the same hardware as the claim's.
    """
    timed = [c for c in claims if c.says.metric in TIMED and not (c.unverifiable or c.out_of_scope)]
    rows = _rows(timed, models, store)
    wanted: dict[str, None] = {}
    for claim in timed:
        for row in _of_claim(claim, models, rows, described):
            wanted[row.id] = None
    records, unread = [], []
    for id in wanted:
        try:
            records.append(store.get(id))
        except LatbenchError as error:
            unread.append(f"record {id}: {error.message}")
    return records, unread


def _rows(
    claims: Sequence[Claim], models: Mapping[str, ClaimedModel], store: Registry
) -> dict[Group, tuple[Row, ...]]:
    names = {models[id].build for c in claims for id in (c.model, c.against) if id is not None}
    return {
        (row.model, row.device, row.backend): tuple(
            each
            for each in store.history(row.model, row.device, row.backend, limit=PER_GROUP)
            if each.backend == each.requested_backend
        )
        for row in store.latest()
        if row.model in names and row.backend == row.requested_backend
    }


def _of_claim(
    claim: Claim,
    models: Mapping[str, ClaimedModel],
    rows: Mapping[Group, tuple[Row, ...]],
    described: Collection[str],
) -> Iterable[Row]:
    """Rows that may be of the claim's device: a user's own device may be the same as it."""
    mine, had = models[claim.model].build, claim.conditions
    if mine is None:
        return
    if claim.against is None:
        of_place = tuple(
            row
            for (model, device, backend), found in rows.items()
            if (model, backend) == (mine, had.backend or "")
            and (device == had.device or device not in described)
            for row in found
        )
        if claim.figure != FAILED:
            of_place = tuple(row for row in of_place if row.status == "measured")
        yield from _newest(of_place, had.batch, had.resolution, ALIKE)
        return
    other = models[claim.against].build if claim.against in models else None
    for (model, device, backend), found in rows.items():
        if model == mine and other is not None and (other, device, backend) in rows:
            theirs = rows[other, device, backend]
            yield from _newest(found, had.batch, had.resolution, NEWEST)
            size = had.against_resolution or had.resolution
            yield from _newest(theirs, had.batch, size, NEWEST)


def _newest(
    rows: Sequence[Row], batch: int | None, resolution: int | None, most: int
) -> Iterable[Row]:
    """The newest ``most`` rows under each set of conditions; ``rows`` are the newest first.

    Conditions are the input, the precision, the number of threads, the protocol and the options.
    """
    seen: dict[tuple[object, ...], int] = defaultdict(int)
    for row in rows:
        shape = _sizes(row.input)
        if shape and batch not in (None, shape[0]):
            continue
        if shape and resolution is not None and shape.count(resolution) < 2:
            continue
        key = (row.input, row.precision, row.threads, row.protocol, row.options)
        seen[key] += 1
        if seen[key] <= most:
            yield row


def _sizes(shape: str | None) -> list[int]:
    """The sizes in ``1x3x224x224``; none of a scalar, or if the input is not known."""
    return [int(size) for size in (shape or "").split("x") if size.isdecimal()]
