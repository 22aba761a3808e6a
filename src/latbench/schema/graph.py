"""Results of building a network at several sizes, or with and without a method."""

from __future__ import annotations

from itertools import pairwise
from math import log
from typing import Literal

from latbench.schema.value import Value

Over = Literal["tokens", "pixels", "batch", "time-steps"]
Method = Literal["scale-and-shift", "averaged-weights"]


class Growth(Value, frozen=True, kw_only=True):
    """MACs at several sizes, including products of two activations."""

    over: Over
    sizes: tuple[int, ...]
    """Ascending: pixels along a side, or images in a batch."""
    macs: tuple[int, ...]

    def sound(self) -> bool:
        """Whether exponents can be computed."""
        ascending = all(0 < one < two for one, two in pairwise(self.sizes))
        return len(self.sizes) == len(self.macs) >= 3 and ascending and min(self.macs) > 0

    def exponents(self) -> tuple[float, ...]:
        """Return, between each two sizes, the exponent with which MACs grow.

        Tokens are patches, whose number grows like that of pixels: with the square of the side.
        """
        power = 1 if self.over == "batch" else 2
        steps = zip(pairwise(self.sizes), pairwise(self.macs), strict=True)
        return tuple(log(m2 / m1) / (power * log(s2 / s1)) for (s1, s2), (m1, m2) in steps)


class GraphSize(Value, frozen=True, kw_only=True):
    """Size of a network in its deploy form."""

    operators: int
    parameters: int
    macs: int


class MergedGraphs(Value, frozen=True, kw_only=True):
    """One network without a method, with it, and with it merged, each in deploy form."""

    plain: GraphSize
    merged: GraphSize
    unmerged_operators: int
    """Operators with the method applied. It must be larger, or the comparison could not fail."""
    difference: str | None = None
    """First difference between the merged and the plain graph in operators, connections, shapes or
    constants; ``None`` if only the values of weights differ."""
    apart: float | None = None
    """Largest difference between outputs of the method applied and merged, in float64, relative to
    the largest output; ``None`` if merging changes the computed function on purpose."""


class MergeCheck(Value, frozen=True, kw_only=True):
    """Effect of a method on one network."""

    host: str
    built: MergedGraphs | None = None
    missing: str | None = None
    """Why it could not be built."""
