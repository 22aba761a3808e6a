"""Whether a record was taken under the conditions that a claim names."""

from __future__ import annotations

from collections.abc import Mapping

from latbench.analysis.settings import (
    batch,
    own_options,
    precision_of,
    resolution,
    settings,
    threads,
    unit_of,
)
from latbench.claims.model import Claim
from latbench.schema.record import Record

PLACING = ("provider", "provider_options", "strict_placement", "delegate", "device", "mode")
"""Options that a claim's ``provider`` speaks of, whatever its backend calls it."""


def condition_mismatches(record: Record, claim: Claim, *, other: bool = False) -> tuple[str, ...]:
    """Conditions that the claim names and the record does not meet, with both values; ``other``:
    those of the model that it is compared with."""
    wanted = claim.conditions
    size = (wanted.against_resolution if other else None) or wanted.resolution
    pairs: list[tuple[str, object, object]] = [
        ("device", wanted.device, record.device.id),
        ("backend", wanted.backend, record.backend),
        ("precision", wanted.precision, precision_of(record)),
        ("batch", wanted.batch, batch(record)),
        ("resolution", size and (size, size), resolution(record)),
        ("threads", wanted.threads and str(wanted.threads), threads(record)),
    ]
    # Backends call it by different names: provider, delegate, mode.
    named = (wanted.provider or "").lower() in {each.lower() for each in settings(record).values()}
    pairs.append(("provider", wanted.provider, wanted.provider if named else "another"))
    found = [f"{n}: {_shown(a)} and {_shown(b)}" for n, a, b in pairs if a and a != b]
    return (*found, *_unit_unlike(record, wanted.compute_unit))


def unlike_each_other(one: Record, two: Record, claim: Claim) -> tuple[str, ...]:
    """Conditions in which two models were timed that differ where the claim names none, with both
    values."""
    own = one.request.resolution is None and two.request.resolution is None
    free = claim.conditions.against_resolution is not None or own
    pairs: list[tuple[str, object, object]] = [
        ("backend", one.backend, two.backend),
        ("precision", precision_of(one), precision_of(two)),
        ("batch", batch(one), batch(two)),
        ("threads", threads(one), threads(two)),
        ("options", _listed(own_options(one)), _listed(own_options(two))),
        *([] if free else [("resolution", resolution(one), resolution(two))]),
    ]
    return tuple(f"{n}: {_shown(a)} and {_shown(b)}" for n, a, b in pairs if a != b)


def undeclared_options(record: Record, claim: Claim) -> dict[str, str]:
    """Those of which the claim says nothing."""
    named = claim.conditions
    said = set(PLACING) if named.provider is not None else set()
    said |= {"compute_units"} if named.compute_unit is not None else set()
    return {key: value for key, value in own_options(record).items() if key not in said}


def left_open(claim: Claim, record: Record) -> dict[str, str]:
    """Of the conditions that the source leaves open and that matter most, what the record had."""
    had = {"precision": precision_of(record), "threads": threads(record)}
    return {name: value for name in claim.open if (value := had.get(name)) is not None}


def _unit_unlike(record: Record, unit: str | None) -> tuple[str, ...]:
    """Whether it ran elsewhere than on the named unit, or nobody can say."""
    if unit is None:
        return ()
    if unit in ("all", "cpu-and-gpu"):
        # What the runtime was free to use, not what it used: Core ML's own setting.
        allowed = settings(record).get("compute_units")
        wanted = {"all": "all", "cpu-and-gpu": "cpu_and_gpu"}[unit]
        return () if allowed == wanted else (f"compute unit: {unit} and {allowed or 'another'}",)
    placement = record.runtime.placement if record.runtime else None
    if placement is None or placement.known == "unknown":
        # A backend that has nothing but the CPU need not say so.
        return () if unit == "cpu" else (f"compute unit: {unit}, and what ran where is not known",)
    fits = _mostly(placement.units, unit)
    return () if fits else (f"compute unit: {unit} and {', '.join(placement.units)}",)


def _mostly(units: Mapping[str, int | None], unit: str) -> bool:
    """Whether the unit computes more than half of the operators, the CPU the rest; all of them
    where it is the CPU, or where nobody counted."""
    used = {name: operators for name, operators in units.items() if operators != 0}
    on = {name: count for name, count in used.items() if unit_of(name) == unit}
    rest = {name: count for name, count in used.items() if name not in on}
    if not on or not rest:
        return bool(on)
    counted = all(count is not None for count in used.values())
    ours, others = (sum(count or 0 for count in part.values()) for part in (on, rest))
    beside = all(unit_of(name) == "cpu" for name in rest)
    return unit != "cpu" and counted and beside and ours > others


def _listed(options: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "none"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value)) if value[0] != value[1] else str(value[0])
    return str(value)
