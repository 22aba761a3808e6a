"""Which conditions a claim needs to be repeated, and how many of them are known."""

from __future__ import annotations

from latbench.claims.model import Claim
from latbench.claims.statements import StatedIdentity, StatedScaling

HOW = ("protocol", "warmup_calls", "calls", "statistic")
OF_TIME = (
    *("device", "os", "backend", "backend_version", "compute_unit", "precision", "batch"),
    *("resolution", "threads", "input", *HOW),
)
OF_METRIC: dict[str, tuple[str, ...]] = {
    "latency": OF_TIME,
    "throughput": OF_TIME,
    "parameters": ("counting",),
    "macs": ("resolution", "counting"),
    "size": ("counting",),
    "memory": ("device", "backend", "precision", "batch", "resolution"),
    "accuracy": ("resolution", "precision"),
    "time-steps": (),
    "training-memory": ("device", "batch", "precision"),
}


def applicable(claim: Claim) -> tuple[str, ...]:
    """The conditions without which the figure cannot be repeated."""
    if isinstance(claim.says, StatedIdentity | StatedScaling):
        return ()
    names = OF_METRIC[claim.says.metric]
    # Threads of the host say little of what another unit computes.
    host = claim.conditions.compute_unit in (None, "cpu", "all", "cpu-and-gpu")
    return names if host else tuple(name for name in names if name != "threads")


def completeness(claim: Claim) -> tuple[int, int]:
    """How many of the conditions that matter are known, and how many there are."""
    names = applicable(claim)
    return sum(getattr(claim.conditions, name) is not None for name in names), len(names)
