"""Parse printed values into the interval that the digits stand for, in the metric's own unit.

``"0.78"`` stands for 0.775 to 0.785. A fraction (``"1/4"``) stands for all values nearer to one
fourth than to one third or one fifth: 1/4.5 to 1/3.5. A range (``"5-2500"``) stands for all values
in it.
"""

from __future__ import annotations

import re

from latbench.claims.model import Claim
from latbench.claims.statements import StatedRatio
from latbench.schema.value import Value

FAILED = "failed"
NUMBER = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?")
FRACTION = re.compile(r"1/([2-9]|[1-9][0-9])")
RANGE = re.compile(r"([0-9][0-9.]*)-([0-9][0-9.]*)")
COUNT = re.compile(r"([0-9][0-9.]*(?:-[0-9][0-9.]*)?) ?([KMG]?)")

COUNTS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
UNITS: dict[str, dict[str, float]] = {
    "latency": {"us": 1e3, "ms": 1e6, "s": 1e9},
    "throughput": {"images/s": 1.0},
    "parameters": COUNTS,
    "macs": COUNTS,
    "memory": {"B": 1.0, "kB": 1e3, "KB": 1024.0, "KiB": 1024.0, "MB": 1e6, "MiB": 1024.0**2},
    "accuracy": {"%": 1.0},
}
"""Latency is in nanoseconds, throughput in images per second, memory in bytes (KB has 1024 bytes,
as vendors of microcontrollers use it)."""


Quotient = tuple[float, float]


class PrintedValue(Value, frozen=True, kw_only=True):
    """A printed value and its interval. ``value`` is the middle, or ``None`` for a range."""

    value: float | None
    low: float
    high: float
    range: bool = False

    def scaled(self, scale: float) -> PrintedValue:
        """Return the value in another unit."""
        value = None if self.value is None else self.value * scale
        return PrintedValue(
            value=value, low=self.low * scale, high=self.high * scale, range=self.range
        )


def parse_figure(text: str) -> PrintedValue | None:
    """Parse a number, a fraction or a range of numbers; ``None`` for any other text."""
    if found := NUMBER.fullmatch(text):
        value, half = float(text), 0.5 * 10.0 ** -len(found[2] or "")
        return PrintedValue(value=value, low=value - half, high=value + half)
    if found := FRACTION.fullmatch(text):
        parts = int(found[1])
        return PrintedValue(value=1 / parts, low=1 / (parts + 0.5), high=1 / (parts - 0.5))
    if found := RANGE.fullmatch(text):
        ends = parse_figure(found[1]), parse_figure(found[2])
        if ends[0] is None or ends[1] is None or ends[0].value is None or ends[1].value is None:
            return None
        if ends[0].value < ends[1].value:
            return PrintedValue(value=None, low=ends[0].value, high=ends[1].value, range=True)
    return None


def parse_count(text: str) -> PrintedValue | None:
    """Parse a count: ``"4.8 M"`` or a range ``"291.1-295.6 M"``; a plain integer is exact."""
    if (found := COUNT.fullmatch(text)) is None or (figure := parse_figure(found[1])) is None:
        return None
    if not found[2] and figure.value is not None and "." not in text:
        return PrintedValue(value=figure.value, low=figure.value, high=figure.value)
    return figure.scaled(COUNTS[found[2]])


def stated_figure(claim: Claim, metric: str | None = None) -> PrintedValue | None:
    """Return the claim's value in the metric's own unit; a ratio has no unit."""
    text, unit = claim.figure, getattr(claim.says, "unit", "")
    figure = parse_figure(text) if text else None
    if figure is None or isinstance(claim.says, StatedRatio):
        return figure
    return figure.scaled(UNITS[metric or claim.says.metric][unit])


def quotients(says: StatedRatio) -> dict[str, Quotient]:
    """Return, for each possible reading, the range of the metric over the other model's.

    For a speed, the metric is the time of one inference: "25 % faster" is 0.75 if it refers to time
    and 0.8 if it refers to the rate. "200 % slower" can refer only to time.
    """
    figure = parse_figure(says.figure)
    if figure is None:
        return {}
    around = 1 + (says.around_percent or 0.0) / 100
    share = 100.0 if says.unit == "%" else 1.0
    low, high = figure.low / share, figure.high / share
    near = low / around, high * around
    found: dict[str, Quotient | None]
    if says.sense == "of":
        found = {"": near}
    elif says.unit == "x":
        found = {"": near if says.sense == "more" else _inverse(near)}
    else:
        more = 1 + near[0], 1 + near[1]
        # The "around" tolerance may exceed 100 % less and is cut at 0; the value itself may not.
        less = (max(0.0, 1 - near[1]), max(0.0, 1 - near[0])) if high <= 1 else None
        time, rate = (less, more) if says.sense == "less" else (more, less)
        if says.metric != "latency":
            found = {"": time}
        else:
            both = {"time": time, "rate": _inverse(rate) if rate is not None else None}
            found = {name: both[name] for name in both if says.reading in (name, "open")}
    # A quotient of rates is inverted to one of times, so it must not be 0.
    rates = says.metric == "throughput"
    return {
        name: ends
        for name, ends in found.items()
        if ends is not None and (ends[0] > 0 or (ends[0] == 0 and not rates))
    }


def _inverse(quotient: Quotient) -> Quotient | None:
    """Return the inverse range; ``None`` if it is unbounded."""
    return (1 / quotient[1], 1 / quotient[0]) if quotient[0] > 0 else None
