"""Compare the conditions of a record with those that a claim names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

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
from latbench.schema.value import Value

PLACING = ("provider", "provider_options", "strict_placement", "delegate", "device", "mode")
"""Options that a claim's ``provider`` may refer to; their names depend on the backend."""


Condition = Literal[
    "device",
    "backend",
    "precision",
    "batch",
    "resolution",
    "threads",
    "options",
    "provider",
    "compute unit",
]


class Mismatch(Value, frozen=True, kw_only=True):
    """A condition in which a record differs from a claim, or from another record."""

    condition: Condition
    detail: str
    """Both values as text."""

    @property
    def text(self) -> str:
        """The condition and both values."""
        return f"{self.condition}: {self.detail}"


def condition_mismatches(
    record: Record, claim: Claim, *, other: bool = False
) -> tuple[Mismatch, ...]:
    """Return the conditions that the claim names and the record does not meet.

    With ``other``, use the conditions of the model that the claim's model is compared with.
    """
    wanted = claim.conditions
    size = (wanted.against_resolution if other else None) or wanted.resolution
    pairs: list[tuple[Condition, object, object]] = [
        ("device", wanted.device, record.device.hardware),
        ("backend", wanted.backend, record.backend),
        ("precision", wanted.precision, precision_of(record)),
        ("batch", wanted.batch, batch(record)),
        ("resolution", size and (size, size), resolution(record)),
        ("threads", wanted.threads and str(wanted.threads), threads(record)),
    ]
    # The option's name depends on the backend: provider, delegate, mode.
    named = (wanted.provider or "").lower() in {each.lower() for each in settings(record).values()}
    pairs.append(("provider", wanted.provider, wanted.provider if named else "another"))
    found = [_mismatch(name, a, b) for name, a, b in pairs if a and a != b]
    unit = _unit_mismatch(record, wanted.compute_unit)
    return (*found, *([] if unit is None else [unit]))


def unlike_each_other(one: Record, two: Record, claim: Claim) -> tuple[Mismatch, ...]:
    """Return conditions that differ between records of two models and that the claim leaves
    open."""
    own = one.request.resolution is None and two.request.resolution is None
    free = claim.conditions.against_resolution is not None or own
    pairs: list[tuple[Condition, object, object]] = [
        ("backend", one.backend, two.backend),
        ("precision", precision_of(one), precision_of(two)),
        ("batch", batch(one), batch(two)),
        ("threads", threads(one), threads(two)),
        ("options", _listed(own_options(one)), _listed(own_options(two))),
    ]
    if not free:
        pairs.append(("resolution", resolution(one), resolution(two)))
    return tuple(_mismatch(name, a, b) for name, a, b in pairs if a != b)


def _mismatch(condition: Condition, a: object, b: object) -> Mismatch:
    return Mismatch(condition=condition, detail=f"{_shown(a)} and {_shown(b)}")


def undeclared_options(record: Record, claim: Claim) -> dict[str, str]:
    """Return the record's own options that the claim does not mention."""
    named = claim.conditions
    said = set(PLACING) if named.provider is not None else set()
    said |= {"compute_units"} if named.compute_unit is not None else set()
    return {key: value for key, value in own_options(record).items() if key not in said}


def left_open(claim: Claim, record: Record) -> dict[str, str]:
    """Return the record's precision and threads where the source leaves them open."""
    had = {"precision": precision_of(record), "threads": threads(record)}
    return {name: value for name in claim.open if (value := had.get(name)) is not None}


def _unit_mismatch(record: Record, unit: str | None) -> Mismatch | None:
    """Return the mismatch if the record ran on another unit, or its placement is unknown."""
    detail: str | None = None
    placement = record.runtime.placement if record.runtime else None
    if unit in ("all", "cpu-and-gpu"):
        # Core ML's setting limits the units that the runtime may use; it does not name those used.
        allowed = settings(record).get("compute_units")
        if allowed != {"all": "all", "cpu-and-gpu": "cpu_and_gpu"}[unit]:
            detail = f"{unit} and {allowed or 'another'}"
    elif unit is not None and (placement is None or placement.known == "unknown"):
        # A backend that supports only the CPU does not have to report it.
        if unit != "cpu":
            detail = f"{unit}, and the placement is unknown"
    elif unit is not None and placement is not None and not _mostly(placement.units, unit):
        detail = f"{unit} and {', '.join(placement.units)}"
    return None if detail is None else Mismatch(condition="compute unit", detail=detail)


def _mostly(units: Mapping[str, int | None], unit: str) -> bool:
    """Whether the unit computes more than half of the operators and the CPU the rest.

    If the unit is the CPU, or operators were not counted, it must compute all of them.
    """
    used = {name: operators for name, operators in units.items() if operators != 0}
    on = {name: count for name, count in used.items() if unit_of(name) == unit}
    rest = {name: count for name, count in used.items() if name not in on}
    if not on or not rest:
        return bool(on)
    counted = all(count is not None for count in used.values())
    ours, others = (sum(count or 0 for count in part.values()) for part in (on, rest))
    rest_on_cpu = all(unit_of(name) == "cpu" for name in rest)
    return unit != "cpu" and counted and rest_on_cpu and ours > others


def _listed(options: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "none"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value)) if value[0] != value[1] else str(value[0])
    return str(value)
