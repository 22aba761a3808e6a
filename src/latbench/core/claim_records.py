"""Which stored records a claim may be checked with.

A record of a fallback backend never counts: it says nothing of the backend that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from latbench.core.answers import Bench
from latbench.core.claims import Claim
from latbench.core.compare import incomparable
from latbench.core.records import Record

MADE_UP = frozenset({"fake"})
"""Backends that execute nothing: their times are for tests, and say nothing of any claim."""


def is_of(record: Record, id: str | None, bench: Bench) -> bool:
    """Whether the record is of that model, and can be used at all."""
    model = bench.models.get(id) if id is not None else None
    return (
        model is not None
        and model.build is not None
        and record.model.name == model.build
        # A head of other classes is another model; records of such builds cannot be told apart.
        and model.classes is None
        and record.backend not in MADE_UP
        and record.fallback is None
        and record.backend == record.request.backend
    )


def unlike(record: Record, claim: Claim) -> tuple[str, ...]:
    """Conditions that the claim names and the record does not meet, with both values."""
    wanted, shape = claim.conditions, shape_of(record)
    settings = record.runtime.settings if record.runtime else {}
    pairs: list[tuple[str, object, object]] = [
        ("device", wanted.device, record.device.id),
        ("backend", wanted.backend, record.backend),
        ("precision", wanted.precision, precision(record)),
        ("batch", wanted.batch, shape[0] if shape else record.model.batch or 1),
        ("resolution", wanted.resolution, max(shape[2:]) if len(shape) == 4 else None),
    ]
    if record.runtime is not None:
        pairs.append(("threads", wanted.threads and str(wanted.threads), settings.get("threads")))
        # Backends call it by different names: provider, delegate, mode.
        named = (wanted.provider or "").lower() in {each.lower() for each in settings.values()}
        pairs.append(("provider", wanted.provider, wanted.provider if named else "another"))
    if record.artifact is None:
        # A failure before there was a file: its conditions are those that were asked for.
        pairs = [pair for pair in pairs if pair[0] != "resolution"]
    found = [f"{n}: {a} and {b}" for n, a, b in pairs if a is not None and a != b]
    return (*found, *_unit_unlike(record, wanted.compute_unit))


def pairs_of(claim: Claim, records: Sequence[Record], bench: Bench) -> list[tuple[Record, Record]]:
    """(other model, claim's model): timed in turn first, then the newest."""
    ours = [r for r in records if is_of(r, claim.model, bench) and _same_input(r, claim, False)]
    theirs = [r for r in records if is_of(r, claim.against, bench) and _same_input(r, claim, True)]
    found = [
        (other, mine)
        for mine in ours
        for other in theirs
        if mine.backend == other.backend
        and precision(mine) == precision(other)
        and not incomparable(other, mine)
    ]
    return sorted(
        found,
        key=lambda pair: (_in_turn(pair), pair[1].created_unix_ns, pair[0].created_unix_ns),
        reverse=True,
    )


def left_open(claim: Claim, record: Record) -> tuple[str, ...]:
    """What the source leaves open and the record does not."""
    had: Mapping[str, object] = {
        "precision": precision(record),
        "threads": record.runtime.settings.get("threads") if record.runtime else None,
    }
    return tuple(
        f"the source leaves {name} open: this is {had[name]}"
        for name in claim.open
        if had.get(name) is not None
    )


def precision(record: Record) -> str:
    """In which it was computed."""
    settings = record.runtime.settings if record.runtime else {}
    made = record.artifact.precision if record.artifact else record.request.precision
    return settings.get("precision", made)


def shape_of(record: Record) -> tuple[int, ...]:
    """Of its input; empty where there was no artifact."""
    return record.artifact.inputs[0].shape if record.artifact and record.artifact.inputs else ()


def place_of(record: Record) -> str:
    """Device and backend."""
    return f"{record.device.id}, {record.backend}"


def _unit_unlike(record: Record, unit: str | None) -> tuple[str, ...]:
    """Whether it ran elsewhere than on the named unit, or nobody can say."""
    placement = record.runtime.placement if record.runtime else None
    if unit is None or unit in ("all", "cpu-and-gpu") or record.runtime is None:
        return ()
    if placement is None or placement.known == "unknown":
        return () if unit == "cpu" else (f"compute unit: {unit}, and what ran where is not known",)
    host = ["cpu" in name.lower() for name in placement.units]
    fits = all(host) if unit == "cpu" else not all(host)
    return () if fits else (f"compute unit: {unit} and {', '.join(placement.units)}",)


def _in_turn(pair: tuple[Record, Record]) -> bool:
    a, b = pair[0].interleaved, pair[1].interleaved
    return a is not None and b is not None and a.comparison == b.comparison


def _same_input(record: Record, claim: Claim, other: bool) -> bool:
    wanted, shape = claim.conditions, shape_of(record)
    size = (wanted.against_resolution if other else None) or wanted.resolution
    if len(shape) != 4:
        return False
    return (wanted.batch in (None, shape[0])) and (size in (None, max(shape[2:])))
