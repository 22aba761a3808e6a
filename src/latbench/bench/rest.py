"""The wait before the timing: let the device rest, then wait until it is cool."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from latbench.devices.measured import MeasuredDevice
from latbench.errors import StageError, UsageError
from latbench.events import Events
from latbench.schema.environment import Rest

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


def cooldown(idle_s: float, max_temperature_c: float | None) -> Cooldown | None:
    """The checked wait; ``None`` if none is asked for. Raises :class:`UsageError`."""
    if not math.isfinite(idle_s) or idle_s < 0:
        raise UsageError(f"the cooldown must be a number of seconds from 0, not {idle_s:g}")
    if max_temperature_c is not None and not 0 < max_temperature_c < 200:
        raise UsageError(
            f"the maximum temperature must be above 0 and below 200 °C, not {max_temperature_c:g}"
        )
    if idle_s == 0 and max_temperature_c is None:
        return None
    return Cooldown(idle_s=idle_s, max_temperature_c=max_temperature_c)


def rest(device: MeasuredDevice, asked: Cooldown, events: Events) -> Rest:
    """Wait as ``asked``, at most :data:`LONGEST_WAIT_S` for the temperature.

    Nothing else runs on the device for latbench meanwhile. A device that reports no temperature is
    not waited for: see :func:`check_rest`. Raises :class:`StageError` if it no longer answers.
    """
    limit = asked.max_temperature_c
    begun = time.monotonic()
    now = start = device.conditions().temperature_mc
    while start is not None or limit is None:
        waited = time.monotonic() - begun
        left = asked.idle_s - waited
        cool = limit is None or (now is not None and now <= limit * 1000)
        if left <= 0 and (cool or waited >= asked.idle_s + LONGEST_WAIT_S):
            break
        events.waiting(_progress(left, now, limit))
        time.sleep(min(ASK_EVERY_S, left) if left > 0 else ASK_EVERY_S)
        now = device.conditions().temperature_mc
    return Rest(
        idle_ns=round(asked.idle_s * 1e9),
        max_temperature_mc=None if limit is None else round(limit * 1000),
        waited_ns=round((time.monotonic() - begun) * 1e9),
        start_mc=start,
        end_mc=now,
    )


def check_rest(done: Rest) -> None:
    """Raise :class:`StageError` if the temperature was not reached."""
    limit, end = done.max_temperature_mc, done.end_mc
    if limit is None or (end is not None and end <= limit):
        return
    if end is None:
        raise StageError(
            "probe",
            "the device does not report the temperature of its CPU",
            hint="leave out --max-temperature; --cooldown alone needs no sensor",
            kind="unavailable",
        )
    raise StageError(
        "probe",
        f"the CPU is at {end / 1000:.1f} °C, above {limit / 1000:g} °C, after "
        f"{done.waited_ns / 1e9:.0f} s of rest",
        hint="better cooling, a higher --max-temperature, or end what else runs there",
        kind="timeout",
    )


def _progress(left_s: float, now_mc: int | None, limit_c: float | None) -> str:
    parts = [f"resting, {math.ceil(left_s)} s left"] if left_s > 0 else []
    if limit_c is not None and now_mc is not None:
        parts.append(f"the CPU is at {now_mc / 1000:.1f} °C, waiting for {limit_c:g} °C")
    return "; ".join(parts) or "resting"
