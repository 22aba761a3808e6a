"""Scale the times of operators, which a profiler slows down, to the latency without it."""

from __future__ import annotations

from typing import NamedTuple

from latbench.schema.trace import Profile


class OperatorShare(NamedTuple):
    """All operators of one kind in one inference."""

    kind: str
    operators: int
    share: float
    """Of the profiled inference, from 0 to 1."""
    time_ns: float | None
    """That share of the latency; ``None`` without a latency."""


def operator_shares(profile: Profile, latency_ns: float | None) -> list[OperatorShare]:
    """Return the share of each kind of operator, largest first.

    The shares sum to 1 at most: the rest is between the operators. Operators that run at the same
    time may take longer than the inference; their shares are of their sum.
    """
    kinds: dict[str, tuple[int, int]] = {}
    for operator in profile.operators:
        number, total = kinds.get(operator.kind, (0, 0))
        kinds[operator.kind] = (number + 1, total + operator.time_ns)
    whole = max(profile.total_ns, sum(total for _, total in kinds.values()), 1)
    found = [
        OperatorShare(
            kind=kind,
            operators=number,
            share=total / whole,
            time_ns=None if latency_ns is None else latency_ns * total / whole,
        )
        for kind, (number, total) in kinds.items()
    ]
    return sorted(found, key=lambda each: -each.share)
