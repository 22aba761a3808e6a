"""What the operating systems of phones report about heat."""

from __future__ import annotations

from typing import Literal, get_args

ThermalStatus = Literal[
    "none", "light", "moderate", "severe", "critical", "emergency", "shutdown",
    "nominal", "fair", "serious",
]  # fmt: skip
STATUSES: tuple[ThermalStatus, ...] = get_args(ThermalStatus)
SCALES: tuple[tuple[ThermalStatus, ...], ...] = (
    ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown"),
    ("nominal", "fair", "serious", "critical"),
)
"""Android's statuses and Apple's, the coolest first."""


def is_throttled(status: ThermalStatus | None) -> bool:
    """Whether the system slows the device down by its own account: ``light`` or ``fair`` and above.

    Android's ``light`` slows down what the user does not notice, which a benchmark does. Apple's
    ``fair`` is the first state in which the system takes measures against heat.
    """
    return status is not None and all(status != scale[0] for scale in SCALES)


def is_at_most(status: ThermalStatus | None, limit: ThermalStatus) -> bool | None:
    """Whether the device is no hotter than ``limit``; ``None`` if the status is not known or is of
    another system."""
    scale = next((each for each in SCALES if status in each and limit in each), None)
    if scale is None or status is None:
        return None
    return scale.index(status) <= scale.index(limit)
