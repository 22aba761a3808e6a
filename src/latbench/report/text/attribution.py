"""The attribution of a latency ratio to factors, as lines of text."""

from __future__ import annotations

from math import factorial, floor, log10

from latbench.attribution.shapley import Account, Part, Share
from latbench.report.text.layout import labeled, table
from latbench.report.units import time

DESIGNS = {
    "factorial": "all {configurations} configurations, {rounds} times; contributions are averaged "
    "over all orders of switching",
    "some orders": "{configurations} configurations, {rounds} times; contributions are averaged "
    "over the {orders} of switching that could be measured",
    "one at a time": "{configurations} configurations, {rounds} times, one factor at a time from "
    "either side; interactions are in the residual",
    "tried": "no factor was switched; plausible values of unknown settings were measured, "
    "{rounds} times",
    "none": "no factor was measured",
}
SHOWN = (
    *("device", "backend", "backend version", "compute unit", "precision", "model form", "threads"),
    *("batch", "resolution", "input shape", "input", "protocol", "regime", "statistic"),
)
"""Equal settings that are listed; digests and tool versions are in the JSON."""
WIDEST = 32
"""Maximum characters of a value in a column."""


def account_lines(found: Account, registry: str | None, width: int | None = None) -> list[str]:
    """The ratio, both latencies, one row per factor, their product and the residual."""
    lines = [
        f"B / A {_ratio(found.ratio)}",
        labeled("A", f"{found.a}, {time(found.a_ns)}{_again(found.a_again_ns)}"),
        labeled("B", f"{found.b}, {time(found.b_ns)}{_again(found.b_again_ns)}"),
    ]
    rows = [_row(part) for part in found.parts]
    rows.append(("explained", "", "", share_text(found.explained), ""))
    rows.append(("residual", "", "", share_text(found.residual), _unsaid(found)))
    lines += table(("factor", "A", "B", "contribution", "evidence"), rows, width)
    if found.alike:
        alike = ", ".join(f"{name} {value}" for name, value in found.alike.items() if name in SHOWN)
        lines.append(labeled("equal", alike))
    lines.append(labeled("measured", _design(found)))
    lines += [labeled("note", note) for note in found.notes]
    if found.records:
        where = f" in {registry}" if registry else ""
        span = f"{found.records[0]} to {found.records[-1]}"
        lines.append(labeled("records", f"{len(found.records)}, {span}{where}"))
    return lines


def _design(found: Account) -> str:
    """What was measured, and how the contributions were computed."""
    how: str = found.design
    if how == "none" and found.rounds:
        how = "tried"
    if how == "factorial":
        switched = sum(part.share is not None for part in found.parts)
        how = how if found.orders == factorial(switched) else "some orders"
    return DESIGNS[how].format(
        configurations=found.configurations,
        rounds=found.rounds,
        orders="one order" if found.orders == 1 else f"{found.orders} orders",
    )


def _again(ns: float | None) -> str:
    return "" if ns is None else f"; measured again {time(ns)}"


def _row(part: Part) -> tuple[str, str, str, str, str]:
    value = "" if part.share is None else share_text(part.share)
    if part.range is not None:
        value = f"{_ratio(part.range[0])} to {_ratio(part.range[1])}"
    return part.factor, _short(part.a), _short(part.b), value, part.why


def _short(value: str | None) -> str:
    if value is None:
        return "unknown"
    return value if len(value) <= WIDEST else f"{value[: WIDEST - 1]}…"


def share_text(share: Share) -> str:
    """Format a share with as many digits as its interval supports."""
    if share.interval is None:
        return _ratio(share.ratio)
    low, high = share.interval
    # Two digits of the ratio at least, and five at most, whatever the interval.
    first = floor(log10(share.ratio))
    half = (high - low) / 2
    digits = 4 - first
    if half > 0:
        digits = min(max(-floor(log10(half)), 1 - first), digits)
    shown = [f"{round(x, digits):.{max(digits, 0)}f}" for x in (share.ratio, low, high)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _ratio(ratio: float) -> str:
    return f"{ratio:.3g}"


def _unsaid(found: Account) -> str:
    """What else the residual contains."""
    rest = [part.factor for part in found.parts if part.share is None]
    return ", ".join([*rest, "drift between A, B and now", "noise"])
