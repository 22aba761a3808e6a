"""Activity of the machine between two moments, read by the timed process around each block.

A pair takes some 0.1 ms on Linux and is never taken while samples are. What cannot be read, or has
vanished in between, is ``None``.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from latbench.host import cgroup, linux, sensors
from latbench.schema.trace import Readings

CPU_LINE = re.compile(rb"^cpu +(\d+) (\d+) (\d+) \d+ \d+ (\d+) (\d+) (\d+)", re.M)
"""/proc/stat: user, nice, system, (idle, iowait,) irq, softirq, steal."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Counters at one moment."""

    at_ns: int
    cpu_ns: int
    wait_ns: int | None
    involuntary_switches: int | None
    busy_ns: int | None
    steal_ns: int | None
    throttled_ns: int | None
    throttling: sensors.Throttling


def snapshot(root: Path = Path("/")) -> Snapshot:
    """The counters now. ``root`` is prepended to /proc and /sys."""
    on_linux = sys.platform == "linux"
    busy, steal = _busy(root) if on_linux else (_busy_elsewhere(), None)
    return Snapshot(
        at_ns=time.perf_counter_ns(),
        cpu_ns=time.process_time_ns(),
        wait_ns=_wait(root) if on_linux else None,
        involuntary_switches=_switches(),
        busy_ns=busy,
        steal_ns=steal,
        throttled_ns=cgroup.throttled_ns(root) if on_linux else None,
        throttling=sensors.throttling(_sensors(root)) if on_linux else sensors.Throttling(),
    )


def between(before: Snapshot, after: Snapshot, root: Path = Path("/")) -> Readings:
    """The changes between two snapshots, and the current frequency and temperature of the CPUs."""
    on_linux = sys.platform == "linux"
    cpu = after.cpu_ns - before.cpu_ns
    busy = _difference(before.busy_ns, after.busy_ns)
    clocks = sensors.clocks_khz(_sensors(root)) if on_linux else ()
    known = tuple(khz for khz in clocks if khz is not None)
    told = before.throttling, after.throttling
    return Readings(
        wall_ns=after.at_ns - before.at_ns,
        cpu_ns=cpu,
        wait_ns=_difference(before.wait_ns, after.wait_ns),
        involuntary_switches=_difference(before.involuntary_switches, after.involuntary_switches),
        # Ticks are coarse: what the worker is known to have used may exceed what was counted.
        others_ns=None if busy is None else max(0, busy - cpu),
        steal_ns=_difference(before.steal_ns, after.steal_ns),
        throttled_ns=_difference(before.throttled_ns, after.throttled_ns),
        frequency_khz=max(known, default=None),
        temperature_mc=sensors.temperature_mc(_sensors(root)) if on_linux else None,
        cluster_khz=known if len(known) == len(clocks) > 1 else None,
        throttle_events=_difference(told[0].events, told[1].events),
        throttle_ms=_difference(told[0].duration_ms, told[1].duration_ms),
        throttle_flags=_flags_between(told[0].flags, told[1].flags),
        cooling_state=_highest(told[0].cooling, told[1].cooling),
    )


@lru_cache(maxsize=1)
def _sensors(root: Path) -> sensors.Sensors:
    return sensors.find_sensors(root)


def _difference(before: int | None, after: int | None) -> int | None:
    """The growth of a counter. One that shrank belongs to ended threads or to another boot."""
    if before is None or after is None or after < before:
        return None
    return after - before


def _flags_between(before: int | None, after: int | None) -> int | None:
    """Flags that held at either moment, or that the system remembers from in between."""
    if before is None or after is None:
        return None
    remembered = (after & ~before) >> sensors.PAST_FLAGS_SHIFT
    return (before | after | remembered) & sensors.NOW_FLAGS


def _highest(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(before, after)


def _busy(root: Path) -> tuple[int | None, int | None]:
    """CPU time of all processes, and time stolen, over all CPUs since boot."""
    try:
        # The first line is all that is wanted; machines with many CPUs have long files.
        with (root / "proc/stat").open("rb") as file:
            found = CPU_LINE.search(file.readline())
    except OSError:
        return None, None
    if found is None:
        return None, None
    *busy, steal = (int(ticks) * linux.NS_PER_TICK for ticks in found.groups())
    return sum(busy), steal


def _busy_elsewhere() -> int | None:
    import psutil

    times = psutil.cpu_times()
    return round((times.user + times.system + getattr(times, "nice", 0.0)) * 1e9)


def _wait(root: Path) -> int | None:
    """Run-queue wait of all threads of this process (``/proc/self/task/*/schedstat``)."""
    total, found = 0, False
    with suppress(OSError):
        for thread in os.listdir(root / "proc/self/task"):  # noqa: PTH208 - names are enough
            fields = (linux.read(root / "proc/self/task" / thread / "schedstat") or "").split()
            if len(fields) == 3 and fields[1].isdecimal():
                total, found = total + int(fields[1]), True
    return total if found else None


def _switches() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
