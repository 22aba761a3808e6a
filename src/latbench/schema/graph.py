"""What was found by building a network at several sizes, or without a method and with it."""

from __future__ import annotations

from itertools import pairwise
from math import log
from typing import Literal

from latbench.schema.value import Value

Over = Literal["tokens", "pixels", "batch", "time-steps"]
Method = Literal["scale-and-shift", "averaged-weights"]


class Growth(Value, frozen=True, kw_only=True):
    """MACs at several sizes, products of two activations included."""

    over: Over
    sizes: tuple[int, ...]
    """Ascending: pixels along a side, or images in a batch."""
    macs: tuple[int, ...]

    def sound(self) -> bool:
        """Whether exponents can be taken."""
        ascending = all(0 < one < two for one, two in pairwise(self.sizes))
        return len(self.sizes) == len(self.macs) >= 3 and ascending and min(self.macs) > 0

    def exponents(self) -> tuple[float, ...]:
        """Between each two sizes, the power of the amount with which MACs grow.

        Tokens are patches, whose number grows as that of pixels does: with the square of a side.
        """
        power = 1 if self.over == "batch" else 2
        steps = zip(pairwise(self.sizes), pairwise(self.macs), strict=True)
        return tuple(log(m2 / m1) / (power * log(s2 / s1)) for (s1, s2), (m1, m2) in steps)


class GraphSize(Value, frozen=True, kw_only=True):
    """Of a network in the form in which it is deployed."""

    operators: int
    parameters: int
    macs: int


class MergedGraphs(Value, frozen=True, kw_only=True):
    """One network without a method, with it, and with it merged, each in deploy form."""

    plain: GraphSize
    merged: GraphSize
    unmerged_operators: int
    """With the method applied: more, or the comparison could not fail."""
    difference: str | None = None
    """Where the merged graph first differs from the plain one in operators, connections, shapes or
    constants; ``None``: in nothing but the weights' values."""
    apart: float | None = None
    """Largest difference between outputs of the method applied and merged, in float64, relative to
    the largest output; ``None`` where merging means to compute something else."""


class MergeCheck(Value, frozen=True, kw_only=True):
    """What a method did to one network."""

    host: str
    built: MergedGraphs | None = None
    missing: str | None = None
    """Why it could not be built."""
