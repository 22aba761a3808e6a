"""Conditions that are needed to repeat a claim's measurement, and how many of them are known."""

from __future__ import annotations

from latbench.claims.model import Claim
from latbench.claims.statements import StatedIdentity, StatedScaling

PROCEDURE = ("protocol", "warmup_calls", "calls", "statistic")
TIMING_CONDITIONS = (
    *("device", "os", "backend", "backend_version", "compute_unit", "precision", "batch"),
    *("resolution", "threads", "input", *PROCEDURE),
)
METRIC_CONDITIONS: dict[str, tuple[str, ...]] = {
    "latency": TIMING_CONDITIONS,
    "throughput": TIMING_CONDITIONS,
    "parameters": ("counting",),
    "macs": ("resolution", "counting"),
    "size": ("counting",),
    "memory": ("device", "backend", "precision", "batch", "resolution"),
    "accuracy": ("resolution", "precision"),
    "time-steps": (),
    "training-memory": ("device", "batch", "precision"),
}


def applicable(claim: Claim) -> tuple[str, ...]:
    """Return the conditions that are needed to repeat the measurement."""
    if isinstance(claim.says, StatedIdentity | StatedScaling):
        return ()
    names = METRIC_CONDITIONS[claim.says.metric]
    # The number of host threads hardly affects a measurement on another compute unit.
    host = claim.conditions.compute_unit in (None, "cpu", "all", "cpu-and-gpu")
    return names if host else tuple(name for name in names if name != "threads")


def completeness(claim: Claim) -> tuple[int, int]:
    """Return how many of the applicable conditions are known, and how many apply."""
    names = applicable(claim)
    return sum(getattr(claim.conditions, name) is not None for name in names), len(names)
