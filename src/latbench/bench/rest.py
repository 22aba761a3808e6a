"""The wait before the timing: let the device rest, then wait until it is cool."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from latbench.devices.measured import MeasuredDevice
from latbench.errors import StageError, UsageError
from latbench.events import Events
from latbench.schema.environment import Conditions, Rest
from latbench.schema.thermal import SCALES, STATUSES, ThermalStatus, is_at_most

LONGEST_WAIT_S = 600.0
"""How long to wait for the temperature, after the rest. What has not cooled down by then is in a
room that is too warm, or is busy."""
ASK_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Cooldown:
    """What to wait for before the timing."""

    idle_s: float = 0.0
    """Least duration."""
    max_temperature_c: float | None = None
    """Wait further until the hottest CPU sensor reports at most this."""
    max_thermal_status: ThermalStatus | None = None
    """Wait further until the operating system reports at most this."""

    @property
    def values(self) -> list[float | str | None]:
        """What was asked for; without the status where none was, as sweeps have stored it."""
        status = [] if self.max_thermal_status is None else [self.max_thermal_status]
        return [self.idle_s, self.max_temperature_c, *status]

    def meets(self, now: Conditions) -> bool | None:
        """Whether the device is cool enough; ``None`` if it does not say."""
        found: list[bool | None] = []
        if self.max_temperature_c is not None:
            mc = now.temperature_mc
            found.append(None if mc is None else mc <= self.max_temperature_c * 1000)
        if self.max_thermal_status is not None:
            found.append(is_at_most(now.thermal_status, self.max_thermal_status))
        return None if None in found else all(found)


def cooldown(
    idle_s: float, max_temperature_c: float | None, max_thermal_status: str | None = None
) -> Cooldown | None:
    """The checked wait; ``None`` if none is asked for. Raises :class:`UsageError`."""
    if not math.isfinite(idle_s) or idle_s < 0:
        raise UsageError(f"the cooldown must be a number of seconds from 0, not {idle_s:g}")
    if max_temperature_c is not None and not 0 < max_temperature_c < 200:
        raise UsageError(
            f"the maximum temperature must be above 0 and below 200 °C, not {max_temperature_c:g}"
        )
    status = next((each for each in STATUSES if each == max_thermal_status), None)
    if status is None and max_thermal_status is not None:
        raise UsageError(
            f"{max_thermal_status!r} is not a thermal status",
            hint="one of: " + "; ".join(", ".join(scale) for scale in SCALES),
        )
    if idle_s == 0 and max_temperature_c is None and status is None:
        return None
    return Cooldown(idle_s=idle_s, max_temperature_c=max_temperature_c, max_thermal_status=status)


def rest(device: MeasuredDevice, asked: Cooldown, events: Events) -> Rest:
    """Wait as ``asked``, at most :data:`LONGEST_WAIT_S` for the device to be cool.

    Nothing else runs on the device for latbench meanwhile. A device that does not report what is
    asked for is not waited for: see :func:`check_rest`. Raises :class:`StageError` if it no longer
    answers.
    """
    begun = time.monotonic()
    now = start = device.conditions()
    while asked.meets(start) is not None:
        waited = time.monotonic() - begun
        left = asked.idle_s - waited
        if left <= 0 and (asked.meets(now) or waited >= asked.idle_s + LONGEST_WAIT_S):
            break
        events.waiting(_progress(left, now, asked))
        time.sleep(min(ASK_EVERY_S, left) if left > 0 else ASK_EVERY_S)
        now = device.conditions()
    limit = asked.max_temperature_c
    has_status = asked.max_thermal_status is not None
    return Rest(
        idle_ns=round(asked.idle_s * 1e9),
        max_temperature_mc=None if limit is None else round(limit * 1000),
        waited_ns=round((time.monotonic() - begun) * 1e9),
        start_mc=start.temperature_mc,
        end_mc=now.temperature_mc,
        max_thermal_status=asked.max_thermal_status,
        start_thermal_status=start.thermal_status if has_status else None,
        end_thermal_status=now.thermal_status if has_status else None,
    )


def check_rest(done: Rest) -> None:
    """Raise :class:`StageError` if the device is not as cool as was asked for."""
    limit, end = done.max_temperature_mc, done.end_mc
    if limit is not None and end is None:
        raise StageError(
            "probe",
            "the device does not report the temperature of its CPU",
            hint="leave out --max-temperature: --cooldown alone needs no sensor, and phones have "
            "--max-thermal-status",
            kind="unavailable",
        )
    status, most = done.end_thermal_status, done.max_thermal_status
    cool = most is None or is_at_most(status, most)
    if cool is None:
        told = "no thermal status" if status is None else f"the thermal status {status}"
        raise StageError(
            "probe",
            f"the device reports {told}, which cannot be compared with {most}",
            hint="statuses of Android are " + ", ".join(SCALES[0]) + "; of Apple "
            f"{', '.join(SCALES[1])}; other systems have none, and a faked one counts as none",
            kind="unavailable",
        )
    if limit is not None and end is not None and end > limit:
        raise StageError(
            "probe",
            f"the CPU is at {end / 1000:.1f} °C, above {limit / 1000:g} °C, after "
            f"{done.waited_ns / 1e9:.0f} s of rest",
            hint="better cooling, a higher --max-temperature, or end what else runs there",
            kind="timeout",
        )
    if not cool:
        raise StageError(
            "probe",
            f"the thermal status is {status}, above {most}, after "
            f"{done.waited_ns / 1e9:.0f} s of rest",
            hint="better cooling (out of its case, no charging), or a higher --max-thermal-status",
            kind="timeout",
        )


def _progress(left_s: float, now: Conditions, asked: Cooldown) -> str:
    parts = [f"resting, {math.ceil(left_s)} s left"] if left_s > 0 else []
    limit, mc = asked.max_temperature_c, now.temperature_mc
    if limit is not None and mc is not None:
        parts.append(f"the CPU is at {mc / 1000:.1f} °C, waiting for {limit:g} °C")
    if asked.max_thermal_status is not None:
        wanted = asked.max_thermal_status
        parts.append(f"the thermal status is {now.thermal_status}, waiting for {wanted}")
    return "; ".join(parts) or "resting"
