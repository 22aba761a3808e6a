"""Whether the machine runs on a battery, and how full it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latbench.host.linux import number, read

SUPPLIES = "sys/class/power_supply"
STATES = ("Charging", "Discharging", "Full", "Not charging")
"""What the kernel calls the states of batteries, apart from ``Unknown``."""


@dataclass(frozen=True, kw_only=True)
class Power:
    """What the system reports about its supply; ``None`` if it does not."""

    on_battery: bool | None = None
    battery_percent: int | None = None
    """Mean of the batteries that run the machine."""
    charging: bool | None = None
    """Whether a battery is being charged."""


def linux_power(root: Path) -> Power:
    """Read /sys/class/power_supply. ``root`` is prepended to it."""
    online: list[int] = []
    states: list[str] = []
    levels: list[int] = []
    for supply in sorted((root / SUPPLIES).glob("*")):
        if (read(supply / "scope") or "") == "Device":  # A mouse has a battery of its own.
            continue
        if read(supply / "type") == "Battery":
            if number(supply / "present") == 0:
                continue
            states.append(read(supply / "status") or "Unknown")
            level = number(supply / "capacity")
            levels += [level] if level is not None and level <= 100 else []
        elif (connected := number(supply / "online")) is not None:  # Mains, USB, wireless.
            online.append(connected)
    known = any(state in STATES for state in states)
    return Power(
        on_battery=_on_battery(states, online),
        charging="Charging" in states if known else None,
        battery_percent=round(sum(levels) / len(levels)) if levels else None,
    )


def _on_battery(states: list[str], online: list[int]) -> bool | None:
    # A weak supply is connected and the battery is discharged too: then it is the battery's power.
    if "Discharging" in states:
        return True
    if any(online) or any(state in ("Charging", "Full", "Not charging") for state in states):
        return False
    return True if states and online else None


def psutil_power() -> Power:
    """What psutil reports on systems other than Linux."""
    import psutil

    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is None:
        return Power()
    plugged = battery.power_plugged
    return Power(
        on_battery=None if plugged is None else not plugged,
        battery_percent=round(battery.percent),
    )
