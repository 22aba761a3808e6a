"""Look up protocols by name, and override some of their numbers."""

from __future__ import annotations

import msgspec

from latbench.errors import UsageError, suggest
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import SHIPPED, WARM

LONGEST_TIMEOUT_S = 7 * 24 * 3600


def named_protocol(name: str) -> TimingProtocol:
    """Return the shipped protocol ``name@version``; without a version, the newest."""
    found = [p for p in SHIPPED if name in (p.label, p.name)]
    if not found:
        raise UsageError(
            f"unknown protocol {name!r}", hint=suggest(name, (p.label for p in SHIPPED))
        )
    return max(found, key=lambda protocol: protocol.version)


def changed_protocol(
    protocol: TimingProtocol,
    *,
    budget_s: float | None = None,
    target: float | None = None,
    processes: int | None = None,
    warmup_calls: int | None = None,
    calls: int | None = None,
    block_calls: int | None = None,
) -> TimingProtocol:
    """Return ``protocol`` with some numbers changed; the hash in the record then differs too.

    ``target`` is a relative half-width. A number of processes is exact, a number of warm-up calls
    is fixed, and a number of calls per session replaces the minimal duration.
    """
    changes: dict[str, object] = {}
    if budget_s is not None:
        _in_range("the budget", budget_s, LONGEST_TIMEOUT_S, "s")
        changes |= {"budget_ns": round(budget_s * 1e9)}
    if target is not None:
        _in_range("the target", target * 100, 100, "%")
        changes |= {"target_ppm": max(1, round(target * 1e6))}
        if protocol.max_processes == protocol.processes:
            changes |= {"max_processes": max(protocol.processes, WARM.max_processes)}
    if processes is not None:
        changes |= {"processes": processes, "max_processes": processes}
    if warmup_calls is not None:
        changes |= {"warmup": "fixed", "warmup_calls": warmup_calls, "warmup_ns": 0}
    cold = protocol.statistic.kind == "cold"
    if cold and not (calls is None and target is None):
        option = "--calls" if calls is not None else "--target"
        raise UsageError(
            f"{option} is invalid with {protocol.label}, which times only the first inference"
        )
    if calls is not None:
        # Sizes that are asked for are not looked for.
        changes |= {"min_calls": calls, "min_ns": 0, "max_sessions": msgspec.UNSET}
    if block_calls is not None:
        changes |= {"block_calls": block_calls, "block_ns": None}
    return msgspec.structs.replace(protocol, **changes)


def _in_range(what: str, value: float, end: float, unit: str) -> None:
    if not 0 < value < end:
        raise UsageError(f"{what} must be above 0 and below {end} {unit}, not {value:g} {unit}")


def check_protocol(protocol: TimingProtocol, timeout_s: float) -> None:
    """Reject invalid numbers. Raise :class:`UsageError`."""
    if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
        raise UsageError(
            f"the timeout must be above 0 and at most {LONGEST_TIMEOUT_S} s, not {timeout_s:g}"
        )
    for name in ("processes", "sessions", "block_calls"):
        if getattr(protocol, name) < 1:
            raise UsageError(f"{name.replace('_', ' ')} must be at least 1")
    for name in ("warmup_calls", "min_calls", "settle_calls"):
        if getattr(protocol, name) < 0:
            raise UsageError(f"{name.replace('_', ' ')} must not be negative")
    if protocol.statistic.kind == "cold" and protocol.target_ppm is not None:
        raise UsageError("a target precision is invalid for a cold-start protocol")
    most = protocol.max_sessions
    if not isinstance(most, msgspec.UnsetType) and most < protocol.sessions:
        raise UsageError(
            f"the largest number of sessions ({most}) must be at least the first one's "
            f"({protocol.sessions})"
        )
    if protocol.max_processes < protocol.processes:
        raise UsageError(
            f"the largest number of processes ({protocol.max_processes}) must be at least the "
            f"smallest ({protocol.processes})"
        )
