"""Which stored records claims are checked with: chosen from the list, before any is decoded.

Of a thousand records of one model most are of other conditions, or older than what counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.quantities import FAILED
from latbench.claims.statements import TIMED
from latbench.errors import LatbenchError

if TYPE_CHECKING:
    from latbench.schema.record import Record
    from latbench.store.registry import Registry, Row

LISTED = 500
"""Newest records of one model on one device and backend among which those below are looked for."""
NEWEST = 20
"""Of equal conditions, so many are compared with those of another model."""
ALIKE = 5
"""And a value is checked with so many."""

Group = tuple[str, str, str]
"""Model as it is built, device, backend."""


def read_for(
    claims: Iterable[Claim], models: Mapping[str, ClaimedModel], store: Registry
) -> tuple[list[Record], list[str]]:
    """The records that may say something of the claims; and those that cannot be read, and why.

    None of a fallback is among them.
    """
    timed = [c for c in claims if c.says.metric in TIMED and not (c.unverifiable or c.out_of_scope)]
    rows = _rows(timed, models, store)
    wanted: dict[str, None] = {}
    for claim in timed:
        for row in _of_claim(claim, models, rows):
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
            for each in store.history(row.model, row.device, row.backend, limit=LISTED)
            if each.backend == each.requested_backend
        )
        for row in store.latest()
        if row.model in names and row.backend == row.requested_backend
    }


def _of_claim(
    claim: Claim, models: Mapping[str, ClaimedModel], rows: Mapping[Group, tuple[Row, ...]]
) -> Iterable[Row]:
    mine, had = models[claim.model].build, claim.conditions
    if mine is None:
        return
    if claim.against is None:
        of_place = rows.get((mine, had.device or "", had.backend or ""), ())
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
    """Of each input, precision, number of threads, protocol and options; ``rows`` are the newest
    first."""
    seen: dict[tuple[object, ...], int] = defaultdict(int)
    for row in rows:
        shape = [int(size) for size in row.input.split("x")] if row.input else []
        if shape and batch not in (None, shape[0]):
            continue
        if shape and resolution is not None and shape.count(resolution) < 2:
            continue
        key = (row.input, row.precision, row.threads, row.protocol, row.options)
        seen[key] += 1
        if seen[key] <= most:
            yield row
