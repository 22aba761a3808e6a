"""Shares of operators in the latency, from a profile.

A profiler slows down what it measures, so its times are not the latency's. Its *shares* are used:
each operator gets its share of the latency that was measured without a profiler, and the ratio of
the two is stated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from latbench.schema.trace import Profile
from latbench.schema.value import Value


class OperatorShare(Value, frozen=True, kw_only=True):
    """One operator's part of the latency."""

    name: str
    kind: str
    unit: str | None
    precision: str | None
    share: float
    """Of the whole inference, from 0 to 1."""
    latency_ns: float
    """The share of the latency; of the profiled inference if there is no latency."""
    profiled_ns: int


class KindShare(Value, frozen=True, kw_only=True):
    """All operators of one kind."""

    kind: str
    operators: int
    share: float
    latency_ns: float
    """As for one operator."""


class ProfileShares(Value, frozen=True, kw_only=True):
    """A profile, scaled to the latency without profiling."""

    source: str
    calls: int
    latency_ns: float | None
    """Median without the profiler; ``None`` if the record has none."""
    profiled_ns: int
    """Mean of the profiled inferences."""
    ratio: float | None
    """``profiled_ns`` divided by the latency."""
    overlap: float | None
    """The sum of operators divided by the profiled inference if it is above 1: operators ran at the
    same time, or the profiler counted some twice. Shares are of the sum then."""
    outside: float
    """Share of the inference that no operator accounts for."""
    operators: tuple[OperatorShare, ...]
    """In the order of execution."""
    kinds: tuple[KindShare, ...]
    """The largest first."""


class OperatorPair(Value, frozen=True, kw_only=True):
    """One operator in two profiles; ``None`` where it does not occur."""

    name: str
    kind: str
    a_ns: float | None
    b_ns: float | None

    @property
    def difference_ns(self) -> float:
        """B minus A; an operator that does not occur takes no time."""
        return (self.b_ns or 0.0) - (self.a_ns or 0.0)


def profile_shares(profile: Profile, latency_ns: float | None) -> ProfileShares:
    """Scale a profile to the latency that was measured without it.

    ``latency_ns``: the record's median; ``None`` if it has none, and nothing is scaled.
    """
    spent = sum(operator.time_ns for operator in profile.operators)
    whole = max(profile.total_ns, spent, 1)
    base = whole if latency_ns is None else latency_ns
    kinds: Counter[str] = Counter()
    for operator in profile.operators:
        kinds[operator.kind] += operator.time_ns
    number = Counter(operator.kind for operator in profile.operators)
    return ProfileShares(
        source=profile.source,
        calls=profile.calls,
        latency_ns=latency_ns,
        profiled_ns=profile.total_ns,
        ratio=profile.total_ns / latency_ns if latency_ns else None,
        overlap=spent / profile.total_ns if spent > profile.total_ns > 0 else None,
        outside=(whole - spent) / whole,
        operators=tuple(
            OperatorShare(
                name=operator.name,
                kind=operator.kind,
                unit=operator.unit,
                precision=operator.precision,
                share=operator.time_ns / whole,
                latency_ns=base * operator.time_ns / whole,
                profiled_ns=operator.time_ns,
            )
            for operator in profile.operators
        ),
        kinds=tuple(
            KindShare(
                kind=kind,
                operators=number[kind],
                share=time_ns / whole,
                latency_ns=base * time_ns / whole,
            )
            for kind, time_ns in kinds.most_common()
        ),
    )


def pair_operators(a: ProfileShares, b: ProfileShares) -> tuple[OperatorPair, ...]:
    """Operators of two profiles by name, the largest difference first.

    Of several operators with one name, the first of A belongs to the first of B, and so on.
    """
    one, two = _by_name(a.operators), _by_name(b.operators)
    pairs = [
        OperatorPair(
            name=(one.get(key) or two[key]).name,
            kind=(one.get(key) or two[key]).kind,
            a_ns=one[key].latency_ns if key in one else None,
            b_ns=two[key].latency_ns if key in two else None,
        )
        for key in dict.fromkeys((*one, *two))
    ]
    return tuple(sorted(pairs, key=lambda pair: -abs(pair.difference_ns)))


def _by_name(operators: Sequence[OperatorShare]) -> dict[tuple[str, int], OperatorShare]:
    """Operators by name and number among those of that name. A number is not a name, so the
    kind becomes part of it."""
    seen: Counter[str] = Counter()
    found = {}
    for operator in operators:
        name = operator.name
        key = f"{operator.kind} #{name}" if name.isdecimal() else name
        found[key, seen[key]] = operator
        seen[key] += 1
    return found
