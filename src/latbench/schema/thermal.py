"""What the operating systems of phones report about heat."""

from __future__ import annotations

from typing import Literal, get_args

AndroidStatus = Literal["none", "light", "moderate", "severe", "critical", "emergency", "shutdown"]
AppleStatus = Literal["nominal", "fair", "serious", "critical"]
ThermalStatus = Literal[
    "none", "light", "moderate", "severe", "critical", "emergency", "shutdown",
    "nominal", "fair", "serious",
]  # fmt: skip
STATUSES: tuple[ThermalStatus, ...] = get_args(ThermalStatus)
RANKS: dict[str, int] = {
    **{name: rank for rank, name in enumerate(get_args(AppleStatus))},
    **{name: rank for rank, name in enumerate(get_args(AndroidStatus))},
}
"""How hot: 0 is neither throttled nor about to be. ``critical`` is 4 on either system's scale of
names, above all that Apple's has."""


def is_throttled(status: ThermalStatus | None) -> bool:
    """Whether the system slows the device down by its own account: ``light`` or ``fair`` and above.

    Android's ``light`` slows down what the user does not notice, which a benchmark does. Apple's
    ``fair`` is the first state in which the system takes measures against heat.
    """
    return status is not None and RANKS[status] > 0
