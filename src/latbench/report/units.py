"""The one formatter of durations and sizes."""

from __future__ import annotations

from math import floor, log10

UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"), (1, "ns"))


def duration(*values_ns: float, uncertainty_ns: float | None = None) -> tuple[tuple[str, ...], str]:
    """The values in one unit fit for the first of them, and the unit.

    ``uncertainty_ns`` sets the last digit: none is shown that it does not support. Without it three
    significant digits are shown.
    """
    scale, unit = next(
        ((scale, unit) for scale, unit in UNITS if abs(values_ns[0]) >= scale), UNITS[-1]
    )
    if uncertainty_ns is not None and uncertainty_ns > 0:
        digits = decimals(uncertainty_ns / scale)
    else:
        first = abs(values_ns[0]) / scale
        digits = 2 - floor(log10(first)) if first > 0 else 0
    digits = min(max(digits, 0), {"s": 9, "ms": 6, "µs": 3, "ns": 0}[unit])
    return tuple(f"{value / scale:.{digits}f}" for value in values_ns), unit


def decimals(uncertainty: float) -> int:
    """Digits after the point that a value of this uncertainty supports, six at most."""
    return 6 if uncertainty <= 1e-6 else min(max(-floor(log10(uncertainty)), 0), 6)


def time(value_ns: float) -> str:
    """One duration with its unit, three significant digits."""
    (text,), unit = duration(value_ns)
    return f"{text} {unit}"


def seconds(value_s: float) -> str:
    """A duration that a person waits for, to the second or minute."""
    if value_s < 120:
        return f"{max(1, round(value_s))} s"
    return f"{round(value_s / 60)} min" if value_s < 7200 else f"{value_s / 3600:.1f} h"


def size(value_bytes: int) -> str:
    """A size in decimal units (1 MB = 1,000,000 bytes), as vendors and papers give them."""
    for scale, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if value_bytes >= scale:
            return f"{value_bytes / scale:.3g} {unit}"
    return f"{value_bytes} B"
